"""A region's pixels and what is near them: neighbours, and offsets in the planes that touch the sphere at the centres.

Offsets are north and east, along b and l, in pixels.  In the plane a distance r is tan r long: 1e-4 of it more at a
degree.
"""

from __future__ import annotations

import healpy
import numpy as np
import torch
from torch import Tensor

from tmnre_popsources.sky import Sky


class Surroundings:
    """Of the P pixels of a region."""

    def __init__(self, sky: Sky) -> None:
        self.pixel_deg = float(np.degrees(np.sqrt(sky.pixel_sr)))
        self.around = sky.neighbours()
        """places (P, 9) of every pixel's surroundings, itself first, P where there is none"""
        centre = np.array(healpy.pix2vec(sky.nside, sky.nest, nest=True)).T
        east = np.cross([0.0, 0.0, 1.0], centre)  # no pixel's centre is at a pole
        east /= np.linalg.norm(east, axis=1, keepdims=True)
        axes = np.stack([np.cross(centre, east), east], axis=1)
        self.centre, self.axes = torch.from_numpy(centre), torch.from_numpy(axes)

    def __len__(self) -> int:
        return len(self.around)

    def offsets(self, places: Tensor, vectors: Tensor) -> Tensor:
        """North and east (..., 2) of unit vectors (..., 3), seen from the pixels at places (...)."""
        along = (vectors * self.centre[places]).sum(-1, keepdim=True)
        across = (self.axes[places] * vectors[..., None, :]).sum(-1)
        return torch.rad2deg(across / along) / self.pixel_deg

    def vectors(self, places: Tensor, offsets: Tensor) -> Tensor:
        """Unit vectors (..., 3) of offsets (..., 2)."""
        steps = torch.deg2rad(offsets.double() * self.pixel_deg)
        found = self.centre[places] + (self.axes[places] * steps[..., None]).sum(-2)
        return found / found.norm(dim=-1, keepdim=True)

    def of_neighbours(self) -> Tensor:
        """Offsets (P, 8, 2) of the neighbours' centres; zero where there is none."""
        here = torch.arange(len(self))[:, None]
        there = self.around[:, 1:]
        return self.offsets(here, self.centre[there.where(there < len(self), here)])
