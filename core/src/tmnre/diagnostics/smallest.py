"""The smallest of many p-values as one p-value, calibrated by ranks: no assumption about their correlations.

The observation is one column of n that are exchangeable if the model is right, and each column gets Q p-values from
its place among all n.  Of the columns many share the smallest possible p, because each of the Q quantities has its own
extremes; a distance from the bulk orders those.  Any function of a column and of the pool keeps the columns
exchangeable, so that the share of columns as extreme as the observation is a valid p-value, however many are tied.
"""

from __future__ import annotations

import numpy as np
from scipy import stats


def calibrated(p: np.ndarray, away: np.ndarray) -> np.ndarray:
    """p-values (n,) of the columns' smallest p (Q, n); among equal ones the larger of `away` (Q, n) is more extreme."""
    n = p.shape[1]
    by_p, by_distance = (stats.rankdata(key, method="dense") for key in (p.min(0), -away.max(0)))
    return stats.rankdata(by_p * (n + 1) + by_distance, method="max") / n


def distance(pool: np.ndarray) -> np.ndarray:
    """Signed distance (Q, n) of values (Q, n) from their row's median, in mean deviations."""
    away = pool - np.median(pool, axis=1, keepdims=True)
    return away / np.maximum(np.abs(away).mean(1, keepdims=True), np.finfo(float).tiny)
