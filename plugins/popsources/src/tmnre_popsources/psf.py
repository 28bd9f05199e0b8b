"""Point spread functions: profiles on a flat grid of pixels, and angles by which photons are scattered.

    Gaussian   exp(-r^2 / 2 s^2) / 2 pi s^2
    King       (1 - 1/g) (1 + r^2 / 2 g s^2)^-g / 2 pi s^2      (Read et al. 2011; Fermi-LAT's with one component)

Both have an inverse cumulative distribution in closed form, P(> r) = v:  r = s sqrt(-2 ln v), and for King
r = s sqrt(2 g (v^(1/(1-g)) - 1)), which tends to the first as g grows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class PSF(Protocol):
    """A point spread function; lengths in degrees."""

    sigma_deg: float

    def radius_deg(self, v: Tensor) -> Tensor: ...

    def stamp(self, offsets_px: Tensor, pixel_deg: float, reach: int) -> Tensor: ...

    def reach_deg(self, lost: float) -> float: ...


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian of standard deviation sigma_deg along each axis; 0: none."""

    sigma_deg: float = 0.94
    """standard deviation along each axis in degrees"""

    def radius_deg(self, v: Tensor) -> Tensor:
        """Distance from the source beyond which a share v of its photons falls."""
        return self.sigma_deg * torch.sqrt(-2 * v.log())

    def reach_deg(self, lost: float) -> float:
        """Distance beyond which a share `lost` of the photons falls."""
        return self.sigma_deg * math.sqrt(-2 * math.log(lost))

    def stamp(self, offsets_px: Tensor, pixel_deg: float, reach: int) -> Tensor:
        """Shares (S, W, W) of a source's photons in the W = 2 reach + 1 pixels about its own along b and l.

        offsets_px (2, S): of the source from its pixel's centre, along b and along l.
        """
        rows, columns = (self._profile(offset, pixel_deg, reach) for offset in offsets_px)
        return rows[:, :, None] * columns[:, None]

    def _profile(self, offset: Tensor, pixel_deg: float, reach: int) -> Tensor:
        edges = torch.arange(-reach, reach + 2) - 0.5 - offset[:, None]
        return 0.5 * torch.erf(edges * (pixel_deg / max(self.sigma_deg, 1e-6 * pixel_deg) / math.sqrt(2))).diff(dim=1)


@dataclass(frozen=True)
class King:
    """King's profile: a core like a Gaussian's of sigma_deg, and tails as r^(-2 gamma)."""

    sigma_deg: float = 0.1
    """scale of the core in degrees"""
    gamma: float = 2.5
    """index of the tails, above 1"""

    def radius_deg(self, v: Tensor) -> Tensor:
        """Distance from the source beyond which a share v of its photons falls."""
        return self.sigma_deg * torch.sqrt(2 * self.gamma * (v ** (1 / (1 - self.gamma)) - 1))

    def reach_deg(self, lost: float) -> float:
        """Distance beyond which a share `lost` of the photons falls."""
        return float(self.radius_deg(torch.tensor(lost, dtype=torch.float64)))

    def stamp(self, offsets_px: Tensor, pixel_deg: float, reach: int, fine: int = 5) -> Tensor:
        """As of `Gaussian`, by the midpoint rule with fine x fine points in a pixel."""
        inner = (torch.arange(fine) + 0.5) / fine - 0.5
        axis = (torch.arange(-reach, reach + 1)[:, None] + inner).flatten()
        rows, columns = ((axis - offset[:, None]).square() for offset in offsets_px)
        square = (rows[:, :, None] + columns[:, None]) * pixel_deg**2
        s2, g = self.sigma_deg**2, self.gamma
        density = (1 - 1 / g) / (2 * math.pi * s2) * (1 + square / (2 * g * s2)) ** -g
        return torch.nn.functional.avg_pool2d(density[:, None], fine)[:, 0] * pixel_deg**2


def of_settings(psf_deg: float, king_index: float) -> Gaussian | King | None:
    """King's profile where there is an index, else a Gaussian; None for a width of 0."""
    if psf_deg <= 0:
        return None
    return King(psf_deg, king_index) if king_index else Gaussian(psf_deg)


@dataclass(frozen=True)
class Sampled:
    """A Gaussian as image filters have it: its density at the pixels' centres, normalised, of sources that sit there.

    What the public code of 2211.04291 does (scipy's gaussian_filter, cut at four standard deviations): positions within
    a pixel make no difference to the data.
    """

    sigma_deg: float = 0.9375
    """standard deviation along each axis in degrees"""

    def radius_deg(self, v: Tensor) -> Tensor:
        return Gaussian(self.sigma_deg).radius_deg(v)

    def reach_deg(self, lost: float) -> float:
        return 4 * self.sigma_deg

    def stamp(self, offsets_px: Tensor, pixel_deg: float, reach: int) -> Tensor:
        """As of `Gaussian`; the same for all sources."""
        profile = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) * pixel_deg / self.sigma_deg).square())
        profile = profile / profile.sum()
        return (profile[:, None] * profile).expand(offsets_px.shape[1], -1, -1)
