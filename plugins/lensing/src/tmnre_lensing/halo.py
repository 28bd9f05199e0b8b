"""Dark-matter haloes: deflections of the Navarro-Frenk-White profile and of its truncated form, from their masses.

    rho(r) = rho_s / (u (1 + u)^2)                      NFW (1996), u = r / r_s
    rho(r) = rho_s / (u (1 + u)^2) tau^2 / (tau^2 + u^2)    truncated at tau r_s (Baltz, Marshall & Oguri 2009, eq. A.3)

Deflections follow from the mass in a cylinder, 4 pi rho_s r_s^3 m(u): alpha = alpha_s m(u) / u with
alpha_s = 4 rho_s r_s^2 / (Sigma_crit D_l).  A halo is given by its mass M200c, inside which the mean density is
200 times the critical one at the lens's redshift, and its concentration c = r200 / r_s.
"""

from __future__ import annotations

import math
from collections.abc import Callable

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

    def mass(u2: Tensor, f: Tensor, _: Tensor) -> Tensor:
        return 0.5 * torch.log(0.25 * u2) + f

    return _deflection(x, y, r_s, alpha_s, mass, alpha_s.new_zeros(()))


def tnfw(x: Tensor, y: Tensor, r_s: Tensor, alpha_s: Tensor, tau: float | Tensor) -> tuple[Tensor, Tensor]:
    """Deflection of a truncated NFW halo at the origin (Baltz et al. 2009, eq. A.11)."""

    def mass(u2: Tensor, f: Tensor, t: Tensor) -> Tensor:
        t2, root = t * t, torch.sqrt(t * t + u2)
        inner = (t2 + 2 * u2 - 1) * f + t * math.pi + (t2 - 1) * torch.log(t)
        outer = (t2 - 1) / t * (0.5 * torch.log(u2) - torch.log(root + t)) - math.pi
        return t2 / (t2 + 1) ** 2 * (inner + root * outer)

    return _deflection(x, y, r_s, alpha_s, mass, torch.as_tensor(tau, dtype=x.dtype, device=x.device))


def _deflection(
    x: Tensor, y: Tensor, r_s: Tensor, alpha_s: Tensor, mass: Callable[[Tensor, Tensor, Tensor], Tensor], tau: Tensor
) -> tuple[Tensor, Tensor]:
    """alpha_s m(u) / u along (x, y), from `mass`(u^2, F, tau); tau = 0: not truncated.

    Few rays pass within r_s.  They alone need the other branch of F, double precision where terms cancel, and the
    expansion at the centre, m = u^2 (ln(2 / u) / 2 - 1/4 - k / 2), k the surface density that truncation takes away.
    """
    # a ray through the very centre is not deflected, and must not be divided by zero
    u2 = (x * x + y * y) / (r_s * r_s) + 1e-20
    w = torch.sqrt((u2 - 1).clamp_min(NEAR_ONE))
    m = mass(u2, torch.atan(w) / w, tau)
    every = u2.flatten()
    close = torch.nonzero(every < 1 + NEAR_ONE)[:, 0]
    v = every[close].double()
    t = tau.double() if tau.numel() == 1 else tau.expand_as(u2).flatten()[close].double()
    k = ((t * t - 1) * torch.log(t.clamp_min(1e-30)) + t * math.pi - (t * t + 1)) / (t * t + 1) ** 2
    core = v * (0.5 * (math.log(2) - 0.5 * torch.log(v)) - 0.25 - torch.where(t > 0, 0.5 * k, 0.0))
    inner = torch.where(v < SMALL, core, mass(v, _f_close(v), t)).to(m.dtype)
    m = m.flatten().index_copy(0, close, inner).view_as(m)
    scale = alpha_s / r_s * m / u2
    return scale * x, scale * y


def _f_close(u2: Tensor) -> Tensor:
    """F(u) = artanh(w) / w, w^2 = 1 - u^2, for u^2 < 1 + NEAR_ONE; by its expansion about u = 1."""
    square = 1 - u2
    w = torch.sqrt(square.clamp_min(NEAR_ONE)).clamp_max(1 - 1e-7)  # finite in both branches, for the gradient's sake
    near = 1 + square * (1 / 3 + square * (1 / 5 + square * (1 / 7 + square / 9)))
    return torch.where(square < NEAR_ONE, near, torch.atanh(w) / w)
