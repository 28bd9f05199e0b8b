"""Recipe `lensing/slacs`: a real lens from FITS files, by default SLACS J2303+1422 as seen by HST/ACS.

Elliptical power law, shear and one elliptical Sersic source.  Real sources have clumps: whether the model describes the
image is part of the result, by a test of every block of pixels for light that the model does not have.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch

from tmnre import Analysis, LogUniform, Prior, Recipe, Stage, Training, Truncation, Uniform
from tmnre.diagnostics import Additive
from tmnre_lensing import coolest, papers
from tmnre_lensing.embedding import lens_network
from tmnre_lensing.labels import LABELS
from tmnre_lensing.observed import Cut, Files, LensImage, read
from tmnre_lensing.scene import EPL, Scene, Sersic, Shear
from tmnre_lensing.simulator import LensSimulator

SCENE = Scene((EPL(), Shear()), (Sersic(),))


@dataclass(frozen=True)
class PriorSettings:
    """Prior of a galaxy behind a galaxy; uniform in these ranges unless said otherwise."""

    centre_arcsec: float = 0.2
    """arcsec; lens within so much of the middle of the field, along each axis"""
    theta_e_arcsec: tuple[float, float] = (0.5, 2.5)
    """arcsec; Einstein radius on the intermediate axis"""
    ellipticity: float = 0.4
    """largest |e1| and |e2| of the lens; axis ratios down to 0.43 along the axes, 0.28 between them"""
    slope: tuple[float, float] = (1.6, 2.4)
    """logarithmic slope of the lens's density; early-type galaxies have 2.08 +- 0.16"""
    shear: float = 0.15
    """largest |gamma1| and |gamma2|"""
    source_arcsec: float = 0.6
    """arcsec; source within so much of the middle, along each axis"""
    source_ellipticity: float = 0.4
    """largest |e1| and |e2| of the source"""
    source_n: tuple[float, float] = (0.5, 4.0)
    """Sersic index"""
    source_r_eff_arcsec: tuple[float, float] = (0.05, 1.0)
    """arcsec; log-uniform"""
    source_brightness: tuple[float, float] = (0.003, 1.0)
    """surface brightness at r_eff over that of the image's brightest pixel, log-uniform; lensing conserves it, and at
    the centre of an n = 4 profile it is two thousand times higher"""

    def prior(self, peak_e_per_s_arcsec2: float) -> Prior:
        """The prior of all fifteen parameters, for an image with that largest surface brightness."""

        def around(reach: float) -> Uniform:
            return Uniform(-reach, reach)

        return Prior(
            lens_x_arcsec=around(self.centre_arcsec),
            lens_y_arcsec=around(self.centre_arcsec),
            lens_theta_e_arcsec=Uniform(*self.theta_e_arcsec),
            lens_e1=around(self.ellipticity),
            lens_e2=around(self.ellipticity),
            lens_slope=Uniform(*self.slope),
            shear_gamma1=around(self.shear),
            shear_gamma2=around(self.shear),
            source_x_arcsec=around(self.source_arcsec),
            source_y_arcsec=around(self.source_arcsec),
            source_e1=around(self.source_ellipticity),
            source_e2=around(self.source_ellipticity),
            source_n=Uniform(*self.source_n),
            source_r_eff_arcsec=LogUniform(*self.source_r_eff_arcsec),
            source_brightness=LogUniform(*(peak_e_per_s_arcsec2 * share for share in self.source_brightness)),
        )


@dataclass(frozen=True)
class Schedule:
    """Rounds: new simulations of each, beside those of earlier rounds that still count, and optimiser steps."""

    simulations: tuple[int, ...] = (*4 * (20_000,), *5 * (10_000,), 30_000)
    """many while most of the prior's images look like noise, few once the region only has to be cut"""
    steps: tuple[int, ...] = (*4 * (800,), *5 * (600,), 1200)
    """optimiser steps of each round; 20,000 images are learned by heart after some 800, and with 2,000 of the last
    most posteriors were too narrow"""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The rounds; all of them run, even where one cuts nothing (`together`)."""
        if len(self.simulations) != len(self.steps):
            raise ValueError(
                f"schedule.simulations and schedule.steps need an entry a round each, got {len(self.simulations)} "
                f"and {len(self.steps)}"
            )
        *rounds, last = zip(self.simulations, self.steps, strict=True)
        return (*(Stage(*of, together=False, added=True) for of in rounds), Stage(*last, added=True))


@dataclass(frozen=True)
class Settings:
    """Settings of `lensing/slacs`; the defaults are the preset, and are not tuned to any lens."""

    files: Files = field(default_factory=Files)
    """FITS files; where none is given, $TMNRE_DATA/lensing/slacs2303+1422"""
    cut: Cut = Cut()
    """which pixels are analysed"""
    prior: PriorSettings = PriorSettings()
    """prior ranges"""
    schedule: Schedule = Schedule()
    """rounds"""
    components: int = 200
    """principal components of the region's images that training sees, at most"""
    block_pixels: int = 5
    """side of the blocks of pixels that are tested for light the model does not have; 5 pixels are 0.25 arcsec"""
    training: Training = Training()
    """optimiser"""
    truncation: Truncation = Truncation()
    """how the region shrinks"""
    workers: int = 1
    """simulator processes; an image of 100 x 100 pixels takes milliseconds"""
    seed: int = 0
    """seed of simulations and training"""


def observed(settings: Settings) -> LensImage:
    """The lens of the settings' files, or of the default folder."""
    data = os.environ.get("TMNRE_DATA")
    return read(settings.files, settings.cut, Path(data) / "lensing" / "slacs2303+1422" if data else None)


def build(settings: Settings) -> Analysis:
    """The analysis: files, simulator, marginals, rounds, test of the fit."""
    lens = observed(settings)
    for note in lens.notes:
        print(note)
    # the brightest pixel, by a quantile that a cosmic ray does not move
    peak = float(np.quantile(lens.image[lens.mask], 0.999)) / settings.cut.pixel_arcsec**2
    prior = settings.prior.prior(peak)
    simulator = LensSimulator(
        *(SCENE, prior, lens.optics, lens.noise),
        mask=lens.mask,
        components=settings.components,
        block=settings.block_pixels,
        redraw_brightness=True,
    )
    data = {name: array[0].numpy() for name, array in simulator.data(torch.from_numpy(lens.image)[None]).items()}
    distortions = {}
    if settings.block_pixels:
        distortions["blocks"] = Additive(np.eye(len(data["blocks"])))
    return Analysis(
        simulator=simulator,
        observation=data,
        marginals=[
            *prior.names,
            *simulator.derived,
            ("lens_x_arcsec", "lens_y_arcsec"),
            ("lens_theta_e_arcsec", "lens_slope"),
            ("lens_e1", "shear_gamma1"),
            ("lens_e2", "shear_gamma2"),
            ("source_x_arcsec", "source_y_arcsec"),
            ("source_n", "source_r_eff_arcsec"),
            # what axis ratios, angles and amplitudes of coolest.json are made of
            ("lens_e1", "lens_e2"),
            ("shear_gamma1", "shear_gamma2"),
            ("source_e1", "source_e2"),
            ("source_n", "source_brightness"),
        ],
        # not q and phi_deg, which are e1 and e2 again
        truncated=[*prior.names, *simulator.derived[2:]],
        stages=settings.schedule.stages,
        training=settings.training,
        truncation=settings.truncation,
        embedding=partial(lens_network, noise=float(np.median(lens.noise.sd))),
        distortions=distortions,
        labels=LABELS,
        figures=partial(coolest.beside_figures, simulator=simulator, image=lens.image),
        seed=settings.seed,
        workers=settings.workers,
    )


recipe = Recipe(
    settings=Settings,
    build=build,
    papers=(papers.TESSORE_METCALF_2015, papers.SLACS_2008, papers.COOLEST_2023),
    presets={
        "gpu": {
            **{"training.accelerator": "gpu", "schedule.simulations": (*4 * (40_000,), *5 * (20_000,), 60_000)},
            **{"schedule.steps": (*4 * (1600,), *5 * (1200,), 2400)},
        },
        "smoke": {
            **{"cut.oversampling": 1, "components": 32, "block_pixels": 0, "training.batch_size": 128},
            **{"schedule.simulations": (400, 400), "schedule.steps": (20, 20)},
        },
    },
    summary="real strong lens from FITS files (SLACS J2303+1422): power law, shear, Sersic source, fifteen parameters",
)
