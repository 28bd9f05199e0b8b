"""A real lens from FITS files: image, noise map, point spread function and, where there is one, a mask.

Everything a file can be wrong in is found here, all of it at once, and said with what to do about it.  Images are in
e-/s per pixel with the lens light subtracted or not, the noise map holds standard deviations, a mask is non-zero (or
True) where a pixel does *not* count, as in the archives' data-quality arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits

from tmnre_lensing.noise import Noise, drizzle_kernel
from tmnre_lensing.optics import Grid, Optics

NEEDED = ("image", "noise_map", "psf")
COUNTS = 1e-3
"""share by which the sum of a point spread function may differ from one without a word"""


@dataclass(frozen=True)
class Files:
    """Paths of FITS files; a file is read from its first extension that holds an image, or from FILE[NUMBER]."""

    folder: str | None = None
    """folder with image.fits, noise_map.fits, psf.fits and perhaps mask.fits, for those not given one by one"""
    image: str | None = None
    """image in e-/s per pixel"""
    noise_map: str | None = None
    """standard deviation of every pixel in e-/s"""
    psf: str | None = None
    """point spread function on the image's pixels, a square of odd width; it is normalised"""
    mask: str | None = None
    """non-zero where a pixel does not count; none: all count that the field leaves"""


@dataclass(frozen=True)
class Cut:
    """Which part of the image is analysed, and on which rays."""

    pixel_arcsec: float = 0.05
    """pixel scale in arcsec; that of drizzled HST/ACS images"""
    field_arcsec: float = 5.0
    """side of the square that is cut out about the lens, in arcsec"""
    inner_arcsec: float = 0.6
    """radius about the lens within which pixels do not count: residuals of the lens light's subtraction"""
    outer_arcsec: float = 2.5
    """radius beyond which pixels do not count: neighbouring galaxies"""
    centre_pixel: tuple[float, float] | None = None
    """column and row of the lens, from 0; none: the middle of the image"""
    oversampling: int = 2
    """rays per pixel side"""
    margin_arcsec: float = 0.4
    """how far beyond the field rays reach, in arcsec; light from farther away is neglected"""
    noise_correlation: float = 0.0
    """correlation of the noise of neighbouring pixels, as drizzling leaves it; 0: independent.  A noise map that is
    scaled up so that sums over many pixels are right, as usual for drizzled images, is best taken as independent"""


@dataclass(frozen=True)
class LensImage:
    """A lens cut out and checked: image (ny, nx), optics, noise, mask (True: counts), and what was noticed."""

    image: np.ndarray
    optics: Optics
    noise: Noise
    mask: np.ndarray
    notes: tuple[str, ...]


def read(files: Files, cut: Cut, default: Path | None = None) -> LensImage:
    """The lens of these files; `default`: the folder for those that are not given.

    Raises OSError for files that are missing, all of them named, and ValueError for contents that cannot be used.
    """
    paths = _paths(files, default)
    arrays = {name: _array(path) for name, path in paths.items()}
    notes: list[str] = []
    problems = _problems(arrays, cut)
    if problems:
        raise ValueError("the lens cannot be analysed:\n" + "\n".join(f"- {p}" for p in problems))
    total = float(arrays["psf"].sum())
    if abs(total - 1) > COUNTS:
        notes.append(f"the point spread function sums to {total:.4f}; normalised to one")
    excluded = arrays.get("mask", np.zeros_like(arrays["image"])) != 0
    bad = ~(np.isfinite(arrays["image"]) & np.isfinite(arrays["noise_map"]) & (arrays["noise_map"] > 0)) & ~excluded
    if bad.any():
        notes.append(f"{bad.sum()} pixels without a finite value and a positive noise do not count")
    rows, columns = _window(arrays["image"].shape, cut)
    image, noise_map, counts = (v[rows, columns] for v in (arrays["image"], arrays["noise_map"], ~excluded & ~bad))
    grid = Grid(*image.shape, cut.pixel_arcsec, cut.oversampling)
    x, y = Grid(*image.shape, cut.pixel_arcsec).axes()
    r = np.hypot(x, y[:, None])
    mask = counts & (r > cut.inner_arcsec) & (r < cut.outer_arcsec)
    if mask.sum() < 100:
        raise ValueError(
            f"only {mask.sum()} pixels are left between {cut.inner_arcsec} and {cut.outer_arcsec} arcsec that count; "
            f"check cut.inner_arcsec, cut.outer_arcsec, cut.pixel_arcsec and the mask (non-zero: does not count)"
        )
    image, noise_map = np.where(mask, image, 0.0), np.where(mask, noise_map, np.median(noise_map[mask]))
    kernel = drizzle_kernel(cut.noise_correlation) if cut.noise_correlation else None
    optics = Optics(grid, arrays["psf"], margin=round(cut.margin_arcsec / cut.pixel_arcsec))
    return LensImage(image, optics, Noise(noise_map, kernel=kernel), mask, tuple(notes))


def _paths(files: Files, default: Path | None) -> dict[str, str]:
    folder = Path(files.folder) if files.folder else default
    paths, missing = {}, []
    for name in (*NEEDED, "mask"):
        given = getattr(files, name) or (str(folder / f"{name}.fits") if folder else None)
        exists = given is not None and Path(given.split("[")[0]).is_file()
        if exists:
            paths[name] = given
        elif name in NEEDED or getattr(files, name):
            missing.append(f"{name} ({given or 'not given'})")
    if missing:
        raise FileNotFoundError(
            f"these FITS files of the lens are missing: {', '.join(missing)}; give --files.folder, or each by "
            f"--files.image, --files.noise_map and --files.psf"
        )
    return paths


def _array(path: str) -> np.ndarray:
    name, _, number = path.partition("[")
    try:
        with fits.open(name) as file:
            parts = [file[int(number.rstrip("]"))]] if number else [h for h in file if np.ndim(h.data) == 2]
            if not parts or np.ndim(parts[0].data) != 2:
                raise ValueError(f"{path} holds no two-dimensional image; choose an extension by FILE[NUMBER]")
            _check_unit(parts[0].header.get("BUNIT"), path)
            return np.asarray(parts[0].data, dtype=np.float64)
    except (OSError, IndexError, TypeError) as error:
        raise OSError(f"cannot read {path} as FITS: {error}") from error


def _check_unit(unit: str | None, path: str) -> None:
    """Images without a unit are taken as e-/s; with one it has to be that."""
    if not unit:
        return
    try:
        found = u.Unit(unit.lower().replace("electrons", "electron"))
    except ValueError:
        raise ValueError(f"{path} has the unit {unit!r}, which is not understood; convert it to electron/s") from None
    if found not in (u.electron / u.s, u.dimensionless_unscaled):
        raise ValueError(f"{path} is in {unit}, but images are analysed in electron/s; divide by the exposure time")


def _problems(arrays: dict[str, np.ndarray], cut: Cut) -> list[str]:
    """Everything that makes an analysis impossible."""
    shape, psf = arrays["image"].shape, arrays["psf"]
    found = []
    for name in ("noise_map", "mask"):
        if name in arrays and arrays[name].shape != shape:
            found.append(f"the {name} has shape {arrays[name].shape}, the image {shape}; both are of the same pixels")
    if psf.shape[0] != psf.shape[1] or psf.shape[0] % 2 == 0:
        found.append(f"the point spread function must be a square of odd width, got {psf.shape}; cut or pad it")
    elif not np.isfinite(psf).all() or psf.sum() <= 0:
        found.append("the point spread function holds values that are not finite, or has no light")
    elif np.hypot(*(peak := np.array(divmod(int(psf.argmax()), len(psf))) - len(psf) // 2)) > 1.5:
        found.append(
            f"the point spread function of {psf.shape} pixels peaks {peak.tolist()} rows and columns off its middle "
            f"and would shift the image; centre it"
        )
    if not np.isfinite(arrays["noise_map"]).any() or not (arrays["noise_map"] > 0).any():
        found.append("the noise map has no positive values; it must hold standard deviations, not weights or variances")
    rows, columns = _window(shape, cut)
    if rows.start < 0 or columns.start < 0 or rows.stop > shape[0] or columns.stop > shape[1]:
        found.append(f"a field of {cut.field_arcsec} arcsec reaches beyond the image, {shape} pixels; make it smaller")
    return found


def _window(shape: tuple[int, int], cut: Cut) -> tuple[slice, slice]:
    """Rows and columns of the field; its middle is the lens's pixel, or the edge nearest to the middle of it."""
    column, row = cut.centre_pixel or ((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    n = round(cut.field_arcsec / cut.pixel_arcsec)
    slices = []
    for centre in (row, column):
        whole = n + (n % 2 != round(2 * centre + 1) % 2)  # so that the lens lies in the middle, on a pixel or an edge
        start = round(centre - (whole - 1) / 2)
        slices.append(slice(start, start + whole))
    return slices[0], slices[1]
