"""Recipe `lensing/mock`: main lens, shear and one Sersic source of a mock image, all fourteen parameters together.

Boxes of single parameters first, then contours of the joint ratio of all fourteen: in a box most of the volume lies
where the correlations of the posterior leave nothing, and training images there differ for no use.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
import torch

from tmnre import (
    AfterAnalysis,
    Analysis,
    LogUniform,
    Place,
    Prior,
    Recipe,
    Result,
    Stage,
    Training,
    Truncation,
    Uniform,
)
from tmnre_lensing import coolest, figures, papers, regions
from tmnre_lensing.camera import Camera
from tmnre_lensing.embedding import lens_network
from tmnre_lensing.labels import LABELS
from tmnre_lensing.scene import EPL, Scene, Sersic, Shear
from tmnre_lensing.simulator import LensSimulator, theta_of

SCENE = Scene((EPL(), Shear()), (Sersic(),), fixed={"lens_slope": 2.0})


@dataclass(frozen=True)
class PriorSettings:
    """Prior of main lens and source; uniform in these ranges unless said otherwise."""

    centre_arcsec: float = 0.2
    """arcsec; lens within so much of the middle of the field, along each axis"""
    theta_e_arcsec: tuple[float, float] = (1.0, 2.0)
    """arcsec; Einstein radius on the intermediate axis"""
    ellipticity: float = 0.3
    """largest |e1| and |e2| of the lens"""
    shear: float = 0.15
    """largest |gamma1| and |gamma2|"""
    source_arcsec: float = 0.25
    """arcsec; source within so much of the middle, along each axis"""
    source_ellipticity: float = 0.4
    """largest |e1| and |e2| of the source"""
    source_n: tuple[float, float] = (0.5, 4.0)
    """Sersic index"""
    source_r_eff_arcsec: tuple[float, float] = (0.1, 1.0)
    """arcsec; log-uniform"""
    source_brightness: tuple[float, float] = (10.0, 400.0)
    """e-/s/arcsec^2 at r_eff; log-uniform"""

    def prior(self) -> Prior:
        """Of all fourteen parameters."""

        def around(reach: float) -> Uniform:
            return Uniform(-reach, reach)

        return Prior(
            lens_x_arcsec=around(self.centre_arcsec),
            lens_y_arcsec=around(self.centre_arcsec),
            lens_theta_e_arcsec=Uniform(*self.theta_e_arcsec),
            lens_e1=around(self.ellipticity),
            lens_e2=around(self.ellipticity),
            shear_gamma1=around(self.shear),
            shear_gamma2=around(self.shear),
            source_x_arcsec=around(self.source_arcsec),
            source_y_arcsec=around(self.source_arcsec),
            source_e1=around(self.source_ellipticity),
            source_e2=around(self.source_ellipticity),
            source_n=Uniform(*self.source_n),
            source_r_eff_arcsec=LogUniform(*self.source_r_eff_arcsec),
            source_brightness=LogUniform(*self.source_brightness),
        )


PRIOR = PriorSettings().prior()


@dataclass(frozen=True)
class Truth:
    """The mock.  Angles are counter-clockwise from +y, radii on the intermediate axis (COOLEST)."""

    lens_x_arcsec: float = 0.03
    """lens position in arcsec"""
    lens_y_arcsec: float = -0.05
    """lens position in arcsec"""
    lens_theta_e_arcsec: float = 1.4
    """Einstein radius in arcsec"""
    lens_e1: float = 0.08
    """ellipticity along phi = 0; with e2 an axis ratio of 0.75"""
    lens_e2: float = -0.12
    """ellipticity along phi = 45 degrees"""
    shear_gamma1: float = 0.03
    """external shear along phi = 0"""
    shear_gamma2: float = 0.04
    """external shear along phi = 45 degrees"""
    source_x_arcsec: float = 0.09
    """source position in arcsec"""
    source_y_arcsec: float = -0.12
    """source position in arcsec"""
    source_e1: float = 0.1
    """ellipticity of the source along phi = 0"""
    source_e2: float = 0.15
    """ellipticity of the source along phi = 45 degrees"""
    source_n: float = 1.5
    """Sersic index; between a disc (1) and a spheroid (4)"""
    source_r_eff_arcsec: float = 0.25
    """half-light radius in arcsec"""
    source_brightness: float = 80.0
    """surface brightness at the half-light radius in e-/s/arcsec^2"""


@dataclass(frozen=True)
class Schedule:
    """Rounds: how many, simulations that train each, and optimiser steps."""

    boxes: int = 7
    """rounds that truncate every parameter alone"""
    contours: int = 2
    """rounds that truncate all together, by the contour of their joint ratio; one more reports"""
    simulations: int = 8000
    """new simulations of each round of boxes, beside those of earlier rounds that still count, so that a round which
    cuts little is followed by one that sees more; and simulations in the training set of each round of contours"""
    steps: int = 500
    """optimiser steps of each round of boxes"""
    contour_steps: int = 500
    """optimiser steps of each round of contours"""
    final_simulations: int = 20_000
    """simulations in the training set of the last round"""
    final_steps: int = 1500
    """optimiser steps of the last round"""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The rounds."""
        return (
            *(Stage(self.simulations, self.steps, together=False, added=True),) * self.boxes,
            *(Stage(self.simulations, self.contour_steps),) * self.contours,
            Stage(self.final_simulations, self.final_steps),
        )


@dataclass(frozen=True)
class Settings:
    """Settings of `lensing/mock`; the defaults are the preset."""

    camera: Camera = Camera()
    """pixels, blur and noise of the image"""
    truth: Truth = Truth()
    """parameters of the mock"""
    observation_seed: int = 0
    """seed of the noise in the mock image"""
    schedule: Schedule = Schedule()
    """rounds"""
    training: Training = Training()
    """optimiser"""
    truncation: Truncation = Truncation()
    """how the region shrinks"""
    workers: int = 1
    """simulator processes; an image takes under a millisecond"""
    seed: int = 0
    """seed of simulations and training"""


def analysis_of(settings: Settings) -> Analysis:
    """The rounds: mock image, simulator, marginals, boxes and contours."""
    camera = settings.camera
    simulator = LensSimulator(SCENE, PRIOR, camera.optics, camera.noise)
    truth = {field.name: getattr(settings.truth, field.name) for field in fields(settings.truth)}
    derived = simulator.derive(torch.from_numpy(theta_of(truth, PRIOR.names)))
    return Analysis(
        simulator=simulator,
        observation={"image": simulator.mock(truth, settings.observation_seed)},
        marginals=[*PRIOR.names, *simulator.derived, PRIOR.names],
        truncated=[PRIOR.names],
        stages=settings.schedule.stages,
        training=settings.training,
        truncation=settings.truncation,
        embedding=partial(lens_network, noise=settings.camera.noise_e_per_s),
        truth={**truth, **{name: float(value[0]) for name, value in derived.items()}},
        labels=LABELS,
        seed=settings.seed,
        workers=settings.workers,
    )


@dataclass
class Mock(AfterAnalysis):
    """The rounds, and what truncation did to their images."""

    analysis: Analysis

    @property
    def image(self) -> np.ndarray:
        """The mock."""
        return self.analysis.observation["image"]

    def run(self, place: Place) -> Result:
        """One analysis; its rounds are compared in `extra` and in the figure.  Leaves coolest.json."""
        self.rounds = place.rounds(self.analysis, "lens")
        result = self.rounds.run()
        extra = {"truncation": regions.compare(self.rounds, result.rounds)}
        coolest.write(place.folder, result, simulator=self.analysis.simulator, image=self.image)
        return replace(result, extra=extra)

    def figures(self, result: Result, folder) -> None:
        """lens.png and truncation.png."""
        figures.lens(result, folder, simulator=self.analysis.simulator, image=self.image)
        regions.three_panels(self.rounds, result.rounds, self.image, folder)


def build(settings: Settings) -> Mock:
    """The procedure."""
    return Mock(analysis_of(settings))


recipe = Recipe(
    settings=Settings,
    build=build,
    papers=(papers.TESSORE_METCALF_2015, papers.COOGAN_2020, papers.COOLEST_2023),
    presets={
        "gpu": {
            **{"training.accelerator": "gpu", "schedule.simulations": 16_000, "schedule.steps": 1000},
            **{"schedule.contour_steps": 1000, "schedule.final_simulations": 40_000, "schedule.final_steps": 3000},
        },
        "smoke": {
            "training.batch_size": 128,
            **{"schedule.boxes": 1, "schedule.contours": 0, "schedule.simulations": 500, "schedule.steps": 20},
            **{"schedule.final_simulations": 500, "schedule.final_steps": 20, "camera.pixels": 20},
            "camera.pixel_arcsec": 0.25,
        },
    },
    summary="mock lens, shear and Sersic source, fourteen parameters; boxes, then contours of the joint ratio",
)
