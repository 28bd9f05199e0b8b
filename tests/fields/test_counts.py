"""Galaxy counts: the Poisson model against scipy, the spectrum against integrals in three dimensions, bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from astropy.io import fits
from scipy import integrate, stats

from tmnre_fields import matter, spectrum
from tmnre_fields.fits import read_image
from tmnre_fields.forward import FieldModel
from tmnre_fields.network import InformationNet
from tmnre_fields.recipes.lss import Settings, Survey, build, density_moments, survey_model

SMALL = Survey(pixels=12, hidden=0.25)
SHAPE = {"sigma8": 0.8, "gamma": 0.17, "index": 0.965}


@pytest.fixture(scope="module")
def model() -> FieldModel:
    return survey_model(SMALL)


def rate(model: FieldModel, z: torch.Tensor) -> np.ndarray:
    """Mean counts in the observed cells, written out anew; float64."""
    g = np.fft.irfft2(z[:, 0].numpy().astype(complex), s=(12, 12), norm="ortho")
    share = 0.3 ** np.linspace(0, 1, 12)[:, None] * np.ones(12)
    sigma2 = float(spectrum.variance(model.power()[0, 0]))
    return (5.0 * share * np.exp(g - sigma2 / 2))[:, model.mask[0].numpy()]


def test_log_likelihood_is_that_of_scipy(model):
    """Differences between fields, where log x! drops out; float32 sums of 100 terms below 100 are good to 1e-3."""
    generator = torch.Generator().manual_seed(0)
    z = model.draw(5, generator)
    x = model.observe(model.signal(z), generator)[0]
    expected = stats.poisson.logpmf(x[0][model.mask[0]].numpy(), rate(model, z)).sum(1)
    found = model.log_likelihood(x, z).numpy()
    np.testing.assert_allclose(found - found[0], expected - expected[0], atol=1e-3)
    assert np.ptp(expected) > 1


def test_counts_are_poisson_and_nothing_is_seen_behind_the_mask(model):
    """Pearson's sum of (x - rate)^2 / rate over n draws: mean 1, variance (2 + 1 / rate) / n a cell."""
    generator, n = torch.Generator().manual_seed(1), 4000
    z = model.draw(1, generator)
    x = model.observe(model.signal(z).expand(n, -1, -1, -1), generator)
    assert bool((x[:, ~model.mask] == 0).all()) and bool((x == x.round()).all())
    expected = rate(model, z)[0]
    counts = x[:, model.mask].numpy()
    pearson = ((counts - expected) ** 2 / expected).mean(0)
    error = np.sqrt((2 + 1 / expected) / n)
    assert np.all(np.abs(pearson - 1) < 5 * error)
    assert np.all(np.abs(counts.mean(0) - expected) < 5 * np.sqrt(expected / n))
    # whole distribution, in the cell with most galaxies: chi-squared of the counts expected at least five times
    k = np.arange(200)
    often = n * stats.poisson.pmf(k, expected.max())
    kept = often > 5
    found = np.bincount(counts[:, expected.argmax()].astype(int), minlength=200)[:200]
    assert (
        stats.chisquare(
            np.append(found[kept], n - found[kept].sum()), np.append(often[kept], n - often[kept].sum())
        ).pvalue
        > 1e-4
    )
    # the test has power: half again as much scatter, as of clustered galaxies, is found
    assert np.abs(1.5 * pearson - 1).max() > 5 * error.max()


def test_density_has_mean_one(model):
    """E exp(g - sigma^2 / 2) = 1, and the moments of a log-normal from those of its logarithm."""
    z = model.draw(4000, torch.Generator().manual_seed(2))
    means = model.signal(z).mean((1, 2, 3)).numpy()
    assert abs(means.mean() - 1) < 5 * means.std() / np.sqrt(len(means))
    mean, sd = density_moments(np.array([0.4]), np.array([0.5]), 0.3)
    expected = stats.lognorm(s=0.5, scale=np.exp(0.4 - 0.15))
    np.testing.assert_allclose([mean[0], sd[0]], [expected.mean(), expected.std()], rtol=1e-12)


def test_power_has_its_sigma8():
    """Rms in spheres of 8 Mpc/h, integrated by scipy in k."""

    def integrand(log_k: float) -> float:
        k = np.exp(log_k)
        ball = 3 * (np.sin(8 * k) - 8 * k * np.cos(8 * k)) / (8 * k) ** 3
        return float(k**3 * matter.power(np.array(k), **SHAPE) * ball**2 / (2 * np.pi**2))

    found, error = integrate.quad(integrand, np.log(1e-4), np.log(20), limit=500)
    assert error < 1e-5
    # beyond k = 20 h/Mpc lie 1e-5 of it, below 1e-4 less
    assert found == pytest.approx(0.8**2, rel=1e-4)


def test_transfer_has_its_limits():
    """T -> 1 - 2.34 q / 2 - 3.89 q / 4 for small q, log(2.34 q) / (2.34 q 6.71 q) for large ones (Bardeen et al.)."""
    assert matter.transfer(np.array(1e-5)) == pytest.approx(1 - (2.34 / 2 + 3.89 / 4) * 1e-5, abs=1e-7)
    q = 1e4
    assert matter.transfer(np.array(q)) == pytest.approx(np.log(2.34 * q) / (2.34 * 6.71 * q**2), rel=1e-3)


def test_slab_power_is_the_average_along_the_line_of_sight():
    """One mode by adaptive integration; and a very thick slab, where P_2 = P(k) / D away from the axis."""
    n, side = 8, 10.0
    window = np.sinc(1 / n) ** 2 * np.sinc(2 / n) ** 2
    k = 2 * np.pi / (n * side) * np.hypot(1, 2)

    def found(thickness: float) -> float:
        power = matter.slab_power(n, pixel_mpc_per_h=side, thickness_mpc_per_h=thickness, **SHAPE)
        return float(power[1, 2]) / window * side**2

    def integrand(q: float) -> float:
        return float(matter.power(np.hypot(k, q), **SHAPE) * np.sinc(q * 20 / (2 * np.pi)) ** 2 / np.pi)

    expected = sum(integrate.quad(integrand, low, high)[0] for low, high in ((0, 0.3), (0.3, 1), (1, 5)))
    assert found(20.0) == pytest.approx(expected, rel=1e-4)
    # P changes over the width 1 / D of the window by a share of order 1 / (k D) = 1e-3
    assert found(5000.0) == pytest.approx(float(matter.power(np.array(k), **SHAPE)) / 5000, rel=5e-3)


def test_the_line_knows_the_exposure():
    """Where counts are many, pseudo-data are g at any selection."""
    survey = replace(SMALL, nbar=1e6)
    model, generator = survey_model(survey), torch.Generator().manual_seed(3)
    z = model.draw(200, generator)
    x = model.observe(model.signal(z), generator)
    net = InformationNet(model, z, x)
    error = (net.line(net._calibrated(x)) - model.response.sky.fields(z))[:, model.mask]
    # the logarithm of at least 1e6 0.3 exp(-4) counts scatters by 1.4e-2 at most; the selection's is up to 1.2 off
    assert float(error.abs().max()) < 5e-2


def settings(tmp_path, counts: np.ndarray, **survey) -> Settings:
    np.save(tmp_path / "counts.npy", counts)
    return Settings(survey=replace(SMALL, **survey), counts=str(tmp_path / "counts.npy"))


def test_counts_and_selection_from_files(tmp_path):
    """What is hidden may hold anything; FITS and numpy files read alike."""
    counts = np.random.default_rng(4).poisson(4.0, (12, 12)).astype(float)
    share = np.ones((12, 12))
    share[3:5] = 0
    fits.PrimaryHDU(share).writeto(tmp_path / "selection.fits")
    counts[3:5] = np.nan
    procedure = build(settings(tmp_path, counts, selection=str(tmp_path / "selection.fits")))
    assert procedure.truth is None
    np.testing.assert_array_equal(procedure.x[0].numpy(), np.nan_to_num(counts))
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(counts)]).writeto(tmp_path / "counts.fits")
    np.testing.assert_array_equal(read_image(tmp_path / "counts.fits", 12), counts.astype(np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c - 3, "counts must not be negative, got -3"),
        (lambda c: c + 0.5, "whole numbers"),
        (lambda c: c * np.nan, "must be finite"),
        (lambda c: c[:, :11], r"image of shape \(12, 12\), got \(12, 11\)"),
        (lambda c: c[None], r"got \(1, 12, 12\)"),
    ],
)
def test_bad_counts(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        build(settings(tmp_path, change(np.zeros((12, 12)))))


def test_bad_files_and_settings(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.npy is not there"):
        build(Settings(counts=str(tmp_path / "nowhere.npy")))
    (tmp_path / "text.fits").write_text("no image")
    with pytest.raises(ValueError, match="neither FITS nor .npy"):
        read_image(tmp_path / "text.fits", 12)
    np.save(tmp_path / "selection.npy", np.full((12, 12), 1.5))
    with pytest.raises(ValueError, match="must be from 0 to 1"):
        survey_model(replace(SMALL, selection=str(tmp_path / "selection.npy")))
    with pytest.raises(ValueError, match="survey.nbar must be positive, got 0"):
        Survey(nbar=0)
    with pytest.raises(ValueError, match="survey.hidden"):
        Survey(hidden=1.0)


def test_exposure_must_be_positive_where_there_are_data(model):
    with pytest.raises(ValueError, match="exposure must be positive"):
        replace(model, mask=None)
    with pytest.raises(ValueError, match=r"data must have shape \(1, 12, 12\)"):
        model.checked(torch.zeros(12, 12))
