"""The window function of HEALPix pixels, computed, so that nothing needs to be downloaded.

Averaging over a pixel multiplies the power of multipole l by, in the mean over pixels and orientations,

    W_l^2 = mean over pixels, and over pairs of points i, j in each, of P_l(cos theta_ij).
"""

from __future__ import annotations

from functools import lru_cache

import healpy
import numpy as np


@lru_cache
def pixel_window(nside: int, lmax: int, fine: int = 8, pixels: int = 96) -> np.ndarray:
    """W_l (lmax + 1,) from `pixels` pixels spread over the sphere, each fine^2 points.

    Points on the grid of fine^2 sub-pixels leave out the averaging within those: W is too high by the window of
    nside * fine, 0.2% at l = 4 nside.
    """
    total = np.zeros(lmax + 1)
    for pixel in np.linspace(0, 12 * nside**2 - 1, pixels).astype(int):
        children = healpy.ring2nest(nside, pixel) * fine**2 + np.arange(fine**2)
        points = np.array(healpy.pix2vec(nside * fine, children, nest=True))
        cosine = np.clip(points.T @ points, -1, 1)
        before, legendre = np.zeros_like(cosine), np.ones_like(cosine)
        for ell in range(lmax + 1):
            total[ell] += legendre.mean()
            # Bonnet's recursion, stable upwards for |cos| <= 1
            before, legendre = legendre, ((2 * ell + 1) * cosine * legendre - ell * before) / (ell + 1)
    return np.sqrt(np.maximum(total / pixels, 0))
