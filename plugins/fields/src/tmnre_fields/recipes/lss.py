"""Recipe `fields/lss`: the log-normal density of galaxies from their counts in cells, behind a selection and a mask.

    1 + delta = exp(g - sigma^2 / 2),    counts ~ Poisson(nbar selection (1 + delta))

g is a Gaussian field on a periodic flat grid of variance sigma^2 per cell.  Its spectrum is the linear one of matter in
a slab (`tmnre_fields.matter`), which the logarithm of the density keeps to far smaller scales than the density itself
does (Neyrinck et al. 2009).  What is learned is a Gaussian in g; the density has its moments in closed form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tmnre import Recipe
from tmnre.analysis import Training
from tmnre_fields import fits, map_figures, matter, spectrum
from tmnre_fields.forward import Component, FieldModel
from tmnre_fields.network import Network
from tmnre_fields.pointwise import lognormal
from tmnre_fields.recipes.expgrf import LIST_2023, PAPANDREOU_2010, rounds_of_mock
from tmnre_fields.response import Response
from tmnre_fields.sequential import TRAINING, Course, FieldRounds, Found
from tmnre_fields.sky import Flat


@dataclass(frozen=True)
class Survey:
    """The slab of sky, its matter and its galaxies."""

    pixels: int = 32
    """cells along each side of the periodic slab; 1024 unknowns"""
    pixel_mpc_per_h: float = 10.0
    """side of a cell, Mpc/h; the density of smaller cells is not log-normal"""
    thickness_mpc_per_h: float = 20.0
    """thickness of the slab along the line of sight, Mpc/h"""
    sigma8: float = 0.8
    """rms of the galaxies' linear density contrast in spheres of 8 Mpc/h, dimensionless; their bias times matter's"""
    gamma: float = 0.17
    """shape parameter of the transfer function, h/Mpc: where the spectrum turns; that of Omega_m = 0.31, h = 0.68"""
    index: float = 0.965
    """slope of the primordial spectrum, dimensionless"""
    nbar: float = 5.0
    """galaxies per cell at mean density and selection 1; 5 are 0.0025 (h/Mpc)^3, as of bright galaxies nearby"""
    far_selection: float = 0.3
    """selection in the last row for 1 in the first, falling exponentially: distant galaxies are too faint"""
    hidden: float = 0.2
    """share of the columns, in the middle, without data, as behind the Milky Way; 0: none"""
    selection: str = ""
    """.npy or FITS file of an image (pixels, pixels) of the selection, 0 to 1, 0 where there are no data; empty: the
    two above"""

    def __post_init__(self) -> None:
        for name in ("pixel_mpc_per_h", "thickness_mpc_per_h", "sigma8", "gamma", "nbar"):
            if not getattr(self, name) > 0:
                raise ValueError(f"survey.{name} must be positive, got {getattr(self, name)}")
        if not (0 < self.far_selection <= 1 and 0 <= self.hidden < 1):
            raise ValueError(
                f"survey.far_selection must be in (0, 1] and survey.hidden in [0, 1), got {self.far_selection} and "
                f"{self.hidden}"
            )


def selection(survey: Survey) -> Tensor:
    """The share of galaxies that are counted (1, pixels, pixels) float32, 0 where there are no data."""
    n = survey.pixels
    if survey.selection:
        found = torch.from_numpy(fits.read_image(Path(survey.selection), n))
        if not bool(((found >= 0) & (found <= 1)).all()) or not bool((found > 0).any()):
            raise ValueError(f"the selection in {survey.selection} must be from 0 to 1, and not 0 everywhere")
        return found[None]
    share = survey.far_selection ** torch.linspace(0, 1, n)[:, None].expand(n, n)
    width = round(survey.hidden * n)
    start = (n - width) // 2
    columns = torch.arange(n)
    return (share * ~((columns >= start) & (columns < start + width)))[None]


def survey_model(survey: Survey) -> FieldModel:
    """The simulator."""
    power = matter.slab_power(
        survey.pixels,
        pixel_mpc_per_h=survey.pixel_mpc_per_h,
        thickness_mpc_per_h=survey.thickness_mpc_per_h,
        sigma8=survey.sigma8,
        gamma=survey.gamma,
        index=survey.index,
    )
    share = selection(survey)
    component = Component("g", power, lognormal(float(spectrum.variance(power))))
    return FieldModel(Response(Flat(survey.pixels)), [component], exposure=survey.nbar * share, mask=share > 0)


@dataclass(frozen=True)
class Settings:
    """Settings of `fields/lss`; the defaults are the preset."""

    survey: Survey = Survey()
    """slab, spectrum, galaxies, selection"""
    counts: str = ""
    """.npy or FITS file of an image (pixels, pixels) of galaxies per cell, whatever it holds where the selection is 0;
    empty: a mock"""
    course: Course = Course()
    """rounds"""
    network: Network = Network()
    """size of the network"""
    training: Training = TRAINING
    """optimiser; of its settings batch, rates, decay, validation and patience count here"""
    observation_seed: int = 1
    """seed of the mock field and of its counts"""
    seed: int = 0
    """seed of simulations, training and draws"""


def build(settings: Settings) -> FieldRounds:
    """The procedure: counts, of a mock or from a file, simulator, rounds, draws.

    Raises ValueError for counts of another shape, negative or not whole.
    """
    model = survey_model(settings.survey)
    sigma2 = float(spectrum.variance(model.power()[0, 0]))
    procedure = rounds_of_mock(model, settings)
    procedure.draw_figures, procedure.write_maps = partial(_figures, sigma2=sigma2), partial(_maps, sigma2=sigma2)
    if settings.counts:
        counts = torch.from_numpy(fits.read_image(Path(settings.counts), settings.survey.pixels))
        procedure = replace(procedure, x=torch.where(model.observed > 0, counts, 0.0), truth=None)
    return procedure


def density(found: Found, sigma2: float) -> Found:
    """The same of 1 + delta; modes and rounds stay those of g."""
    mean, sd = density_moments(found.mean, found.sd, sigma2)
    return replace(found, mean=mean, sd=sd, draws=np.exp(found.draws - sigma2 / 2))


def density_moments(mean: np.ndarray, sd: np.ndarray, sigma2: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of 1 + delta for Gaussian g of these, any shape."""
    e_mean = np.exp(mean + (sd**2 - sigma2) / 2)
    return e_mean, e_mean * np.sqrt(np.expm1(sd**2))


def _maps(found: Found, folder: Path, sigma2: float) -> None:
    fits.images(found, folder, ["g"])
    fits.images(density(found, sigma2), folder, ["density"])


def _figures(procedure: FieldRounds, found: Found, record: Mapping[str, Any], folder: Path, sigma2: float) -> None:
    map_figures.draw_all(procedure, found, record, folder)
    truth = None
    if procedure.truth is not None:
        truth = np.exp(procedure.model.response.sky.fields(procedure.truth)[0].numpy() - sigma2 / 2)
    figure = map_figures.maps(density(found, sigma2), 0, truth, map_figures.data(procedure), r"$1 + \delta$")
    figure.savefig(folder / "density.png", dpi=120)


COLES_1991 = """@article{Coles1991,
  author = {Coles, Peter and Jones, Bernard},
  title = {A lognormal model for the cosmological mass distribution},
  journal = {Monthly Notices of the Royal Astronomical Society}, volume = {248}, pages = {1}, year = {1991},
  doi = {10.1093/mnras/248.1.1}
}"""

BARDEEN_1986 = """@article{Bardeen1986,
  author = {Bardeen, J. M. and Bond, J. R. and Kaiser, N. and Szalay, A. S.},
  title = {The statistics of peaks of {Gaussian} random fields},
  journal = {The Astrophysical Journal}, volume = {304}, pages = {15}, year = {1986}, doi = {10.1086/164143}
}"""

NEYRINCK_2009 = """@article{Neyrinck2009,
  author = {Neyrinck, Mark C. and Szapudi, Istv\\'an and Szalay, Alexander S.},
  title = {Rejuvenating the matter power spectrum: restoring information with a logarithmic density mapping},
  journal = {The Astrophysical Journal Letters}, volume = {698}, pages = {L90}, year = {2009},
  doi = {10.1088/0004-637X/698/2/L90}
}"""

KITAURA_2010 = """@article{Kitaura2010,
  author = {Kitaura, Francisco-Shu and Jasche, Jens and Metcalf, R. Benton},
  title = {Recovering the non-linear density field from the galaxy distribution with a {Poisson}-lognormal filter},
  journal = {Monthly Notices of the Royal Astronomical Society}, volume = {403}, pages = {589}, year = {2010},
  doi = {10.1111/j.1365-2966.2009.16163.x}
}"""

recipe = Recipe(
    settings=Settings,
    build=build,
    papers=(KITAURA_2010, COLES_1991, NEYRINCK_2009, BARDEEN_1986, LIST_2023, PAPANDREOU_2010),
    presets={
        "smoke": {
            "survey.pixels": 16,
            "course.simulations": (300, 100),
            "course.steps": (20, 20),
            "course.thresholds": (10.0,),
            "course.fitted": 100,
            "course.held_out": 50,
            "course.draws": 60,
        },
        "large": {
            "survey.pixels": 128,
            "course.simulations": (4000, 1000, 1000),
            "network.widths": (8, 16, 32, 64),
        },
        "gpu": {
            **{"training.accelerator": "gpu", "survey.pixels": 256, "network.widths": (8, 16, 32, 64)},
            **{"course.simulations": (8000, 4000, 4000), "course.steps": (2000, 1000, 1000)},
        },
    },
    summary="the log-normal density of galaxies from their counts in cells, behind a selection and a mask",
)
