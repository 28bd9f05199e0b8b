"""Deflections and images against lenstronomy (`pip install lenstronomy`; skipped where it is not installed).

lenstronomy measures angles from +x, so its e1, e2, gamma1, gamma2 have the opposite sign; its Einstein and effective
radii are on the intermediate axis as well.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tmnre_lensing import deflection, halo
from tmnre_lensing.cosmology import Planes
from tmnre_lensing.light import sersic_b
from tmnre_lensing.optics import Grid, Optics
from tmnre_lensing.scene import EPL, Halo, Scene, Sersic, Shear

pytest.importorskip("lenstronomy", reason="parity with lenstronomy: pip install lenstronomy==1.14.2")

RNG = np.random.default_rng(5)
X, Y = RNG.uniform(-2.5, 2.5, (2, 500))
TOLERANCE_ARCSEC = 1e-6
PLANES = Planes.at(0.285, 0.575)


def t(value):
    return torch.as_tensor(value, dtype=torch.float64)


def lenstronomy_deflection(models, parameters):
    from lenstronomy.LensModel.lens_model import LensModel

    return np.stack(LensModel(models).alpha(X, Y, parameters))


@pytest.mark.parametrize(("q", "phi_deg", "slope"), [(0.4, 20.0, 2.0), (0.7, -50.0, 1.8), (0.95, 80.0, 2.3)])
def test_power_law(q, phi_deg, slope):
    e1, e2 = deflection.components(q, phi_deg)
    found = deflection.epl(t(X) - 0.1, t(Y) + 0.05, t(1.4), t(e1), t(e2), slope=slope)
    lens = {"theta_E": 1.4, "gamma": slope, "e1": -e1, "e2": -e2, "center_x": 0.1, "center_y": -0.05}
    np.testing.assert_allclose(torch.stack(found), lenstronomy_deflection(["EPL"], [lens]), atol=TOLERANCE_ARCSEC)


def test_shear():
    found = deflection.shear(t(X), t(Y), t(0.05), t(-0.03))
    expected = lenstronomy_deflection(["SHEAR"], [{"gamma1": -0.05, "gamma2": 0.03, "ra_0": 0, "dec_0": 0}])
    np.testing.assert_allclose(torch.stack(found), expected, atol=TOLERANCE_ARCSEC)


@pytest.mark.parametrize("order", [3, 4])
def test_multipole(order):
    amplitude, phi = 0.02, 0.3
    a, b = amplitude * np.cos(order * phi), amplitude * np.sin(order * phi)
    found = deflection.multipole(t(X), t(Y), t(1.3), t(a), t(b), order=order)
    # theirs: convergence a_m / 2 r cos m (phi - phi_m) with phi from +x
    lens = {"m": order, "a_m": 1.3 * amplitude, "phi_m": phi + np.pi / 2, "center_x": 0, "center_y": 0, "r_E": 1.0}
    expected = lenstronomy_deflection(["MULTIPOLE"], [lens])
    np.testing.assert_allclose(torch.stack(found), expected, atol=TOLERANCE_ARCSEC)


@pytest.mark.parametrize("log10_m", [8.0, 10.0])
def test_haloes_from_their_mass(log10_m):
    """Same mass, concentration, redshifts and cosmology; their G Msun is 2.8e-4 larger than astropy's."""
    from astropy.cosmology import Planck18
    from lenstronomy.Cosmo.lens_cosmo import LensCosmo

    cosmo = LensCosmo(z_lens=0.285, z_source=0.575, cosmo=Planck18)
    r_s, alpha_rs = cosmo.nfw_physical2angle(10**log10_m, 15.0)
    found_rs, found_alpha_s = halo.scales(t(log10_m), 15.0, PLANES)
    assert float(found_rs) == pytest.approx(r_s, rel=2e-4)
    assert float(found_alpha_s) * (1 - np.log(2)) == pytest.approx(alpha_rs, rel=3e-4)
    lens = {"Rs": r_s, "alpha_Rs": alpha_rs, "center_x": 0.0, "center_y": 0.0}
    alpha_s = alpha_rs / (1 - np.log(2))
    found = halo.nfw(t(X), t(Y), t(r_s), t(alpha_s))
    np.testing.assert_allclose(torch.stack(found), lenstronomy_deflection(["NFW"], [lens]), atol=TOLERANCE_ARCSEC)
    found = halo.tnfw(t(X), t(Y), t(r_s), t(alpha_s), 6.0)
    expected = lenstronomy_deflection(["TNFW"], [{**lens, "r_trunc": 6.0 * r_s}])
    np.testing.assert_allclose(torch.stack(found), expected, atol=TOLERANCE_ARCSEC)


VALUES = {
    "lens_x_arcsec": 0.05,
    "lens_y_arcsec": -0.03,
    "lens_theta_e_arcsec": 1.3,
    "lens_e1": 0.1,
    "lens_e2": -0.08,
    "lens_slope": 2.05,
    "shear_gamma1": 0.03,
    "shear_gamma2": 0.02,
    "subhalo_x_arcsec": 0.8,
    "subhalo_y_arcsec": 1.0,
    "subhalo_log10_m200": 9.5,
    "source_x_arcsec": 0.05,
    "source_y_arcsec": 0.08,
    "source_e1": 0.1,
    "source_e2": 0.05,
    "source_n": 1.5,
    "source_r_eff_arcsec": 0.3,
    "source_brightness": 1.0,
    "light_x_arcsec": 0.05,
    "light_y_arcsec": -0.03,
    "light_e1": 0.08,
    "light_e2": -0.02,
    "light_n": 3.0,
    "light_r_eff_arcsec": 0.8,
    "light_brightness": 0.2,
}


def their_sersic(prefix: str) -> dict[str, float]:
    """The same profile with their approximation of b_n, 1.9992 n - 0.3271."""
    v = {name.removeprefix(prefix + "_"): value for name, value in VALUES.items() if name.startswith(prefix + "_")}
    n, b = v["n"], float(sersic_b(t(v["n"])))
    theirs = 1.9992 * n - 0.3271
    return {
        "amp": v["brightness"] * np.exp(b - theirs),
        "R_sersic": v["r_eff_arcsec"] * (theirs / b) ** n,
        "n_sersic": n,
        "e1": -v["e1"],
        "e2": -v["e2"],
        "center_x": v["x_arcsec"],
        "center_y": v["y_arcsec"],
    }


@pytest.mark.parametrize(("dtype", "oversampling"), [(torch.float64, 1), (torch.float32, 2)])
def test_an_image_with_everything(dtype, oversampling):
    """EPL, shear, NFW, source, lens light and a pixelated point spread function, within 1e-4 of the peak.

    Ours sees light from beyond the field, so theirs is made on a field wider by the point spread function's half width.
    """
    from lenstronomy.Data.imaging_data import ImageData
    from lenstronomy.Data.psf import PSF
    from lenstronomy.ImSim.image_model import ImageModel
    from lenstronomy.LensModel.lens_model import LensModel
    from lenstronomy.LightModel.light_model import LightModel

    n, half, pixel = 40, 5, 0.1
    line = np.exp(-0.5 * (np.arange(-half, half + 1) / 1.5) ** 2)
    psf = np.outer(line, line * (1 + 0.3 * np.arange(-1, 1.01, 0.2)))  # not symmetric, so that a flip would show
    scene = Scene((EPL(), Shear(), Halo(PLANES)), (Sersic(),), (Sersic("light"),))
    optics = Optics(Grid(n, n, pixel, oversampling), psf)
    values = {name: t(value).to(dtype).view(1, 1) for name, value in VALUES.items()}
    found = optics.image(scene.brightness(*optics.rays(dtype), values))[0].double().numpy()

    wide = n + 2 * half
    first = -(wide - 1) / 2 * pixel
    grid = {"ra_at_xy_0": first, "dec_at_xy_0": first, "transform_pix2angle": np.eye(2) * pixel}
    data = ImageData(image_data=np.zeros((wide, wide)), **grid)
    r_s, alpha_s = (float(v) for v in halo.scales(t(VALUES["subhalo_log10_m200"]), 15.0, PLANES))
    lens = [
        {"theta_E": 1.3, "gamma": 2.05, "e1": -0.1, "e2": 0.08, "center_x": 0.05, "center_y": -0.03},
        {"gamma1": -0.03, "gamma2": -0.02, "ra_0": 0, "dec_0": 0},
        {"Rs": r_s, "alpha_Rs": alpha_s * (1 - np.log(2)), "center_x": 0.8, "center_y": 1.0},
    ]
    model = ImageModel(
        data,
        PSF("PIXEL", kernel_point_source=psf / psf.sum()),
        lens_model_class=LensModel(["EPL", "SHEAR", "NFW"]),
        source_model_class=LightModel(["SERSIC_ELLIPSE"]),
        lens_light_model_class=LightModel(["SERSIC_ELLIPSE"]),
        kwargs_numerics={"supersampling_factor": oversampling},
    )
    expected = model.image(lens, [their_sersic("source")], [their_sersic("light")])[half:-half, half:-half]
    # amplitudes are per square arcsec in both, images per pixel
    ratio = expected.sum() / found.sum()
    assert ratio == pytest.approx(1, rel=1e-3) or ratio == pytest.approx(pixel**-2, rel=1e-3)
    assert np.abs(found - expected).max() < 1e-4 * expected.max()
