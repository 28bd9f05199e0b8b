"""Pearson's test that integer ranks are uniform.

A histogram, because it answers a posterior that is too narrow or too wide, whose ranks gather at or leave both ends,
sooner than the largest difference of cumulative distributions does.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

BINS = 20
FEWEST = 200
"""10 in each of 20 bins: with 5, p <= 1e-3 was found 1.6 times as often as it should be, in 100,000 uniform samples."""


def rank_test(ranks: np.ndarray, n_draws: int) -> float:
    """p-value of ranks (N,) among L draws being uniform on 0 ... L, from at most 20 bins of whole ranks.

    Raises ValueError for fewer than 200 ranks.
    """
    if len(ranks) < FEWEST:
        raise ValueError(f"a test of uniformity needs at least {FEWEST} simulations, got {len(ranks)}")
    bins = min(BINS, n_draws + 1)
    bin_of_rank = np.arange(n_draws + 1) * bins // (n_draws + 1)
    expected = np.bincount(bin_of_rank) * len(ranks) / (n_draws + 1)
    found = np.bincount(bin_of_rank[ranks], minlength=bins)
    return float(stats.chi2.sf(np.sum((found - expected) ** 2 / expected), bins - 1))
