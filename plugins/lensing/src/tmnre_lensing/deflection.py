"""Deflection angles of lens models, batched torch, in the conventions of COOLEST (https://coolest.readthedocs.io).

- x grows to the right and y upwards, in arcsec; the lens is centred on the origin.
- Angles phi are counter-clockwise from the +y axis, so the major axis points along (-sin phi, cos phi).
- Radii are on the intermediate axis, sqrt(a b) of an ellipse with semi-axes a > b.

A shape is given by two components that have no preferred range and no singular point at the circle,

    e1 = |e| cos 2 phi,    e2 = |e| sin 2 phi,    |e| = (1 - q) / (1 + q),    q = b / a,

and an external shear by gamma1, gamma2 in the same way.  Mind the axis: with phi from +y instead of +x, both components
have the opposite sign of lenstronomy's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def components(q: float, phi_deg: float) -> tuple[float, float]:
    """(e1, e2) of axis ratio q = b/a and position angle phi_deg of the major axis, counter-clockwise from +y.

    >>> e1, e2 = components(0.5, 45.0)
    >>> round(e1, 6), round(e2, 6)
    (0.0, 0.333333)
    """
    e = (1 - q) / (1 + q)
    angle = torch.deg2rad(torch.tensor(2 * phi_deg, dtype=torch.float64))
    return float(e * torch.cos(angle)), float(e * torch.sin(angle))


def axis_ratio(e1: Tensor, e2: Tensor) -> Tensor:
    """q = b/a from the ellipticity components."""
    e = torch.hypot(e1, e2)
    return (1 - e) / (1 + e)


def position_angle_deg(e1: Tensor, e2: Tensor) -> Tensor:
    """Position angle in (-90, 90] degrees, counter-clockwise from +y, of the major axis (or of a shear's stretch)."""
    return torch.rad2deg(0.5 * torch.atan2(e2, e1))


def epl(
    x: Tensor,
    y: Tensor,
    theta_e: Tensor,
    e1: Tensor,
    e2: Tensor,
    *,
    slope: float | Tensor = 2.0,
    tolerance: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Deflection (alpha_x, alpha_y) of the elliptical power law, convergence (3 - slope)/2 (theta_e / r)^(slope - 1).

    r = sqrt(q X^2 + Y^2 / q) with X along the major axis; theta_e on the intermediate axis; slope = 2 is the singular
    isothermal ellipsoid.  Everything broadcasts; the units of alpha are those of x.

    Angular series of Tessore & Metcalf (2015), eq. 23, cut where |e|^terms / (1 - |e|), a bound on what is left out,
    is below `tolerance` for the most elliptical lens of the batch: with 1e-9 (double precision) 10 terms at q = 0.8, 25
    at q = 0.4, 53 at q = 0.2, with 1e-7 (single) fewer by a fifth.  At the origin the result is NaN for slope > 2, and
    at e1 = e2 = 0 its gradient is; grids and priors avoid both.
    """
    t = torch.as_tensor(slope, dtype=x.dtype, device=x.device) - 1
    e = torch.hypot(e1, e2)
    q = (1 - e) / (1 + e)
    # the unit vector of the major axis, from the double angle without trigonometric functions of every ray
    twist = 0.5 * torch.atan2(e2, e1)
    axis_x, axis_y = -torch.sin(twist), torch.cos(twist)
    u = q * (x * axis_x + y * axis_y)
    v = y * axis_x - x * axis_y
    squared = u * u + v * v
    terms = _terms(float(e.detach().max()), tolerance or (1e-7 if x.dtype == torch.float32 else 1e-9))
    # a_n = prod_{i <= n} -e (2 i - (2 - t)) / (2 i + (2 - t)); the sums of a_n cos 2 n phi and of a_n sin 2 n phi share
    # one real recurrence (Clenshaw's), a third of the work of Horner's rule for a complex argument
    cosine2 = 2 * (u * u - v * v) / squared
    order = 2 * torch.arange(1, terms + 1, dtype=x.dtype, device=x.device)
    factors = -e[..., None] * (order - (2 - t[..., None])) / (order + (2 - t[..., None]))
    a = torch.cumprod(factors, dim=-1)
    b, above = a[..., -1], None
    for n in range(terms - 2, -1, -1):
        b, above = torch.addcmul(a[..., n] if above is None else a[..., n] - above, cosine2, b), b
    s_re = torch.addcmul(torch.ones_like(e), 0.5 * cosine2, b) - (0.0 if above is None else above)
    s_im = 2 * u * v / squared * b
    scale = 2 / (1 + q) * (theta_e * torch.sqrt(q)) ** t * torch.exp(torch.log(squared) * (-t / 2))
    along, across = scale * (u * s_re - v * s_im), scale * (u * s_im + v * s_re)
    return along * axis_x - across * axis_y, along * axis_y + across * axis_x


def _terms(e: float, tolerance: float) -> int:
    """Terms of the series after which what is left out is below the tolerance."""
    if not e < 0.9:
        raise ValueError(f"an axis ratio below 0.053, |e| = {e:.3g}, is no galaxy; bound e1 and e2")
    return max(2, math.ceil(math.log(tolerance * (1 - e)) / math.log(max(e, 1e-6))))


def shear(x: Tensor, y: Tensor, gamma1: Tensor, gamma2: Tensor) -> tuple[Tensor, Tensor]:
    """Deflection of an external shear, potential r^2/2 gamma cos 2(phi - phi_ext): images stretch along phi_ext."""
    return -gamma1 * x - gamma2 * y, gamma1 * y - gamma2 * x


def multipole(x: Tensor, y: Tensor, theta_e: Tensor, a: Tensor, b: Tensor, *, order: int) -> tuple[Tensor, Tensor]:
    """Deflection of a multipole of order m >= 2 of an isothermal lens.

    Convergence theta_e / 2 r (a cos m phi + b sin m phi), potential theta_e r / (1 - m^2) (a cos m phi + b sin m phi),
    phi from +y.  Order 4 along the axes of the ellipse makes it boxy or discy.
    """
    if order < 2:
        raise ValueError(f"a multipole needs an order of at least 2, got {order}")
    r = torch.hypot(x, y)
    c, s = y / r, -x / r
    cos, sin = c, s
    for _ in range(order - 1):
        cos, sin = c * cos - s * sin, s * cos + c * sin
    scale = theta_e / (1 - order**2)
    radial, tangential = scale * (a * cos + b * sin), scale * order * (b * cos - a * sin)
    # radial unit vector (-sin phi, cos phi), tangential (-cos phi, -sin phi)
    return -radial * s - tangential * c, radial * c - tangential * s
