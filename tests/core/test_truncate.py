import numpy as np
import pytest
import torch
from scipy import stats

from tmnre import Box, Prior, Truncation, Uniform
from tmnre.truncate import GRID, MOST_LOST, tighten

CELL = 1 / GRID
# evenly spaced quantiles stand for the region's prior, so that edges can be compared to a grid cell
Z = torch.linspace(0, 1, 2**14 + 1, dtype=torch.float64)


class ExactGaussian:
    """A ratio estimator whose log ratio of every target is -(z - mean)^2 / 2 sd^2, for every x."""

    def __init__(self, **gaussians):
        self.gaussians = gaussians
        self.targets = tuple(gaussians)
        self.marginals = tuple((name,) for name in gaussians)

    def log_ratio_grid(self, x, marginal, grid):
        mean, sd = self.gaussians[self.targets[marginal]]
        return (-0.5 * ((grid - mean) / sd) ** 2)[None].float()


def run(estimator, *, region=None, z=None, names=None, **settings):
    prior = Prior({name: Uniform(0, 1) for name in estimator.targets if name != "snr"})
    region = region or Box.full(prior)
    z = Z[:, None].expand(-1, len(estimator.targets)) if z is None else z
    return tighten(region, prior, estimator, {}, z, names or estimator.targets, Truncation(**settings))


@pytest.mark.parametrize("padding", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("epsilon", [1e-6, 1e-2])
def test_edges_are_the_contour_and_the_padding(epsilon, padding):
    mean, sd = 0.45, 0.02
    tightened = run(ExactGaussian(a=(mean, sd)), epsilon=epsilon, padding=padding)
    half = sd * np.sqrt(-2 * np.log(epsilon))
    expected = np.array([mean - half, mean + half]) + 2 * padding * half * np.array([-1, 1])
    outwards = (tightened.region.cube["a"] - expected) * [-1, 1]
    # the contour is interpolated between cells of at most 4 / GRID of the kept width: a chord of a parabola, off by
    # cell^2 / 8 sd^2 in log r, or that over the slope in the parameter
    cell = 4 * 2 * half / GRID
    assert (np.abs(outwards) < 2 * (1 + 2 * padding) * cell**2 / 8 / half + 1e-7).all()
    # a Gaussian's mass outside; a grid cell changes the tail by its width times the hazard, at most distance / sd^2
    low, high = tightened.region.cube["a"]
    exact = stats.norm.cdf(low, mean, sd) + stats.norm.sf(high, mean, sd)
    hazard = (high - mean) / sd**2 + 1 / (high - mean)
    assert tightened.lost_mass["a"] == pytest.approx(exact, rel=CELL * hazard)
    assert tightened.kept == pytest.approx(high - low, rel=1e-12)


@pytest.mark.parametrize("sd", [1e-2, 1e-3, 1e-5])
def test_a_narrow_posterior_is_resolved(sd):
    """The width of the contour at 1e-3 of the prior is owed to 2%; swyft's extreme samples recover 0.83 of it."""
    tightened = run(ExactGaussian(a=(0.3137, sd)), padding=0.0)
    low, high = tightened.region.cube["a"]
    half = sd * np.sqrt(2 * np.log(1e6))
    assert [(low - 0.3137) / half, (high - 0.3137) / half] == pytest.approx([-1, 1], abs=1e-3)
    # two tails of 1.5e-7, on cells that are at most a hundredth of an sd: 5.3 per sd is their hazard
    assert tightened.lost_mass["a"] == pytest.approx(1.47e-7, rel=0.1)


def test_epsilon_of_the_paper_keeps_five_sigma():
    # 2107.01214: eps = 1e-6 is 5.26 sd and loses 1.5e-7 of the mass
    tightened = run(ExactGaussian(a=(0.5, 0.05)), padding=0.0)
    low, high = tightened.region.cube["a"]
    assert (high - low) / 2 / 0.05 == pytest.approx(5.26, abs=0.005 + CELL / 0.05)
    assert tightened.lost_mass["a"] == pytest.approx(1.5e-7, rel=0.1)


def test_a_contour_beyond_the_prior_leaves_its_edge():
    tightened = run(ExactGaussian(a=(0.0, 0.02), b=(1.0, 0.02), flat=(0.5, 10.0)))
    assert tightened.region.cube["a"][0] == 0.0 and tightened.region.cube["a"][1] < 0.12
    assert tightened.region.cube["b"][1] == 1.0 and tightened.region.cube["b"][0] > 0.88
    assert tightened.region.cube["flat"] == (0.0, 1.0)
    assert tightened.lost_mass["flat"] == 0.0


def test_parameters_multiply_and_those_not_named_stay():
    estimator = ExactGaussian(a=(0.5, 0.02), b=(0.3, 0.01), c=(0.5, 0.01))
    tightened = run(estimator, names=("a", "b"))
    widths = [high - low for low, high in tightened.region.cube.values()]
    assert widths[2] == 1.0
    assert tightened.kept == pytest.approx(np.prod(widths), rel=1e-12)


def test_tightening_again_stays_inside_and_converges():
    estimator = ExactGaussian(a=(0.5, 0.02))
    first = run(estimator)
    low, high = first.region.cube["a"]
    second = run(estimator, region=first.region, z=low + (high - low) * Z[:, None])
    assert low <= second.region.cube["a"][0] < second.region.cube["a"][1] <= high
    assert 1 / 1.04 - 3 * CELL < second.kept <= 1.0


def test_an_island_is_kept():
    class Islands(ExactGaussian):
        def log_ratio_grid(self, x, marginal, grid):
            parts = [torch.tensor(h) - 0.5 * ((grid - m) / 0.01) ** 2 for h, m in ((0.0, 0.2), (-5.0, 0.8))]
            return torch.logaddexp(*parts)[None].float()

    low, high = run(Islands(a=(0, 1)), padding=0.0).region.cube["a"]
    assert low == pytest.approx(0.2 - 0.01 * 5.2565, abs=2 * CELL)
    # the second maximum is exp(-5) of the first
    assert high == pytest.approx(0.8 + 0.01 * np.sqrt(2 * (np.log(1e6) - 5)), abs=2 * CELL)


def test_derived_quantities_are_cut_in_their_own_units():
    # snr = 10 exactly standard normal: quantiles 1/2 +- are not linear in it
    levels = (torch.arange(2**14) + 0.5) / 2**14
    snr = 10 + torch.special.ndtri(levels.double())
    z = torch.stack([torch.linspace(0, 1, len(snr), dtype=torch.float64), snr], 1)
    tightened = run(ExactGaussian(a=(0.5, 10.0), snr=(10.5, 0.2)), z=z, epsilon=1e-2, padding=0.0)
    half = 0.2 * np.sqrt(-2 * np.log(1e-2))
    low, high = tightened.region.derived["snr"]
    # two cells of probability, in units of snr at the edge
    slack = [2 * CELL / stats.norm.pdf(edge - 10) for edge in (10.5 - half, 10.5 + half)]
    assert low == pytest.approx(10.5 - half, abs=slack[0])
    assert high == pytest.approx(10.5 + half, abs=slack[1])
    inside = ((snr >= low) & (snr <= high)).double().mean()
    assert tightened.kept == pytest.approx(float(inside), rel=1e-9)
    # posterior of snr: prior N(10, 1) times ratio
    precision = 1 + 1 / 0.2**2
    mean = (10 + 10.5 / 0.2**2) / precision
    outside = stats.norm.cdf(low, mean, precision**-0.5) + stats.norm.sf(high, mean, precision**-0.5)
    assert tightened.lost_mass["snr"] == pytest.approx(outside, rel=0.05)


class Modes(ExactGaussian):
    """Gaussians of sd 0.01 about the given means, equally high."""

    def __init__(self, *means):
        super().__init__(a=(0, 1))
        self.means = means

    def log_ratio_grid(self, x, marginal, grid):
        parts = torch.stack([-0.5 * ((grid - mean) / 0.01) ** 2 for mean in self.means])
        return torch.logsumexp(parts, dim=0)[None].float()


@pytest.mark.parametrize("padding", [0.0, 0.02])
def test_what_lies_between_modes_is_left_out(padding):
    tightened = run(Modes(0.2, 0.5, 0.8), padding=padding)
    half = 0.01 * np.sqrt(2 * np.log(1e6))
    low, high = tightened.region.cube["a"]
    pad = padding * (0.6 + 2 * half)
    assert (low, high) == pytest.approx((0.2 - half - pad, 0.8 + half + pad), abs=2 * CELL)
    expected = [(0.2 + half + pad, 0.5 - half - pad), (0.5 + half + pad, 0.8 - half - pad)]
    np.testing.assert_allclose(tightened.region.gaps["a"], expected, atol=2 * CELL)
    assert tightened.kept == pytest.approx(6 * (half + pad), rel=1e-2)
    # six tails of 1.5e-7 over three modes
    lost = 2 * stats.norm.sf((half + pad) / 0.01)
    assert tightened.lost_mass["a"] == pytest.approx(lost, rel=0.1)


def test_an_angle_at_its_cut_keeps_both_ends():
    """A mode at +-pi of a derived quantity: what lies between is left out, though no bound moves."""
    z = torch.stack([Z, 2 * torch.pi * (Z - 0.5)], 1)
    modes = Modes(-np.pi, np.pi)
    modes.targets, modes.marginals = ("a", "snr"), (("a",), ("snr",))
    tightened = run(modes, z=z, names=["snr"], padding=0.0)
    half = 0.01 * np.sqrt(2 * np.log(1e6))
    assert np.isinf(tightened.region.derived["snr"]).all()
    (gap,) = tightened.region.gaps["snr"]
    np.testing.assert_allclose(gap, (half - np.pi, np.pi - half), atol=4 * np.pi * CELL)
    assert tightened.kept == pytest.approx(half / np.pi, rel=0.1)
    assert tightened.lost_mass["snr"] == pytest.approx(2 * stats.norm.sf(half / 0.01), rel=0.5)


def test_a_narrow_gap_is_not_worth_its_edges():
    # 11 sd from mode to mode: below epsilon for half an sd of 21
    tightened = run(Modes(0.3, 0.41), padding=0.0)
    assert tightened.region.gaps == {}


class Fooled:
    """A joint whose draws are a Gaussian, and whose ratio is far too high in a corner where one of them lies."""

    targets, marginals = ("a", "b"), ()
    mean, sd = 0.3, 0.02

    def draws(self, n):
        u = self.mean + self.sd * np.random.default_rng(0).standard_normal((n, 2))
        return np.concatenate([u[1:], [[0.995, 0.995]]])

    def sample(self, group, x, n, generator):
        return torch.from_numpy(self.draws(n)), None, None

    def surface(self, group, x):
        return lambda u: -0.5 * (((u - self.mean) / self.sd) ** 2).sum(1) + 2000 * (u > 0.99).all(1)


def test_a_contour_keeps_the_draws_of_a_joint_whose_ratio_is_too_high_elsewhere():
    estimator, prior = Fooled(), Prior(a=Uniform(0, 1), b=Uniform(0, 1))
    z = torch.rand(4096, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    tightened = tighten(Box.full(prior), prior, estimator, {}, z, (), Truncation(), groups=[("a", "b")])
    contour = tightened.region.contours["a", "b"]
    # those beyond it, and those beyond an ellipsoid about 1000 points
    assert contour.contains(estimator.draws(20_000)).mean() > 1 - 2 * MOST_LOST
    assert tightened.lost_mass["a , b"] <= MOST_LOST
