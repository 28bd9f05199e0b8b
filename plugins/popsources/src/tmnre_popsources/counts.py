"""Exact probabilities of pixel counts for an unresolved population without point spread function.

The non-Poissonian template likelihood (Malyshev & Hogg 2011; Lee, Lisanti & Safdi 2015): a pixel's count is the sum of
a Poisson background and, for every m, of m photons from each of Poisson(x_m) sources.  Its generating function
exp(sum_m x_m (t^m - 1) + mu (t - 1)) gives the recursion

    p_0 = exp(-mu - sum_m x_m),    k p_k = sum_{n < k} (k - n) y_{k-n} p_n,    y_m = x_m + mu [m = 1].
"""

from __future__ import annotations

import numpy as np
from scipy import stats


def photons_per_source(width: float, mean_log_flux: float, k_max: int, nodes: int = 400) -> np.ndarray:
    """P(m photons | one source), m = 0 .. k_max, for ln flux ~ Normal(mean_log_flux, width^2).

    Trapezoidal rule over +-8 standard deviations, which converges exponentially for a Gaussian; 400 nodes resolve a
    Poisson peak of up to 10^4 counts at width 3.
    """
    t = np.linspace(-8, 8, nodes)
    weights = stats.norm.pdf(t) * (t[1] - t[0])
    flux = np.exp(mean_log_flux + width * t)
    return stats.poisson.pmf(np.arange(k_max + 1)[:, None], flux) @ weights


def pixel_counts(sources: np.ndarray, photons: np.ndarray, background: float) -> np.ndarray:
    """p_k (P, k_max + 1) of pixels that expect `sources` (P,) sources and `background` counts.

    photons (k_max + 1,) from `photons_per_source`.
    """
    y = sources[:, None] * photons
    p = np.zeros_like(y)
    p[:, 0] = np.exp(-background - sources * (1 - photons[0]))
    y[:, 1] += background
    weighted = y * np.arange(len(photons))
    for k in range(1, len(photons)):
        p[:, k] = np.einsum("pn,pn->p", weighted[:, k:0:-1], p[:, :k]) / k
    return p
