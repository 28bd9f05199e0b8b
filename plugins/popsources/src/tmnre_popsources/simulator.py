"""A patch of sky with a population of point sources: the toy of 2211.04291.

The number of sources is N ~ Poisson(expected_sources), ln flux ~ Normal(mean_log_flux, flux_width^2) with flux in
counts, longitude ~ Normal(0, spread_l_deg^2) and latitude ~ Normal(0, height_deg^2).  The paper draws exactly N; with a
Poisson number any selection of sources is independent of the rest, which is what detection-aware models rest on.  The
patch is flat: longitudes are not foreshortened by cos b, which is 0.77 at its corners; that is part of the toy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy import special
from torch import Tensor

from tmnre import Prior, Simulator, Uniform


@dataclass(frozen=True)
class Patch:
    """The patch, the instrument and what is fixed of the population."""

    pixels: int = 64
    """pixels along each side"""
    half_width_deg: float = 40.0
    """half of the patch's side in degrees, as in 2211.04291; a pixel is then 1.25 degrees"""
    psf_deg: float = 0.94
    """standard deviation of the Gaussian point spread function in degrees; 2211.04291's 1.5 px of 0.625 degrees"""
    background_counts: float = 1.0
    """expected counts per pixel from a known isotropic background; the median source (e counts) then hides in it"""
    mean_log_flux: float = 1.0
    """mean of ln(flux in counts), as in 2211.04291"""
    spread_l_deg: float = 20.0
    """standard deviation of longitude in degrees, as in 2211.04291"""


PRIOR = Prior(
    expected_sources=Uniform(10.0, 500.0),
    flux_width=Uniform(1.0, 3.0),
    height_deg=Uniform(1.0, 20.0),
)
LABELS = {"expected_sources": r"$\lambda$", "flux_width": r"$\Sigma$", "height_deg": "$h$ [deg]"}


class Catalogue(NamedTuple):
    """Positions in degrees and fluxes in counts of S sources, each (S,)."""

    l_deg: np.ndarray
    b_deg: np.ndarray
    flux_counts: np.ndarray


class PatchSimulator(Simulator):
    """Stores {"expected": (N, n, n)}, the counts expected from the sources; rows are latitude, columns longitude.

    `observe` adds the background and draws {"counts": (N, n, n)} from Poisson, anew at every use.
    """

    def __init__(self, patch: Patch = Patch(), prior: Prior = PRIOR) -> None:  # noqa: B008 - frozen
        if prior.names != PRIOR.names:
            raise ValueError(f"the patch simulator needs a prior of {list(PRIOR.names)}, got {list(prior.names)}")
        self.patch = patch
        self.prior = prior
        self.edges_deg = np.linspace(-patch.half_width_deg, patch.half_width_deg, patch.pixels + 1)

    def draw(self, theta: np.ndarray, rng: np.random.Generator) -> Catalogue:
        """All sources, on the patch or off it, of one population theta (D,)."""
        expected, width, height_deg = theta
        n = rng.poisson(expected)
        return Catalogue(
            rng.normal(0.0, self.patch.spread_l_deg, n),
            rng.normal(0.0, height_deg, n),
            np.exp(rng.normal(self.patch.mean_log_flux, width, n)),
        )

    def expected_counts(self, sources: Catalogue) -> np.ndarray:
        """Counts expected from the sources (n, n), the point spread function integrated over each pixel."""
        columns, rows = (
            np.diff(special.ndtr((self.edges_deg - centre[:, None]) / self.patch.psf_deg), axis=1)
            for centre in (sources.l_deg, sources.b_deg)
        )
        return (rows * sources.flux_counts[:, None]).T @ columns

    def simulate(self, theta: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Expected counts (N, n, n) float32 of one drawn population each."""
        return {"expected": np.stack([self.expected_counts(self.draw(row, rng)) for row in theta]).astype(np.float32)}

    def observe(self, stored: dict[str, Tensor], theta: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Counts with new Poisson noise."""
        return {"counts": torch.poisson(stored["expected"] + self.patch.background_counts, generator)}
