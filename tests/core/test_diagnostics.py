"""Every diagnostic accepts the exact posterior and refuses wrong ones, as often as its docstring says."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats

from tmnre import diagnostics
from tmnre.diagnostics.check import THRESHOLD
from tmnre.diagnostics.local_c2st import ENOUGH, local_statistics, sequential_p_value
from tmnre.diagnostics.shapes import shaped
from tmnre.diagnostics.uniform import rank_test

REPEATS = 20
EXACT = (0.0, 1.0)
# shift in posterior standard deviations, width in units of the exact one
WRONG = {"shifted": (0.5, 1.0), "narrow": (0.0, 1 / 1.5), "wide": (0.0, 1.5)}


def most(n, probability, rarely=1e-4):
    """How many of n independent events are exceeded with a probability of 1e-4 at most, exact binomial."""
    return stats.binom.isf(rarely, n, probability)


def accepted(p_values):
    """Whether p-values are what a right null hypothesis gives, at the threshold and, with more to count, at 5%."""
    p = np.asarray(p_values)
    return np.sum(p <= THRESHOLD) <= most(len(p), THRESHOLD) and np.sum(p <= 0.05) <= most(len(p), 0.05)


def refused(p_values):
    """Whether 95% of the repeats fail."""
    return np.mean(np.asarray(p_values) <= THRESHOLD) >= 0.95


def simulated(simulator, n, rng):
    """theta (n, 3) and x (n, 4)."""
    theta = simulator.prior.sample(n, rng)
    return theta, simulator.simulate(theta, rng)["x"]


def posterior_draws(simulator, x, n, rng, distortion):
    """(N, n, 3) from the exact posterior of x (N, 4), shifted and widened; from the prior if `distortion` is None."""
    white = rng.standard_normal((len(x), n, 3))
    if distortion is None:
        return white
    shift, width = distortion
    mean, covariance = simulator.posterior(x)
    return (mean + shift * np.sqrt(np.diag(covariance)))[:, None] + width * white @ np.linalg.cholesky(covariance).T


def one_dimensional(simulator, n, rng, distortion):
    """Truths (n,) of the first parameter, and mean (n,) and sd of the posterior claimed for them."""
    theta, x = simulated(simulator, n, rng)
    if distortion is None:
        return theta[:, 0], np.zeros(n), 1.0
    mean, covariance = simulator.posterior(x)
    sd = np.sqrt(covariance[0, 0])
    return theta[:, 0], mean[:, 0] + distortion[0] * sd, distortion[1] * sd


def larger_ratio(z, mean, sd):
    """Closed form of the mass of larger N(z; mean, sd^2) / N(z; 0, 1): an interval about that quotient's peak."""
    precision = sd**-2
    peak = precision * mean / (precision - 1)
    reach = np.abs(z - peak)
    return stats.norm.cdf(peak + reach, mean, sd) - stats.norm.cdf(peak - reach, mean, sd)


def p_coverage(simulator, rng, distortion):
    z, mean, sd = one_dimensional(simulator, 1000, rng, distortion)
    return diagnostics.coverage(stats.norm.cdf(z, mean, sd))["p_uniform"]


def p_expected_coverage(simulator, rng, distortion):
    z, mean, sd = one_dimensional(simulator, 2000, rng, distortion)
    if distortion is None:
        none = torch.zeros(2000, 10)
        rank = diagnostics.mass_above(none, none[:, 0], torch.Generator().manual_seed(int(rng.integers(2**31)))).numpy()
    else:
        rank = larger_ratio(z, mean, sd)
    return diagnostics.expected_coverage(rank).p_value


def p_sbc(simulator, rng, distortion):
    theta, x = simulated(simulator, 500, rng)
    return diagnostics.sbc(theta, posterior_draws(simulator, x, 99, rng, distortion)).p_value


def p_tarp(simulator, rng, distortion, depends_on_x=True):
    theta, x = simulated(simulator, 1000, rng)
    draws = posterior_draws(simulator, x, 99, rng, distortion)
    references = diagnostics.regressed_references(x, theta, draws) if depends_on_x else rng.standard_normal((500, 3))
    return diagnostics.tarp(theta[500:], draws[500:], references, scale=np.ones(3)).p_value


def calibration(simulator, rng, distortion, n=1000):
    """What the local test takes: an observation among n + 1 simulations, with 32 draws of each and 500 of its own."""
    theta, x = simulated(simulator, n + 1, rng)
    draws = posterior_draws(simulator, x[1:], 32, rng, distortion)
    return x[1:], theta[1:], draws, x[0], posterior_draws(simulator, x[:1], 500, rng, distortion)[0]


GLOBAL = {"coverage": p_coverage, "expected_coverage": p_expected_coverage, "sbc": p_sbc, "tarp": p_tarp}


@pytest.mark.parametrize("diagnostic", GLOBAL)
def test_exact_posterior_is_accepted(linear_gaussian, diagnostic):
    p = [GLOBAL[diagnostic](linear_gaussian, np.random.default_rng(i), EXACT) for i in range(REPEATS)]
    assert accepted(p)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("diagnostic", GLOBAL)
def test_wrong_posterior_is_refused(linear_gaussian, diagnostic, wrong):
    p = [GLOBAL[diagnostic](linear_gaussian, np.random.default_rng(i), WRONG[wrong]) for i in range(REPEATS)]
    assert refused(p)


@pytest.mark.parametrize("diagnostic", ["coverage", "expected_coverage", "sbc"])
def test_calibration_cannot_see_that_the_prior_ignores_the_data(linear_gaussian, diagnostic):
    assert accepted([GLOBAL[diagnostic](linear_gaussian, np.random.default_rng(i), None) for i in range(REPEATS)])


def test_tarp_sees_ignored_data_only_with_references_that_depend_on_it(linear_gaussian):
    for depends_on_x, verdict in ((True, refused), (False, accepted)):
        p = [p_tarp(linear_gaussian, np.random.default_rng(i), None, depends_on_x) for i in range(REPEATS)]
        assert verdict(p)


def test_tarp_needs_displaced_references_to_see_a_shift(linear_gaussian):
    # around the posterior's centre a shift of one parameter in three is of second order
    found = {"displaced": [], "centred": []}
    for i in range(REPEATS):
        rng = np.random.default_rng(i)
        theta, x = simulated(linear_gaussian, 1000, rng)
        draws = posterior_draws(linear_gaussian, x, 99, rng, (np.array([0.5, 0, 0]), 1.0))
        displaced = diagnostics.regressed_references(x, theta, draws)
        for name, references in (("displaced", displaced), ("centred", linear_gaussian.posterior(x[500:])[0])):
            check = diagnostics.tarp(theta[500:], draws[500:], references, scale=np.ones(3))
            found[name].append(not check.passed)
    assert np.mean(found["displaced"]) >= 0.9 > 0.2 >= np.mean(found["centred"])


def all_statistics(*data, **how):
    """t (1 + nulls,) of the right labels and of all that are swapped."""
    return np.concatenate(list(local_statistics(*data, **how)))


@pytest.mark.parametrize("distortion", [EXACT, *WRONG.values(), None], ids=["exact", *WRONG, "prior"])
def test_local_c2st(linear_gaussian, distortion):
    """The rank of t among 49 nulls, over observations and simulations; then the check itself, once."""
    p = []
    for i in range(REPEATS):
        t = all_statistics(*calibration(linear_gaussian, np.random.default_rng(i), distortion), seed=i, nulls=49)
        p.append(np.mean(t >= t[0]))
    x, truth, draws, x_o, draws_o = calibration(linear_gaussian, np.random.default_rng(REPEATS), distortion)
    check = diagnostics.local_c2st(x, truth, draws, x_o=x_o, draws_o=draws_o, seed=0, nulls=999)
    if distortion == EXACT:
        assert accepted(p) and check.passed
    else:
        assert np.mean(np.isclose(p, 0.02)) >= 0.95 and check.p_value == 0.001 and not check.passed


def test_the_sequential_p_value_is_never_too_small():
    rng = np.random.default_rng(0)
    t = rng.standard_normal((4000, 1000))
    p = np.array([sequential_p_value(row[0], row[1:]) for row in t])
    for level in (0.001, 0.01, 0.05, 0.2, 0.5):
        assert np.sum(p <= level) <= most(len(p), level)
    # what comes after the last draw that was needed does not matter; with few above it, all draws count
    needed = [1 + np.flatnonzero(row[1:] >= row[0])[ENOUGH - 1] for row in t[p > 0.05]]
    assert all(
        sequential_p_value(row[0], row[1 : 1 + n]) == before
        for row, n, before in zip(t[p > 0.05], needed, p[p > 0.05], strict=True)
    )
    assert sequential_p_value(5.0, t[0]) == 1 / 1001


def test_local_c2st_is_larger_where_the_posterior_is_worse(linear_gaussian):
    # shifted by half an sd per sd of the first datum, to either side: right on average and where that datum is zero
    for seed in range(2):
        rng = np.random.default_rng(seed)
        theta, x = simulated(linear_gaussian, 2000, rng)
        unit = x.std(0) * np.array([1.0, 0.0, 0.0, 0.0])
        shift = 0.5 * x[:, :1] / x.std(0)[0] * np.sqrt(np.diag(linear_gaussian.posterior(x)[1]))
        draws = posterior_draws(linear_gaussian, x, 32, rng, EXACT) + shift[:, None]
        t = {}
        for at in (-2.0, 0.0, 2.0):
            draws_o = posterior_draws(linear_gaussian, at * unit[None], 500, rng, (0.5 * at, 1.0))[0]
            t[at] = all_statistics(x, theta, draws, at * unit, draws_o, seed=0, nulls=99)
        assert all(t[at][0] > t[at][1:].max() and t[at][0] > t[0.0][0] for at in (-2.0, 2.0))


def test_local_c2st_depends_on_its_seed_alone(linear_gaussian):
    x, truth, draws, x_o, draws_o = calibration(linear_gaussian, np.random.default_rng(0), EXACT, n=200)
    before = torch.random.get_rng_state()
    first, again, other = (all_statistics(x, truth, draws, x_o, draws_o, seed=s, nulls=50) for s in (0, 0, 1))
    assert np.array_equal(first, again) and not np.allclose(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


class Gaussian:
    """What `posterior_checks` asks of an estimator: log ratios of given Gaussians for u = Phi(theta), exact.

    -(theta - m)^2 / 2 s^2 + theta^2 / 2 is a scalar product of (m / s^2, 1/2 - 1 / 2 s^2) with (theta, theta^2).
    """

    targets = ("a", "b", "c")
    marginals = (("a",), ("b",), ("c",))
    joints = {}  # noqa: RUF012 - as an instance has it

    def __init__(self, simulator, distortion):
        self.simulator, self.distortion = simulator, distortion

    def of_x(self, x):
        mean, covariance = self.simulator.posterior(x["x"].numpy())
        sd = np.sqrt(np.diag(covariance))
        mean, variance = mean + self.distortion[0] * sd, (self.distortion[1] * sd) ** 2
        a = np.stack([mean / variance, np.broadcast_to(0.5 - 0.5 / variance, mean.shape)], axis=2)
        return torch.from_numpy(a)

    def of_z(self, z):
        theta = torch.special.ndtri(z)
        return torch.stack([theta, theta**2], dim=2)


@pytest.mark.parametrize("distortion", [EXACT, *WRONG.values()], ids=["exact", *WRONG])
def test_all_checks_of_an_estimator(linear_gaussian, distortion):
    refused = {}
    for seed in range(3):
        rng = np.random.default_rng(seed)
        theta, x = simulated(linear_gaussian, 1001, rng)
        z, x = torch.special.ndtr(torch.from_numpy(theta)), {"x": torch.from_numpy(x)}
        here, held = ({"x": x["x"][rows]} for rows in (slice(1), slice(1, None)))
        prior_z = torch.from_numpy(rng.random((20_000, 3)))
        estimator = Gaussian(linear_gaussian, distortion)
        for check in diagnostics.posterior_checks(estimator, held, z[1:], here, prior_z, seed=seed):
            refused.setdefault(check.name, []).append(not check.passed)
    assert refused.keys() == {"sbc"} | {f"{kind} {name}" for kind in ("tarp", "local c2st") for name in "abc"}
    for name, times in refused.items():
        assert sum(times) == 0 if distortion == EXACT else sum(times) > len(times) / 2, (name, times)


def test_few_simulations_are_not_checked(linear_gaussian):
    few = torch.full((399, 3), 0.5, dtype=torch.float64)
    assert diagnostics.posterior_checks(Gaussian(linear_gaussian, EXACT), {}, few, {}, few, seed=0) == []


@dataclass(frozen=True)
class Mean:
    """Fifty data with unit noise about a mean; the posterior of the mean under a standard normal prior."""

    n: int = 50

    def quantities(self, x):
        """Test quantities {name: (R,)} of data x (R, 50)."""
        return {"mean": x.mean(1), "sd": x.std(1), "trend": x @ np.linspace(-1, 1, self.n)}

    def observe(self, mean, rng, noise=1.0):
        return np.asarray(mean)[:, None] + noise * rng.standard_normal((len(mean), self.n))

    def check(self, rng, distortion=EXACT, noise=1.0, slope=0.0):
        """The check of data with another noise or a trend, against a posterior that knows of neither."""
        observed = self.observe(rng.standard_normal(1), rng, noise) + slope * np.linspace(-1, 1, self.n)
        sd = (self.n + 1) ** -0.5
        if distortion is None:
            mean = rng.standard_normal(1999)
        else:
            mean = observed.sum() * sd**2 + sd * (distortion[0] + distortion[1] * rng.standard_normal(1999))
        quantities = {name: value[0] for name, value in self.quantities(observed).items()}
        return diagnostics.predictive(quantities, self.quantities(self.observe(mean, rng)))


def test_predictive_check_is_exact_for_replicates_of_the_prior():
    # p is uniform on 1/2000, 2/2000, ...
    p = [Mean().check(np.random.default_rng(i), None).p_value for i in range(200)]
    assert accepted(p) and stats.kstest(p, "uniform").pvalue > THRESHOLD


@pytest.mark.parametrize("distortion", [EXACT, *WRONG.values()], ids=["exact", *WRONG])
def test_predictive_check_tests_the_model_not_the_posterior(distortion):
    # the replicates' noise in the mean of 50 data is as large as the posterior's sd: a distortion is not seen
    assert accepted([Mean().check(np.random.default_rng(i), distortion).p_value for i in range(REPEATS)])


@pytest.mark.parametrize("misfit", [{"noise": 2.0}, {"noise": 0.5}, {"slope": 2.0}])
def test_predictive_check_refuses_a_wrong_model(misfit):
    assert refused([Mean().check(np.random.default_rng(i), **misfit).p_value for i in range(REPEATS)])


def test_predictive_p_values_count_the_observation():
    replicated = {"a": np.arange(1999.0), "b": np.arange(1999.0)[::-1]}
    check = diagnostics.predictive({"a": 5000.0, "b": 999.5}, replicated)
    # a: above all 1,999 replicates, two-sided; b: at the median; together: the farthest out of 2,000 rows
    assert check.numbers == {"p_a": 2 / 2000, "p_b": 1.0} and check.p_value == 1 / 2000 and not check.passed
    with pytest.raises(ValueError, match="at least 1999 replicates"):
        diagnostics.predictive({"a": 0.0}, {"a": np.arange(1998.0)})


class ExactRatio:
    """log r of Gaussian posteriors over a standard normal prior, as a scalar product with (z, z z^T)."""

    marginals, targets = (("a",), ("c", "a"), ("c",)), ("c", "a")

    def __init__(self, simulator):
        self.simulator = simulator

    def posterior(self, x, names):
        """Means (N, d) and covariance (d, d) of a marginal."""
        columns = ["abc".index(name) for name in names]
        mean, covariance = self.simulator.posterior(x)
        return mean[:, columns], covariance[np.ix_(columns, columns)]

    def of_x(self, x):
        a = np.zeros((len(x["x"]), 3, 6))
        for m, names in enumerate(self.marginals):
            mean, covariance = self.posterior(x["x"].numpy(), names)
            precision = np.linalg.inv(covariance)
            columns = [self.targets.index(name) for name in names]
            a[:, m, columns] = mean @ precision
            quadratic = np.zeros((2, 2))
            quadratic[np.ix_(columns, columns)] = 0.5 * (np.eye(len(names)) - precision)
            a[:, m, 2:] = quadratic.ravel()
        return torch.from_numpy(a)

    def of_z(self, z):
        b = torch.cat([z, (z[:, :, None] * z[:, None]).flatten(1)], dim=1)
        return b[:, None].expand(-1, 3, -1)


def test_density_ranks_of_any_dimension(linear_gaussian):
    rng = np.random.default_rng(0)
    theta, x = simulated(linear_gaussian, 1000, rng)
    estimator, generator = ExactRatio(linear_gaussian), torch.Generator().manual_seed(0)
    z, prior_z = (
        torch.from_numpy(np.ascontiguousarray(t[:, [2, 0]])) for t in (theta, rng.standard_normal((20_000, 3)))
    )
    ranks = diagnostics.density_ranks(estimator, {"x": torch.from_numpy(x)}, z, prior_z, generator=generator)
    assert tuple(ranks) == estimator.marginals
    for names, rank in ranks.items():
        mean, covariance = estimator.posterior(x, names)
        truth = theta[:, ["abc".index(name) for name in names]]
        if len(names) == 1:
            exact = larger_ratio(truth[:, 0], mean[:, 0], np.sqrt(covariance[0, 0]))
        else:
            draws = mean[:, None] + rng.standard_normal((1000, 1000, 2)) @ np.linalg.cholesky(covariance).T
            precision = np.linalg.inv(covariance)

            def log_r(at, mean=mean, precision=precision):
                away = at - (mean[:, None] if at.ndim == 3 else mean)
                return 0.5 * (at**2).sum(-1) - 0.5 * np.einsum("...i,ij,...j->...", away, precision, away)

            exact = np.mean(log_r(draws) > log_r(truth)[:, None], axis=1)
        # as for the central ranks; the exact draws add 0.5 / sqrt(1000) in two dimensions
        assert np.sqrt(np.mean((rank - exact) ** 2)) < 0.03
        check = diagnostics.expected_coverage(rank, name=" ".join(names))
        assert check.passed
        for level in (0.5, 0.68, 0.9):
            # binomial, four standard deviations
            assert abs(check.numbers[f"{level:.2f}"] - level) < 4 * np.sqrt(level * (1 - level) / 1000)


def test_binomial_bands_are_exact():
    for n, level in ((50, 0.5), (1000, 0.9)):
        low, high = np.rint(n * diagnostics.binomial_bands(n, [level])[0])
        below, above = stats.binom.cdf(low - 1, n, level), stats.binom.sf(high, n, level)
        assert max(below, above) <= 0.005 < min(stats.binom.cdf(low, n, level), stats.binom.sf(high - 1, n, level))


def test_rank_test_holds_its_threshold_for_any_number_of_draws():
    rng = np.random.default_rng(0)
    for n_draws in (1, 30, 99):
        p = [rank_test(rng.integers(0, n_draws + 1, 200), n_draws) for _ in range(2000)]
        assert accepted(p)
    ranks = rng.integers(0, 20, 200)
    assert rank_test(ranks, 19) == pytest.approx(stats.chisquare(np.bincount(ranks, minlength=20)).pvalue, rel=1e-12)


def test_threshold_decides_every_check():
    edge = diagnostics.Check.of("edge", THRESHOLD, {})
    assert not edge.passed and diagnostics.Check.of("right", np.nextafter(THRESHOLD, 1), {}).passed
    assert not diagnostics.Check.of("undefined", np.nan, {}).passed
    assert THRESHOLD == 1e-3 and diagnostics.coverage(np.full(20, 0.5))["passed"] is False


def test_checks_are_plain_json(linear_gaussian):
    rng = np.random.default_rng(0)
    theta, x = simulated(linear_gaussian, 200, rng)
    check = diagnostics.sbc(theta, posterior_draws(linear_gaussian, x, 20, rng, EXACT), names=["a", "b", "c"])
    assert json.loads(json.dumps(check.to_dict())) == check.to_dict()
    assert set(check.numbers) == {f"{what}_{name}" for what in ("p", "mean", "spread") for name in "abc"}


def test_sbc_says_which_way_it_is_off(linear_gaussian):
    rng = np.random.default_rng(0)
    theta, x = simulated(linear_gaussian, 500, rng)
    # in standard deviations, of the mean of 500 uniforms and, relative, of their sd: sqrt((9/5 - 1) / (4 * 500))
    units = {"mean": (0.5, (12 * 500) ** -0.5), "spread": (1.0, 0.02)}
    for distortion, signs in ((EXACT, (0, 0)), (WRONG["shifted"], (-1, None)), (WRONG["narrow"], (None, 1))):
        check = diagnostics.sbc(theta, posterior_draws(linear_gaussian, x, 99, rng, distortion))
        for (what, (right, sd)), sign in zip(units.items(), signs, strict=True):
            for off in ((check.numbers[f"{what}_{i}"] - right) / sd for i in range(3)):
                assert sign is None or (abs(off) < 4 if sign == 0 else sign * off > 4)
        assert check.p_value == min(1.0, 3 * min(check.numbers[f"p_{i}"] for i in range(3)))


def test_tarp_by_hand():
    # truths on their references: no draw is nearer, and all the coverage is reached at no credibility
    rng = np.random.default_rng(0)
    truth, draws = rng.standard_normal((200, 2)), rng.standard_normal((200, 9, 2))
    assert diagnostics.tarp(truth, draws, truth, scale=[1, 1]).numbers == {"deviation": 0.9}
    references, unit = rng.standard_normal((200, 2)), np.array([1e3, 1e-3])
    plain = diagnostics.tarp(truth, draws, references, scale=[1, 1])
    assert plain == diagnostics.tarp(truth * unit, draws * unit, references * unit, scale=unit)


def test_references_know_nothing_of_the_simulations_they_test(linear_gaussian):
    rng = np.random.default_rng(0)
    theta, x = simulated(linear_gaussian, 201, rng)
    draws = posterior_draws(linear_gaussian, x, 9, rng, EXACT)
    references = diagnostics.regressed_references(x, theta, draws)
    assert references.shape == (101, 3)
    tested = np.arange(201)[:, None] >= 100
    others = diagnostics.regressed_references(x, np.where(tested, 7, theta), np.where(tested[..., None], 7, draws))
    assert np.array_equal(references, others)


def test_shapes_that_do_not_agree_are_refused():
    with pytest.raises(ValueError, match=r"draws must have shape \(N, L, D\), N = 5, D = 2, got \(5, 9, 3\)"):
        shaped(truth=(np.zeros((5, 2)), "N D"), draws=(np.zeros((5, 9, 3)), "N L D"))
    with pytest.raises(ValueError, match="truth holds NaN"):
        shaped(truth=([[np.nan]], "N D"))
    with pytest.raises(ValueError, match="at least 200 simulations"):
        diagnostics.sbc(np.zeros((50, 1)), np.zeros((50, 9, 1)))
    with pytest.raises(ValueError, match="at least 999"):
        diagnostics.local_c2st(*[np.zeros((1, 1))] * 2, np.zeros((1, 9, 1)), x_o=[0], draws_o=[[0]], seed=0, nulls=99)
