"""The search for a subhalo: bins, filters against the dense formula, the network's start, verdicts on mocks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from tmnre.descent import train_network
from tmnre_lensing.camera import Camera
from tmnre_lensing.recipes.subhalo import Haloes, Recognition, Settings, build
from tmnre_lensing.subhalo import filters, targeted, verdict
from tmnre_lensing.subhalo.bins import NO_MASS
from tmnre_lensing.subhalo.network import cross_entropy
from tmnre_lensing.subhalo.occupancy import OccupancyNet, Several

SETTINGS = Settings(
    camera=Camera(pixels=16, pixel_arcsec=0.3, noise_e_per_s=0.3, psf_fwhm_arcsec=0.3),
    haloes=Haloes(log10_m200=(9.0, 10.5), mass_bins=3),
    recognition=Recognition(widths=(8, 16)),
)


@pytest.fixture(scope="module")
def work():
    return build(SETTINGS)


@pytest.fixture(scope="module")
def region(work):
    """A box about the truth, three standard deviations of each parameter alone to either side, free of correlations."""
    simulator, truth = work.simulator, work.analysis.truth
    theta = np.array([[truth[name] for name in simulator.prior.names]])
    theta[0, -1] = NO_MASS
    free = simulator.prior.names[:14]
    step = 1e-4 * np.diff([simulator.prior[name].support for name in free])[:, 0]
    shifted = np.repeat(theta, 14, axis=0)
    shifted[:, :14] += np.diag(step)
    images = simulator.whitened(simulator.images(torch.from_numpy(np.concatenate([theta, shifted])))).numpy()
    sd = step / np.linalg.norm(images[1:] - images[0], axis=1)
    drawn = np.repeat(theta, 3000, axis=0)
    drawn[:, :14] += 3 * sd * np.random.default_rng(0).uniform(-1, 1, (3000, 14))
    return drawn


@pytest.fixture(scope="module")
def network(work, region):
    return work.new_network(region)


def test_bins_and_their_centres_are_inverse(work):
    bins = work.bins
    np.testing.assert_array_equal(bins.number(bins.at_centres()), 1 + np.arange(len(bins) - 1))
    drawn = bins.draw(20_000, np.random.default_rng(0))
    number = bins.number(drawn)
    assert number.min() == 0 and number.max() < len(bins)
    assert abs((number == 0).mean() - bins.p_none) < 5 * 0.5 / np.sqrt(20_000)
    assert float(bins.log_prior.exp().sum()) == pytest.approx(1, abs=1e-5)
    # the middle of a bin is what maps show at its place
    one = torch.zeros(1, len(bins))
    k = 1 + (2 * 16 + 5) * 16 + 7
    one[0, k] = 1.0
    assert bins.maps(one)[0, 2, 5, 7] == 1 and bins.at_centres()[k - 1] == pytest.approx([-0.15, -0.75, 10.25])


def test_filters_are_the_dense_formula(work, region, network):
    """s^T C^-1 (d - mu) and s^T C^-1 s with the full covariance matrix 1 + J Sigma J^T of the region's images."""
    simulator = work.simulator
    images = simulator.whitened(torch.from_numpy(simulator.simulate(region[:2000], None)["image"])).double()
    cleaning = filters.Cleaning(images.float())
    few = work.bins.at_centres()[300:330]
    signals = filters.signals(simulator, region.mean(0, keepdims=True), few)
    bank = filters.Filters(signals, cleaning)
    mean = images.mean(0)
    covariance = torch.eye(len(mean), dtype=torch.float64) + (images - mean).T @ (images - mean) / len(images)
    d = images[:5] + torch.randn(5, len(mean), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    solved = torch.linalg.solve(covariance, signals.double().T)
    power = (signals.double() * solved.T).sum(1)
    # 1e-9 of the region's power is left out
    torch.testing.assert_close(bank.squared_snr.double(), power, rtol=1e-3, atol=1e-3)
    expected = (d - mean) @ solved
    scale = float(power.sqrt().max())
    torch.testing.assert_close(bank((d - mean).float()).double(), expected, rtol=0, atol=2e-3 * scale)


def test_the_network_starts_from_the_linear_answer_and_is_normalised(work, region, network):
    theta, images = targeted.simulate(work.simulator, region, work.bins, 8, np.random.default_rng(1))
    x = {"image": torch.from_numpy(images)}
    with torch.no_grad():
        log_r, logits = network.log_ratio(x), network(x)
        residual = work.simulator.whitened(x["image"]) - network.cleaning.mean
        linear = network.filters(residual) - 0.5 * network.filters.squared_snr
    torch.testing.assert_close(logits[:, 1:], linear, rtol=1e-4, atol=1e-3)
    assert not logits[:, 0].any()
    total = verdict.posterior(log_r, work.bins).sum(1)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-5, atol=0)
    # the Bayes factor from posterior and prior odds
    p = verdict.posterior(log_r, work.bins)
    odds = (1 - p[:, 0]) / p[:, 0] * work.bins.p_none / (1 - work.bins.p_none)
    log10 = verdict.log10_bayes_factor(log_r, work.bins)
    seen = odds < 1e10
    torch.testing.assert_close(log10[seen], torch.log10(odds[seen]), rtol=1e-3, atol=1e-3)


def test_a_heavy_subhalo_is_found_where_it_is_and_none_where_there_is_none(work, region, network):
    n = 200
    rng = np.random.default_rng(2)
    theta = region[rng.integers(len(region), size=n)]
    theta[:, -3:] = [-0.9, 0.9, 10.3]
    theta[: n // 2, -1] = NO_MASS
    clean = torch.from_numpy(work.simulator.simulate(theta, rng)["image"])
    noisy = work.simulator.noise.add(clean, torch.Generator().manual_seed(3))
    with torch.no_grad():
        log_r = network.log_ratio({"image": noisy})
    log10 = verdict.log10_bayes_factor(log_r, work.bins).numpy()
    # without a subhalo P(B > 10) < 1 / 10 for any data (Markov's inequality on the Bayes factor)
    assert (log10[: n // 2] > 1).mean() < 0.1 + 3 * np.sqrt(0.09 / 100)
    snr = float(torch.sqrt(work.bins.maps(network.filters.squared_snr[None])[0, -1].max()))
    assert snr > 8 and (log10[n // 2 :] > 1).mean() > 0.9
    found = [verdict.verdict(row, work.bins) for row in log_r[n // 2 :]]
    x, y = np.array([f["position_mean_arcsec"] for f in found]).T
    assert np.abs(np.median(x) + 0.9) < 0.15 and np.abs(np.median(y) - 0.9) < 0.15  # half a pixel


def test_training_improves_on_the_linear_answer_and_sensitivity_follows_the_arcs(work, region, network):
    theta, images = targeted.simulate(work.simulator, region, work.bins, 1500, np.random.default_rng(4))
    source = targeted.Targeted(work.simulator, work.bins, theta, images)
    again = work.new_network(region)
    how = replace(work.recognition.training, accelerator="cpu", threads=1)
    curve = train_network(again, cross_entropy, source, how, steps=60, seed=0, say=lambda _: None)
    assert min(p["validation"] for p in curve) <= curve[0]["validation"]
    assert all(torch.isfinite(p).all() for p in again.parameters())
    lightest = verdict.sensitivity(network.filters, work.bins)
    x, y = np.meshgrid(*[(np.arange(16) - 7.5) * 0.3] * 2)
    r = np.hypot(x, y)
    near, far = (np.where(np.isnan(lightest), 11.0, lightest)[part] for part in (abs(r - 1.4) < 0.3, r > 2.6))
    assert near.min() < far.min() and near.mean() < far.mean()


def test_a_coarser_map_sees_sums_of_pixels(work, region, network):
    """Two image pixels along a pixel of the map: a quarter of the bins, and the cleaned image summed in blocks."""
    coarse = build(replace(SETTINGS, haloes=replace(SETTINGS.haloes, map_pixels=2)))
    assert coarse.bins.grid.shape == (8, 8) and coarse.bins.grid.extent_arcsec == work.bins.grid.extent_arcsec
    assert len(coarse.bins) - 1 == (len(work.bins) - 1) // 4
    again = coarse.new_network(region)
    _, images = targeted.simulate(work.simulator, region, coarse.bins, 4, np.random.default_rng(1))
    with torch.no_grad():
        fine, maps = (n._inputs(torch.from_numpy(images))[0] for n in (network, again))
        log_r = again.log_ratio({"image": torch.from_numpy(images)})
    assert maps.shape == (4, 1 + 3, 8, 8)
    expected = fine[:, 0].unflatten(1, (8, 2)).unflatten(3, (8, 2)).sum((2, 4)) / 2
    torch.testing.assert_close(maps[:, 0], expected, rtol=1e-4, atol=1e-4)
    total = verdict.posterior(log_r, coarse.bins).sum(1)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-5, atol=0)


@pytest.mark.parametrize("map_pixels", [0, 3])
def test_map_pixels_that_do_not_fill_the_image_are_refused(map_pixels):
    with pytest.raises(ValueError, match="haloes.map_pixels must divide camera.pixels, 16"):
        build(replace(SETTINGS, haloes=replace(SETTINGS.haloes, map_pixels=map_pixels)))


def test_reliability_counts():
    p, there = np.array([0.05, 0.05, 0.95, 1.0]), np.array([False, True, True, True])
    low, high = verdict.reliability(p, there)
    assert low == {"mocks": 2, "probability": pytest.approx(0.05), "share": 0.5}
    assert high["mocks"] == 2 and high["share"] == 1.0


SEVERAL = replace(
    SETTINGS,
    truth=replace(SETTINGS.truth, others=((0.9, 0.9, 10.2),)),
    haloes=replace(SETTINGS.haloes, most=3, p_none=0.2, window_arcsec=1.5),
)


@pytest.fixture(scope="module")
def several():
    return build(SEVERAL)


@pytest.fixture(scope="module")
def wide_region(region):
    """The region, with two more subhaloes that are none."""
    return np.concatenate([region, np.zeros((len(region), 6))], axis=1)


@pytest.fixture(scope="module")
def occupancy(several, wide_region):
    return several.new_network(wide_region)


def test_several_subhaloes_are_each_there_or_not(several):
    bins, names = several.bins, several.simulator.prior.names
    drawn = bins.draw(20_000, np.random.default_rng(0))
    assert drawn.shape == (20_000, 3, 3)
    number = (bins.number(drawn) > 0).sum(1)
    # independent of each other: a binomial number
    for k, p in enumerate(stats.binom(3, 1 - 0.2 ** (1 / 3)).pmf(range(4))):
        assert abs((number == k).mean() - p) < 5 * np.sqrt(p * (1 - p) / 20_000)
    assert bins.p_occupied * (len(bins) - 1) == pytest.approx(number.mean(), rel=0.05)
    assert names[-6:] == targeted.names(3)[3:] and names[-6] == "subhalo2_x_arcsec"
    truth = several.analysis.truth
    assert [truth[name] for name in names[-6:]] == [0.9, 0.9, 10.2, 0.0, 0.0, NO_MASS]


def test_more_subhaloes_than_the_lens_may_hold_are_refused():
    with pytest.raises(ValueError, match="truth.others holds 1 further subhaloes, haloes.most is 1; it has to be 2"):
        build(replace(SEVERAL, haloes=replace(SEVERAL.haloes, most=1)))


def test_two_subhaloes_are_found_one_after_the_other_and_none_where_there_is_none(several, wide_region, occupancy):
    n = 100
    theta = wide_region[:n].copy()
    theta[n // 2 :, -9:-3] = [-0.9, 0.9, 9.8, 0.9, 0.9, 10.2]  # each of some ten sigma
    clean = torch.from_numpy(several.simulator.simulate(theta, None)["image"])
    noisy = several.simulator.noise.add(clean, torch.Generator().manual_seed(3))
    with torch.no_grad():
        log_r = several.reading.log_ratio(occupancy, {"image": noisy})
    found = [several.reading.verdict(row, several.bins) for row in log_r]
    likely = np.array([[c["probability"] > 0.5 for c in f["candidates"]].count(True) for f in found])
    # without a subhalo: as for one, for each of three
    assert (likely[: n // 2] > 0).mean() < 3 * 0.1 + 3 * np.sqrt(0.21 / 50)
    assert (likely[n // 2 :] >= 2).mean() > 0.9
    places = np.array([sorted(c["position_mean_arcsec"] for c in f["candidates"][:2]) for f in found[n // 2 :]])
    assert np.abs(np.median(places, axis=0) - [[-0.9, 0.9], [0.9, 0.9]]).max() < 0.15  # half a pixel


def test_of_one_subhalo_occupancy_starts_from_the_one_classifier(work, region, network):
    _, images = targeted.simulate(work.simulator, region, work.bins, 8, np.random.default_rng(1))
    x = {"image": torch.from_numpy(images)}
    bank = (network.cleaning, network.filters)
    alone = OccupancyNet(work.simulator, work.bins, *bank, x["image"], (8, 16)).eval()
    r = torch.randn(3, len(network.cleaning.mean), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network.cleaning.undo(network.cleaning.solve(r)), r, rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        p = torch.sigmoid(alone(x)).double()
        expected = verdict.posterior(network.log_ratio(x), work.bins)[:, 1:]
    # within what is believed of the start
    torch.testing.assert_close(p, expected, rtol=1e-3, atol=3e-9)
    found = Several(1.5).verdict(torch.log(p[-1]) - np.log(work.bins.p_occupied), work.bins)
    assert found["expected_subhaloes"] == pytest.approx(float(expected[-1].sum()), rel=1e-3, abs=1e-4)
