"""The mock like JVAS B1938+666: what is published of it, and how far its subhalo is expected to stand out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tmnre import settings as typed
from tmnre_lensing.recipes.b1938 import Settings, recipe
from tmnre_lensing.recipes.subhalo import simulator_of
from tmnre_lensing.subhalo.bins import NO_MASS

SETTINGS = Settings()


def theta_of(simulator) -> torch.Tensor:
    return torch.tensor([[getattr(SETTINGS.truth, name) for name in simulator.prior.names]], dtype=torch.float64)


def expected_snr(settings: Settings) -> float:
    """Signal-to-noise ratio of the subhalo's change to the image, in what no change of lens and source can mimic.

    To first order: |s - J (J^T J)^-1 J^T s| over the noise, J by central differences of the fourteen parameters.
    """
    simulator = simulator_of(settings)
    theta = theta_of(simulator)
    without = theta.clone()
    without[0, -1] = NO_MASS
    steps = torch.zeros(14, theta.shape[1], dtype=torch.float64)
    steps[:, :14] = torch.diag(1e-4 * theta[0, :14].abs().clamp_min(0.1))
    up, down = (simulator.images(without + sign * steps).flatten(1) for sign in (1, -1))
    q = torch.linalg.qr((up - down).T).Q
    s = (simulator.images(theta) - simulator.images(without)).flatten()
    return float((s - q @ (q.T @ s)).norm()) / settings.camera.noise_e_per_s


def test_the_mock_is_as_published():
    """Vegetti et al. (2012): redshifts, Einstein radius, pixels, and (1.9 +- 0.1) x 10^8 Msun."""
    truth, haloes = SETTINGS.truth, SETTINGS.haloes
    assert (haloes.z_lens, haloes.z_source, truth.lens_theta_e_arcsec) == (0.881, 2.059, 0.45)
    assert SETTINGS.camera.pixel_arcsec == 0.01 and abs(10**truth.subhalo_log10_m200 - 1.9e8) < 0.1e8
    # next to the ring, less than the width of the point spread function away
    r = np.hypot(truth.subhalo_x_arcsec - truth.lens_x_arcsec, truth.subhalo_y_arcsec - truth.lens_y_arcsec)
    assert abs(r - truth.lens_theta_e_arcsec) < SETTINGS.camera.psf_fwhm_arcsec


def test_truth_lies_in_the_prior_and_in_a_bin():
    simulator = simulator_of(SETTINGS)
    for (low, high), value in zip((d.support for d in simulator.prior.values()), theta_of(simulator)[0], strict=True):
        assert low < value < high
    bins = recipe.build(SETTINGS).bins
    assert bins.grid.shape == (30, 30) and bins.number(theta_of(simulator)[:, -3:].numpy())[0] > 0


def test_a_ray_a_pixel_is_enough_and_the_peak_is_twenty_times_the_noise():
    coarse, fine = (
        (simulator := simulator_of(replace(SETTINGS, camera=replace(SETTINGS.camera, oversampling=n)))).images(
            theta_of(simulator)
        )
        for n in (1, 4)
    )
    assert float((coarse - fine).abs().max()) < 0.5 * SETTINGS.camera.noise_e_per_s
    assert float(fine.max()) / SETTINGS.camera.noise_e_per_s == pytest.approx(20, rel=0.05)


def test_the_subhalo_is_expected_at_ten_sigma_and_at_four_with_the_usual_concentration():
    usual = replace(SETTINGS, haloes=replace(SETTINGS.haloes, concentration=15.0))
    assert expected_snr(SETTINGS) == pytest.approx(10, abs=0.5)
    assert expected_snr(usual) == pytest.approx(4, abs=0.5)


@pytest.mark.parametrize("preset", ["gpu", "smoke"])
def test_presets_build(preset):
    settings = typed.parse(recipe, preset=preset)
    work = recipe.build(settings)
    assert work.image.shape == (settings.camera.pixels,) * 2
    assert settings.recognition.training.accelerator == ("gpu" if preset == "gpu" else "auto")
