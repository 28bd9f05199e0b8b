"""Draw parameters from the region and run the costly part of the simulator, in chunks, in worker processes.

Each chunk has seeds of its own, derived from (seed, round, chunk), so the result does not depend on the number of
workers or on where an earlier run was stopped.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from tqdm import tqdm

from tmnre.region import Box
from tmnre.simulator import Arrays, Simulator
from tmnre.store import Store

T = TypeVar("T")
MAX_FAILED = 0.05
"""share of simulations that may fail (raise, or return values that are not finite) before a chunk is an error"""


class SimulationError(RuntimeError):
    """The simulator failed; the message names chunk, parameters and reason."""


def in_region(simulator: Simulator, region: Box, u: np.ndarray) -> np.ndarray:
    """Which rows of u (N, D) may be simulated for this region: their simulated parameters lie in it.

    Redrawn parameters are not looked at, they will be drawn anew.
    """
    names = tuple(name for name in simulator.prior.names if name not in simulator.redrawn)
    inside = region.contains(u, names)
    if region.derived and inside.any():
        derived = simulator.derive(torch.from_numpy(simulator.prior.from_cube(u)))
        inside &= np.asarray(region.allows(derived))
    return inside


def draw(simulator: Simulator, region: Box, n: int, rng: np.random.Generator, *, max_tries: int = 2000) -> np.ndarray:
    """u (n, D) in the region, uniform but for the redrawn parameters.

    Raises SimulationError when fewer than one proposal in `max_tries` satisfies the bounds on derived quantities.
    """
    accepted = np.empty((0, len(simulator.prior)))
    tried = 0
    while len(accepted) < n:
        u = region.sample(max(n, 1000), rng)
        tried += len(u)
        accepted = np.concatenate([accepted, u[in_region(simulator, region, u)]])
        if tried > max_tries * max(n, 1000) / 10 and len(accepted) < tried / max_tries:
            raise SimulationError(
                f"of {tried} parameter draws {len(accepted)} satisfy the bounds {dict(region.derived)}; "
                f"check that prior and constraints overlap"
            )
    return accepted[:n]


@dataclass(frozen=True)
class _Task:
    simulator: Simulator
    store: Store
    region: Box
    seed: int
    round_number: int

    def run(self, chunk: int, n: int) -> None:
        """Simulate and write one chunk of n rows; simulations that fail are replaced and counted."""
        rng, noise = (np.random.default_rng([self.seed, self.round_number, chunk, i]) for i in (0, 1))
        u_parts, stored_parts = [], []
        done, failed = 0, 0
        while done < n:
            u = draw(self.simulator, self.region, n - done, rng)
            theta = self.simulator.prior.from_cube(u)
            stored = _checked(self.simulator.simulate(theta, noise), theta, chunk)
            good = finite_rows(stored)
            failed += int((~good).sum())
            if failed > max(1, MAX_FAILED * n):
                worst = dict(zip(self.simulator.prior.names, theta[np.argmin(good)].tolist(), strict=True))
                raise SimulationError(
                    f"{failed} of {n} simulations in chunk {chunk} are not finite, the first at {worst}; "
                    f"mend the simulator there or narrow the prior"
                )
            u_parts.append(u[good])
            stored_parts.append({name: array[good] for name, array in stored.items()})
            done += int(good.sum())
        joined = {name: np.concatenate([part[name] for part in stored_parts]) for name in stored_parts[0]}
        self.store.write(self.round_number, chunk, np.concatenate(u_parts), joined, failed)


def trial(simulator: Simulator, seed: int) -> tuple[np.ndarray, Arrays]:
    """theta (1, D) from the prior, and what `simulate` returns for it; raises SimulationError as `simulate` would."""
    rng = np.random.default_rng(seed)
    theta = simulator.prior.sample(1, rng)
    return theta, _guarded(lambda: _checked(simulator.simulate(theta, rng), theta, 0), 0)


def finite_rows(stored: Arrays) -> np.ndarray:
    """Which rows are finite in every array."""
    return np.logical_and.reduce([np.isfinite(a).reshape(len(a), -1).all(axis=1) for a in stored.values()])


def _checked(stored: Arrays, theta: np.ndarray, chunk: int) -> Arrays:
    if not isinstance(stored, dict) or not stored:
        raise SimulationError(f"simulate must return a dict of arrays, got {type(stored).__name__} (chunk {chunk})")
    stored = {name: np.asarray(array) for name, array in stored.items()}
    for name, array in stored.items():
        if array.shape[:1] != (len(theta),):
            raise SimulationError(
                f"simulate must return {name!r} with {len(theta)} rows, one per row of theta, got shape {array.shape}"
            )
    return stored


_task: _Task | None = None


def _start_worker(task: _Task) -> None:
    global _task
    torch.set_num_threads(1)
    _task = task
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker waits for tasks on a queue that its siblings hold open as well, so it would outlive a killed run."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run_in_worker(chunk: int, n: int) -> None:
    assert _task is not None
    _task.run(chunk, n)


def simulate(
    simulator: Simulator,
    store: Store,
    region: Box,
    n: int,
    *,
    round_number: int,
    seed: int,
    workers: int | None = 1,
    chunk_size: int = 500,
    progress: Callable[..., tqdm] = tqdm,
) -> None:
    """Bring the store to n simulations of this round; whole chunks already there are kept.

    Raises SimulationError when the simulator raises, returns wrong shapes, or fails too often.
    """
    sizes = [min(chunk_size, n - start) for start in range(0, n, chunk_size)]
    missing = [i for i, size in enumerate(sizes) if store.rows(round_number, i) != size]
    task = _Task(simulator, store, region, seed, round_number)
    workers = min(workers or os.cpu_count() or 1, max(1, len(missing)))
    with progress(total=n, initial=n - sum(sizes[i] for i in missing), desc="simulating", unit="sim") as bar:
        if workers == 1:
            for i in missing:
                _guarded(lambda i=i: task.run(i, sizes[i]), i)
                bar.update(sizes[i])
            return
        # fork hands the simulator over without pickling it; the workers then run one thread each
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
        with ProcessPoolExecutor(workers, context, _start_worker, (task,)) as pool:
            futures = {pool.submit(_run_in_worker, i, sizes[i]): i for i in missing}
            try:
                for future in as_completed(futures):
                    _guarded(future.result, futures[future])
                    bar.update(sizes[futures[future]])
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _guarded(call: Callable[[], T], chunk: int) -> T:
    try:
        return call()
    except SimulationError:
        raise
    except Exception as error:
        raise SimulationError(f"the simulator raised {type(error).__name__} in chunk {chunk}: {error}") from error
