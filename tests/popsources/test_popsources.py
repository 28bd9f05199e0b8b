"""Maps of point sources against exact pixel statistics, and the point spread function against its moments."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from tmnre_popsources import counts
from tmnre_popsources.embedding import THRESHOLDS, CountsNet
from tmnre_popsources.simulator import PRIOR, Catalogue, Patch, PatchSimulator


def test_pixel_counts_against_the_exact_template_likelihood():
    """Without point spread function pixels are independent, each with the probabilities of the recursion.

    The number of pixels with k counts is then a sum of independent Bernoulli variables: mean sum p, variance
    sum p (1 - p), whatever the pixels' own rates are.
    """
    patch = Patch(pixels=24, psf_deg=1e-6)
    simulator = PatchSimulator(patch)
    theta, maps, k_max = np.array([400.0, 1.3, 12.0]), 2000, 30
    stored = simulator.simulate(np.tile(theta, (maps, 1)), np.random.default_rng(0))
    generator = torch.Generator().manual_seed(0)
    found = simulator.observe({"expected": torch.from_numpy(stored["expected"])}, torch.empty(maps, 3), generator)
    share_l, share_b = (np.diff(stats.norm.cdf(simulator.edges_deg, scale=s)) for s in (patch.spread_l_deg, theta[2]))
    sources = theta[0] * np.outer(share_b, share_l).ravel()
    observed = np.bincount(found["counts"].numpy().astype(int).clip(max=k_max + 1).ravel(), minlength=k_max + 2)[:-1]

    def largest_pull(width: float) -> float:
        photons = counts.photons_per_source(width, patch.mean_log_flux, k_max)
        p = counts.pixel_counts(sources, photons, patch.background_counts)
        return np.abs((observed - maps * p.sum(0)) / np.sqrt(maps * (p * (1 - p)).sum(0))).max()

    # the largest of 31 normal pulls exceeds this once in a thousand data sets
    bound = stats.norm.isf(1e-3 / (2 * len(observed)))
    assert largest_pull(theta[1]) < bound
    # and the test has power: it rejects a flux distribution 5% too wide
    assert largest_pull(1.05 * theta[1]) > bound


def test_recursion_against_closed_forms():
    # no sources: Poisson
    none = counts.pixel_counts(np.zeros(1), counts.photons_per_source(1.0, 1.0, 12), 2.5)
    np.testing.assert_allclose(none[0], stats.poisson.pmf(np.arange(13), 2.5), rtol=1e-12)
    # all sources alike: P(k) = sum_n Poisson(n; rate) Poisson(k; n F + mu)
    rate, flux, n = 1.7, 3.0, np.arange(60)
    photons = stats.poisson.pmf(np.arange(31), flux)
    expected = stats.poisson.pmf(n, rate) @ stats.poisson.pmf(np.arange(31), n[:, None] * flux + 0.4)
    np.testing.assert_allclose(counts.pixel_counts(np.array([rate]), photons, 0.4)[0], expected, rtol=1e-9)
    # mean of the flux distribution: exp(mean + width^2 / 2); P(m) falls off long before 2000 counts
    m = np.arange(2001)
    assert m @ counts.photons_per_source(0.8, 1.0, 2000) == pytest.approx(np.exp(1.0 + 0.32), rel=1e-6)


def test_point_spread_function_keeps_flux_position_and_width():
    simulator = PatchSimulator()
    pixel = simulator.edges_deg[1] - simulator.edges_deg[0]
    centres = (simulator.edges_deg[1:] + simulator.edges_deg[:-1]) / 2
    one = Catalogue(np.array([7.3]), np.array([-11.9]), np.array([50.0]))
    image = simulator.expected_counts(one)
    assert image.sum() == pytest.approx(50.0, rel=1e-9)
    for axis, centre in ((0, 7.3), (1, -11.9)):
        profile = image.sum(axis) / 50.0
        mean = profile @ centres
        # binning a Gaussian of 0.75 px: the error of mean and Sheppard's correction is 2 exp(-2 pi^2 0.75^2) px
        aliasing = 2 * np.exp(-2 * (np.pi * simulator.patch.psf_deg / pixel) ** 2)
        assert mean == pytest.approx(centre, abs=aliasing * pixel)
        variance = profile @ (centres - mean) ** 2
        # the derivative of the aliasing term in the second moment brings in the width in pixels, twice
        expected = simulator.patch.psf_deg**2 + pixel**2 / 12
        assert variance == pytest.approx(expected, abs=6 * aliasing * pixel**2)


def test_the_number_of_sources_is_poisson():
    """Scatter as well as mean: a fixed number, as in the paper, would fail."""
    simulator = PatchSimulator()
    rng = np.random.default_rng(5)
    numbers = np.array([len(simulator.draw(np.array([40.0, 1.0, 5.0]), rng).l_deg) for _ in range(2000)])
    assert abs(numbers.mean() - 40) < 5 * np.sqrt(40 / 2000)
    assert abs(numbers.var() / 40 - 1) < 5 * np.sqrt(2 / 2000 + 1 / (40 * 2000))


def test_histograms_of_the_embedding_against_numpy():
    simulator = PatchSimulator()
    stored = simulator.simulate(PRIOR.sample(6, np.random.default_rng(6)), np.random.default_rng(7))
    x = simulator.observe(
        {"expected": torch.from_numpy(stored["expected"])}, torch.empty(6, 3), torch.Generator().manual_seed(1)
    )
    found = CountsNet(x).binned(x["counts"]).square().numpy()
    edges = [0, *THRESHOLDS, np.inf]
    for row, pixels in zip(found, x["counts"].numpy(), strict=True):
        sums = np.lib.stride_tricks.sliding_window_view(pixels, (3, 3)).sum((2, 3))
        expected = np.concatenate([np.histogram(values, edges)[0] for values in (pixels, sums)])
        np.testing.assert_allclose(row, expected, rtol=1e-5)
