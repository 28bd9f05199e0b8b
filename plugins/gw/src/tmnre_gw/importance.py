"""Importance weights at an inverse temperature: how far they may be taken, what they are worth, resampling."""

from __future__ import annotations

import numpy as np
from scipy import optimize


def largest_step(log_l: np.ndarray, log_w: np.ndarray | float, most: float, effective: float) -> float:
    """The largest inverse temperature, at most `most`, at which weights exp(log_w + beta log_l) leave so many draws
    effective."""

    def excess(beta: float) -> float:
        return effective_size(weights_at(log_l, log_w, beta)) - effective

    if excess(most) > 0:
        return most
    if excess(0.0) <= 0:
        return 0.0
    return float(optimize.brentq(excess, 0.0, most))


def log_largest(log_l: np.ndarray, log_w: np.ndarray | float, beta: float) -> float:
    """The largest log weight, by which `weights_at` divides."""
    return float((_tempered(log_l, beta) + log_w).max())


def weights_at(log_l: np.ndarray, log_w: np.ndarray | float, beta: float) -> np.ndarray:
    """Weights exp(log_w + beta log_l) (N,), the largest 1; zero where there is no likelihood."""
    log_total = _tempered(log_l, beta) + log_w
    return np.exp(log_total - log_total.max())


def effective_size(w: np.ndarray) -> float:
    """How many draws of equal weight these are worth (Kish 1965)."""
    return float(w.sum() ** 2 / np.square(w).sum())


def systematic(w: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """n rows in proportion to weights, each at least the whole part of its share."""
    levels = (rng.random() + np.arange(n)) / n
    rows = np.searchsorted(np.cumsum(w) / w.sum(), levels)
    return rng.permutation(np.minimum(rows, len(w) - 1))


def _tempered(log_l: np.ndarray, beta: float) -> np.ndarray:
    return np.where(np.isfinite(log_l), beta * log_l, -np.inf) if beta else np.where(np.isfinite(log_l), 0.0, -np.inf)
