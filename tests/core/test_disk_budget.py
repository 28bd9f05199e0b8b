"""A store that may hold only so much: simulations are discarded in a rolling window, and nothing else changes."""

from functools import partial

import numpy as np
import pytest
from tqdm import tqdm

from tmnre import Analysis, Stage, Training, Truncation
from tmnre.rounds import Rounds
from tmnre.store import Store

from .test_infer import JSD, NAMES, KilledError, distance, observe

GIB = 400 * 56 / 2**30  # of a simulation with three parameters and four data


@pytest.fixture(scope="module")
def go(linear_gaussian):
    analysis = Analysis(
        *(linear_gaussian, {"x": observe(linear_gaussian, 3)}, NAMES),
        stages=(Stage(300, steps=40), Stage(900, steps=30)),
        training=Training(batch_size=128, candidates=15, accelerator="cpu"),
        truncation=Truncation(epsilon=1e-4),
        shard_size=100,
    )

    def go(folder, disk_gib=GIB):
        quiet = {"progress": partial(tqdm, disable=True), "say": lambda _: None}
        return Rounds(analysis, folder, disk_gib=disk_gib, **quiet).run()

    return go


@pytest.fixture
def held(monkeypatch):
    """Rows on the disk after every shard that is written."""
    rows, write = [], Store.write

    def watched(store, *args):
        write(store, *args)
        rows.append(store.rows(store.shards(before_round=99)))

    monkeypatch.setattr(Store, "write", watched)
    return rows


def test_the_disk_never_holds_more(go, held, tmp_path):
    result = go(tmp_path / "run")
    assert [r["windows"] for r in result.rounds] == [1, 3] and result.rounds[1]["reused"] == 0
    assert result.simulations == 1200 and max(held) == 300  # three windows of three shards each, no four and one
    files = (tmp_path / "run" / "store").glob("*/*.npy")
    assert sum(np.load(file).nbytes for file in files) <= GIB * 2**30


def test_what_fits_is_reused(go, tmp_path):
    unbounded, roomy = go(tmp_path / "unbounded", None), go(tmp_path / "roomy", 4 * GIB)
    assert unbounded.rounds[1]["reused"] > 0
    np.testing.assert_array_equal(roomy["a"].log_ratios, unbounded["a"].log_ratios)


@pytest.fixture(scope="module")
def whole(go, tmp_path_factory):
    return go(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("fit", [1, 2, 3])
def test_going_on_is_bit_identical(go, whole, tmp_path, monkeypatch, fit):
    calls, original = iter(range(9)), Rounds._fit

    def killed(self, *args, **how):
        if next(calls) == fit:
            raise KilledError
        return original(self, *args, **how)

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(Rounds, "_fit", killed)
        go(tmp_path / "killed")
    resumed = go(tmp_path / "killed")
    for name in NAMES:
        np.testing.assert_array_equal(resumed[name].log_ratios, whole[name].log_ratios)


def test_what_was_discarded_is_not_simulated_again(go, held, tmp_path):
    whole = go(tmp_path)
    held.clear()
    again = go(tmp_path, None)
    assert not held
    np.testing.assert_array_equal(again["a"].log_ratios, whole["a"].log_ratios)


def test_all_windows_are_learned_from(linear_gaussian, tmp_path):
    """Windows too small to start from a regression come far closer together than one alone; larger ones are exact."""
    x = observe(linear_gaussian, 5)
    exact = linear_gaussian.posterior(x)
    distances = []
    for window, n, steps in ((250, 250, 400), (250, 3000, 100), (1000, 6000, 100)):
        stages, training = (Stage(n, steps=steps),), Training(accelerator="cpu")
        analysis = Analysis(linear_gaussian, {"x": x}, NAMES, stages, training=training, shard_size=window)
        quiet = {"progress": partial(tqdm, disable=True), "say": lambda _: None}
        result = Rounds(analysis, tmp_path / str(n), disk_gib=window * 56 / 2**30, **quiet).run()
        assert result.rounds[0]["windows"] == n // window
        distances.append(max(distance(result[name], *exact) for name in NAMES))
    # seen: a third; of one window alone three observations had .049 to .059
    assert distances[1] < distances[0] / 2
    assert distances[2] < JSD < distances[0]


def test_too_small_a_budget_says_what_a_shard_takes(go, tmp_path):
    with pytest.raises(ValueError, match=r"holds 99 simulations of 56 bytes, fewer than the 100 of one shard"):
        go(tmp_path, 99.5 * 56 / 2**30)
