"""Recipe `fields/expgrf`: every pixel of an exponentiated Gaussian field in noise, in rounds of tempered proposals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from tmnre import Analysis, Recipe
from tmnre.analysis import Training
from tmnre_fields import fits, map_figures, spectrum
from tmnre_fields.forward import Component, FieldModel
from tmnre_fields.network import Network
from tmnre_fields.pointwise import FUNCTIONS
from tmnre_fields.recipes import demo
from tmnre_fields.response import Response
from tmnre_fields.sequential import TRAINING, Course, FieldRounds
from tmnre_fields.simulator import PRIOR, Grid
from tmnre_fields.sky import Flat


@dataclass(frozen=True)
class Patch:
    """The field and its data."""

    pixels: int = 64
    """pixels along each side of the periodic patch; 4096 unknowns"""
    noise: float = 0.1
    """standard deviation of the white noise per pixel, in units of x; a tenth of the field's median, exp(0)"""
    rms: float = 0.8
    """standard deviation of z per pixel, dimensionless; with a free spectrum, of the mock"""
    slope: float = 3.0
    """power falls as k^-slope above the knee, dimensionless; with a free spectrum, of the mock"""
    knee_cycles_per_box: float = 3.0
    """wavenumber below which the spectrum flattens, in cycles per box"""
    function: str = "exponential"
    """what is seen of z, pixel by pixel: exponential, clipped or identity"""

    def __post_init__(self) -> None:
        if self.function not in FUNCTIONS:
            raise ValueError(f"patch.function must be one of {sorted(FUNCTIONS)}, got {self.function!r}")


@dataclass(frozen=True)
class Spectrum:
    """Whether the field's spectrum is known; where not, the rounds of `fields/demo` that infer it come first."""

    free: bool = False
    """infer rms and slope, with the priors of fields/demo, and the field given draws of them"""
    simulations: int = 20_000
    """fields in the training set of each of the spectrum's rounds"""
    rounds: int = 3
    """rounds of the spectrum at most"""
    steps: int = 500
    """optimiser steps of each"""


def patch_model(patch: Patch, *, free: bool = False) -> FieldModel:
    """The simulator; with a free spectrum, one whose power is a function of rms and slope."""

    def power(theta: torch.Tensor) -> torch.Tensor:
        return spectrum.power(*theta.T, pixels=patch.pixels, knee=patch.knee_cycles_per_box)

    known = torch.tensor([[patch.rms, patch.slope]], dtype=torch.float64)
    component = Component("z", power if free else power(known)[0], FUNCTIONS[patch.function])
    response = Response(Flat(patch.pixels))
    return FieldModel(response, [component], noise=patch.noise, prior=PRIOR if free else None)


@dataclass(frozen=True)
class Settings:
    """Settings of `fields/expgrf`; the defaults are the preset."""

    patch: Patch = Patch()
    """patch, spectrum, noise, function"""
    spectrum: Spectrum = Spectrum()
    """what is known of the spectrum"""
    course: Course = Course()
    """rounds"""
    network: Network = Network()
    """size of the network"""
    training: Training = TRAINING
    """optimiser; of its settings batch, rates, decay, validation and patience count here"""
    observation_seed: int = 1
    """seed of the mock field and of its noise"""
    seed: int = 0
    """seed of simulations, training and draws"""


def build(settings: Settings) -> FieldRounds:
    """The procedure: mock field, simulator, rounds, draws."""
    work = rounds_of_mock(patch_model(settings.patch), settings)
    if not settings.spectrum.free:
        return work
    rounds = spectrum_rounds(settings, work.x[0])
    return replace(work, model=patch_model(settings.patch, free=True), first=rounds)


def spectrum_rounds(settings: Settings, x: torch.Tensor) -> Analysis:
    """Rounds for rms and slope of the field behind x (n, n)."""
    patch, schedule = settings.patch, settings.spectrum
    if patch.function not in ("exponential", "identity"):
        raise ValueError(f"spectrum.free needs a field seen as it is or exponentiated, not {patch.function}")
    grid = Grid(patch.pixels, patch.noise, patch.knee_cycles_per_box, exponentiate=patch.function == "exponential")
    whole = demo.build(
        demo.Settings(
            grid=grid,
            truth=demo.Truth(patch.rms, patch.slope),
            simulations=schedule.simulations,
            rounds=schedule.rounds,
            steps=schedule.steps,
            seed=settings.seed,
        )
    )
    return replace(whole, observation={"x": x.numpy()}, figures=None)


def rounds_of_mock(model: FieldModel, settings: Any) -> FieldRounds:
    """The procedure for a mock of a flat model; settings as here, of whatever model."""
    generator = torch.Generator().manual_seed(settings.observation_seed)
    truth = model.draw(1, generator)
    x = model.observe(model.signal(truth), generator)
    return FieldRounds(
        model,
        x[0],
        settings.course,
        settings.training,
        settings.network,
        truth=truth[0],
        draw_figures=map_figures.draw_all,
        write_maps=partial(fits.images, names=[component.name for component in model.components]),
        seed=settings.seed,
    )


LIST_2023 = """@article{List2023,
  author = {List, Florian and Anau Montel, Noemi and Weniger, Christoph},
  title = {Bayesian Simulation-based Inference for Cosmological Initial Conditions},
  journal = {arXiv e-prints}, year = {2023}, eprint = {2310.19910}, archivePrefix = {arXiv}
}"""

PAPANDREOU_2010 = """@inproceedings{Papandreou2010,
  author = {Papandreou, George and Yuille, Alan L.},
  title = {Gaussian sampling by local perturbations},
  booktitle = {Advances in Neural Information Processing Systems}, volume = {23}, year = {2010}
}"""

recipe = Recipe(
    settings=Settings,
    build=build,
    papers=(LIST_2023, PAPANDREOU_2010),
    presets={
        "free": {"spectrum.free": True},
        "gpu": {
            **{"training.accelerator": "gpu", "patch.pixels": 128, "network.widths": (8, 16, 32, 64)},
            **{"course.simulations": (8000, 4000, 4000), "course.steps": (2000, 1000, 1000)},
        },
        "smoke": {
            "patch.pixels": 16,
            "course.simulations": (300, 100),
            "course.steps": (20, 20),
            "course.thresholds": (10.0,),
            "course.fitted": 100,
            "course.held_out": 50,
            "course.draws": 60,
        },
    },
    summary="every pixel of an exponentiated Gaussian field in noise, in rounds for this observation, truth known",
)
