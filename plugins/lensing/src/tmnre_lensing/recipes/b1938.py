"""Recipe `lensing/b1938`: `lensing/subhalo` on a mock made like JVAS B1938+666, truth known.

An almost round lens with an almost complete ring of 0.45 arcsec, seen by Keck with adaptive optics in pixels of 10 mas,
and in it a perturber of 1.9e8 Msun (Vegetti et al. 2012).  Redshifts, ring, pixels and mass are published ones, and so
is the slope, 2.045, which is rounded to 2 (Lagattuta et al. 2012).  The rest is ours: a source that makes such a ring,
a Gaussian for the core of the point spread function, without the faint halo that adaptive optics leave, and noise such
that the brightest pixel has a signal-to-noise ratio of 20.

The published mass is that of a truncated isothermal profile, denser than an NFW halo.  With M200c = 1.9e8 Msun and the
usual c = 15 a halo is expected to stand out by 4 sigma, lens and source marginalised, on the brightest arc and nowhere
else.  The perturber is found to be dense in later work too (Tajalli et al. 2025, who put it in the foreground), so c is
100 here, which makes it 10 sigma (`tests/lensing/test_b1938.py` computes both).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tmnre import Recipe
from tmnre_lensing import papers
from tmnre_lensing.camera import Camera
from tmnre_lensing.recipes import subhalo
from tmnre_lensing.recipes.mock import PriorSettings
from tmnre_lensing.recipes.subhalo import Haloes, Recognition


@dataclass(frozen=True)
class Truth(subhalo.Truth):
    """The mock.  Angles are counter-clockwise from +y, radii on the intermediate axis (COOLEST)."""

    lens_x_arcsec: float = 0.005
    """lens position in arcsec"""
    lens_y_arcsec: float = -0.008
    """lens position in arcsec"""
    lens_theta_e_arcsec: float = 0.45
    """Einstein radius in arcsec"""
    lens_e1: float = 0.05
    """ellipticity along phi = 0; with e2 an axis ratio of 0.86, as the ring is almost round"""
    lens_e2: float = -0.06
    """ellipticity along phi = 45 degrees"""
    shear_gamma1: float = 0.01
    """external shear along phi = 0"""
    shear_gamma2: float = 0.01
    """external shear along phi = 45 degrees"""
    source_x_arcsec: float = 0.02
    """source position in arcsec; almost behind the lens, for a ring that is almost complete"""
    source_y_arcsec: float = -0.03
    """source position in arcsec"""
    source_n: float = 1.5
    """Sersic index; between a disc (1) and a spheroid (4)"""
    source_r_eff_arcsec: float = 0.1
    """half-light radius in arcsec; 0.9 kpc, for a ring that is a quarter as wide as it is large"""
    source_brightness: float = 3000.0
    """surface brightness at the half-light radius in e-/s/arcsec^2; 2 e-/s in the brightest pixel"""
    subhalo_x_arcsec: float = 0.35
    """subhalo position in arcsec; 0.05 outside the ring, at its brightest arc"""
    subhalo_y_arcsec: float = -0.35
    """subhalo position in arcsec"""
    subhalo_log10_m200: float = float(np.log10(1.9e8))
    """log10 of the mass M200c in Msun; 1.9e8"""


@dataclass(frozen=True)
class Settings(subhalo.Settings):
    """Settings of `lensing/b1938`: those of `lensing/subhalo` with other defaults, which are the preset."""

    camera: Camera = Camera(pixels=120, pixel_arcsec=0.01, psf_fwhm_arcsec=0.065, noise_e_per_s=0.1, oversampling=1)
    """pixels, blur and noise of the image: 1.2 arcsec in Keck's narrow pixels; 65 mas is what adaptive optics reach at
    2 micron, and so wide in pixels that one ray a pixel is enough; a peak signal-to-noise ratio of 20"""
    truth: Truth = Truth()
    """parameters of the mock"""
    prior: PriorSettings = PriorSettings(
        **{"centre_arcsec": 0.06, "theta_e_arcsec": (0.3, 0.6), "source_arcsec": 0.1},
        **{"source_r_eff_arcsec": (0.03, 0.3), "source_brightness": (300.0, 12_000.0)},
    )
    """prior ranges of main lens and source; lengths are a third of those of `lensing/mock`, like the lens"""
    haloes: Haloes = Haloes(
        **{"z_lens": 0.881, "z_source": 2.059, "concentration": 100.0},
        **{"log10_m200": (7.5, 9.5), "mass_bins": 4, "map_pixels": 4, "log10_m200_nuisance": (6.0, 9.5)},
    )
    """subhaloes, and the bins of mass; the map's pixels of 40 mas keep the filters at 200 MB"""
    recognition: Recognition = Recognition(simulations=12_000)
    """the network that looks for a subhalo; an image takes 58 kB"""


recipe = Recipe(
    settings=Settings,
    build=subhalo.build,
    papers=(
        *(papers.VEGETTI_2012, papers.LAGATTUTA_2012, papers.TAJALLI_2025),
        *subhalo.recipe.papers,
    ),
    presets={
        # finer map and masses, 1.7 GB of filters, and the simulations that fill more bins; not tried on a GPU yet
        "gpu": {
            **{"training.accelerator": "gpu", "recognition.training.accelerator": "gpu", "haloes.map_pixels": 2},
            **{"haloes.mass_bins": 8, "recognition.simulations": 50_000, "recognition.steps": 5000},
            **{"schedule.simulations": 10_000, "schedule.final_simulations": 20_000, "schedule.final_steps": 1500},
        },
        "smoke": {
            **dict(subhalo.recipe.presets["smoke"]),
            **{"camera.pixels": 24, "camera.pixel_arcsec": 0.05, "haloes.map_pixels": 2},
        },
    },
    summary="mock like JVAS B1938+666 seen by Keck with adaptive optics: ring of 0.45 arcsec, subhalo of 1.9e8 Msun",
)
