"""From rays to pixels: a grid of rays, the average over each pixel, and the point spread function, by FFT.

Rays reach beyond the field by half the width of the point spread function, because light from there is blurred into it.
A point spread function measured on pixels blurs pixels; a Gaussian one is known between them as well and blurs rays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import fft, special
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """Square pixels: `ny` rows, `nx` columns, of `pixel_arcsec`, `oversampling` rays along each side of a pixel.

    x grows to the right and y upwards, row 0 is at the bottom, the origin in the middle.
    """

    ny: int
    nx: int
    pixel_arcsec: float
    oversampling: int = 1

    @property
    def extent_arcsec(self) -> tuple[float, float, float, float]:
        """Edges of the field (left, right, bottom, top)."""
        x, y = self.nx * self.pixel_arcsec / 2, self.ny * self.pixel_arcsec / 2
        return (-x, x, -y, y)

    def axes(self, margin: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """x and y in arcsec of the rays, with so many pixels more on every side."""
        fine = self.pixel_arcsec / self.oversampling
        counts = ((n + 2 * margin) * self.oversampling for n in (self.nx, self.ny))
        x, y = ((np.arange(m) - (m - 1) / 2) * fine for m in counts)
        return x, y

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of an image."""
        return (self.ny, self.nx)


class Optics:
    """Surface brightness along rays -> images; a plain object of numpy arrays, so that worker processes can have it.

    psf (k, k), k odd, on pixels or, with `fine`, on rays; None: none.  It is normalised here, and kept.
    margin : pixels beyond the field to which rays reach; None: as far as light is blurred.  Fewer where there is no
        light beyond, for a point spread function with wide wings
    """

    def __init__(
        self, grid: Grid, psf: np.ndarray | None = None, *, fine: bool = False, margin: int | None = None
    ) -> None:
        self.grid, self.fine = grid, fine
        self.step = grid.oversampling if fine else 1
        reach = 0 if psf is None else math.ceil(psf.shape[0] // 2 / self.step)
        self.margin = reach if margin is None else min(margin, reach)
        self.axes = grid.axes(self.margin)
        # lengths that the FFT is quick at, with room for zeros, so that nothing wraps round into the field
        lengths = ((n + self.margin + reach) * self.step for n in grid.shape)
        self._lengths = tuple(fft.next_fast_len(length, real=True) for length in lengths)
        self.psf = None if psf is None else np.asarray(psf, dtype=np.float64) / np.sum(psf)
        self.transfer = None if self.psf is None else self._transfer(self.psf)

    @classmethod
    def gaussian(cls, grid: Grid, fwhm_arcsec: float) -> Optics:
        """With a Gaussian point spread function, integrated over the ray's cell; 0: none."""
        if fwhm_arcsec == 0:
            return cls(grid)
        sigma = fwhm_arcsec / math.sqrt(8 * math.log(2)) * grid.oversampling / grid.pixel_arcsec
        half = math.ceil(4 * sigma)
        line = np.diff(special.ndtr((np.arange(2 * half + 2) - half - 0.5) / sigma))
        return cls(grid, np.outer(line, line), fine=True)

    def _transfer(self, psf: np.ndarray) -> np.ndarray:
        if psf.ndim != 2 or psf.shape[0] != psf.shape[1] or psf.shape[0] % 2 == 0:
            raise ValueError(f"the point spread function must be a square of odd width, got shape {psf.shape}")
        kernel = np.zeros(self._lengths)
        kernel[: len(psf), : len(psf)] = psf
        return np.fft.rfft2(np.roll(kernel, (-(len(psf) // 2),) * 2, (0, 1)))

    def rays(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """x and y in arcsec of all rays (P,), row after row from the bottom."""
        x, y = (torch.from_numpy(axis).to(device, dtype) for axis in self.axes)
        return x.repeat(len(y)), y.repeat_interleave(len(x))

    def image(self, brightness: Tensor) -> Tensor:
        """Images (N, ny, nx) in flux per pixel of brightness (N, P) per square arcsec.

        The convolution is circular: what wraps round stays in the margin.
        """
        grid, over = self.grid, self.grid.oversampling
        light = brightness.unflatten(-1, (len(self.axes[1]), len(self.axes[0])))
        if self.fine:
            light = self._blur(light)
        if over > 1:
            light = light.unflatten(-1, (-1, over)).mean(-1).unflatten(-2, (-1, over)).mean(-2)
        if not self.fine:
            light = self._blur(light)
        m = self.margin
        return light[..., m : m + grid.ny, m : m + grid.nx] * grid.pixel_arcsec**2

    def _blur(self, light: Tensor) -> Tensor:
        if self.transfer is None:
            return light
        kind = torch.complex64 if light.dtype == torch.float32 else torch.complex128
        transfer = torch.from_numpy(self.transfer).to(light.device, kind)
        blurred = torch.fft.irfft2(torch.fft.rfft2(light, s=self._lengths) * transfer, s=self._lengths)
        return blurred[..., : light.shape[-2], : light.shape[-1]]
