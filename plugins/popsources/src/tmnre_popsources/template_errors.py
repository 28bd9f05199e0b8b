"""Errors of diffuse templates: a factor exp(s g - s^2 / 2) over the sky, g a Gaussian random field of unit variance.

No template knows the Galaxy's emission; what one lacks, loops and clouds, looks like sources where it is small and
bright.  The field has C_l ~ (1 + (l / KNEE)^2)^(-3/2), steep like the emission itself, up to l = MOST.  Its scatter s
is a parameter like any other: the data say how wrong templates are, and detections and source counts are marginal over
it.  (What a fit of four templates leaves of Fermi's sky at high latitudes varies by 11% at 5 degrees.)
"""

from __future__ import annotations

import healpy
import numpy as np
import torch
from torch import Tensor

from tmnre_popsources.sky import Sky

NAME = "template_scatter"
KNEE, MOST = 2.0, 47
NSIDE = 32
"""of the map that fields are made on; between its pixels they are interpolated"""


class TemplateErrors:
    """Factors of expected counts on the pixels of a sky."""

    def __init__(self, sky: Sky) -> None:
        degree, order = healpy.Alm.getlm(MOST)
        c_l = (1 + (np.arange(MOST + 1) / KNEE) ** 2) ** -1.5
        # a monopole is the norm's
        c_l[0] = 0.0
        c_l *= 4 * np.pi / ((2 * np.arange(MOST + 1) + 1) * c_l).sum()
        self.c_l = c_l
        self._real = order == 0
        self._root = np.sqrt(c_l[degree] * np.where(self._real, 1.0, 0.5))
        theta, phi = healpy.pix2ang(sky.nside, sky.nest, nest=True)
        places, weights = healpy.get_interp_weights(NSIDE, theta, phi)
        self._places = torch.from_numpy(places.astype(np.int64))
        self._weights = torch.from_numpy(weights.astype(np.float32))

    def fields(self, n: int, generator: torch.Generator) -> Tensor:
        """g (n, P) float32."""
        white = torch.randn(n, 2, len(self._root), generator=generator, dtype=torch.float64).numpy()
        alm = self._root * (white[:, 0] + 1j * np.where(self._real, 0.0, white[:, 1]))
        coarse = torch.from_numpy(np.stack([healpy.alm2map(row, NSIDE, lmax=MOST) for row in alm])).float()
        return sum(weight * coarse[:, place] for place, weight in zip(self._places, self._weights, strict=True))

    def factors(self, scatter: Tensor, generator: torch.Generator) -> Tensor:
        """Factors (N, P) with mean one, for scatter (N,)."""
        s = scatter.float()[:, None]
        return (s * self.fields(len(s), generator) - 0.5 * s**2).exp()
