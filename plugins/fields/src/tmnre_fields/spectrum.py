"""Power spectra of periodic fields on a square grid of n x n pixels.

Wavenumbers k are in cycles per box.  The power P(k) is per pixel: white noise of variance s^2 has P = s^2 at every k,
and any field has variance sum_k P(k) / n^2, the sum over all n^2 modes.  The model is a power law that flattens below
a knee,

    P(k) = rms^2 n^2 s(k) / sum s,    s(k) = (1 + k / knee)^(-slope),

so that `rms` is the standard deviation of a pixel whatever the slope.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def wavenumbers(pixels: int) -> Tensor:
    """|k| (n, n // 2 + 1) float64 in cycles per box, in the order of `torch.fft.rfft2`."""
    rows = torch.fft.fftfreq(pixels, 1 / pixels, dtype=torch.float64)
    columns = torch.fft.rfftfreq(pixels, 1 / pixels, dtype=torch.float64)
    return torch.hypot(rows[:, None], columns)


def multiplicity(pixels: int) -> Tensor:
    """How many of the n^2 modes each of the n // 2 + 1 columns of `rfft2` stands for: 2, or 1 if its own conjugate."""
    columns = torch.arange(pixels // 2 + 1)
    return torch.where((columns == 0) | (2 * columns == pixels), 1.0, 2.0).double()


def power(rms: Tensor, slope: Tensor, *, pixels: int, knee: float) -> Tensor:
    """Model power (N, n, n // 2 + 1) float64 for rms (N,) and slope (N,); `knee` in cycles per box."""
    shape = (1 + wavenumbers(pixels) / knee) ** -slope.double()[:, None, None]
    total = (shape * multiplicity(pixels)).sum((1, 2), keepdim=True)
    return rms.double()[:, None, None] ** 2 * pixels**2 * shape / total


def variance(power: Tensor) -> Tensor:
    """Variance of a pixel of a field with this power (..., n, n // 2 + 1)."""
    n = power.shape[-2]
    return (power * multiplicity(n)).sum((-2, -1)) / n**2


def measured_power(field: Tensor) -> Tensor:
    """Power of each mode (N, n, n // 2 + 1) of real fields (N, n, n)."""
    modes = torch.fft.rfft2(field)
    return (modes.real.square() + modes.imag.square()) / field.shape[-1] ** 2


def annuli(pixels: int) -> tuple[Tensor, Tensor]:
    """Mean k (B,), and the matrix (n (n // 2 + 1), B) that averages power in annuli one wavenumber wide.

    The first annulus is k = 0 alone, the last holds the corners of the Fourier square, k > n / 2.
    """
    k = wavenumbers(pixels)
    index = torch.round(k).clamp(max=pixels // 2 + 1).long().flatten()
    weight = multiplicity(pixels).expand_as(k).flatten()
    matrix = torch.zeros(len(index), pixels // 2 + 2, dtype=torch.float64)
    matrix[torch.arange(len(index)), index] = weight
    matrix /= matrix.sum(0)
    return k.flatten() @ matrix, matrix


def whittle(field: Tensor, rms: Tensor, slope: Tensor, *, pixels: int, knee: float, noise: float) -> Tensor:
    """Exact log likelihood (N,) of one field (n, n), a periodic Gaussian field with the model's power and white noise.

    On a periodic grid Fourier modes are independent, so Whittle's form is no approximation.  rms (N,), slope (N,).
    """
    expected = power(rms, slope, pixels=pixels, knee=knee) + noise**2
    found = measured_power(field.double()[None])
    terms = torch.log(2 * math.pi * expected) + found / expected
    return -0.5 * (terms * multiplicity(pixels)).sum((1, 2))
