"""Tiny plugin distributions, really installed: a package and its dist-info in a folder on PYTHONPATH."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

TOY_RECIPE = """
from dataclasses import dataclass, field
import time
import numpy as np
import torch
from tmnre import Analysis, Prior, Recipe, Simulator, Stage, Training, Uniform

@dataclass(frozen=True)
class Noise:
    '''Noise of the toy.'''
    sd: float = 0.1
    '''standard deviation'''

@dataclass(frozen=True)
class Settings:
    '''Settings of toy/line.'''
    noise: Noise = field(default_factory=Noise)
    '''noise'''
    simulations: tuple[int, ...] = (600, 800)
    '''simulations per round'''
    observed: float = 0.2
    '''the data, five times'''
    pause_s: float = 0.0
    '''s; what a chunk of simulations takes'''
    workers: int | None = 1
    '''simulator processes'''
    seed: int = 0
    '''seed'''

class Line(Simulator):
    prior = Prior(a=Uniform(-1, 1), b=Uniform(-1, 1))
    def __init__(self, sd, pause_s=0.0):
        self.sd, self.pause_s = sd, pause_s
    def simulate(self, theta, rng):
        time.sleep(self.pause_s)
        return {"y": theta[:, :1] + theta[:, 1:] * np.linspace(-1, 1, 5)}
    def observe(self, stored, theta, generator):
        return {"y": stored["y"] + self.sd * torch.randn(stored["y"].shape, generator=generator)}

def build(settings):
    if settings.noise.sd <= 0:
        raise ValueError(f"noise.sd must be positive, got {settings.noise.sd}")
    return Analysis(
        Line(settings.noise.sd, settings.pause_s), {"y": np.full(5, settings.observed, "f4")}, ["a", "b", ("a", "b")],
        stages=[Stage(n, 60) for n in settings.simulations],
        training=Training(batch_size=128, threads=1), seed=settings.seed,
        workers=settings.workers, shard_size=100, truth={"a": 0.2, "b": 0.0},
    )

PAPER = "@misc{toy, author={Doe, Jane}, title={Toy}, year={2020}}"
recipe = Recipe(Settings, build, (PAPER,), {"smoke": {"simulations": (200, 200)}}, "a toy line")
"""
PLUGIN = """
from tmnre.plugin import Plugin, RecipeEntry
plugin = Plugin({name!r}, {api}, "a toy", {{"line": RecipeEntry("{package}.recipe:recipe", "a toy line")}})
"""


class Site:
    """A folder of installed distributions, and the command line run with it."""

    def __init__(self, folder: Path, command_line) -> None:
        self.folder, self.command_line = folder, command_line

    def install(
        self, distribution: str, plugin: str, *, module: str | None = None, api: int = 1, recipe: str = TOY_RECIPE
    ):
        """One distribution with an entry point `plugin`; `module` replaces its plugin.py."""
        package = distribution.replace("-", "_")
        (self.folder / package).mkdir()
        (self.folder / package / "__init__.py").write_text("")
        source = PLUGIN.format(name=plugin, api=api, package=package) if module is None else textwrap.dedent(module)
        (self.folder / package / "plugin.py").write_text(source)
        (self.folder / package / "recipe.py").write_text(recipe)
        info = self.folder / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[tmnre.plugins]\n{plugin} = {package}.plugin:plugin\n")

    @property
    def environment(self) -> dict[str, str]:
        """Environment of a subprocess that sees these distributions."""
        path = os.pathsep.join([str(self.folder), *filter(None, [os.environ.get("PYTHONPATH")])])
        return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}

    def python(self, code: str) -> subprocess.CompletedProcess:
        """Run code."""
        return subprocess.run([sys.executable, "-c", code], env=self.environment, capture_output=True, text=True)

    def start(self, *arguments: Any, out: Path, err: Path | None = None):
        """Start the command line."""
        return self.command_line.start(*arguments, environment=self.environment, out=out, err=err)

    def tmnre(self, *arguments: Any) -> subprocess.CompletedProcess:
        """Run the command line."""
        said = {name: self.folder / name for name in ("out", "err")}
        code = self.start(*arguments, **said).wait()
        return subprocess.CompletedProcess(arguments, code, *(path.read_text() for path in said.values()))


@pytest.fixture
def site(tmp_path, command_line):
    """No plugins beside those of the environment."""
    folder = tmp_path / "site"
    folder.mkdir()
    return Site(folder, command_line)


@pytest.fixture
def toy(site):
    """The toy plugin, installed."""
    site.install("tmnre-toy", "toy")
    return site


def error_line(done: subprocess.CompletedProcess) -> str:
    """The one line on standard error of a command that was refused."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == 2 and len(lines) == 1 and lines[0].startswith("tmnre: error: "), done
    return lines[0]


@pytest.fixture(name="error_line")
def error_line_fixture():
    """The function above, for tests."""
    return error_line
