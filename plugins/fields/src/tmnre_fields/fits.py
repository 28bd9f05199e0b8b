"""FITS files of a posterior: mean, standard deviation and draws; images of flat skies, HEALPix maps of the sphere.

Also reads images, from FITS or numpy files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import healpy
import numpy as np
from astropy.io import fits

from tmnre.files import write_whole
from tmnre_fields.sequential import Found


def read_image(path: Path, pixels: int) -> np.ndarray:
    """A square image (pixels, pixels) float32: an array in a .npy file, or the first image of a FITS file.

    Raises FileNotFoundError where there is no such file, ValueError for what is no image of that size.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there")
    if path.suffix == ".npy":
        image = np.load(path, allow_pickle=False)
    else:
        try:
            with fits.open(path, memmap=False) as units:
                found = [unit.data for unit in units if unit.is_image and unit.data is not None]
        except OSError as error:
            raise ValueError(f"{path} is neither FITS nor .npy: {error}") from error
        if not found:
            raise ValueError(f"{path} holds no image")
        image = found[0]
    if image.shape != (pixels, pixels):
        raise ValueError(f"{path} must hold an image of shape ({pixels}, {pixels}), got {image.shape}")
    return image.astype(np.float32)


def images(found: Found, folder: Path, names: Sequence[str]) -> None:
    """field_NAME.fits for every component of a flat sky: image extensions MEAN, SD and DRAWS (draw, row, column)."""
    for i, name in enumerate(names):
        units = [fits.PrimaryHDU()]
        for label, values in (("MEAN", found.mean[i]), ("SD", found.sd[i]), ("DRAWS", found.draws[:, i])):
            units.append(fits.ImageHDU(values.astype(np.float32), name=label))
        write_whole(folder / f"field_{name}.fits", fits.HDUList(units).writeto)


def healpix_maps(found: Found, folder: Path, names: Sequence[str], unit: str) -> None:
    """field_NAME.fits for every component on the sphere: a HEALPix table, RING, of columns MEAN, SD, DRAW_001, ..."""
    for i, name in enumerate(names):
        columns = ["MEAN", "SD", *(f"DRAW_{s + 1:03d}" for s in range(len(found.draws)))]
        values = [found.mean[i], found.sd[i], *found.draws[:, i]]
        write_whole(
            folder / f"field_{name}.fits",
            lambda path, values=values, columns=columns: healpy.write_map(
                path, values, column_names=columns, column_units=unit, dtype=np.float32, overwrite=True
            ),
        )
