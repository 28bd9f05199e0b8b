"""Simulating on a real Dask cluster, a worker of which is killed."""

import os
import signal
import time
from functools import partial

import pytest
from tqdm import tqdm

from tmnre import Box, Prior, Simulator, Uniform
from tmnre.simulate import simulate
from tmnre.store import Store
from tmnre.workers import dask

SILENT = partial(tqdm, disable=True)


def slow(pause_s):
    class Slow(Simulator):  # local, so that it travels by value: the workers cannot import a test module
        prior = Prior(a=Uniform(0, 1))

        def simulate(self, theta, rng):
            time.sleep(pause_s)
            return {"x": theta + rng.standard_normal(theta.shape)}

    return Slow()


def run(folder, *, pause_s=0.0, progress=SILENT, executor=None):
    simulator, store = slow(pause_s), Store(folder)
    how = {"round_number": 0, "seed": 1, "shard_size": 10, "progress": progress, "executor": executor}
    simulate(simulator, store, Box.full(simulator.prior), 400, **how)
    assert store.mend() == []
    return {path.relative_to(folder): path.read_bytes() for path in folder.glob("*/*")}


def test_a_cluster_that_loses_a_worker_loses_nothing(tmp_path):
    distributed = pytest.importorskip("distributed")
    expected = run(tmp_path / "here")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        address = cluster.scheduler_address.removeprefix("tcp://")
        victim = cluster.workers[0].pid
        killed = []

        def kill_when_busy(*arguments, **settings):
            bar = tqdm(*arguments, **settings, disable=True)
            update = bar.update

            def watched(n):
                if not killed:
                    killed.append(victim)
                    os.kill(victim, signal.SIGKILL)
                return update(n)

            bar.update = watched
            return bar

        with dask(f"dask://{address}") as executor:
            found = run(tmp_path / "there", pause_s=0.05, progress=kill_when_busy, executor=executor)
        assert killed
    assert found == expected and len(found) == 40 * 3


def test_executors_that_cannot_be(monkeypatch):
    with pytest.raises(ValueError, match="dask://HOST:PORT"), dask("slurm://x"):
        pass
    pytest.importorskip("distributed")
    with pytest.raises(OSError, match="127.0.0.1:1"), dask("dask://127.0.0.1:1"):
        pass
