"""gw/demo killed outright inside and between its rounds: `tmnre resume` ends with the same bits."""

import os
import signal
import time
from functools import partial

import h5py

SMALL = ("--waveforms", "[400,600]", "--steps", "[40,40]", "--training.batch_size", "128", "--workers", "1")


def _posterior(folder):
    with h5py.File(folder / "posterior.h5") as file:
        return {f"{key}/{name}": file[key][name][:].tobytes() for key in file for name in file[key]}


def test_killed_three_times_and_resumed_is_bit_for_bit_the_same(tmp_path, command_line):
    whole, killed, log = tmp_path / "whole", tmp_path / "killed", tmp_path / "log"
    moments = {
        "between rounds": lambda: (killed / "rounds/00/DONE").exists(),
        "simulating round 1": lambda: list(killed.glob("store/01_*")),
        "training round 1": lambda: "training" in log.read_text().partition("round 1:")[2],
    }
    start = partial(command_line.start, environment={**os.environ, "OMP_NUM_THREADS": "1"}, out=log)
    command = ["run", "gw/demo", *SMALL, "--out", killed]
    for moment, reached in moments.items():
        process = start(*command)
        while not reached():
            assert process.poll() is None, f"{moment} never came: {log.read_text()}"
            time.sleep(0.01)
        process.signal(signal.SIGKILL)
        process.wait()
        assert not (killed / "posterior.h5").exists()
        command = ["resume", killed]
    assert start(*command).wait() == 0, log.read_text()
    assert "round 0: finished before" in log.read_text()
    assert start("run", "gw/demo", *SMALL, "--out", whole).wait() == 0, log.read_text()
    assert _posterior(killed) == _posterior(whole)
