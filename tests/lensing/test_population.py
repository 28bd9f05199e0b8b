"""Populations of perturbers: mass functions, draws, rays through several planes, and what the network is shown."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from astropy.cosmology import FlatLambdaCDM, LambdaCDM, Planck18
from scipy import integrate

from tmnre import LogUniform, Prior, Uniform
from tmnre_lensing import census, massfunction
from tmnre_lensing.camera import Camera
from tmnre_lensing.cosmology import Planes, beta, between
from tmnre_lensing.perturbed import POPULATION, MapBins, PerturbedLens
from tmnre_lensing.population import Drawn, Population
from tmnre_lensing.recipes import mock
from tmnre_lensing.scene import EPL, Halo, Scene, Sersic
from tmnre_lensing.simulator import LensSimulator, theta_of

WHERE = (0.285, 0.575)
CAMERA = Camera(pixels=16, pixel_arcsec=0.3, oversampling=1)
PRIOR = Prior(**mock.PRIOR, log10_m_hm=Uniform(7, 10), f_sub=LogUniform(1e-3, 3e-2))
TRUTH = {name: getattr(mock.Truth(), name) for name in mock.PRIOR.names}


def lens(**population) -> PerturbedLens:
    how = {"population": Population(*WHERE, **population), "maps": MapBins(masses=2)}
    return PerturbedLens(mock.SCENE, PRIOR, CAMERA.optics, CAMERA.noise, **how)


def test_the_mass_function_counts_all_matter_and_grows_as_matter_does():
    einstein_de_sitter = massfunction.MassFunction(FlatLambdaCDM(70, 1.0, Ob0=0.05))
    assert einstein_de_sitter.growth(3.0) == pytest.approx(1 / 4, rel=1e-3)  # D = a
    function = massfunction.MassFunction()

    def fit(z: float) -> float:  # of Carroll, Press & Turner (1992, eq. 29), good to a few thousandths
        m, v = function.cosmology.Om(z), function.cosmology.Ode(z)
        return 2.5 * m / (m ** (4 / 7) - v + (1 + m / 2) * (1 + v / 70)) / (1 + z)

    assert function.growth(1.0) == pytest.approx(fit(1.0) / fit(0.0), rel=5e-3)
    mass_8 = 4 / 3 * np.pi * (8 / function.cosmology.h) ** 3 * function.rho_m_msun_mpc3
    assert function.sigma(np.log10([mass_8]))[0] == pytest.approx(0.8102, rel=1e-6)
    # the share of matter in haloes of 1e8 to 1e16 Msun is that of peaks between their heights, and all peaks are all
    log10_m = np.linspace(8, 16, 801)
    here = function.density(log10_m, 0.0)
    share = np.trapezoid(here * 10**log10_m, log10_m * np.log(10)) / function.rho_m_msun_mpc3

    def peaks(low: float, high: float) -> float:
        def f(ln_nu: float) -> float:
            square = 0.707 * np.exp(2 * ln_nu)
            return 0.3222 * np.sqrt(2 / np.pi * square) * (1 + square**-0.3) * np.exp(-square / 2)

        return integrate.quad(f, low, high)[0]

    ends = np.log(massfunction.COLLAPSE / function.sigma(log10_m))
    assert share == pytest.approx(peaks(ends[0], ends[-1]), rel=2e-3)
    assert peaks(-60, 3) == pytest.approx(1, abs=1e-3)
    # the logarithmic slope at small masses is that of subhaloes
    slope = np.gradient(np.log(here), log10_m * np.log(10))[3:200]  # 1e8 to 1e10
    assert np.abs(slope + massfunction.SLOPE).max() < 0.02
    # long waves are not suppressed
    assert function.transfer(np.array([1e-6]))[0] == pytest.approx(1, abs=1e-3)


def test_warm_dark_matter_leaves_heavy_haloes_and_thins_light_ones():
    share = massfunction.warm_share([6, 8, 12], 8.0, massfunction.SUBHALOES)
    assert share[:2] == pytest.approx([420**-0.5, (1 + 4.2**2.5) ** -0.2], rel=1e-5) and share[2] > 0.999
    assert massfunction.thermal_relic_kev(np.log10(5e8)) == pytest.approx(3.0)
    cold, warm = massfunction.concentration(8.0, 0.3), massfunction.concentration(8.0, 0.3, 8.0)
    assert warm / cold == pytest.approx(61**-0.17 * 1.3 ** (0.026 * 0.3 - 0.04))


def test_draws_have_the_mean_density_asked_for_and_the_warm_mass_function():
    population = Population(*WHERE, line_of_sight=1.0)
    n, side, f_sub = 4000, 5.0, 0.01
    extent = (-side / 2, side / 2, -side / 2, side / 2)
    cold = population.draw(np.full(n, 0.0), np.full(n, f_sub), extent, np.random.default_rng(0))
    mine = cold.plane == population.lens_plane
    surface = (10 ** cold.log10_m200[mine]).sum() / (n * side**2)
    critical = Planes.at(*WHERE).sigma_crit_msun_arcsec2
    masses = 10 ** cold.log10_m200[mine]
    error = np.sqrt((masses**2).sum()) / masses.sum()  # of a compound Poisson sum
    assert surface / (0.5 * critical) == pytest.approx(f_sub, rel=4 * error) and error < 0.02
    number = np.bincount(cold.plane, minlength=17) / n
    expected = population._field[1] * side**2
    others = np.arange(17) != population.lens_plane
    assert np.all(np.abs(number - expected)[others] < 4 * np.sqrt(expected[others] / n) + 1e-3)
    assert np.abs(cold.x_arcsec).max() < side / 2 and cold.image.max() == n - 1
    # in warm dark matter every mass is rarer by its share
    warm = population.draw(np.full(n, 9.0), np.full(n, f_sub), extent, np.random.default_rng(1))
    edges = np.linspace(8, 10.3, 6)
    for plane, of in ((population.lens_plane, massfunction.SUBHALOES), (12, massfunction.FIELD)):
        here = [d.log10_m200[d.plane == plane] for d in (cold, warm)]
        thinned = np.histogram(here[0], edges, weights=massfunction.warm_share(here[0], 9.0, of))[0]
        found = np.histogram(here[1], edges)[0]
        assert np.all(np.abs(found - thinned) < 4.5 * np.sqrt(found + thinned + 1))


@pytest.mark.parametrize("plane", [3, 8, 13])
def test_rays_through_a_halo_on_any_plane_are_those_of_lenstronomy(plane):
    """One halo in front of the lens, in its plane, or behind it, against lenstronomy's own multi-plane ray tracing."""
    lenstronomy = pytest.importorskip("lenstronomy.LensModel.lens_model")
    population = Population(*WHERE, planes=8)
    z = population.redshifts[plane]
    drawn = Drawn(*(np.array([v]) for v in (0, 0.9, -0.7, 9.8, 11.0, plane)))
    perturbers = population.perturbers(drawn, torch.float64)
    scene = Scene((EPL(),), (Sersic(),))
    rng = np.random.default_rng(0)
    x, y = torch.from_numpy(rng.uniform(-2, 2, (2, 200)))
    at = {"x_arcsec": 0.03, "y_arcsec": -0.05, "theta_e_arcsec": 1.4, "e1": 0.08, "e2": -0.12, "slope": 2.0}
    values = {f"lens_{name}": torch.tensor([[value]], dtype=torch.float64) for name, value in at.items()}
    beta_x, beta_y = perturbers.bend(x, y, lambda *at: scene.deflection(*at, values))
    model = lenstronomy.LensModel(
        lens_model_list=["EPL", "TNFW"],
        lens_redshift_list=[WHERE[0], z],
        z_source=WHERE[1],
        multi_plane=True,
        cosmo=Planck18,
    )
    r_s, alpha_s = float(perturbers.r_s), float(perturbers.alpha_s)
    # angles from +y: ellipticities have the opposite sign; alpha_Rs is an NFW's deflection at r_s, alpha_s (1 - ln 2)
    epl = {"theta_E": 1.4, "gamma": 2.0, "e1": -0.08, "e2": 0.12, "center_x": 0.03, "center_y": -0.05}
    nfw = {"Rs": r_s, "alpha_Rs": alpha_s * (1 + np.log(0.5)), "r_trunc": population.tau * r_s}
    expected = model.ray_shooting(x.numpy(), y.numpy(), [epl, {**nfw, "center_x": 0.9, "center_y": -0.7}])
    np.testing.assert_allclose(np.stack([beta_x[0], beta_y[0]]), expected, rtol=0, atol=2e-6)
    # and the halo matters: by far more than the agreement
    bare = scene.source_plane(x, y, values)
    assert np.abs(bare[0] - beta_x).max() > 1e-3


def test_distances_between_planes_in_any_geometry():
    for cosmology in (Planck18, LambdaCDM(70, 0.3, 0.5), LambdaCDM(70, 0.3, 0.9)):
        got = between(0.3, 1.2, cosmology).value
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # astropy 8 has another name for it
            assert got == pytest.approx(cosmology.angular_diameter_distance_z1z2(0.3, 1.2).value, rel=1e-9)
    assert beta(0.1, 0.575, 0.575) == pytest.approx(1) and beta(0.3, 0.3, 0.575) == 0


def test_without_perturbers_images_are_those_of_the_lens_alone():
    simulator = lens(line_of_sight=0.0)
    theta = np.repeat(theta_of({**TRUTH, "log10_m_hm": 8.0, "f_sub": 1e-9}, PRIOR.names), 3, axis=0)
    plain = LensSimulator(mock.SCENE, mock.PRIOR, CAMERA.optics, CAMERA.noise)
    expected = plain.simulate(theta[:, :14], np.random.default_rng(0))["image"]
    np.testing.assert_allclose(simulator.simulate(theta, np.random.default_rng(0))["image"], expected, atol=1e-6)
    theta[:, -1] = 0.03
    assert np.abs(simulator.simulate(theta, np.random.default_rng(0))["image"] - expected).max() > CAMERA.noise_e_per_s


def test_a_drawn_halo_and_the_halo_of_a_scene_are_the_same():
    population = Population(*WHERE)
    drawn = Drawn(*(np.array([v]) for v in (0, 0.9, -0.7, 9.8, 15.0, population.lens_plane)))
    x, y = torch.linspace(-2, 2, 50, dtype=torch.float64), torch.linspace(1, -2, 50, dtype=torch.float64)
    got = population.perturbers(drawn, torch.float64).bend(x, y, lambda a, b: (0 * a[None], 0 * b[None]))
    at = {"x_arcsec": 0.9, "y_arcsec": -0.7, "log10_m200": 9.8}
    values = {k: torch.tensor([[v]], dtype=torch.float64) for k, v in at.items()}
    alpha = Halo(Planes.at(*WHERE), 15.0, population.tau).deflection(x, y, values)
    torch.testing.assert_close(got[0], x - alpha[0])
    torch.testing.assert_close(got[1], y - alpha[1])


def test_maps_marginalise_the_lens_and_show_haloes():
    simulator = lens()
    rng = np.random.default_rng(3)
    names = mock.PRIOR.names
    theta = np.repeat(theta_of({**TRUTH, "log10_m_hm": 8.0, "f_sub": 0.01}, PRIOR.names), 600, axis=0)
    width = 3e-3 * np.diff([PRIOR[name].support for name in names])[:, 0]
    theta[:, :14] += width * rng.uniform(-1, 1, (600, 14))
    theta[:, 14:] = PRIOR.from_cube(rng.random((600, 16)))[:, 14:]
    stored = {k: torch.from_numpy(v) for k, v in simulator.simulate(theta, rng).items()}
    at = torch.from_numpy(theta)
    reduction = simulator.fit_reduction(stored, at)
    assert reduction["filters"].shape == (2 * 8 * 8, 256)
    seen = simulator.reduced(reduction)
    x = seen.observe({k: v[:50] for k, v in stored.items()}, at[:50], torch.Generator().manual_seed(0))
    assert x["maps"].shape == (50, 3, 8, 8) and x["estimate"].shape == (50, 16)
    # of plain lenses without noise the region's variety is v / (1 + v) of each filter's variance at most, so below one;
    # without marginalisation the same filters see far more of it
    plain = {"image": simulator.images(at[:400].float())}
    scores = seen.reduce(plain)["maps"][:, 1:].flatten(1)
    assert scores.square().mean(0).max() < 1 + 4 * np.sqrt(2 / 400)
    signals = simulator._signals(at)
    raw = (simulator.whitened(plain["image"]).float() - reduction["mean"]) @ signals.T / (1 + signals.norm(dim=1))
    assert raw.square().mean(0).max() > 20
    # a heavy subhalo stands out where it is
    halo = np.array([[-0.9, 0.9, 10.2]])
    k = int(simulator.bins.number(halo)[0]) - 1
    shown = seen.reduce({"image": plain["image"][:1] + simulator.noise.sd * signals[k].view(1, 16, 16)})["maps"]
    snr = float(torch.sqrt(reduction["squared_snr"][k]))
    assert snr > 5
    torch.testing.assert_close(shown[0, 1:].flatten()[k].item(), snr, rtol=0.05, atol=0.5)


def test_log_ratios_of_lenses_add_up():
    points = np.random.default_rng(0).random((4000, 2))
    log_r = -0.5 * ((points - 0.5) / 0.2) ** 2
    both = census.posteriors(POPULATION, points, 2 * log_r.sum(1))
    # two equal Gaussians make one narrower by the root of two
    assert both["log10_m_hm",].sd == pytest.approx(0.2 / np.sqrt(2), rel=0.05)
    assert census.relic_limit(both["log10_m_hm",]) == pytest.approx(
        massfunction.thermal_relic_kev(both["log10_m_hm",].interval(0.9)[0, 1])
    )


def test_what_cannot_be_a_population_is_refused():
    with pytest.raises(ValueError, match="a range of masses"):
        Population(*WHERE, log10_m200=(10.0, 9.0))
    with pytest.raises(ValueError, match="0 < z_lens < z_source"):
        Population(0.6, 0.5)
    with pytest.raises(ValueError, match="maps.map_pixels must divide"):
        PerturbedLens(
            *(mock.SCENE, PRIOR, CAMERA.optics, CAMERA.noise), population=Population(*WHERE), maps=MapBins(map_pixels=3)
        )
