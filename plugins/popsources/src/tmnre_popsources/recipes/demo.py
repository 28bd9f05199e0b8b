"""Recipe `popsources/demo`: number, flux width and scale height of a population of point sources."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from tmnre import Analysis, Recipe, Stage, Training, Truncation
from tmnre_popsources import figures
from tmnre_popsources.embedding import CountsNet
from tmnre_popsources.simulator import LABELS, Patch, PatchSimulator


@dataclass(frozen=True)
class Truth:
    """The mock population: the published observation of 2211.04291."""

    expected_sources: float = 147.6
    """expected number of sources, dimensionless"""
    flux_width: float = 1.522
    """standard deviation of ln flux, dimensionless"""
    height_deg: float = 16.41
    """standard deviation of latitude in degrees"""


@dataclass(frozen=True)
class Settings:
    """Settings of `popsources/demo`; the defaults are the preset."""

    patch: Patch = Patch()
    """pixels, blur, background and what is fixed of the population"""
    truth: Truth = Truth()
    """the mock population"""
    observation_seed: int = 0
    """seed of the mock's sources and counts"""
    simulations: int = 10_000
    """simulations in each round's training set; sources are not redrawn, so more help more than steps"""
    rounds: int = 2
    """rounds at most; the posterior is broad, so there is little to truncate after the first"""
    steps: int = 800
    """optimiser steps per round"""
    training: Training = Training(batch_size=128)
    """optimiser; small batches, because drawing Poisson counts is what costs"""
    truncation: Truncation = Truncation()
    """how the region shrinks"""
    workers: int = 1
    """simulator processes; a map takes a millisecond"""
    seed: int = 0
    """seed of simulations and training"""


def build(settings: Settings) -> Analysis:
    """The analysis: mock map, simulator, marginals, rounds."""
    simulator = PatchSimulator(settings.patch)
    truth = {name: getattr(settings.truth, name) for name in simulator.prior.names}
    sources = simulator.draw(np.array(list(truth.values())), np.random.default_rng(settings.observation_seed))
    expected = simulator.expected_counts(sources).astype(np.float32)
    generator = torch.Generator().manual_seed(settings.observation_seed)
    theta = torch.tensor([list(truth.values())])
    counts = simulator.observe({"expected": torch.from_numpy(expected)[None]}, theta, generator)["counts"][0].numpy()
    return Analysis(
        simulator=simulator,
        observation={"counts": counts},
        marginals=[*simulator.prior.names, ("expected_sources", "flux_width"), ("expected_sources", "height_deg")],
        stages=(Stage(settings.simulations, settings.steps),) * settings.rounds,
        training=settings.training,
        truncation=settings.truncation,
        embedding=CountsNet,
        truth=truth,
        labels=LABELS,
        figures=partial(figures.patch, simulator=simulator, sources=sources, expected=expected, counts=counts),
        seed=settings.seed,
        workers=settings.workers,
    )


ANAU_MONTEL_2022 = """@misc{AnauMontel2022,
  author = {Anau Montel, Noemi and Weniger, Christoph},
  title = {Detection is truncation: studying source populations with truncated marginal neural ratio estimation},
  year = {2022}, eprint = {2211.04291}
}"""

recipe = Recipe(
    settings=Settings,
    build=build,
    papers=(ANAU_MONTEL_2022,),
    presets={"smoke": {"simulations": 1000, "rounds": 2, "steps": 50}},
    summary="patch of log-normal point sources in Poisson noise: number, flux width and scale height, truth known",
)
