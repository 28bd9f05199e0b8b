"""Recipe `fields/separation`: two random fields that overlap in two channels, told apart by spectrum and colour."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tmnre import Recipe
from tmnre.analysis import Training
from tmnre_fields import spectrum
from tmnre_fields.forward import Component, FieldModel
from tmnre_fields.network import Network
from tmnre_fields.recipes.expgrf import LIST_2023, PAPANDREOU_2010, rounds_of_mock
from tmnre_fields.response import Response
from tmnre_fields.sequential import Course, FieldRounds
from tmnre_fields.sky import Flat


@dataclass(frozen=True)
class Overlap:
    """The two fields and their data."""

    pixels: int = 32
    """pixels along each side of the periodic patch; 2 x 1024 unknowns"""
    rms: tuple[float, float] = (1.0, 0.7)
    """standard deviations of the two fields per pixel, dimensionless"""
    slope: tuple[float, float] = (5.0, 2.0)
    """their spectra fall as k^-slope above the knee: the first is smooth like dust, the second rough like the CMB"""
    knee_cycles_per_box: float = 3.0
    """wavenumber below which the spectra flatten, in cycles per box"""
    colour: float = 0.4
    """how much of the first there is in the second channel, for 1 in the first; the second is the same in both"""
    noise: tuple[float, float] = (0.3, 0.5)
    """standard deviation of the white noise per pixel in each channel"""
    masked: float = 0.25
    """side of a masked square in the middle of the patch, as a share of the patch's side; 0: none"""


@dataclass(frozen=True)
class Settings:
    """Settings of `fields/separation`; the defaults are the preset."""

    overlap: Overlap = Overlap()
    """fields, colours, noise, mask"""
    course: Course = Course(simulations=(1000, 500, 500), steps=(100, 50, 50), fitted=500)
    """rounds; the model is linear, so the first holds nearly all"""
    network: Network = Network(widths=(8, 16), hidden=8)
    """size of the network"""
    training: Training = Training(batch_size=32, validation_fraction=0.05, learning_rate=1e-3)
    """optimiser"""
    observation_seed: int = 1
    """seed of the mock fields and of their noise"""
    seed: int = 0
    """seed of simulations, training and draws"""


def overlap_model(overlap: Overlap) -> FieldModel:
    """The simulator: both components jointly, as two blocks of one unknown."""
    n = overlap.pixels
    rms, slope = (torch.tensor(value, dtype=torch.float64) for value in (overlap.rms, overlap.slope))
    power = spectrum.power(rms, slope, pixels=n, knee=overlap.knee_cycles_per_box)
    mask = torch.ones(2, n, n, dtype=torch.bool)
    half = round(overlap.masked * n / 2)
    mask[:, n // 2 - half : n // 2 + half, n // 2 - half : n // 2 + half] = False
    mixing = torch.tensor([[1.0, 1.0], [overlap.colour, 1.0]])
    noise = torch.tensor(overlap.noise).view(2, 1, 1).expand(2, n, n).contiguous()
    components = [Component("smooth", power[0]), Component("rough", power[1])]
    return FieldModel(Response(Flat(n), mixing), components, noise=noise, mask=mask if half else None)


def build(settings: Settings) -> FieldRounds:
    """The procedure: mock fields, simulator, rounds, draws of both."""
    return rounds_of_mock(overlap_model(settings.overlap), settings)


recipe = Recipe(
    settings=Settings,
    build=build,
    papers=(LIST_2023, PAPANDREOU_2010),
    presets={
        "gpu": {
            **{"training.accelerator": "gpu", "overlap.pixels": 128},
            **{"course.simulations": (4000, 2000, 2000), "course.steps": (600, 300, 300)},
        },
        "smoke": {
            "overlap.pixels": 16,
            "course.simulations": (200, 100),
            "course.steps": (20, 20),
            "course.thresholds": (10.0,),
            "course.fitted": 100,
            "course.held_out": 50,
            "course.draws": 60,
        },
    },
    summary="two random fields that overlap in two channels, jointly; truth known, exact answer known",
)
