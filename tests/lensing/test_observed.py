"""Lenses from FITS files: what is read is what is there, and everything that is wrong is said."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from tmnre_lensing.observed import Cut, Files, read

CUT = Cut(pixel_arcsec=0.1, field_arcsec=3.0, inner_arcsec=0.3, outer_arcsec=1.4)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    write(tmp_path, "image", rng.normal(size=(41, 41)))
    write(tmp_path, "noise_map", np.full((41, 41), 0.5))
    write(tmp_path, "psf", psf())
    return tmp_path


def psf(total: float = 0.98) -> np.ndarray:
    line = np.exp(-0.5 * (np.arange(-3, 4) / 1.2) ** 2)
    return total * np.outer(line, line) / line.sum() ** 2


def write(folder: Path, name: str, values: np.ndarray, **header) -> None:
    hdu = fits.PrimaryHDU(values)
    hdu.header.update(header)
    hdu.writeto(folder / f"{name}.fits", overwrite=True)


def test_the_middle_is_cut_out_and_masked(folder):
    write(folder, "mask", np.pad(np.ones((1, 1)), ((17, 23), (26, 14))))  # row 17, column 26 does not count
    lens = read(Files(folder=str(folder)), CUT)
    whole = fits.getdata(folder / "image.fits")
    # 41 pixels have a pixel in their middle, so the field has one as well: 31 of them, from the fifth on
    assert lens.image.shape == (31, 31) and lens.optics.grid.shape == (31, 31)
    np.testing.assert_array_equal(lens.image[lens.mask], whole[5:36, 5:36][lens.mask])
    assert not lens.image[~lens.mask].any()
    r = np.hypot(*np.meshgrid(*[(np.arange(31) - 15) * 0.1] * 2))
    expected = (r > 0.3) & (r < 1.4)
    assert expected[17 - 5, 26 - 5] and not lens.mask[17 - 5, 26 - 5]
    expected[17 - 5, 26 - 5] = False
    np.testing.assert_array_equal(lens.mask, expected)
    assert lens.notes == ("the point spread function sums to 0.9800; normalised to one",)


def test_pixels_without_a_value_do_not_count_and_are_said(folder):
    image = fits.getdata(folder / "image.fits").copy()
    image[20, 28] = np.nan
    write(folder, "image", image)
    lens = read(Files(folder=str(folder)), CUT)
    assert not lens.mask[15, 23] and np.isfinite(lens.image).all()
    assert any("1 pixels without a finite value" in note for note in lens.notes)


def test_another_centre(folder):
    lens = read(Files(folder=str(folder)), replace(CUT, centre_pixel=(18.5, 20.0), field_arcsec=2.0, outer_arcsec=0.9))
    whole = fits.getdata(folder / "image.fits")
    # an edge between columns 18 and 19: an even number of columns; row 20: an odd number of rows
    assert lens.image.shape == (21, 20)
    np.testing.assert_array_equal(lens.image[lens.mask], whole[10:31, 9:29][lens.mask])


def test_all_missing_files_are_named(folder):
    (folder / "psf.fits").unlink()
    with pytest.raises(OSError, match=r"missing: noise_map \(.*other.*\), psf"):
        read(Files(folder=str(folder), noise_map=str(folder / "other.fits")), CUT)
    with pytest.raises(OSError, match=r"missing: image \(not given\), noise_map \(not given\), psf \(not given\)"):
        read(Files(), CUT)


@pytest.mark.parametrize(
    ("name", "values", "header", "message"),
    [
        ("noise_map", np.ones((40, 41)), {}, r"noise_map has shape \(40, 41\), the image \(41, 41\)"),
        ("noise_map", np.zeros((41, 41)), {}, "no positive values"),
        ("psf", np.ones((6, 6)), {}, "square of odd width"),
        ("psf", np.roll(psf(), 2, 0), {}, r"peaks \[2, 0\] rows and columns off its middle"),
        ("psf", np.full((7, 7), np.nan), {}, "not finite"),
        ("image", np.ones((41, 41)), {"BUNIT": "electrons"}, "divide by the exposure time"),
        ("image", np.ones((41, 41)), {"BUNIT": "furlong"}, "not understood"),
        ("image", np.ones(7), {}, "no two-dimensional image"),
        ("image", np.ones((20, 20)), {}, "reaches beyond the image"),
    ],
)
def test_what_cannot_be_used_is_refused(folder, name, values, header, message):
    write(folder, name, values, **header)
    with pytest.raises(ValueError, match=message):
        read(Files(folder=str(folder)), CUT)


def test_electrons_per_second_are_welcome_and_a_text_file_is_not(folder):
    write(folder, "image", np.ones((41, 41)), BUNIT="ELECTRONS/S")
    assert read(Files(folder=str(folder)), CUT).mask.any()
    (folder / "image.fits").write_text("no FITS")
    with pytest.raises(OSError, match="cannot read .*image.fits as FITS"):
        read(Files(folder=str(folder)), CUT)


def test_a_mask_the_other_way_round_is_found_out(folder):
    write(folder, "mask", np.ones((41, 41)))
    with pytest.raises(ValueError, match="only 0 pixels are left"):
        read(Files(folder=str(folder)), CUT)


@pytest.mark.skipif("TMNRE_DATA" not in os.environ, reason="needs the FITS files under TMNRE_DATA/lensing")
def test_the_real_lens_is_read_from_its_files():
    from tmnre_lensing.recipes.slacs import Settings, build

    analysis = build(Settings())
    simulator, image = analysis.simulator, analysis.observation["image"]
    assert image.shape == (101, 101) and simulator.mask.sum() > 7000
    # published Einstein radius 1.62 arcsec (SLACS): images of a source near the axis scatter about it
    x, y = np.meshgrid(*[(np.arange(101) - 50) * 0.05] * 2)
    bright = image > 8 * simulator.noise.sd
    assert bright.sum() > 100 and np.hypot(x, y)[bright].mean() == pytest.approx(1.62, abs=0.3)
