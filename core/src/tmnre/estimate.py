"""What a run would cost, from a short probe of it: `tmnre run RECIPE --dry-run`.

The probe simulates a few times, then trains the recipe's own network for two short cycles in a temporary folder, with
and without the joints that only some rounds learn; the rest is arithmetic.  Training n steps takes n a + 50 b: a is an
optimiser step, b one of the 50 validations of a cycle, and the two cycles give both.  It is good to a factor of about
two: rounds may stop before the last, simulations of earlier rounds count again in later ones, and another process may
want the processor.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tmnre.analysis import Analysis, Stage
from tmnre.descent import steps_between
from tmnre.procedure import Procedure
from tmnre.rounds import Rounds
from tmnre.simulator import adopt
from tmnre.train import FIRST_CYCLE, MAX_STEPS, ROUGH_STEPS

PROBE_S = 1.0
"""how long a batch of the simulator should take, and half of what all may take"""
SHORT, LONG, LONG_S = 10, 200, 15.0
"""steps of the two cycles, of the longer at most so many and for about so many seconds, but thrice the shorter's"""


@dataclass(frozen=True)
class Estimate:
    """Costs of an analysis if every round it may have is run; times in seconds, on this machine."""

    rounds: int
    simulations: int
    """without reuse of earlier rounds' simulations, that is, at most"""
    bytes_each: int
    """of one stored simulation"""
    disk_gib: float
    simulate_s: float
    """all simulations, on `workers` processes"""
    seconds_each: float
    """of one simulation on one core"""
    workers: int
    steps: tuple[int, int]
    """optimiser steps of all rounds: at least, at most; they differ where a stage leaves them open"""
    step_s: float
    train_s: tuple[float, float]
    rest_s: float
    """preparing, evaluating and checking, at least"""
    whole: bool = True
    """False: of an analysis that is a part of a procedure, without the rest of it"""

    def __add__(self, other: Estimate) -> Estimate:
        """Both, one after the other; a single simulation and a single step are the first's."""
        low, high = (a + b for a, b in zip(self.steps, other.steps, strict=True))
        low_s, high_s = (a + b for a, b in zip(self.train_s, other.train_s, strict=True))
        return replace(
            self,
            rounds=self.rounds + other.rounds,
            simulations=self.simulations + other.simulations,
            disk_gib=self.disk_gib + other.disk_gib,
            simulate_s=self.simulate_s + other.simulate_s,
            steps=(low, high),
            train_s=(low_s, high_s),
            rest_s=self.rest_s + other.rest_s,
            whole=self.whole and other.whole,
        )

    @property
    def total_s(self) -> tuple[float, float]:
        """Everything: at least, at most."""
        low, high = (self.simulate_s + train + self.rest_s for train in self.train_s)
        return low, high

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return {**asdict(self), "total_s": self.total_s}


def estimate(work: Analysis | Procedure, *, disk_gib: float | None = None) -> Estimate:
    """Costs of an analysis, from a probe of some seconds; a disk budget bounds the disk.  A procedure tells its own.

    Raises ValueError where a procedure cannot tell.
    """
    if isinstance(work, Procedure):
        return work.estimate(disk_gib=disk_gib)
    analysis = work
    each_s, bytes_each = _simulation(analysis)
    batch = analysis.training.batch_size
    # one whole batch and its validation set, unless the simulator is too slow for that
    probe = int(np.clip(1.25 * batch, 64, max(64, 20 / max(each_s, 1e-9))))
    measured = {together: _training(one, probe) for together, one in _probes(analysis).items()}
    stages, workers = analysis.stages, min(analysis.workers or os.cpu_count() or 1, os.cpu_count() or 1)
    simulations = sum(stage.simulations for stage in stages)
    scale = max(1.0, batch / (0.9 * probe)) * analysis.training.members
    low = high = 0
    train_s, rest_s = np.zeros(2), 0.0
    for stage in stages:
        step_s, validation_s, beside_s = measured.get(stage.together) or measured[True]
        rest_s += beside_s
        # a validation pass grows with the simulations held out, the probe's held out one small batch
        passes = max(1.0, analysis.training.validation_fraction * stage.simulations / batch)
        bounds = _cycles(stage, last=stage is stages[-1])
        low, high = low + sum(bounds[0]), high + sum(bounds[1])
        validations = [sum(steps / steps_between(steps, passes) for steps in cycles) for cycles in bounds]
        train_s += scale * (step_s * np.array([sum(b) for b in bounds]) + validation_s * passes * np.array(validations))
    disk = simulations * bytes_each / 2**30
    return Estimate(
        rounds=len(stages),
        simulations=simulations,
        bytes_each=bytes_each,
        disk_gib=disk if disk_gib is None else min(disk, disk_gib),
        simulate_s=simulations * each_s / workers,
        seconds_each=each_s,
        workers=workers,
        steps=(low, high),
        step_s=step_s,
        train_s=(float(train_s[0]), float(train_s[1])),
        rest_s=rest_s,
    )


def part_of(analysis: Analysis, disk_gib: float | None) -> Estimate:
    """Costs of an analysis that is a part of a procedure."""
    return replace(estimate(analysis, disk_gib=disk_gib), whole=False)


def _cycles(stage: Stage, *, last: bool) -> tuple[list[int], list[int]]:
    """Steps of a stage's cycles, at least and at most."""
    if stage.steps is not None:
        return [stage.steps], [stage.steps]
    return _doubling(ROUGH_STEPS), _doubling(MAX_STEPS if last else ROUGH_STEPS)


def _doubling(total: int) -> list[int]:
    cycles = [FIRST_CYCLE]
    while sum(cycles) < total:
        cycles.append(2 * cycles[-1])
    return cycles


def _simulation(analysis: Analysis) -> tuple[float, int]:
    """Seconds on one core and bytes of one simulation: of the quickest of some batches, which grow to a whole shard
    while there is time; a busy machine may hold up any one of them."""
    simulator, rng, n = adopt(analysis.simulator), np.random.default_rng(analysis.seed), 1
    simulator.simulate(simulator.prior.sample(1, rng), rng)  # the first call may set things up
    began, each_s = time.perf_counter(), np.inf
    while True:
        theta, started = simulator.prior.sample(n, rng), time.perf_counter()
        stored = simulator.simulate(theta, rng)
        taken = time.perf_counter() - started
        each_s = min(each_s, taken / n)
        if time.perf_counter() - began > 2 * PROBE_S or n >= analysis.shard_size:
            each = 8 * len(simulator.prior) + sum(np.asarray(array).nbytes for array in stored.values()) // n
            return each_s, each
        n = min(analysis.shard_size, max(n + 1, int(n * min(8.0, PROBE_S / max(taken, 1e-6)))))


def _probes(analysis: Analysis) -> dict[bool, Analysis]:
    """{whether a stage cuts its groups together: an analysis that learns what it does}, without cutting by contours,
    which take their time where a joint has been learned, and not where it has not."""
    cut = [(name,) if isinstance(name, str) else tuple(name) for name in analysis.truncated or ()]
    groups = [names for names in cut if len(names) > 1]
    alone = None if analysis.truncated is None else list(dict.fromkeys(name for names in cut for name in names))
    marginals = [(name,) if isinstance(name, str) else tuple(name) for name in analysis.marginals]
    plain = replace(analysis, truncated=alone, workers=1, distortions={}, figures=None)
    kinds = {True: [*marginals, *groups]}
    if groups and not all(stage.together for stage in analysis.stages):
        kinds[False] = [names for names in marginals if names not in groups] or [(name,) for name in alone or ()]
    return {together: replace(plain, marginals=learned) for together, learned in kinds.items()}


def _training(analysis: Analysis, n: int) -> tuple[float, float, float]:
    """Seconds of an optimiser step, of one validation, and of what else there is in a round."""
    stages = [Stage(n, 5), Stage(n, SHORT)]  # the first warms up
    with tempfile.TemporaryDirectory(prefix="tmnre-") as folder:

        def last() -> dict[str, float]:
            probe = replace(analysis, stages=stages)
            rounds = Rounds(probe, Path(folder), progress=partial(tqdm, disable=True), say=lambda _: None)
            return rounds.run().rounds[-1]["seconds"]

        short = last()
        many_steps = int(np.clip(LONG_S * SHORT / short["train"], 3 * SHORT, LONG))
        stages.append(Stage(n, many_steps))
        long = last()
    a, b = short["train"], long["train"]
    # a = SHORT step + few validations, b = many_steps step + many of them
    few, many = (steps / steps_between(steps, 1) for steps in (SHORT, many_steps))
    step = (few * b - many * a) / (few * many_steps - many * SHORT)
    step = float(np.clip(step, 0.2 * b / many_steps, b / many_steps))
    return step, max(0.0, a - SHORT * step) / few, long["prepare"] + long["evaluate"]
