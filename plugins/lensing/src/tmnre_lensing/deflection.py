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
    x: Tensor, y: Tensor, theta_e: Tensor, e1: Tensor, e2: Tensor, *, slope: float | Tensor = 2.0, terms: int = 20
) -> tuple[Tensor, Tensor]:
    """Deflection (alpha_x, alpha_y) of the elliptical power law, convergence (3 - slope)/2 (theta_e / r)^(slope - 1).

    r = sqrt(q X^2 + Y^2 / q) with X along the major axis; theta_e on the intermediate axis; slope = 2 is the singular
    isothermal ellipsoid.  Everything broadcasts; the units of alpha are those of x.

    Angular series of Tessore & Metcalf (2015), eq. 23, cut after `terms`: the next term is smaller than |e|^terms, so
    20 terms are good to 4e-8 theta_e at q = 0.4 and to 3e-4 theta_e at q = 0.2.  At the origin the result is 0/0 = NaN
    for slope > 2; a pixel grid should not have a point there.
    """
    t = slope - 1.0
    e = torch.hypot(e1, e2)
    q = (1 - e) / (1 + e)
    # the unit vector of the major axis, from the double angle without trigonometric functions
    twist = 0.5 * torch.atan2(e2, e1)
    axis_x, axis_y = -torch.sin(twist), torch.cos(twist)
    u = q * (x * axis_x + y * axis_y)
    v = y * axis_x - x * axis_y
    squared = u * u + v * v
    # Horner's rule in real arithmetic for 1 + c_1 w (1 + c_2 w (1 + ...)), w = z / conj z: a third of the time that
    # complex tensors take
    w_re, w_im = (u * u - v * v) / squared, 2 * u * v / squared
    s_re, s_im = torch.ones_like(w_re), torch.zeros_like(w_re)
    for n in range(terms, 0, -1):
        c = -e * (2 * n - (2 - t)) / (2 * n + (2 - t))
        s_re, s_im = 1 + c * (w_re * s_re - w_im * s_im), c * (w_re * s_im + w_im * s_re)
    scale = 2 / (1 + q) * (theta_e * torch.sqrt(q)) ** t * squared ** (-t / 2)
    along, across = scale * (u * s_re - v * s_im), scale * (u * s_im + v * s_re)
    return along * axis_x - across * axis_y, along * axis_y + across * axis_x


def shear(x: Tensor, y: Tensor, gamma1: Tensor, gamma2: Tensor) -> tuple[Tensor, Tensor]:
    """Deflection of an external shear, potential r^2/2 gamma cos 2(phi - phi_ext): images stretch along phi_ext."""
    return -gamma1 * x - gamma2 * y, gamma1 * y - gamma2 * x
