import shutil
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy import special, stats
from tqdm import tqdm

from tmnre import Analysis, Box, Prior, Simulator, Stage, Training, Uniform
from tmnre.contour import Contour, drop, mass_beyond
from tmnre.rounds import Rounds
from tmnre.truncate import UNRESOLVED

MEAN, SD = np.array([0.45, 0.5, 0.6]), 0.03


def ellipsoid(rho, mean=MEAN):
    """Log density of a correlated Gaussian less its maximum, and its covariance."""
    covariance = SD**2 * ((1 - rho) * np.eye(len(mean)) + rho)
    white = np.linalg.inv(np.linalg.cholesky(covariance))
    return lambda u: -0.5 * (((u - mean) @ white.T) ** 2).sum(1), covariance


def log_volume(covariance, radius):
    d = len(covariance)
    return (
        d / 2 * np.log(np.pi) - special.gammaln(d / 2 + 1) + d * np.log(radius) + np.linalg.slogdet(covariance)[1] / 2
    )


@pytest.mark.parametrize("epsilon", [1e-6, 1e-4])
def test_the_drop_loses_the_same_mass_in_every_dimension(epsilon):
    assert drop(mass_beyond(epsilon), 1) == pytest.approx(-np.log(epsilon), rel=1e-6)
    lost = stats.chi2.sf(-2 * np.log(epsilon), 1)
    for d in (2, 5, 15):
        assert stats.chi2.sf(2 * drop(mass_beyond(epsilon), d), d) == pytest.approx(lost, rel=1e-6)
        # the radius of the contour, and with it its width, grows by the padding on both sides
        assert np.sqrt(drop(mass_beyond(epsilon), d, 0.1) / drop(mass_beyond(epsilon), d)) == pytest.approx(1.2)


@pytest.mark.parametrize("rho", [0.0, 0.99])
def test_a_contour_is_the_ellipsoid(rho):
    """By rejection where it fills its box, by slices where it does not."""
    surface, covariance = ellipsoid(rho)
    radius, rng = 4.0, np.random.default_rng(0)
    contour = Contour.full(3, rng).tightened(surface, -(radius**2) / 2, 0.02, rng)
    exact = log_volume(covariance, radius)
    # by the share of 10,000 draws from an ellipsoid that is a third larger in volume, of which most are inside
    assert abs(contour.log_volume - exact) < 4 / np.sqrt(5000)
    u = contour.sample(4000, rng)
    assert contour.contains(u).all() and not contour.contains(MEAN[None] + 4.1 * SD).any()
    white = np.linalg.solve(np.linalg.cholesky(covariance), (u - MEAN).T)
    assert stats.kstest((np.linalg.norm(white, axis=0) / radius) ** 3, "uniform").pvalue > 1e-3
    # what is nowhere outside the contour cuts nothing
    again = contour.tightened(surface, -(radius**2) / 2 - 1, 0.02, rng)
    assert again.log_volume == contour.log_volume
    # balls one radius apart share 5/16 of their volume
    along = radius * SD * np.sqrt((1 + 2 * rho) / 3)
    shifted, _ = ellipsoid(rho, MEAN + along)
    both = contour.tightened(shifted, -(radius**2) / 2, 0.02, rng)
    # binomial, 10,000 points
    assert abs(np.exp(both.log_volume - contour.log_volume) - 5 / 16) < 4 * np.sqrt(5 / 16 * 11 / 16 / 10_000)
    assert (both.contains(u) == (shifted(u) > -(radius**2) / 2)).mean() > 0.995


def test_two_modes_leave_out_what_lies_between():
    centres = np.array([[0.2, 0.2], [0.8, 0.7]])
    surface = lambda u: -0.5 * (((u[:, None] - centres) / 0.02) ** 2).sum(2).min(1)  # noqa: E731
    rng = np.random.default_rng(0)
    contour = Contour.full(2, rng).tightened(surface, -8, 0.02, rng)
    exact = np.log(2 * np.pi * (4 * 0.02) ** 2)
    assert abs(contour.log_volume - exact) < 4 * np.sqrt(-exact / len(contour.live))
    u = contour.sample(4000, rng)
    assert (surface(u) > -8).all()
    # live points decide between the modes, and each was drawn anew only while the contours were connected
    assert abs((u[:, 0] < 0.5).mean() - 0.5) < 4 * 0.5 / np.sqrt(len(contour.live))


def test_a_region_with_a_contour():
    prior = Prior(a=Uniform(0, 1), b=Uniform(0, 1), other=Uniform(0, 1), c=Uniform(0, 1))
    surface, covariance = ellipsoid(0.9)
    rng = np.random.default_rng(0)
    contour = Contour.full(3, rng).tightened(surface, -8, 0.02, rng)
    region = Box.full(prior).tightened({"other": (0.2, 0.4)}, {}, {("a", "b", "c"): contour})
    assert region.log_volume == pytest.approx(np.log(0.2) + contour.log_volume)
    u = region.sample(2000, rng)
    assert region.contains(u).all() and (surface(u[:, [0, 1, 3]]) > -8).all()
    assert not region.contains(u + [0, 0, 0.5, 0]).any()
    moved = u + [0.1, 0, 0, -0.1]
    assert not region.contains(moved).any()
    # a group is looked at where all of it is asked for
    assert region.contains(moved, ("b", "other")).all() and not region.contains(moved, ("a", "b", "c")).any()
    assert region.to_dict()["contours"] == [
        {"names": ["a", "b", "c"], "threshold": -8, "log_volume": contour.log_volume}
    ]


@dataclass
class Correlated(Simulator):
    """Data whose posterior is a Gaussian of sd 0.03 with strong correlations in a unit cube; noise drawn anew."""

    rho: float = 0.95
    prior = Prior(a=Uniform(0, 1), b=Uniform(0, 1), c=Uniform(0, 1))

    def __post_init__(self):
        _, self.covariance = ellipsoid(self.rho)
        self.white = np.linalg.inv(np.linalg.cholesky(self.covariance))

    def simulate(self, theta, rng):
        return {"mu": theta @ self.white.T}

    def observe(self, stored, theta, generator):
        return {"x": stored["mu"] + torch.randn(stored["mu"].shape, generator=generator)}


NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def analysis():
    simulator = Correlated()
    x = {"x": simulator.white @ MEAN}
    stages = (Stage(2000, steps=60), Stage(2000, steps=60), Stage(8000, steps=200))
    how = {"training": Training(batch_size=128), "truncated": [NAMES]}
    return Analysis(simulator, x, ["a", ("a", "b"), NAMES], stages=stages, **how)


def go(analysis, folder):
    return Rounds(analysis, folder, progress=partial(tqdm, disable=True), say=lambda _: None).run()


@pytest.fixture(scope="module")
def result(analysis, tmp_path_factory):
    return go(analysis, tmp_path_factory.mktemp("contour"))


def test_the_region_closes_in_on_the_posterior(result):
    *_, last = result.rounds
    # the contour of the exact posterior in three dimensions, against the box of the same parameters
    radius = np.sqrt(2 * drop(UNRESOLVED / last["effective_simulations"], 3))
    exact = log_volume(ellipsoid(0.95)[1], radius)
    box = 3 * np.log(2 * SD * np.sqrt(-2 * np.log(1e-6)))
    assert exact - 0.2 < last["next_log_volume"] < box - 1
    assert last["lost_mass"]["a , b , c"] < 1e-3


def test_the_joint_is_the_exact_posterior(result):
    """In the region's prior the parameters are correlated: without its correction the joint would count that twice."""
    joint = result[NAMES]
    white = (joint.samples - MEAN) @ Correlated().white.T
    # short training; docs/validation.md has what a longer one reaches
    assert np.abs(white.mean(0)).max() < 0.25 and np.abs(white.std(0) - 1).max() < 0.25
    assert abs(joint.log_evidence) < 0.3
    # the prior is flat inside the contour: the ratio is the posterior's density times the volume
    exact = -0.5 * (white**2).sum(1) - np.linalg.slogdet(2 * np.pi * Correlated().covariance)[1] / 2
    difference = joint.log_ratios - exact - result.rounds[-1]["log_volume"]
    assert abs(difference.mean()) < 0.3 and difference.std() < 0.6 < exact.std()
    mean = result["a"].weights @ result["a"].samples[:, 0]
    assert abs(mean - MEAN[0]) < 0.2 * SD and abs(result["a"].sd / SD - 1) < 0.15
    pair = result["a", "b"].sample(20_000)
    assert np.corrcoef(pair.T)[0, 1] == pytest.approx(0.95, abs=0.04)


def test_groups_may_be_cut_apart_first(tmp_path):
    """Rounds of boxes, which learn no joint, then a contour inside the box; also when it goes on half-way."""
    simulator = Correlated()
    x = {"x": simulator.white @ MEAN}
    stages = (*(Stage(2000, steps=80, together=False),) * 2, Stage(3000, steps=100))
    how = {"training": Training(batch_size=128), "truncated": [NAMES]}
    analysis = Analysis(simulator, x, [NAMES], stages=stages, **how)
    rounds = Rounds(analysis, tmp_path / "run", progress=partial(tqdm, disable=True), say=lambda _: None)
    result = rounds.run()
    # the region the posterior was learned in is the last box
    assert rounds.region.to_dict() == result.rounds[-1]["region"] and not rounds.region.contours
    boxes, last = result.rounds[:2], result.rounds[2]
    assert all("contours" not in record["next_region"] for record in boxes)
    (contour,) = last["next_region"]["contours"]
    # the box of the exact posterior, padded; the contour inside it
    box = 3 * np.log(2 * SD * np.sqrt(-2 * np.log(1e-6)))
    assert boxes[1]["next_log_volume"] == pytest.approx(box, abs=1.0)
    assert contour["log_volume"] == pytest.approx(last["next_log_volume"], abs=1e-6)
    assert contour["log_volume"] < boxes[1]["next_log_volume"] - 1
    shutil.rmtree(tmp_path / "run" / "rounds" / "02")
    np.testing.assert_array_equal(go(analysis, tmp_path / "run")[NAMES].samples, result[NAMES].samples)
    with pytest.raises(ValueError, match="the last stage has to cut groups together"):
        go(replace(analysis, stages=stages[:2]), tmp_path / "other")


def same(one, other):
    for names, marginal in one.marginals.items():
        np.testing.assert_array_equal(other[names].samples, marginal.samples)
        np.testing.assert_array_equal(other[names].log_ratios, marginal.log_ratios)


def test_going_on_is_bit_identical(analysis, tmp_path):
    short = replace(analysis, stages=(Stage(600, steps=30),) * 2)
    whole = go(short, tmp_path / "whole")
    assert "contours" in whole.rounds[-1]["region"]
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    shutil.rmtree(tmp_path / "killed" / "rounds" / "01")
    same(whole, go(short, tmp_path / "killed"))


class Summed(Correlated):
    """The sum is known too."""

    derived = ("total",)

    def derive(self, theta, stored=None):
        return {"total": theta.sum(1)}


def test_a_contour_within_bounds_of_a_derived_quantity(analysis, tmp_path):
    """Simulations lie in both, whichever round they are of, and lost ones are made again as they were."""
    stages = (Stage(600, steps=30),) * 2
    bounded = replace(analysis, simulator=Summed(), truncated=[NAMES, "total"], stages=stages, shard_size=100)
    whole = go(bounded, tmp_path)
    region = whole.rounds[-1]["region"]
    assert "contours" in region and np.isfinite(region["derived"]["total"]).any()
    (shard,) = tmp_path.glob("store/01_000000")
    u = np.load(shard / "u.npy")
    low, high = region["derived"]["total"]
    assert (low <= u.sum(1)).all() and (u.sum(1) <= high).all()
    shutil.rmtree(shard)
    shutil.rmtree(tmp_path / "rounds" / "01")
    same(whole, go(bounded, tmp_path))
    np.testing.assert_array_equal(np.load(shard / "u.npy"), u)


@pytest.mark.parametrize(
    ("truncated", "message"),
    [
        ([("a", "shift")], r"name \['shift'\], but a contour is of parameters that are simulated, here \['a', 'b'\]"),
        ([("a", "total")], r"name \['total'\]"),
        ([("a", "b"), "a"], r"names \['a'\] more than once"),
        ([("a", "a")], r"names \['a'\] more than once"),
    ],
)
def test_groups_that_cannot_be_cut_are_refused(tmp_path, truncated, message):
    class Toy(Simulator):
        prior = Prior(a=Uniform(0, 1), b=Uniform(0, 1), shift=Uniform(0, 1))
        redrawn, derived = ("shift",), ("total",)

    with pytest.raises(ValueError, match=message):
        go(Analysis(Toy(), {"x": np.zeros(2)}, ["a"], truncated=truncated), tmp_path / "run")
