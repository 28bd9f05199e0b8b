"""WMAP's V and W bands at low resolution: maps, mask, noise from their own polarisation, a model of what is in them.

    x_nu = W_nu ( CMB + r_nu foreground ) + unresolved + noise_nu

in microkelvin, thermodynamic.  The maps are averages over pixels, so W_nu is the pixel window times the band's beam.
The CMB beyond lmax, which these pixels cannot resolve but do contain, is the same in both bands; it is simulated and
marginalised.  Noise: Q and U are all but free of signal at this resolution and have twice the variance of I each (two
orthogonal polarisers measure I, their difference Q), so (Q^2 + U^2) / 4, smoothed, is the variance of I.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import healpy
import numpy as np
import torch
from torch import Tensor

from tmnre_fields.forward import Component, FieldModel
from tmnre_fields.pixel_window import pixel_window
from tmnre_fields.response import Response
from tmnre_fields.sphere import Sphere

BANDS = ("V", "W")
MAP = "wmap_band_iqumap_r9_7yr_{}_v4_udgraded32.fits"
MASK = "wmap_temperature_analysis_mask_r9_7yr_v4_udgraded32.fits"
BEAM_DEG = {"V": 0.35, "W": 0.22}
"""full width at half maximum, Bennett et al. 2003 (ApJ 583, 1), table 5"""
FREQUENCY_GHZ = {"V": 60.8, "W": 93.5}
"""effective for thermal sources, Jarosik et al. 2003 (ApJS 145, 413)"""
FREE_FREE_INDEX = -2.15
"""brightness temperature of free-free emission, nu^-2.15, Bennett et al. 2003 (ApJS 148, 97)"""
LARGEST = 256
"""multipole up to which the table of C_l goes, far beyond what pixels of nside 32 pass"""


@dataclass(frozen=True)
class Maps:
    """What was observed, microkelvin."""

    x: Tensor
    """(V, pixels), zero where masked"""
    mask: Tensor
    """(V, pixels), True where there are data"""
    noise: Tensor
    """(V, pixels) standard deviation"""


def lcdm(largest: int = LARGEST) -> np.ndarray:
    """C_l (largest + 1,) in microkelvin^2 of WMAP's seven-year best fit (tables/wmap7_lcdm.txt); 0 below l = 2."""
    ell, d_ell = np.loadtxt(str(files("tmnre_fields") / "tables" / "wmap7_lcdm.txt"), unpack=True)
    c = np.zeros(largest + 1)
    c[2:] = (d_ell * 2 * np.pi / (ell * (ell + 1)))[: largest - 1]
    return c


def read(folder: Path, nside: int, smoothing_deg: float = 10.0) -> Maps:
    """The bands at nside 32 or below.

    Raises FileNotFoundError where a file is not there.
    """
    for name in (MAP.format("V"), MAP.format("W"), MASK):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name} is not there; WMAP's maps are at https://lambda.gsfc.nasa.gov, these, of nside 32, "
                f"in healpy's test data (https://github.com/healpy/healpy, test/data); set --folder or $TMNRE_DATA"
            )
    mask = healpy.read_map(folder / MASK) > 0.5
    mask_low = healpy.ud_grade(mask.astype(float), nside) > 0.99
    maps, noise = [], []
    for band in BANDS:
        # the file is in millikelvin
        i, q, u = 1e3 * healpy.read_map(folder / MAP.format(band), field=(0, 1, 2))
        weight = healpy.smoothing(mask.astype(float), fwhm=np.radians(smoothing_deg))
        variance = healpy.smoothing((q**2 + u**2) / 4 * mask, fwhm=np.radians(smoothing_deg)) / np.maximum(weight, 0.05)
        # inside the mask nothing depends on it
        variance = np.where(mask, variance, np.median(variance[mask]))
        share = (nside / 32) ** 2
        maps.append(healpy.ud_grade(i, nside))
        noise.append(np.sqrt(share * healpy.ud_grade(variance, nside)))
    x = torch.from_numpy(np.stack(maps)).float()
    where = torch.from_numpy(np.stack([mask_low] * len(BANDS)))
    return Maps(x * where, where, torch.from_numpy(np.stack(noise)).float())


def thermodynamic(frequency_ghz: float) -> float:
    """dT / dT_antenna at the CMB's 2.725 K: (e^x - 1)^2 / (x^2 e^x), x = h nu / k T."""
    x = frequency_ghz / 56.78
    return (math.exp(x) - 1) ** 2 / (x**2 * math.exp(x))


def free_free_ratio() -> float:
    """Free-free emission in W over that in V, both thermodynamic."""
    v, w = (FREQUENCY_GHZ[band] for band in BANDS)
    return (w / v) ** FREE_FREE_INDEX * thermodynamic(w) / thermodynamic(v)


def model(
    maps: Maps, nside: int, lmax: int, *, offset_uk: float, foreground_uk: float, noise_factor: float = 1.0
) -> FieldModel:
    """The simulator of both bands.

    offset_uk : prior sd of monopole and dipole, which maps may keep.
    foreground_uk : prior rms of free-free emission in V outside the mask, spectrum (l + 1)^-2.5; 0: no such component.
    """
    sky = Sphere(nside, lmax)
    c = lcdm()
    c[0], c[1] = 4 * np.pi * offset_uk**2, 4 * np.pi / 3 * offset_uk**2
    ell = np.arange(LARGEST + 1)
    window = pixel_window(nside, LARGEST)
    beams = np.stack([window * healpy.gauss_beam(np.radians(BEAM_DEG[band]), LARGEST) for band in BANDS])
    at = sky.wavenumber.long().numpy()
    components = [Component("cmb", torch.from_numpy(c[at]).float())]
    mixing = [[1.0], [1.0]]
    if foreground_uk > 0:
        shape = (1.0 + ell) ** -2.5
        shape *= foreground_uk**2 / np.sum((2 * ell + 1) / (4 * np.pi) * shape)
        components.append(Component("foreground", torch.from_numpy(shape[at]).float()))
        mixing = [[1.0, 1.0], [1.0, free_free_ratio()]]
    beyond = Sphere(nside, LARGEST)
    rest = np.where(ell > lmax, c * beams.mean(0) ** 2, 0)
    root = torch.from_numpy(np.sqrt(rest[beyond.wavenumber.long().numpy()])).float()

    def unresolved(n: int, generator: torch.Generator) -> Tensor:
        # the beams differ by less than 5% where the pixel still passes anything: one map for both bands
        return beyond.fields(root.to(generator.device) * beyond.white((n, 1), generator))

    response = Response(sky, torch.tensor(mixing), torch.from_numpy(beams[:, at]).float())
    return FieldModel(response, components, noise=maps.noise * noise_factor, mask=maps.mask, nuisance=unresolved)
