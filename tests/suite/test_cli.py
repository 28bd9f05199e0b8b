"""The command line as a user runs it, on a tiny real plugin; stops and resumes included."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time

import h5py
import pytest

from tmnre import cli
from tmnre.cli import main

pytestmark = pytest.mark.long


def posterior(folder):
    """Everything posterior.h5 holds."""
    with h5py.File(folder / "posterior.h5") as file:
        return {f"{key}/{name}": file[key][name][:].tobytes() for key in file for name in file[key]}


def test_run_leaves_what_it_promises_and_repeats(toy, tmp_path):
    out = tmp_path / "run"
    done = toy.tmnre("run", "toy/line", "--out", out, "--noise.sd", "0.2")
    assert done.returncode == 0, done.stderr
    assert "parameter" in done.stdout and "truth" in done.stdout
    assert "sd: 0.2" in (out / "config.yaml").read_text()
    meta = json.loads((out / "meta.json").read_text())
    assert meta["recipe"] == "toy/line" and meta["versions"]["tmnre"] and len(meta["stages"]) == 2
    assert [(out / "rounds" / n / "DONE").exists() for n in ("00", "01")] == [True, True]
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["parameters"]) == {"a", "b"} and summary["coverage"]["a"]["p_uniform"] >= 0
    figures = {path.name for path in (out / "figures").iterdir()}
    assert figures == {"data.png", "triangle.png", "rounds.png", "percentiles.png", "training.png"}
    page = (out / "report.html").read_text()
    assert "toy/line" in page and meta["versions"]["tmnre-toy"] == "1.0" and meta["changed"] == {"noise.sd": 0.2}
    again = tmp_path / "again"
    assert toy.tmnre("run", "toy/line", "--out", again, "--config", out / "config.yaml").returncode == 0
    assert posterior(again) == posterior(out)
    assert toy.tmnre("resume", out).returncode == 0
    assert posterior(again) == posterior(out)


def test_killed_and_interrupted_runs_go_on_to_the_same_end(toy, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    settings = ("--workers", "2", "--pause_s", "0.3")
    command = ["run", "toy/line", "--out", out, *settings]

    def shards():
        return len(list((out / "store").glob("00_*")))

    for moment, how in itertools.product(("simulating", "training"), (signal.SIGKILL, signal.SIGINT)):
        log, before = tmp_path / f"{moment}-{how.name}", shards()
        process = toy.start(*command, out=log)
        while not (shards() > before if moment == "simulating" else "step" in log.read_text()):
            assert process.poll() is None, log.read_text()
            time.sleep(0.01)
        process.signal(how)
        ended, said = process.wait(), log.read_text()
        if how == signal.SIGINT:
            assert ended == 130 and "Traceback" not in said, said
            assert said.endswith(f"tmnre: interrupted; go on with: tmnre resume {out}\n")
        assert not (out / "posterior.h5").exists()
        command = ["resume", out]
    assert toy.tmnre("resume", out).returncode == 0
    assert toy.tmnre("run", "toy/line", "--out", whole, *settings).returncode == 0
    assert posterior(out) == posterior(whole)


def test_workers_of_a_killed_run_end_with_it(toy, tmp_path):
    """They hold the pipe that is read here; it closes when the last of them is gone."""
    store = tmp_path / "out" / "store"
    command = [sys.executable, "-m", "tmnre.cli", "run", "toy/line", "--out", str(store.parent)]
    process = subprocess.Popen(
        [*command, "--workers", "2", "--pause_s", "0.3"],
        env=toy.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        while not list(store.glob("00_*")) and process.poll() is None:
            time.sleep(0.01)
        process.kill()
        process.communicate(timeout=30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert list(store.glob("00_*")) and not (store.parent / "posterior.h5").exists()


def test_refused_input_leaves_nothing(toy, tmp_path, error_line):
    out = tmp_path / "out"
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("")
    cases = {
        ("--out", out, "--sed", "1"): "did you mean 'seed'?",
        ("--out", out, "--seed", "x"): "setting seed: expected int, got 'x'",
        ("--out", out, "--noise.sd", "-1"): "noise.sd must be positive",
        ("--out", out, "--simulations", "[]"): "at least one stage",
        ("--out", out, "--observed", ".nan"): "NaN",
        ("--out", out, "--config", tmp_path / "none.yaml"): "cannot read configuration",
        ("--out", out, "--preset", "smok"): "did you mean 'smoke'?",
        ("--out", taken): "is in use",
        ("--out", tmp_path / "file" / "below"): "cannot write to",
        (): "needs --out",
    }
    for arguments, message in cases.items():
        assert message in error_line(toy.tmnre("run", "toy/line", *arguments))
    assert not out.exists() and [p.name for p in taken.iterdir()] == ["notes.txt"]
    assert "is not a run directory" in error_line(toy.tmnre("resume", taken))


def test_small_commands(toy):
    assert "@inproceedings{Miller2021TMNRE" in toy.tmnre("cite", "toy/line").stdout
    assert "@misc{toy" in toy.tmnre("cite", "toy/line").stdout
    assert "simulations:" in toy.tmnre("show", "toy/line").stdout
    assert "standard deviation" in toy.tmnre("run", "toy/line", "--help").stdout
    assert toy.tmnre("--version").stdout.startswith("tmnre ")
    assert toy.tmnre().returncode == 0
    assert toy.tmnre("nonsense").returncode == 2


@pytest.mark.parametrize(
    ("given", "found"),
    [({}, cli.SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_waiting_threads_sleep_unless_told_otherwise(given, found, monkeypatch, capsys):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert main(["plugins"]) == 0
    assert os.environ.get("GOMP_SPINCOUNT") == found


def test_threads_are_told_before_pytorch_is_there():
    """It reads the environment once."""
    code = "import sys, tmnre.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
