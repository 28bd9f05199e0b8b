"""Maps of point sources against exact pixel statistics, and the point spread function against its moments."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from tmnre_popsources import counts
from tmnre_popsources.fluxes import LogNormal
from tmnre_popsources.patch import PRIOR, Patch, PatchSimulator, Scene, Sources
from tmnre_popsources.places import Disk, Isotropic, Template
from tmnre_popsources.psf import Gaussian, King


def one_source(l_deg: float, b_deg: float, flux: float) -> Sources:
    return Sources(torch.zeros(1, dtype=torch.long), *(torch.tensor([q]) for q in (l_deg, b_deg, math.log(flux))))


def test_pixel_counts_against_the_exact_template_likelihood():
    """Without point spread function pixels are independent, each with the probabilities of the recursion.

    The number of pixels with k counts is then a sum of independent Bernoulli variables: mean sum p, variance
    sum p (1 - p), whatever the pixels' own rates are.
    """
    patch = Patch(pixels=24, psf_deg=1e-6)
    scene = Scene.of(patch)
    theta, maps, k_max = np.array([400.0, 1.3, 12.0]), 2000, 30
    generator = torch.Generator().manual_seed(0)
    sources = scene.draw(torch.from_numpy(np.tile(theta, (maps, 1))), generator)
    found = scene.counts(scene.expected(sources, maps), generator)
    edges = scene.edges.numpy()
    share_l, share_b = (np.diff(stats.norm.cdf(edges, scale=s)) for s in (patch.spread_l_deg, theta[2]))
    rates = theta[0] * np.outer(share_b, share_l).ravel()
    observed = np.bincount(found.numpy().astype(int).clip(max=k_max + 1).ravel(), minlength=k_max + 2)[:-1]

    def largest_pull(width: float) -> float:
        photons = counts.photons_per_source(width, patch.mean_log_flux, k_max)
        p = counts.pixel_counts(rates, photons, patch.background_counts)
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
    scene = Scene.of(Patch())
    centres = ((scene.edges[1:] + scene.edges[:-1]) / 2).numpy()
    image = scene.expected(one_source(7.3, -11.9, 50.0), 1)[0].numpy()
    # the stamp loses 1e-6 at most along each of two axes; float32 carries 1e-7
    assert image.sum() == pytest.approx(50.0, rel=3e-6)
    sigma, pixel = scene.psf.sigma_deg, scene.pixel_deg
    for axis, centre in ((0, 7.3), (1, -11.9)):
        profile = image.sum(axis) / 50.0
        mean = profile @ centres
        # binning a Gaussian of 0.75 px: the error of mean and Sheppard's correction is 2 exp(-2 pi^2 0.75^2) px
        aliasing = 2 * np.exp(-2 * (np.pi * sigma / pixel) ** 2) + 1e-5
        assert mean == pytest.approx(centre, abs=aliasing * pixel)
        variance = profile @ (centres - mean) ** 2
        # the derivative of the aliasing term in the second moment brings in the width in pixels, twice
        assert variance == pytest.approx(sigma**2 + pixel**2 / 12, abs=6 * aliasing * pixel**2 + 1e-4)


def test_a_source_off_the_patch_leaks_in_and_one_at_the_edge_leaks_out():
    scene = Scene.of(Patch())
    # on the edge: half of it; by symmetry of the Gaussian, to the accuracy of the stamp
    assert float(scene.expected(one_source(40.0, 0.0, 1.0), 1).sum()) == pytest.approx(0.5, abs=1e-5)
    beyond = float(scene.expected(one_source(40.94, 0.0, 1.0), 1).sum())
    assert beyond == pytest.approx(stats.norm.sf(1.0), abs=1e-5)


def test_published_maps_against_scipy():
    """As the public code draws them: points on a grid through scipy's gaussian_filter, which reflects at the edges."""
    scene = Scene.of(Patch(pixels=32, psf_deg=1.5 * 2.5, background_counts=0.0, exposure=400.0, as_published=True))
    sources = scene.draw(torch.tensor([[80.0, 1.0, 15.0]], dtype=torch.float64), torch.Generator().manual_seed(1))
    kept = sources.of(scene.inside(sources))
    grid = np.zeros((32, 32))
    rows, columns = (q.numpy() for q in scene.pixel_of(kept))
    np.add.at(grid, (rows, columns), 400 * kept.log_flux.exp().numpy())
    expected = ndimage.gaussian_filter(grid, 1.5)
    np.testing.assert_allclose(scene.expected(sources, 1)[0], expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("psf", [Gaussian(0.8), King(0.5, 2.5)])
def test_stamps_and_radii_follow_one_profile(psf):
    """The share of photons within a radius, from the stamp on fine pixels and from the inverse distribution."""
    pixel = 0.1
    stamp = psf.stamp(torch.zeros(2, 1), pixel, 40)[0]
    centre = torch.arange(-40, 41) * pixel
    radius = torch.hypot(centre[:, None], centre)
    v = torch.tensor([0.8, 0.5, 0.2], dtype=torch.float64)
    for share, r in zip(v, psf.radius_deg(v), strict=True):
        # a circle cuts pixels: those on its rim, 2 pi r / pixel of them, are right to a half at random
        rim = 2 * np.pi * float(r) / pixel
        error = float(stamp.max()) * np.sqrt(rim) / 2 + 2e-3
        assert float(stamp[radius < r].sum()) == pytest.approx(1 - float(share), abs=2 * error)
    # a King of a very large index is a Gaussian
    wide = King(0.8, 1e4).radius_deg(v)
    np.testing.assert_allclose(wide, Gaussian(0.8).radius_deg(v), rtol=1e-3)


def test_the_number_of_sources_is_poisson():
    """Scatter as well as mean: a fixed number, as in the paper, would fail."""
    scene = Scene.of(Patch())
    theta = torch.tensor([[40.0, 1.0, 5.0]], dtype=torch.float64).expand(2000, -1)
    numbers = np.bincount(scene.draw(theta, torch.Generator().manual_seed(5)).row, minlength=2000)
    assert abs(numbers.mean() - 40) < 5 * np.sqrt(40 / 2000)
    assert abs(numbers.var() / 40 - 1) < 5 * np.sqrt(2 / 2000 + 1 / (40 * 2000))


@pytest.mark.parametrize(
    ("places", "q"),
    [(Disk(20.0), [[12.0]]), (Isotropic(45.0), [[]]), (Template(torch.arange(16.0).view(4, 4), 40.0), [[]])],
)
def test_laws_of_place_agree_with_themselves(places, q):
    """Draws, density and shares of pixels are three views of one law."""
    edges = torch.linspace(-40, 40, 9, dtype=torch.float64)
    q = torch.tensor(q, dtype=torch.float64)
    share = places.pixels(edges, q)[0].flatten()
    l_deg, b_deg = places.draw(q.expand(100_000, -1), torch.Generator().manual_seed(0))
    rows, columns = (torch.bucketize(x.double(), edges) - 1 for x in (b_deg, l_deg))
    on = (rows >= 0) & (rows < 8) & (columns >= 0) & (columns < 8)
    found = torch.bincount((rows * 8 + columns)[on], minlength=64)
    some = share > 0
    chi2 = ((found - 1e5 * share)[some].square() / (1e5 * share[some])).sum()
    assert float(chi2) < stats.chi2.isf(1e-4, int(some.sum())) and found[~some].sum() == 0
    # the density, averaged over each pixel, times its area
    fine = torch.linspace(-40, 40, 161, dtype=torch.float64)
    middle = (fine[1:] + fine[:-1]) / 2
    density = places.log_density(middle[None], middle[:, None], q[0]).exp().expand(160, 160)
    mean = torch.nn.functional.avg_pool2d(density[None], 20)[0].flatten() * 100
    torch.testing.assert_close(mean, share, rtol=2e-3, atol=1e-6, check_dtype=False)


def test_log_normal_law_against_scipy():
    law, p = LogNormal(1.0), torch.tensor([50.0, 1.4], dtype=torch.float64)
    t = torch.linspace(-3, 6, 7, dtype=torch.float64)
    exact = stats.norm(1.0, 1.4)
    np.testing.assert_allclose(law.log_density(t, p), exact.logpdf(t), rtol=1e-12)
    np.testing.assert_allclose(law.survival(t, p), exact.sf(t), rtol=1e-12)
    np.testing.assert_allclose(
        law.log_flux(torch.tensor([0.1, 0.9], dtype=torch.float64), p), exact.ppf([0.1, 0.9]), rtol=1e-12
    )


@pytest.mark.parametrize("redraw", [False, True])
def test_noise_is_redrawn_or_stored(redraw):
    simulator = PatchSimulator(Patch(pixels=16), redraw_noise=redraw)
    theta = PRIOR.sample(4, np.random.default_rng(0))
    stored = simulator.simulate(theta, np.random.default_rng(1))
    same = simulator.simulate(theta, np.random.default_rng(1))
    assert all(np.array_equal(stored[name], same[name]) for name in stored)
    tensors = {name: torch.from_numpy(array) for name, array in stored.items()}
    first, second = (simulator.observe(tensors, None, torch.Generator().manual_seed(s)) for s in (0, 1))
    assert torch.equal(first["counts"], second["counts"]) is not redraw
    assert simulator.redraws_noise is redraw
