"""Recipe `lensing/demo`: a mock lens image with known truth, eight free parameters."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial

import torch

from tmnre import Analysis, Prior, Recipe, Stage, Training, Truncation, Uniform
from tmnre_lensing import coolest, papers
from tmnre_lensing.camera import Camera
from tmnre_lensing.embedding import lens_network
from tmnre_lensing.labels import LABELS
from tmnre_lensing.scene import EPL, Scene, Sersic, Shear
from tmnre_lensing.simulator import LensSimulator, theta_of

PRIOR = Prior(
    lens_theta_e_arcsec=Uniform(1.0, 2.0),
    # |e| <= 0.42: the axis ratio stays above 0.4
    lens_e1=Uniform(-0.3, 0.3),
    lens_e2=Uniform(-0.3, 0.3),
    shear_gamma1=Uniform(-0.15, 0.15),
    shear_gamma2=Uniform(-0.15, 0.15),
    source_x_arcsec=Uniform(-0.25, 0.25),
    source_y_arcsec=Uniform(-0.25, 0.25),
    source_r_eff_arcsec=Uniform(0.1, 0.5),
)
SCENE = Scene(
    (EPL(), Shear()),
    (Sersic(),),
    fixed={
        # lens in the middle and isothermal; source a round exponential disc
        **{"lens_x_arcsec": 0.0, "lens_y_arcsec": 0.0, "lens_slope": 2.0},
        **{"source_e1": 0.0, "source_e2": 0.0, "source_n": 1.0, "source_brightness": 80.0},
    },
)


@dataclass(frozen=True)
class Truth:
    """The mock lens.  Angles are counter-clockwise from +y, radii on the intermediate axis (COOLEST)."""

    lens_theta_e_arcsec: float = 1.4
    """Einstein radius in arcsec; that of a massive elliptical galaxy"""
    lens_e1: float = 0.08
    """ellipticity along phi = 0, dimensionless; with e2 an axis ratio of 0.75"""
    lens_e2: float = -0.12
    """ellipticity along phi = 45 degrees, dimensionless"""
    shear_gamma1: float = 0.03
    """external shear along phi = 0, dimensionless; a few per cent is usual"""
    shear_gamma2: float = 0.04
    """external shear along phi = 45 degrees, dimensionless"""
    source_x_arcsec: float = 0.06
    """source position in arcsec; inside the caustic, so there are four images"""
    source_y_arcsec: float = -0.09
    """source position in arcsec"""
    source_r_eff_arcsec: float = 0.25
    """effective (half-light) radius of the source in arcsec; 2 kpc at redshift 2"""


@dataclass(frozen=True)
class Settings:
    """Settings of `lensing/demo`; the defaults are the preset."""

    camera: Camera = Camera()
    """pixels, blur and noise of the image"""
    truth: Truth = Truth()
    """parameters of the mock"""
    observation_seed: int = 3
    """seed of the noise in the mock image; an ordinary draw, the truth has chi2 = 2.9 under the exact 8-d posterior"""
    simulations: int = 5000
    """simulations in the training set of each round that truncates; the noise is new at every use, so few are enough"""
    boxes: int = 4
    """rounds that truncate every parameter alone; the prior shrinks by nine orders of magnitude on the way"""
    contours: int = 1
    """rounds that truncate all together, by the contour of their joint ratio; one more reports"""
    steps: int = 400
    """optimiser steps of each round that truncates"""
    final_simulations: int = 20_000
    """simulations in the training set of the last round, which the reported marginals come from"""
    final_steps: int = 1200
    """optimiser steps of the last round"""
    training: Training = Training()
    """optimiser"""
    truncation: Truncation = Truncation()
    """how the region shrinks; a Gaussian marginal is cut at 5.3 standard deviations, so few simulations see an edge"""
    workers: int = 1
    """simulator processes; an image takes under a millisecond"""
    seed: int = 0
    """seed of simulations and training"""


def build(settings: Settings) -> Analysis:
    """The analysis: mock image, simulator, marginals, rounds."""
    camera = settings.camera
    simulator = LensSimulator(SCENE, PRIOR, camera.optics, camera.noise)
    truth = {field.name: getattr(settings.truth, field.name) for field in fields(settings.truth)}
    image = simulator.mock(truth, settings.observation_seed)
    derived = simulator.derive(torch.from_numpy(theta_of(truth, PRIOR.names)))
    return Analysis(
        simulator=simulator,
        observation={"image": image},
        marginals=[
            *PRIOR.names,
            *simulator.derived,
            ("lens_e1", "shear_gamma1"),
            ("lens_e2", "shear_gamma2"),
            ("source_x_arcsec", "source_y_arcsec"),
            ("lens_theta_e_arcsec", "source_r_eff_arcsec"),
        ],
        # in a box most data are cut by faces that the observation is far from, and marginals come out too narrow
        truncated=[PRIOR.names],
        stages=(
            *(Stage(settings.simulations, settings.steps, together=False),) * settings.boxes,
            *(Stage(settings.simulations, settings.steps),) * settings.contours,
            Stage(settings.final_simulations, settings.final_steps),
        ),
        training=settings.training,
        truncation=settings.truncation,
        embedding=partial(lens_network, noise=settings.camera.noise_e_per_s),
        truth={**truth, **{name: float(value[0]) for name, value in derived.items()}},
        labels=LABELS,
        figures=partial(coolest.beside_figures, simulator=simulator, image=image),
        seed=settings.seed,
        workers=settings.workers,
    )


recipe = Recipe(
    settings=Settings,
    build=build,
    papers=(papers.TESSORE_METCALF_2015, papers.COOGAN_2020, papers.COOLEST_2023),
    presets={
        "smoke": {
            **{"simulations": 500, "boxes": 1, "contours": 0, "steps": 20, "final_simulations": 500, "final_steps": 20},
            **{"camera.pixels": 20, "camera.pixel_arcsec": 0.25, "training.batch_size": 128},
        }
    },
    summary="mock strong-lens image: power-law mass, shear and Sersic source, eight free parameters, truth known",
)
