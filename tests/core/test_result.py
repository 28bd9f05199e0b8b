import numpy as np
import pytest
from scipy import stats

from tmnre import MarginalPosterior, Result
from tmnre.result import load_marginals, weighted_quantile


def gaussian(mean=0.3, sd=0.5, n=200_001):
    """Evenly spaced prior draws weighted to a Gaussian."""
    z = np.linspace(-4, 4, n)
    return MarginalPosterior(("a",), z[:, None], stats.norm.logpdf(z, mean, sd) - 7.0)


def test_weighted_quantiles_of_a_gaussian():
    marginal = gaussian()
    q = np.array([0.001, 0.05, 0.5, 0.84, 0.999])
    order = np.random.default_rng(0).permutation(len(marginal.samples))
    found = weighted_quantile(marginal.samples[order, 0], marginal.weights[order], q)
    np.testing.assert_allclose(found, stats.norm.ppf(q, 0.3, 0.5), rtol=0, atol=8 / 200_000)


def test_weights_count_like_repetitions():
    rng = np.random.default_rng(1)
    values, repeats = rng.standard_normal(5000), rng.integers(0, 5, 5000)
    q = np.linspace(0.02, 0.98, 25)
    found = weighted_quantile(values, repeats.astype(float), q)
    np.testing.assert_allclose(found, np.quantile(np.repeat(values, repeats), q), rtol=0, atol=0.01)


def test_summary_and_intervals():
    summary = gaussian().summary()
    for key, expected in {"median": 0.3, "mean": 0.3, "sd": 0.5}.items():
        assert summary[key] == pytest.approx(expected, abs=1e-4)
    for mass in (0.68, 0.9):
        expected = stats.norm.interval(mass, 0.3, 0.5)
        np.testing.assert_allclose(summary[f"interval_{100 * mass:.0f}"], expected, rtol=0, atol=1e-4)
    # for weights of a Gaussian over n draws spaced h: sum w^2 = h / (2 sd sqrt(pi))
    assert summary["effective_samples"] == pytest.approx(2 * 0.5 * np.sqrt(np.pi) / (8 / 200_000), rel=1e-3)


def test_weights_do_not_overflow_and_ignore_the_scale():
    marginal = gaussian()
    shifted = MarginalPosterior(("a",), marginal.samples, marginal.log_ratios + 5000)
    np.testing.assert_allclose(shifted.weights, marginal.weights, rtol=1e-9)
    assert shifted.weights.sum() == pytest.approx(1)


def test_sample_follows_the_weights():
    draws = gaussian().sample(20_000, rng=3)
    assert draws.shape == (20_000, 1)
    assert stats.kstest(draws[:, 0], "norm", (0.3, 0.5)).pvalue > 1e-3
    np.testing.assert_array_equal(draws, gaussian().sample(20_000, rng=3))


def test_draws_that_weigh_alike_are_not_repeated():
    values = np.random.default_rng(0).standard_normal((1000, 1))
    marginal = MarginalPosterior(("a",), values, np.zeros(1000), log_weights=np.zeros(1000))
    np.testing.assert_array_equal(np.sort(marginal.sample(1000, 1), axis=0), np.sort(values, axis=0))
    assert len(np.unique(marginal.sample(500, 2))) == 500
    # and where they are fewer than asked for, none more often than it must
    assert np.unique(marginal.sample(2500, 3), return_counts=True)[1].tolist().count(3) == 500


def test_density():
    grid = np.linspace(-1.5, 2, 50)
    exact = stats.norm.pdf(grid, 0.3, 0.5)
    # a kernel of width h changes a density by h^2 / 2 |f''| <= (h / sd)^2 / 2 of its maximum; h is 0.05 sd here
    np.testing.assert_allclose(gaussian().density(grid), exact, rtol=0, atol=0.002 * exact.max())


def test_density_keeps_the_height_at_a_hard_edge():
    z = np.linspace(0, 1, 100_001)
    half = MarginalPosterior(("a",), z[:, None], stats.norm.logpdf(z, 0, 0.2))
    grid = np.array([0.0, 0.1, 0.3])
    np.testing.assert_allclose(half.density(grid), stats.halfnorm.pdf(grid, 0, 0.2), rtol=0.01)


def test_highest_density_regions():
    ((low, high),) = gaussian().hpd(0.9)
    np.testing.assert_allclose([low, high], stats.norm.interval(0.9, 0.3, 0.5), rtol=0, atol=0.01)
    # two modes of a quarter and three quarters, eight sd apart: 90% needs both, 60% the larger alone
    z = np.linspace(-4, 4, 200_001)
    log_r = np.logaddexp(np.log(0.25) + stats.norm.logpdf(z, -2, 0.5), np.log(0.75) + stats.norm.logpdf(z, 2, 0.5))
    two = MarginalPosterior(("a",), z[:, None], log_r)
    first, second = two.hpd(0.9)
    assert first[1] < -1 and second[0] > 1
    inside = sum(two.weights[(z >= low) & (z <= high)].sum() for low, high in (first, second))
    # the kernel, 0.12 sd of a mode, widens both by 0.7%, and the density there is a fifth of the highest
    assert inside == pytest.approx(0.9, abs=0.006)
    assert len(two.hpd(0.6)) == 1 and len(two.hpd(1.0)) == 1


def test_few_effective_samples_are_a_warning():
    few = gaussian(sd=0.5, n=1001)
    assert few.effective_sample_size < 400 < gaussian().effective_sample_size
    assert Result({("a",): gaussian()}).warnings == []
    (warning,) = Result({("a",): few}).warnings
    assert warning.startswith(f"a: {few.effective_sample_size:.0f} effective samples")


def test_draws_that_depend_on_each_other_count_for_less(tmp_path):
    """As of a Markov chain: equal weights, yet worth few; marginals of one chain are warned of together."""
    draws = np.random.default_rng(0).normal(size=(5000, 2))
    none = np.zeros(5000)
    marginals = {
        names: MarginalPosterior(names, draws[:, : len(names)], none, none, independent=12.3)
        for names in (("a",), ("b",), ("a", "b"))
    }
    result = Result(marginals)
    assert result["a"].effective_sample_size == 12.3
    assert MarginalPosterior(
        ("a",), draws[:5, :1], none[:5], none[:5], independent=12.3
    ).effective_sample_size == pytest.approx(5)
    (warning,) = result.warnings
    assert (
        warning
        == "a and 2 more: 12 effective samples, fewer than 400; quantiles are rough, more draws would settle them"
    )
    result.save(tmp_path / "posterior.h5")
    assert {m.independent for m in load_marginals(tmp_path / "posterior.h5").values()} == {12.3}


def test_as_many_draws_as_asked_for_are_enough():
    draws, none = np.random.default_rng(0).normal(size=(400, 1)), np.zeros(400)
    assert Result({("a",): MarginalPosterior(("a",), draws, none, none)}).warnings == []
    (warning,) = Result({("a",): MarginalPosterior(("a",), draws[:399], none[:399], none[:399])}).warnings
    assert warning.startswith("a: 399 effective samples, fewer than 400")


def test_failed_calibration_is_a_warning():
    coverage = {"simulations": 1000, "a": {"p_uniform": 2e-5, "passed": False}}
    (warning,) = Result({("a",): gaussian()}, [{"coverage": coverage}]).warnings
    assert warning.startswith("a: simulations held out say that the posterior is not right (p = 2e-05)")
    check = {"name": "expected coverage a, b", "p_value": 1e-9, "passed": False}
    assert (
        Result({("a",): gaussian()}, [{"coverage": coverage, "diagnostics": [check]}])
        .warnings[1]
        .startswith("expected coverage a, b: simulations held out")
    )
    many = [
        {**check, "name": f"tarp {name}", "p_value": p}
        for name, p in zip("bcdefg", 10.0 ** -np.arange(4, 10), strict=True)
    ]
    (warning,) = Result({("a",): gaussian()}, [{"coverage": coverage, "diagnostics": many}]).warnings
    assert warning.startswith("tarp g and 6 more: simulations held out") and "(p = 1e-09 at worst)" in warning
    # marginals that are not those of the rounds are not judged by them; a procedure's own notes are told
    apart = Result({("a",): gaussian()}, [{"coverage": coverage, "diagnostics": many}], checked="b", notes=["c: cut"])
    assert apart.warnings == ["c: cut"]
    coverage["a"]["passed"] = True
    assert Result({("a",): gaussian()}, [{"coverage": coverage}]).warnings == []


@pytest.mark.parametrize(
    ("cube", "mean", "warned"),
    [
        ((0.0, 0.3), -4.1, "lower end of its prior, -4;"),
        ((0.7, 1.0), 3.9, "upper end of its prior, 4;"),
        ((0.0, 0.3), -2.0, None),  # nothing is cut off
        ((0.1, 0.3), -4.1, None),  # not an end of the prior
        ((0.0, 0.9), -4.1, None),  # the data say little, and the prior shows
    ],
)
def test_a_posterior_that_its_prior_cuts_off_is_a_warning(cube, mean, warned):
    found = Result({("a",): gaussian(mean)}, [{"region": {"cube": {"a": cube}}}]).warnings
    assert [w.startswith("a: ") and warned in w for w in found] == [True] * (warned is not None)


def test_density_of_a_pair_is_refused():
    grid = np.linspace(-1.5, 2, 50)
    joint = MarginalPosterior(("a", "b"), np.zeros((3, 2)), np.zeros(3))
    with pytest.raises(ValueError, match="one-dimensional"):
        joint.density(grid)


@pytest.fixture
def result():
    rng = np.random.default_rng(0)
    marginals = {}
    for names in (("a",), ("b",), ("a", "b")):
        log_r = rng.standard_normal(500).astype("f4").astype("f8")
        marginals[names] = MarginalPosterior(names, rng.standard_normal((500, len(names))), log_r)
    return Result(marginals, [{"simulated": 100}, {"simulated": 50}])


def test_posterior_file_round_trip(result, tmp_path):
    path = tmp_path / "posterior.h5"
    result.save(path)
    loaded = load_marginals(path)
    assert set(loaded) == set(result.marginals)
    for names, marginal in loaded.items():
        np.testing.assert_array_equal(marginal.samples, result[names].samples)
        np.testing.assert_array_equal(marginal.log_ratios, result[names].log_ratios)
    assert list(load_marginals(path, ["a|b"])) == [("a", "b")]
    assert [p.name for p in tmp_path.iterdir()] == ["posterior.h5"]


def test_file_holds_normalised_log_weights(result, tmp_path):
    import h5py

    result.save(tmp_path / "posterior.h5")
    with h5py.File(tmp_path / "posterior.h5") as file:
        np.testing.assert_allclose(np.exp(file["a|b"]["log_weights"][:]), result["a", "b"].weights, rtol=1e-5)
        assert list(file["a|b"].attrs["names"]) == ["a", "b"]


def test_lookup(result):
    assert result["a"] is result[("a",)] is result.marginals["a",]
    assert result.names == ("a", "b") and set(result.summary()) == {"a", "b"}
    assert result.simulations == 150
    with pytest.raises(KeyError, match="no marginal"):
        result["b", "a"]
