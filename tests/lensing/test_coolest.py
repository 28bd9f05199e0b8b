"""COOLEST files: what the format asks for, and the lens they describe against the simulator's own.

Formulas are those of COOLEST's documentation (https://coolest.readthedocs.io, "Conventions" and "Supported profiles"),
and the structure is what its package 0.1.11 writes and reads; where the package is installed it reads the files too.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import hyp2f1

from tmnre import LogUniform, MarginalPosterior, Prior, Result, Uniform
from tmnre_lensing import coolest, light
from tmnre_lensing.cosmology import Planes
from tmnre_lensing.noise import Noise
from tmnre_lensing.optics import Grid, Optics
from tmnre_lensing.recipes import mock
from tmnre_lensing.scene import EPL, Halo, Multipole, Scene, Shear
from tmnre_lensing.simulator import LensSimulator
from tmnre_lensing.subhalo import verdict
from tmnre_lensing.subhalo.bins import Bins

X, Y = np.random.default_rng(5).uniform(-2.5, 2.5, (2, 400))
TOLERANCE_ARCSEC = 1e-6
PLANES = Planes.at(0.881, 2.059)
SUBHALO = ("subhalo_x_arcsec", "subhalo_y_arcsec", "subhalo_log10_m200")
TRUTH = {
    **{"lens_x_arcsec": 0.05, "lens_y_arcsec": -0.03, "lens_theta_e_arcsec": 1.3, "lens_e1": 0.1, "lens_e2": -0.18},
    **{"lens_slope": 2.1, "shear_gamma1": -0.03, "shear_gamma2": 0.02},
    **{"source_x_arcsec": 0.05, "source_y_arcsec": 0.08, "source_e1": -0.1, "source_e2": 0.05, "source_n": 2.5},
    **{"source_r_eff_arcsec": 0.3, "source_brightness": 40.0},
    **{"subhalo_x_arcsec": 0.8, "subhalo_y_arcsec": 1.0, "subhalo_log10_m200": 9.5},
}
PRIOR = Prior(
    **{name: Uniform(v - 1, v + 1) for name, v in TRUTH.items()} | {"source_r_eff_arcsec": LogUniform(0.1, 1)}
)


MASSES = (EPL(), Shear(), Halo(PLANES))


def simulator_of(masses=MASSES, prior=PRIOR, **changes) -> LensSimulator:
    line = np.exp(-0.5 * (np.arange(-4, 5) / 1.3) ** 2)
    psf = np.outer(line, line * (1 + 0.2 * np.arange(-1, 1.01, 0.25)))  # not symmetric, so that a flip would show
    optics = Optics(Grid(40, 40, 0.1, 2), psf)
    return LensSimulator(Scene(masses), prior, optics, Noise(0.3), **changes)


def posterior_of(names, spread=1e-3, n=4001) -> Result:
    """A joint posterior about the truth whose medians are the truth, and its one-dimensional marginals."""
    draws = np.array([TRUTH[name] for name in names]) + spread * np.random.default_rng(1).standard_normal(
        (n, len(names))
    )
    draws += [TRUTH[name] for name in names] - np.median(draws, axis=0)
    flat = np.zeros(n)
    marginals = {(name,): MarginalPosterior((name,), draws[:, [i]], flat) for i, name in enumerate(names)}
    return Result(marginals | {tuple(names): MarginalPosterior(tuple(names), draws, flat)})


@pytest.fixture
def written(tmp_path):
    simulator = simulator_of()
    result = posterior_of(PRIOR.names)
    image = simulator.mock(TRUTH, 0)
    coolest.write(tmp_path, result, simulator=simulator, image=image, redshifts=(0.881, 2.059))
    return simulator, result, tmp_path


def read(folder) -> dict:
    return json.loads((folder / "coolest.json").read_text())


def values(entity: dict, model: str) -> dict[str, float]:
    (profile,) = entity[f"{model}_model"]
    return {name: p["point_estimate"]["value"] for name, p in profile["parameters"].items()}


def turned(x, y, phi_deg):
    """Coordinates along and across an axis at an angle counter-clockwise from +y."""
    along = -np.sin(np.deg2rad(phi_deg)), np.cos(np.deg2rad(phi_deg))
    return x * along[0] + y * along[1], y * along[0] - x * along[1], along


def power_law(p):
    """Tessore & Metcalf (2015), eq. 13, of the convergence (3 - gamma) / 2 (theta_E / sqrt(q x^2 + y^2 / q))^..."""
    u, v, (a, b) = turned(X - p["center_x"], Y - p["center_y"], p["phi"])
    z, t, q = p["q"] * u + 1j * v, p["gamma"] - 1, p["q"]
    series = z * hyp2f1(1, t / 2, 2 - t / 2, -(1 - q) / (1 + q) * z / z.conj())
    alpha = 2 / (1 + q) * (p["theta_E"] * np.sqrt(q) / abs(z)) ** t * series
    # v is measured along (-b, a), a quarter turn from the axis
    return alpha.real * a - alpha.imag * b, alpha.real * b + alpha.imag * a


def shear(p):
    """Gradient of r^2 / 2 gamma cos 2 (phi - phi_ext), that is of gamma / 2 (u^2 - v^2) along and across phi_ext."""
    u, v, (a, b) = turned(X, Y, p["phi_ext"])
    return p["gamma_ext"] * (u * a + v * b), p["gamma_ext"] * (u * b - v * a)


def nfw(p):
    """Deflection 4 rho_c r_s^2 / Sigma_crit m(u) / u of a sphere (Golse & Kneib 2002; Bartelmann 1996)."""
    x, y = X - p["center_x"], Y - p["center_y"]
    u = np.hypot(x, y) / p["r_s"]
    w = np.sqrt(abs(u**2 - 1))
    m = np.log(u / 2) + np.where(u < 1, np.arctanh(np.minimum(w, 1 - 1e-16)) / w, np.arctan(w) / w)
    alpha = 4 * p["rho_c"] * p["r_s"] ** 2 / PLANES.sigma_crit_msun_arcsec2 * m / u
    return alpha * x / np.hypot(x, y), alpha * y / np.hypot(x, y)


def test_deflections_of_what_is_written_are_the_simulators(written):
    simulator, _, folder = written
    lens, field, halo, _ = read(folder)["lensing_entities"]
    expected = sum(np.array(f) for f in (power_law(values(lens, "mass")), shear(values(field, "mass"))))
    expected += nfw(values(halo, "mass"))
    x, y = torch.from_numpy(X), torch.from_numpy(Y)
    theta = torch.tensor([[TRUTH[name] for name in PRIOR.names]], dtype=torch.float64)
    beta = simulator.scene.source_plane(x, y, simulator.scene.values(theta, PRIOR.names))
    found = np.stack([X - beta[0][0].numpy(), Y - beta[1][0].numpy()])
    np.testing.assert_allclose(expected, found, rtol=0, atol=TOLERANCE_ARCSEC)


def test_the_source_that_is_written_is_the_simulators(written):
    simulator, _, folder = written
    p = values(read(folder)["lensing_entities"][-1], "light")
    u, v, _ = turned(X - p["center_x"], Y - p["center_y"], p["phi"])
    radius = np.sqrt(p["q"] * u**2 + v**2 / p["q"])
    b = 1.9992 * p["n"] - 0.3271
    expected = p["I_eff"] * np.exp(-b * ((radius / p["theta_eff"]) ** (1 / p["n"]) - 1))
    source = simulator.scene.sources[0]
    mine = {name: torch.tensor([[TRUTH[f"source_{name}"]]], dtype=torch.float64) for name in source.parameters}
    found = source.brightness(torch.from_numpy(X), torch.from_numpy(Y), mine)[0].numpy()
    # the simulator's cusp is cut at 1e-4 r_eff: 1e-8 (r_eff / R)^2 / n b (R / r_eff)^(1 / n) / 2 at the points here
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("phi", [0.0, 45.0, -45.0, 80.0])
def test_angles_are_counter_clockwise_from_north(phi):
    """Light of a source is brightest along the axis that is written: up at 0, the upper left at 45 degrees."""
    e = torch.tensor([[0.2 * np.cos(np.deg2rad(2 * phi)), 0.2 * np.sin(np.deg2rad(2 * phi))]], dtype=torch.float64)
    round_about = np.deg2rad(np.arange(-89, 91))
    x, y = torch.from_numpy(-np.sin(round_about)), torch.from_numpy(np.cos(round_about))
    one = torch.ones(1, 1, dtype=torch.float64)
    brightness = light.sersic(x, y, one, one, one, e[:, :1], e[:, 1:])[0].numpy()
    _, table = coolest._profile(EPL())
    found = float(table["phi"][1](e[:, 0], e[:, 1]))
    assert found == pytest.approx(phi, abs=1e-9) and np.rad2deg(round_about)[brightness.argmax()] == pytest.approx(phi)


PARAMETERS = {  # of coolest.template.classes.profiles
    "PEMD": {"gamma", "theta_E", "q", "phi", "center_x", "center_y"},
    "ExternalShear": {"gamma_ext", "phi_ext"},
    "NFW": {"r_s", "rho_c", "q", "phi", "center_x", "center_y"},
    "Sersic": {"I_eff", "theta_eff", "n", "q", "phi", "center_x", "center_y"},
}


def test_structure_is_that_of_the_format(written):
    _, _, folder = written
    content = read(folder)
    assert content["standard"] == "COOLEST" and content["mode"] == "MAP"
    assert set(content) == {
        *("standard", "mode", "coordinates_origin", "lensing_entities", "observation", "instrument", "cosmology"),
        "meta",
    }
    assert set(content["observation"]) == {"pixels", "noise", "exposure_time", "mag_zero_point", "mag_sky_brightness"}
    assert set(content["instrument"]) == {"name", "band", "pixel_size", "readout_noise", "psf"}
    assert set(content["cosmology"]) == {"H0", "Om0", "astropy_name"}
    ids = []
    for i, entity in enumerate(content["lensing_entities"]):
        galaxy = entity["type"] == "Galaxy"
        assert set(entity) == {"type", "name", "redshift", "mass_model"} | ({"light_model"} if galaxy else set())
        for model in ("mass_model", "light_model"):
            for j, profile in enumerate(entity.get(model, [])):
                kind = "galaxy" if galaxy else "massfield"
                assert profile["id"] == f"{i}-{kind}-{model[: model.index('_')]}-{j}-{profile['type']}"
                assert set(profile["parameters"]) == PARAMETERS[profile["type"]]
                for name, parameter in profile["parameters"].items():
                    assert set(parameter) == {"id", "fixed", "point_estimate", "posterior_stats", "prior"}
                    assert parameter["id"] == f"{profile['id']}-{name}"
                    assert np.isfinite(parameter["point_estimate"]["value"])
                    ids.append(parameter["id"])
    assert len(set(ids)) == len(ids) == 6 + 2 + 6 + 7
    kinds = [(e["name"], e["type"], e["redshift"]) for e in content["lensing_entities"]]
    assert kinds == [
        ("lens", "Galaxy", 0.881),
        ("shear", "MassField", 0.881),
        ("subhalo", "Galaxy", 0.881),
        ("source", "Galaxy", 2.059),
    ]


def test_statistics_are_those_of_the_marginals(written):
    _, result, folder = written
    lens, field, *_ = read(folder)["lensing_entities"]
    p = lens["mass_model"][0]["parameters"]
    summary = result["lens_theta_e_arcsec"].summary()
    stats = p["theta_E"]["posterior_stats"]
    assert p["theta_E"]["point_estimate"]["value"] == stats["median"] == summary["median"]
    assert stats["mean"] == summary["mean"]
    assert [stats["percentile_16th"], stats["percentile_84th"]] == pytest.approx(summary["interval_68"], rel=1e-12)
    assert p["theta_E"]["prior"]["type"] == "UniformPrior" and p["q"]["prior"] == {"type": None}
    # to first order in a spread of 1e-3 of both components: sd of |e| is 1e-3, q = (1 - |e|) / (1 + |e|)
    e = np.hypot(TRUTH["lens_e1"], TRUTH["lens_e2"])
    stats = p["q"]["posterior_stats"]
    width = (stats["percentile_84th"] - stats["percentile_16th"]) / 2
    error = 5 / np.sqrt(2 * 4001) * 1.3  # of a standard deviation from these two quantiles of 4001 draws
    assert width == pytest.approx(0.9945 * 2e-3 / (1 + e) ** 2, rel=error)
    stats = field["mass_model"][0]["parameters"]["phi_ext"]["posterior_stats"]
    width = (stats["percentile_84th"] - stats["percentile_16th"]) / 2
    assert width == pytest.approx(np.rad2deg(0.5e-3 / np.hypot(0.03, 0.02)), rel=error + 1e-3)


def test_an_angle_at_the_seam_has_statistics_about_its_point_estimate(tmp_path):
    """Draws on both sides of 90 degrees: neither median nor percentiles are torn apart."""
    names = [*PRIOR.names]
    result = posterior_of(names)
    key = tuple(names)
    draws = result[key].samples.copy()
    draws[:, names.index("shear_gamma1")] = -0.05
    draws[:, names.index("shear_gamma2")] = 1e-3 * np.random.default_rng(2).standard_normal(len(draws))
    marginals = {key: MarginalPosterior(key, draws, np.zeros(len(draws)))}
    (_, field, *_) = coolest.entities(simulator_of().scene, Result(marginals), simulator_of(), (None, None))
    p = field["mass_model"][0]["parameters"]["phi_ext"]
    point, stats = p["point_estimate"]["value"], p["posterior_stats"]
    assert abs(point) == pytest.approx(90, abs=0.1)
    assert stats["percentile_16th"] < point < stats["percentile_84th"]
    assert stats["percentile_84th"] - stats["percentile_16th"] == pytest.approx(
        2 * np.rad2deg(0.5 * 1e-3 / 0.05), rel=0.1
    )


def test_without_draws_of_several_parameters_there_is_a_point_but_no_statistics():
    result = posterior_of(PRIOR.names)
    alone = Result({key: m for key, m in result.marginals.items() if len(key) == 1})
    lens = coolest.entities(simulator_of().scene, alone, simulator_of(), (None, None))[0]
    p = lens["mass_model"][0]["parameters"]
    assert set(p["phi"]["posterior_stats"].values()) == {None} and p["phi"]["point_estimate"]["value"]
    assert None not in p["theta_E"]["posterior_stats"].values()


def test_what_is_fixed_is_fixed_and_what_is_missing_is_said(tmp_path):
    simulator = LensSimulator(mock.SCENE, mock.PRIOR, simulator_of().optics, Noise(0.3))
    result = posterior_of(mock.PRIOR.names)
    lens = coolest.entities(mock.SCENE, result, simulator, (None, None))[0]
    gamma = lens["mass_model"][0]["parameters"]["gamma"]
    assert gamma["fixed"] and gamma["point_estimate"]["value"] == 2.0
    assert set(gamma["posterior_stats"].values()) == {None}
    with pytest.raises(KeyError, match="no marginal of lens_theta_e_arcsec"):
        coolest.entities(mock.SCENE, Result({}), simulator, (None, None))


@pytest.mark.parametrize("mass", [Halo(PLANES, tau=6.0), Multipole(4, "subhalo")])
def test_what_the_format_has_no_name_for_is_refused(mass):
    scene = replace(mock.SCENE, masses=(EPL(), Shear(), mass))
    with pytest.raises(ValueError, match="COOLEST has no profile like subhalo"):
        coolest.entities(scene, posterior_of(PRIOR.names), simulator_of(), (None, None))


def test_draws_of_a_subhalo_follow_its_map():
    bins = Bins(Grid(6, 5, 0.5), (8.0, 10.0), 4)
    log_p = torch.randn(len(bins), generator=torch.Generator().manual_seed(0), dtype=torch.float64).log_softmax(0)
    drawn = verdict.draws(log_p - bins.log_prior, bins, 40_000, 0)
    counts = np.bincount(bins.number(drawn), minlength=len(bins))
    p = log_p.exp().numpy()[1:] / log_p.exp().numpy()[1:].sum()
    assert counts[0] == 0
    assert (abs(counts[1:] - 40_000 * p) < 5 * np.sqrt(40_000 * p * (1 - p)) + 1).all()


def test_the_package_reads_the_file_and_computes_the_same(written):
    """Reader with all its checks; deflections; and the model image, away from the edge, beyond which it sees no light.

    Its point spread function falls on zeros outside the field, which reaches half of it, 4 pixels, into the image.
    """
    pytest.importorskip("coolest", reason="COOLEST's own reader: pip install 'tmnre-lensing[peers]'")
    from coolest.api.profiles import mass
    from coolest.template.json import JSONSerializer

    simulator, _, folder = written
    found = JSONSerializer(str(folder / "coolest")).load(skip_jsonpickle=True, verbose=False)
    assert found.mode == "MAP" and [e.name for e in found.lensing_entities] == ["lens", "shear", "subhalo", "source"]
    image = found.observation.pixels.get_pixels()
    np.testing.assert_array_equal(image, simulator.mock(TRUTH, 0))
    parameters = [
        {name: p.point_estimate.value for name, p in entity.mass_model[0].parameters.items()}
        for entity in found.lensing_entities[:2]
    ]
    alpha = [kind().deflection(X, Y, **p) for kind, p in zip((mass.PEMD, mass.ExternalShear), parameters, strict=True)]
    bare = simulator_of((EPL(), Shear()), Prior({n: d for n, d in PRIOR.items() if n not in SUBHALO}))
    theta = torch.tensor([[TRUTH[name] for name in bare.prior.names]], dtype=torch.float64)
    at = torch.from_numpy(X), torch.from_numpy(Y)
    beta = bare.scene.source_plane(*at, bare.scene.values(theta, bare.prior.names))
    ours = np.stack([X - beta[0][0].numpy(), Y - beta[1][0].numpy()])
    np.testing.assert_allclose(np.sum(alpha, axis=0), ours, rtol=0, atol=1e-8)

    models = pytest.importorskip("coolest.api.composable_models", reason="which needs pandas and scikit-image")
    which = {
        "kwargs_selection_source": {"entity_selection": [3]},
        "kwargs_selection_lens_mass": {"entity_selection": [0, 1]},
    }
    model, _ = models.ComposableLensModel(found, str(folder), **which).model_image(supersampling=2)
    expected = bare.images(theta)[0].numpy()
    inner = slice(4, -4)
    # ours cuts the source's cusp at 1e-4 of its radius, which the rays nearest to it see
    np.testing.assert_allclose(model[inner, inner], expected[inner, inner], rtol=0, atol=1e-6 * expected.max())
