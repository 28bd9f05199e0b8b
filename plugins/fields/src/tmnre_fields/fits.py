"""FITS files of a posterior: mean, standard deviation and draws; images of flat skies, HEALPix maps of the sphere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import healpy
import numpy as np
from astropy.io import fits

from tmnre.files import write_whole
from tmnre_fields.sequential import Found


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
