"""A run that is finished, of a toy whose data fill every part of the page, and a browser to look at it with."""

from __future__ import annotations

import shutil
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tqdm import tqdm

from tmnre import Analysis, Prior, Procedure, Result, Simulator, Stage, Training, Uniform, report, run

ABOUT = {
    "summary": "a line through noise <script>alert(1)</script>",
    "papers": ["@misc{toy, author = {Doe, Jane and others}, title = {A {Toy}}, year = {2020}, eprint = {2001.00001}}"],
    "changed": {"noise.sd": 0.2},
}
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
)


class Line(Simulator):
    """Intercept and slope, a derived sum, noise 0.1."""

    prior = Prior(a=Uniform(-1, 1), b=Uniform(-1, 1))
    derived = ("total",)

    def simulate(self, theta, rng):
        return {"y": theta[:, :1] + theta[:, 1:] * np.linspace(-1, 1, 5)}

    def observe(self, stored, theta, generator):
        return {"y": stored["y"] + 0.1 * torch.randn(stored["y"].shape, generator=generator)}

    def derive(self, theta, stored=None):
        return {"total": theta.sum(1)}


def line() -> Analysis:
    return Analysis(
        Line(),
        {"y": np.full(5, 0.2, "f4")},
        ["a", "b", "total", ("a", "b")],
        stages=[Stage(600, 60), Stage(800, 60)],
        training=Training(batch_size=128, threads=1),
        shard_size=100,
        truth={"a": 0.2, "b": 0.0},
        labels={"a": r"$\alpha_{\rm y}$ <b>"},
    )


class TwoLines(Procedure):
    """An analysis in a folder of its own, and results and a figure that are not the core's."""

    def run(self, place):
        found = place.analyse(line(), "first")
        extra = {
            "detection": {"log_evidence": 3.25, "found": True},
            "sources": [{"flux": 1.5, "where": [1, 2]}, {"flux": 0.5, "where": [3, 4]}],
            "tests": [{"name": "null test", "passed": False, "p_value": 1e-5}],
            "note": "a & b",
        }
        return Result(found.marginals, found.rounds, found.truth, extra=extra, curves=found.curves)

    def figures(self, result, folder):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(3, 2))
        figure.add_subplot().plot([0, 1], [1, 0])
        figure.savefig(folder / "own_picture.png")


QUIET = {"progress": partial(tqdm, disable=True), "say": lambda _: None}


@pytest.fixture(scope="session")
def moments() -> list[tuple[int, bool]]:
    """(rounds done, live) whenever the page of the finished run was written."""
    return []


@pytest.fixture(scope="session")
def finished(tmp_path_factory, moments) -> Path:
    out = tmp_path_factory.mktemp("report") / "line"
    real = report.write

    def noted(folder, *, live=False):
        moments.append((sum(1 for _ in folder.glob("rounds/*/DONE")), live))
        return real(folder, live=live)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "write", noted)
        how = {"config": "noise:\n  sd: 0.2\n", "command": ["tmnre"], "about": ABOUT, **QUIET}
        run.execute(line(), out, recipe="toy/line", **how)
    return out


@pytest.fixture(scope="session")
def procedure(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("report") / "two"
    run.execute(TwoLines(), out, config="", recipe="toy/two", command=["tmnre"], about=ABOUT, **QUIET)
    return out


@pytest.fixture(scope="session")
def browser():
    """Chromium's DOM of a page after its scripts have run, and what it says of errors on its console."""
    binary = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    if binary is None:
        pytest.skip("no chromium on the PATH: apt-get install chromium")

    def dom(page: Path, folder: Path, *options: str) -> tuple[str, list[str]]:
        command = [binary, *FLAGS, f"--user-data-dir={folder}", "--enable-logging=stderr", *options]
        done = subprocess.run(
            [*command, "--virtual-time-budget=4000", "--dump-dom", page.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return dom
