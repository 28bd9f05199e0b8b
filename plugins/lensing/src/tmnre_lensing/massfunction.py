"""How many dark-matter haloes there are, of which mass, where, and how much fewer when dark matter is warm.

    dn / d ln m = rho_m / m f(sigma) |d ln sigma / d ln m|    field haloes (Sheth & Tormen 1999), per comoving volume
    dN / d ln m ~ m^-0.9                                      subhaloes (Springel et al. 2008)
    warm / cold = (1 + (a m_hm / m)^b)^c                      Lovell (2020); m_hm: the half-mode mass

sigma(m, z) is that of the linear power spectrum without wiggles of Eisenstein & Hu (1998).  Masses are in Msun; the
small differences between definitions of a halo's mass are left aside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from astropy import units as u
from astropy.cosmology import FLRW, Planck18
from numpy.typing import ArrayLike

SIGMA_8, N_S = 0.8102, 0.9665
"""Planck 2018, with baryon acoustic oscillations (1807.06209, table 2)"""
BARYONS = 0.0490
"""density parameter of baryons, where a cosmology does not say"""
COLLAPSE = 1.686
"""linear overdensity of a collapsed sphere"""
SLOPE = 0.9
"""of the cold subhalo mass function, dN / d ln m ~ m^-SLOPE"""
SUBHALOES, FIELD = (4.2, 2.5, -0.2), (2.3, 0.8, -1.0)
"""a, b, c of Lovell (2020, 2003.01125), of subhaloes and of central haloes"""


def warm_share(log10_m: ArrayLike, log10_m_hm: ArrayLike, of: tuple[float, float, float]) -> np.ndarray:
    """Haloes of mass m in warm dark matter, over those in cold: between 0 and 1."""
    a, b, c = of
    ratio = a * 10.0 ** (np.asarray(log10_m_hm) - np.asarray(log10_m))
    return (1 + ratio**b) ** c


def thermal_relic_kev(log10_m_hm: ArrayLike) -> np.ndarray:
    """Mass of a thermal relic in keV with that half-mode mass: 5e8 Msun (m / 3 keV)^(-10/3) (Nadler et al. 2021)."""
    return 3.0 * (10.0 ** np.asarray(log10_m_hm) / 5e8) ** -0.3


def concentration(log10_m200: ArrayLike, z: ArrayLike, log10_m_hm: ArrayLike | None = None) -> np.ndarray:
    """r200 / r_s of haloes at redshift z, in cold dark matter or in warm.

    Cold: Duffy et al. (2008, table 1, all haloes, M200c), measured above 1e11 Msun and continued to lower masses.
    Warm: Bose et al. (2016), over cold, (1 + 60 m_hm / m)^-0.17 (1 + z)^(0.026 z - 0.04).
    """
    m, z = np.asarray(log10_m200, dtype=float), np.asarray(z, dtype=float)
    cold = 5.71 * 10 ** (-0.084 * (m - math.log10(2e12 / Planck18.h))) * (1 + z) ** -0.47
    if log10_m_hm is None:
        return cold
    return cold * (1 + 60 * 10.0 ** (np.asarray(log10_m_hm) - m)) ** -0.17 * (1 + z) ** (0.026 * z - 0.04)


@dataclass(frozen=True)
class MassFunction:
    """Number density of field haloes in cold dark matter."""

    cosmology: FLRW = field(default_factory=lambda: Planck18)
    sigma_8: float = SIGMA_8
    n_s: float = N_S

    @property
    def rho_m_msun_mpc3(self) -> float:
        """Mean density of matter per comoving volume."""
        return float(self.cosmology.critical_density0.to_value(u.Msun / u.Mpc**3) * self.cosmology.Om0)

    def transfer(self, k_per_mpc: np.ndarray) -> np.ndarray:
        """Of Eisenstein & Hu (1998, eqs. 26 and 28 to 31), without wiggles."""
        h, om = self.cosmology.h, self.cosmology.Om0
        ob = self.cosmology.Ob0 or BARYONS
        omh2, obh2, share = om * h * h, ob * h * h, ob / om
        sound = 44.5 * math.log(9.83 / omh2) / math.sqrt(1 + 10 * obh2**0.75)
        a = 1 - 0.328 * math.log(431 * omh2) * share + 0.38 * math.log(22.3 * omh2) * share**2
        shape = omh2 * (a + (1 - a) / (1 + (0.43 * k_per_mpc * sound) ** 4))
        q = k_per_mpc * (self.cosmology.Tcmb0.value / 2.7 if self.cosmology.Tcmb0.value else 1.01) ** 2 / shape
        log = np.log(2 * math.e + 1.8 * q)
        return log / (log + (14.2 + 731 / (1 + 62.5 * q)) * q * q)

    def sigma(self, log10_m: np.ndarray) -> np.ndarray:
        """Standard deviation of the linear density today in spheres that hold masses (M,) on average."""
        norm = self._sigma_of_radius(np.array([8.0 / self.cosmology.h]))[0]
        radius = (3 * 10.0 ** np.asarray(log10_m) / (4 * math.pi * self.rho_m_msun_mpc3)) ** (1 / 3)
        return self.sigma_8 / norm * self._sigma_of_radius(radius)

    def _sigma_of_radius(self, r_mpc: np.ndarray) -> np.ndarray:
        k = np.logspace(-4, 5, 4000)
        kr = np.outer(r_mpc, k)
        with np.errstate(invalid="ignore"):
            window = np.where(kr < 1e-2, 1 - kr**2 / 10, 3 * (np.sin(kr) - kr * np.cos(kr)) / kr**3)
        power = k ** (self.n_s + 3) * self.transfer(k) ** 2
        return np.sqrt(np.trapezoid(power * window**2, np.log(k), axis=1))

    def growth(self, z: float) -> float:
        """Linear growth since redshift z, D(z) / D(0), of matter and a cosmological constant (Heath 1977)."""

        def unnormalised(z: float) -> float:
            a = np.linspace(1e-4, 1 / (1 + z), 2000)
            return float(self.cosmology.efunc(z) * np.trapezoid((a * self.cosmology.efunc(1 / a - 1)) ** -3.0, a))

        return unnormalised(z) / unnormalised(0.0)

    def density(self, log10_m: np.ndarray, z: ArrayLike) -> np.ndarray:
        """dn / d ln m (..., M) per comoving Mpc^3 at redshifts (...) and masses 10^log10_m, evenly spaced."""
        now = self.sigma(log10_m)
        falling = -np.gradient(np.log(now), np.asarray(log10_m) * math.log(10))
        nu = COLLAPSE / (now * np.vectorize(self.growth)(z)[..., None])
        f = 0.3222 * math.sqrt(2 * 0.707 / math.pi) * (1 + (0.707 * nu * nu) ** -0.3) * nu * np.exp(-0.3535 * nu * nu)
        return self.rho_m_msun_mpc3 / 10.0 ** np.asarray(log10_m) * f * falling
