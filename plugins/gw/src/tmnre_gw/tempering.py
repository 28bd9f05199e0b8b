"""Exact posterior samples and evidence by sequential Monte Carlo, begun from what truncated inference leaves behind.

The learned 1-d marginals make a rough joint density q, their product; populations go from it to the posterior along

    target_beta = q^(1 - beta) L^beta         inside the truncated prior, with respect to the prior (uniform in u)

The simulations of the last round are draws of the truncated prior whose waveforms are stored.  Each is given several
sets of the parameters that need no new waveform, drawn from q, and weighted for the largest beta that leaves enough of
them effective: this importance sampling costs no waveform.  From there on (Del Moral, Doucet & Jasra 2006): weights
(L / q)^step, resampling, Metropolis steps along differences of particles (ter Braak 2006), several that keep the
waveform for each that makes a new one.  The evidence is the product of the mean weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from tmnre.region import Box
from tmnre.result import MarginalPosterior
from tmnre.rows import InMemory, OnDisk
from tmnre.simulator import Tensors
from tmnre_gw.course import Course, Population
from tmnre_gw.histogram import Histogram
from tmnre_gw.importance import effective_size, largest_step, log_largest, systematic, weights_at
from tmnre_gw.likelihood import Likelihood

PERIODS = {**dict.fromkeys(("phase", "phi_12", "phi_jl", "azimuth", "ra"), 2 * np.pi), "psi": np.pi}
ROWS_AT_ONCE = 1024
TARGET_ACCEPTANCE = 0.234
MIRRORED = 0.25
"""share of the sweeps in which the binary is looked at from behind as well"""
WALL = 0.02
"""share of a region's width next to its edges, in which hardly any of the posterior should lie"""
VOLUME_DRAWS = 200_000
INDEPENDENT, PATIENCE = 0.2, 4
"""share of the particles that should be worth an independent draw before any is kept, and how many times the final
sweeps may go on until then"""


@dataclass(frozen=True)
class Sampling:
    """Effort of the exact sampler."""

    particles: int = 2000
    """posterior draws that are moved together"""
    draws_per_waveform: int = 8
    """sets of distance, sky, polarisation and time tried with each stored waveform; they cost no waveform"""
    sweeps: int = 20
    """new waveforms a particle at each temperature"""
    final_sweeps: int = 120
    """new waveforms a particle at the end, of which the last three quarters are kept; one in five is accepted, and in
    fifteen dimensions tens of steps are needed to forget; where they have not been enough, up to four times as many
    go before"""
    fast_moves: int = 4
    """moves that keep the waveform, for each that makes a new one"""


@dataclass(frozen=True)
class Draws:
    """Posterior draws theta (S, D) of equal weight with ln L (S,) and derived quantities, the log evidence relative to
    noise alone, and how the sampler fared."""

    theta: np.ndarray
    log_l: np.ndarray
    log_evidence: float
    derived: dict[str, np.ndarray]
    record: dict[str, Any] = field(default_factory=dict)


class Sampler:
    """Sequential Monte Carlo of a likelihood in a region, seeded by stored simulations u (n, D) and their rows."""

    def __init__(
        self,
        likelihood: Likelihood,
        region: Box,
        learned: Mapping[str, MarginalPosterior],
        settings: Sampling,
        rng: np.random.Generator,
        pool: Executor | None = None,
    ) -> None:
        self.likelihood, self.region, self.settings, self.rng, self.pool = likelihood, region, settings, rng, pool
        self.simulator = likelihood.simulator
        prior = self.simulator.prior
        self.names = prior.names
        self.slow, self.fast = (prior.columns(names) for names in (likelihood.slow, likelihood.fast))
        self.low, self.high = np.array([region.cube[name] for name in self.names]).T
        self.wraps = np.array([_is_periodic(prior, name) for name in self.names]) & (self.high - self.low > 0.999)
        self.rough = {
            column: Histogram.of(prior, region, self.names[column], learned.get(self.names[column]))
            for column in (*self.slow, *self.fast)
        }
        # with a fixed phi_jl the binary from behind is another one
        self.mirrored = [] if "phi_jl" in self.simulator.fixed else _mirrored(prior)
        self.turned = prior.columns([name for name in ("phi_jl",) if name in prior.names])

    def run(
        self,
        u: np.ndarray,
        rows: InMemory | OnDisk,
        progress=tqdm,
        *,
        begun: dict[str, Any] | None = None,
        save: Callable[[Callable[[], dict[str, Any]]], None] = lambda state: None,
    ) -> Draws:
        """Posterior draws, from simulations of the region.

        save: called after every sweep with what makes the state; begun: such a state, to go on from.
        """
        how = self.settings
        self.course = self._restored(begun) if begun else self._begin(u, rows, progress)
        course = self.course
        with progress(desc="tempering", unit="sweep") as bar:
            while course.beta < 1 or course.left:
                if course.left:
                    self._sweep(course.beta)
                    course.left -= 1
                    bar.update()
                    save(self._state)
                else:
                    self._cool()
        if course.log_z_sd is None:
            course.log_z_sd = float(np.sqrt(max(course.variance, self._shared())))
        most = PATIENCE * how.final_sweeps
        bar = dict(total=most, initial=course.settled, unit="sweep")
        for _ in progress(range(course.settled, most), desc="settling, at most", **bar):
            if course.swept or self._effective() >= INDEPENDENT * how.particles:
                break
            self._sweep(1.0)
            course.settled += 1
            save(self._state)
        every, most = max(1, how.final_sweeps // 12), how.final_sweeps
        bar = dict(total=most, initial=course.swept, unit="sweep")
        for i in progress(range(course.swept, most), desc="exact posterior", **bar):
            self._sweep(1.0)
            if i >= how.final_sweeps // 4 and i % every == every - 1:
                course.kept.append((course.population.u.copy(), *self._finished()))
            course.swept = i + 1
            save(self._state)
        chain = np.stack([part[0] for part in course.kept])
        record = {
            "effective_samples": self._effective(),
            "drift_sd": self._drift(chain),
            "log_evidence_sd": course.log_z_sd,
            "importance_efficiency": course.efficiency,
            "importance_draws": course.seeds,
            "waveforms": course.waveforms,
            "likelihood_evaluations": course.evaluations,
            "temperatures": course.temperatures,
            "acceptance": course.acceptance,
            "at_walls": self._at_walls(chain.reshape(-1, chain.shape[2])),
        }
        theta, log_l = (np.concatenate([part[i] for part in course.kept]) for i in (1, 2))
        derived = {name: np.concatenate([part[3][name] for part in course.kept]) for name in self.simulator.derived}
        return Draws(theta, log_l, course.log_z, derived, record)

    def _state(self) -> dict[str, Any]:
        return {"course": self.course.state(), "random": self.rng.bit_generator.state}

    def _restored(self, state: dict[str, Any]) -> Course:
        self.rng.bit_generator.state = state["random"]
        return Course.restored(state["course"])

    def _cool(self) -> None:
        """The next temperature: weights and resampling."""
        course, how = self.course, self.settings
        apart = course.population.log_l - course.population.log_q
        step = largest_step(apart, 0.0, 1 - course.beta, how.particles / 2)
        course.beta = 1.0 if step == 1 - course.beta else course.beta + step
        w = np.exp(step * (apart - apart.max()))
        course.log_z += float(np.log(w.mean()) + step * apart.max())
        course.variance += float(w.var() / w.mean() ** 2 / len(w))
        course.population = course.population.chosen(systematic(w, how.particles, self.rng))
        course.left = how.sweeps if course.beta < 1 else 0
        course.temperatures.append(course.beta)

    # importance sampling of what is stored

    def _begin(self, u: np.ndarray, rows: InMemory | OnDisk, progress) -> Course:
        """The first population, by importance sampling."""
        how, rng = self.settings, self.rng
        parts = []
        with progress(total=len(u), desc="importance sampling", unit="waveform") as bar:
            for which in torch.arange(len(u)).split(ROWS_AT_ONCE):
                stored = rows.take(which)
                for _ in range(how.draws_per_waveform):
                    trial = u[which.numpy()].copy()
                    for column in self.fast:
                        trial[:, column] = self.rough[column].draw(len(trial), rng)
                    log_slow, log_fast = (self._log_q(trial, columns) for columns in (self.slow, self.fast))
                    parts.append((trial[:, self.fast], which, self._log_l(trial, stored), log_slow, log_fast))
                bar.update(len(which))
        fast, which, log_l, log_slow, log_fast = (np.concatenate(part) for part in zip(*parts, strict=True))
        if not np.isfinite(log_l).any():
            raise ValueError("no stored simulation has a likelihood; the region and the data do not belong together")
        apart = log_l - log_slow - log_fast  # weights (q^(1 - beta) L^beta) / q_fast
        beta = largest_step(apart, log_slow, 1.0, 2 * how.particles)
        total = weights_at(apart, log_slow, beta)
        log_z = np.log(total.mean()) + log_largest(apart, log_slow, beta) + self._log_volume()
        rows_of = systematic(total, how.particles, rng)
        start = u[which[rows_of]].copy()
        start[:, self.fast] = fast[rows_of]
        stored = rows.take(torch.from_numpy(which[rows_of]))
        stored = {"h": stored["h"].clone(), "inner": self.likelihood.inner(stored["h"])}
        log_q = self._log_q(start, (*self.slow, *self.fast))
        population = Population(start, stored, self._log_l(start, stored), log_q, which[rows_of])
        at_one = weights_at(apart, log_slow, 1.0)
        efficiency = float(effective_size(at_one) / len(at_one))
        variance = float(1 / effective_size(total) - 1 / len(total))
        course = Course(population, float(beta), float(log_z), variance, efficiency, len(total), [float(beta)])
        course.evaluations = len(which)
        return course

    def _log_q(self, u: np.ndarray, columns: Sequence[int]) -> np.ndarray:
        """ln q (N,) of some columns of u (N, D)."""
        return sum((self.rough[column].log_density(u[:, column]) for column in columns), np.zeros(len(u)))

    def _log_volume(self) -> float:
        """Log of the prior mass of what the simulations are drawn from: the box of this region with the bounds on what
        follows from the simulated parameters alone, relative to the prior with its own constraints."""
        prior, rng = self.simulator.prior, np.random.default_rng(0)
        whole = Box.full(prior, self.simulator.constraints)

        def share(region: Box, *, everything: bool) -> float:
            theta = torch.from_numpy(prior.from_cube(region.sample(VOLUME_DRAWS, rng)))
            derived = self.simulator.derive(theta)
            if everything and (missing := set(region.derived) - set(derived)):
                # constraints on sky or time, which no waveform is needed for
                none = {"inner": torch.zeros(len(theta), len(self.simulator.network.names), 4)}
                every = self.simulator.derive(theta, none)
                derived = {**derived, **{name: every[name] for name in missing}}
            allowed = np.broadcast_to(np.asarray(region.allows(derived)), len(theta))
            return float(allowed.mean())

        # q is a density of the whole cube, so the fast parameters' box is counted already
        slow = np.prod(self.high[self.slow] - self.low[self.slow])
        return float(np.log(slow * share(self.region, everything=False) / share(whole, everything=True)))

    # Metropolis steps

    def _sweep(self, beta: float) -> None:
        for _ in range(self.settings.fast_moves if self.fast else 0):
            self._move(beta, "fast")
        if self.mirrored and self.rng.random() < MIRRORED:
            self._mirror(beta)
        self._move(beta, "slow" if self.slow else "fast")

    def _mirror(self, beta: float) -> None:
        """One Metropolis step that looks at every binary from behind: theta_jn to pi - theta_jn, phi_jl to phi_jl + pi.

        Parity leaves h+ as it is and changes the sign of hx, whatever spins and harmonics, so no waveform is made; psi
        goes where the detectors together tell least of that.  Steps along differences do not cross.
        """
        course, prior = self.course, self.simulator.prior
        psi, theta_jn = self.mirrored
        turned, stored = self.likelihood.mirrored(
            course.population.stored, torch.from_numpy(prior.from_cube(course.population.u))
        )
        proposal = course.population.u.copy()
        proposal[:, theta_jn] = 1 - proposal[:, theta_jn]
        proposal[:, self.turned] = (proposal[:, self.turned] + 0.5) % 1.0
        proposal[:, psi] = prior["psi"].cdf(turned.numpy())
        course.acceptance["mirror"] = float(self._propose(beta, proposal, stored).mean())

    def _move(self, beta: float, kind: str) -> None:
        """One Metropolis step of all particles: of everything with a new waveform, or of the fast parameters."""
        rng, u, length, acceptance = self.rng, self.course.population.u, self.course.length, self.course.acceptance
        n = len(u)
        columns = self.fast if kind == "fast" else [*self.slow, *self.fast]
        first, second = (rng.permutation(n) for _ in range(2))
        difference = u[first] - u[second]
        difference = np.where(self.wraps, (difference + 0.5) % 1.0 - 0.5, difference)[:, columns]
        jump = rng.random() < 0.1  # all the way, from mode to mode
        factor = 1.0 if jump else length[kind] * rng.gamma(4, 0.25, (n, 1))
        proposal = u.copy()
        scatter = 1e-5 * (self.high - self.low)[columns] * rng.normal(size=difference.shape)
        proposal[:, columns] += factor * difference + scatter
        proposal = np.where(self.wraps, self.low + (proposal - self.low) % 1.0, proposal)
        taken = self._propose(beta, proposal, self._renewed(proposal) if kind == "slow" else None)
        if not jump:
            acceptance[kind] = float(taken.mean())
            length[kind] *= float(np.exp(acceptance[kind] - TARGET_ACCEPTANCE))

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

    def _propose(self, beta: float, proposal: np.ndarray, stored: Tensors | None) -> np.ndarray:
        """Accept or refuse u (N, D) of a symmetric proposal with its waveforms, None where they stay as they are; which
        were taken (N,)."""
        population, n = self.course.population, len(proposal)
        inside = np.flatnonzero(self.region.contains(proposal))
        log_q = self._log_q(proposal, (*self.slow, *self.fast))
        kept = population.stored if stored is None else stored
        found = Population(proposal, kept, np.full(n, -np.inf), log_q, population.origin)
        where = torch.from_numpy(inside)
        found.log_l[inside] = self._log_l(proposal[inside], {k: v[where] for k, v in found.stored.items()})
        self.course.evaluations += len(inside)
        gain = beta * (found.log_l - population.log_l) + (1 - beta) * (found.log_q - population.log_q)
        taken = np.log(self.rng.random(n)) < gain
        population.accept(taken, found)
        return taken

    def _log_l(self, u: np.ndarray, stored: Tensors) -> np.ndarray:
        """ln L (N,) where the region allows, else -inf."""
        if not len(u):
            return np.empty(0)
        theta = torch.from_numpy(self.simulator.prior.from_cube(u))
        allowed = self.region.allows(self.simulator.derive(theta, stored))
        return np.where(np.asarray(allowed), self.likelihood(stored, theta), -np.inf)

    # what is left

    def _finished(self) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """theta with a phase, ln L with it, and derived quantities, of the particles as they are."""
        population = self.course.population
        theta = torch.from_numpy(self.simulator.prior.from_cube(population.u))
        theta, log_l = self.likelihood.with_phase(population.stored, theta, self.rng)
        derived = {k: v.numpy() for k, v in self.simulator.derive(theta, population.stored).items()}
        return theta.numpy(), log_l, derived

    def _coordinates(self, chain: np.ndarray) -> np.ndarray:
        """Of u (..., D): what means make sense of."""
        moved = [*self.slow, *self.fast]
        return np.where(self.wraps, np.cos(2 * np.pi * chain), chain)[..., moved]

    def _effective(self) -> float:
        """Independent draws that the last population is worth, for the mean of the worst parameter.

        Particles that descend from one stored waveform may still be alike.  The variance of a mean is estimated from
        the sums over such families (Lee & Whiteley 2018), which counts them as what they are: a family of copies once,
        one whose members have moved apart as often as it has members.
        """
        population = self.course.population
        x = self._coordinates(population.u)
        x = x - x.mean(0)
        _, family = np.unique(population.origin, return_inverse=True)
        sums = np.stack([np.bincount(family, column) for column in x.T], axis=1)
        worth = len(x) * np.square(x).sum(0) / np.maximum(np.square(sums).sum(0), 1e-300)
        return float(min(len(x), worth.min()))

    def _shared(self) -> float:
        """Relative variance of the evidence that families leave: the sum of their squared shares (Lee & Whiteley 2018).

        Weights at each temperature count particles that descend from one stored waveform as independent.
        """
        _, members = np.unique(self.course.population.origin, return_counts=True)
        return float(np.square(members / members.sum()).sum())

    def _drift(self, chain: np.ndarray) -> float:
        """Halves of the final sweeps against each other, in sd: what has not settled shows."""
        x = self._coordinates(chain)
        halves = np.array([half.mean((0, 1)) for half in np.array_split(x, 2)])
        return float(np.abs(np.diff(halves, axis=0) / np.maximum(x.std((0, 1)), 1e-12)).max())

    def _at_walls(self, u: np.ndarray) -> dict[str, float]:
        """Share of the posterior next to an edge that truncation made, where it is not nothing."""
        width = self.high - self.low
        below = (u < self.low + WALL * width) & (self.low > 0)
        above = (u > self.high - WALL * width) & (self.high < 1)
        shares = (below | above).mean(0)
        return {name: float(s) for name, s in zip(self.names, shares, strict=True) if s > 1e-3 and name != "phase"}


def _is_periodic(prior, name: str) -> bool:
    low, high = prior[name].support
    return name in PERIODS and bool(np.isclose(high - low, PERIODS[name]))


def _mirrored(prior) -> list[int]:
    """Columns of psi and theta_jn, where the prior has them and is as likely one way as the other; else none."""
    levels = np.linspace(0, 1, 9)
    if not {"psi", "theta_jn"} <= set(prior.names) or not _is_periodic(prior, "psi"):
        return []
    if "phi_jl" in prior.names and not _is_periodic(prior, "phi_jl"):
        return []
    theta_jn = prior["theta_jn"]
    even = np.allclose(theta_jn.quantile(levels) + theta_jn.quantile(1 - levels), np.pi, atol=1e-6)
    return prior.columns(("psi", "theta_jn")) if even else []
