"""Detections on a HEALPix sky: what a network may know, what it is trained on, what is found and what it is worth."""

from __future__ import annotations

import healpy
import numpy as np
import pytest
import torch
from scipy import stats

from tmnre import Prior, Training, Uniform
from tmnre.descent import train_network
from tmnre_popsources.detection import Threshold, detection_loss
from tmnre_popsources.fluxes import BrokenPowerLaw
from tmnre_popsources.psf import Gaussian
from tmnre_popsources.sky import Sky, latitude_mask
from tmnre_popsources.sky_detection import REACH, Skies, SkyDetectionNet, find, prior_probability, read
from tmnre_popsources.sky_simulator import FINE, SkySimulator
from tmnre_popsources.sky_trials import trials
from tmnre_popsources.surroundings import Surroundings

NSIDE, SMOOTH, PSF_DEG = 16, 12.0, 0.7
LAW = BrokenPowerLaw(breaks=1, pivot=40.0, faintest=5.0, brightest=3000.0)
PRIOR = Prior(
    log10_level=Uniform(2, 4), n1=Uniform(1, 4), n2=Uniform(-1, 3), log10_break1=Uniform(0, 2), smooth=Uniform(0, 2)
)
THETA = np.array([2.7, 2.2, 1.8, 1.5, 1.0])
THRESHOLD = Threshold(flux=40.0, log_r1=1.5, probability=0.5, ladder=4)
SKY = Sky(latitude_mask(NSIDE, 37.0), 4.0)
NEAR = Surroundings(SKY)


def simulator_of(psf=Gaussian(PSF_DEG), density=None) -> SkySimulator:  # noqa: B008 - frozen
    templates = {"smooth": np.full(len(SKY), SMOOTH)}
    exposure = np.full(12 * NSIDE**2, 5.0)
    return SkySimulator(*(SKY, PRIOR), law=LAW, exposure=exposure, templates=templates, psf=psf, density=density)


SIMULATOR = simulator_of()


def theta_of(n: int, seed: int) -> np.ndarray:
    """A little spread about one population, as a posterior's."""
    return THETA * (1 + 0.02 * np.random.default_rng(seed).standard_normal((n, len(THETA))))


def network_of(before: torch.Tensor) -> SkyDetectionNet:
    torch.manual_seed(0)
    return SkyDetectionNet(NEAR, before, diffuse=torch.full((len(SKY),), SMOOTH), exposure=torch.ones(len(SKY)))


def photons_alone(simulator: SkySimulator, theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`SkySimulator.photons` as it was before sources were kept."""
    p = simulator.split(torch.from_numpy(theta)[None])[0][0].float()
    number = rng.poisson(float(simulator.law.number(p)) * simulator.solid_angle_sr)
    log_flux = simulator.law.log_flux(torch.from_numpy(rng.random(number, dtype=np.float32)), p).numpy()
    where = simulator._where(number, rng)
    photons = rng.poisson(np.exp(log_flux) * simulator.relative_exposure[where >> 2 * simulator.levels])
    seen = photons > 0
    where, photons = where[seen], photons[seen]
    coarse = where >> 2 * simulator.levels
    if simulator.psf is None:
        place, weights = SKY.place[SKY.wide[coarse]], photons
    else:
        pixel = (SKY.wide[coarse] << 2 * simulator.levels) + (where & (4**simulator.levels - 1))
        within = 2 * (FINE - simulator.levels)
        fine = (pixel << within) + rng.integers(1 << within, size=len(pixel))
        place, weights = SKY.place[simulator._scattered(fine, photons, rng)], None
    on = place >= 0
    return np.bincount(place[on], None if weights is None else weights[on], minlength=len(SKY)).astype(np.float32)


@pytest.mark.parametrize("psf", [Gaussian(PSF_DEG), None])
@pytest.mark.parametrize("density", [None, np.ones(12 * (4 * NSIDE) ** 2)])
def test_photons_are_what_they_were_and_come_with_their_sources(psf, density):
    simulator = simulator_of(psf, density)
    rng, other = np.random.default_rng(5), np.random.default_rng(5)
    photons, at, log_flux = simulator.drawn(THETA, rng)
    np.testing.assert_array_equal(photons, photons_alone(simulator, THETA, other))
    assert rng.random() == other.random()
    assert np.isin(at >> 2 * FINE, SKY.wide).all()
    # without scatter photons are where their sources are: Poisson about the sum of their fluxes
    if psf is None:
        place = SKY.place[at >> 2 * FINE]
        expected = np.bincount(place[place >= 0], np.exp(log_flux)[place >= 0], minlength=len(SKY))
        # chi^2 of many Poisson pixels about the mean they should have
        pulls = (photons - expected)[expected > 20] / np.sqrt(expected[expected > 20])
        assert abs((pulls**2).sum() - len(pulls)) < 5 * np.sqrt(2 * len(pulls)) and len(pulls) > 50


def turned(values: torch.Tensor, *, south: bool) -> torch.Tensor:
    """Maps (..., P) of the sky a quarter turn about the poles further east, or with north and south exchanged."""
    l_deg, b_deg = SKY.galactic()
    there = (l_deg, -b_deg) if south else ((l_deg - 90) % 360, b_deg)
    return values[..., SKY.place[healpy.ang2pix(NSIDE, *there, nest=True, lonlat=True)]]


@pytest.mark.parametrize("south", [False, True])
def test_network_turns_with_the_sky(south):
    """HEALPix is the same after a quarter turn and from south to north, so that outputs are, whatever the weights."""
    network = network_of(torch.tensor([0.1, 0.05, 0.02, 0.01]))
    counts = torch.poisson(torch.full((1, len(SKY)), SMOOTH), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, maps = network({"counts": counts})
        logits_there, maps_there = network({"counts": turned(counts, south=south)})
    if south:
        maps = maps.clone()
        maps[:, 0] *= -1  # of the offset to the north
    torch.testing.assert_close(logits_there, turned(logits, south=south), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(maps_there, turned(maps, south=south), rtol=1e-4, atol=1e-4)
    assert (logits.diff(dim=1) <= 0).all() and maps[:, 3:].min() > 0


def test_network_sees_three_rings_and_the_level_of_diffuse_emission_about_them():
    """One ring in its inputs, two in its messages; of the level what a clipped pixel changes, less further out."""
    network = network_of(torch.tensor([0.1, 0.05, 0.02, 0.01]))
    counts = torch.full((2, len(SKY)), SMOOTH)
    counts[1, 700] += 100
    with torch.no_grad():
        logits, _ = network({"counts": counts})
    change = (logits[1] - logits[0]).abs().amax(0)
    rings, seen = torch.tensor([700]), []
    for _ in range(REACH + 2):
        rings = NEAR.around[rings].unique()
        rings = rings[rings < len(SKY)]
        seen.append(set(rings.tolist()))
    changed = set(change.nonzero()[:, 0].tolist())
    assert seen[2] <= changed <= seen[-1]
    far = [i for i in changed if i not in seen[2]]
    assert far and change[far].max() < 0.1 * change[list(seen[0])].max()


def test_truth_against_a_search():
    skies = Skies(SIMULATOR, theta_of(3, 0), THRESHOLD.log_fluxes)
    _, sources = skies.draw(torch.arange(3), torch.Generator().manual_seed(1))
    truth = skies.truth(sources, 3)
    for row, place in np.random.default_rng(2).integers(0, (3, len(SKY)), (80, 2)):
        inside = (sources.row == row) & (sources.place == place)
        best = sources.log_flux[inside].max() if inside.any() else torch.tensor(-torch.inf)
        assert truth.present[row, :, place].tolist() == [float(best >= f) for f in skies.log_fluxes]
        near = (sources.row == row) & torch.isin(sources.place, NEAR.around[place])
        assert bool(truth.near[row, place]) == bool(near.any())
        if near.any():
            brightest = torch.where(near, sources.log_flux, -torch.inf).argmax()
            measured = truth.measured[row, :, place]
            assert measured[2] == sources.log_flux[brightest]
            there = NEAR.vectors(torch.tensor(place), measured[:2])
            # one part in 2^24 of a pixel or so, in float32
            torch.testing.assert_close(there, sources.vector[brightest], rtol=0, atol=1e-7)


def test_the_priors_probability_is_the_frequency_of_what_is_trained_on():
    theta = np.repeat(THETA[None], 60, axis=0)
    before = prior_probability(SIMULATOR, theta, THRESHOLD.log_fluxes)
    # a power law: N(> F) = level / F^2 dF integrated by hand, above the break
    level, n = 10**2.7, 2.2
    break_, top = 10**1.5, LAW.brightest
    above = level / 40.0 * ((np.array([40.0, 80, 160]) / 40) ** (1 - n) - (top / 40) ** (1 - n)) / (n - 1)
    assert break_ < 40
    np.testing.assert_allclose(before[1:], 1 - np.exp(-above * SKY.pixel_sr), rtol=1e-5)
    skies = Skies(SIMULATOR, theta, THRESHOLD.log_fluxes)
    _, truth = skies.batch(torch.arange(60), torch.Generator().manual_seed(0))
    n, found = 60 * len(SKY), truth.present.sum((0, 2)).double()
    assert ((found - n * before).abs() < 4 * (n * before * (1 - before)).sqrt()).all()
    with pytest.raises(ValueError, match="spread evenly"):
        prior_probability(simulator_of(density=np.ones(12 * NSIDE**2)), theta, THRESHOLD.log_fluxes)


def test_one_detection_for_pixels_that_touch():
    chance = torch.full((2, 4, len(SKY)), 1e-4)
    ratio = torch.full((2, 4, len(SKY)), -3.0)
    corner = int(NEAR.around[700, 2])
    for row, place, p in (
        (0, 700, 0.4), (0, corner, 0.35),  # one source, over a corner
        (0, 100, 0.45),  # too improbable
        (1, 100, 0.9),  # of another sky
    ):  # fmt: skip
        chance[row, :, place], ratio[row, :, place] = p, 2.0
    maps = torch.zeros(2, 6, len(SKY))
    maps[:, 0], maps[:, 2], maps[:, 3:] = 0.5, 4.0, 0.1
    found = find(ratio, chance, maps, NEAR, THRESHOLD)
    assert sorted(zip(found.row.tolist(), found.peak.tolist(), strict=True)) == [(0, 700), (1, 100)]
    first = found.row.tolist().index(0)
    assert float(found.probability[first]) == pytest.approx(0.75)
    l_deg, b_deg = (q[700] for q in SKY.galactic())
    # half a pixel north, in the plane that touches at the pixel's centre
    assert float(found.b_deg[first]) == pytest.approx(b_deg + 0.5 * NEAR.pixel_deg, abs=0.01)
    assert float(found.l_deg[first]) == pytest.approx(l_deg, abs=1e-6)
    assert float(found.sd_b_deg[first]) == pytest.approx(0.1 * NEAR.pixel_deg)
    none = find(torch.full_like(ratio, -3.0), chance, maps, NEAR, THRESHOLD)
    assert len(none.row) == 0


@pytest.fixture(scope="module")
def trained():
    theta = theta_of(600, 3)
    before = prior_probability(SIMULATOR, theta, THRESHOLD.log_fluxes)
    network = network_of(before)
    skies = Skies(SIMULATOR, theta, THRESHOLD.log_fluxes)
    train_network(
        network, detection_loss, skies, Training(batch_size=2, learning_rate=1e-2, threads=1), steps=300, seed=0
    )
    return network, before


def test_bright_isolated_sources_are_found_where_they_are(trained):
    network, before = trained
    rng = np.random.default_rng(0)
    counts = rng.poisson(SMOOTH, len(SKY))
    l_deg, b_deg = np.arange(10.0, 360, 40), np.array([75.0, -45, 60, -65, 45, -80, 43, -50, 55])
    flux = np.geomspace(150, 1500, 9)
    at = healpy.ang2pix(NSIDE << FINE, l_deg, b_deg, nest=True, lonlat=True)
    hit = SKY.place[SIMULATOR._scattered(at, rng.poisson(flux), rng)]
    counts = counts + np.bincount(hit[hit >= 0], minlength=len(SKY))
    found = find(*read(network, torch.from_numpy(counts).float()[None], before), NEAR, THRESHOLD)
    vectors = healpy.ang2vec(found.l_deg.numpy(), found.b_deg.numpy(), lonlat=True)
    apart = np.degrees(np.arccos((vectors @ healpy.ang2vec(l_deg, b_deg, lonlat=True).T).clip(-1, 1)))
    which = apart.argmin(1)
    assert sorted(which) == list(range(9))
    sd = np.hypot(found.sd_l_deg, found.sd_b_deg).numpy()
    # five standard deviations as the network says them, and these are small against a pixel of 3.7 degrees
    assert (apart.min(1) < 5 * sd).all() and np.median(sd) < 1.5
    assert (np.abs(found.log_flux.numpy() - np.log(flux[which])) < 5 * found.sd_log_flux.numpy()).all()
    assert found.sd_log_flux.max() < 0.4


def test_smooth_emission_alone_gives_none(trained):
    network, before = trained
    counts = torch.poisson(torch.full((10, len(SKY)), SMOOTH), generator=torch.Generator().manual_seed(4))
    assert len(find(*read(network, counts, before), NEAR, THRESHOLD).row) == 0


class Surer(torch.nn.Module):
    """A network that is surer of sources than another, by a factor of two in their odds."""

    def __init__(self, network: SkyDetectionNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x):
        logits, maps = self.network(x)
        return logits + np.log(2.0), maps


def test_probabilities_hold_on_skies_held_out(trained):
    network, before = trained
    skies = Skies(SIMULATOR, theta_of(60, 9), THRESHOLD.log_fluxes)
    tried, surer = (
        trials(one, skies, before, THRESHOLD, least_deg=NEAR.pixel_deg / 2, seed=5) for one in (network, Surer(network))
    )

    def chi2(reliability: torch.Tensor) -> tuple[float, float]:
        """Of the bins with pixels enough, and what it exceeds once in ten thousand times."""
        n, said, there = reliability[reliability[:, 0] > 50].T
        pulls = (there - said) * (n / (said * (1 - said))).sqrt()
        return float(pulls.square().sum()), stats.chi2.isf(1e-4, len(pulls))

    found, most = chi2(tried.reliability)
    assert found < most, tried.reliability
    found, most = chi2(surer.reliability)
    assert found > most
    real = tried.pulls[tried.real]
    # of 2000 pulls or so a standard deviation is known to 0.02; the Gaussian is the network's, not the truth's
    assert len(real) > 500 and ((real.std(0) - 1).abs() < 0.2).all() and (real.mean(0).abs() < 0.2).all()
    record = tried.record(np.log([20.0, 40, 80, 160, 3000]), 0.0)
    shares = [one["share"] for one in record["completeness"]]
    assert shares == sorted(shares) and shares[0] < 0.2 and shares[-1] > 0.9
    assert record["purity"][-1]["share"] > 0.9
    assert sum(one["number"] for one in record["completeness"]) == len(tried.log_flux)
