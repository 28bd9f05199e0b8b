"""Noise of an image: Gaussian per pixel, Poisson of the light itself, and the correlation that drizzling leaves.

    variance = sd^2 + max(image, 0) / exposure_s           images in e-/s

Correlated noise is white noise convolved with a kernel of unit power, times sd: the standard deviation stays sd.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Noise:
    """How an image differs from what the optics deliver.

    Attributes
    ----------
    sd : standard deviation in e-/s per pixel, of sky and read-out, or of everything: a number or a map (ny, nx)
    exposure_s : adds the Poisson noise of the light, as a Gaussian; None where `sd` holds it
    kernel : (k, k), k odd, whose autocorrelation is the noise's correlation between pixels; None: white
    """

    sd: float | np.ndarray
    exposure_s: float | None = None
    kernel: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.sd).all() and (np.asarray(self.sd) > 0).all()):
            raise ValueError("the noise's standard deviation must be finite and positive in every pixel")
        if self.exposure_s is not None and not self.exposure_s > 0:
            raise ValueError(f"exposure_s must be positive, got {self.exposure_s}")

    @property
    def additive(self) -> bool:
        """Whether the noise does not depend on the image."""
        return self.exposure_s is None

    def scale(self, image: Tensor) -> Tensor:
        """Standard deviation of every pixel of images (N, ny, nx)."""
        sd = torch.as_tensor(self.sd, dtype=image.dtype, device=image.device)
        if self.exposure_s is None:
            return sd
        return torch.sqrt(sd * sd + image.clamp_min(0) / self.exposure_s)

    def add(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Images (N, ny, nx) with new noise."""
        white = torch.randn(image.shape, generator=generator, dtype=image.dtype, device=image.device)
        return image + self.scale(image) * self.correlated(white)

    def correlated(self, white: Tensor) -> Tensor:
        """Unit white noise (N, ny, nx) with the correlation between pixels."""
        if self.kernel is None:
            return white
        kernel = torch.as_tensor(self.kernel / np.sqrt(np.square(self.kernel).sum()), dtype=white.dtype)
        half = kernel.shape[0] // 2
        # round about, so that pixels at the edge are as noisy as the others
        padded = F.pad(white[:, None], (half,) * 4, mode="circular")
        return F.conv2d(padded, kernel.to(white.device)[None, None])[:, 0]


def drizzle_kernel(correlation: float, width: int = 3) -> np.ndarray:
    """Kernel (width, width) of noise whose neighbouring pixels (up, down, left, right) have that correlation.

    Separable and Gaussian, exp(-d^2 / 4 s^2) in its autocorrelation, found for the pixels it is cut to; drizzling onto
    finer pixels leaves about that (Fruchter & Hook 2002).  Raises ValueError outside [0, 0.6).
    """
    if not 0 <= correlation < 0.6:
        raise ValueError(f"the correlation of neighbouring pixels must lie in [0, 0.6), got {correlation}")
    low, high = 0.0, 0.99
    half = width // 2
    for _ in range(60):  # bisection in the kernel's own falling factor
        middle = 0.5 * (low + high)
        line = middle ** (np.arange(-half, half + 1) ** 2)
        found = (line[1:] * line[:-1]).sum() / (line * line).sum()
        low, high = (middle, high) if found < correlation else (low, middle)
    return np.outer(line, line)
