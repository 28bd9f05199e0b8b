"""The exact step: its likelihood against the direct sum, its sampler against a Gaussian with known evidence."""

from functools import partial

import numpy as np
import pytest
import torch
from bilby.core.prior import Cosine, PowerLaw, Sine, Uniform
from scipy.special import ive
from scipy.stats import chisquare, multivariate_normal
from tqdm import tqdm

import tmnre
from tmnre.region import Box
from tmnre.result import MarginalPosterior
from tmnre.rows import InMemory
from tmnre_gw import exact, moves, tempering
from tmnre_gw.band import Band, Whitening
from tmnre_gw.bilby_side import split_priors
from tmnre_gw.detectors import Network
from tmnre_gw.harmonics import AnyPhase, HarmonicLikelihood
from tmnre_gw.histogram import Histogram
from tmnre_gw.injection import noise, sampled, whitened_signal
from tmnre_gw.kernels import Kernels
from tmnre_gw.likelihood import Likelihood
from tmnre_gw.moves import Moves
from tmnre_gw.simulator import BinaryBlackHole
from tmnre_gw.tempering import Sampler, Sampling

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
    assert likelihood.agree(quick) and torch.equal(quick["h"], exact["h"])
    atol = 1e-5 * float(exact["inner"].max())
    torch.testing.assert_close(quick["inner"].double(), exact["inner"], rtol=0, atol=atol)
    theta[:, column] = 20.1  # the band begins at 20
    assert not likelihood.agree(likelihood.waveforms(theta))


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


class _Gaussian:
    """A simulator and likelihood whose posterior is a Gaussian in u: two parameters need a waveform, two do not."""

    prior = tmnre.Prior({name: tmnre.Uniform(0, 1) for name in "abcd"})
    redrawn, derived, constraints, fixed = ("c", "d"), ("sum",), {}, {}
    slow, fast, marginal_phase, draws_phase = ("a", "b"), ("c", "d"), False, False
    mean = np.array([0.4, 0.5, 0.6, 0.5])
    covariance = 0.02**2 * (0.3 * np.eye(4) + 0.7)

    @property
    def simulator(self):
        return self

    def derive(self, theta, stored=None):
        return {} if stored is None else {"sum": theta.sum(1)}

    def derived_of(self, stored, theta):
        return self.derive(theta, stored)

    def waveforms(self, theta, pool=None):
        return {"h": torch.from_numpy(theta[:, :2].copy()), "inner": torch.zeros(len(theta), 1)}

    def inner(self, h):
        return torch.zeros(len(h), 1)

    def agree(self, stored):
        return True

    def __call__(self, stored, theta):
        # the waveform has to be that of the parameters
        x = np.concatenate([stored["h"].numpy(), theta.numpy()[:, 2:]], axis=1)
        return multivariate_normal.logpdf(x, self.mean, self.covariance)

    def with_phase(self, stored, theta, rng):
        return theta, self(stored, theta)

    def mirrored(self, stored):
        h = stored["h"].clone()
        h[:, 1] = np.pi - h[:, 1]
        return {**stored, "h": h}


class _Mirrored(_Gaussian):
    """The same, of an orientation: with a second mode, its mirror image, that is a third as high."""

    prior = tmnre.Prior(
        a=tmnre.Uniform(0, 1), theta_jn=tmnre.Sine(), psi=tmnre.Uniform(0, np.pi), d=tmnre.Uniform(0, 1)
    )
    redrawn, slow, fast = ("psi", "d"), ("a", "theta_jn"), ("psi", "d")
    mean = np.array([0.4, 0.8, 0.7, 0.5])

    def __call__(self, stored, theta):
        u = self.prior.to_cube(theta.numpy())
        other = np.where([False, True, True, False], 1 - self.mean, self.mean)
        both = [multivariate_normal.logpdf(u, mean, 0.02**2 * np.eye(4)) for mean in (self.mean, other)]
        return np.logaddexp(np.log(0.75) + both[0], np.log(0.25) + both[1])


class _Distant(_Gaussian):
    """The same, with the last parameter a distance, which is drawn from its conditional."""

    prior = tmnre.Prior({**{name: tmnre.Uniform(0, 1) for name in "abc"}, "luminosity_distance": tmnre.Uniform(1, 5)})
    redrawn, fast = ("c", "luminosity_distance"), ("c", "luminosity_distance")

    def profile(self, stored, theta):
        def log_l(distances):
            u = self.prior.to_cube(theta.numpy())
            near = [u.copy() for _ in range(distances.shape[1])]
            for i, rows in enumerate(near):
                rows[:, 3] = (distances[:, i] - 1) / 4
            return np.stack([multivariate_normal.logpdf(rows, self.mean, self.covariance) for rows in near], axis=1)

        return log_l

    def __call__(self, stored, theta):
        return self.profile(stored, theta)(theta[:, 3:].numpy())[:, 0]


class _Harmonic(_Gaussian):
    """Two harmonics at a distance, the amplitudes of which turn and grow with the one parameter that is slow."""

    prior = tmnre.Prior(
        x=tmnre.Uniform(0, 1), phase=tmnre.Uniform(0, 2 * np.pi), luminosity_distance=tmnre.Uniform(1, 5)
    )
    redrawn, derived, slow, fast = ("luminosity_distance",), (), ("x", "phase"), ("luminosity_distance",)
    orders, data = np.array([1, 2]), np.array([3.0 + 1.0j, 4.0j])

    def derive(self, theta, stored=None):
        return {}

    def _columns(self, theta):
        return {name: theta[:, i] for i, name in enumerate(self.prior.names)}

    def waveforms(self, theta, pool=None):
        return {"h": torch.from_numpy(theta[:, :1].copy()), "inner": torch.zeros(len(theta), 1)}

    def any_phase(self, stored, theta):
        x, distance = stored["h"][:, 0].numpy(), theta[:, 2].numpy()
        s = np.stack([8 * np.exp(2j * x), 12 * np.exp(4j * x**2)], axis=1) / distance[:, None]
        square = np.abs(s) ** 2
        return AnyPhase(self.orders, s.conj() * self.data, square[:, :, None] * np.eye(2), distance)

    def profile(self, stored, theta):
        return self.any_phase(stored, theta).at(theta[:, 1].numpy())

    def __call__(self, stored, theta):
        return self.profile(stored, theta)(theta[:, 2:].numpy())[:, 0]


class _AnyPhase(_Harmonic):
    """The same, the phase among the fast parameters."""

    slow, fast, draws_phase = ("x",), ("luminosity_distance", "phase"), True


class _Turned(_Gaussian):
    """A phase that may be anything with a polarisation that goes with it, the way round that the orientation tells."""

    prior = tmnre.Prior(
        phase=tmnre.Uniform(0, 2 * np.pi), theta_jn=tmnre.Sine(), psi=tmnre.Uniform(0, np.pi), d=tmnre.Uniform(0, 1)
    )
    redrawn, slow, fast = ("psi", "d"), ("phase", "theta_jn"), ("psi", "d")
    mean = np.full(4, 0.5)

    def straight(self, theta):
        u = self.prior.to_cube(theta)
        v = (u[:, 2] + 2 * np.sign(np.cos(theta[:, 1])) * u[:, 0]) % 1.0
        return np.stack([v, u[:, 1], u[:, 3]], axis=1)

    def __call__(self, stored, theta):
        return multivariate_normal.logpdf(self.straight(theta.numpy()), [0.4, 0.5, 0.5], 0.02**2 * np.eye(3))


def _sampled(region, seed=0, gaussian=None, simulations=4000, run=None, harmonic=None, **effort):
    rng = np.random.default_rng(seed)
    gaussian = gaussian or _Gaussian()
    u = region.sample(simulations, rng)
    rows = InMemory({k: v.numpy() for k, v in gaussian.waveforms(gaussian.prior.from_cube(u)).items()})
    # marginals as they may be learned: off by half a standard deviation, and too wide by half
    learned = {
        name: MarginalPosterior((name,), rng.normal(m + 0.01, 0.03, (4000, 1)).clip(0, 1), np.zeros(4000))
        for name, m in zip("abcd", gaussian.mean, strict=True)
        if name in gaussian.prior
    }
    effort = {"sweeps": 4, "final_sweeps": 48, "draws_per_waveform": 4, **effort}
    how = Sampling(particles=800, fast_moves=2, **effort)
    quiet = partial(tqdm, disable=True)
    return Sampler(gaussian, region, learned, how, rng, harmonic=harmonic).run(u, rows, quiet, **(run or {}))


@pytest.mark.parametrize(
    ("gaussian", "tries", "near"),
    [
        (_Gaussian(), 1, False),
        (_Gaussian(), 8, False),
        (_Gaussian(), 8, True),
        (_Distant(), 4, False),
        (_Distant(), 4, True),
    ],
)
def test_draws_and_evidence_of_a_known_gaussian(gaussian, tries, near, monkeypatch):
    """near: every step keeps the parameters that need no waveform near."""
    if near:
        monkeypatch.setattr(moves, "LEAST", 0.0)
        monkeypatch.setattr(moves, "_repeated", lambda log_w: 0.0)
    region = Box({name: (0.3, 0.8) for name in gaussian.prior.names})
    draws = _sampled(region, gaussian=gaussian, tries=tries)
    n = draws.record["effective_samples"]
    assert 400 < n <= 800
    sd, u = 0.02, gaussian.prior.to_cube(draws.theta)
    np.testing.assert_allclose(u.mean(0), gaussian.mean, atol=5 * sd / n**0.5)
    # the relative error of a variance is sqrt(2 / n)
    np.testing.assert_allclose(np.cov(u.T), gaussian.covariance, atol=5 * sd**2 * (2 / n) ** 0.5)
    # the likelihood is a density in u, all of it inside the region
    assert abs(draws.log_evidence) < 4 * max(draws.record["log_evidence_sd"], 0.05)
    assert draws.record["at_walls"] == {} and draws.record["waveforms"] > 0


@pytest.mark.parametrize("near", [False, True])
def test_a_polarisation_goes_with_the_phase(near, monkeypatch):
    if near:
        monkeypatch.setattr(moves, "LEAST", 0.0)
        monkeypatch.setattr(moves, "_repeated", lambda log_w: 0.0)
    turned = _Turned()
    draws = _sampled(Box({name: (0.0, 1.0) for name in turned.prior.names}), gaussian=turned, tries=8)
    n = draws.record["effective_samples"]
    assert n > 400
    straight, phase = turned.straight(draws.theta), draws.theta[:, 0]
    np.testing.assert_allclose(straight.mean(0), [0.4, 0.5, 0.5], atol=5 * 0.02 / n**0.5)
    np.testing.assert_allclose(straight.std(0), 0.02, rtol=5 * (0.5 / n) ** 0.5)
    # nothing is known of the phase
    assert np.abs(np.mean(np.exp(1j * np.outer(phase, [1, 2])), axis=0)).max() < 5 * (0.5 / n) ** 0.5
    assert abs(draws.log_evidence) < 4 * max(draws.record["log_evidence_sd"], 0.05)


@pytest.mark.parametrize("harmonic", [None, _AnyPhase()])
def test_harmonics_at_any_phase_and_distance(harmonic):
    """Against sums over a grid; the likelihood in the prior's mean is the evidence."""
    case = _Harmonic()
    draws = _sampled(Box({n: (0.0, 1.0) for n in case.prior.names}), gaussian=case, harmonic=harmonic, tries=8)
    middles = (np.arange(60) + 0.5) / 60
    grid = torch.from_numpy(case.prior.from_cube(np.stack(np.meshgrid(*[middles] * 3), axis=-1).reshape(-1, 3)))
    log_l = case(case.waveforms(grid.numpy()), grid)
    log_evidence = np.logaddexp.reduce(log_l) - np.log(len(log_l))
    assert abs(draws.log_evidence - log_evidence) < 4 * max(draws.record["log_evidence_sd"], 0.05)
    w, n = np.exp(log_l - log_l.max()), draws.record["effective_samples"]
    assert n > 400
    for what in (lambda x: x, lambda x: x**2, lambda x: np.exp(1j * x), lambda x: np.exp(2j * x)):
        values = what(grid.numpy())
        mean = (w[:, None] * values).sum(0) / w.sum()
        sd = np.sqrt((w[:, None] * np.abs(values - mean) ** 2).sum(0) / w.sum())
        assert (np.abs(what(draws.theta).mean(0) - mean) < 5 * sd / n**0.5 + 2e-3).all()


@pytest.mark.parametrize("stop", [1, 9, 30])
def test_a_sampler_that_is_stopped_goes_on_as_if_it_had_not_been(stop, tmp_path):
    """Stopped while it cools, before any sweep is kept and after; through the file."""
    region = Box({name: (0.3, 0.8) for name in "abcd"})
    few = {"simulations": 400, "final_sweeps": 24}
    calls = []

    def save(state):
        calls.append(1)
        if len(calls) == stop:
            torch.save(state(), tmp_path / "state.pt")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _sampled(region, run={"save": save}, **few)
    whole = _sampled(region, **few)
    begun = torch.load(tmp_path / "state.pt", weights_only=True)
    rest = _sampled(region, run={"begun": begun, "save": lambda _: calls.append(1)}, **few)
    np.testing.assert_array_equal(rest.theta, whole.theta)
    np.testing.assert_array_equal(rest.log_l, whole.log_l)
    assert rest.log_evidence == whole.log_evidence and rest.record == whole.record


def test_a_state_is_kept_once_a_minute_and_removed_at_the_end(tmp_path, monkeypatch):
    path, said = tmp_path / "exact-unfinished.pt", []
    unfinished = exact.Unfinished(path, "this region")
    assert unfinished.found(said.append) is None and not said
    unfinished.keep(lambda: {"a": torch.ones(1)})
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(exact, "EVERY_S", 0)
    unfinished.keep(lambda: {"a": torch.ones(2)})
    assert unfinished.found(said.append)["a"].tolist() == [1.0, 1.0] and "goes on" in said[0]
    assert exact.Unfinished(path, "another").found(said.append) is None and "begins anew" in said[1]
    path.write_bytes(path.read_bytes()[:100])
    assert unfinished.found(said.append) is None and "begins anew" in said[2]
    unfinished.remove()
    assert not list(tmp_path.iterdir())


def test_few_seeds_are_moved_until_they_have_come_apart(monkeypatch):
    """Four hundred waveforms, few of them near the posterior, begin eight hundred particles: copies, which weights
    count as independent.  (Of fifty waveforms neither evidence nor error could be trusted, whatever the moves.)"""
    region = Box({name: (0.3, 0.8) for name in "abcd"})
    few = {"simulations": 400, "draws_per_waveform": 10, "sweeps": 6, "final_sweeps": 12}
    patient = _sampled(region, **few)
    monkeypatch.setattr(tempering, "PATIENCE", 0)
    monkeypatch.setattr(Moves, "sweep", lambda *_: None)
    copies = _sampled(region, **few)
    assert copies.record["effective_samples"] < 50 < 160 <= patient.record["effective_samples"]
    for draws in (patient, copies):
        assert draws.record["log_evidence_sd"] > 400**-0.5
        assert abs(draws.log_evidence) < 4 * draws.record["log_evidence_sd"]


def test_a_bound_on_a_derived_quantity_cuts_the_evidence_in_half():
    half = float(_Gaussian.mean.sum())
    draws = _sampled(Box({name: (0.3, 0.8) for name in "abcd"}, {"sum": (-np.inf, half)}))
    assert (draws.derived["sum"] <= half).all()
    assert draws.log_evidence == pytest.approx(np.log(0.5), abs=4 * max(draws.record["log_evidence_sd"], 0.05))


def test_a_region_that_cuts_the_posterior_is_noticed():
    draws = _sampled(Box({"a": (0.4, 0.8), **{name: (0.3, 0.8) for name in "bcd"}}))
    # half of the posterior is gone, the rest is at the wall
    assert set(draws.record["at_walls"]) == {"a"} and draws.record["at_walls"]["a"] > 0.1
    assert exact.nothing_cut(-3.0) == [] and "100% of the prior is left" in exact.nothing_cut(-2e-5)[0]
    (told,) = exact.at_edges({**draws.record["at_walls"], "b": 0.004})
    assert told.startswith("a: ") and "of the exact posterior lies next to an edge of the last region" in told


def test_with_a_fixed_azimuth_nothing_is_looked_at_from_behind():
    """The waveforms of pi - theta_jn are other ones then, which have to be made."""
    likelihood, region = _Mirrored(), Box({name: (0.0, 1.0) for name in ("a", "theta_jn", "psi", "d")})
    how = {"tries": 1, "fast_moves": 1}
    assert Moves(likelihood, region, {}, np.random.default_rng(0), **how).mirrored
    likelihood.fixed = {"phi_jl": 0.3}
    assert not Moves(likelihood, region, {}, np.random.default_rng(0), **how).mirrored


def test_both_orientations_get_their_share():
    region = Box({"a": (0.3, 0.8), "theta_jn": (0.0, 1.0), "psi": (0.0, 1.0), "d": (0.3, 0.8)})
    draws = _sampled(region, gaussian=_Mirrored())
    share = (draws.theta[:, 1] < np.pi / 2).mean()
    # of as many draws as particles were moved
    assert share == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 800) ** 0.5)
    assert draws.record["acceptance"]["mirror"] > 0.2
