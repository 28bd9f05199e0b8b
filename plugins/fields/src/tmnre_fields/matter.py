"""The linear power spectrum of matter, and that of its average over the cells of a slab.

    P(k) = A k^n T(k / Gamma)^2

with the transfer function of cold dark matter without baryon wiggles of Bardeen et al. 1986 (ApJ 304, 15, eq. G3); k in
h/Mpc, P in (Mpc/h)^3.  Averaged along the line of sight over a thickness D, a field has the two-dimensional power

    P_2(k) = int dq / (2 pi)  P(sqrt(k^2 + q^2)) sinc^2(q D / 2),      sinc(x) = sin(x) / x,

and cells of side a multiply it by sinc^2(k_x a / 2) sinc^2(k_y a / 2).  Power beyond the grid's Nyquist wavenumber is
left out, 7% of a cell's variance for cells of 10 x 10 x 20 Mpc/h.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.integrate import trapezoid
from torch import Tensor

from tmnre_fields import spectrum

LOG_K = np.linspace(np.log(1e-6), np.log(1e3), 6000)
"""where integrals over wavenumbers are summed; what lies beyond is less than 1e-6 of them"""


def transfer(q: np.ndarray) -> np.ndarray:
    """T of q = k / Gamma, k in h/Mpc; 1 for q = 0."""
    q = np.maximum(q, 1e-12)
    rest = 1 + 3.89 * q + (16.1 * q) ** 2 + (5.46 * q) ** 3 + (6.71 * q) ** 4
    return np.log1p(2.34 * q) / (2.34 * q) * rest**-0.25


def power(k: np.ndarray, *, sigma8: float, gamma: float, index: float) -> np.ndarray:
    """P in (Mpc/h)^3 at k in h/Mpc, any shape, with rms sigma8 in spheres of 8 Mpc/h."""

    def shape(k: np.ndarray) -> np.ndarray:
        return k**index * transfer(k / gamma) ** 2

    x = 8 * np.exp(LOG_K)
    # the closed form cancels catastrophically at small x
    ball = np.where(x < 0.01, 1 - x**2 / 10, 3 * (np.sin(x) - x * np.cos(x)) / x**3)
    variance = trapezoid(np.exp(LOG_K) ** 3 * shape(np.exp(LOG_K)) * ball**2 / (2 * np.pi**2), LOG_K)
    return sigma8**2 / variance * shape(k)


def slab_power(
    pixels: int, *, pixel_mpc_per_h: float, thickness_mpc_per_h: float, sigma8: float, gamma: float, index: float
) -> Tensor:
    """Power per pixel (n, n // 2 + 1) float64 of cells of a slab, dimensionless, as in `tmnre_fields.spectrum`."""
    per_box = 2 * np.pi / (pixels * pixel_mpc_per_h)
    q = np.exp(LOG_K)
    # numpy's sinc is sin(pi x) / (pi x)
    weight = q / np.pi * np.sinc(q * thickness_mpc_per_h / (2 * np.pi)) ** 2
    k, inverse = np.unique(spectrum.wavenumbers(pixels).numpy(), return_inverse=True)
    values = [
        trapezoid(weight * power(np.hypot(one, q), sigma8=sigma8, gamma=gamma, index=index), LOG_K)
        for one in per_box * k
    ]
    rows, columns = np.sinc(np.fft.fftfreq(pixels)), np.sinc(np.fft.rfftfreq(pixels))
    window = (rows[:, None] * columns) ** 2
    projected = np.array(values)[inverse].reshape(window.shape)
    return torch.from_numpy(projected * window / pixel_mpc_per_h**2)
