"""Recipe `fields/wmap`: the CMB on the whole sky from WMAP's seven-year V and W bands outside the galactic mask."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from tmnre import Recipe
from tmnre.analysis import Training
from tmnre.files import write_json
from tmnre_fields import fits, noise_level, sphere_figures, wmap
from tmnre_fields.network import Network
from tmnre_fields.sequential import Course, FieldRounds, Found

COURSE = Course(
    simulations=(300,),
    steps=(40,),
    thresholds=(),
    fitted=300,
    held_out=30,
    draws=100,
    kept=100,
)


@dataclass(frozen=True)
class Settings:
    """Settings of `fields/wmap`; the defaults are the preset."""

    folder: str = ""
    """where the three FITS files are; empty: $TMNRE_DATA/fields"""
    nside: int = 32
    """HEALPix resolution of the maps, at most the files' 32; pixels of 1.8 degrees"""
    lmax: int = 112
    """largest multipole of the CMB that is inferred, 3.5 nside; what there is beyond is marginalised.  Up to 80 only
    it is 24 microkelvin, alike in neighbouring pixels and both bands, which leaves pixels uncalibrated.  Beyond 3 nside
    pixels alias, and the solver needs several times as many iterations"""
    offset_uk: float = 30.0
    """microkelvin, prior sd of monopole and dipole that the maps may have kept"""
    foreground_uk: float = 0.0
    """microkelvin, prior rms of a free-free component in V; 0: none, the bands' difference outside the mask is noise"""
    noise_factor: float = 1.0
    """factor on the noise that the maps' polarisation tells"""
    infer_noise: bool = False
    """infer that factor, from what the bands disagree on, and average over it; it multiplies noise_factor"""
    course: Course = COURSE
    """rounds"""
    network: Network = Network(widths=(8, 16), hidden=8)
    """size of the network; the model is linear, so little is left to learn"""
    training: Training = Training(batch_size=8, validation_fraction=0.02)
    """optimiser"""
    seed: int = 0
    """seed of simulations, training and draws"""


def build(settings: Settings) -> FieldRounds:
    """The procedure: maps, simulator, rounds, draws."""
    folder = Path(settings.folder or Path(os.environ.get("TMNRE_DATA", "data")) / "fields")
    if not 1 <= settings.nside <= 32:
        raise ValueError(f"nside must be at most the files' 32, got {settings.nside}")
    maps = wmap.read(folder, settings.nside)
    model = wmap.model(
        maps,
        settings.nside,
        settings.lmax,
        offset_uk=settings.offset_uk,
        foreground_uk=settings.foreground_uk,
        noise_factor=settings.noise_factor,
    )
    names = [component.name for component in model.components]
    first = None
    if settings.infer_noise:
        first = noise_level.analysis(model, maps.x, seed=settings.seed)
        model = replace(model, prior=noise_level.PRIOR, noise_factor="noise_factor")
    return FieldRounds(
        model,
        maps.x,
        settings.course,
        settings.training,
        settings.network,
        first=first,
        draw_figures=_figures,
        write_maps=partial(fits.healpix_maps, names=names, unit="uK"),
        seed=settings.seed,
    )


def spectrum_check(c_draws: np.ndarray, c_model: np.ndarray, low: int, high: int) -> dict[str, float]:
    """How the sky's C_l hold against a model at low <= l <= high: sum of (2 l + 1) C_l / C_l^model, as chi-squared.

    c_draws (S, l): the mean over draws stands for the sky's; where data do not tell it leans on the model.
    """
    ell = np.arange(low, high + 1)
    statistic = float(np.sum((2 * ell + 1) * c_draws.mean(0)[ell] / c_model[ell]))
    modes = int(np.sum(2 * ell + 1))
    error = np.sqrt(2 / (2 * ell + 1) + (c_draws.std(0)[ell] / c_model[ell]) ** 2)
    apart = (c_draws.mean(0)[ell] / c_model[ell] - 1) / error
    return {
        "ratio": statistic / modes,
        "p_value": 2 * float(min(stats.chi2.sf(statistic, modes), stats.chi2.cdf(statistic, modes))),
        "within_two_errors": float(np.mean(np.abs(apart) < 2)),
        "largest_error": float(np.abs(apart).max()),
    }


def _figures(procedure: FieldRounds, found: Found, record: Mapping[str, Any], folder: Path) -> None:
    sky, mask = procedure.model.response.sky, procedure.model.observed[0].numpy() > 0
    largest = min(64, sky.lmax)
    c = wmap.lcdm()
    figures = {"spectrum": sphere_figures.spectrum(procedure, found, 0, c, "best fit of WMAP's seven years", largest)}
    for i, component in enumerate(procedure.model.components):
        figures[f"maps_{component.name}"] = sphere_figures.maps(found, i, procedure.x[0].numpy(), mask, "V", r"$\mu$K")
    figures["residuals"], rms = sphere_figures.residuals(procedure, found, wmap.BANDS, r"$\mu$K")
    sphere_figures.save(figures, folder)
    binned = sky.binned(torch.from_numpy(found.draw_modes[:, 0])).numpy()
    check = spectrum_check(binned, c, 2, min(40, sky.lmax))
    write_json(folder.parent / "spectrum.json", {"against_lcdm": check, "residual_rms_of_draws": rms})


KOMATSU_2011 = """@article{Komatsu2011,
  author = {Komatsu, E. and others},
  title = {Seven-year {Wilkinson Microwave Anisotropy Probe} ({WMAP}) observations: cosmological interpretation},
  journal = {The Astrophysical Journal Supplement Series}, volume = {192}, pages = {18}, year = {2011},
  doi = {10.1088/0067-0049/192/2/18}
}"""

JAROSIK_2011 = """@article{Jarosik2011,
  author = {Jarosik, N. and others},
  title = {Seven-year {Wilkinson Microwave Anisotropy Probe} ({WMAP}) observations: sky maps, systematic errors, and
    basic results},
  journal = {The Astrophysical Journal Supplement Series}, volume = {192}, pages = {14}, year = {2011},
  doi = {10.1088/0067-0049/192/2/14}
}"""

GORSKI_2005 = """@article{Gorski2005,
  author = {G\\'orski, K. M. and others},
  title = {{HEALPix}: a framework for high-resolution discretization and fast analysis of data distributed on the
    sphere},
  journal = {The Astrophysical Journal}, volume = {622}, pages = {759}, year = {2005}, doi = {10.1086/427976}
}"""

recipe = Recipe(
    settings=Settings,
    build=build,
    papers=(JAROSIK_2011, KOMATSU_2011, GORSKI_2005),
    presets={
        "smoke": {
            "nside": 8,
            "lmax": 16,
            "course.simulations": (100, 50),
            "course.steps": (20, 20),
            "course.thresholds": (10.0,),
            "course.fitted": 100,
            "course.held_out": 20,
            "course.draws": 40,
            "course.kept": 20,
        },
        "foreground": {"foreground_uk": 5.0},
        "noise": {"infer_noise": True},
        "gpu": {
            **{"training.accelerator": "gpu", "course.simulations": (4000,), "course.steps": (1200,)},
        },
    },
    summary="the CMB on the whole sky from WMAP's seven-year V and W bands, posterior maps and C_l",
)
