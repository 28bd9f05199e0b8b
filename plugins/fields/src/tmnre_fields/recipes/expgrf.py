"""Recipe `fields/expgrf`: every pixel of an exponentiated Gaussian field in noise, in rounds of tempered proposals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from tmnre import Recipe
from tmnre.analysis import Training
from tmnre_fields import fits, map_figures, spectrum
from tmnre_fields.forward import Component, FieldModel
from tmnre_fields.network import Network
from tmnre_fields.pointwise import FUNCTIONS
from tmnre_fields.response import Response
from tmnre_fields.sequential import TRAINING, Course, FieldRounds
from tmnre_fields.sky import Flat


@dataclass(frozen=True)
class Patch:
    """The field and its data."""

    pixels: int = 64
    """pixels along each side of the periodic patch; 4096 unknowns"""
    noise: float = 0.1
    """standard deviation of the white noise per pixel, in units of x; a tenth of the field's median, exp(0)"""
    rms: float = 0.8
    """standard deviation of z per pixel, dimensionless"""
    slope: float = 3.0
    """power falls as k^-slope above the knee, dimensionless"""
    knee_cycles_per_box: float = 3.0
    """wavenumber below which the spectrum flattens, in cycles per box"""
    function: str = "exponential"
    """what is seen of z, pixel by pixel: exponential, clipped or identity"""

    def __post_init__(self) -> None:
        if self.function not in FUNCTIONS:
            raise ValueError(f"patch.function must be one of {sorted(FUNCTIONS)}, got {self.function!r}")


def patch_model(patch: Patch) -> FieldModel:
    """The simulator."""
    rms, slope = (torch.tensor([value], dtype=torch.float64) for value in (patch.rms, patch.slope))
    power = spectrum.power(rms, slope, pixels=patch.pixels, knee=patch.knee_cycles_per_box)[0]
    response = Response(Flat(patch.pixels))
    return FieldModel(response, [Component("z", power, FUNCTIONS[patch.function])], noise=patch.noise)


@dataclass(frozen=True)
class Settings:
    """Settings of `fields/expgrf`; the defaults are the preset."""

    patch: Patch = Patch()
    """patch, spectrum, noise, function"""
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
    return rounds_of_mock(patch_model(settings.patch), settings)


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
