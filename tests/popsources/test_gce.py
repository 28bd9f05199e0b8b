"""The inner Galaxy: the squared profile, where its sources are, what maps expect, and what is refused."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import healpy
import numpy as np
import pytest
import torch
from scipy import integrate, stats

from tmnre import Prior, Uniform, settings
from tmnre.plugin import find_recipe
from tmnre_popsources.excess_sky import ExcessSky, smooth_excess
from tmnre_popsources.fluxes import BrokenPowerLaw
from tmnre_popsources.histograms import BELOW, ZoneHistograms, excess_edges
from tmnre_popsources.nfw import Halo, annihilation_map, beam, blurred
from tmnre_popsources.psf import Gaussian, King
from tmnre_popsources.scores import FittedSummary, best_norms
from tmnre_popsources.sky import Sky, degrade, inner_mask

NSIDE, KPC_CM = 32, 3.0856775814913673e21
LAW = BrokenPowerLaw(1, faintest=0.3, brightest=1000.0)
RANGES = {
    "gce_counts": Uniform(0, 4e4), "point_fraction": Uniform(0, 1), "n1": Uniform(2.5, 6), "n2": Uniform(-3, 1.95),
    "log10_break1": Uniform(0, 1.7), "flat": Uniform(0, 2),
}  # fmt: skip
THETA = np.array([2e4, 0.8, 4.0, 0.5, 0.8, 1.0])


@pytest.fixture(scope="module")
def maps():
    """Region, fine density of the excess, and an exposure that differs from north to south."""
    sky = Sky(inner_mask(NSIDE, 20.0, 2.0), 1.0)
    _, b_deg = healpy.pix2ang(NSIDE, np.arange(12 * NSIDE**2), lonlat=True)
    return sky, annihilation_map(Halo(), 4 * NSIDE), 9e10 * (1 + 0.3 * np.sin(np.radians(b_deg)))


def excess_sky(maps, psf=Gaussian(0.18), density=None, **how) -> ExcessSky:  # noqa: B008 - frozen
    sky, own, exposure = maps
    density = own if density is None else density
    return ExcessSky(
        *(sky, Prior(RANGES)), law=LAW, density=density, smooth=smooth_excess(sky, density, exposure, psf),
        templates={"flat": np.full(len(sky), 20.0)}, exposure=exposure, psf=psf, **how,
    )  # fmt: skip


@pytest.mark.parametrize("halo", [Halo(), Halo(inner_slope=1.0, sun_kpc=8.5), Halo(inner_slope=0.6, scale_kpc=5.0)])
@pytest.mark.parametrize("psi_deg", [0.01, 2.0, 10.0, 45.0, 90.0, 150.0])
def test_j_factor_against_quadrature_along_the_distance(halo, psi_deg):
    """Adaptive integration over s itself, cut where the integrand has its peak; both are good to 1e-7."""
    cosine, sine = np.cos(np.radians(psi_deg)), np.sin(np.radians(psi_deg))

    def squared(s: float) -> float:
        return float(halo.density(np.sqrt(s**2 + halo.sun_kpc**2 - 2 * s * halo.sun_kpc * cosine))) ** 2

    peak, width = halo.sun_kpc * max(cosine, 0.0), halo.sun_kpc * sine
    about = peak + width * np.array([-1000, -100, -10, -3, -1, 0, 1, 3, 10, 100, 1000])
    edges = [0.0, *about[(about > 0) & (about < 480)], 480.0]
    found = sum(integrate.quad(squared, a, b, epsrel=1e-9)[0] for a, b in zip(edges[:-1], edges[1:], strict=True))
    assert halo.j_factor(psi_deg).unit.to_string() == "GeV2 / (sr cm5)"
    assert halo.j_factor(psi_deg).value == pytest.approx(found * KPC_CM, rel=1e-7)


def test_a_halo_without_finite_flux_is_refused():
    with pytest.raises(ValueError, match="inner_slope < 1.5"):
        Halo(inner_slope=1.6)


def test_pixels_about_the_cusp_against_finer_ones():
    """What a pixel of the centre misses is stated as 3%: between two levels that differ by a half, a part of it."""
    coarse, fine = annihilation_map(Halo(), 64), degrade(annihilation_map(Halo(), 128), 64, "mean")
    assert (fine / coarse).max() < 1.03 and (fine / coarse).min() > 0.97
    assert coarse.mean() == pytest.approx(1.0) and coarse.argmax() in healpy.query_disc(64, [1, 0, 0], 0.02)


@pytest.mark.parametrize("psf", [Gaussian(1.0), King(1.0, 2.5)])
def test_beam_and_blur(psf):
    """Of a Gaussian the window in closed form; a point's flux beyond radii against the profile's own."""
    if isinstance(psf, Gaussian):
        order = np.arange(400)
        exact = np.exp(-order * (order + 1) * np.radians(psf.sigma_deg) ** 2 / 2)
        # half a step of the cumulative distribution at its end is what the midpoint rule can miss
        np.testing.assert_allclose(beam(psf, 399), exact, atol=1 / 4000)
    point = np.zeros(12 * 128**2)
    point[healpy.ang2pix(128, 30.0, 20.0, lonlat=True)] = 1.0
    after = blurred(point, psf)
    centre = healpy.pix2vec(128, int(point.argmax()))
    for share in (0.7, 0.4, 0.15):
        radius = float(psf.radius_deg(torch.tensor(share, dtype=torch.float64)))
        inside = after[healpy.query_disc(128, centre, np.radians(radius))].sum() / after.sum()
        # pixels of 0.46 degrees on the rim, and those of the point itself
        slope = float(psf.radius_deg(torch.tensor(share / 1.01, dtype=torch.float64))) - radius
        assert abs(1 - inside - share) < share * 0.01 / slope * 0.46 / 2


@pytest.mark.skipif("TMNRE_DATA" not in os.environ, reason="TMNRE_DATA is not set")
def test_template_against_that_of_another_code():
    """GCE_NN's NFW^2 template (slope 1.2, Sun at 8.5 kpc, times exposure): in proportion at 5 to 30 degrees.

    A pixel's centre differs from its mean by some J'' side^2 / 24, 0.3% at 5 degrees.
    """
    folder = Path(os.environ["TMNRE_DATA"]) / "popsources" / "fermi_573w_nside128"
    theirs = np.load(folder / "template_nfw_g1p2.npy") / np.load(folder / "fermidata_exposure.npy")
    ours = degrade(blurred(annihilation_map(Halo(sun_kpc=8.5), 256), Gaussian(0.18)), 128, "mean")
    psi = np.degrees(np.arccos(healpy.pix2vec(128, np.arange(len(ours)))[0]))
    edges = (5, 7, 10, 15, 20, 25, 30)
    ratio = [
        (theirs / ours)[(psi > low) & (psi < high)].mean() for low, high in zip(edges[:-1], edges[1:], strict=True)
    ]
    np.testing.assert_allclose(ratio / np.mean(ratio), 1.0, atol=3e-3)
    nearer = degrade(annihilation_map(Halo(inner_slope=1.1, sun_kpc=8.5), 256), 128, "mean")
    wrong = [(theirs / nearer)[(psi > low) & (psi < low + 2)].mean() for low in (5, 28)]
    assert abs(wrong[0] / wrong[1] - 1) > 0.05


def angles_of_sources(simulator: ExcessSky, n: int, rng: np.random.Generator) -> np.ndarray:
    """Degrees from the Galactic centre of drawn sources, evenly within their places."""
    where = simulator._where(n, rng)
    pixel = (simulator.sky.wide[where >> 2 * simulator.levels] << 2 * simulator.levels) + (
        where & (4**simulator.levels - 1)
    )
    fine = (pixel << 12) + rng.integers(1 << 12, size=n)
    return np.degrees(np.arccos(healpy.pix2vec(simulator.sky.nside << simulator.levels + 6, fine, nest=True)[0]))


def test_sources_are_where_the_profile_has_them(maps):
    """Kolmogorov-Smirnov over 40,000 angles of 3 to 17 degrees, at a level of 1e-3; another slope is refused."""
    grid = np.linspace(3, 17, 400)

    def p_value(simulator: ExcessSky) -> float:
        psi = angles_of_sources(simulator, 150_000, np.random.default_rng(0))
        psi = psi[(psi > 3) & (psi < 17)][:40_000]
        assert len(psi) == 40_000
        flux = Halo().j_factor(grid).value * np.sin(np.radians(grid))
        upper = integrate.cumulative_trapezoid(flux, grid, initial=0)
        return stats.kstest(psi, lambda at: np.interp(at, grid, upper / upper[-1])).pvalue

    assert p_value(excess_sky(maps)) > 1e-3
    assert p_value(excess_sky(maps, density=annihilation_map(Halo(inner_slope=1.1), 4 * NSIDE))) < 1e-3


def test_counts_are_those_of_the_templates(maps):
    """Smooth: every pixel Poisson about the templates' sum.  Sources: sums over rings, by their scatter in 300 maps."""
    simulator = excess_sky(maps)
    smooth, flat = simulator.templates.numpy()
    expected = THETA[0] * smooth + flat
    theta = torch.from_numpy(np.where(np.arange(6) == 1, 0.0, THETA))[None]
    rng, generator = np.random.default_rng(2), torch.Generator().manual_seed(2)
    assert simulator.photons(theta[0].numpy(), rng).sum() == 0
    data = simulator._data(torch.zeros(100, len(smooth)), theta.expand(100, -1), generator)["counts"]
    total = data.sum(0).numpy()
    chi2 = ((total - 100 * expected) ** 2 / (100 * expected)).sum()
    assert stats.chi2.cdf(chi2, len(total)) == pytest.approx(0.5, abs=0.499)

    zone = np.digitize(smooth, np.quantile(smooth, [0.25, 0.5, 0.75, 0.9]))
    photons = np.stack([simulator.photons(THETA, rng) for _ in range(300)])

    def pulls(template: np.ndarray) -> np.ndarray:
        sums = np.stack([photons[:, zone == z].sum(1) for z in range(5)])
        exact = np.array([THETA[0] * THETA[1] * template[zone == z].sum() for z in range(5)])
        return (sums.mean(1) - exact) / (sums.std(1, ddof=1) / 300**0.5)

    bound = stats.norm.isf(1e-3 / 10)
    assert np.abs(pulls(smooth)).max() < bound
    assert np.abs(pulls(smooth * 1.02)).max() > bound
    steeper = annihilation_map(Halo(inner_slope=1.25), 4 * NSIDE)
    assert np.abs(pulls(smooth_excess(maps[0], steeper, maps[2], Gaussian(0.18)))).max() > bound


def test_share_and_sum_make_level_and_norm(maps):
    simulator = excess_sky(maps, psf=None, sources_at=(5.0,))
    p, norms = simulator.split(torch.from_numpy(THETA)[None])
    area = len(simulator.sky) * simulator.sky.pixel_sr
    assert float(simulator.law.expected_flux(p)[0]) * area == pytest.approx(THETA[0] * THETA[1])
    np.testing.assert_allclose(norms[0], [THETA[0] * (1 - THETA[1]), THETA[-1]])
    # without a point spread function no photon leaves, and the smooth template is the density itself
    exposure = maps[0].of_ring(maps[2])
    inside = maps[0].of_ring(degrade(maps[1], NSIDE, "mean")) * exposure / exposure.mean()
    shares = simulator.templates[0].numpy()
    np.testing.assert_allclose(shares, inside / inside.sum() * shares.sum(), rtol=1e-5)


def test_fit_and_summary_about_it():
    """The fit's gradient vanishes; the linearised norms return it; excesses are counted as numpy does."""
    rng = np.random.default_rng(0)
    templates = np.stack([np.exp(-np.linspace(0, 3, 600)), np.ones(600), np.linspace(0, 2, 600)]) * 30
    counts = rng.poisson(np.array([3.0, 0.5, 1.0]) @ templates).astype(float)
    norms = best_norms(counts, templates)
    expected = norms @ templates
    pull = (templates * (counts / expected - 1)).sum(1) / np.sqrt((templates**2 / expected).sum(1))
    assert np.abs(pull).max() < 1e-2
    alone = torch.full((600, 9), 600)
    alone[:, 0] = torch.arange(600)
    zones = torch.zeros(600, dtype=torch.long)
    histograms = ZoneHistograms(zones, alone, excess_edges(), torch.from_numpy(expected))
    summary, clipping = (FittedSummary(histograms, templates, expected, clip) for clip in (None, 2.0))
    bright = counts.copy()
    bright[::200] += 5000
    maps = torch.from_numpy(np.stack([counts, counts + expected, bright]))
    x = summary(maps)
    plain, clipped = x["norms"], clipping(maps)["norms"]
    np.testing.assert_allclose(plain[0], norms, rtol=0.01)
    np.testing.assert_allclose(plain[1] - plain[0], norms, rtol=1e-4)
    # three bright sources shift the fit by many of its standard deviations; clipped, each changes its pixel by five
    # standard deviations at most (from -3 to 2), so the fit by 5 sqrt(3) of its own (Cauchy and Schwarz)
    sd = np.sqrt(np.diag(np.linalg.inv((templates / expected) @ templates.T)))
    assert (np.abs(plain[2] - plain[0]).numpy() > 5 * sd).any()
    assert (np.abs(clipped[2] - clipped[0]).numpy() < 5 * np.sqrt(3) * sd).all()
    found = x["histograms"][0].square().reshape(3, 2, -1)[0, 0].numpy()
    excess = np.maximum((counts - expected) / np.sqrt(expected) + BELOW, 0)
    for number, edge in zip(found, excess_edges().numpy(), strict=True):
        step = (1 + edge) / 128
        assert (excess >= edge).sum() - 1e-2 <= number <= (excess >= edge - step).sum() + 1e-2


@pytest.fixture
def files(tmp_path):
    """Counts, exposure and a template bright in the plane, nside 16."""
    _, b_deg = healpy.pix2ang(16, np.arange(3072), lonlat=True)
    glow = 50 * np.exp(-np.abs(b_deg) / 10)
    counts = np.random.default_rng(0).poisson(5 + glow).astype(float)
    for name, values in {"counts": counts, "exposure": np.full(3072, 9e10), "glow": glow}.items():
        np.save(tmp_path / f"{name}.npy", values)
    np.save(tmp_path / "nested.npy", healpy.reorder(glow, r2n=True))
    np.save(tmp_path / "nested_counts.npy", healpy.reorder(counts, r2n=True))
    np.save(tmp_path / "negative.npy", glow - 20)
    np.save(tmp_path / "coarse.npy", degrade(glow, 8, "sum"))
    return tmp_path


def build(**changes):
    recipe = find_recipe("popsources/gce")
    return recipe.build(replace(settings.parse(recipe, preset="smoke"), **changes))


def test_own_counts_and_templates(files):
    own = {name: str(files / f"{name}.npy") for name in ("counts", "exposure")}
    analysis = build(**own, templates={"glow": str(files / "glow.npy")})
    assert analysis.simulator.prior.names[-2:] == ("isotropic", "glow") and not analysis.truth
    # a mock over a template of one's own
    assert "glow" in build(templates={"glow": str(files / "glow.npy")}).truth


def test_bad_input_is_refused(files):
    own = {name: str(files / f"{name}.npy") for name in ("counts", "exposure")}
    for changes, message in (
        ({**own, "templates": {"d": "negative"}}, "negative or not finite"),
        ({"templates": {"d": "negative"}}, "negative or not finite"),
        ({**own, "templates": {"d": "nested"}}, "probably not in RING order"),
        ({**own, "counts": "nested_counts"}, "probably not in RING order"),
        ({**own, "templates": {"d": "coarse"}}, "one nside first"),
        ({"templates": {"d": "coarse", "e": "glow"}}, "one nside first"),
        ({**own, "nside": 32}, "cannot be had at a finer 32"),
        ({"counts": "counts"}, "come with an exposure"),
        ({"exposure": "exposure"}, "go with counts"),
        ({"templates": {"isotropic": "glow"}}, "made from the exposure"),
        ({"plane_deg": 30.0}, "no pixel is left"),
    ):
        if "templates" in changes:
            changes["templates"] = {k: str(files / f"{v}.npy") for k, v in changes["templates"].items()}
        for name in {"counts", "exposure"} & set(changes):
            if not changes[name].endswith(".npy"):
                changes[name] = str(files / f"{changes[name]}.npy")
        with pytest.raises(ValueError, match=message):
            build(**changes)


def test_densities_and_templates_of_a_simulator_are_checked(maps):
    sky, density, _ = maps
    for bad, message in (
        (-density, "finite and >= 0"),
        (density[:-5], "must be a HEALPix map at nside 32 times"),
        (degrade(density, 16, "mean"), "must be a HEALPix map at nside 32 times"),
    ):
        with pytest.raises(ValueError, match=message):
            ExcessSky(
                *(sky, Prior(RANGES)), law=LAW, density=bad, smooth=np.ones(len(sky)), exposure=maps[2], psf=None,
                templates={"flat": np.ones(len(sky))},
            )  # fmt: skip
    with pytest.raises(ValueError, match="template 'smooth' must hold"):
        ExcessSky(
            *(sky, Prior(RANGES)), law=LAW, density=density, smooth=-np.ones(len(sky)), exposure=maps[2], psf=None,
            templates={"flat": np.ones(len(sky))},
        )  # fmt: skip


def test_the_mock_follows_its_seed_and_lies_in_the_prior():
    first, again, other = build(), build(), build(observation_seed=5)
    for key, values in first.observation.items():
        np.testing.assert_array_equal(values, again.observation[key])
        assert not np.array_equal(values, other.observation[key])
    for name, distribution in first.simulator.prior.items():
        low, high = distribution.support
        assert low < first.truth[name] < high


@pytest.mark.skipif("TMNRE_DATA" not in os.environ, reason="TMNRE_DATA is not set")
def test_real_counts_are_read_and_show_an_excess():
    """The smooth fit to Fermi's own counts has an excess of 5 to 30% of all photons (1506.05124: 5 to 10%)."""
    recipe = find_recipe("popsources/gce")
    analysis = recipe.build(replace(settings.parse(recipe, preset="fermi"), nside=32))
    # of the prior the last is the scatter of templates
    names = ("gce_counts", *analysis.simulator.prior.names[5:-1])
    norms = dict(zip(names, analysis.observation["norms"], strict=True))
    assert analysis.simulator.prior.names[-1] == "template_scatter"
    total = analysis.simulator.prior["gce_counts"].support[1] / 0.4
    assert 0.05 < norms["gce_counts"] / total < 0.3
