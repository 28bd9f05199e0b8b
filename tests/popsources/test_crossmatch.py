"""Detections beside a list of sources: known matches, radii, chance, shares by flux, and the catalogue of them."""

from __future__ import annotations

import healpy
import numpy as np
import pytest
import torch
from astropy.table import Table

from tmnre_popsources import catalogue, crossmatch, fermi, sky_figures
from tmnre_popsources.crossmatch import REACH_99, Listed
from tmnre_popsources.detection import Detections
from tmnre_popsources.fermi_matches import Matches
from tmnre_popsources.sky import Sky, latitude_mask

SD_DEG, LEAST_DEG = 0.1, 0.18


def detections_at(l_deg, b_deg, log_flux, sd_deg=SD_DEG) -> Detections:
    one = torch.ones(len(l_deg), dtype=torch.float64)
    return Detections(
        torch.zeros(len(one), dtype=torch.long), torch.as_tensor(l_deg) * one, torch.as_tensor(b_deg) * one,
        torch.as_tensor(log_flux) * one, sd_deg * one, sd_deg * one, 0.1 * one, 3 * one, 0.9 * one,
        torch.zeros(len(one), dtype=torch.long), one[:, None].expand(-1, 2),
    )  # fmt: skip


def random_places(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(0.5, 1, n)))


def test_known_matches_and_the_brighter_of_two():
    # east by 0.2 and 0.35 degrees on the sky, at b = 60: within and beyond 3.03 sd
    listed = Listed(
        np.array([10.4, 50.7, 90.0, 90.1, 359.95]), np.full(5, 60.0), np.zeros(5), np.array([1.0, 2.0, 1.0, 3.0, 1.0])
    )
    found = detections_at([10.0, 50.0, 90.0, 0.0, 180.0], 60.0, 1.0)
    assert crossmatch.match(found, listed, least_deg=LEAST_DEG).tolist() == [0, -1, 3, 4, -1]
    # the list's own errors widen the radius, in quadrature: 0.35 degrees need sd of 0.1 and 0.06
    wide = Listed(listed.l_deg, listed.b_deg, np.array([0.0, 0.06, 0, 0, 0]), listed.log_flux)
    assert REACH_99 * np.hypot(0.1, 0.06) > 0.35 > REACH_99 * 0.1
    assert crossmatch.match(found, wide, least_deg=LEAST_DEG).tolist() == [0, 1, 3, 4, -1]
    # no radius is less than the least one, and none more than three times that
    blurred = detections_at([50.0], 60.0, 1.0, sd_deg=1.0)
    assert [crossmatch.match(blurred, listed, least_deg=least).tolist() for least in (0.11, 0.12)] == [[-1], [1]]
    sharp = detections_at([10.0], 60.0, 1.0, sd_deg=0.001)
    assert crossmatch.match(sharp, listed, least_deg=0.18).tolist() == [-1]
    assert crossmatch.match(sharp, listed, least_deg=0.21).tolist() == [0]
    nothing = Listed(*np.zeros((4, 0)))
    assert crossmatch.match(found, nothing, least_deg=LEAST_DEG).tolist() == [-1] * 5


def test_99_of_a_hundred_match_and_a_shifted_list_only_by_chance():
    l_deg, b_deg = random_places(3000, 0)
    rng = np.random.default_rng(1)
    shift = SD_DEG * rng.standard_normal((2, 3000))
    listed = Listed(l_deg, b_deg, np.zeros(3000), rng.standard_normal(3000))
    found = detections_at(l_deg + shift[0] / np.cos(np.radians(b_deg)), b_deg + shift[1], 1.0)
    index = crossmatch.match(found, listed, least_deg=LEAST_DEG)
    chance = crossmatch.by_chance(found, listed, least_deg=LEAST_DEG)
    # a cap of that radius holds 3000 / (pi sr) times its area sources by chance
    radius = np.radians(REACH_99 * SD_DEG)
    cap = 1 - np.exp(-3000 / np.pi * np.pi * radius**2)
    error = np.sqrt(cap * (1 - cap) / (3000 * len(crossmatch.TURNS_DEG)))
    assert abs(chance["detections"] - cap) < 5 * error
    missed = 0.01 * (1 - cap)
    assert abs((index < 0).mean() - missed) < 5 * np.sqrt(missed / 3000)
    # a neighbour within the radius that is brighter takes the place of the true one
    taken = ((index != np.arange(3000)) & (index >= 0)).mean()
    assert abs(taken - cap / 2) < 5 * np.sqrt(cap / 2 / 3000)


def test_shares_by_flux():
    edges = np.log([1.0, 2.0, 4.0, 8.0])
    log_flux = np.log([1.5, 1.5, 3.0, 3.0, 3.0, 3.0, 9.0, 0.5])
    bins = crossmatch.shares(log_flux, np.array([1, 0, 1, 1, 1, 1, 0, 0], dtype=bool), edges)
    assert [b["number"] for b in bins] == [2, 4, 0] and [b["share"] for b in bins] == [0.5, 1.0, None]
    # all of four found leaves an error: (4 + 1/2) / 5 = 0.9
    assert bins[1]["error"] == pytest.approx(np.sqrt(0.9 * 0.1 / 5))


def catalogued(l_deg, b_deg, flux, ratio=0.4) -> fermi.Catalogued:
    n = len(l_deg)
    names = np.array([f"4FGL J{i:04d}" for i in range(n)])
    return fermi.Catalogued(flux, ratio * flux, names, l_deg, b_deg, np.zeros(n))


def test_catalogue_has_names_and_fluxes_of_what_was_matched(tmp_path):
    l_deg, b_deg = random_places(40, 3)
    flux = np.geomspace(2e-10, 2e-9, 40)
    fourth = np.arange(0, 40, 4)
    found = detections_at(l_deg[fourth], b_deg[fourth], np.log(2 * flux[fourth]))
    nowhere = detections_at([100.0], -60.0, np.log(5e-10))
    both = Detections(*(torch.cat(q) for q in zip(nowhere, found, strict=True)))
    matches = Matches.of(both, catalogued(l_deg, b_deg, flux), band_ratio=0.4, faintest=3e-10, least_deg=LEAST_DEG)
    bright = flux[fourth] >= 3e-10
    assert matches.names == ["", *(f"4FGL J{i:04d}" if ok else "" for i, ok in zip(fourth, bright, strict=True))]
    np.testing.assert_array_equal(np.flatnonzero(matches.recovered), fourth[bright])
    edges = np.log([3e-10, 1e-9, 1e-8])
    mocks = {key: [{"low": 3e-10, "high": 1e-9, "share": 0.2}, {"low": 1e-9, "high": 1e-8, "share": 0.8}]
             for key in ("completeness", "purity")}  # fmt: skip
    record = matches.record(edges, mocks)
    assert record["log_flux_difference"]["median"] == pytest.approx(np.log(2), abs=1e-6)
    one = record["completeness"][0]
    inside = (flux >= 3e-10) & (flux < 1e-9)
    assert one["number"] == inside.sum() and one["share"] == pytest.approx(
        np.isin(np.flatnonzero(inside), fourth).mean()
    )
    # the mock's share, linear in ln F from 0.2 at the first bin's middle to 0.8 at the second's
    middle = np.log([3e-10 * 1e-9, 1e-9 * 1e-8]) / 2
    assert one["expected"] == pytest.approx(np.interp(np.log(flux[inside]), middle, [0.2, 0.8]).mean())
    made = catalogue.table(
        both, flux_unit="cm-2 s-1", log_fluxes=np.log([1e-10, 3e-10]), flux_name="Flux1000", associated=matches.names
    )
    catalogue.write(tmp_path / "c.fits", made)
    table = Table.read(tmp_path / "c.fits")
    needed = {"Source_Name", "RAJ2000", "DEJ2000", "GLON", "GLAT", "Conf_95_SemiMajor", "Signif_Avg", "Flux1000",
              "Unc_Flux1000", "ASSOC1"}  # fmt: skip
    assert needed <= set(table.colnames) and "Flux" not in table.colnames
    assert (np.diff(table["Flux1000"]) <= 0).all()
    names = np.ma.filled(table["ASSOC1"], "")  # empty strings come back masked
    for name, flux_1_100 in zip(names, table["Flux1000"], strict=True):
        assert not name or flux_1_100 == pytest.approx(2 * flux[int(name[6:])], rel=1e-6)
    assert sum(name != "" for name in names) == bright.sum()


def test_figures_show_every_detection_and_what_was_missed():
    sky = Sky(latitude_mask(8, 30.0))
    l_deg, b_deg = random_places(30, 5)
    b_deg[::3] *= -1
    flux = np.geomspace(4e-10, 4e-9, 30)
    listed = catalogued(l_deg, b_deg, flux)
    found = detections_at(
        np.append(l_deg[::2], 10.0), np.append(b_deg[::2], -70.0), np.log(np.append(flux[::2], 5e-10))
    )
    matches = Matches.of(found, listed, band_ratio=0.4, faintest=1.5e-10, least_deg=LEAST_DEG)
    ratio = np.full(len(sky), -3.0)
    ratio[sky.place[healpy.ang2pix(8, found.l_deg.numpy(), found.b_deg.numpy(), nest=True, lonlat=True)]] = 3.0
    figure = sky_figures.detections(sky, ratio, found, matches, 3e-10)
    caps = [axis for axis in figure.axes if axis.get_title().startswith("Galactic")]
    shown = np.array([[len(points.get_offsets()) for points in axis.collections] for axis in caps])
    missed = ~matches.recovered & (flux >= 6e-10)
    np.testing.assert_array_equal(shown.sum(0), [matches.real.sum(), (~matches.real).sum(), missed.sum()])
    assert shown[0, 0] == (b_deg[::2] > 0).sum() and shown[:, 1].tolist() == [0, 1]
    # markers lie on their pixels' colour
    for axis in caps:
        image, (low, high) = axis.images[0].get_array(), axis.images[0].get_extent()[:2]
        at = np.concatenate([np.asarray(points.get_offsets()) for points in axis.collections[:2]])
        x, y = ((at - low) / (high - low) * len(image)).astype(int).T
        assert (image[y, x] == 3.0).all() and len(x)


def test_4fgl_positions_and_names(tmp_path):
    """The north pole of the Galaxy, at RA 192.859, Dec 27.128 degrees (J2000), and the Crab, near the plane."""
    table = Table(
        {"Source_Name": ["4FGL pole", "4FGL Crab"], "RA": [192.859, 83.633], "Dec": [27.128, 22.015],
         "Flux": [1e-9, 2e-7], "PL_Index": [2.2, 2.2], "SemiMajor": [0.0489549, np.nan]}
    )  # fmt: skip
    table.write(tmp_path / "4fgl.fits")
    found = fermi.read_4fgl(tmp_path / "4fgl.fits", Sky(latitude_mask(16, 30.0)), (2.0, 20.0))
    assert found.names.tolist() == ["4FGL pole"]
    assert found.b_deg[0] == pytest.approx(90.0, abs=1e-2) and found.sd_deg[0] == pytest.approx(0.02, rel=1e-4)
    assert found.flux_band[0] == pytest.approx(1e-9 * fermi.band_ratio(2.2, (2.0, 20.0)))
