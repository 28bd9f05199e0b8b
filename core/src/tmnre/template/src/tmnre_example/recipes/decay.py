"""Recipe `example/decay`: activity, half-life and background, from a file of counts or from a mock."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from tmnre import Analysis, Recipe, Stage, Training
from tmnre_example import figures
from tmnre_example.embedding import CountsNet
from tmnre_example.simulator import LABELS, DecaySimulator


@dataclass(frozen=True)
class Truth:
    """The mock's source, where no counts are given."""

    activity_hz: float = 120.0
    """Hz; decays a second at the start"""
    half_life_s: float = 24.0
    """s; a fifth of the measurement, so that both decay and background are seen"""
    background_hz: float = 4.0
    """Hz"""


@dataclass(frozen=True)
class Settings:
    """Settings of `example/decay`."""

    counts: str | None = None
    """text file, one number a line for each interval; none given: a mock is made"""
    duration_s: float = 120.0
    """s; length of the measurement"""
    bins: int = 60
    """intervals of the mock"""
    truth: Truth = field(default_factory=Truth)
    """the mock's source"""
    simulations: int = 4000
    """simulations in each round's training set; noise is redrawn, so few are enough"""
    rounds: int = 3
    """rounds at most; fewer when the region stops shrinking"""
    steps: int = 1000
    """optimiser steps a round"""
    training: Training = field(default_factory=lambda: Training(batch_size=256))
    """optimiser"""
    workers: int = 1
    """simulator processes; this simulator takes microseconds"""
    seed: int = 0
    """seed of everything random, the mock included"""


def build(settings: Settings) -> Analysis:
    """The analysis of the counts; raises ValueError where they are none."""
    truth: dict[str, float] = {}
    if settings.counts is None:
        simulator = DecaySimulator(settings.duration_s, settings.bins)
        truth = {name: getattr(settings.truth, name) for name in simulator.prior.names}
        expected = torch.from_numpy(simulator.expected(np.array([list(truth.values())])))
        counts = torch.poisson(expected, generator=torch.Generator().manual_seed(settings.seed))[0].numpy()
    else:
        counts = read_counts(settings.counts)
        simulator = DecaySimulator(settings.duration_s, len(counts))
    return Analysis(
        simulator,
        {"counts": counts.astype(np.float32)},
        marginals=[*simulator.prior.names, ("activity_hz", "half_life_s"), ("half_life_s", "background_hz")],
        stages=(Stage(settings.simulations, settings.steps),) * settings.rounds,
        training=settings.training,
        embedding=CountsNet,
        truth=truth,
        labels=LABELS,
        figures=partial(figures.decay, simulator=simulator, counts=counts),
        seed=settings.seed,
        workers=settings.workers,
    )


def read_counts(path: str) -> np.ndarray:
    """Counts (B,) of a text file; raises ValueError where it holds anything else."""
    counts = np.loadtxt(path, ndmin=1)
    if counts.ndim != 1 or len(counts) < 3 or (counts < 0).any() or (counts != counts.round()).any():
        raise ValueError(f"{path} must hold three whole numbers or more, one a line, none negative")
    return counts


RUTHERFORD_1900 = """@article{Rutherford1900,
  author = {Rutherford, Ernest},
  title = {A radio-active substance emitted from thorium compounds},
  journal = {Philosophical Magazine}, volume = {49}, pages = {1--14}, year = {1900},
  doi = {10.1080/14786440009463821}
}"""

recipe = Recipe(
    settings=Settings,
    build=build,
    papers=(RUTHERFORD_1900,),
    presets={"smoke": {"simulations": 400, "rounds": 2, "steps": 30, "training.batch_size": 128}},
    summary="activity, half-life and background of a radioactive source from counts in equal intervals",
)
