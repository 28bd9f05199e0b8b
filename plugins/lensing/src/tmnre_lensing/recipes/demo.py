"""Recipe `lensing/demo`: a mock lens image with known truth, eight free parameters."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial

import numpy as np
import torch

from tmnre import Analysis, Recipe, Stage, Training, Truncation
from tmnre_lensing import figures
from tmnre_lensing.embedding import ImageNet
from tmnre_lensing.simulator import LABELS, Camera, LensSimulator


@dataclass(frozen=True)
class Truth:
    """The mock lens.  Angles are counter-clockwise from +y, radii on the intermediate axis (COOLEST)."""

    theta_e_arcsec: float = 1.4
    """Einstein radius in arcsec; that of a massive elliptical galaxy"""
    e1: float = 0.08
    """ellipticity along phi = 0, dimensionless; with e2 an axis ratio of 0.75"""
    e2: float = -0.12
    """ellipticity along phi = 45 degrees, dimensionless"""
    gamma1: float = 0.03
    """external shear along phi = 0, dimensionless; a few per cent is usual"""
    gamma2: float = 0.04
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
    rounds: int = 5
    """rounds that truncate, at most; the prior shrinks by nine orders of magnitude on the way"""
    steps: int = 400
    """optimiser steps of each round that truncates"""
    final_simulations: int = 20_000
    """simulations in the training set of the last round, which the reported marginals come from"""
    final_steps: int = 1200
    """optimiser steps of the last round"""
    training: Training = Training(batch_size=256)
    """optimiser; small batches, because the convolutions are what costs"""
    truncation: Truncation = Truncation()
    """how the region shrinks; a Gaussian marginal is cut at 5.3 standard deviations, so few simulations see an edge"""
    workers: int = 1
    """simulator processes; an image takes under a millisecond"""
    seed: int = 0
    """seed of simulations and training"""


def build(settings: Settings) -> Analysis:
    """The analysis: mock image, simulator, marginals, rounds."""
    simulator = LensSimulator(settings.camera)
    truth = {field.name: getattr(settings.truth, field.name) for field in fields(settings.truth)}
    theta = np.array([[truth[name] for name in simulator.prior.names]])
    stored = {"image": torch.from_numpy(simulator.simulate(theta, np.random.default_rng(0))["image"])}
    generator = torch.Generator().manual_seed(settings.observation_seed)
    image = simulator.observe(stored, torch.from_numpy(theta), generator)["image"][0].numpy()
    derived = simulator.derive(torch.from_numpy(theta))
    return Analysis(
        simulator=simulator,
        observation={"image": image},
        marginals=[
            *simulator.prior.names,
            *simulator.derived,
            ("e1", "gamma1"),
            ("e2", "gamma2"),
            ("source_x_arcsec", "source_y_arcsec"),
            ("theta_e_arcsec", "source_r_eff_arcsec"),
        ],
        truncated=[*simulator.prior.names, "ring_shear1", "ring_shear2"],
        stages=(
            *(Stage(settings.simulations, settings.steps),) * settings.rounds,
            Stage(settings.final_simulations, settings.final_steps),
        ),
        training=settings.training,
        truncation=settings.truncation,
        embedding=ImageNet,
        truth={**truth, **{name: float(value) for name, value in derived.items()}},
        labels=LABELS,
        figures=partial(figures.lens, simulator=simulator, image=image),
        seed=settings.seed,
        workers=settings.workers,
    )


TESSORE_METCALF_2015 = """@article{Tessore2015,
  author = {Tessore, Nicolas and Metcalf, R. Benton},
  title = {The elliptical power law profile lens},
  journal = {Astronomy and Astrophysics}, volume = {580}, pages = {A79}, year = {2015},
  doi = {10.1051/0004-6361/201526773}, eprint = {1507.01819}
}"""

COOGAN_2020 = """@misc{Coogan2020,
  author = {Coogan, Adam and Karchev, Konstantin and Weniger, Christoph},
  title = {Targeted Likelihood-Free Inference of Dark Matter Substructure in Strongly-Lensed Galaxies},
  year = {2020}, eprint = {2010.07032}
}"""

recipe = Recipe(
    settings=Settings,
    build=build,
    papers=(TESSORE_METCALF_2015, COOGAN_2020),
    presets={"smoke": {"simulations": 1000, "rounds": 1, "steps": 60, "final_simulations": 1000, "final_steps": 60}},
    summary="mock strong-lens image: power-law mass, shear and Sersic source, eight free parameters, truth known",
)
