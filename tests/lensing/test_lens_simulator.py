"""The image simulator: flux, symmetry, convergence of the ray grid, gradients, noise, and what the reduction keeps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special

from tmnre import Prior, Uniform
from tmnre_lensing.camera import Camera
from tmnre_lensing.figures import critical_curve, einstein_radius_arcsec
from tmnre_lensing.light import log_total, random_field, sersic_b
from tmnre_lensing.noise import Noise, drizzle_kernel
from tmnre_lensing.optics import Grid, Optics
from tmnre_lensing.recipes import mock
from tmnre_lensing.recipes.demo import PRIOR, SCENE
from tmnre_lensing.scene import EPL, Pixels, Scene, Sersic
from tmnre_lensing.simulator import LensSimulator


def demo(camera: Camera = Camera()) -> LensSimulator:  # noqa: B008 - frozen
    return LensSimulator(SCENE, PRIOR, camera.optics, camera.noise)


def image(theta: dict[str, float], camera: Camera) -> np.ndarray:
    row = [[theta.get(name, 0.0) for name in PRIOR.names]]
    return demo(camera).simulate(np.array(row), np.random.default_rng(0))["image"][0]


def total(brightness: float, r_eff: float, n: float) -> float:
    return float(torch.exp(log_total(*(torch.tensor(v, dtype=torch.float64) for v in (brightness, r_eff, n)))))


def test_b_n_holds_half_of_the_light():
    for n, tolerance in ((0.5, 4e-4), (1.0, 3e-5), (4.0, 1e-6)):
        found = float(sersic_b(torch.tensor(n, dtype=torch.float64)))
        assert found == pytest.approx(special.gammaincinv(2 * n, 0.5), rel=tolerance)


def test_the_area_inside_the_critical_curve_is_that_of_an_isothermal_lens():
    """pi theta_E^2, whatever its axis ratio; of a curve that leaves the grid nothing is said."""
    simulator = demo()
    theta = dict.fromkeys(PRIOR.names, 0.0) | {"lens_e1": 0.25, "lens_e2": -0.2}

    def radius(theta_e: float):
        row = np.array([[{**theta, "lens_theta_e_arcsec": theta_e}[name] for name in PRIOR.names]])
        return einstein_radius_arcsec(critical_curve(simulator, row)[0])

    # half of a cell of the grid of 250 points, at most
    assert radius(1.2) == pytest.approx(1.2, abs=0.5 * 2 * simulator.optics.grid.extent_arcsec[1] / 250)
    assert radius(1.1 * simulator.optics.grid.extent_arcsec[1]) is None


def test_an_unlensed_source_has_the_flux_of_a_sersic_profile():
    n, r_eff, brightness = 1.0, 0.3, 80.0
    # the midpoint rule sees the cusp of the profile: four rays a pixel leave (h / r_eff)^2 b / 12, h the ray spacing
    camera = Camera(oversampling=4)
    b = special.gammaincinv(2 * n, 0.5)
    expected = total(brightness, r_eff, n)
    found = image({"source_r_eff_arcsec": r_eff}, camera).sum()
    tolerance = b / 12 * (camera.pixel_arcsec / camera.oversampling / r_eff) ** 2
    # of an exponential disc, (1 + b R) exp(-b R) lies outside R effective radii; the field's corners are left out
    reach = b * camera.pixels * camera.pixel_arcsec / 2 / r_eff
    outside = (1 + reach) * np.exp(-reach)
    assert found == pytest.approx(expected, rel=tolerance + outside)


def test_an_ellipse_has_the_flux_of_the_circle_of_the_same_intermediate_radius():
    scene = Scene((), (Sersic(),))
    optics = Optics(Grid(200, 200, 0.03))
    x, y = optics.rays(torch.float64)
    values = dict(x_arcsec=0.01, y_arcsec=0.02, e1=0.15, e2=-0.1, n=1.0, r_eff_arcsec=0.3, brightness=1.0)
    values = {f"source_{k}": torch.tensor([[v]], dtype=torch.float64) for k, v in values.items()}
    found = float(optics.image(scene.brightness(x, y, values)).sum())
    assert found == pytest.approx(total(1.0, 0.3, 1.0), rel=2e-3)  # midpoint rule as above, at 0.1 r_eff


def test_a_centred_source_behind_a_sphere_makes_a_ring_at_the_einstein_radius():
    """On the ring's inside and outside the source radius | r - theta_e | is the same, so the ring is symmetric in r."""
    camera = Camera(psf_fwhm_arcsec=0.02, pixel_arcsec=0.05, pixels=80, oversampling=3)
    ring = image({"lens_theta_e_arcsec": 1.2, "source_r_eff_arcsec": 0.2}, camera)
    axis = (np.arange(80) - 39.5) * 0.05
    r = np.hypot(axis, axis[:, None])
    # the profile is symmetric about theta_e and light is weighted by r: <r> = theta_e + <(r - theta_e)^2> / theta_e,
    # with variance 2 / b^2 r_eff^2 of a two-sided exponential, which ends at r = 0 (e^-10 of the peak)
    b = special.gammaincinv(2.0, 0.5)
    inside = r < 1.95
    expected = 1.2 + 2 * (0.2 / b) ** 2 / 1.2
    # the field's edge cuts the symmetric profile at 0.75 arcsec from theta_e, b 0.75 / 0.2 = 6.3 e-foldings
    found = (ring * r)[inside].sum() / ring[inside].sum()
    assert found == pytest.approx(expected, abs=np.exp(-6.3) * 0.75 + 0.001)


def test_turning_lens_shear_and_source_turns_the_image():
    theta = dict(lens_theta_e_arcsec=1.4, lens_e1=0.1, lens_e2=0.15, shear_gamma1=0.04, shear_gamma2=-0.03)
    theta |= {"source_r_eff_arcsec": 0.3, "source_x_arcsec": 0.1, "source_y_arcsec": -0.05}
    # a quarter turn counter-clockwise: spin-2 components change sign, (x, y) becomes (-y, x)
    spins = ("lens_e1", "lens_e2", "shear_gamma1", "shear_gamma2")
    turned = {name: -value if name in spins else value for name, value in theta.items()}
    turned |= {"source_x_arcsec": 0.05, "source_y_arcsec": 0.1}
    # rows grow upwards, so counter-clockwise on the sky is np.rot90 with axes (x, y) = (1, 0)
    expected = np.rot90(image(theta, Camera()), axes=(1, 0))
    np.testing.assert_allclose(image(turned, Camera()), expected, rtol=0, atol=1e-4)


def test_the_preset_resolves_its_sources():
    """What the setting `oversampling` promises: half of the noise in the worst pixel of the smallest source."""
    theta = PRIOR.sample(30, np.random.default_rng(1))
    theta[:, PRIOR.names.index("source_r_eff_arcsec")] = 0.1
    coarse, fine = (demo(Camera(oversampling=n)).simulate(theta, np.random.default_rng(0))["image"] for n in (2, 10))
    assert np.abs(coarse - fine).max() < 0.5 * Camera().noise_e_per_s


def test_gradients_are_those_of_finite_differences():
    simulator = demo(Camera(pixels=12, pixel_arcsec=0.3))
    theta = torch.from_numpy(PRIOR.sample(1, np.random.default_rng(4)))
    weight = torch.rand(12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda t: (simulator.images(t) * weight).sum(), theta.requires_grad_(), eps=1e-6, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("margin", [None, 1])
def test_the_point_spread_function_is_a_convolution(margin):
    """One bright pixel becomes the point spread function, not its mirror image; nothing wraps round."""
    optics = Optics(Grid(16, 16, 1.0), psf := np.random.default_rng(0).random((5, 5)), margin=margin)
    x, _ = optics.rays(torch.float64)
    brightness = torch.zeros(1, len(x), dtype=torch.float64)
    side = 16 + 2 * optics.margin
    brightness[0, (optics.margin + 6) * side + optics.margin + 9] = 1.0  # row 6, column 9 of the field
    brightness[0, (optics.margin - 1) * side + optics.margin + 3] = 1.0  # just below it, column 3
    expected = np.zeros((16, 16))
    expected[4:9, 7:12] += psf / psf.sum()
    expected[:2, 1:6] += (psf / psf.sum())[3:]
    np.testing.assert_allclose(optics.image(brightness)[0], expected, atol=1e-12)


def test_rows_are_independent_and_noise_has_the_stated_width():
    simulator = demo()
    theta = PRIOR.sample(40, np.random.default_rng(2))
    stored = simulator.simulate(theta, np.random.default_rng(0))["image"]
    alone = simulator.simulate(theta[17:18], np.random.default_rng(0))["image"]
    np.testing.assert_allclose(stored[17:18], alone, rtol=1e-5, atol=1e-5)
    clean = {"image": torch.from_numpy(stored)}
    first, second = (
        simulator.observe(clean, torch.from_numpy(theta), torch.Generator().manual_seed(seed))["image"]
        for seed in (0, 1)
    )
    noise = (first - clean["image"]) / simulator.noise.sd
    count = noise.numel()
    assert abs(float(noise.var()) - 1) < 5 * np.sqrt(2 / count)
    correlation = float((noise * (second - clean["image"])).mean()) / simulator.noise.sd
    assert abs(correlation) < 5 / np.sqrt(count)


def test_poisson_noise_grows_with_the_light():
    bright = torch.full((1, 400, 400), 8.0)
    noisy = Noise(0.5, exposure_s=4.0).add(bright, torch.Generator().manual_seed(1))
    # variance 0.5^2 + 8 / 4 = 2.25, known to sqrt(2 / N)
    assert float(noisy.var()) == pytest.approx(2.25, rel=5 * np.sqrt(2 / 400**2))
    assert float(noisy.mean()) == pytest.approx(8.0, abs=5 * 1.5 / 400)


def test_drizzled_noise_keeps_its_width_and_has_the_correlation_asked_for():
    noise = Noise(2.0, kernel=drizzle_kernel(0.3)).add(torch.zeros(1, 500, 500), torch.Generator().manual_seed(1))[0]
    assert float(noise.std()) == pytest.approx(2.0, rel=0.01)
    for a, b in ((noise[1:], noise[:-1]), (noise[:, 1:], noise[:, :-1])):
        assert float((a * b).mean() / noise.var()) == pytest.approx(0.3, abs=0.01)  # five times 1 / 500


@pytest.mark.parametrize("correlation", [0.0, 0.3])
def test_the_reduction_keeps_a_narrow_regions_information(correlation):
    """Fisher information of the coefficients against that of all pixels, with the noise's full covariance."""
    camera = Camera(pixels=20, pixel_arcsec=0.25)
    kernel = drizzle_kernel(correlation) if correlation else None
    mask = np.hypot(*np.meshgrid(*[np.linspace(-1, 1, 20)] * 2)) > 0.2
    scene, noise = SCENE, Noise(0.3, kernel=kernel)
    simulator = LensSimulator(scene, PRIOR, camera.optics, noise, mask=mask, components=40)
    rng = np.random.default_rng(0)
    centre, width = PRIOR.sample(1, rng), 0.02 * np.diff([d.support for d in PRIOR.values()]).T
    theta = centre + width * rng.uniform(-1, 1, (600, len(PRIOR)))
    stored = {"image": torch.from_numpy(simulator.simulate(theta, rng)["image"])}
    reduced = simulator.reduced(simulator.fit_reduction(stored, torch.from_numpy(theta)))
    at = torch.from_numpy(centre)
    jacobian = torch.autograd.functional.jacobian(lambda t: simulator.whitened(simulator.images(t))[0], at)[:, 0]
    pixels = torch.eye(400, dtype=torch.float64)[mask.flatten()].view(-1, 20, 20)
    covariance = (spread := noise.correlated(pixels).flatten(1)) @ spread.T
    exact = jacobian.T @ torch.linalg.solve(covariance, jacobian)
    basis, factor = (reduced.reduction[name].double() for name in ("basis", "factor"))
    used = basis.square().sum(1) > 0.5
    seen = (basis @ jacobian)[used]
    inner = (factor @ factor.T)[used][:, used]
    # white noise: the basis is tangent to the region's images, whose curvature takes at most one of their squared
    # signal-to-noise ratio, in the mean, from it.  Correlated noise is whitened pixel by pixel only, which costs a
    # little of what its correlation would tell
    share = torch.linalg.eigvals(torch.linalg.solve(exact, seen.T @ torch.linalg.solve(inner, seen))).real
    assert share.max() < 1 + 1e-4 and share.min() > (0.9 if correlation else 0.98)
    # the estimate has the error of the linear Gaussian posterior with the region's variance, w^2 / 3, as its prior
    x = reduced.observe(stored, torch.from_numpy(theta), torch.Generator().manual_seed(0))
    u = torch.from_numpy(PRIOR.to_cube(theta))
    target = (u - u.mean(0)) / u.std(0)
    slope = (x["estimate"].double() * target).mean(0)
    scale = torch.from_numpy(width[0] / np.sqrt(3))
    posterior = torch.linalg.inv(seen.T @ torch.linalg.solve(inner, seen) + torch.diag(scale**-2)).diagonal()
    error = (x["estimate"].double() - target).square().mean(0)
    # variances of 600 are known to 6%, and the fit has 40 coefficients for them
    np.testing.assert_allclose(error, posterior / scale**2, rtol=0.35, atol=0.01)
    np.testing.assert_allclose(1 - slope, error, atol=0.1)


def test_coefficients_have_the_noise_of_projected_images():
    simulator = LensSimulator(SCENE, PRIOR, Camera().optics, Noise(0.3, kernel=drizzle_kernel(0.3)), components=16)
    narrow = Prior({name: Uniform(m := float(d.quantile(0.5)), m + 1e-3) for name, d in PRIOR.items()})
    theta = torch.from_numpy(narrow.sample(400, np.random.default_rng(0)))
    stored = {"image": simulator.images(theta.float())}
    wide = {"image": simulator.images(torch.from_numpy(PRIOR.sample(400, np.random.default_rng(0))).float())}
    assert simulator.fit_reduction(wide, theta) == {}
    reduced = simulator.reduced(simulator.fit_reduction(stored, theta))
    one = {"image": stored["image"][:1].expand(4000, -1, -1)}
    generator = torch.Generator().manual_seed(0)
    drawn = reduced.observe(one, theta, generator)["estimate"]
    projected = reduced.reduce(simulator.observe(one, theta, generator))["estimate"]
    first, second = (torch.cov(v.T) for v in (drawn, projected))
    # entries of a covariance are known to 1 / sqrt(4000) of its diagonal each, means to sd / sqrt(4000)
    scale = float(second.diagonal().max())
    assert (first - second).abs().max() < 6 * np.sqrt(2 / 4000) * scale
    np.testing.assert_allclose(drawn.mean(0), projected.mean(0), atol=6 * np.sqrt(2 * scale / 4000))


def test_a_source_of_pixels_is_the_profile_it_was_made_of():
    """A Gaussian (Sersic, n = 0.5) of 0.3 arcsec on pixels of 0.02: bilinear interpolation is off by h^2 / 8 of its
    second derivative, 2 ln 2 / r_eff^2 at most."""
    half, n = 1.5, 151
    axis = torch.linspace(-half, half, n, dtype=torch.float64)
    round_one = {"e1": 0.0, "e2": 0.0, "n": 0.5, "r_eff_arcsec": 0.3}
    values = {k: torch.tensor([[v]], dtype=torch.float64) for k, v in round_one.items()}
    at = {"x_arcsec": torch.zeros(1, 1).double(), "y_arcsec": torch.zeros(1, 1).double()}
    light = Sersic().brightness(axis.repeat(n), axis.repeat_interleave(n), {**values, **at, "brightness": 1.0})
    lens = {"theta_e_arcsec": 1.2, "e1": 0.1, "e2": 0.05, "slope": 2.0, "x_arcsec": 0.0, "y_arcsec": 0.0}
    where = {"source_x_arcsec": 0.1, "source_y_arcsec": -0.2, "source_brightness": 50.0}
    fixed = {f"lens_{k}": v for k, v in lens.items()} | where
    x, y = Camera().optics.rays(torch.float64)
    images = []
    for source, more in ((Sersic(), round_one), (Pixels(light.view(n, n).numpy()), {"size_arcsec": 2 * half})):
        scene = Scene((EPL(),), (source,), fixed=fixed | {f"source_{k}": v for k, v in more.items()})
        scene.check([])
        images.append(scene.brightness(x, y, scene.values(torch.zeros(2, 0, dtype=torch.float64), []))[0])
    peak = float(images[0].max())
    bound = (2 * half / (n - 1)) ** 2 / 8 * 2 * (2 * np.log(2) / 0.3**2)  # along both axes
    assert (images[1] - images[0]).abs().max() < 1.1 * bound * peak
    assert peak > 50 and bound < 2e-3


def test_a_redrawn_brightness_multiplies_what_is_stored():
    camera, prior = Camera(pixels=12, pixel_arcsec=0.4), mock.PRIOR
    plain, redrawing = (
        LensSimulator(mock.SCENE, prior, camera.optics, camera.noise, redraw_brightness=redraw)
        for redraw in (False, True)
    )
    theta = prior.sample(5, np.random.default_rng(0))
    stored = {
        name: torch.from_numpy(array) for name, array in redrawing.simulate(theta, np.random.default_rng(0)).items()
    }
    expected = torch.from_numpy(plain.simulate(theta, np.random.default_rng(0))["image"])
    torch.testing.assert_close(redrawing.bright(stored, torch.from_numpy(theta)), expected, rtol=1e-5, atol=1e-5)
    noisy = [
        simulator.observe(images, torch.from_numpy(theta), torch.Generator().manual_seed(0))["image"]
        for simulator, images in ((plain, {"image": expected}), (redrawing, stored))
    ]
    torch.testing.assert_close(*noisy, rtol=1e-5, atol=1e-5)
    # the flux follows from the brightness, so it is not known before that is drawn
    assert "source_log10_flux" in redrawing.derived
    assert "source_log10_flux" not in redrawing.derive(torch.from_numpy(theta))
    assert "source_log10_flux" in plain.derive(torch.from_numpy(theta))
    # a source that is no Sersic profile has an offset and no such flux
    fixed = dict.fromkeys(("lens_e1", "lens_e2", "lens_x_arcsec", "lens_y_arcsec"), 0.0) | {"lens_slope": 2.0}
    scene = Scene((EPL(),), (Pixels(np.ones((4, 4))),), fixed={**fixed, "source_size_arcsec": 1.0})
    free = Prior(
        {n: prior[n] for n in ("lens_theta_e_arcsec", "source_x_arcsec", "source_y_arcsec", "source_brightness")}
    )
    derived = LensSimulator(scene, free, camera.optics, camera.noise).derived
    assert "offset_x_arcsec" in derived and "source_log10_flux" not in derived
    with pytest.raises(ValueError, match="redraw_brightness needs one source"):
        LensSimulator(SCENE, PRIOR, camera.optics, camera.noise, redraw_brightness=True)


def test_blocks_are_sums_of_their_pixels_in_units_of_the_sum_s_noise():
    mask = np.hypot(*np.mgrid[-6:7, -6:7]) < 6
    sd = np.random.default_rng(0).uniform(0.1, 0.3, (13, 13))
    camera = Camera(pixels=13, pixel_arcsec=0.4)
    simulator = LensSimulator(SCENE, PRIOR, camera.optics, Noise(sd), mask=mask, block=4)
    image = torch.randn(3, 13, 13, generator=torch.Generator().manual_seed(1)) * torch.from_numpy(mask)
    expected = []
    for row in range(0, 13, 4):
        for column in range(0, 13, 4):
            part = (slice(row, row + 4), slice(column, column + 4))
            if mask[part].sum() >= 8:
                expected.append((image.numpy() / sd)[:, *part].sum((1, 2)) / np.sqrt(mask[part].sum()))
    np.testing.assert_allclose(simulator.data(image)["blocks"], np.array(expected).T, rtol=1e-4, atol=1e-4)


def test_random_field_has_unit_variance_and_its_slope():
    white = torch.randn(300, 64, 64, generator=torch.Generator().manual_seed(2))
    fields = random_field(64, torch.full((300,), 3.0), white)
    # every field's own variance scatters by half, most of it in few modes
    assert float(fields.var()) == pytest.approx(1.0, abs=5 * 0.5 / np.sqrt(300))
    power = torch.fft.rfft2(fields).abs().square().mean(0)
    assert float(torch.log(power[4, 0] / power[16, 0])) == pytest.approx(3 * np.log(4), abs=5 * np.sqrt(2 / 300))


def test_scenes_that_do_not_fit_together_are_refused():
    camera = Camera()
    prior = Prior(lens_theta_e_arcsec=Uniform(1, 2))
    with pytest.raises(ValueError, match="lacks values of .*'lens_slope'"):
        LensSimulator(Scene((EPL(),), (), fixed={"lens_e1": 0.0}), prior, camera.optics, camera.noise)
    with pytest.raises(ValueError, match="name of its own"):
        Scene((EPL(), EPL()), ()).check(EPL().parameters)
    with pytest.raises(ValueError, match="components = 0"):
        LensSimulator(SCENE, PRIOR, camera.optics, Noise(1.0, exposure_s=100.0))
    with pytest.raises(ValueError, match="odd width"):
        Optics(Grid(8, 8, 0.1), np.ones((4, 4)))
