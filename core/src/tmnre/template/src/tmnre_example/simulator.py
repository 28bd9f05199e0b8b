r"""Counts of a decaying source over a constant background.

A source of activity A at t = 0 and half-life T decays at the rate A exp(-lambda t), lambda = ln 2 / T.  In an interval
from t to t + d a detector that sees every decay expects

    mu = A / lambda (exp(-lambda t) - exp(-lambda (t + d))) + b d

counts, b the background's rate, and registers a Poisson number of them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tmnre import LogUniform, Prior, Simulator

LABELS = {"activity_hz": r"$A$ [Hz]", "half_life_s": r"$T_{1/2}$ [s]", "background_hz": r"$b$ [Hz]"}


class DecaySimulator(Simulator):
    """Counts {"counts": (N, B)} in `bins` intervals of equal length that fill `duration_s`."""

    prior = Prior(
        activity_hz=LogUniform(10.0, 1000.0),
        half_life_s=LogUniform(3.0, 300.0),
        background_hz=LogUniform(0.3, 30.0),
    )
    any_device = True  # `observe` keeps to torch

    def __init__(self, duration_s: float, bins: int) -> None:
        if duration_s <= 0 or bins < 3:
            raise ValueError(f"needs duration_s > 0 and at least 3 bins, got {duration_s} and {bins}")
        self.edges_s = np.linspace(0.0, duration_s, bins + 1)

    def expected(self, theta: np.ndarray) -> np.ndarray:
        """Expected counts (N, B) for theta (N, 3)."""
        activity, half_life, background = theta.T[..., None]
        rate = np.log(2) / half_life
        source = activity / rate * -np.diff(np.exp(-rate * self.edges_s), axis=1)
        return source + background * np.diff(self.edges_s)

    def simulate(self, theta: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """What is costly in your simulator, done once: theta (N, 3) -> expected counts (N, B)."""
        return {"expected": self.expected(theta).astype(np.float32)}

    def observe(self, stored: dict[str, Tensor], theta: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """What is cheap, drawn anew at every use: the Poisson noise."""
        return {"counts": torch.poisson(stored["expected"], generator=generator)}

    def log_likelihood(self, theta: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Poisson log likelihood (N,) of counts (B,), but for a constant: only the tests use it."""
        expected = self.expected(theta)
        return (counts * np.log(expected) - expected).sum(axis=1)
