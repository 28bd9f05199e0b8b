"""The field simulator against its input spectrum, log-normal moments, and the dense Gaussian likelihood."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from tmnre_fields import spectrum
from tmnre_fields.simulator import FieldSimulator, Grid


def fields(grid: Grid, rms: float, slope: float, n: int, seed: int) -> torch.Tensor:
    theta = np.tile([rms, slope], (n, 1))
    return torch.from_numpy(FieldSimulator(grid).simulate(theta, np.random.default_rng(seed))["z"])


def model(grid: Grid, rms: float, slope: float) -> torch.Tensor:
    arguments = (torch.tensor([value]) for value in (rms, slope))
    return spectrum.power(*arguments, pixels=grid.pixels, knee=grid.knee_cycles_per_box)[0]


def test_power_of_simulated_fields_is_the_input_spectrum():
    """2 sum_k P_found / P over the modes of an annulus is chi-squared with as many degrees as real modes."""
    grid, n = Grid(pixels=32), 400
    z = fields(grid, 0.7, 2.5, n, seed=0)
    # numpy's full transform, not the one that simulated
    found = np.abs(np.fft.fft2(z.numpy().astype(float))) ** 2 / grid.pixels**2
    k = np.hypot(*np.meshgrid(*[np.fft.fftfreq(grid.pixels, 1 / grid.pixels)] * 2))
    shape = (1 + k / grid.knee_cycles_per_box) ** -2.5
    expected = 0.7**2 * grid.pixels**2 * shape / shape.sum()
    statistics = []
    for low, high in ((0, 0.5), (0.5, 3.5), (3.5, 8.5), (8.5, 15.5), (15.5, 23)):
        annulus = (k >= low) & (k < high)
        # the sum over all n^2 modes of a real field counts each of its n^2 real degrees of freedom once
        statistics.append((float((found / expected)[:, annulus].sum()), n * int(annulus.sum())))
    p = [2 * min(stats.chi2.sf(s, d), stats.chi2.cdf(s, d)) for s, d in statistics]
    assert min(p) > 1e-4, p
    # the test has power: it rejects a spectrum 5% off in the richest annulus
    s, d = statistics[-2]
    assert stats.chi2.sf(1.05 * s, d) < 1e-4


def test_moments_are_log_normal():
    """E exp(m z) = exp(m^2 rms^2 / 2); the error of a field's mean follows from the scatter between fields."""
    rms = 0.6
    z = fields(Grid(), rms, 3.0, 600, seed=1).double()
    for m in (1, 2):
        means = torch.exp(m * z).mean((1, 2)).numpy()
        error = means.std(ddof=1) / np.sqrt(len(means))
        assert abs(means.mean() - np.exp(m**2 * rms**2 / 2)) < 5 * error
        assert error < 0.1 * np.exp(m**2 * rms**2 / 2)


@pytest.mark.parametrize("pixels", [6, 7])
def test_whittle_is_the_dense_gaussian_likelihood(pixels):
    """Covariance of a periodic field in pixels: the cosine transform of its power, plus white noise."""
    grid = Grid(pixels=pixels, noise=0.3)
    frequency = np.fft.fftfreq(pixels, 1 / pixels)
    shape = (1 + np.hypot(frequency[:, None], frequency) / grid.knee_cycles_per_box) ** -2.0
    power = 0.8**2 * pixels**2 * shape / shape.sum()
    position = np.stack(np.meshgrid(*[np.arange(pixels)] * 2, indexing="ij"), -1).reshape(-1, 2)
    lag = position[:, None] - position
    covariance = sum(
        power[i, j] * np.cos(2 * np.pi * (lag @ [frequency[i], frequency[j]]) / pixels)
        for i in range(pixels)
        for j in range(pixels)
    ) / pixels**2 + grid.noise**2 * np.eye(pixels**2)
    x = np.random.default_rng(2).normal(size=(pixels, pixels))
    expected = stats.multivariate_normal(cov=covariance).logpdf(x.ravel())
    rms, slope = torch.tensor([0.8]), torch.tensor([2.0])
    found = spectrum.whittle(
        torch.from_numpy(x), rms.double(), slope, pixels=pixels, knee=grid.knee_cycles_per_box, noise=grid.noise
    )
    # rms = 0.8 in float32 would cost 1e-7
    assert float(found) == pytest.approx(expected, abs=1e-5)


def test_annuli_average_every_mode_once():
    k, matrix = spectrum.annuli(16)
    _, index = torch.round(spectrum.wavenumbers(16)).clamp(max=9).unique(return_counts=True)
    assert len(k) == len(index) == 10
    torch.testing.assert_close(matrix.sum(0), torch.ones(10, dtype=torch.float64))
    # a field of one cosine with k = (3, 4), |k| = 5, and mean square 1/2 has all of its power there: n^2 / 2 in total
    rows, columns = np.meshgrid(*[np.arange(16)] * 2, indexing="ij")
    wave = torch.from_numpy(np.cos(2 * np.pi * (3 * rows + 4 * columns) / 16))[None]
    found = (spectrum.measured_power(wave).flatten(1) @ matrix)[0]
    modes = int((np.round(np.hypot(*np.meshgrid(*[np.fft.fftfreq(16, 1 / 16)] * 2))) == 5).sum())
    expected = torch.zeros(10, dtype=torch.float64)
    expected[5] = 16**2 / 2 / modes
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)


def test_noise_is_new_at_every_use_and_has_the_stated_width():
    simulator = FieldSimulator(Grid(pixels=16))
    z = fields(simulator.grid, 0.5, 3.0, 50, seed=3)
    theta = torch.zeros(50, 2)
    first, second = (
        simulator.observe({"z": z}, theta, torch.Generator().manual_seed(s))["x"] - z.exp() for s in (0, 1)
    )
    count, variance = z.numel(), simulator.grid.noise**2
    assert abs(float(first.var()) / variance - 1) < 5 * np.sqrt(2 / count)
    assert abs(float((first * second).mean()) / variance) < 5 / np.sqrt(count)
