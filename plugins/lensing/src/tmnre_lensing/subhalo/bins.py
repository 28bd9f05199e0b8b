"""The alternatives: a subhalo in one pixel and one bin of mass, or none.

Bin 0 is "none"; bin 1 + mass * H * W + row * W + column is a subhalo there.  Prior: half of the images hold none, else
a subhalo is anywhere in the field and of any mass in the range with the same probability per unit of log10 M.  Where an
image may hold several, each is there with the same probability, whatever the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tmnre_lensing.optics import Grid

NO_MASS = 0.0
"""log10 M200 in Msun of a subhalo that is none: one solar mass deflects by 1e-9 arcsec"""


@dataclass(frozen=True)
class Bins:
    """Pixels of a grid, the image's or a coarser one, times `masses` bins of log10 M200 between `log10_m`."""

    grid: Grid
    log10_m: tuple[float, float] = (8.5, 10.5)
    masses: int = 5
    p_none: float = 0.5
    """probability of an image without any"""
    most: int = 1
    """subhaloes that an image may hold"""

    def __post_init__(self) -> None:
        if not (0 < self.p_none < 1 and self.masses >= 1 and self.log10_m[0] < self.log10_m[1] and self.most >= 1):
            raise ValueError(f"bins need 0 < p_none < 1, a mass bin, a range of masses and most >= 1, got {self}")

    def __len__(self) -> int:
        return 1 + self.masses * self.grid.ny * self.grid.nx

    @property
    def edges(self) -> np.ndarray:
        """Edges (masses + 1,) of the bins of log10 M200."""
        return np.linspace(*self.log10_m, self.masses + 1)

    @property
    def centres(self) -> np.ndarray:
        """Middles (masses,) of the bins of log10 M200."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    @property
    def p_each(self) -> float:
        """Probability that any one of the subhaloes is there."""
        return 1 - self.p_none ** (1 / self.most)

    @property
    def p_occupied(self) -> float:
        """Probability that a bin holds a subhalo."""
        return 1 - (1 - self.p_each / (len(self) - 1)) ** self.most

    @property
    def log_prior(self) -> Tensor:
        """Log prior probability (K,) of every bin, for one subhalo at most."""
        each = (1 - self.p_none) / (len(self) - 1)
        return torch.log(torch.tensor([self.p_none, *(len(self) - 1) * [each]]))

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """x, y in arcsec and log10 M200 (n, most, 3) from the prior; NO_MASS where there is none."""
        left, right, bottom, top = self.grid.extent_arcsec
        u = rng.random((n, self.most, 3))
        drawn = np.array([left, bottom, self.log10_m[0]]) + u * np.array(
            [right - left, top - bottom, self.log10_m[1] - self.log10_m[0]]
        )
        drawn[rng.random((n, self.most)) > self.p_each, 2] = NO_MASS
        return drawn

    def number(self, subhalo: np.ndarray) -> np.ndarray:
        """Bin (...) of x, y and log10 M200 (..., 3); what lies in no bin is counted as none."""
        left, _, bottom, _ = self.grid.extent_arcsec
        column, row = (
            np.floor((subhalo[..., i] - low) / self.grid.pixel_arcsec).astype(int)
            for i, low in ((0, left), (1, bottom))
        )
        mass = np.floor((subhalo[..., 2] - self.log10_m[0]) / (self.edges[1] - self.edges[0])).astype(int)
        inside = (0 <= column) & (column < self.grid.nx) & (0 <= row) & (row < self.grid.ny)
        inside &= (0 <= mass) & (mass < self.masses)
        return np.where(inside, 1 + (mass * self.grid.ny + row) * self.grid.nx + column, 0)

    def at_centres(self) -> np.ndarray:
        """x, y and log10 M200 (K - 1, 3) of the middles of all bins that hold a subhalo."""
        x, y = Grid(self.grid.ny, self.grid.nx, self.grid.pixel_arcsec).axes()
        mass, row, column = np.meshgrid(self.centres, y, x, indexing="ij")
        return np.stack([column.ravel(), row.ravel(), mass.ravel()], axis=1)

    def maps(self, values: Tensor) -> Tensor:
        """Values (N, K - 1 or K) as maps (N, masses, ny, nx), without "none"."""
        return values[:, -self.masses * self.grid.ny * self.grid.nx :].unflatten(
            1, (self.masses, self.grid.ny, self.grid.nx)
        )
