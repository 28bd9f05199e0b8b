"""HEALPix skies: geometry, exact count statistics, scatter of photons, and what the reader refuses."""

from __future__ import annotations

import os
from pathlib import Path

import healpy
import numpy as np
import pytest
import torch
from scipy import stats

from tmnre import Prior, Uniform
from tmnre_popsources import counts as exact
from tmnre_popsources import fermi
from tmnre_popsources.fluxes import BrokenPowerLaw
from tmnre_popsources.psf import Gaussian, King
from tmnre_popsources.sky import Sky, latitude_mask, read_observation
from tmnre_popsources.sky_simulator import FINE, SkySimulator, derived_name

LAW = BrokenPowerLaw(breaks=1, pivot=5.0, faintest=0.5, brightest=40.0)
PRIOR = Prior(
    log10_level=Uniform(0, 3), n1=Uniform(1, 4), n2=Uniform(-1, 2), log10_break1=Uniform(0, 1), smooth=Uniform(0, 2)
)
THETA = np.array([2.0, 2.4, 1.2, 0.5, 1.0])


def sky_of(nside: int, *, psf=None, margin_deg: float = 0.0, density=None, exposure=None, **how) -> SkySimulator:
    sky = Sky(latitude_mask(nside, 40.0), margin_deg)
    exposure = np.full(12 * nside**2, 5.0) if exposure is None else exposure
    return SkySimulator(
        *(sky, PRIOR), law=LAW, exposure=exposure, templates={"smooth": np.full(len(sky), 1.5)}, psf=psf,
        density=density, **how,
    )  # fmt: skip


def test_region_in_nested_order_and_back():
    sky = Sky(latitude_mask(16, 30.0), 4.0)
    values = np.random.default_rng(0).normal(size=12 * 16**2)
    ring = sky.to_ring(sky.of_ring(values))
    inside = ring != healpy.UNSEEN
    np.testing.assert_array_equal(ring[inside], values[inside])
    l_deg, b_deg = healpy.pix2ang(16, np.arange(len(values)), lonlat=True)
    np.testing.assert_array_equal(inside, np.abs(b_deg) >= 30)
    np.testing.assert_allclose(sky.galactic()[1], sky.of_ring(b_deg), atol=1e-12)
    # every neighbour is near, and all that are near enough are there or outside
    near = sky.neighbours().numpy()
    vectors = np.array(healpy.pix2vec(16, sky.nest, nest=True)).T
    for i in (0, 17, len(sky) - 1):
        there = near[i][near[i] < len(sky)]
        assert there[0] == i and (np.degrees(np.arccos(np.clip(vectors[there] @ vectors[i], -1, 1))) < 8).all()
    # the margin: all pixels within four degrees, and none beyond three pixels, 5.2 degrees from corner to corner
    _, b_wide = healpy.pix2ang(16, sky.wide, nest=True, lonlat=True)
    _, every = healpy.pix2ang(16, np.arange(len(values)), nest=True, lonlat=True)
    assert set(np.flatnonzero(np.abs(every) > 26)) <= set(sky.wide.tolist()) and np.abs(b_wide).min() > 30 - 3 * 5.2


def test_pixel_counts_without_scatter_against_the_exact_recursion():
    """Numbers of pixels with k counts, over many skies: sums of independent Bernoulli variables."""
    simulator, skies, k_max = sky_of(8), 400, 25
    rng, generator = np.random.default_rng(1), torch.Generator().manual_seed(1)
    photons = torch.from_numpy(np.stack([simulator.photons(THETA, rng) for _ in range(skies)]))
    theta = torch.from_numpy(THETA).expand(skies, -1)
    counts = simulator._data(photons, theta, generator)["counts"].numpy().astype(int)
    found = np.bincount(counts.ravel().clip(max=k_max + 1), minlength=k_max + 2)[:-1]

    def pulls(level: float) -> np.ndarray:
        p = torch.tensor([level, *THETA[1:4]], dtype=torch.float64)
        t = torch.linspace(np.log(LAW.faintest), np.log(LAW.brightest), 4001, dtype=torch.float64)
        weight = LAW.log_density(t, p).exp().numpy() * float(t[1] - t[0])
        weight[[0, -1]] /= 2
        each = stats.poisson.pmf(np.arange(k_max + 1)[:, None], np.exp(t.numpy())) @ weight
        rate = float(LAW.number(p)) * simulator.sky.pixel_sr
        expected = exact.pixel_counts(np.array([rate]), each, 1.5)[0]
        pixels = counts.size
        return (found - pixels * expected) / np.sqrt(pixels * expected * (1 - expected))

    bound = stats.norm.isf(1e-3 / (2 * (k_max + 1)))
    assert np.abs(pulls(2.0)).max() < bound
    assert np.abs(pulls(2.1)).max() > bound


@pytest.mark.parametrize("psf", [Gaussian(1.5), King(0.8, 2.5)])
def test_photons_scatter_as_the_profile_says(psf):
    """Distances of photons from their source, on fine pixels, against the inverse distribution; also at the pole."""
    simulator = sky_of(16, psf=psf)
    simulator.sky.nside = 512  # pixels of 0.1 degrees measure distances
    for lonlat in ((30.0, 60.0), (0.0, 90.0)):
        pixel = healpy.ang2pix(512, *lonlat, nest=True, lonlat=True)
        middle = (pixel << 2 * FINE) + (3 << 2 * FINE >> 2)
        found = simulator._scattered(np.array([middle]), np.array([40_000]), np.random.default_rng(0))
        there = np.array(healpy.pix2vec(512, found, nest=True))
        distance = np.degrees(np.arccos(np.clip(np.array(healpy.pix2vec(512, pixel, nest=True)) @ there, -1, 1)))
        for share in (0.7, 0.4, 0.15):
            radius = float(psf.radius_deg(torch.tensor(share, dtype=torch.float64)))
            # binomial scatter, and the density at the rim times half a pixel
            slope = abs(float(psf.radius_deg(torch.tensor(share * 1.01, dtype=torch.float64))) - radius) / (
                0.01 * share
            )
            assert abs((distance > radius).mean() - share) < 5 * 0.5 / 200 + 0.06 / slope


def test_all_photons_are_kept_where_a_margin_replaces_what_leaks_out():
    """The mean number of photons is flux times solid angle, whatever the scatter; without a margin it is less."""
    p = torch.from_numpy(THETA[:4])
    rng = np.random.default_rng(3)
    means = {}
    for margin in (0.0, 8.0):
        simulator = sky_of(16, psf=Gaussian(2.0), margin_deg=margin)
        totals = np.array([simulator.photons(THETA, rng).sum() for _ in range(250)])
        expected = float(LAW.expected_flux(p)) * len(simulator.sky) * simulator.sky.pixel_sr
        means[margin] = ((totals.mean() - expected) / (totals.std() / 250**0.5), totals.mean() / expected)
    assert abs(means[8.0][0]) < 5 and means[0.0][0] < -5


def test_sources_follow_exposure_and_density():
    nside = 8
    _, b_deg = healpy.pix2ang(nside, np.arange(12 * nside**2), lonlat=True)
    north = b_deg > 0
    simulator = sky_of(nside, exposure=np.where(north, 3.0, 1.0), density=np.where(north, 1.0, 4.0))
    rng = np.random.default_rng(0)
    mean = np.mean([simulator.photons(THETA, rng) for _ in range(300)], axis=0)
    up = simulator.sky.galactic()[1] > 0
    # three times the exposure, a quarter of the sources
    assert mean[up].sum() / mean[~up].sum() == pytest.approx(0.75, rel=0.05)
    flux = float(LAW.expected_flux(torch.from_numpy(THETA[:4]))) * len(simulator.sky) * simulator.sky.pixel_sr
    assert mean.sum() == pytest.approx(flux * (1.5 * 0.4 + 0.5 * 1.6) / 2, rel=0.05)


def test_noise_of_templates_is_redrawn_on_request_and_derived_values_follow():
    theta = np.repeat(THETA[None], 2, axis=0)
    for redraw in (False, True):
        simulator = sky_of(8, redraw_noise=redraw, sources_at=(1.0, 5.0))
        stored = {k: torch.from_numpy(v) for k, v in simulator.simulate(theta, np.random.default_rng(0)).items()}
        x = [simulator.observe(stored, torch.from_numpy(theta), torch.Generator().manual_seed(s)) for s in (0, 1)]
        assert torch.equal(x[0]["counts"], x[1]["counts"]) is not redraw and simulator.redraws_noise is redraw
    # at the pivot it is the level itself
    assert float(simulator.derive(torch.from_numpy(theta))[derived_name(5.0)][0]) == pytest.approx(2.0)


@pytest.fixture
def files(tmp_path):
    """Counts, exposure and one template of a sky with a bright plane, as FITS files and as arrays."""
    _, b_deg = healpy.pix2ang(8, np.arange(768), lonlat=True)
    counts = np.random.default_rng(0).poisson(5 + 50 * np.exp(-np.abs(b_deg) / 10)).astype(float)
    maps = {"counts": counts, "exposure": np.full(768, 8e10), "isotropic": np.ones(768)}
    for name, values in maps.items():
        np.save(tmp_path / f"{name}.npy", values)
        healpy.write_map(tmp_path / f"{name}.fits", values, coord="G", dtype=np.float64)
    return tmp_path, maps


def test_reader_brings_all_to_ring_and_says_what_it_assumed(files):
    folder, maps = files
    nested = healpy.reorder(maps["counts"], r2n=True)
    healpy.write_map(folder / "nested.fits", nested, nest=True, coord="G", dtype=np.float64)
    read = read_observation(folder / "nested.fits", folder / "exposure.npy", {"isotropic": folder / "isotropic.fits"})
    np.testing.assert_array_equal(read.counts, maps["counts"])
    assert any("exposure.npy: RING, Galactic" in line for line in read.assumed)
    assert not any("nested.fits" in line for line in read.assumed)
    coarse = read.at(4)
    assert coarse.counts.sum() == maps["counts"].sum() and coarse.exposure.mean() == pytest.approx(8e10)
    assert coarse.templates["isotropic"].mean() == pytest.approx(4.0)


def test_reader_refuses_what_is_not_what_it_should_be(files):
    folder, maps = files

    def read(counts="counts.npy", exposure="exposure.npy", template="isotropic.npy"):
        return read_observation(folder / counts, folder / exposure, {"isotropic": folder / template})

    healpy.write_map(folder / "celestial.fits", maps["counts"], coord="C", dtype=np.float64)
    np.save(folder / "nested.npy", healpy.reorder(maps["counts"], r2n=True))
    np.save(folder / "smooth.npy", maps["counts"] + 0.4)
    np.save(folder / "m2.npy", maps["exposure"] / 1e4)
    np.save(folder / "coarse.npy", np.ones(192))
    np.save(folder / "negative.npy", -np.ones(768))
    np.save(folder / "image.npy", np.ones((10, 10)))
    for arguments, message in (
        ({"counts": "celestial.fits"}, "rotate it to Galactic"),
        ({"counts": "nested.npy"}, "probably not in RING order"),
        ({"counts": "smooth.npy"}, "whole numbers"),
        ({"exposure": "m2.npy"}, "no exposure in cm"),
        ({"template": "coarse.npy"}, "one nside first"),
        ({"template": "negative.npy"}, "negative or not finite"),
        ({"template": "image.npy"}, "no HEALPix map"),
    ):
        with pytest.raises(ValueError, match=message):
            read(**arguments)


def test_bands_of_a_power_law():
    # photon index 2: flux between a and b goes as 1/a - 1/b
    assert fermi.band_ratio(2.0, (2.0, 20.0)) == pytest.approx((1 / 2 - 1 / 20) / (1 - 1 / 100))
    assert fermi.band_ratio(2.7, (1.0, 100.0)) == pytest.approx(1.0)


@pytest.mark.skipif("TMNRE_DATA" not in os.environ, reason="TMNRE_DATA is not set")
def test_4fgl_counts_at_high_latitudes():
    """4FGL-DR3 at |b| > 30, per steradian above 1e-10, 3e-10, 1e-9 and 1e-8 cm^-2 s^-1: 370, 150, 47 and 4.0."""
    sky = Sky(latitude_mask(128, 30.0))
    path = Path(os.environ["TMNRE_DATA"]) / "popsources" / "4fgl_dr3_reduced.fits"
    found = fermi.read_4fgl(path, sky, (2.0, 20.0))
    area = len(sky) * sky.pixel_sr
    above = [(found.flux_1_100 > flux).sum() / area for flux in (1e-10, 3e-10, 1e-9, 1e-8)]
    # the last digit given, and a source or two in pixels cut by the edge
    np.testing.assert_allclose(above, [370, 150, 47, 4.0], rtol=0.02)
