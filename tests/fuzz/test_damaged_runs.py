"""Damaged or malicious run directories: one line or success, and not a file touched outside of them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from tqdm import tqdm

from tmnre import Analysis, Prior, Recipe, Simulator, Stage, Training, Uniform, run
from tmnre import plugin as plugins
from tmnre.cli import main
from tmnre.files import checksum, mismatch, read_json, write_json
from tmnre.plugin import Plugin, RecipeEntry
from tmnre.result import load_marginals

pytest.importorskip("hypothesis", reason="fuzz tests need hypothesis: pip install hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("TMNRE_FUZZ", 60))
ALL = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
LONG_S = 60.0


class Line(Simulator):
    """A line through noise."""

    prior = Prior(a=Uniform(-1, 1), b=Uniform(-1, 1))

    def simulate(self, theta, rng):
        return {"y": theta[:, :1] + theta[:, 1:] * np.linspace(-1, 1, 5)}

    def observe(self, stored, theta, generator):
        return {"y": stored["y"] + 0.1 * torch.randn(stored["y"].shape, generator=generator)}


class Empty:
    """Stands for the module of a plugin in this process."""


def build(_: Any) -> Analysis:
    return Analysis(
        Line(),
        {"y": np.full(5, 0.2, "f4")},
        ["a", "b"],
        stages=[Stage(200, 6), Stage(200, 6)],
        training=Training(batch_size=64, threads=1),
        shard_size=100,
    )


@dataclass(frozen=True)
class Settings:
    """None."""

    seed: int = 0
    """seed"""


RECIPE = Recipe(Settings, build, ("@misc{a, author={A}, title={T}, year=2020}",))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run in a folder of its own, beside a file that is nobody's business."""
    out = tmp_path_factory.mktemp("fuzz") / "run"
    how = {"progress": partial(tqdm, disable=True), "say": lambda _: None}
    run.execute(build(None), out, config="seed: 0\n", recipe="fuzz/line", command=["tmnre"], **how)
    return out


@pytest.fixture(autouse=True, scope="module")
def known():
    """The recipe, for this process."""
    with pytest.MonkeyPatch.context() as patch:
        entry = RecipeEntry(f"{__name__}:RECIPE", "a line")
        real = plugins.discover()
        patch.setitem(sys.modules, __name__, sys.modules.get(__name__) or sys.modules[Settings.__module__])
        patch.setattr(
            plugins, "discover", lambda: ({**real[0], "fuzz": Plugin("fuzz", 1, "", {"line": entry})}, real[1])
        )
        yield


junk = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8)
    | st.sampled_from(["../../outside", "/etc/passwd", "\x00"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
CONTENTS = [b"", b"null", b"[]", b"{}", b"0", b'"x"', b"{" * 9999, b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"\xff\xfe\x00"]


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return False
    return True


def damage(folder: Path, data: Any) -> None:
    """Damage one file of a run in one of many ways."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".html")
    path = data.draw(st.sampled_from(files), label="file")
    kind = data.draw(
        st.sampled_from(["json"] * (3 if path.suffix == ".json" else 0) + ["cut", "flip", "put", "gone", "dir"])
    )
    content = path.read_bytes()
    if kind == "json" and not _is_json(content):  # damaged before
        kind = "gone"
    if kind == "json":
        place = root = {"": json.loads(content)}
        key: Any = ""
        for _ in range(data.draw(st.integers(0, 5))):
            inner = place[key]
            keys = list(inner) if isinstance(inner, dict) else [*range(len(inner))] if isinstance(inner, list) else []
            if not keys:
                break
            place, key = inner, data.draw(st.sampled_from(keys))
        if data.draw(st.booleans()):
            place[key] = data.draw(junk)
        else:
            del place[key]
        path.write_text(json.dumps(root.get("")))
    elif kind == "cut":
        path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    elif kind == "flip":
        at = data.draw(st.integers(0, max(0, len(content) - 1)))
        path.write_bytes(content[:at] + data.draw(st.binary(min_size=1, max_size=4)) + content[at + 1 :])
    elif kind == "put":
        path.write_bytes(data.draw(st.sampled_from(CONTENTS)))
    else:
        path.unlink()
        if kind == "dir":
            path.mkdir()


def told(*words: str) -> tuple[int, str]:
    """Exit code and standard error of a command."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main([*words])
    return code, said.getvalue()


def survives(whole: Path, data: Any, *command: str, damages: int) -> None:
    """Run a command on a damaged copy: an exit code, at most one line, nothing changed beside the run."""
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top) / "run"
        shutil.copytree(whole, folder)
        (Path(top) / "outside").write_text("mine")
        for _ in range(damages):
            damage(folder, data)
        started = time.monotonic()
        code, said = told(*command, str(folder))
        assert code in (0, 1, 2), said
        errors = [line for line in said.splitlines() if line.startswith("tmnre: error")]
        assert len(errors) == (code != 0) and "Traceback" not in said
        assert time.monotonic() - started < LONG_S
        assert sorted(p.name for p in Path(top).iterdir()) == ["outside", "run"]
        assert (Path(top) / "outside").read_text() == "mine"


@settings(max_examples=EXAMPLES, **ALL)
@given(st.data())
def test_report_of_a_damaged_run(whole, data):
    survives(whole, data, "report", damages=data.draw(st.integers(1, 3)))


@settings(max_examples=EXAMPLES, **ALL)
@given(st.data())
def test_citations_of_a_damaged_run(whole, data):
    survives(whole, data, "cite", damages=data.draw(st.integers(1, 3)))


@settings(max_examples=max(4, EXAMPLES // 20), **ALL)
@given(st.data())
def test_resuming_a_damaged_run(whole, data):
    survives(whole, data, "resume", "--quiet", damages=data.draw(st.integers(1, 2)))


def test_links_that_lead_out_are_not_followed(whole, tmp_path):
    """Mending a store removes what is no shard: of a linked folder that would be everything in it."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years")
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "store")
    (folder / "store").symlink_to(mine)
    code, said = told("resume", str(folder))
    assert code == 2 and "leads out of the run" in said
    assert (mine / "thesis.txt").read_text() == "years"


def test_checksums_are_of_files_in_the_folder(tmp_path):
    outside, folder = tmp_path / "secret", tmp_path / "run"
    outside.write_text("x")
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    assert mismatch(folder, {"../secret": checksum(outside)}) == "../secret"
    assert mismatch(folder, {"pipe": 0}) == "pipe"  # and does not wait for it


@dataclass
class Evil:
    """Touches a file when it is unpickled."""

    proof: Path

    def __reduce__(self):
        return os.system, (f"touch {self.proof}",)


def test_a_checkpoint_runs_no_code(whole, tmp_path):
    folder, proof = tmp_path / "run", tmp_path / "proof"
    shutil.copytree(whole, folder)

    last = folder / "rounds" / "01"
    torch.save({"estimator": Evil(proof)}, last / "checkpoint.pt")
    write_json(last / "DONE", {**read_json(last / "DONE"), "checkpoint.pt": checksum(last / "checkpoint.pt")})
    code, said = told("resume", str(folder))
    assert code in (1, 2) and not proof.exists() and said.count("tmnre: error") == 1


def test_a_shard_runs_no_code(whole, tmp_path):
    folder, proof = tmp_path / "run", tmp_path / "proof"
    shutil.copytree(whole, folder)

    shard = folder / "store" / "00_000000"
    np.save(shard / "u.npy", np.array([Evil(proof)], dtype=object), allow_pickle=True)
    manifest = read_json(shard / "manifest.json")
    manifest["crc32"]["u.npy"] = checksum(shard / "u.npy")
    write_json(shard / "manifest.json", manifest)
    code, said = told("resume", str(folder))
    assert code in (1, 2) and not proof.exists() and said.count("tmnre: error") == 1


def test_sizes_are_checked_before_anything_is_read(tmp_path):
    """A file of some kB that claims 80 GB: reading it would take all memory."""
    path = tmp_path / "posterior.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("a")
        group.attrs["names"] = ["a"]
        for name, shape in (("samples", (10**10, 1)), ("log_ratios", (10**10,)), ("log_weights", (10**10,))):
            group.create_dataset(name, shape, "f8", chunks=True, fillvalue=0.0)
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match="which no run writes"):
        load_marginals(path)


def test_hostile_yaml_runs_no_code(tmp_path):
    proof = tmp_path / "proof"
    config = tmp_path / "c.yaml"
    config.write_text(f"seed: !!python/object/apply:os.system ['touch {proof}']\n")
    code, said = told("run", "fuzz/line", "--out", str(tmp_path / "out"), "--config", str(config))
    assert code == 2 and "is not YAML" in said and not proof.exists()


def test_nothing_in_the_project_unpickles():
    """Every read of arrays, weights and YAML in core and plugins takes the safe way."""
    root = Path(__file__).parents[2]
    files = subprocess.run(["git", "ls-files", "*.py"], cwd=root, capture_output=True, text=True).stdout.split()
    sources = [root / name for name in files] or sorted((root / "core").rglob("*.py"))
    for path in sources:
        if "tests" in path.parts:
            continue
        text = path.read_text()
        assert (
            "allow_pickle=True" not in text
            and "weights_only=False" not in text
            and "yaml.load(" not in text.replace('yaml.load(path.read_text(encoding="utf-8"), _Loader)', "")
        ), path
        assert "import pickle" not in text or "def find_class" in text, path  # one that knows arrays only
        assert "yaml.unsafe" not in text, path
        assert text.count("torch.load(") == text.count("weights_only=True"), path
