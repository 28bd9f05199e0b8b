import dataclasses
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from tqdm import tqdm

import tmnre
from tmnre import Analysis, Box, Stage, Training, Truncation, diagnostics
from tmnre.inference import infer
from tmnre.rounds import Rounds

NAMES = ("a", "b", "c")
CELLS = 16
# the goal of the project for a linear Gaussian model; 16 cells filled by n independent draws add 15 / (8 n) on average
JSD = 0.01
# half of the default's batches
SMALL = Training(batch_size=256, accelerator="cpu")


def jensen_shannon(p, q):
    """Divergence in nat between two discrete distributions."""
    mean = 0.5 * (p + q)
    return 0.5 * (stats.entropy(p, mean) + stats.entropy(q, mean))


def cells(samples, mean, covariance):
    """Which of 16 cells, equally probable under the exact Gaussian, each sample (S, 1) or (S, 2) lies in."""
    white = np.linalg.solve(np.linalg.cholesky(covariance), (samples - mean).T)
    if len(white) == 1:
        return np.minimum((CELLS * stats.norm.cdf(white[0])).astype(int), CELLS - 1)
    # squared radius and angle of two independent normals are independent, exponential and uniform
    radius = np.minimum((4 * stats.chi2.cdf((white**2).sum(0), 2)).astype(int), 3)
    angle = np.floor(4 * (np.arctan2(white[1], white[0]) / (2 * np.pi) + 0.5)).astype(int)
    return 4 * radius + np.minimum(angle, 3)


def distance(marginal, mean, covariance):
    """JSD of a marginal from the exact posterior, over the 16 cells."""
    columns = [NAMES.index(name) for name in marginal.names]
    cell = cells(marginal.samples, mean[columns], covariance[np.ix_(columns, columns)])
    return jensen_shannon(np.bincount(cell, marginal.weights, CELLS), np.full(CELLS, 1 / CELLS))


def observe(simulator, seed):
    rng = np.random.default_rng(seed)
    return simulator.simulate(simulator.prior.sample(1, rng), rng)["x"][0]


@pytest.fixture(scope="module")
def run(linear_gaussian):
    """One round on 8,000 simulations, with the exact mean and covariance."""
    x = observe(linear_gaussian, 5)
    result = infer(
        linear_gaussian, {"x": x}, [*NAMES, ("a", "b")], simulations=8000, rounds=1, training=SMALL, quiet=True
    )
    return result, *linear_gaussian.posterior(x)


@pytest.mark.parametrize("names", ["a", "b", "c", ("a", "b")])
def test_marginals_match_the_exact_posterior(run, names):
    result, mean, covariance = run
    assert distance(result[names], mean, covariance) < JSD
    # the same measure refuses a posterior half a standard deviation off, or 1.5 times too narrow or too wide
    columns = [NAMES.index(name) for name in result[names].names]
    sub = covariance[np.ix_(columns, columns)]
    draws = np.random.default_rng(0).multivariate_normal(mean[columns], sub, 50_000)
    mean = mean[columns]
    even = np.full(CELLS, 1 / CELLS)
    for wrong in ((mean + 0.5 * np.sqrt(np.diag(sub)), sub), (mean, sub * 2.25), (mean, sub / 2.25)):
        counts = np.bincount(cells(draws, *wrong), minlength=CELLS) / len(draws)
        assert jensen_shannon(counts, even) > JSD
    counts = np.bincount(cells(draws, mean, sub), minlength=CELLS) / len(draws)
    assert jensen_shannon(counts, even) < JSD / 10


def test_record_of_the_round(run):
    result, *_ = run
    (record,) = result.rounds
    assert record["simulated"] == result.simulations == 8000 and record["reused"] == record["failed"] == 0
    assert record["log_volume"] == 0.0
    assert all(record["coverage"][name]["passed"] for name in NAMES)
    assert all(0 <= lost < 1e-4 for lost in record["lost_mass"].values())


def test_effective_sample_size_counts_repeated_draws_once(run):
    result, *_ = run
    for name in NAMES:
        _, which = np.unique(result[name].samples, axis=0, return_inverse=True)
        together = np.bincount(which.ravel(), result[name].weights)
        assert result[name].effective_sample_size <= 1.001 / np.sum(together**2)


def test_truncated_rounds_reach_the_exact_posterior(linear_gaussian):
    simulator = dataclasses.replace(linear_gaussian, noise=0.05)
    rng = np.random.default_rng(5)
    x = simulator.simulate(rng.standard_normal((1, 3)), rng)["x"][0]
    result = infer(simulator, {"x": x}, NAMES, simulations=4000, rounds=3, training=SMALL, quiet=True)
    mean, covariance = simulator.posterior(x)
    assert not result.rounds[-1]["warm_start"]
    checks = {check["name"]: check["passed"] for check in result.rounds[-1]["diagnostics"]}
    kinds = ("expected coverage", "tarp", "local c2st")
    assert checks == {"sbc": True} | {f"{kind} {name}": True for name in NAMES for kind in kinds}
    assert result.warnings == []
    # sd / prior sd is 0.05: eps = 1e-6 leaves less than half of the quantiles of every parameter
    widths = {name: high - low for name, (low, high) in result.rounds[-1]["region"]["cube"].items()}
    assert max(widths.values()) < 0.5
    for name in NAMES:
        assert distance(result[name], mean, covariance) < JSD


class KilledError(RuntimeError):
    pass


@pytest.mark.parametrize("warm", [True, False])
def test_resume_is_bit_identical(linear_gaussian, tmp_path, monkeypatch, warm):
    analysis = Analysis(
        linear_gaussian,
        {"x": observe(linear_gaussian, 3)},
        [*NAMES, ("b", "c")],
        stages=(Stage(600, steps=40), Stage(900, steps=30, afresh=not warm)),
        training=Training(batch_size=128, candidates=15, accelerator="cpu"),
        truncation=Truncation(epsilon=1e-4, warm_start_ratio=0.0),
        shard_size=100,
    )

    def go(folder, say=lambda _: None):
        return Rounds(analysis, folder, progress=partial(tqdm, disable=True), say=say).run()

    whole = go(tmp_path / "whole")
    assert len(whole.rounds) == 2 and whole.rounds[1]["warm_start"] == warm and whole.rounds[1]["reused"] > 0
    # killed while the second round simulates
    shutil.copytree(tmp_path / "whole", tmp_path / "simulating")
    shutil.rmtree(tmp_path / "simulating" / "rounds" / "01")
    shutil.rmtree(tmp_path / "simulating" / "store" / "01_000000")
    # killed while the second round writes what it found
    shutil.copytree(tmp_path / "whole", tmp_path / "writing")
    for name in ("DONE", "region.json"):
        (tmp_path / "writing" / "rounds" / "01" / name).unlink()
    # killed while the first round trains
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr("tmnre.rounds.fit", _kill)
        go(tmp_path / "training")
    # finished
    shutil.copytree(tmp_path / "whole", tmp_path / "finished")
    # finished, and damaged since: a shard and the weights of the first round
    shutil.copytree(tmp_path / "whole", tmp_path / "damaged")
    for name in ("store/00_000001/x.npy", "rounds/00/checkpoint.pt"):
        path = tmp_path / "damaged" / name
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    for folder in ("simulating", "writing", "training", "finished", "damaged"):
        said = []
        resumed = go(tmp_path / folder, said.append)
        for name in ("00_000001: x.npy", "checkpoint.pt"):
            assert any(name in line for line in said) == (folder == "damaged")
        assert list(resumed.marginals) == list(whole.marginals)
        for names, marginal in whole.marginals.items():
            np.testing.assert_array_equal(resumed[names].samples, marginal.samples)
            np.testing.assert_array_equal(resumed[names].log_ratios, marginal.log_ratios)
        records = ([{k: v for k, v in r.items() if k != "seconds"} for r in of.rounds] for of in (resumed, whole))
        assert next(records) == next(records)


def _kill(*args, **settings):
    raise KilledError


class GaussianRatio:
    """An estimator with log r = log N(z; mean(x) + shift sd, (width sd)^2) / N(z; 0, 1), up to terms of x alone."""

    marginals, targets = (("a",), ("c", "a"), ("c",)), ("c", "a")

    def __init__(self, simulator, shift, width):
        self.posterior, self.shift, self.width = simulator.posterior, shift, width

    def of_x(self, x):
        mean, covariance = self.posterior(x["x"].numpy())
        sd = np.sqrt(np.diag(covariance))
        mean, sd = mean + self.shift * sd, np.broadcast_to(self.width * sd, mean.shape)
        a = np.stack([mean / sd**2, 0.5 - 0.5 / sd**2], axis=-1)
        return torch.from_numpy(a[:, [0, 0, 2]])

    def of_z(self, z):
        return torch.stack([z, z**2], dim=-1)[:, [1, 1, 0]]


@pytest.mark.parametrize(
    ("shift", "width", "right"), [(0, 1, True), (0.5, 1, False), (-0.5, 1, False), (0, 1 / 1.5, False), (0, 1.5, False)]
)
def test_rank_test_rejects_wrong_posteriors(linear_gaussian, shift, width, right):
    rng = np.random.default_rng(1)
    theta, prior = rng.standard_normal((1000, 3)), rng.standard_normal((20_000, 3))
    x = {"x": torch.from_numpy(linear_gaussian.simulate(theta, rng)["x"])}
    truth, prior_z = (torch.from_numpy(t[:, [2, 0]]) for t in (theta, prior))
    ranks = diagnostics.ranks(GaussianRatio(linear_gaussian, shift, width), x, truth, prior_z)
    assert set(ranks) == {"a", "c"}
    mean, covariance = linear_gaussian.posterior(x["x"].numpy())
    for i, name in ((0, "a"), (2, "c")):
        sd = np.sqrt(covariance[i, i])
        exact = stats.norm.cdf(theta[:, i], mean[:, i] + shift * sd, width * sd)
        # 20,000 prior draws are worth some thousand under the posterior: sd of a rank at most 0.5 / sqrt(1000)
        assert np.sqrt(np.mean((ranks[name] - exact) ** 2)) < 0.02
        found = diagnostics.coverage(ranks[name])
        assert found["passed"] == right
        if right:
            for level in (0.5, 0.68, 0.9):
                # binomial, four standard deviations
                assert abs(found[f"{level:.2f}"] - level) < 4 * np.sqrt(level * (1 - level) / 1000)


def test_infer_stays_a_function():
    for _ in range(2):
        assert callable(tmnre.infer)


def test_what_does_not_fit_together_is_refused(linear_gaussian, tmp_path):
    analysis = Analysis(linear_gaussian, {"x": np.zeros(4)}, ["a"], stages=(Stage(100, steps=2),))

    def go(**changes):
        quiet = {"progress": partial(tqdm, disable=True), "say": lambda _: None}
        return Rounds(dataclasses.replace(analysis, **changes), tmp_path / "run", **quiet).run()

    with pytest.raises(ValueError, match=r"name \['nosuch'\]"):
        go(marginals=["nosuch"])
    with pytest.raises(ValueError, match="at least one stage"):
        go(stages=())
    with pytest.raises(ValueError, match="'x' holds NaN"):
        go(observation={"x": np.array([0, 1, np.nan, 2])})
    with pytest.raises(ValueError, match=r"observation has arrays .*5.* simulator returns .*4"):
        go(observation={"x": np.zeros(5)})


class Square(tmnre.Simulator):
    """The sign of `a` is lost: two modes, each Gaussian as far as noise / 2 |a| is small against |a|."""

    prior = tmnre.Prior(a=tmnre.Uniform(-1, 1))

    def simulate(self, theta, rng):
        return {"x": theta**2}

    def observe(self, stored, theta, generator):
        return {"x": stored["x"] + 0.02 * torch.randn(stored["x"].shape, generator=generator)}


def test_two_modes_leave_a_gap_and_their_shares(tmp_path):
    stages = (Stage(4000, steps=150), Stage(4000, steps=150), Stage(6000, steps=400))
    analysis = Analysis(Square(), {"x": np.array([0.49])}, ["a"], stages=stages, training=SMALL)
    result = Rounds(analysis, tmp_path, progress=partial(tqdm, disable=True), say=lambda _: None).run()
    gaps = np.array(result.rounds[-1]["region"]["gaps"]["a"])
    # the modes are at quantiles 0.15 and 0.85, with sd 0.02 / 1.4 / 2 = 0.007; a network may leave islands between them
    assert 0.15 + 5 * 0.007 < gaps[0, 0] < 0.3 and 0.7 < gaps[-1, 1] < 0.85 - 5 * 0.007
    assert np.exp(result.rounds[-1]["log_volume"]) < 0.4
    assert result["a"].weights[result["a"].samples[:, 0] > 0].sum() == pytest.approx(0.5, abs=0.05)
    exact = stats.norm(0.49, 0.02)
    inside = [result["a"].weights[result["a"].samples[:, 0] ** 2 < exact.ppf(level)].sum() for level in (0.1, 0.5, 0.9)]
    # the prior's density in a^2 falls as 1 / a: a shift by noise / 2 a^2 of an sd, and the network's own error
    assert inside == pytest.approx([0.1, 0.5, 0.9], abs=0.06)


SHORT = Training(batch_size=128, accelerator="cpu", tolerance=1.0)


def budgeted(simulator, folder, stages, **truncation):
    analysis = Analysis(
        *(simulator, {"x": observe(simulator, 3)}, ["a"], stages),
        training=SHORT,
        truncation=Truncation(epsilon=1e-3, **truncation),
    )
    return Rounds(analysis, folder, progress=partial(tqdm, disable=True), say=lambda _: None).run()


def test_added_simulations_come_beside_those_reused(linear_gaussian, tmp_path):
    stages = (Stage(400, steps=30, added=True),) * 3
    first, second, third = budgeted(linear_gaussian, tmp_path, stages, stop_ratio=1.0).rounds
    assert [r["simulated"] for r in (first, second, third)] == [400] * 3
    assert 0 < second["reused"] < 400 and second["reused"] < third["reused"]
    assert third["simulations"] == 400 + third["reused"]


def test_rounds_begin_in_the_region_they_are_given(linear_gaussian, tmp_path):
    begin = Box({"a": (0.3, 0.8), "b": (0.0, 1.0), "c": (0.0, 1.0)})
    x = {"x": observe(linear_gaussian, 3)}
    analysis = Analysis(linear_gaussian, x, ["a"], [Stage(300, 20), Stage(300, 20)], training=SHORT, begin=begin)
    rounds = Rounds(analysis, tmp_path, progress=partial(tqdm, disable=True), say=lambda _: None)
    result = rounds.run()
    u = rounds.store.select(rounds.store.shards(1), begin.contains, 10**6).u
    assert len(u) == 300 and u[:, 0].min() > 0.3 and u[:, 0].max() < 0.8
    assert result.rounds[0]["log_volume"] == pytest.approx(np.log(0.5))
    low, high = result.rounds[1]["region"]["cube"]["a"]
    assert 0.3 <= low < high <= 0.8


def test_a_settled_region_gets_what_the_budget_has_left(linear_gaussian, tmp_path, monkeypatch):
    monkeypatch.setattr("tmnre.train.FIRST_CYCLE", 20)
    rounds = budgeted(linear_gaussian, tmp_path, (Stage(200, steps=30, added=True),) * 4, stop_ratio=0.0).rounds
    assert [r["simulated"] for r in rounds] == [200, 200, 400]
    x = {"x": observe(linear_gaussian, 3)}
    result = infer(linear_gaussian, x, ["a"], budget=400, rounds=2, training=SHORT, quiet=True)
    assert 200 < result.simulations <= 400
