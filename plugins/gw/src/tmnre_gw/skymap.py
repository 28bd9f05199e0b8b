"""Sky maps from joint posterior draws of right ascension, declination and distance, as ligo.skymap reads them.

The probability per area is a kernel estimate on the sphere: Fisher kernels about the draws, each as wide as the
distance to its k-th neighbour times a factor that maximises the likelihood of every draw under all others.  Pixels are
divided where they hold much probability (multi-order, UNIQ numbering; Fernique et al. 2015).

In every pixel the distance has a conditional density N r^2 exp(-(r - mu)^2 / 2 sigma^2) (Singer et al. 2016, ApJL 829
L15); mu, sigma, N follow from the mean and the standard deviation of the draws' distances, weighted with the kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import healpy
import numpy as np
from astropy.table import Table
from scipy.spatial import cKDTree
from scipy.special import log_ndtr

from tmnre.files import write_whole

MOST_DRAWS = 5000
COARSE, FINE = 8, 256
"""nside of the first pixels and of the smallest: 7 and 0.23 degrees"""
SPLIT = 2e-4
"""a pixel that holds more probability is divided"""
NEIGHBOURS = 20
FACTORS = np.geomspace(0.2, 2.0, 11)
CHUNK = 256
JUDGED = 1000
"""draws whose likelihood under all others decides on the kernels' width"""


@dataclass(frozen=True)
class SkyMap:
    """Pixels uniq (P,), probability density (P,) in 1/sr and the distance's mu, sigma (Mpc) and norm (1/Mpc^2).

    mean_mpc, sd_mpc: of the distance over the whole sky.
    """

    uniq: np.ndarray
    density: np.ndarray
    mu: np.ndarray
    sigma: np.ndarray
    norm: np.ndarray
    mean_mpc: float
    sd_mpc: float

    @property
    def area(self) -> np.ndarray:
        """Solid angle (P,) of the pixels in sr."""
        return healpy.nside2pixarea(1) / 4.0 ** _order_and_pixel(self.uniq)[0]

    def credible_area_deg2(self, mass: float = 0.9) -> float:
        """Area of the smallest region with so much probability."""
        order = np.argsort(-self.density)
        held = np.cumsum((self.density * self.area)[order])
        return float(np.interp(mass, held, np.cumsum(self.area[order])) * np.degrees(1) ** 2)

    def at(self, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        """Probability density (N,) in 1/sr in given directions."""
        order, pixel = _order_and_pixel(self.uniq)
        found = np.full(np.shape(ra), np.nan)
        for k in np.unique(order):
            rows = np.flatnonzero(order == k)
            table = dict(zip(pixel[rows].tolist(), self.density[rows].tolist(), strict=True))
            here = healpy.ang2pix(2 ** int(k), np.pi / 2 - dec, ra, nest=True)
            value = np.array([table.get(p, np.nan) for p in here.ravel()]).reshape(here.shape)
            found = np.where(np.isnan(found), value, found)
        return found

    def write(self, path: Path, *, event: str, detectors: tuple[str, ...], gps_s: float) -> None:
        """A multi-order FITS file with the columns and keywords of LIGO, Virgo and KAGRA's."""
        columns = {
            "UNIQ": (self.uniq, None),
            "PROBDENSITY": (self.density, "1 / sr"),
            "DISTMU": (self.mu, "Mpc"),
            "DISTSIGMA": (self.sigma, "Mpc"),
            "DISTNORM": (self.norm, "1 / Mpc2"),
        }
        table = Table({name: values for name, (values, _) in columns.items()})
        for name, (_, unit) in columns.items():
            table[name].unit = unit
        table.meta = {
            "PIXTYPE": "HEALPIX",
            "ORDERING": "NUNIQ",
            "COORDSYS": "C",
            "INDXSCHM": "EXPLICIT",
            "MOCORDER": int(_order_and_pixel(self.uniq)[0].max()),
            "OBJECT": event,
            "INSTRUME": ",".join(detectors),
            "DATE-OBS": _utc(gps_s),
            "DISTMEAN": self.mean_mpc,
            "DISTSTD": self.sd_mpc,
            "CREATOR": "tmnre-gw",
        }
        write_whole(path, lambda temporary: table.write(temporary, format="fits", overwrite=True))


def sky_map(ra: np.ndarray, dec: np.ndarray, distance_mpc: np.ndarray, *, seed: int = 0) -> SkyMap:
    """The map of joint draws (S,) of equal weight; of more than MOST_DRAWS a random part."""
    if len(ra) > MOST_DRAWS:
        kept = np.random.default_rng(seed).choice(len(ra), MOST_DRAWS, replace=False)
        ra, dec, distance_mpc = ra[kept], dec[kept], distance_mpc[kept]
    at = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    kappa = _concentrations(at)
    done: list[tuple[np.ndarray, ...]] = []
    nside, pixel = COARSE, np.arange(healpy.nside2npix(COARSE))
    while len(pixel):
        density, mean, sd = _kernels(np.stack(healpy.pix2vec(nside, pixel, nest=True), axis=1), at, kappa, distance_mpc)
        whole = density * healpy.nside2pixarea(nside) < SPLIT if nside < FINE else np.ones(len(pixel), dtype=bool)
        # kernels narrower than a pixel can hide between the centres
        hidden = np.bincount(healpy.vec2pix(nside, *at.T, nest=True), minlength=healpy.nside2npix(nside))[pixel]
        whole &= (hidden < SPLIT * len(at)) | (nside == FINE)
        done.append((4 * nside**2 + pixel[whole], density[whole], mean[whole], sd[whole]))
        nside, pixel = 2 * nside, (4 * pixel[~whole][:, None] + np.arange(4)).ravel()
    uniq, density, mean, sd = (np.concatenate(part) for part in zip(*done, strict=True))
    area = healpy.nside2pixarea(1) / 4.0 ** _order_and_pixel(uniq)[0]
    density = density / (density * area).sum()
    mu, sigma, norm = distance_parameters(mean, sd)
    order = np.argsort(uniq)
    columns = (column[order] for column in (uniq, density, mu, sigma, norm))
    return SkyMap(*columns, float(distance_mpc.mean()), float(distance_mpc.std()))


def _kernels(centres: np.ndarray, at: np.ndarray, kappa: np.ndarray, distance: np.ndarray):
    """Density (P,) at unit vectors (P, 3), and mean and standard deviation (P,) of the distance there."""
    parts = []
    log_norm = _log_norm(kappa)
    # powers of the distance about its mean, so that single precision is enough for the spread
    middle = distance.mean()
    powers = np.stack([np.ones(len(at)), distance - middle, (distance - middle) ** 2], axis=1).astype("f4")
    for centre in np.array_split(centres, max(1, -(-len(centres) // CHUNK))):
        log_k = (log_norm + kappa * (centre @ at.T - 1)).astype("f4")
        peak = log_k.max(1, keepdims=True)
        total, first, second = (np.exp(log_k - peak) @ powers).astype(float).T
        mean = first / total
        sd = np.sqrt(np.maximum(second / total - mean**2, 0))
        parts.append((np.exp(peak[:, 0].astype(float)) * total / len(at), middle + mean, sd))
    density, mean, sd = (np.concatenate(part) for part in zip(*parts, strict=True))
    # a single draw has no spread; the kernel estimate does not know less than a hundredth
    return density, mean, np.maximum(sd, 0.01 * mean)


def _log_norm(kappa: np.ndarray) -> np.ndarray:
    """Fisher density k exp(k (cos - 1)) / 2 pi (1 - exp(-2 k)) at cos = 1."""
    return np.log(kappa / (2 * np.pi)) - np.log(-np.expm1(-2 * kappa))


def _concentrations(at: np.ndarray) -> np.ndarray:
    """Kernel concentrations (S,) by the distance to the k-th neighbour, scaled for the best likelihood left out."""
    far, _ = cKDTree(at).query(at, k=min(NEIGHBOURS, len(at) - 1) + 1)
    width = np.maximum(far[:, -1], 1e-4)
    judged = np.linspace(0, len(at) - 1, min(JUDGED, len(at))).astype(int)
    cosine = at[judged] @ at.T - 1

    def left_out(factor: float) -> float:
        kappa = 1 / np.square(factor * width)
        log_k = (_log_norm(kappa) + kappa * cosine).astype("f4")
        log_k[np.arange(len(judged)), judged] = -np.inf
        peak = log_k.max(1, keepdims=True)
        # draws far from all others would decide alone: the densest 99% count
        each = np.sort(peak[:, 0] + np.log(np.exp(log_k - peak).sum(1)))
        return float(each[len(each) // 100 :].mean())

    best = max(FACTORS, key=left_out)
    return 1 / np.square(best * width)


def distance_parameters(mean: np.ndarray, sd: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """mu, sigma and norm (P,) of r^2 exp(-(r - mu)^2 / 2 sigma^2) with given mean and standard deviation.

    With z = mu / sigma and H the ratio of the normal density to its integral up to z, the k-th moment is
    sigma^k x_(k+2) / x_2, where

        x_2 = z^2 + 1 + z H      x_3 = z^3 + 3 z + (z^2 + 2) H      x_4 = z^4 + 6 z^2 + 3 + (z^3 + 5 z) H

    mean / sd has no solution below that of z -> -infinity, sqrt(3); there the mean is kept.
    """
    ratio = np.maximum(mean / sd, 1.75)
    grid = np.concatenate([np.linspace(-30, 10, 4001), np.geomspace(10.01, 1e4, 2000)])
    z = np.interp(ratio, _ratio(grid), grid)
    x2, x3, _ = _moments(z)
    sigma = mean * x2 / x3
    log_norm = -2 * np.log(sigma) - np.log(x2) - log_ndtr(z)
    return z * sigma, sigma, np.exp(log_norm)


def _moments(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    hazard = np.exp(-0.5 * z**2 - 0.5 * np.log(2 * np.pi) - log_ndtr(z))
    x2 = z**2 + 1 + z * hazard
    x3 = z**3 + 3 * z + (z**2 + 2) * hazard
    x4 = z**4 + 6 * z**2 + 3 + (z**3 + 5 * z) * hazard
    return x2, x3, x4


def _ratio(z: np.ndarray) -> np.ndarray:
    x2, x3, x4 = _moments(z)
    return x3 / np.sqrt(np.maximum(x4 * x2 - x3**2, 1e-300))


def _order_and_pixel(uniq: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = (np.log2(uniq // 4) // 2).astype(int)
    return order, uniq - 4 * 4**order


def _utc(gps_s: float) -> str:
    from astropy.time import Time

    return str(Time(gps_s, format="gps", scale="utc").isot)
