"""An excess that is partly smooth and partly of point sources with the same distribution over the sky.

Instead of a level of dN/dF and a norm of a smooth template, theta has the excess's photons and the share of them that
is of sources: what is asked, and, of the two, the sum is known far better than either.  With F counts at the mean
exposure, d the density relative to its mean over the region, e the exposure likewise and P pixels, a pixel expects

    sources   share   gce_counts d e / P    before the point spread function,
    smooth  (1-share) gce_counts d e / P    after it, from the whole sky,

so that the flux law is scaled to share gce_counts = P pixel_sr int F dN/dF dF.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from tmnre import Prior
from tmnre_popsources.fluxes import BrokenPowerLaw
from tmnre_popsources.nfw import blurred
from tmnre_popsources.psf import PSF
from tmnre_popsources.sky import Sky, degrade
from tmnre_popsources.sky_simulator import SkySimulator


class ExcessSky(SkySimulator):
    """A sky of an excess, smooth and of sources, and templates.

    Parameters of theta: gce_counts, photons of the excess expected from the region at its mean exposure;
    point_fraction, the share of sources; slopes and breaks of the law, in counts; one norm for every template.

    smooth (P,) : counts of a smooth excess of one photon, from `smooth_excess`; the rest as of `SkySimulator`
    """

    def __init__(
        self,
        sky: Sky,
        prior: Prior,
        *,
        law: BrokenPowerLaw,
        density: np.ndarray,
        smooth: np.ndarray,
        templates: dict[str, np.ndarray],
        **how,
    ) -> None:
        super().__init__(sky, prior, law=law, density=density, templates={"smooth": smooth, **templates}, **how)

    def parameters(self, templates: tuple[str, ...]) -> tuple[str, ...]:
        return ("gce_counts", "point_fraction", *self.law.names[1:], *templates[1:])

    def split(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        k = len(self.law.names)
        total, fraction, shape, norms = (
            theta[:, :1],
            theta[:, 1:2],
            theta[:, 2 : k + 1],
            theta[:, k + 1 : k + len(self.templates)],
        )
        area_sr = len(self.sky) * self.sky.pixel_sr
        unit = self.law.expected_flux(torch.cat([torch.zeros_like(total), shape], dim=1))[:, None]
        level = (total * fraction / area_sr / unit).log() / math.log(10.0)
        return torch.cat([level, shape], dim=1), torch.cat([total * (1 - fraction), norms], dim=1)

    def draw(self, theta: np.ndarray, seed: int) -> np.ndarray:
        """Counts (P,) of one theta (D,)."""
        rng = np.random.default_rng(seed)
        smooth = self.expected(torch.from_numpy(theta)[None], torch.Generator().manual_seed(seed))
        return self.photons(theta, rng) + rng.poisson(smooth[0].numpy())


def smooth_excess(sky: Sky, density: np.ndarray, exposure: np.ndarray, psf: PSF | None) -> np.ndarray:
    """Expected counts (P,) of a smooth excess with one photon from the region at its mean exposure.

    density (12 m^2,) RING, of any scale, at the sky's nside or finer; exposure (12 nside^2,) RING
    """
    inside = sky.of_ring(degrade(density, sky.nside, "mean")).sum()
    after = sky.of_ring(degrade(blurred(density, psf), sky.nside, "mean"))
    # the exposure hardly changes over a point spread function
    return after / inside * sky.of_ring(exposure) / sky.of_ring(exposure).mean()
