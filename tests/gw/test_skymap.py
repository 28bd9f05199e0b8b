"""Sky maps of draws from a Fisher distribution with a known distance, and what other programs read."""

import healpy
import numpy as np
import pytest
from astropy.table import Table

from tmnre_gw.skymap import distance_parameters, sky_map

WIDTH = np.radians(8)
MEAN, SD = 400.0, 60.0


@pytest.fixture(scope="module")
def drawn():
    """ra, dec and distance of a Fisher distribution about (0, 0.3); distance independent of the direction."""
    rng, n, kappa = np.random.default_rng(0), 3000, 1 / WIDTH**2
    cosine = 1 + np.log(rng.random(n)) / kappa
    angle, sine = rng.uniform(0, 2 * np.pi, n), np.sqrt(1 - cosine**2)
    x, y, z = cosine, sine * np.cos(angle), sine * np.sin(angle)
    x, z = x * np.cos(0.3) - z * np.sin(0.3), x * np.sin(0.3) + z * np.cos(0.3)
    return np.arctan2(y, x) % (2 * np.pi), np.arcsin(z), rng.normal(MEAN, SD, n)


@pytest.fixture(scope="module")
def sky(drawn):
    return sky_map(*drawn)


def test_pixels_cover_the_sphere_once(sky):
    assert sky.area.sum() == pytest.approx(4 * np.pi)
    assert (sky.density * sky.area).sum() == pytest.approx(1)
    everywhere = healpy.pix2ang(32, np.arange(healpy.nside2npix(32)), lonlat=False)
    assert np.isfinite(sky.at(everywhere[1], np.pi / 2 - everywhere[0])).all()


def test_areas_and_density_are_those_of_the_distribution(sky):
    # P(within r) = 1 - exp(-(1 - cos r) / WIDTH^2), so a share m lies in 2 pi WIDTH^2 ln(1 / (1 - m)); kernels widen
    # and their noise narrows it: 20 neighbours of 3000 are 0.7% of the area each, and scatter by 20^-1/2
    for mass in (0.5, 0.9):
        exact = 2 * np.pi * WIDTH**2 * np.log(1 / (1 - mass)) * np.degrees(1) ** 2
        assert sky.credible_area_deg2(mass) == pytest.approx(exact, rel=0.1)
    peak = 1 / (2 * np.pi * WIDTH**2)
    assert float(sky.at(np.array([0.0]), np.array([0.3]))[0]) == pytest.approx(peak, rel=2 / 20**0.5)


def test_distance_of_every_pixel_has_the_moments_of_its_draws(sky, drawn):
    r = np.linspace(1, 1200, 4000)
    for i in np.argsort(-sky.density)[:5]:
        p = (
            sky.norm[i]
            * r**2
            * np.exp(-0.5 * ((r - sky.mu[i]) / sky.sigma[i]) ** 2)
            / np.sqrt(2 * np.pi)
            / sky.sigma[i]
        )
        dr = r[1] - r[0]
        assert p.sum() * dr == pytest.approx(1, rel=1e-3)
        # by the draws about it, of which there are tens
        assert (p * r).sum() * dr == pytest.approx(MEAN, abs=5 * SD / 20**0.5)
    assert (sky.mean_mpc, sky.sd_mpc) == (pytest.approx(drawn[2].mean()), pytest.approx(drawn[2].std()))


@pytest.mark.parametrize("ratio", [1.8, 2.5, 5.0, 20.0, 200.0])
def test_distance_parameters_invert_the_moments(ratio):
    (mu,), (sigma,), (norm,) = distance_parameters(np.array([MEAN]), np.array([MEAN / ratio]))
    r = np.linspace(0, 4 * MEAN, 200_001)
    p = norm * r**2 * np.exp(-0.5 * ((r - mu) / sigma) ** 2) / np.sqrt(2 * np.pi) / sigma
    total, mean = (np.trapezoid(p * r**k, r) for k in (0, 1))
    sd = np.sqrt(np.trapezoid(p * r**2, r) - mean**2)
    assert (total, mean, sd) == (
        pytest.approx(1, rel=1e-3),
        pytest.approx(MEAN, rel=1e-3),
        pytest.approx(MEAN / ratio, rel=2e-2),
    )


def test_the_file_is_a_multi_order_map(sky, tmp_path):
    path = tmp_path / "skymap.fits"
    sky.write(path, event="GW150914", detectors=("H1", "L1"), gps_s=1126259462.4)
    table = Table.read(path)
    # of 2.1 of the LIGO-Virgo-KAGRA alert guide; read by ligo.skymap 2.5.4 as well
    assert table.colnames == ["UNIQ", "PROBDENSITY", "DISTMU", "DISTSIGMA", "DISTNORM"]
    assert [str(table[name].unit) for name in table.colnames[1:]] == ["1 / sr", "Mpc", "Mpc", "1 / Mpc2"]
    assert (table.meta["ORDERING"], table.meta["COORDSYS"], table.meta["PIXTYPE"]) == ("NUNIQ", "C", "HEALPIX")
    assert table.meta["DATE-OBS"].startswith("2015-09-14T09:50:45")
    np.testing.assert_array_equal(table["UNIQ"], sky.uniq)
