"""Deflection angles against closed forms and against quadrature over elliptical shells."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from tmnre_lensing import deflection

POINTS = np.random.default_rng(3).uniform(-2.5, 2.5, (200, 2))
X, Y = torch.from_numpy(POINTS.T.copy())


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def test_singular_isothermal_sphere_deflects_by_the_einstein_radius_everywhere():
    alpha = deflection.epl(X, Y, scalar(1.3), scalar(0.0), scalar(0.0))
    r = torch.hypot(X, Y)
    torch.testing.assert_close(torch.stack(alpha), 1.3 * torch.stack((X / r, Y / r)), rtol=1e-12, atol=0)


@pytest.mark.parametrize("q", [0.4, 0.7, 0.95])
@pytest.mark.parametrize("phi_deg", [0.0, 30.0, -75.0])
def test_isothermal_ellipsoid_against_its_closed_form(q, phi_deg):
    """The gradient of the SIE potential in COOLEST's documentation (after Kormann et al. 1994).

    There the major axis lies along x, so points are turned by phi + 90 degrees.  What the series leaves out is
    below its `tolerance` of 1e-9, times 2 / (1 + q) theta_e sqrt(q).
    """
    turn = np.deg2rad(phi_deg + 90)
    u = X * np.cos(turn) + Y * np.sin(turn)
    v = -X * np.sin(turn) + Y * np.cos(turn)
    root, r = np.sqrt(1 - q**2), torch.sqrt(q**2 * u**2 + v**2)
    scale = 1.3 * np.sqrt(q) / root
    along, across = scale * torch.atan(root * u / r), scale * torch.atanh(root * v / r)
    expected = (along * np.cos(turn) - across * np.sin(turn), along * np.sin(turn) + across * np.cos(turn))
    e1, e2 = deflection.components(q, phi_deg)
    found = deflection.epl(X, Y, scalar(1.3), scalar(e1), scalar(e2))
    torch.testing.assert_close(torch.stack(found), torch.stack(expected), rtol=0, atol=2 * 1.3 * 1e-9)


@pytest.mark.parametrize("slope", [1.7, 2.3])
def test_power_law_against_quadrature(slope):
    """Deflection of any elliptical convergence as an integral over shells (Keeton 2001, astro-ph/0102341)."""
    q, theta_e = 0.6, 1.2

    def integral(x: float, y: float, n: float) -> float:
        def shell(w: float) -> float:
            # u = w^2 takes the integrable singularity at the centre away
            u = w * w
            xi2 = u * (x**2 + y**2 / (1 - (1 - q**2) * u))
            kappa = (3 - slope) / 2 * (theta_e * np.sqrt(q) / np.sqrt(q**2 * xi2)) ** (slope - 1)
            return 2 * w * kappa / (1 - (1 - q**2) * u) ** (n + 0.5)

        return quad(shell, 0, 1, epsabs=1e-10, epsrel=1e-10)[0]

    # phi = -90 degrees puts the major axis along x
    e1, e2 = deflection.components(q, -90.0)
    found = deflection.epl(X[:20], Y[:20], scalar(theta_e), scalar(e1), scalar(e2), slope=slope)
    expected = [[q * x * integral(x, y, 0), q * y * integral(x, y, 1)] for x, y in POINTS[:20]]
    # the series' tolerance of 1e-9 and the quadrature's of 1e-10
    np.testing.assert_allclose(torch.stack(found, 1).numpy(), expected, rtol=0, atol=1e-8)


def test_external_shear_is_the_gradient_of_its_potential():
    """COOLEST: psi = r^2/2 gamma cos 2(phi - phi_ext), here with both angles counter-clockwise from +y."""
    gamma, phi_ext = 0.07, np.deg2rad(25.0)
    x, y = X.clone().requires_grad_(), Y.clone().requires_grad_()
    phi = torch.atan2(-x, y)
    potential = (x**2 + y**2) / 2 * gamma * torch.cos(2 * (phi - phi_ext))
    expected = torch.autograd.grad(potential.sum(), (x, y))
    g1, g2 = (scalar(gamma * f(2 * phi_ext)) for f in (np.cos, np.sin))
    found = deflection.shear(X, Y, g1, g2)
    torch.testing.assert_close(torch.stack(found), torch.stack(expected), rtol=1e-10, atol=1e-12)


def test_components_and_axis_ratio_invert_each_other():
    for q, phi_deg in ((0.5, 20.0), (0.9, -80.0), (0.3, 90.0)):
        e1, e2 = (scalar(e) for e in deflection.components(q, phi_deg))
        assert float(deflection.axis_ratio(e1, e2)) == pytest.approx(q, rel=1e-12)
        assert float(deflection.position_angle_deg(e1, e2)) == pytest.approx(phi_deg, rel=1e-12)
