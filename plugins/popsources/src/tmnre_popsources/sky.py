"""The sphere: HEALPix geometry of a region of interest, and maps read with their assumptions said.

Outside, maps are HEALPix RING in Galactic coordinates, and masks are true where masked.  Inside, a map is the vector of
the unmasked pixels in NESTED order, so that what is near on the sky is near in memory.  healpy does the geometry, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import healpy
import numpy as np
import torch
from torch import Tensor

GALACTIC = "G"
EXPOSURE_CM2_S = (1e8, 1e14)
"""range an exposure in cm^2 s lies in; in m^2 s, or multiplied by a solid angle, it would not"""
LIKELIER = 1.5
"""ratio of variances on large scales from which on another order is believed; noise alone has a ratio of one"""

FLAT = 1e-6
"""a map that varies by less has no order to be seen"""


class Sky:
    """Unmasked pixels of a HEALPix map.

    masked (12 nside^2,) bool, RING; margin_deg : sources are followed as far outside of the region
    """

    def __init__(self, masked: np.ndarray, margin_deg: float = 0.0) -> None:
        masked = np.asarray(masked, dtype=bool)
        self.nside = healpy.npix2nside(len(masked))
        nest = np.arange(len(masked))
        self.ring_of_nest = healpy.nest2ring(self.nside, nest)
        inside = ~masked[self.ring_of_nest]
        self.nest = nest[inside]
        """NESTED index (P,) of the region's pixels"""
        self.place = np.full(len(masked) + 1, -1)
        """place in the region of every NESTED index, -1 outside; and of -1"""
        self.place[self.nest] = np.arange(len(self.nest))
        self.pixel_sr = healpy.nside2pixarea(self.nside)
        self.wide = self._widened(inside, margin_deg)
        """NESTED index of the pixels whose sources are drawn"""

    def _widened(self, inside: np.ndarray, margin_deg: float) -> np.ndarray:
        if margin_deg <= 0:
            return self.nest
        side = np.degrees(healpy.nside2resol(self.nside))
        for _ in range(int(np.ceil(margin_deg / side)) + 1):
            neighbours = healpy.get_all_neighbours(self.nside, np.flatnonzero(inside), nest=True)
            inside = inside.copy()
            inside[neighbours[neighbours >= 0]] = True
        return np.flatnonzero(inside)

    def __len__(self) -> int:
        return len(self.nest)

    def of_ring(self, values: np.ndarray) -> np.ndarray:
        """The region's pixels (P,) of a RING map."""
        return np.asarray(values)[self.ring_of_nest[self.nest]]

    def to_ring(self, values: np.ndarray, fill: float = healpy.UNSEEN) -> np.ndarray:
        """A RING map of the region's pixels (P,)."""
        whole = np.full(12 * self.nside**2, fill, dtype=float)
        whole[self.ring_of_nest[self.nest]] = values
        return whole

    def neighbours(self) -> Tensor:
        """Places (P, 9) of every pixel's surroundings, itself first, P where there is none."""
        around = healpy.get_all_neighbours(self.nside, self.nest, nest=True)
        places = self.place[np.vstack([self.nest, around]).T]
        return torch.from_numpy(np.where(places < 0, len(self), places))

    def galactic(self) -> tuple[np.ndarray, np.ndarray]:
        """l and b in degrees (P,)."""
        return healpy.pix2ang(self.nside, self.nest, nest=True, lonlat=True)


def latitude_mask(nside: int, least_deg: float) -> np.ndarray:
    """RING mask that is true where |b| < least_deg."""
    _, b_deg = healpy.pix2ang(nside, np.arange(12 * nside**2), lonlat=True)
    return np.abs(b_deg) < least_deg


def inner_mask(nside: int, half_width_deg: float, plane_deg: float) -> np.ndarray:
    """RING mask that is false in the inner Galaxy, |l| and |b| <= half_width_deg, off the plane, |b| >= plane_deg."""
    l_deg, b_deg = healpy.pix2ang(nside, np.arange(12 * nside**2), lonlat=True)
    off = np.maximum(np.abs((l_deg + 180) % 360 - 180), np.abs(b_deg))
    return (off > half_width_deg) | (np.abs(b_deg) < plane_deg)


def degrade(values: np.ndarray, nside: int, what: str) -> np.ndarray:
    """A RING map at a coarser nside: "sum" for counts and their templates, "mean" for exposures, "any" for masks."""
    if what == "any":
        return healpy.ud_grade(np.asarray(values, dtype=float), nside) > 0
    return healpy.ud_grade(np.asarray(values, dtype=float), nside, power=-2 if what == "sum" else 0)


@dataclass(frozen=True)
class Observation:
    """Counts, exposure [cm^2 s] and templates [counts] as RING maps at one nside; `assumed` says what was assumed."""

    counts: np.ndarray
    exposure: np.ndarray
    templates: dict[str, np.ndarray]
    masked: np.ndarray
    assumed: tuple[str, ...]

    @property
    def nside(self) -> int:
        """Of all of its maps."""
        return healpy.npix2nside(len(self.counts))

    def at(self, nside: int) -> Observation:
        """The same at a coarser nside."""
        if nside == self.nside:
            return self
        if nside > self.nside:
            raise ValueError(f"the maps have nside {self.nside}; they cannot be had at a finer {nside}")
        return Observation(
            np.round(degrade(self.counts, nside, "sum")),
            degrade(self.exposure, nside, "mean"),
            {name: degrade(t, nside, "sum") for name, t in self.templates.items()},
            degrade(self.masked, nside, "any"),
            self.assumed,
        )


def read_observation(counts: Path, exposure: Path, templates: dict[str, Path], mask: Path | None = None) -> Observation:
    """Maps from FITS or .npy files, checked.

    Raises ValueError where maps do not fit together, are not in Galactic coordinates, or hold what they cannot.
    """
    assumed: list[str] = []
    n = read_map(counts, assumed)
    if (n < 0).any() or np.abs(n - np.round(n)).max() > 1e-3:
        raise ValueError(f"{counts}: counts must be whole numbers, not negative; this is a flux or a smoothed map")
    e = read_template(exposure, assumed)
    low, high = EXPOSURE_CM2_S
    if not (low < np.median(e[e > 0]) < high):
        raise ValueError(f"{exposure}: median {np.median(e):.2g} is no exposure in cm^2 s, of {low:g} to {high:g}")
    assumed.append(f"{exposure.name}: exposure in cm^2 s, mean {e.mean():.3g}")
    found = {name: read_template(path, assumed) for name, path in templates.items()}
    assumed += [f"{path.name}: counts per pixel, as the exposure makes them" for path in templates.values()]
    masked = np.zeros(len(n), dtype=bool) if mask is None else read_map(mask, assumed) > 0.5
    for path, values in ((exposure, e), *((templates[name], t) for name, t in found.items())):
        if len(values) != len(n):
            raise ValueError(f"{path} has {len(values)} pixels, {counts} has {len(n)}; bring them to one nside first")
    if mask is not None:
        assumed.append(f"{mask.name}: true where masked, {masked.mean():.1%} of the sky")
    _check_order(n, counts)
    return Observation(np.round(n), e, found, masked, tuple(assumed))


def read_template(path: Path, assumed: list[str]) -> np.ndarray:
    """A RING map, as `read_map`, of what cannot be negative; also refused is one that looks like NESTED order."""
    values = read_map(path, assumed)
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(f"{path} holds values that are negative or not finite")
    _check_order(values / max(values.mean(), 1e-300), path)
    return values


def read_map(path: Path, assumed: list[str]) -> np.ndarray:
    """A RING map of a FITS or .npy file; what the file does not say is added to `assumed`."""
    path = Path(path)
    if path.suffix == ".npy":
        values = np.load(path).astype(float)
        if values.ndim != 1 or not healpy.isnpixok(len(values)):
            raise ValueError(f"{path}: shape {values.shape} is no HEALPix map")
        assumed.append(f"{path.name}: RING, Galactic (a .npy file does not say)")
        return values
    values, header = healpy.read_map(path, h=True, dtype=float)  # in RING, whatever the file's order
    keys = {str(key).upper(): value for key, value in header}
    system = str(keys.get("COORDSYS", "")).strip().upper()[:1]
    if system and system != GALACTIC:
        raise ValueError(
            f"{path} is in coordinates {keys['COORDSYS']}; rotate it to Galactic ones (healpy.Rotator) first"
        )
    if not system:
        assumed.append(f"{path.name}: Galactic (no COORDSYS in the header)")
    return values


def _check_order(values: np.ndarray, path: Path) -> None:
    """Whether structure on large scales is where RING order puts it: read in the wrong order, it averages out."""
    nside = healpy.npix2nside(len(values))
    bright = np.log1p(values)
    if nside < 8 or np.ptp(bright) < FLAT:
        return
    ring, nested = (
        healpy.ud_grade(bright, max(2, nside // 8), order_in=order, order_out=order).var()
        for order in ("RING", "NESTED")
    )
    if nested > LIKELIER * ring:
        raise ValueError(
            f"{path}: the map has more structure when read in NESTED order; it is probably not in RING order"
        )
