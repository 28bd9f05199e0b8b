"""Overlaps from a series in time against sums over all nodes, wherever a signal comes from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tmnre_gw.harmonics import HarmonicLikelihood
from tmnre_gw.likelihood import Likelihood
from tmnre_gw.series import PER_CYCLE, POINTS, Series

from .test_search import binary, data_of


@pytest.mark.parametrize(
    "approximant, form",
    [("IMRPhenomPv2", Likelihood), ("IMRPhenomXAS", Likelihood), ("IMRPhenomXPHM", HarmonicLikelihood)],
)
def test_a_likelihood_from_series_is_the_likelihood(approximant, form):
    """Over the times of a region, edges included, and all skies, from behind as well."""
    simulator = binary(approximant, (25.0, 60.0), (8.0, 20.0, 256.0))
    data, _ = data_of(simulator, luminosity_distance=300.0)
    theta = simulator.prior.sample(40, np.random.default_rng(2))
    (column,) = simulator.prior.columns(("time",))
    theta[:, column] = np.linspace(-0.01, 0.02, 40)
    rows = torch.from_numpy(theta)
    plain, quick = form(simulator, data), form(simulator, data, (-0.01, 0.02))
    plain.quadrature = quick.quadrature = True
    direct, series = plain.waveforms(theta), quick.waveforms(theta)
    assert "series" in series and "h" not in series
    # the error of the polynomial at every frequency, halfway between two times, and of single precision
    f, norm = simulator._nodes.numpy(), np.linalg.norm(data)
    between = np.prod([0.5 + k for k in range(POINTS // 2)]) ** 2 / np.prod(np.arange(1, POINTS + 1))
    off = between * (2 * np.pi * f / (PER_CYCLE * f[-1])) ** POINTS
    for ours, theirs in ((series, direct), (quick.mirrored(series), plain.mirrored(direct))):
        found, expected = quick.profile(ours, rows), plain.profile(theirs, rows)
        size = np.abs(direct["h"].numpy()).sum(1)
        loss = np.sqrt((size**2 * off**2).sum(1) / (size**2).sum(1)) + 1e-5
        allowed = loss * np.sqrt(2 * expected.square) * norm
        assert (np.abs(found.overlap - expected.overlap) <= allowed + 1e-4).all()
        np.testing.assert_allclose(found.square, expected.square, rtol=1e-6)
    # of another time it is another, and right there too
    before = plain.profile(direct, rows).overlap
    rows[:, column] += 0.002
    found, expected = quick.profile(series, rows).overlap, plain.profile(direct, rows).overlap
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * np.abs(expected).max())
    assert np.abs(found - before).max() > 0.1 * np.abs(before).max()


def test_between_its_times_a_series_is_exact_for_slow_signals():
    """One node alone is a pure tone: at an eighth of the highest frequency to 1e-9 of its size."""
    simulator = binary("IMRPhenomXAS", (25.0, 60.0), (4.0, 20.0, 256.0))
    nodes = torch.tensor([32.0, 256.0], dtype=torch.float64)
    data = torch.ones(2, 2, dtype=torch.complex64)
    series = Series(simulator.network, nodes, data, (0.0, 0.01), at_first=True)
    h = torch.tensor([[[1.0, 0.0]]], dtype=torch.complex64).repeat(50, 1, 1)
    t = torch.linspace(0.0, 0.01, 50, dtype=torch.float64)[:, None].repeat(1, 2)
    found = series.at(series.of(h), t)[:, :, 0]
    torch.testing.assert_close(found, torch.exp(2j * torch.pi * 32.0 * t), rtol=0, atol=1e-5)
