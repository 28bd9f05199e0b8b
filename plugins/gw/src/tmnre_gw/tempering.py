"""Exact posterior samples and evidence by sequential Monte Carlo, begun from what truncated inference leaves behind.

The learned 1-d marginals make a rough joint density q, their product; populations go from it to the posterior along

    target_beta = q^(1 - beta) L^beta         inside the truncated prior, with respect to the prior (uniform in u)

The simulations of the last round are draws of the truncated prior whose waveforms are stored.  Each is given several
sets of the parameters that need no new waveform, drawn from q, and weighted for the largest beta that leaves enough of
them effective: this importance sampling costs no waveform.  From there on (Del Moral, Doucet & Jasra 2006): weights
(L / q)^step, resampling, Metropolis steps (see `moves`).  The evidence is the product of the mean weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from tmnre.region import Box
from tmnre.result import MarginalPosterior
from tmnre.rows import InMemory, OnDisk
from tmnre_gw.course import Course, Population
from tmnre_gw.harmonics import HarmonicLikelihood
from tmnre_gw.importance import effective_size, largest_step, log_largest, systematic, weights_at
from tmnre_gw.likelihood import Likelihood
from tmnre_gw.moves import Moves

ROWS_AT_ONCE = 1024
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
    sweeps: int = 12
    """new waveforms a particle at each temperature"""
    final_sweeps: int = 80
    """new waveforms a particle at the end, of which the last three quarters are kept; where particles still resemble
    those that they descend from, up to four times as many go before"""
    tries: int = 16
    """sets of the parameters that keep a waveform, tried with each new one"""
    fast_moves: int = 1
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
    """Sequential Monte Carlo of a likelihood in a region, seeded by stored simulations u (n, D) and their rows.

    harmonic : the same likelihood with harmonics, where there are some; of them new waveforms are.
    """

    def __init__(
        self,
        likelihood: Likelihood,
        region: Box,
        learned: Mapping[str, MarginalPosterior],
        settings: Sampling,
        rng: np.random.Generator,
        pool: Executor | None = None,
        harmonic: HarmonicLikelihood | None = None,
    ) -> None:
        self.harmonic = harmonic
        self.likelihood, self.region, self.settings, self.rng = likelihood, region, settings, rng
        self.simulator = likelihood.simulator
        self.names = self.simulator.prior.names
        self.learned, self.pool = learned, pool
        self.moves = self.seeding = self._moves(likelihood)

    def _moves(self, likelihood: Likelihood) -> Moves:
        how = self.settings
        return Moves(
            *(likelihood, self.region, self.learned, self.rng, self.pool), tries=how.tries, fast_moves=how.fast_moves
        )

    def _go_on_with(self, quadrature: bool) -> None:
        """The likelihood that makes the new waveforms."""
        self.likelihood.quadrature = quadrature
        if quadrature and self.harmonic is not None:
            self.likelihood = self.harmonic
            self.moves = self._moves(self.harmonic)

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
        self.course = course = self._restored(begun) if begun else self._begin(u, rows, progress)
        if begun:
            self._go_on_with(course.quadrature)
        with progress(desc="tempering", unit="sweep") as bar:
            while course.beta < 1 or course.left:
                if course.left:
                    self.moves.sweep(course, course.beta)
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
            self.moves.sweep(course, 1.0)
            course.settled += 1
            save(self._state)
        every, most = max(1, how.final_sweeps // 12), how.final_sweeps
        bar = dict(total=most, initial=course.swept, unit="sweep")
        for i in progress(range(course.swept, most), desc="exact posterior", **bar):
            self.moves.sweep(course, 1.0)
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
        how, rng, moves = self.settings, self.rng, self.seeding
        parts = []
        with progress(total=len(u), desc="importance sampling", unit="waveform") as bar:
            for which in torch.arange(len(u)).split(ROWS_AT_ONCE):
                stored = rows.take(which)
                for _ in range(how.draws_per_waveform):
                    trial = u[which.numpy()].copy()
                    for column in moves.fast:
                        trial[:, column] = moves.rough[column].draw(len(trial), rng)
                    log_slow, log_fast = (moves.log_q(trial, columns) for columns in (moves.slow, moves.fast))
                    parts.append((trial[:, moves.fast], which, moves.log_l(trial, stored), log_slow, log_fast))
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
        start[:, moves.fast] = fast[rows_of]
        stored = rows.take(torch.from_numpy(which[rows_of]))
        quadrature = self.likelihood.agree(stored, float(np.nanmax(log_l)))
        self._go_on_with(quadrature)
        made = 0
        if self.likelihood is self.harmonic:
            stored = self.likelihood.waveforms(self.simulator.prior.from_cube(start), self.pool)
            made = len(start)
        else:
            stored = {name: array.clone() for name, array in self.likelihood.kept(stored).items()}
        moves = self.moves
        log_q = moves.log_q(start, (*moves.slow, *moves.fast))
        population = Population(start, stored, moves.log_l(start, stored), log_q, which[rows_of])
        at_one = weights_at(apart, log_slow, 1.0)
        efficiency = float(effective_size(at_one) / len(at_one))
        variance = float(1 / effective_size(total) - 1 / len(total))
        course = Course(population, float(beta), float(log_z), variance, efficiency, len(total), [float(beta)])
        course.evaluations, course.quadrature, course.waveforms = len(which), quadrature, made
        return course

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
        moves = self.seeding
        slow = np.prod(moves.high[moves.slow] - moves.low[moves.slow])
        return float(np.log(slow * share(self.region, everything=False) / share(whole, everything=True)))

    # what is left

    def _finished(self) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """theta with a phase, ln L with it, and derived quantities, of the particles as they are."""
        population = self.course.population
        theta = torch.from_numpy(self.simulator.prior.from_cube(population.u))
        theta, log_l = self.likelihood.with_phase(population.stored, theta, self.rng)
        derived = {k: v.numpy() for k, v in self.likelihood.derived_of(population.stored, theta).items()}
        return theta.numpy(), log_l, derived

    def _coordinates(self, chain: np.ndarray) -> np.ndarray:
        """Of u (..., D): what means make sense of."""
        moved = [*self.moves.slow, *self.moves.fast]
        return np.where(self.moves.wraps, np.cos(2 * np.pi * chain), chain)[..., moved]

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
        width = self.moves.high - self.moves.low
        below = (u < self.moves.low + WALL * width) & (self.moves.low > 0)
        above = (u > self.moves.high - WALL * width) & (self.moves.high < 1)
        shares = (below | above).mean(0)
        return {name: float(s) for name, s in zip(self.names, shares, strict=True) if s > 1e-3 and name != "phase"}
