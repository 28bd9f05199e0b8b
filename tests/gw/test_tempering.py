"""The exact step's sampler against Gaussians and sums over grids, with known evidence."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from tqdm import tqdm

import tmnre
from tmnre.region import Box
from tmnre.result import MarginalPosterior
from tmnre.rows import InMemory
from tmnre_gw import exact, moves, tempering
from tmnre_gw.harmonics import AnyPhase
from tmnre_gw.moves import Moves
from tmnre_gw.tempering import Sampler, Sampling


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

    def kept(self, stored):
        return stored

    def agree(self, stored, highest):
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


class _Spinning(_Gaussian):
    """A spin of which data know the part along the axis."""

    prior = tmnre.Prior(a_1=tmnre.Uniform(0, 0.9), tilt_1=tmnre.Sine(), c=tmnre.Uniform(0, 1), d=tmnre.Uniform(0, 1))
    slow = ("a_1", "tilt_1")

    def of_spin(self, a, tilt):
        return multivariate_normal.logpdf(a * np.cos(tilt), 0.05, 0.02**2)

    def __call__(self, stored, theta):
        a, tilt, *rest = theta.numpy().T
        near = multivariate_normal.logpdf(np.stack(rest, axis=1), self.mean[2:], 0.02**2 * np.eye(2))
        return self.of_spin(a, tilt) + near


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


def _keep_near(monkeypatch):
    """Every step keeps the parameters that need no waveform near."""
    monkeypatch.setattr(moves, "LEAST", 0.0)
    monkeypatch.setattr(moves, "_repeated", lambda log_w: 0.0)


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
        _keep_near(monkeypatch)
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
        _keep_near(monkeypatch)
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


@pytest.mark.parametrize("near", [False, True])
def test_spins_move_along_what_data_know_and_keep_their_prior(near, monkeypatch):
    """Against sums over a grid of length and tilt; steps along the parts of a spin are no steps of the prior's."""
    if near:
        _keep_near(monkeypatch)
    case = _Spinning()
    draws = _sampled(Box({name: (0.0, 1.0) for name in case.prior.names}), gaussian=case, tries=8)
    n = draws.record["effective_samples"]
    assert n > 400
    middles = (np.arange(400) + 0.5) / 400
    u = np.stack(np.meshgrid(middles, middles, [0.5], [0.5]), axis=-1).reshape(-1, 4)
    log_l = case.of_spin(*case.prior.from_cube(u)[:, :2].T)
    log_evidence = np.logaddexp.reduce(log_l) - np.log(len(log_l))
    assert abs(draws.log_evidence - log_evidence) < 4 * max(draws.record["log_evidence_sd"], 0.05)
    w, found = np.exp(log_l - log_l.max()), case.prior.to_cube(draws.theta)
    for what in (lambda x: x, lambda x: x**2, lambda x: x[:, :1] * x[:, 1:2]):
        values, drawn = what(u[:, :2]), what(found[:, :2])
        mean = (w[:, None] * values).sum(0) / w.sum()
        sd = np.sqrt((w[:, None] * (values - mean) ** 2).sum(0) / w.sum())
        assert (np.abs(drawn.mean(0) - mean) < 5 * sd / n**0.5).all()


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
