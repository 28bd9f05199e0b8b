"""Haloes: deflection from the mass in a cylinder by quadrature, limits, and gradients everywhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from tmnre_lensing import halo
from tmnre_lensing.cosmology import Planes, flat_cosmology

ONE = torch.tensor(1.0, dtype=torch.float64)
RADII = np.array([1e-3, 0.02, 0.3, 0.97, 1.0, 1.004, 1.3, 8.0, 40.0])


def cylinder(u: float, tau: float | None) -> float:
    """Mass within u r_s of the axis over 4 pi rho_s r_s^3: what lies in the sphere, and outside it in the cylinder."""

    def density(r: float) -> float:
        return 1 / (r * (1 + r) ** 2) * (1.0 if tau is None else tau**2 / (tau**2 + r**2))

    inside = quad(lambda r: r**2 * density(r), 0, u, epsabs=0, epsrel=1e-11)[0]
    # of the shell at r > u the share 1 - sqrt(1 - (u/r)^2) lies in the cylinder; r = u / cos(a)
    beyond = quad(
        lambda a: (
            (u / math.cos(a)) ** 2 * density(u / math.cos(a)) * (1 - math.sin(a)) * u * math.sin(a) / math.cos(a) ** 2
        ),
        *(0, math.pi / 2),
        epsabs=0,
        epsrel=1e-10,
    )[0]
    return inside + beyond


@pytest.mark.parametrize("tau", [None, 2.0, 6.0])
def test_deflection_is_the_mass_in_the_cylinder(tau):
    x = torch.from_numpy(RADII)
    profile = halo.nfw(x, 0 * x, ONE, ONE) if tau is None else halo.tnfw(x, 0 * x, ONE, ONE, tau)
    expected = [cylinder(u, tau) / u for u in RADII]
    # the expansions at the centre and about u = 1 are good to 1e-4 and 1e-10 of their terms
    np.testing.assert_allclose(profile[0], expected, rtol=1e-6, atol=1e-7)
    assert not profile[1].any()


def test_wide_truncation_is_none_and_the_total_mass_is_the_cylinders_far_out():
    x = torch.from_numpy(RADII)
    wide, plain = halo.tnfw(x, 0 * x, ONE, ONE, 1e5)[0], halo.nfw(x, 0 * x, ONE, ONE)[0]
    torch.testing.assert_close(wide, plain, rtol=1e-3, atol=0)
    far = torch.tensor([3e4], dtype=torch.float64)
    mass = float((halo.tnfw(far, 0 * far, ONE, ONE, 6.0)[0] * far)[0])
    c = 15.0
    share = 10 ** float(halo.log10_total(0 * ONE, c, 6.0)) * (math.log(1 + c) - c / (1 + c))
    assert mass == pytest.approx(share, rel=1e-4)


def test_gradients_are_finite_at_the_centre_and_at_the_scale_radius():
    x = torch.tensor([0.0, 1e-9, 0.01, 0.5, 1.0, 1.0 + 1e-12, 3.0], dtype=torch.float64, requires_grad=True)
    for profile in (halo.nfw(x, 0 * x, ONE, ONE), halo.tnfw(x, 0 * x, ONE, ONE, 6.0)):
        (gradient,) = torch.autograd.grad(profile[0].sum(), x)
        assert torch.isfinite(gradient).all() and torch.isfinite(profile[0]).all()


def test_single_precision_is_good_to_a_microarcsecond():
    planes = Planes.at(0.285, 0.575)
    x, y = torch.from_numpy(np.random.default_rng(0).uniform(-2.5, 2.5, (2, 2000)))
    for tau in (None, 6.0):
        found = []
        for dtype in (torch.float64, torch.float32):
            r_s, alpha_s = halo.scales(torch.tensor(10.0, dtype=dtype), 15.0, planes)
            at = (x.to(dtype), y.to(dtype), r_s, alpha_s)
            found.append(torch.stack(halo.nfw(*at) if tau is None else halo.tnfw(*at, tau)).double())
        assert float((found[0] - found[1]).abs().max()) < 1e-6


def test_critical_densities():
    """Sigma_crit of an Einstein-de Sitter universe in closed form: D_A = 2 c / H0 (1 - (1 + z)^-1/2) / (1 + z)."""
    planes = Planes.at(0.5, 2.0, flat_cosmology(70.0, 1.0))
    c_km_s, g = 299792.458, 4.30091e-9  # Mpc (km/s)^2 / Msun
    comoving = [2 * c_km_s / 70 * (1 - (1 + z) ** -0.5) for z in (0.5, 2.0)]
    d_l, d_s, d_ls = comoving[0] / 1.5, comoving[1] / 3.0, (comoving[1] - comoving[0]) / 3.0
    per_arcsec = d_l * math.pi / 180 / 3600
    expected = c_km_s**2 / (4 * math.pi * g) * d_s / (d_l * d_ls) * per_arcsec**2
    # radiation, which astropy's flat universe has not where Tcmb0 = 0; G to five digits
    assert planes.sigma_crit_msun_arcsec2 == pytest.approx(expected, rel=1e-4)
    assert planes.rho_crit_msun_mpc3 == pytest.approx(3 * (70 * 1.5**1.5) ** 2 / (8 * math.pi * g), rel=1e-4)
    with pytest.raises(ValueError, match="0 < z_lens < z_source"):
        Planes.at(0.5, 0.4)
