"""gw/demo killed outright inside and between its rounds: `tmnre resume` ends with the same bits."""

import os
import signal
import subprocess
import sys
import time

import h5py

SMALL = ("--waveforms", "[400,600]", "--steps", "[40,40]", "--training.batch_size", "128", "--workers", "1")


def _start(*command, log):
    with log.open("w") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "tmnre.cli", *map(str, command)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _posterior(folder):
    with h5py.File(folder / "posterior.h5") as file:
        return {f"{key}/{name}": file[key][name][:].tobytes() for key in file for name in file[key]}


def test_killed_three_times_and_resumed_is_bit_for_bit_the_same(tmp_path):
    whole, killed, log = tmp_path / "whole", tmp_path / "killed", tmp_path / "log"
    moments = {
        "between rounds": lambda: (killed / "rounds/00/DONE").exists(),
        "simulating round 1": lambda: list(killed.glob("store/01_*")),
        "training round 1": lambda: "training" in log.read_text().partition("round 1:")[2],
    }
    command = ["run", "gw/demo", *SMALL, "--out", killed]
    for moment, reached in moments.items():
        process = _start(*command, log=log)
        while not reached():
            assert process.poll() is None, f"{moment} never came: {log.read_text()}"
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (killed / "posterior.h5").exists()
        command = ["resume", killed]
    assert _start(*command, log=log).wait() == 0, log.read_text()
    assert "round 0: finished before" in log.read_text()
    assert _start("run", "gw/demo", *SMALL, "--out", whole, log=log).wait() == 0, log.read_text()
    assert _posterior(killed) == _posterior(whole)
