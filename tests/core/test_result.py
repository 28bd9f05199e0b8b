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


def test_density():
    grid = np.linspace(-1.5, 2, 50)
    # histogram bins of width 8 / 200 = 0.08 sd: the error of averaging over a bin is below width^2 / 24 * |f''|
    exact = stats.norm.pdf(grid, 0.3, 0.5)
    np.testing.assert_allclose(gaussian().density(grid, bins=200), exact, rtol=0, atol=0.01 * exact.max())
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
