import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from tqdm import tqdm

from tmnre import Box, Prior, Simulator, Uniform
from tmnre.simulate import SimulationError, simulate, trial
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
    settings = {"round_number": 0, "seed": 3, "shard_size": 20, **settings}
    region = region or Box.full(PRIOR)
    simulate(simulator, store, region, n, progress=partial(tqdm, disable=True), **settings)
    return store


def loaded(store):
    """u (N, D) and the stored arrays of everything."""
    selection = store.select(store.shards(before_round=99), lambda u: np.ones(len(u), bool), 1_000_000)
    return selection.u, selection.load()


def contents(store):
    """Every file of the store, byte by byte."""
    return {path.relative_to(store.folder): path.read_bytes() for path in store.folder.glob("*/*")}


def test_workers_do_not_change_the_result(tmp_path):
    one = run(Noisy(), tmp_path / "one", workers=1)
    two = run(Noisy(), tmp_path / "two", workers=2)
    with ThreadPoolExecutor(2) as executor:
        three = run(Noisy(), tmp_path / "three", executor=executor)
    assert contents(one) == contents(two) == contents(three)
    u, arrays = loaded(one)
    assert u.shape == (90, 2) and arrays["x"].shape == (90, 2)
    # shards have seeds of their own: no row occurs twice
    assert len(np.unique(u[:, 0])) == 90
    other = run(Noisy(), tmp_path / "other", seed=4)
    assert not np.isin(loaded(other)[0], u).any()


def test_resume_simulates_missing_shards_only(tmp_path):
    whole = run(Noisy(), tmp_path / "whole")
    part = run(Noisy(), tmp_path / "part")
    untouched = part.path(0, 0).stat().st_mtime_ns
    for number in (1, 4):
        shutil.rmtree(part.path(0, number))
    simulator = Noisy()
    run(simulator, tmp_path / "part")
    assert simulator.calls == 20 + 10
    assert part.path(0, 0).stat().st_mtime_ns == untouched
    assert contents(whole) == contents(part)
    simulator = Noisy()
    run(simulator, tmp_path / "part")
    assert simulator.calls == 0


def test_asking_for_more_completes_a_short_shard(tmp_path):
    run(Noisy(), tmp_path, n=30)
    store = run(Noisy(), tmp_path, n=60)
    assert len(loaded(store)[0]) == 60


def raising(simulator):
    """The same simulator, but it raises where the other returns NaN."""

    class Raising(Noisy):
        def simulate(self, theta, rng):
            if self.bad(theta).any():
                raise ZeroDivisionError("no such star")
            return super().simulate(theta, rng)

    return Raising(simulator.bad)


KINDS = pytest.mark.parametrize(
    ("kind", "reason"),
    [(lambda s: s, "not finite"), (raising, "ZeroDivisionError: no such star")],
    ids=["nan", "raises"],
)


@pytest.mark.parametrize("workers", [1, 2])
@KINDS
def test_failed_rows_are_replaced_and_recorded(tmp_path, workers, kind, reason):
    simulator = kind(Noisy(bad=lambda theta: theta[:, 0] > 0.98))
    store = run(simulator, tmp_path / "one", n=2000, shard_size=500, workers=workers)
    u, arrays = loaded(store)
    assert len(u) == 2000 and np.isfinite(arrays["x"]).all()
    assert (u[:, 0] <= 0.98).all()
    failures = store.failures(0)
    # 2% of the draws fail; binomial, five standard deviations
    assert abs(len(failures) - 2000 * 0.02 / 0.98) < 5 * np.sqrt(2000 * 0.02)
    assert all(failure["theta"]["a"] > 0.98 and reason in failure["error"] for failure in failures)
    assert {tuple(failure["seed"]) for failure in failures} <= {(3, 0, number) for number in range(4)}
    again = run(simulator, tmp_path / "two", n=2000, shard_size=500, workers=workers)
    assert contents(store) == contents(again)


@pytest.mark.parametrize("workers", [1, 2])
@KINDS
def test_too_many_failures_stop_with_the_first(tmp_path, workers, kind, reason):
    simulator = kind(Noisy(bad=lambda theta: theta[:, 1] > -0.8))
    with pytest.raises(SimulationError, match=r"\d+ of \d+ simulations failed in shard \d.*" + reason) as error:
        run(simulator, tmp_path, workers=workers)
    # the parameters named are among those that fail
    found = re.search(r"the first at \{'a': ([\d.]+), 'b': ([-\d.e]+)\}", str(error.value))
    assert found and -0.8 < float(found[2]) <= 1
    # nine in ten fail, so no shard is finished anywhere
    assert list(tmp_path.iterdir()) == []


def test_failures_are_counted_over_the_round(tmp_path):
    """Eight in a hundred fail where five may: a shard of 20 cannot tell, 4000 simulations can (nine sigma)."""
    bad = lambda theta: theta[:, 0] > 0.92  # noqa: E731 - used once more below
    with pytest.raises(SimulationError, match="failed in round 0"):
        run(Noisy(bad), tmp_path, n=4000, seed=4)
    # nothing that was made is lost: allowed more, the run goes on with the shards that are there
    there = len(list(tmp_path.iterdir()))
    simulator = Noisy(bad)
    run(simulator, tmp_path, n=4000, seed=4, max_failed=0.2)
    missing = 4000 - 20 * there
    assert there >= 5 and missing < simulator.calls < missing / 0.92 * 1.1


def test_a_single_failure_is_never_too_many(tmp_path):
    """With five percent allowed four of four are bad luck, five of five are not; a trial tries again as well."""
    unlucky = raising(Noisy(bad=lambda theta: np.full(len(theta), next(falls))))
    falls = iter([True] * 4 + [False] * 2)
    run(unlucky, tmp_path, n=1)
    falls = iter([True] * 4 + [False] * 2)
    assert trial(unlucky, 0)[0].shape == (1, 2)
    falls = iter([True] * 9)
    with pytest.raises(SimulationError, match="5 of 5 simulations failed in a trial"):
        trial(unlucky, 0)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda theta: theta, "must return a dict of arrays, got ndarray"),
        (lambda theta: {}, "must return a dict of arrays"),
        (lambda theta: {"x": theta.astype(object)}, "must return numbers, got 'x' of type object"),
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

    _, arrays = loaded(run(Telling(), tmp_path, workers=2))
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
    u, _ = loaded(run(Bounded(), tmp_path, region=region))
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
