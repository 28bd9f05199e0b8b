"""An exponentiated Gaussian random field in noise, x = exp(z) + noise, and its linear variant x = z + noise.

z is a periodic Gaussian random field with zero mean and the spectrum of `tmnre_fields.spectrum`; its exponential is
log-normal in every pixel, like the density of galaxies or of cold gas.  With `exponentiate=False` the likelihood of the
spectrum's parameters is known exactly (`spectrum.whittle`), which is what the method is checked against.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tmnre import LogUniform, Prior, Simulator, Uniform
from tmnre_fields import spectrum


@dataclass(frozen=True)
class Grid:
    """The patch, its noise and what is fixed of the spectrum."""

    pixels: int = 64
    """pixels along each side of the periodic patch; 4096 pixels are 32 annuli of wavenumber"""
    noise: float = 0.1
    """standard deviation of the white noise per pixel, in units of x; a tenth of the field's median, exp(0)"""
    knee_cycles_per_box: float = 3.0
    """wavenumber below which the spectrum flattens, in cycles per box; well inside the patch, so the knee is seen"""
    exponentiate: bool = True
    """x = exp(z) + noise; False: x = z + noise, whose likelihood is known exactly"""


PRIOR = Prior(rms=LogUniform(0.2, 2.0), slope=Uniform(1.5, 5.0))
LABELS = {"rms": r"$\sigma_z$", "slope": "slope"}


class FieldSimulator(Simulator):
    """Fields: stores {"z": (N, n, n)}, observes {"x": (N, n, n)} with noise drawn anew."""

    any_device = True

    def __init__(self, grid: Grid = Grid(), prior: Prior = PRIOR) -> None:  # noqa: B008 - frozen
        if prior.names != PRIOR.names:
            raise ValueError(f"the field simulator needs a prior of {list(PRIOR.names)}, got {list(prior.names)}")
        self.grid = grid
        self.prior = prior

    def simulate(self, theta: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Gaussian fields z (N, n, n) float32."""
        n = self.grid.pixels
        rms, slope = torch.from_numpy(np.asarray(theta, dtype=float)).T
        power = spectrum.power(rms, slope, pixels=n, knee=self.grid.knee_cycles_per_box)
        # white noise in pixels has the right symmetries; its modes have variance n^2, which irfft2 divides out
        white = torch.from_numpy(rng.standard_normal((len(theta), n, n), dtype=np.float32))
        modes = torch.fft.rfft2(white) * power.sqrt().float()
        return {"z": torch.fft.irfft2(modes, s=(n, n)).numpy()}

    def observe(self, stored: dict[str, Tensor], theta: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Data with new noise."""
        z = stored["z"]
        noise = torch.randn(z.shape, generator=generator, dtype=z.dtype, device=z.device)
        return {"x": (z.exp() if self.grid.exponentiate else z) + self.grid.noise * noise}
