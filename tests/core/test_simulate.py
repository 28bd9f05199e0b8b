import os
import re
from functools import partial

import numpy as np
import pytest
from tqdm import tqdm

from tmnre import Box, Prior, Simulator, Uniform
from tmnre.simulate import SimulationError, simulate
from tmnre.simulator import adopt
from tmnre.store import Store

PRIOR = Prior(a=Uniform(0, 1), b=Uniform(-1, 1))


class Noisy(Simulator):
    """Fails where `bad(theta)` says so; `calls` counts rows simulated in this process."""

    prior = PRIOR

    def __init__(self, bad=lambda theta: np.zeros(len(theta), dtype=bool)):
        self.bad, self.calls = bad, 0

    def simulate(self, theta, rng):
        self.calls += len(theta)
        x = theta + rng.standard_normal(theta.shape)
        x[self.bad(theta)] = np.nan
        return {"x": x}


def run(simulator, folder, n=90, *, region=None, **settings):
    store = Store(folder)
    settings = {"round_number": 0, "seed": 3, "chunk_size": 20, **settings}
    region = region or Box.full(PRIOR)
    simulate(simulator, store, region, n, progress=partial(tqdm, disable=True), **settings)
    return store, store.failures(settings["round_number"])


def contents(store):
    return {path.name: dict(np.load(path)) for path in store.chunks(before_round=99)}


def assert_same(one, other):
    assert list(one) == list(other) and len(one) > 0
    for name in one:
        for key in one[name]:
            np.testing.assert_array_equal(one[name][key], other[name][key])


def test_workers_do_not_change_the_result(tmp_path):
    one, _ = run(Noisy(), tmp_path / "one", workers=1)
    two, _ = run(Noisy(), tmp_path / "two", workers=2)
    assert_same(contents(one), contents(two))
    u, arrays = one.load(one.chunks(before_round=1), lambda u: np.ones(len(u), bool), 1000)
    assert u.shape == (90, 2) and arrays["x"].shape == (90, 2)
    # chunks have seeds of their own: no row occurs twice
    assert len(np.unique(u[:, 0])) == 90
    other, _ = run(Noisy(), tmp_path / "other", seed=4)
    assert not np.isin(contents(other)["00_00000.npz"]["u"], u).any()


def test_resume_simulates_missing_chunks_only(tmp_path):
    whole, _ = run(Noisy(), tmp_path / "whole")
    part, _ = run(Noisy(), tmp_path / "part")
    untouched = part.path(0, 0).stat().st_mtime_ns
    for chunk in (1, 4):
        part.path(0, chunk).unlink()
    simulator = Noisy()
    run(simulator, tmp_path / "part")
    assert simulator.calls == 20 + 10
    assert part.path(0, 0).stat().st_mtime_ns == untouched
    assert_same(contents(whole), contents(part))
    simulator = Noisy()
    run(simulator, tmp_path / "part")
    assert simulator.calls == 0


def test_asking_for_more_completes_a_short_chunk(tmp_path):
    run(Noisy(), tmp_path, n=30)
    store, _ = run(Noisy(), tmp_path, n=60)
    assert store.count(store.chunks(before_round=1), lambda u: np.ones(len(u), bool)) == 60


@pytest.mark.parametrize("workers", [1, 2])
def test_failed_rows_are_replaced_and_counted(tmp_path, workers):
    simulator = Noisy(bad=lambda theta: theta[:, 0] > 0.98)
    store, failed = run(simulator, tmp_path, n=2000, chunk_size=500, workers=workers)
    u, arrays = store.load(store.chunks(before_round=1), lambda u: np.ones(len(u), bool), 10_000)
    assert len(u) == 2000 and np.isfinite(arrays["x"]).all()
    assert (u[:, 0] <= 0.98).all()
    # 2% of the draws fail; binomial, five standard deviations
    assert abs(failed - 2000 * 0.02 / 0.98) < 5 * np.sqrt(2000 * 0.02)
    if workers == 1:
        assert failed == simulator.calls - 2000


@pytest.mark.parametrize("workers", [1, 2])
def test_too_many_failures_name_the_parameters(tmp_path, workers):
    simulator = Noisy(bad=lambda theta: theta[:, 1] > 0)
    with pytest.raises(SimulationError, match=r"of 20 simulations in chunk \d are not finite") as error:
        run(simulator, tmp_path, workers=workers)
    # the parameters named are among those that fail
    found = re.search(r"the first at \{'a': ([\d.]+), 'b': ([-\d.e]+)\}", str(error.value))
    assert found and 0 < float(found[2]) <= 1


@pytest.mark.parametrize("workers", [1, 2])
def test_exceptions_are_named(tmp_path, workers):
    class Broken(Noisy):
        def simulate(self, theta, rng):
            raise ZeroDivisionError("no such star")

    with pytest.raises(SimulationError, match="raised ZeroDivisionError in chunk [0-4]: no such star"):
        run(Broken(), tmp_path, workers=workers)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda theta: theta, "must return a dict of arrays, got ndarray"),
        (lambda theta: {}, "must return a dict of arrays"),
        (lambda theta: {"x": theta[:-1]}, r"'x' with 20 rows, one per row of theta, got shape \(19, 2\)"),
    ],
)
def test_wrong_shapes_are_refused(tmp_path, returned, message):
    class Wrong(Noisy):
        def simulate(self, theta, rng):
            return returned(theta)

    with pytest.raises(SimulationError, match=message):
        run(Wrong(), tmp_path)


def test_workers_are_other_processes_with_one_thread(tmp_path):
    class Telling(Noisy):
        def simulate(self, theta, rng):
            import torch

            return {"pid": np.full(len(theta), os.getpid()), "threads": np.full(len(theta), torch.get_num_threads())}

    store, _ = run(Telling(), tmp_path, workers=2)
    _, arrays = store.load(store.chunks(before_round=1), lambda u: np.ones(len(u), bool), 1000)
    assert os.getpid() not in arrays["pid"]
    assert (arrays["threads"] == 1).all()


class Bounded(Noisy):
    """A derived quantity of simulated parameters, and a redrawn parameter the bounds of the box do not concern."""

    redrawn = ("b",)
    derived = ("double",)

    def derive(self, theta, stored=None):
        return {"double": 2 * theta[:, 0]}


def test_draws_respect_the_region_and_the_derived_bounds(tmp_path):
    region = Box({"a": (0.1, 0.8), "b": (0.4, 0.5)}, {"double": (1.0, 1.2)})
    store, _ = run(Bounded(), tmp_path, region=region)
    u, _ = store.load(store.chunks(before_round=1), lambda u: np.ones(len(u), bool), 1000)
    assert (u[:, 0] >= 0.5).all() and (u[:, 0] <= 0.6).all()
    with pytest.raises(SimulationError, match="satisfy the bounds"):
        run(Bounded(), tmp_path / "empty", region=Box(region.cube, {"double": (3.0, 4.0)}))


def test_plain_objects_are_adopted():
    class Plain:
        prior = PRIOR
        redrawn = ("b",)

        def simulate(self, theta, rng):
            return {"x": theta}

    assert adopt(Plain()).redrawn == ("b",)
    Plain.redrawn = ("nosuch",)
    with pytest.raises(TypeError, match="nosuch"):
        adopt(Plain())
    with pytest.raises(TypeError, match="needs a method simulate"):
        adopt(PRIOR)
    with pytest.raises(TypeError, match=r"tmnre\.Prior"):
        Plain.prior = None
        adopt(Plain())
