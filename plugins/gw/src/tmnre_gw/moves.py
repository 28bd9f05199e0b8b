"""Metropolis steps of many particles: of the parameters that need a new waveform, and of those that do not.

Steps go along differences of particles (ter Braak 2006).  For a waveform that is there the likelihood of other
distances, skies, polarisations and times costs next to nothing, so these fast parameters are integrated out of every
step of the slow ones, over all they may be or over what is near: fifteen parameters become nine, and where on the sky a
mode lies does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor

import numpy as np
import torch

from tmnre.region import Box
from tmnre.result import MarginalPosterior
from tmnre.simulator import Tensors
from tmnre_gw.course import Course, Population
from tmnre_gw.harmonics import AnyPhase
from tmnre_gw.histogram import Histogram
from tmnre_gw.kernels import Kernels, Nearby, short_way
from tmnre_gw.likelihood import Likelihood, Profile

PERIODS = {**dict.fromkeys(("phase", "phi_12", "phi_jl", "azimuth", "ra"), 2 * np.pi), "psi": np.pi}
SPINS = (("a_1", "tilt_1"), ("a_2", "tilt_2"))
CELLS = 64
"""of the distance"""
PHASES = 256
"""cells of the phase"""
TARGET_ACCEPTANCE = 0.234
MIRRORED = 0.25
"""share of the sweeps in which the binary is looked at from behind as well"""
LEAST = 0.2
"""share of the sweeps, at least, whose steps are of the slow parameters alone"""
NEAR = (0.3, 1.0)
"""widths, of those of kernels about all particles, of kernels about one's own"""
JUMP = 0.1
"""share of the steps that go all the way, from mode to mode"""


class Moves:
    """Metropolis steps in a region, with respect to the prior (uniform in u).

    learned : 1-d marginals, whose product q is the target's other end (see `tempering`)
    tries : sets of the fast parameters by which they are integrated out
    fast_moves : steps of the fast parameters alone, for each of all
    """

    def __init__(
        self,
        likelihood: Likelihood,
        region: Box,
        learned: Mapping[str, MarginalPosterior],
        rng: np.random.Generator,
        pool: Executor | None = None,
        *,
        tries: int,
        fast_moves: int,
    ) -> None:
        self.likelihood, self.region, self.rng, self.pool = likelihood, region, rng, pool
        self.tries, self.fast_moves = tries, fast_moves
        self.simulator = likelihood.simulator
        prior = self.simulator.prior
        names = prior.names
        self.slow, self.fast = (prior.columns(of) for of in (likelihood.slow, likelihood.fast))
        self.low, self.high = np.array([region.cube[name] for name in names]).T
        self.wraps = np.array([_is_periodic(prior, name) for name in names]) & (self.high - self.low > 0.999)
        self.rough = {
            column: Histogram.of(prior, region, names[column], learned.get(names[column]))
            for column in (*self.slow, *self.fast)
        }
        known = "luminosity_distance"
        self.distance = names.index(known) if known in likelihood.fast else None
        self.phase = names.index("phase") if likelihood.draws_phase else None
        self.around = [column for column in self.fast if column not in (self.distance, self.phase)]
        # with a fixed phi_jl the binary from behind is another one
        self.mirrored = [] if "phi_jl" in self.simulator.fixed else _mirrored(prior, likelihood.slow)
        self.turned = prior.columns([name for name in ("phi_jl",) if name in names])
        columns = prior.columns([name for name in ("psi", "phase", "theta_jn") if name in names])
        apart = "phase" in likelihood.slow and "psi" in likelihood.fast and len(columns) == 3
        self.sheared = columns if apart and self.wraps[columns[0]] else None
        self.spins = [
            prior.columns(pair) for pair in SPINS if set(pair) <= set(likelihood.slow) and _isotropic(prior, pair)
        ]

    def sweep(self, course: Course, beta: float) -> None:
        """One new waveform a particle, at an inverse temperature."""
        self.course, population = course, course.population
        for _ in range(self.fast_moves if self.fast else 0):
            self._move(beta)
        if self.mirrored and self.rng.random() < MIRRORED:
            self._mirror(beta)
        if not self.slow:
            return
        # where the integrals are rough, steps that keep the fast parameters near now and then
        kernels = self._kernels()
        if self.rng.random() < max(course.still, LEAST):
            proposal = self._folded(self._step("slow", self.slow))
            taken, course.still = self._exchange(beta, proposal, self._renewed(proposal), kernels, kernels)
            self._adapt("slow", taken, course.still)
        else:
            step = self._step("whole", [*self.slow, *self.around])
            near = Nearby.about(
                self._straight(population.u)[:, self.around],
                kernels.width * self.rng.choice(NEAR),
                kernels.wraps,
                self.rng,
            )
            along = step[:, self.around].copy()
            step[:, self.around] = 0
            proposal = self._folded(step)
            taken, _ = self._exchange(beta, proposal, self._renewed(proposal), near, near.moved(along))
            self._adapt("whole", taken)

    def _mirror(self, beta: float) -> None:
        """One Metropolis step that looks at every binary from behind: theta_jn to pi - theta_jn, phi_jl to phi_jl + pi.

        Parity leaves h+ as it is and changes the sign of hx, whatever spins and harmonics, so no waveform is made.
        """
        population = self.course.population
        proposal = population.u.copy()
        proposal[:, self.mirrored] = 1 - proposal[:, self.mirrored]
        proposal[:, self.turned] = (proposal[:, self.turned] + 0.5) % 1.0
        kernels = self._kernels()
        taken, _ = self._exchange(beta, proposal, self.likelihood.mirrored(population.stored), kernels, kernels)
        self.course.acceptance["mirror"] = float(taken.mean())

    def _move(self, beta: float) -> None:
        """One Metropolis step of all particles that keeps the waveforms."""
        population, proposal = self.course.population, self._folded(self._step("fast", self.fast))
        stored = population.stored
        log_l, log_q = self.log_l(proposal, stored), self.log_q(proposal, (*self.slow, *self.fast))
        self.course.evaluations += len(proposal)
        gain = beta * (log_l - population.log_l) + (1 - beta) * (log_q - population.log_q)
        taken = np.log(self.rng.random(len(proposal))) < gain
        population.accept(taken, Population(proposal, stored, log_l, log_q, population.origin))
        self._adapt("fast", taken)

    def _step(self, kind: str, columns: list[int]) -> np.ndarray:
        """A step (N, D) of some columns along the difference of two particles, of the length of its kind.

        Of many columns each particle moves some only (ter Braak & Vrugt 2008), the further the fewer they are.
        """
        rng, u = self.rng, self._straight(self.course.population.u)
        n = len(u)
        first, second = (rng.permutation(n) for _ in range(2))
        difference = short_way(u[first] - u[second], self.wraps)[:, columns]
        self._jump = rng.random() < JUMP
        if self._jump:
            factor = 1.0
        else:
            moves = rng.random(difference.shape) < rng.choice((0.25, 0.5, 1.0), (n, 1))
            many = np.maximum(moves.sum(1, keepdims=True), 1)
            factor = moves * self.course.length[kind] * (len(columns) / many) ** 0.5 * rng.gamma(4, 0.25, (n, 1))
        step = np.zeros_like(u)
        scatter = 1e-5 * (self.high - self.low)[columns] * rng.normal(size=difference.shape)
        step[:, columns] = factor * difference + scatter
        return step

    def _folded(self, step: np.ndarray) -> np.ndarray:
        """u (N, D) after a step, folded at edges."""
        width, moved = self.high - self.low, self._straight(self.course.population.u) + step
        beyond = (moved - self.low) / width % np.where(self.wraps, 1.0, 2.0)
        folded = self.low + width * np.where(beyond > 1, 2 - beyond, beyond)
        for along, across in self.spins:  # of which the region has no edges but those of the spin's length
            folded[:, along], folded[:, across] = moved[:, along], np.abs(moved[:, across])
        return self._bent(folded)

    def _straight(self, u: np.ndarray) -> np.ndarray:
        """u (N, D) in coordinates in which what data know is more nearly straight.

        In place of psi psi + s phase, s the sign of cos theta_jn, where waveforms have a phase: of the dominant
        harmonic seen along the axis data tell nothing else (Veitch et al. 2015).  In place of a spin's length and tilt
        its parts along the orbit's axis, of which data know a sum, and across.
        """
        u = self._turned(u, 1)
        for a, tilt in self.spins:
            length, cos = u[:, a].copy(), 1 - 2 * u[:, tilt]
            u[:, a], u[:, tilt] = length * cos, length * np.sqrt(1 - cos**2)
        return u

    def _bent(self, u: np.ndarray) -> np.ndarray:
        """The way back."""
        u = self._turned(u, -1)
        for a, tilt in self.spins:
            along, length = u[:, a].copy(), np.maximum(np.hypot(u[:, a], u[:, tilt]), 1e-300)
            u[:, a], u[:, tilt] = length, 0.5 * (1 - along / length)
        return u

    def _log_crowding(self, u: np.ndarray) -> np.ndarray:
        """Log of the prior's density (N,) in the straight coordinates, that in u being one, up to a constant."""
        with np.errstate(divide="ignore"):
            parts = [0.5 * np.log(u[:, tilt] * (1 - u[:, tilt])) - np.log(u[:, a]) for a, tilt in self.spins]
        return sum(parts, np.zeros(len(u)))

    def _turned(self, u: np.ndarray, way: int) -> np.ndarray:
        if self.sheared is None:
            return u.copy()
        psi, phase, theta_jn = self.sheared
        sign = np.sign(np.cos(self.simulator.prior["theta_jn"].quantile(u[:, theta_jn])))
        u = u.copy()
        u[:, psi] = (u[:, psi] + way * 2 * sign * u[:, phase]) % 1.0  # the period of psi is half of that of the phase
        return u

    def _adapt(self, kind: str, taken: np.ndarray, most: float = 1.0) -> None:
        """Lengthen or shorten steps of a kind; most: how many of no length at all would be taken."""
        if not self._jump:
            course = self.course
            course.acceptance[kind] = float(taken.mean())
            course.length[kind] *= float(np.exp(course.acceptance[kind] - TARGET_ACCEPTANCE * most))

    def _kernels(self) -> Kernels:
        """About the particles as they are."""
        u = self.course.population.u
        return Kernels.about(
            self._straight(u)[:, self.around],
            self._known(u),
            self.wraps[self.around],
            [self.rough[i] for i in self.around],
            self.rng,
        )

    def _exchange(
        self,
        beta: float,
        proposal: np.ndarray,
        stored: Tensors,
        about_old: Kernels | Nearby,
        about_new: Kernels | Nearby,
    ) -> tuple[np.ndarray, float]:
        """Accept or refuse the slow parameters of u (N, D), a proposal with its waveforms that is symmetric in the
        straight coordinates, the fast ones integrated out; which were taken (N,), and how many would be of a proposal
        that changes nothing, as the integrals are rough.

        Beside a new waveform and the old one each particle draws `tries` sets of the fast parameters from kernels about
        the new and the old, its own among those of the old one; the means of their weights estimate the two integrals
        without bias, and stand for them (Andrieu & Roberts 2009), or for integrals over what is near (Liu, Liang & Wong
        2000).  Then one of the sets is taken in proportion to its weight.
        """
        rng, population, n = self.rng, self.course.population, len(proposal)
        tries = self.tries if self.fast else 1
        here = [self._tried(beta, population.u, population.stored, about_old, own=i == 0) for i in range(tries)]
        there = [self._tried(beta, proposal, stored, about_new) for _ in range(tries)]
        weights = [np.stack([part[3] for part in parts]) for parts in (here, there)]
        integrals = [np.logaddexp.reduce(w) for w in weights]
        with np.errstate(invalid="ignore"):  # a waveform of which no set is allowed
            gain = integrals[1] - integrals[0] + self._log_crowding(proposal) - self._log_crowding(population.u)
            taken = np.log(rng.random(n)) < gain
        u, log_l, log_q = (np.stack([part[i] for part in there + here]) for i in range(3))
        log_w = np.concatenate([np.where(taken, weights[1], -np.inf), np.where(taken, -np.inf, weights[0])])
        which, rows = (log_w + rng.gumbel(size=log_w.shape)).argmax(0), np.arange(n)
        population.u, population.log_l, population.log_q = u[which, rows], log_l[which, rows], log_q[which, rows]
        where = torch.from_numpy(taken)
        for name, array in population.stored.items():
            array[where] = stored[name][where]
        return taken, _repeated(weights[0])

    def _tried(
        self, beta: float, u: np.ndarray, stored: Tensors, kernels: Kernels | Nearby, own: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """u (N, D) with fast parameters drawn anew, or its own, their ln L (N,), ln q (N,) and ln weight (N,)."""
        known = self._known(u)
        if not own:
            straight = self._straight(u)
            straight[:, self.around] = kernels.draw(known, self.rng)
            u = self._bent(straight)
        straight = self._straight(u)[:, self.around]
        log_drawn = kernels.log_density(straight, known) if self.around else np.zeros(len(u))
        profile, theta = None, torch.from_numpy(self.simulator.prior.from_cube(u))
        if self.phase is not None:
            any_phase = self.likelihood.any_phase(stored, theta)
            u, log_phase = self._phase(beta, u, any_phase, own=own)
            log_drawn = log_drawn + log_phase
            profile = any_phase.at(self.simulator.prior["phase"].quantile(u[:, self.phase]))
        elif self.distance is not None:
            profile = self.likelihood.profile(stored, theta)
        if self.distance is not None:
            u, log_distance = self._distance(beta, u, profile, own=own)
            log_drawn = log_drawn + log_distance
        log_l, log_q = self.log_l(u, stored, profile), self.log_q(u, (*self.slow, *self.fast))
        self.course.evaluations += len(u)
        with np.errstate(invalid="ignore"):
            log_w = beta * log_l + (1 - beta) * log_q - log_drawn
        return u, log_l, log_q, np.where(np.isfinite(log_l), log_w, -np.inf)

    def _known(self, u: np.ndarray) -> np.ndarray:
        """What the fast parameters of u (N, D) may be linear in (N, p): the slow ones, circles as cosines and sines."""
        slow, wraps = u[:, self.slow], self.wraps[self.slow]
        turns = 2 * np.pi * slow[:, wraps]
        return np.concatenate([slow[:, ~wraps], np.cos(turns), np.sin(turns)], axis=1)

    def _distance(self, beta: float, u: np.ndarray, profile: Profile, *, own: bool) -> tuple[np.ndarray, np.ndarray]:
        """u (N, D) with the distance drawn from its conditional, or its own; and the log of its density (N,)."""
        middles = self._middles(self.distance, CELLS)
        log_p = beta * profile(self.simulator.prior["luminosity_distance"].quantile(middles)[None])
        return self._from_cells(
            self.distance, log_p + (1 - beta) * self.rough[self.distance].log_density(middles), u, own
        )

    def _phase(self, beta: float, u: np.ndarray, any_phase: AnyPhase, *, own: bool) -> tuple[np.ndarray, np.ndarray]:
        """The same of the phase, given the distance that would fit best."""
        middles = self._middles(self.phase, PHASES)
        phases = self.simulator.prior["phase"].quantile(middles)
        log_p = beta * any_phase.highest(phases, any_distance=self.distance is not None)
        return self._from_cells(self.phase, log_p + (1 - beta) * self.rough[self.phase].log_density(middles), u, own)

    def _middles(self, column: int, cells: int) -> np.ndarray:
        return self.low[column] + (self.high - self.low)[column] * (np.arange(cells) + 0.5) / cells

    def _from_cells(self, column: int, log_p: np.ndarray, u: np.ndarray, own: bool) -> tuple[np.ndarray, np.ndarray]:
        """u (N, D) with one column drawn from even cells of the region's interval with log p (N, K), or its own; and
        the log of its density (N,)."""
        rng, cells = self.rng, log_p.shape[1]
        low, width = self.low[column], (self.high - self.low)[column] / cells
        highest = log_p.max(1, keepdims=True)
        p = np.where(np.isfinite(highest), np.exp(log_p - np.where(np.isfinite(highest), highest, 0)), 1.0)
        p = 0.99 * p / p.sum(1, keepdims=True) + 0.01 / cells
        if own:
            cell = ((u[:, column] - low) / width).astype(int).clip(0, cells - 1)
        else:
            u = u.copy()
            cell = (p.cumsum(1) < rng.random((len(u), 1))).sum(1).clip(max=cells - 1)
            u[:, column] = low + width * (cell + rng.random(len(u)))
        return u, np.log(p[np.arange(len(u)), cell] / width)

    def _renewed(self, proposal: np.ndarray) -> Tensors:
        """Waveforms of u (N, D), new ones where it is inside the region."""
        inside = np.flatnonzero(self.region.contains(proposal))
        stored = {k: v.clone() for k, v in self.course.population.stored.items()}
        if len(inside):
            made = self.likelihood.waveforms(self.simulator.prior.from_cube(proposal[inside]), self.pool)
            for name, array in made.items():
                stored[name][torch.from_numpy(inside)] = array.to(stored[name].dtype)
            self.course.waveforms += len(inside)
        return stored

    def log_l(self, u: np.ndarray, stored: Tensors, profile: Profile | None = None) -> np.ndarray:
        """ln L (N,) inside the region, else -inf; of a profile in the distance, where there is one."""
        theta = torch.from_numpy(self.simulator.prior.from_cube(u.clip(0, 1)))
        allowed = self.region.allows(self.likelihood.derived_of(stored, theta))
        if profile is None:
            log_l = self.likelihood(stored, theta)
        else:
            log_l = profile(self._at_mpc(theta))[:, 0]
        return np.where(self.region.contains(u) & np.asarray(allowed), log_l, -np.inf)

    def _at_mpc(self, theta: torch.Tensor) -> np.ndarray:
        """Distances (N, 1)."""
        names, name = self.simulator.prior.names, "luminosity_distance"
        if name in names:
            return theta[:, names.index(name), None].numpy()
        return np.full((len(theta), 1), self.simulator.fixed[name])

    def log_q(self, u: np.ndarray, columns: Sequence[int]) -> np.ndarray:
        """ln q (N,) of some columns of u (N, D)."""
        return sum((self.rough[column].log_density(u[:, column]) for column in columns), np.zeros(len(u)))


def _repeated(log_w: np.ndarray) -> float:
    """How often the mean of half of the weights exp(log_w) (K, N) would be taken for that of the others."""
    if len(log_w) < 3:
        return 1.0
    half = len(log_w) // 2
    fresh, own = np.logaddexp.reduce(log_w[1 : half + 1]), np.logaddexp.reduce(np.delete(log_w, range(1, half + 1), 0))
    gain = fresh - np.log(half) - own + np.log(len(log_w) - half)
    return float(np.exp(np.minimum(gain, 0)).mean())


def _isotropic(prior, pair: tuple[str, str]) -> bool:
    """Whether a spin is uniform in length, from zero on, and in direction."""
    levels = np.linspace(0, 1, 9)
    length, tilt = (prior[name].quantile(levels) for name in pair)
    return bool(np.allclose(length, levels * length[-1]) and np.allclose(np.cos(tilt), 1 - 2 * levels, atol=1e-6))


def _is_periodic(prior, name: str) -> bool:
    low, high = prior[name].support
    return name in PERIODS and bool(np.isclose(high - low, PERIODS[name]))


def _mirrored(prior, slow: Sequence[str]) -> list[int]:
    """The column of theta_jn, where a binary from behind is as likely and has other waveforms; else none."""
    levels = np.linspace(0, 1, 9)
    if "theta_jn" not in slow or ("phi_jl" in prior.names and not _is_periodic(prior, "phi_jl")):
        return []
    theta_jn = prior["theta_jn"]
    even = np.allclose(theta_jn.quantile(levels) + theta_jn.quantile(1 - levels), np.pi, atol=1e-6)
    return prior.columns(("theta_jn",)) if even else []
