"""What a mock image is taken with: settings from which optics and noise are made."""

from __future__ import annotations

from dataclasses import dataclass

from tmnre_lensing.noise import Noise
from tmnre_lensing.optics import Grid, Optics


@dataclass(frozen=True)
class Camera:
    """Pixels, blur and noise of a mock image."""

    pixels: int = 40
    """pixels along each side; with the pixel scale a field of 5 arcsec, twice the largest Einstein ring"""
    pixel_arcsec: float = 0.125
    """pixel scale in arcsec; between Hubble's ACS (0.05) and Euclid's VIS (0.1) and the ground"""
    psf_fwhm_arcsec: float = 0.2
    """full width at half maximum of the Gaussian point spread function in arcsec; 0: none"""
    noise_e_per_s: float = 0.3
    """standard deviation of the noise per pixel in e-/s, independent and Gaussian (sky-dominated exposure)"""
    oversampling: int = 2
    """rays per pixel side; the worst pixel of the smallest disc, 0.1 arcsec, is then off by less than half the noise"""

    @property
    def grid(self) -> Grid:
        """Pixels and rays."""
        return Grid(self.pixels, self.pixels, self.pixel_arcsec, self.oversampling)

    @property
    def optics(self) -> Optics:
        """Rays to pixels."""
        return Optics.gaussian(self.grid, self.psf_fwhm_arcsec)

    @property
    def noise(self) -> Noise:
        """White, the same everywhere."""
        return Noise(self.noise_e_per_s)
