"""The closed-form ratios from which heads start."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import jensenshannon
from tqdm import tqdm

from tmnre import Analysis, Box, Normal, Prior, ResidualMLP, Stage, Training, Uniform
from tmnre.draws import Draws
from tmnre.members import new_members
from tmnre.ratio import Quantiles, RatioEstimator
from tmnre.regression import MOST_INPUTS, linear_start
from tmnre.rows import InMemory
from tmnre.simulator import adopt
from tmnre.start import REACH, Coordinates, GaussianChain, GaussianRatios, Start
from tmnre.train import fit

N = 10_000


def draws_of(simulator, cube=None, n=N):
    simulator = adopt(simulator)
    region = Box(cube or {name: (0.0, 1.0) for name in simulator.prior.names})
    u = region.sample(n, np.random.default_rng(1))
    stored = simulator.simulate(simulator.prior.from_cube(u), np.random.default_rng(2))
    return Draws(simulator, region, u, InMemory(stored), simulator.prior.names, seed=3)


def start_of(draws):
    quantiles = Quantiles.of(draws.sample_targets(2**16, torch.Generator().manual_seed(4)))
    return linear_start(draws, torch.arange(len(draws)), quantiles, 5), quantiles


def test_the_density_of_a_coordinate_is_how_fast_its_quantile_grows():
    """Where the prior is not flat between the ends, and where it is."""
    table = torch.tensor([[0.1, 0.2, 0.5, 0.9]] * 2)
    curved = Coordinates(torch.tensor([True, False]), table, -torch.log(3 * table.diff(dim=1)))
    level = torch.tensor([0.3, 0.1])
    s = torch.linspace(0.01, 0.99, 99)[:, None].expand(-1, 2).clone().requires_grad_()
    for place in (curved, Coordinates.between(curved.linear, level, 1 - level)):
        t, log_density = place.with_log_density(s)
        (slope,) = torch.autograd.grad(t.sum(), s)
        torch.testing.assert_close(log_density, -slope.log(), rtol=1e-4, atol=1e-4)
    # half of what is below .2 in u, at the first third
    assert float(curved.of(torch.tensor([[1 / 6, 1 / 6]]))[0, 1]) == pytest.approx(stats.norm.ppf(0.15), abs=1e-5)


def untrained(draws, marginals, joints=None):
    start, quantiles = start_of(draws)
    x, _ = draws.batch(torch.arange(100), torch.Generator().manual_seed(6))
    what = ResidualMLP(x, 8, 1), 8, quantiles, draws.targets, marginals, joints
    return RatioEstimator.new(*what, start=start).eval()


COVARIANCE = np.array([[0.04, 0.03, 0.0], [0.03, 0.09, -0.1], [0.0, -0.1, 0.25]])
PLACE = Coordinates.between(
    torch.tensor([True, False, False]), torch.tensor([0.0, 0.0, 0.2]), torch.tensor([1.0, 1.0, 0.7])
)
THREE = Start(torch.zeros(4, 3), torch.zeros(3), PLACE, torch.tensor(COVARIANCE).float(), torch.ones(3, dtype=bool))
MEANS = torch.tensor([[0.4, 0.2, -0.1], [0.7, -0.5, 0.3]])
WIDTHS = torch.tensor([[1.0, 1.0, 1.0], [0.5, 2.0, 1.3]])
MOMENTS = torch.cat([MEANS, WIDTHS], dim=1)
ENDS = np.array([[0, 1], stats.norm.ppf([1e-6, 1 - 1e-6]), stats.norm.ppf([0.2, 0.7])])


def some_targets():
    """Quantiles of three targets, their coordinates, and the log density of their prior there."""
    s = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.05
    q = s.double().numpy()
    t = np.stack([q[:, 0], stats.norm.ppf(q[:, 1]), stats.norm.ppf(0.2 + 0.5 * q[:, 2])], axis=1)
    log_prior = np.stack([0 * q[:, 0], stats.norm.logpdf(t[:, 1]), stats.norm.logpdf(t[:, 2]) - np.log(0.5)], axis=1)
    return s, t, log_prior


@pytest.mark.parametrize("columns", [[[0], [1], [2]], [[0, 1], [2, 0]], [[0, 1, 2]]])
def test_the_scalar_product_is_the_ratio_of_gaussian_and_prior(columns):
    ratios, (s, t, log_prior) = GaussianRatios(torch.tensor(columns), THREE), some_targets()
    found = torch.einsum("nmr,smr->nsm", ratios.of_x(MOMENTS), ratios.of_z(s)).numpy()
    for m, names in enumerate(columns):
        for i, (mean, width) in enumerate(zip(MEANS.numpy(), WIDTHS.numpy(), strict=True)):
            covariance = (COVARIANCE * np.outer(width, width))[np.ix_(names, names)]
            gaussian = stats.multivariate_normal(mean[names], covariance)
            each = stats.norm(mean[names], covariance.diagonal() ** 0.5)
            mass = np.prod(np.diff(each.cdf(ENDS[names].T), axis=0))
            exact = gaussian.logpdf(t[:, names]) - log_prior[:, names].sum(1) - np.log(mass)
            # FLOOR^2 = 1.5e-5 is added to variances of which the least eigenvalue is 0.02: one part in a thousand
            np.testing.assert_allclose(found[i, :, m], exact, rtol=4e-3, atol=4e-3)


@pytest.mark.parametrize("columns", [[0, 1, 2], [2, 0]])
@pytest.mark.parametrize("row", [0, 1])
def test_each_factor_of_a_chain_is_the_ratio_of_gaussian_given_what_came_before_and_prior(columns, row):
    chain, (s, t, log_prior) = GaussianChain(torch.tensor(columns), THREE), some_targets()
    s, features = s[:, columns], MOMENTS[row : row + 1].expand(len(s), -1)
    found = (chain.of_given(features, s) * chain.of_value(s)).sum(-1).numpy()
    known, told = chain.begin(features), []
    for i in range(len(columns)):
        told.append((chain.a_of(slice(i, i + 1), known) * chain.of_value(s)[:, i : i + 1]).sum(-1))
        chain.tell(i, known, s[:, i])
    np.testing.assert_allclose(torch.cat(told, dim=1).numpy(), found, rtol=1e-3, atol=1e-3)
    mean, width = MEANS[row].numpy(), WIDTHS[row].numpy()
    covariance = COVARIANCE * np.outer(width, width)
    for i, name in enumerate(columns):
        before = columns[:i]
        gain = np.linalg.solve(covariance[np.ix_(before, before)], covariance[before, name])
        centre = mean[name] + (t[:, before] - mean[before]) @ gain
        sd = np.sqrt(covariance[name, name] - covariance[before, name] @ gain)
        given = stats.norm(np.clip(centre, ENDS[name][0] - REACH * sd, ENDS[name][1] + REACH * sd), sd)
        mass = np.diff(given.cdf(ENDS[name][:, None]), axis=0)[0]
        exact = given.logpdf(t[:, name]) - log_prior[:, name] - np.log(mass)
        # as above
        np.testing.assert_allclose(found[:, i], exact, rtol=4e-3, atol=4e-3)


@pytest.mark.parametrize("cube", [(0.0, 1.0), (0.02, 0.98)])
def test_a_linear_model_starts_from_its_posterior(linear_gaussian, cube):
    """Before any training, in the whole prior and cut at two of its standard deviations."""
    draws = draws_of(linear_gaussian, {name: cube for name in linear_gaussian.prior.names})
    estimator = untrained(draws, [("a",), ("b",), ("c",)])
    theta = np.random.default_rng(7).uniform(-0.5, 0.5, (50, 3))
    x = linear_gaussian.simulate(theta, np.random.default_rng(8))["x"]
    agrees(estimator, {"x": torch.tensor(x).float()}, linear_gaussian.posterior(x), cube)


def agrees(estimator, x, posterior, cube=(0.0, 1.0)):
    """Within five standard errors of a regression, of its inversion, and of a variance."""
    mean, covariance = posterior
    u = torch.linspace(*cube, 2001, dtype=torch.float64)
    values = stats.norm.ppf(u.clamp(1e-9, 1 - 1e-9))
    for i in range(3):
        log_r = estimator.log_ratio_grid(x, i, u).double().numpy()
        weight = np.exp(log_r - log_r.max(1, keepdims=True))
        weight /= weight.sum(1, keepdims=True)
        found = weight @ values
        sd = np.sqrt(weight @ values**2 - found**2)
        exact = covariance[i, i] ** 0.5
        assert np.abs(found - mean[:, i]).max() < 5 * exact * np.sqrt(5 / N)
        np.testing.assert_allclose(sd, exact, rtol=5 / np.sqrt(2 * N))


def test_a_joint_of_a_linear_model_starts_from_its_posterior(linear_gaussian):
    """Draws whitened with the exact mean and covariance are white."""
    names, n = ("c", "a", "b"), 20_000
    estimator = untrained(draws_of(linear_gaussian), [], {names: {}})
    theta = np.random.default_rng(7).uniform(-0.5, 0.5, (5, 3))
    x = linear_gaussian.simulate(theta, np.random.default_rng(8))["x"]
    z, *_ = estimator.sample(names, {"x": torch.tensor(x).float()}, n, torch.Generator().manual_seed(9))
    means, covariance = linear_gaussian.posterior(x)
    order = [linear_gaussian.prior.names.index(name) for name in names]
    root = np.linalg.cholesky(covariance[np.ix_(order, order)])
    # the errors of `agrees`, and those of so many draws
    error = 5 * np.sqrt(1 / N + 1 / n)
    values = stats.norm.ppf(z.numpy()).reshape(5, n, 3)
    for draws, mean in zip(values, means[:, order], strict=True):
        white = np.linalg.solve(root, (draws - mean).T)
        assert np.abs(white.mean(1)).max() < np.sqrt(5) * error
        assert np.abs(np.cov(white) - np.eye(3)).max() < np.sqrt(2) * error


def test_terms_of_a_prior_that_is_learned_stand_beside_a_start(linear_gaussian):
    """What training learns of a joint adds up to its log r, though only the first terms start from anything."""
    names = ("c", "a", "b")
    draws = draws_of(linear_gaussian, n=2000)
    estimator = untrained(draws, [], {names: {"learned": True}})
    x, z = draws.batch(torch.arange(50), torch.Generator().manual_seed(9))
    a, b = estimator.factors(x, z)
    terms = (a * b).sum(-1).detach()
    assert terms.shape == (50, estimator.terms) and estimator.terms == 3 + 2
    joint, s = estimator.joints[names], estimator.quantiles(z)
    with torch.no_grad():
        log_r = joint.logit(estimator.embedding(x), s[:, joint.columns])
    torch.testing.assert_close(terms[:, :3].sum(1) - terms[:, 3:].sum(1), log_r.float(), rtol=1e-4, atol=1e-4)


class Unrelated:
    prior = Prior(a=Uniform(0, 1), b=Normal(0, 1))

    def simulate(self, theta, rng):
        return {"x": rng.standard_normal((len(theta), 4))}


class HalfRelated(Unrelated):
    def simulate(self, theta, rng):
        return {"x": theta[:, 1:] + rng.standard_normal((len(theta), 4))}


@pytest.mark.parametrize(("simulator", "tells"), [(Unrelated(), [False, False]), (HalfRelated(), [False, True])])
def test_targets_that_data_tell_nothing_of_start_from_a_ratio_of_one(simulator, tells):
    start, _ = start_of(draws_of(simulator))
    assert start.tells.tolist() == tells
    ratios = GaussianRatios(torch.tensor([[i] for i in range(2) if not tells[i]]), start)
    means = torch.randn(50, 4) @ start.weight + start.offset
    moments = torch.cat([means, torch.ones_like(means)], dim=1)
    log_r = torch.einsum("nmr,smr->nsm", ratios.of_x(moments), ratios.of_z(torch.rand(100, 2)))
    # FLOOR^2 is added to a unit variance; rounding of numbers below ten in single precision
    assert log_r.abs().max() < 1e-3


class Large(Unrelated):
    def simulate(self, theta, rng):
        return {"x": rng.standard_normal((len(theta), MOST_INPUTS + 1))}


def test_large_data_have_no_start():
    assert start_of(draws_of(Large(), n=50))[0] is None


def test_training_that_does_not_help_leaves_the_start(linear_gaussian):
    """The weights that training begins with are kept where none that follow have a lower validation loss."""
    draws = draws_of(linear_gaussian, n=2000)
    estimator = untrained(draws, [("a",), ("b",)])
    before = {name: value.clone() for name, value in estimator.state_dict().items()}
    hopeless = Training(batch_size=256, learning_rate=10.0, accelerator="cpu")
    trained, curve = fit([estimator], draws, hopeless, steps=5, seed=0, progress=partial(tqdm, disable=True))
    assert [point["step"] for point in curve] == [1, 2, 3, 4, 5]
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())


class Uneven:
    """One datum of a, and how well it is measured."""

    prior = Prior(a=Uniform(0, 1), log_sd=Uniform(float(np.log(0.02)), float(np.log(0.2))))

    def simulate(self, theta, rng):
        a, log_sd = theta.T
        return {"x": np.stack([a + np.exp(log_sd) * rng.standard_normal(len(a)), log_sd], axis=1)}


def divergences(*, learned):
    """JSD from the exact posterior of a where it is measured well, and where it is not."""
    draws = draws_of(Uneven())
    torch.manual_seed(0)
    estimator = untrained(draws, [("a",)])
    estimator.embedding.moved.requires_grad_(learned)
    how = Training(batch_size=256, accelerator="cpu")
    fit([estimator], draws, how, steps=1000, seed=0, progress=partial(tqdm, disable=True))
    a, found = torch.linspace(0, 1, 4001, dtype=torch.float64), []
    for sd in (0.02, 0.2):
        x = {"x": torch.tensor([[0.5, np.log(sd)]]).float()}
        p = torch.softmax(estimator.log_ratio_grid(x, 0, a)[0].double(), 0).numpy()
        q = stats.norm(0.5, sd).pdf(a.numpy())
        found.append(jensenshannon(p, q) ** 2)
    return found


def test_widths_are_learned_that_differ_from_data_to_data():
    assert max(divergences(learned=True)) < 0.01 < max(divergences(learned=False))


class Summed(torch.nn.Module):
    """Reads four data, of a great many, by four sums of them that can be undone."""

    def __init__(self, x):
        super().__init__()
        self.register_buffer("matrix", torch.eye(4) + torch.diag(torch.ones(3), 1))
        self.layers = torch.nn.Linear(4, 8)

    def summaries(self, x):
        return x["x"][:, :4] @ self.matrix

    def read(self, summaries):
        return self.layers(summaries)

    def forward(self, x):
        return self.read(self.summaries(x))


class Padded:
    """With more data than are regressed on, which say nothing."""

    def __init__(self, simulator):
        self.simulator, self.prior = simulator, simulator.prior

    def simulate(self, theta, rng):
        x = self.simulator.simulate(theta, rng)["x"]
        return {"x": np.pad(x, ((0, 0), (0, MOST_INPUTS))).astype("f4")}


def test_an_embedding_that_reads_summaries_starts_from_a_regression_on_them(linear_gaussian):
    simulator = Padded(linear_gaussian)
    analysis = Analysis(simulator, {}, ["a"], [Stage(N)], embedding=Summed)
    ((estimator,),) = new_members(analysis, draws_of(simulator), [("a",), ("b",), ("c",)], [], 5)
    theta = np.random.default_rng(7).uniform(-0.5, 0.5, (50, 3))
    x = simulator.simulate(theta, np.random.default_rng(8))["x"]
    agrees(estimator, {"x": torch.tensor(x)}, linear_gaussian.posterior(x[:, :4].astype("f8")))
