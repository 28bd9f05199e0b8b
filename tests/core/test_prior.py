import numpy as np
import pytest
import torch
from scipy import integrate, stats

from tmnre import Cosine, LogUniform, Normal, PowerLaw, Prior, Quantile, Sine, Truncated, Uniform

# every distribution with its unnormalised density, an independent definition, and where that is not zero
CASES = {
    "uniform": (Uniform(-2, 3), lambda t: 1.0, (-2, 3)),
    "log-uniform": (LogUniform(0.01, 10), lambda t: 1 / t, (0.01, 10)),
    "power law 2": (PowerLaw(2, 1, 10), lambda t: t**2, (1, 10)),
    "power law -3": (PowerLaw(-3, 0.5, 4), lambda t: t**-3, (0.5, 4)),
    "power law to zero": (PowerLaw(-0.5, 0, 3), lambda t: t**-0.5, (0, 3)),
    "normal": (Normal(1, 2), lambda t: np.exp(-((t - 1) ** 2) / 8), (-19, 21)),
    "truncated normal": (Truncated(Normal(0, 1), 0.5, 2), lambda t: np.exp(-(t**2) / 2), (0.5, 2)),
    "half-truncated normal": (Truncated(Normal(0, 1), low=1), lambda t: np.exp(-(t**2) / 2), (1, 11)),
    "truncated power law": (Truncated(PowerLaw(2, 0, 10), -5, 4), lambda t: t**2, (0, 4)),
    "sine": (Sine(), np.sin, (0, np.pi)),
    "part of sine": (Sine(0.2, 1.5), np.sin, (0.2, 1.5)),
    "cosine": (Cosine(), np.cos, (-np.pi / 2, np.pi / 2)),
    "part of cosine": (Cosine(-0.3, 1.2), np.cos, (-0.3, 1.2)),
    "quantile": (Quantile(stats.gumbel_r.ppf, stats.gumbel_r.cdf), lambda t: np.exp(-t - np.exp(-t)), (-5, 45)),
}


@pytest.mark.parametrize("case", CASES)
def test_distribution(case):
    distribution, density, (low, high) = CASES[case]
    u = np.linspace(0.001, 0.999, 41)
    theta = distribution.quantile(u)
    np.testing.assert_allclose(distribution.cdf(theta), u, rtol=0, atol=1e-12)
    assert (np.diff(theta) > 0).all()
    assert (theta >= low).all() and (theta <= high).all()
    # closed form against numerical integration of the density; quad's own error estimate is below 1e-8
    norm = integrate.quad(density, low, high, epsabs=1e-12, limit=200)[0]
    for t in np.linspace(low, high, 9)[1:-1]:
        below = integrate.quad(density, low, t, epsabs=1e-12, limit=200)[0] / norm
        assert distribution.cdf(np.array([t]))[0] == pytest.approx(below, abs=1e-8)
    outside = distribution.cdf(np.array([low - 1.0, high + 1.0]))
    np.testing.assert_allclose(outside, [0, 1], rtol=0, atol=1e-9)
    edges = distribution.quantile(np.array([0.0, 1.0]))
    assert not np.isnan(edges).any() and edges[0] <= theta[0] and edges[1] >= theta[-1]


@pytest.mark.parametrize("base", [Normal(1, 2), LogUniform(0.1, 10), Sine(), Uniform(-5, 5)])
def test_truncation_is_exact(base):
    low, high = 0.4, 2.5
    cut = Truncated(base, low, high)
    assert cut.support == pytest.approx((low, high), rel=1e-14)
    a, b = base.cdf(np.array([low, high]))
    theta = np.linspace(low, high, 20)
    np.testing.assert_allclose(cut.cdf(theta), (base.cdf(theta) - a) / (b - a), rtol=1e-14, atol=1e-14)
    draws = cut.quantile(np.random.default_rng(0).random(10_000))
    accepted = base.quantile(np.random.default_rng(1).random(100_000))
    accepted = accepted[(accepted >= low) & (accepted <= high)]
    assert stats.ks_2samp(draws, accepted).pvalue > 1e-3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Uniform(1, 1), "low < high"),
        (lambda: Uniform(float("nan"), 1), "low < high"),
        (lambda: LogUniform(0, 1), "give low > 0"),
        (lambda: PowerLaw(2, -1, 1), "0 <= low < high"),
        (lambda: Normal(0, 0), "scale > 0"),
        (lambda: Truncated(Uniform(0, 1), 2, 3), "empty"),
        (lambda: Sine(-0.1, 1), "Sine needs"),
        (lambda: Cosine(0, 2), "Cosine needs"),
        (lambda: Quantile(np.sqrt, np.sqrt), "inverse"),
        (lambda: Prior(), "at least one"),
        (lambda: Uniform(0, float("inf")), "Uniform needs"),
        (lambda: Normal(0, float("inf")), "Normal needs"),
        (lambda: Normal(float("nan"), 1), "Normal needs"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_prior_maps_columns_in_order():
    prior = Prior(a=Uniform(-1, 1), b=Normal(0, 1), c=LogUniform(1, 100))
    u = np.random.default_rng(0).random((50, 3))
    theta = prior.from_cube(u)
    np.testing.assert_allclose(theta[:, 0], 2 * u[:, 0] - 1)
    np.testing.assert_allclose(theta[:, 2], 100 ** u[:, 2])
    np.testing.assert_allclose(prior.to_cube(theta), u, atol=1e-12)
    from_torch = prior.from_cube(torch.from_numpy(u))
    assert from_torch.dtype == torch.float64
    np.testing.assert_array_equal(from_torch.numpy(), theta)
    np.testing.assert_array_equal(prior.to_cube(from_torch).numpy(), prior.to_cube(theta))
    assert prior.columns(["c", "a"]) == [2, 0]
    with pytest.raises(ValueError, match=r"expected shape \(\.\.\., 3\)"):
        prior.from_cube(u[:, :2])
    with pytest.raises(TypeError, match="'a' must be a tmnre distribution"):
        Prior(a=(0, 1))
