"""The exact step's likelihood against the direct sum, its kernels, its harmonics."""

import numpy as np
import pytest
import torch
from bilby.core.prior import Cosine, PowerLaw, Sine, Uniform
from scipy.special import ive
from scipy.stats import chisquare

from tmnre.workers import processes
from tmnre_gw.band import Band, Whitening
from tmnre_gw.bilby_side import split_priors
from tmnre_gw.detectors import Network
from tmnre_gw.harmonics import HarmonicLikelihood
from tmnre_gw.histogram import Histogram
from tmnre_gw.injection import noise, sampled, whitened_signal
from tmnre_gw.kernels import Kernels
from tmnre_gw.likelihood import Likelihood
from tmnre_gw.simulator import BinaryBlackHole

TURN = Uniform(0, 2 * np.pi)
PRIORS = {
    "chirp_mass": Uniform(20, 40),
    "mass_ratio": Uniform(0.3, 1),
    "theta_jn": Sine(),
    "phase": TURN,
    "luminosity_distance": PowerLaw(2, 300, 1000),
    "ra": TURN,
    "dec": Cosine(),
    "psi": Uniform(0, np.pi),
    "time": Uniform(-0.05, 0.05),
}
ALIGNED = {"chi_1": Uniform(-0.5, 0.5), "chi_2": Uniform(-0.5, 0.5)}
PRECESSING = {
    **{f"a_{i}": Uniform(0, 0.9) for i in (1, 2)},
    **{f"tilt_{i}": Sine() for i in (1, 2)},
    **{"phi_12": TURN, "phi_jl": TURN},
}


def _simulator(approximant, detectors=("H1", "L1")):
    spins = ALIGNED if approximant == "IMRPhenomXAS" else PRECESSING
    band = Band(4.0, 20.0, 300.0, 20.0, harmonics=approximant == "IMRPhenomXPHM")
    psd = 1e-46 * ((band.frequencies_hz / 100) ** -4 + 2)
    split = split_priors({**PRIORS, **spins})
    return BinaryBlackHole(
        split.free,
        split.fixed,
        Network.at(detectors, 1126259462.4),
        band,
        Whitening.of(band, np.stack([psd] * len(detectors))),
        approximant=approximant,
        reference_frequency_hz=20.0,
    )


@pytest.fixture(scope="module", params=["IMRPhenomPv2", "IMRPhenomXAS", "IMRPhenomXPHM"])
def case(request):
    """Simulator, data with a signal in it, parameters near that signal and their waveforms."""
    simulator = _simulator(request.param)
    theta = simulator.prior.sample(6, np.random.default_rng(1))
    stored = {k: torch.from_numpy(v) for k, v in simulator.simulate(theta, np.random.default_rng(0)).items()}
    theta = torch.from_numpy(theta)
    signal = simulator.signal(stored, theta)
    data = (signal[0] + torch.from_numpy(noise(tuple(signal.shape[1:]), 3))).to(torch.complex64)
    return simulator, data.numpy(), stored, theta, signal


def test_likelihood_is_the_direct_one(case):
    simulator, data, _, theta, signal = case
    likelihood = Likelihood(simulator, data)
    found = likelihood(likelihood.waveforms(theta.numpy()), theta)
    signal = signal.numpy().astype(complex)
    overlap, square = np.einsum("ndp,dp->n", signal.conj(), data), (np.abs(signal) ** 2).sum((1, 2))
    size = np.abs(overlap)
    direct = size + np.log(ive(0, size)) if simulator.quadrupole else overlap.real
    # a shift in time is interpolated: squared relative error of 1e-5 (see `band`), and single precision
    np.testing.assert_allclose(found, direct - 0.5 * square, atol=1e-5 * square.max() + 1e-3)
    assert likelihood.marginal_phase == simulator.quadrupole
    assert set(likelihood.slow) | set(likelihood.fast) == set(simulator.prior.names) - (
        {"phase"} if simulator.quadrupole else set()
    )


def test_the_phase_is_integrated_out_exactly(case):
    simulator, data, _, theta, _ = case
    if not simulator.quadrupole:
        pytest.skip("the phase is no factor of this waveform")
    likelihood = Likelihood(simulator, data)
    stored = likelihood.waveforms(theta.numpy())
    overlap, square = likelihood.products(stored, theta)
    phases = np.arange(256) * 2 * np.pi / 256  # the trapezoid rule is exact for a periodic analytic function
    each = (overlap.numpy()[:, None] * np.exp(-2j * phases)).real - 0.5 * square.numpy()[:, None]
    mean = np.logaddexp.reduce(each, axis=1) - np.log(256)
    np.testing.assert_allclose(likelihood(stored, theta), mean, atol=1e-6)
    # and a drawn phase has the likelihood that the simulator's own signal at that phase has
    drawn, log_l = likelihood.with_phase(stored, theta, np.random.default_rng(0))
    signal = simulator.signal(stored, drawn).numpy().astype(complex)
    direct = np.einsum("ndp,dp->n", signal.conj(), data).real - 0.5 * (np.abs(signal) ** 2).sum((1, 2))
    np.testing.assert_allclose(log_l, direct, atol=1e-5 * square.max() + 1e-3)


def test_a_profile_is_the_likelihood_at_other_distances(case):
    simulator, data, _, theta, _ = case
    likelihood = Likelihood(simulator, data)
    stored = likelihood.waveforms(theta.numpy())
    distances = np.array([350.0, 600.0, 900.0])
    found = likelihood.profile(stored, theta)(distances[None])
    for i, distance in enumerate(distances):
        moved = theta.clone()
        moved[:, simulator.prior.columns(("luminosity_distance",))] = distance
        np.testing.assert_allclose(found[:, i], likelihood(stored, moved), rtol=1e-6)


def test_inner_products_on_the_nodes_are_exact_but_for_the_lightest():
    simulator = _simulator("IMRPhenomPv2")
    likelihood = Likelihood(simulator, np.zeros((2, len(simulator._triangle[0])), np.complex64))
    theta = simulator.prior.sample(50, np.random.default_rng(0))
    (column,) = simulator.prior.columns(("chirp_mass",))
    theta[:, column] = np.linspace(24, 40, 50)
    exact = likelihood.waveforms(theta)
    likelihood.quadrature = True
    quick = likelihood.waveforms(theta)
    assert likelihood.agree(quick, 1000.0) and torch.equal(quick["h"], exact["h"])
    atol = 1e-5 * float(exact["inner"].max())
    torch.testing.assert_close(quick["inner"].double(), exact["inner"], rtol=0, atol=atol)
    theta[:, column] = 20.1  # the band begins at 20
    light = likelihood.waveforms(theta)
    assert not likelihood.agree(light, 1000.0) and likelihood.agree(light, 10.0)


def test_kernels_draw_what_their_density_says():
    """A circle and a line that follow what is known: shares of cells against the density's integral, which is one."""
    rng = np.random.default_rng(0)
    wraps = np.array([True, False])
    known = rng.normal(0, 1, (500, 1))
    particles = np.stack([rng.normal(0.95, 0.05, 500) % 1.0, rng.normal(0.5, 0.03, 500)], axis=1)
    particles[:, 0] = (particles[:, 0] + 0.1 * known[:, 0]) % 1.0
    particles[:, 1] += 0.03 * known[:, 0]
    rough = [Histogram(0.0, 1.0, np.full(50, 0.02)), Histogram(0.2, 0.6, np.full(50, 0.02))]
    kernels = Kernels.about(particles, known, wraps, rough, rng)
    np.testing.assert_allclose(kernels.slope, [[0.1, 0.03]], atol=0.02)
    low, high = np.array([0.0, 0.2]), np.array([1.0, 0.8])  # all of it is there
    n, m = 8, 400
    middles = low + (high - low) * (np.arange(m) + 0.5)[:, None] / m
    grid = np.stack(np.meshgrid(*middles.T, indexing="ij"), axis=-1).reshape(-1, 2)
    at = np.full((len(grid), 1), 0.7)
    mass = np.exp(kernels.log_density(grid, at)).reshape(n, m // n, n, m // n).sum((1, 3)) * 0.6 / m**2
    assert mass.sum() == pytest.approx(1, abs=2e-3)
    draws = kernels.draw(at[:40_000], rng)
    found = np.histogram2d(*draws.T, bins=n, range=[(0, 1), (0.2, 0.8)])[0]
    some = mass > 1e-4
    assert found[~some].sum() <= 40_000 * mass[~some].sum() + 20
    assert chisquare(found[some], mass[some] / mass[some].sum() * found[some].sum()).pvalue > 1e-3
    # turned by a tenth of the circle they are others
    turned = np.histogram2d((draws[:, 0] + 0.1) % 1.0, draws[:, 1], bins=n, range=[(0, 1), (0.2, 0.8)])[0]
    assert chisquare(turned[some], mass[some] / mass[some].sum() * turned[some].sum()).pvalue < 1e-3


def test_harmonics_are_the_waveform_at_any_phase():
    """lal's whole waveform, ln L and derived quantities of it, from harmonics that were made at phase zero."""
    simulator = _simulator("IMRPhenomXPHM")
    theta = simulator.prior.sample(12, np.random.default_rng(4))
    rows = torch.from_numpy(theta)
    made = {k: torch.from_numpy(v) for k, v in simulator.simulate(theta, np.random.default_rng(0)).items()}
    data = simulator.signal(made, rows)[0].numpy() + noise((2, made["h"].shape[2]), 3)[:, : len(simulator._triangle[0])]
    plain, harmonic = Likelihood(simulator, data), HarmonicLikelihood(simulator, data)
    assert "phase" in plain.slow and "phase" in harmonic.fast and HarmonicLikelihood.serves(simulator)
    stored = harmonic.waveforms(theta)
    orders, phase = torch.from_numpy(harmonic.orders), rows[:, simulator.prior.names.index("phase")]
    for way, agrees in ((1, True), (-1, False)):
        turn = torch.exp(way * 1j * phase[:, None] * orders).to(torch.complex64)
        whole = torch.einsum("nm,nmap->nap", turn, stored["h"].view(12, 4, 2, -1))
        assert bool(((whole - made["h"]).abs() < 1e-4 * made["h"].abs().max()).all()) == agrees
    ours, theirs = harmonic(stored, rows), plain(made, rows)
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())
    for name, values in plain.derived_of(made, rows).items():
        torch.testing.assert_close(harmonic.derived_of(stored, rows)[name], values, rtol=1e-4, atol=1e-4)
    # processes that were started for harmonics make whole waveforms for a likelihood that asks for these
    with processes(1, harmonic.polarisations) as pool:
        for likelihood in (plain, harmonic):
            for name, values in likelihood.waveforms(theta).items():
                assert torch.equal(likelihood.waveforms(theta, pool)[name], values)
    # the highest over distances
    at, phases = harmonic.any_phase(stored, rows), np.linspace(0, 2 * np.pi, 7)
    distances = np.geomspace(1, 1e5, 20_000)[None]
    for k, angle in enumerate(phases):
        profile = at.at(np.full(12, angle))
        found = at.highest(phases, any_distance=True)[:, k]
        np.testing.assert_allclose(found, profile(distances).max(1).clip(0), rtol=1e-3, atol=1e-3)
        found = at.highest(phases, any_distance=False)[:, k]
        np.testing.assert_allclose(found, profile(at.at_mpc[:, None])[:, 0], rtol=1e-9)
    turned = harmonic.mirrored(stored)
    direct = plain.mirrored(made)
    np.testing.assert_allclose(harmonic(turned, rows), plain(direct, rows), atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("approximant", ["IMRPhenomPv2", "IMRPhenomXPHM"])
def test_a_binary_from_behind_has_the_waveforms_of_its_parameters(approximant):
    """lal's of the other parameters, whatever spins and harmonics."""
    simulator = _simulator(approximant)
    prior = simulator.prior
    likelihood = Likelihood(simulator, np.zeros((2, len(simulator._triangle[0])), np.complex64))
    theta = prior.sample(20, np.random.default_rng(2))
    stored = likelihood.waveforms(theta)
    turned = likelihood.mirrored(stored)
    theta_jn, phi_jl = prior.columns(("theta_jn", "phi_jl"))
    theta[:, theta_jn] = np.pi - theta[:, theta_jn]
    theta[:, phi_jl] = (theta[:, phi_jl] + np.pi) % (2 * np.pi)
    made = likelihood.waveforms(theta)
    for name in ("h", "inner"):
        # lal interpolates XPHM between bands, to 1e-3 of a mode's phase
        error = 1e-3 if approximant == "IMRPhenomXPHM" else 1e-5
        scale = float(turned[name].abs().max())
        torch.testing.assert_close(made[name], turned[name].to(made[name].dtype), rtol=0, atol=error * scale)
        assert torch.equal(likelihood.mirrored(turned)[name], stored[name])


def test_an_injection_is_the_simulators_signal(case):
    simulator, _, stored, theta, signal = case
    truth = dict(zip(simulator.prior.names, theta[0].tolist(), strict=True))
    truth["geocent_time"] = truth.pop("time")
    spectrum = whitened_signal(
        truth,
        simulator.network,
        simulator.band,
        simulator.whitening,
        approximant=simulator.waveform.approximant,
        reference_frequency_hz=20.0,
    )
    projected = np.einsum("dfp,df->dp", simulator.whitening.basis, spectrum)
    assert np.linalg.norm(projected - signal[0].numpy()) ** 2 < 1e-5 * np.linalg.norm(spectrum) ** 2
    known = sampled(truth, simulator.network)
    direction = simulator.network.direction_in_frame(
        *(torch.tensor([known[n]]).double() for n in ("zenith", "azimuth"))
    )
    ra, dec = simulator.network.sky(direction, torch.tensor([truth["geocent_time"]], dtype=torch.float64))
    assert (float(ra), float(dec)) == pytest.approx((truth["ra"], truth["dec"]), abs=1e-6)
