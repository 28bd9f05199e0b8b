"""Surface brightness of galaxies: Sersic profiles, pixelated images, and clumps from a Gaussian random field.

Conventions as in `deflection`: angles from +y, radii on the intermediate axis, brightness per square arcsec.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def sersic_b(n: Tensor) -> Tensor:
    """b_n such that half of a Sersic profile's light lies within r_eff.

    Expansion of Ciotti & Bertin (1999, eq. 18), good to 4e-4 at n = 0.5, 3e-5 at n = 1, 1e-6 at n = 4.
    """
    return 2 * n - 1 / 3 + 4 / (405 * n) + 46 / (25515 * n**2) + 131 / (1148175 * n**3) - 2194697 / (30690717750 * n**4)


def sersic(x: Tensor, y: Tensor, brightness: Tensor, r_eff: Tensor, n: Tensor, e1: Tensor, e2: Tensor) -> Tensor:
    """I_e exp(-b_n ((R / r_eff)^(1/n) - 1)) of a galaxy at the origin, brightness I_e.

    The cusp of n > 1 at the centre is cut at 1e-4 r_eff, where float32 and finite rays resolve nothing.
    """
    log = torch.log(_squared(x, y, e1, e2) / (r_eff * r_eff) + 1e-8)
    return brightness * torch.exp(sersic_b(n) * (1 - torch.exp(log * (0.5 / n))))


def _squared(x: Tensor, y: Tensor, e1: Tensor, e2: Tensor) -> Tensor:
    """R^2 = q X^2 + Y^2 / q with X along the major axis, without looking for that axis: smooth at the circle.

    (q + 1/q) / 2 = (1 + e^2) / (1 - e^2), (1/q - q) / 2 = 2 e / (1 - e^2), and with angles from +y
    e (X^2 - Y^2) = e1 (y^2 - x^2) - 2 e2 x y.
    """
    square = e1 * e1 + e2 * e2
    xx, yy = x * x, y * y
    along = e1 * (yy - xx) - 2 * e2 * (x * y)
    return ((1 + square) * (xx + yy) - 2 * along) / (1 - square)


def pixels(x: Tensor, y: Tensor, values: Tensor, size_arcsec: Tensor | float) -> Tensor:
    """Bilinear interpolation (N, P) of images `values` (N, H, W) on a square of that side about the origin.

    Row 0 lies at the bottom; pixels at the edge are centred on it; zero outside.
    """
    half = torch.as_tensor(size_arcsec, dtype=x.dtype, device=x.device) / 2
    at = torch.stack(torch.broadcast_tensors(x / half, y / half), dim=-1)[:, None]
    return F.grid_sample(values[:, None], at, mode="bilinear", padding_mode="zeros", align_corners=True)[:, 0, 0]


def random_field(n: int, slope: Tensor, noise: Tensor) -> Tensor:
    """Gaussian random fields (N, n, n), mean zero, variance one, power spectrum k^-slope, from white noise (N, n, n).

    Periodic on its square.  The field's variance is that expected, not that found in each.
    """
    k = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)) * n
    k[0, 0] = np.inf  # no mean
    log_k = torch.from_numpy(np.log(k)).to(noise.dtype)
    amplitude = torch.exp(-0.5 * slope.view(-1, 1, 1) * log_k)
    weight = torch.full((k.shape[1],), 2.0, dtype=noise.dtype)  # of a real field's spectrum half is given
    weight[0] = 1.0
    if n % 2 == 0:
        weight[-1] = 1.0
    power = (amplitude.square() * weight).sum((1, 2), keepdim=True)
    spectrum = torch.fft.rfft2(noise, norm="ortho") * amplitude * (n / torch.sqrt(power))
    return torch.fft.irfft2(spectrum, s=(n, n), norm="ortho")


def log_total(brightness: Tensor, r_eff: Tensor, n: Tensor) -> Tensor:
    """ln of a Sersic profile's flux, 2 pi n I_e r_eff^2 e^b b^(-2n) Gamma(2n) (Graham & Driver 2005, eq. 4)."""
    b = sersic_b(n)
    shape = math.log(2 * math.pi) + torch.log(n) + b - 2 * n * torch.log(b) + torch.lgamma(2 * n)
    return torch.log(brightness) + 2 * torch.log(r_eff) + shape
