"""Recipe `popsources/demo`: number, flux width and scale height of a population of point sources."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from tmnre import Analysis, Recipe, Stage, Training, Truncation
from tmnre_popsources import figures
from tmnre_popsources.histograms import ZoneHistograms, bin_edges, patch_neighbours, patch_zones
from tmnre_popsources.papers import ANAU_MONTEL_2022
from tmnre_popsources.patch import LABELS, Patch, PatchSimulator, Scene


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
    redraw_noise: bool = False
    """draw Poisson noise anew at every use of a map; the same time goes further in more maps"""
    simulations: int = 20_000
    """maps in each round's training set"""
    rounds: int = 2
    """rounds at most; the posterior is broad, so there is little to truncate after the first"""
    steps: int = 1000
    """optimiser steps per round"""
    training: Training = Training(batch_size=128)
    """optimiser"""
    truncation: Truncation = Truncation()
    """how the region shrinks"""
    workers: int = 1
    """simulator processes; a map takes half a millisecond"""
    seed: int = 0
    """seed of simulations and training"""


def build(settings: Settings) -> Analysis:
    """The analysis: mock map, simulator, marginals, rounds."""
    scene = Scene.of(settings.patch)
    most = 3000 * settings.patch.exposure
    summary = ZoneHistograms(patch_zones(scene.pixels), patch_neighbours(scene.pixels), bin_edges(24, most))
    simulator = PatchSimulator(scene, summary=summary, redraw_noise=settings.redraw_noise)
    truth = {name: getattr(settings.truth, name) for name in simulator.prior.names}
    generator = torch.Generator().manual_seed(settings.observation_seed)
    sources = scene.draw(torch.tensor([list(truth.values())], dtype=torch.float64), generator)
    expected = scene.expected(sources, 1)
    counts = scene.counts(expected, generator)
    names = simulator.prior.names
    return Analysis(
        simulator=simulator,
        observation={name: array[0].numpy() for name, array in simulator.summarised(counts).items()},
        marginals=[*names, (names[0], names[1]), (names[0], names[2]), (names[1], names[2])],
        # the last from its own region's linear model, which is better than what was learned in a wider one
        stages=(
            *(Stage(settings.simulations, settings.steps),) * (settings.rounds - 1),
            Stage(settings.simulations, settings.steps, afresh=True),
        ),
        training=settings.training,
        truncation=settings.truncation,
        truth=truth,
        labels=LABELS,
        figures=partial(figures.patch, scene=scene, sources=sources, expected=expected[0], counts=counts[0]),
        seed=settings.seed,
        workers=settings.workers,
    )


recipe = Recipe(
    settings=Settings,
    build=build,
    papers=(ANAU_MONTEL_2022,),
    presets={"smoke": {"simulations": 1000, "rounds": 2, "steps": 50}},
    summary="patch of log-normal point sources in Poisson noise: number, flux width and scale height, truth known",
)
