"""Annihilation in the Galaxy's halo: the line-of-sight integral of a generalised NFW profile squared, and its sky map.

    rho(r) = rho_s (r / r_s)^-g (1 + r / r_s)^(g - 3),        J(psi) = int rho^2(r(s, psi)) ds

psi is the angle from the Galactic centre, s the distance along the line of sight.  With b = R sin(psi), the smallest
distance from the centre, and s = R cos(psi) + b sinh(t), the radius is r = b cosh(t) and J = int rho^2(r) r dt: the
cusp, b^(1 - 2 g), is outside of an integrand that is smooth and falls off exponentially on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import healpy
import numpy as np
import torch
from astropy import units

from tmnre_popsources.psf import PSF

REACH_KPC = 500.0
"""the integral ends so far from the centre; what is beyond is below 1e-6 of it at any angle"""
NODES = 256
"""Gauss-Legendre points along a line of sight"""
GRID_DEG = np.logspace(-4, np.log10(180.0), 1200)
"""angles at which the integral is done; between them it is interpolated in logarithms"""


@dataclass(frozen=True)
class Halo:
    """A generalised NFW profile seen from the Sun."""

    inner_slope: float = 1.2
    """slope g of the density at the centre; below 1.5, where the flux of the cusp is finite"""
    scale_kpc: float = 20.0
    """radius r_s at which the slope changes, kpc (as of 1506.05124 and 2110.06931)"""
    sun_kpc: float = 8.2
    """distance R of the Sun from the centre, kpc (GRAVITY 2019: 8.178 +- 0.026)"""
    local_gev_cm3: float = 0.4
    """density at the Sun, GeV cm^-3; scales the J factor, not the template"""

    def __post_init__(self) -> None:
        if not (0 <= self.inner_slope < 1.5 and min(self.scale_kpc, self.sun_kpc, self.local_gev_cm3) > 0):
            raise ValueError(f"a halo needs 0 <= inner_slope < 1.5 and positive lengths and density, got {self}")

    def density(self, radius_kpc: np.ndarray) -> np.ndarray:
        """Density in GeV cm^-3 at radii in kpc."""
        x, sun = np.asarray(radius_kpc) / self.scale_kpc, self.sun_kpc / self.scale_kpc
        return self.local_gev_cm3 * (x / sun) ** -self.inner_slope * ((1 + x) / (1 + sun)) ** (self.inner_slope - 3)

    def j_factor(self, psi_deg: np.ndarray) -> units.Quantity:
        """J in GeV^2 cm^-5 per steradian (...), as astropy has it, at angles above 0 from the Galactic centre (...)."""
        psi = np.radians(np.asarray(psi_deg, dtype=float))[..., None]
        nearest = np.maximum(self.sun_kpc * np.sin(psi), 1e-9)
        low = np.arcsinh(-self.sun_kpc * np.cos(psi) / nearest)
        high = np.maximum(np.arccosh(REACH_KPC / nearest), low)
        node, weight = np.polynomial.legendre.leggauss(NODES)
        half = (high - low) / 2
        radius = nearest * np.cosh(low + half * (node + 1))
        along_kpc = (half * weight * self.density(radius) ** 2 * radius).sum(-1)
        density = units.GeV / units.cm**3
        return (along_kpc * density**2 * units.kpc).to(units.GeV**2 / units.cm**5) / units.sr


def annihilation_map(halo: Halo, nside: int, centre_levels: int = 6) -> np.ndarray:
    """RING map (12 nside^2,) of J at the pixels' centres, with mean one over the sky.

    Pixels within three sides of the cusp are averages over 4^centre_levels points each.  Of the four that touch the
    centre that is low by some 3%, a part in 1000 of what is within two degrees.
    """
    log_psi, log_j = np.log(GRID_DEG), np.log(halo.j_factor(GRID_DEG).value)

    def at(pixel: np.ndarray, nside: int) -> np.ndarray:
        x, y, z = healpy.pix2vec(nside, pixel, nest=True)
        psi_deg = np.degrees(np.arctan2(np.hypot(y, z), x))
        return np.exp(np.interp(np.log(np.maximum(psi_deg, GRID_DEG[0])), log_psi, log_j))

    values = at(np.arange(12 * nside**2), nside)
    inner = healpy.query_disc(nside, [1.0, 0.0, 0.0], 3 * healpy.nside2resol(nside), nest=True)
    points = (inner[:, None] << 2 * centre_levels) + np.arange(4**centre_levels)
    values[inner] = at(points, nside << centre_levels).mean(1)
    return healpy.reorder(values / values.mean(), n2r=True)


def beam(psf: PSF, most: int, nodes: int = 4000) -> np.ndarray:
    """Legendre coefficients b_l (most + 1,) of a point spread function: the mean of P_l(cos r) over its photons.

    Photons at equal steps of the cumulative distribution; for a Gaussian exp(-l (l + 1) sigma^2 / 2) up to sigma^2.
    """
    share = (torch.arange(nodes, dtype=torch.float64) + 0.5) / nodes
    x = np.cos(np.radians(psf.radius_deg(share).numpy()))
    before, now, found = np.zeros_like(x), np.ones_like(x), []
    for order in range(most + 1):  # the three-term recurrence, stable upwards for |x| <= 1
        found.append(now.mean())
        before, now = now, ((2 * order + 1) * x * now - order * before) / (order + 1)
    return np.array(found)


def blurred(values: np.ndarray, psf: PSF | None) -> np.ndarray:
    """A RING map after a point spread function, not negative: what rings below zero about the cusp is cut."""
    if psf is None:
        return np.asarray(values)
    most = 3 * healpy.npix2nside(len(values)) - 1
    harmonics = healpy.map2alm(np.asarray(values, dtype=float), lmax=most, iter=1)
    smooth = healpy.alm2map(healpy.almxfl(harmonics, beam(psf, most)), healpy.npix2nside(len(values)), lmax=most)
    return np.maximum(smooth, 0.0)
