"""Recipe `fields/demo`: amplitude and slope of the power spectrum under an exponentiated Gaussian random field."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from tmnre import Analysis, Recipe, Stage, Training, Truncation
from tmnre_fields import figures
from tmnre_fields.embedding import SpectrumNet
from tmnre_fields.simulator import LABELS, FieldSimulator, Grid


@dataclass(frozen=True)
class Truth:
    """Spectrum of the mock field."""

    rms: float = 0.8
    """standard deviation of z per pixel, dimensionless; exp(z) then spans a factor of 25 within two deviations"""
    slope: float = 3.0
    """power falls as k^-slope above the knee, dimensionless; between dust (2.5) and turbulence in two dimensions"""


@dataclass(frozen=True)
class Settings:
    """Settings of `fields/demo`; the defaults are the preset."""

    grid: Grid = Grid()
    """patch, noise, knee; grid.exponentiate=false gives the linear variant"""
    truth: Truth = Truth()
    """spectrum of the mock"""
    observation_seed: int = 1
    """seed of the mock field and of its noise; an ordinary draw, z itself (Whittle) has the truth within 0.9 sd"""
    simulations: int = 20_000
    """simulations in each round's training set; the field's own scatter is not redrawn, so more help more than steps"""
    rounds: int = 3
    """rounds at most; two parameters need one to truncate and one to learn"""
    steps: int = 500
    """optimiser steps per round"""
    training: Training = Training(batch_size=256)
    """optimiser"""
    truncation: Truncation = Truncation()
    """how the region shrinks"""
    workers: int = 1
    """simulator processes; a field takes a quarter of a millisecond"""
    seed: int = 0
    """seed of simulations and training"""


def build(settings: Settings) -> Analysis:
    """The analysis: mock field, simulator, marginals, rounds."""
    simulator = FieldSimulator(settings.grid)
    truth = {"rms": settings.truth.rms, "slope": settings.truth.slope}
    theta = np.array([list(truth.values())])
    z = simulator.simulate(theta, np.random.default_rng(settings.observation_seed))["z"]
    generator = torch.Generator().manual_seed(settings.observation_seed)
    x = simulator.observe({"z": torch.from_numpy(z)}, torch.from_numpy(theta), generator)["x"][0].numpy()
    floor = settings.grid.noise if settings.grid.exponentiate else None
    return Analysis(
        simulator=simulator,
        observation={"x": x},
        marginals=["rms", "slope", ("rms", "slope")],
        # the last from its own region's linear model, which is better than what was learned in a wider one
        stages=(
            *(Stage(settings.simulations, settings.steps),) * (settings.rounds - 1),
            Stage(settings.simulations, settings.steps, afresh=True),
        ),
        training=settings.training,
        truncation=settings.truncation,
        embedding=partial(SpectrumNet, floor=floor),
        truth=truth,
        labels=LABELS,
        figures=partial(figures.field, simulator=simulator, z=z[0], x=x),
        seed=settings.seed,
        workers=settings.workers,
    )


COLES_JONES_1991 = """@article{Coles1991,
  author = {Coles, Peter and Jones, Bernard},
  title = {A lognormal model for the cosmological mass distribution},
  journal = {Monthly Notices of the Royal Astronomical Society},
  volume = {248}, pages = {1--13}, year = {1991}, doi = {10.1093/mnras/248.1.1}
}"""

WHITTLE_1953 = """@article{Whittle1953,
  author = {Whittle, Peter},
  title = {Estimation and information in stationary time series},
  journal = {Arkiv f{\\"o}r Matematik}, volume = {2}, pages = {423--434}, year = {1953}, doi = {10.1007/BF02590998}
}"""

recipe = Recipe(
    settings=Settings,
    build=build,
    papers=(COLES_JONES_1991, WHITTLE_1953),
    presets={"gpu": {"training.accelerator": "gpu"}, "smoke": {"simulations": 1000, "rounds": 2, "steps": 60}},
    summary="exponentiated Gaussian random field in noise: amplitude and slope of its power spectrum, truth known",
)
