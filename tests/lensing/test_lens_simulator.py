"""The image simulator: flux, symmetry, convergence of the ray grid, noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special

from tmnre_lensing.simulator import PRIOR, Camera, LensSimulator


def image(theta: dict[str, float], camera: Camera) -> np.ndarray:
    row = [[theta.get(name, 0.0) for name in PRIOR.names]]
    return LensSimulator(camera).simulate(np.array(row), np.random.default_rng(0))["image"][0]


def test_an_unlensed_source_has_the_flux_of_a_sersic_profile():
    """Total of a round Sersic profile (Graham & Driver 2005, eq. 4): 2 pi n I_e r_e^2 e^b b^(-2n) Gamma(2n)."""
    n, r_eff, brightness = 1.0, 0.3, 80.0
    # the midpoint rule sees the cusp of the profile: four rays a pixel leave (h / r_eff)^2 b / 12, h the ray spacing
    camera = Camera(oversampling=4, source_e_per_s_arcsec2=brightness)
    b = special.gammaincinv(2 * n, 0.5)
    expected = 2 * np.pi * n * brightness * r_eff**2 * np.exp(b) * b ** (-2 * n) * special.gamma(2 * n)
    found = image({"source_r_eff_arcsec": r_eff}, camera).sum()
    tolerance = b / 12 * (camera.pixel_arcsec / camera.oversampling / r_eff) ** 2
    # of an exponential disc, (1 + b R) exp(-b R) lies outside R effective radii; the field's corners are left out
    reach = b * camera.pixels * camera.pixel_arcsec / 2 / r_eff
    outside = (1 + reach) * np.exp(-reach)
    assert found == pytest.approx(expected, rel=tolerance + outside)


def test_a_centred_source_behind_a_sphere_makes_a_ring_at_the_einstein_radius():
    """On the ring's inside and outside the source radius | r - theta_e | is the same, so the ring is symmetric in r."""
    camera = Camera(psf_fwhm_arcsec=0.02, pixel_arcsec=0.05, pixels=80, oversampling=3)
    ring = image({"theta_e_arcsec": 1.2, "source_r_eff_arcsec": 0.2}, camera)
    axis = (np.arange(80) - 39.5) * 0.05
    r = np.hypot(axis, axis[:, None])
    # the profile is symmetric about theta_e and light is weighted by r: <r> = theta_e + <(r - theta_e)^2> / theta_e,
    # with variance 2 / b^2 r_eff^2 of a two-sided exponential, which ends at r = 0 (e^-10 of the peak)
    b = special.gammaincinv(2.0, 0.5)
    inside = r < 1.95
    expected = 1.2 + 2 * (0.2 / b) ** 2 / 1.2
    # the field's edge cuts the symmetric profile at 0.75 arcsec from theta_e, b 0.75 / 0.2 = 6.3 e-foldings
    found = (ring * r)[inside].sum() / ring[inside].sum()
    assert found == pytest.approx(expected, abs=np.exp(-6.3) * 0.75 + 0.001)


def test_turning_lens_shear_and_source_turns_the_image():
    theta = dict(theta_e_arcsec=1.4, e1=0.1, e2=0.15, gamma1=0.04, gamma2=-0.03, source_r_eff_arcsec=0.3)
    theta |= {"source_x_arcsec": 0.1, "source_y_arcsec": -0.05}
    # a quarter turn counter-clockwise: spin-2 components change sign, (x, y) becomes (-y, x)
    turned = {name: -value if name[:-1] in ("e", "gamma") else value for name, value in theta.items()}
    turned |= {"source_x_arcsec": 0.05, "source_y_arcsec": 0.1}
    # rows grow upwards, so counter-clockwise on the sky is np.rot90 with axes (x, y) = (1, 0)
    expected = np.rot90(image(theta, Camera()), axes=(1, 0))
    np.testing.assert_allclose(image(turned, Camera()), expected, rtol=0, atol=1e-4)


def test_the_preset_resolves_its_sources():
    """What the setting `oversampling` promises: half of the noise in the worst pixel of the smallest source."""
    theta = PRIOR.sample(30, np.random.default_rng(1))
    theta[:, PRIOR.names.index("source_r_eff_arcsec")] = 0.1
    coarse, fine = (
        LensSimulator(Camera(oversampling=n)).simulate(theta, np.random.default_rng(0))["image"] for n in (2, 10)
    )
    assert np.abs(coarse - fine).max() < 0.5 * Camera().noise_e_per_s


def test_rows_are_independent_and_noise_has_the_stated_width():
    simulator = LensSimulator()
    theta = PRIOR.sample(40, np.random.default_rng(2))
    stored = simulator.simulate(theta, np.random.default_rng(0))["image"]
    alone = simulator.simulate(theta[17:18], np.random.default_rng(0))["image"]
    np.testing.assert_allclose(stored[17:18], alone, rtol=1e-5, atol=1e-5)
    clean = {"image": torch.from_numpy(stored)}
    first, second = (
        simulator.observe(clean, torch.from_numpy(theta), torch.Generator().manual_seed(seed))["image"]
        for seed in (0, 1)
    )
    noise = (first - clean["image"]) / simulator.camera.noise_e_per_s
    count = noise.numel()
    assert abs(float(noise.var()) - 1) < 5 * np.sqrt(2 / count)
    correlation = float((noise * (second - clean["image"])).mean()) / simulator.camera.noise_e_per_s
    assert abs(correlation) < 5 / np.sqrt(count)
