"""Localised distortion tests accept the model's own data, and name what has been added to others."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tmnre.diagnostics import THRESHOLD, distortions
from tmnre.diagnostics.distortions import Additive, ExtraNoise, judge, learn_ratios, windows

BINS, SIMULATIONS, SNR = 40, 4000, 3.0
FOREGROUNDS = 2 * np.stack([f(np.linspace(0, np.pi, BINS)) for f in (np.sin, np.cos)])


def simulated(n, rng):
    """Unit noise (n, 40) on two smooth foregrounds of random amplitude."""
    return rng.standard_normal((n, BINS)) + rng.standard_normal((n, 2)) @ FOREGROUNDS


@pytest.fixture(scope="module", params=[Additive, ExtraNoise], ids=["lines", "noise"])
def kind(request):
    """The kind of distortion, its ratios, and their values for simulations held out."""
    rng = np.random.default_rng(0)
    ratios = learn_ratios(simulated(SIMULATIONS, rng), request.param(windows((BINS,))), seed=0, snr=SNR)
    return request.param, ratios, ratios(simulated(SIMULATIONS, rng))


def verdicts(kind, x):
    _, ratios, held_out = kind
    return [judge(held_out, t) for t in ratios(x)]


def test_data_of_the_model_are_accepted(kind):
    p = np.array([found.check.p_value for found in verdicts(kind, simulated(200, np.random.default_rng(1)))])
    for level in (THRESHOLD, 0.05, 0.5):
        # as often below any level as the level says; exact binomial, exceeded once in 10^4
        assert np.sum(p <= level) <= stats.binom.isf(1e-4, len(p), level)
    assert stats.kstest(p, "uniform").pvalue > 1e-4


def test_a_line_is_refused_and_its_place_named(kind):
    # its signal-to-noise ratio is 8 without foregrounds; the largest of 40 noise peaks reaches 4.2 once in a thousand
    rng = np.random.default_rng(2)
    x, at = simulated(40, rng), rng.integers(BINS, size=40)
    x[np.arange(40), at] += rng.choice([-8, 8], size=40)
    found = verdicts(kind, x)
    assert np.mean([not one.check.passed for one in found]) >= 0.95
    assert np.mean([one.check.numbers["at"] == place for one, place in zip(found, at, strict=True)]) >= 0.95


def test_noise_that_is_larger_everywhere_is_refused(kind):
    # each bin a chi-square of one: the sum of 40 has the power 0.98 for noise 1.7 times too large
    rng = np.random.default_rng(3)
    x = simulated(40, rng) + np.sqrt(1.7**2 - 1) * rng.standard_normal((40, BINS))
    assert np.mean([not one.check.passed for one in verdicts(kind, x)]) >= 0.85


def test_ratios_are_those_of_the_matched_filter(kind):
    """Closed form for a Gaussian amplitude: t = s^2 a^2 / (1 + a^2) - ln(1 + a^2), s the filter's signal-to-noise."""
    x = simulated(1000, np.random.default_rng(4))
    precision = np.linalg.inv(np.eye(BINS) + FOREGROUNDS.T @ FOREGROUNDS)
    s = x @ precision / np.sqrt(np.diag(precision))
    exact = s**2 * SNR**2 / (1 + SNR**2) - np.log1p(SNR**2)
    # B / n of the squared ratio goes into the estimated covariance and as much into K biases and slopes, and 1% for
    # what one small network for all bins gets wrong
    found = kind[1](x)
    assert np.corrcoef(exact.ravel(), found.ravel())[0, 1] ** 2 >= 1 - 2 * BINS / (SIMULATIONS / 3) - 0.01


def test_the_whole_test_depends_on_its_seed_alone():
    rng = np.random.default_rng(5)
    x, x_o = simulated(2 * SIMULATIONS, rng), simulated(1, rng)[0]
    x_o[17] += 10
    first, again = (distortions(x, x_o, Additive(windows((BINS,))), seed=0, name="strain") for _ in range(2))
    assert first.check == again.check and not first.check.passed
    assert first.check.name == "distortions strain" and first.check.numbers["at"] == 17
    assert first.t.shape == first.p.shape == (BINS,)


def test_windows_are_cut_at_the_edges():
    assert windows((2, 3), 3).reshape(6, 6)[0].tolist() == [1, 1, 0, 1, 1, 0]
    assert (windows((4,)) == np.eye(4)).all()
    with pytest.raises(ValueError, match="odd"):
        windows((4,), 2)


def test_bad_input_is_refused():
    x = simulated(SIMULATIONS, np.random.default_rng(6))
    with pytest.raises(ValueError, match="at least 3998"):
        distortions(x[:3000], x[0], Additive(windows((BINS,))), seed=0)
    with pytest.raises(ValueError, match="x_o"):
        distortions(x, x[0, :3], Additive(windows((BINS,))), seed=0)
    with pytest.raises(ValueError, match="distortion 0 does not change the data"):
        distortions(x, x[0], Additive(np.zeros((1, BINS))), seed=0)
