"""What redshifts of lens and source mean for a lens: distances, critical densities.

    Sigma_crit = c^2 / (4 pi G) D_s / (D_l D_ls)            convergence = surface density / Sigma_crit

Angular-diameter distances come from astropy.cosmology; the default is Planck 2018, flat.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy import constants
from astropy import units as u
from astropy.cosmology import FLRW, FlatLambdaCDM, Planck18


@dataclass(frozen=True)
class Planes:
    """A lens plane before a source plane.

    Attributes
    ----------
    sigma_crit_msun_arcsec2 : critical surface density, per square arcsec of the lens plane
    rho_crit_msun_mpc3 : critical density of the universe at the lens's redshift
    mpc_per_arcsec : proper length at the lens
    """

    sigma_crit_msun_arcsec2: float
    rho_crit_msun_mpc3: float
    mpc_per_arcsec: float

    @classmethod
    def at(cls, z_lens: float, z_source: float, cosmology: FLRW = Planck18) -> Planes:
        """From redshifts; raises ValueError where the source is not behind the lens."""
        if not 0 < z_lens < z_source:
            raise ValueError(f"redshifts must satisfy 0 < z_lens < z_source, got {z_lens} and {z_source}")
        d_l, d_s = (cosmology.angular_diameter_distance(z) for z in (z_lens, z_source))
        d_ls = between(z_lens, z_source, cosmology)
        per_arcsec = (d_l * u.arcsec.to(u.rad)).to_value(u.Mpc)
        sigma = (constants.c**2 / (4 * np.pi * constants.G) * d_s / (d_l * d_ls)).to_value(u.Msun / u.Mpc**2)
        rho = cosmology.critical_density(z_lens).to_value(u.Msun / u.Mpc**3)
        return cls(float(sigma) * per_arcsec**2, float(rho), per_arcsec)


def between(z_near: float, z_far: float, cosmology: FLRW = Planck18) -> u.Quantity:
    """Angular-diameter distance of z_far as seen from z_near (Hogg 1999, astro-ph/9905116, eq. 19)."""
    near, far = (cosmology.comoving_transverse_distance(z) for z in (z_near, z_far))
    curvature = cosmology.Ok0 / cosmology.hubble_distance**2
    return (far * np.sqrt(1 + curvature * near**2) - near * np.sqrt(1 + curvature * far**2)) / (1 + z_far)


def beta(z_near: float, z_far: float, z_source: float, cosmology: FLRW = Planck18) -> float:
    """D_ij D_s / (D_j D_is): how much of a deflection at z_near, as the source sees it, is seen at z_far already."""
    if z_near >= z_far:
        return 0.0
    d_far, d_source = (cosmology.angular_diameter_distance(z) for z in (z_far, z_source))
    ratio = between(z_near, z_far, cosmology) * d_source / (d_far * between(z_near, z_source, cosmology))
    return float(ratio.to_value(u.dimensionless_unscaled))


def flat_cosmology(h0_km_s_mpc: float, omega_m: float) -> FLRW:
    """A flat universe of matter and a cosmological constant."""
    return FlatLambdaCDM(H0=h0_km_s_mpc, Om0=omega_m)
