"""Draw parameters from the region and run the costly part of the simulator, shard by shard, wherever there are workers.

Each shard has seeds of its own, derived from (seed, round, shard), so the result does not depend on the number of
workers or on where an earlier run was stopped.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from tqdm import tqdm

from tmnre.inside import SimulationError, draw
from tmnre.region import Box
from tmnre.simulator import Arrays, Simulator
from tmnre.store import Store
from tmnre.workers import processes

Failure = dict[str, Any]


class _Tally:
    """Simulations tried and failed, against the share that may fail."""

    def __init__(self, allowed: float, where: str) -> None:
        self.allowed, self.where = allowed, where
        self.tried, self.failures = 0, []

    def add(self, tried: int, failures: list[Failure], cause: Exception | None = None) -> None:
        """Count; raise SimulationError, with the first failure, when more fail than chance explains."""
        self.tried += tried
        self.failures += failures
        # by chance once in a million: a run looks thousands of times, and a few failures in a row are no verdict
        if self.failures and stats.binom.sf(len(self.failures) - 1, self.tried, self.allowed) < 1e-6:
            first = self.failures[0]
            raise SimulationError(
                f"{len(self.failures)} of {self.tried} simulations failed in {self.where}, the first at "
                f"{first['theta']}: {first['error']}; mend the simulator there, narrow the prior or raise max_failed"
            ) from cause


@dataclass(frozen=True)
class _Task:
    simulator: Simulator
    store: Store | None
    region: Box
    seed: int
    round_number: int
    max_failed: float
    pool: np.ndarray | None = None

    def run(self, number: int, n: int) -> tuple[int, list[Failure]]:
        """Simulate and write one shard of n rows."""
        u, stored, about = self.make(number, n)
        self.store.write(self.round_number, number, u, stored, about)
        return about["tried"], about["failures"]

    def make(self, number: int, n: int) -> tuple[np.ndarray, Arrays, dict[str, Any]]:
        """u (n, D), stored arrays (n, ...) and manifest of one shard; simulations that fail are replaced, recorded."""
        seeds = [self.seed, self.round_number, number]
        rng, noise = (np.random.default_rng([*seeds, i]) for i in (0, 1))
        tally = _Tally(self.max_failed, f"shard {number}")
        u_parts, stored_parts, done = [], [], 0
        while done < n:
            u = draw(self.simulator, self.region, n - done, rng, pool=self.pool)
            stored, good = self._attempt(self.simulator.prior.from_cube(u), noise, tally)
            if good.any():
                u_parts.append(u[good])
                stored_parts.append({name: array[good] for name, array in stored.items()})
                done += int(good.sum())
        joined = {name: np.concatenate([part[name] for part in stored_parts]) for name in stored_parts[0]}
        about = {"seed": seeds, "region": self.region.to_dict(), "tried": tally.tried, "failures": tally.failures}
        return np.concatenate(u_parts), joined, about

    def _attempt(self, theta: np.ndarray, noise: np.random.Generator, tally: _Tally) -> tuple[Arrays, np.ndarray]:
        """Stored arrays of theta (N, D), and which rows succeeded (N,); counts the rest."""
        reason, cause = "values that are not finite", None
        try:
            stored = _checked(self.simulator.simulate(theta, noise), theta)
            good = finite_rows(stored)
        except SimulationError:
            raise
        except Exception as error:
            if len(theta) > 1:  # to blame are some of the rows: one at a time
                return self._one_by_one(theta, noise, tally)
            stored, good = {}, np.zeros(1, dtype=bool)
            reason, cause = f"{type(error).__name__}: {error}", error
        tally.add(len(theta), [_failure(self.simulator, row, reason) for row in theta[~good]], cause)
        return stored, good

    def _one_by_one(self, theta, noise, tally) -> tuple[Arrays, np.ndarray]:
        rngs = noise.spawn(len(theta))
        found = [self._attempt(row[None], rng, tally) for row, rng in zip(theta, rngs, strict=True)]
        good = np.concatenate([row_good for _, row_good in found])
        blank = next((stored for stored, row_good in found if row_good[0]), {})
        rows = [stored if row_good[0] else blank for stored, row_good in found]
        return {name: np.concatenate([row[name] for row in rows]) for name in blank}, good


def few(
    simulator: Simulator,
    region: Box,
    n: int,
    *,
    round_number: int,
    seed: int,
    pool: np.ndarray | None = None,
    max_failed: float = 0.05,
) -> tuple[np.ndarray, Arrays]:
    """u (n, D) and stored arrays (n, ...) of simulations that are not kept."""
    u, stored, _ = _Task(simulator, None, region, seed, round_number, max_failed, pool).make(0, n)
    return u, stored


def trial(simulator: Simulator, seed: int, max_failed: float = 0.05) -> tuple[np.ndarray, Arrays]:
    """theta (1, D) from the prior, and what `simulate` returns for it; the next where one fails."""
    rng = np.random.default_rng(seed)
    tally = _Tally(max_failed, "a trial")
    while True:
        theta = simulator.prior.sample(1, rng)
        try:
            return theta, _checked(simulator.simulate(theta, rng), theta)
        except SimulationError:
            raise
        except Exception as error:
            tally.add(1, [_failure(simulator, theta[0], f"{type(error).__name__}: {error}")], error)


def _failure(simulator: Simulator, theta: np.ndarray, reason: str) -> Failure:
    return {"theta": dict(zip(simulator.prior.names, theta.tolist(), strict=True)), "error": reason}


def finite_rows(stored: Arrays) -> np.ndarray:
    """Which rows are finite in every array."""
    return np.logical_and.reduce([np.isfinite(a).reshape(len(a), -1).all(axis=1) for a in stored.values()])


def _checked(stored: Arrays, theta: np.ndarray) -> Arrays:
    if not isinstance(stored, dict) or not stored:
        raise SimulationError(f"simulate must return a dict of arrays, got {type(stored).__name__}")
    stored = {name: np.asarray(array) for name, array in stored.items()}
    for name, array in stored.items():
        if array.shape[:1] != (len(theta),):
            raise SimulationError(
                f"simulate must return {name!r} with {len(theta)} rows, one per row of theta, got shape {array.shape}"
            )
        if array.dtype.kind not in "biufc":
            raise SimulationError(f"simulate must return numbers, got {name!r} of type {array.dtype}")
    return stored


def simulate(
    simulator: Simulator,
    store: Store,
    region: Box,
    n: int,
    *,
    round_number: int,
    seed: int,
    first: int = 0,
    pool: np.ndarray | None = None,
    executor: Executor | None = None,
    workers: int | None = 1,
    shard_size: int = 500,
    max_failed: float = 0.05,
    progress: Callable[..., tqdm] = tqdm,
) -> None:
    """Bring the store to n simulations of this round, in shards from number `first` on; whole ones there are kept.

    pool (P, D) : as of `draw`

    On `executor` where one is given (its workers must see the store's folder), else in `workers` processes, or in this
    process with workers=1.

    Raises SimulationError when the simulator returns wrong shapes or fails too often.
    """
    sizes = [min(shard_size, n - start) for start in range(0, n, shard_size)]
    manifests = [store.manifest(round_number, first + i) for i in range(len(sizes))]
    there = [m is not None and m["rows"] == size for m, size in zip(manifests, sizes, strict=True)]
    missing = [i for i, found in enumerate(there) if not found]
    tally = _Tally(max_failed, f"round {round_number}")
    for manifest in (m for m, found in zip(manifests, there, strict=True) if found):
        tally.add(manifest["tried"], manifest["failures"])
    task = _Task(simulator, store, region, seed, round_number, max_failed, pool)
    workers = min(workers or os.cpu_count() or 1, max(1, len(missing)))
    with progress(total=n, initial=n - sum(sizes[i] for i in missing), desc="simulating", unit="sim") as bar:
        if executor is None and workers == 1:
            for i in missing:
                tally.add(*task.run(first + i, sizes[i]))
                bar.update(sizes[i])
            return
        with nullcontext(executor) if executor else processes(workers, task.run) as pool:
            futures = {pool.submit(task.run, first + i, sizes[i]): i for i in missing}
            try:
                for future in as_completed(futures):
                    tally.add(*future.result())
                    bar.update(sizes[futures[future]])
            except BaseException:
                for future in futures:
                    future.cancel()
                raise
