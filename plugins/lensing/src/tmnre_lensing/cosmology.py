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
        d_ls = cosmology.angular_diameter_distance_z1z2(z_lens, z_source)
        per_arcsec = (d_l * u.arcsec.to(u.rad)).to_value(u.Mpc)
        sigma = (constants.c**2 / (4 * np.pi * constants.G) * d_s / (d_l * d_ls)).to_value(u.Msun / u.Mpc**2)
        rho = cosmology.critical_density(z_lens).to_value(u.Msun / u.Mpc**3)
        return cls(float(sigma) * per_arcsec**2, float(rho), per_arcsec)


def flat_cosmology(h0_km_s_mpc: float, omega_m: float) -> FLRW:
    """A flat universe of matter and a cosmological constant."""
    return FlatLambdaCDM(H0=h0_km_s_mpc, Om0=omega_m)
