"""Recipe `supernova/hubble`: matter density and equation of state, from a table of supernovae or a mock."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from tmnre import Analysis, Recipe, Stage, Training
from tmnre_supernova import figures
from tmnre_supernova.embedding import HubbleNet
from tmnre_supernova.simulator import LABELS, SCATTER_MAG, ZERO_POINT_MAG, HubbleDiagram


@dataclass(frozen=True)
class Settings:
    """Settings of `supernova/hubble`."""

    table: str | None = None
    """text file with two columns, redshift and standardised magnitude; none given: a mock is made"""
    supernovae: int = 400
    """supernovae of the mock"""
    omega_m: float = 0.3
    """matter density of the mock, in units of the critical density"""
    w: float = -1.0
    """equation of state of the mock; -1 is a cosmological constant"""
    simulations: int = 3000
    """simulations in each round's training set; noise is redrawn, so few are enough"""
    rounds: int = 3
    """rounds at most"""
    steps: int = 1200
    """optimiser steps a round"""
    training: Training = Training(batch_size=256)
    """optimiser"""
    workers: int | None = None
    """simulator processes; none given: one per CPU"""
    seed: int = 0
    """seed of everything random, the mock included"""


def build(settings: Settings) -> Analysis:
    """The analysis of the table or mock."""
    truth = {}
    if settings.table is None:
        rng = np.random.default_rng(settings.seed)
        simulator = HubbleDiagram(np.sort(rng.uniform(0.02, 1.2, settings.supernovae)))
        truth = {"omega_m": settings.omega_m, "w": settings.w}
        scatter = SCATTER_MAG * rng.standard_normal(settings.supernovae) + ZERO_POINT_MAG * rng.standard_normal()
        magnitude = simulator.moduli(settings.omega_m, settings.w) + scatter
    else:
        redshift, magnitude = np.loadtxt(settings.table, ndmin=2).T
        order = np.argsort(redshift)
        simulator, magnitude = HubbleDiagram(redshift[order]), magnitude[order]
    return Analysis(
        simulator,
        {"magnitude": magnitude.astype(np.float32)},
        marginals=["omega_m", "w", ("omega_m", "w")],
        stages=(Stage(settings.simulations, settings.steps),) * settings.rounds,
        training=settings.training,
        embedding=HubbleNet,
        truth=truth,
        labels=LABELS,
        figures=partial(figures.hubble, simulator=simulator, magnitude=magnitude),
        seed=settings.seed,
        workers=settings.workers,
    )


SICRET = """@article{Karchev2023SICRET,
  author = {Karchev, Konstantin and Trotta, Roberto and Weniger, Christoph},
  title = {{SICRET}: Supernova {Ia} Cosmology with truncated marginal neural Ratio EsTimation},
  journal = {Monthly Notices of the Royal Astronomical Society}, year = {2023}, eprint = {2209.06733}
}"""
ASTROPY = """@article{Astropy2022,
  author = {{Astropy Collaboration}},
  title = {The {Astropy} Project: Sustaining and Growing a Community-oriented Open-source Project},
  journal = {The Astrophysical Journal}, year = {2022}, eprint = {2206.14220}
}"""

recipe = Recipe(
    settings=Settings,
    build=build,
    papers=(SICRET, ASTROPY),
    presets={"smoke": {"simulations": 300, "rounds": 2, "steps": 30, "training.batch_size": 128, "supernovae": 100}},
    summary="matter density and dark energy's equation of state from a Hubble diagram of type Ia supernovae",
)
