"""Dark-matter haloes: deflections of the Navarro-Frenk-White profile and of its truncated form, from their masses.

    rho(r) = rho_s / (u (1 + u)^2)                      NFW (1996), u = r / r_s
    rho(r) = rho_s / (u (1 + u)^2) tau^2 / (tau^2 + u^2)    truncated at tau r_s (Baltz, Marshall & Oguri 2009, eq. A.3)

Deflections follow from the mass in a cylinder, 4 pi rho_s r_s^3 m(u): alpha = alpha_s m(u) / u with
alpha_s = 4 rho_s r_s^2 / (Sigma_crit D_l).  A halo is given by its mass M200c, inside which the mean density is
200 times the critical one at the lens's redshift, and its concentration c = r200 / r_s.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tmnre_lensing.cosmology import Planes

SMALL = 1e-4
"""of u^2, below which m(u) is taken from its expansion: the closed form loses all digits there"""
NEAR_ONE = 1e-2
"""of |1 - u^2|, below which F is taken from its expansion"""


def scales(log10_m200: Tensor, concentration: float | Tensor, planes: Planes) -> tuple[Tensor, Tensor]:
    """(r_s, alpha_s) in arcsec of haloes with masses in Msun."""
    c = torch.as_tensor(concentration, dtype=log10_m200.dtype, device=log10_m200.device)
    mass = 10 ** (log10_m200 - 10)  # float32 holds no squares of 1e20
    r200_mpc = (mass * (1e10 * 3 / (800 * math.pi * planes.rho_crit_msun_mpc3))) ** (1 / 3)
    r_s_mpc = r200_mpc / c
    # 4 pi rho_s r_s^3 = M200 / (ln(1 + c) - c / (1 + c)); Sigma_crit in mass per arcsec^2 of the lens plane
    r_s = r_s_mpc / planes.mpc_per_arcsec
    alpha_s = mass / (math.pi * (torch.log1p(c) - c / (1 + c)) * r_s) * (1e10 / planes.sigma_crit_msun_arcsec2)
    return r_s, alpha_s


def log10_total(log10_m200: Tensor, concentration: float | Tensor, tau: float | Tensor) -> Tensor:
    """log10 of the total mass in Msun of a truncated halo, finite where that of an NFW is not (Baltz A.4)."""
    c, t = (torch.as_tensor(v, dtype=log10_m200.dtype) for v in (concentration, tau))
    total = t**2 / (t**2 + 1) ** 2 * ((t**2 - 1) * torch.log(t) + t * math.pi - (t**2 + 1))
    return log10_m200 + torch.log10(total / (torch.log1p(c) - c / (1 + c)))


def nfw(x: Tensor, y: Tensor, r_s: Tensor, alpha_s: Tensor) -> tuple[Tensor, Tensor]:
    """Deflection of an NFW halo at the origin: m(u) = ln(u / 2) + F(u)."""
    u2 = _u2(x, y, r_s)
    log = 0.5 * torch.log(u2 / 4)
    mass = torch.where(u2 < SMALL, u2 * (-0.5 * log - 0.25), log + _f(u2))
    scale = alpha_s / r_s * mass / u2
    return scale * x, scale * y


def tnfw(x: Tensor, y: Tensor, r_s: Tensor, alpha_s: Tensor, tau: float | Tensor) -> tuple[Tensor, Tensor]:
    """Deflection of a truncated NFW halo at the origin (Baltz et al. 2009, eq. A.11)."""
    t = torch.as_tensor(tau, dtype=x.dtype, device=x.device)
    t2 = t**2
    u2 = _u2(x, y, r_s)
    root = torch.sqrt(t2 + u2)
    log = 0.5 * torch.log(u2)
    inner = (t2 + 2 * u2 - 1) * _f(u2) + t * math.pi + (t2 - 1) * torch.log(t)
    mass = t2 / (t2 + 1) ** 2 * (inner + root * ((t2 - 1) / t * (log - torch.log(root + t)) - math.pi))
    missing = ((t2 - 1) * torch.log(t) + t * math.pi - (t2 + 1)) / (t2 + 1) ** 2  # surface density at the centre
    core = u2 * (0.5 * (math.log(2) - log) - 0.25 - 0.5 * missing)
    scale = alpha_s / r_s * torch.where(u2 < SMALL, core, mass) / u2
    return scale * x, scale * y


def _u2(x: Tensor, y: Tensor, r_s: Tensor) -> Tensor:
    # a ray through the very centre is not deflected, and must not be divided by zero
    return (x * x + y * y) / (r_s * r_s) + 1e-20


def _f(u2: Tensor) -> Tensor:
    """F(u) = artanh(w) / w with w^2 = 1 - u^2, which is arctan(w) / w with w^2 = u^2 - 1 outside r_s."""
    square = 1 - u2
    w = torch.sqrt(square.abs().clamp_min(NEAR_ONE))
    # both branches are evaluated: neither may be infinite, or gradients of the other become NaN
    inside, outside = torch.atanh(w.clamp_max(1 - 1e-7)), torch.atan(w)
    near = 1 + square * (1 / 3 + square * (1 / 5 + square * (1 / 7 + square / 9)))
    return torch.where(square.abs() < NEAR_ONE, near, torch.where(square > 0, inside, outside) / w)
