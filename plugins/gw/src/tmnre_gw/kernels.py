"""A density about particles, from which parameters are drawn whatever they were before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tmnre_gw.histogram import Histogram

CENTRES = 64
ROUGH = 0.1
"""share of the rough density, which keeps weights bounded where no particle is near"""
BIWEIGHT_SD = 7**-0.5
"""standard deviation of the kernel (15 / 16) (1 - t^2)^2, |t| < 1"""
ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Kernels:
    """Biweight kernels about centres (M, d) in u, `width` (d,) to either side, and the product of histograms.

    wraps (d,): columns that are circles; no kernel reaches round to itself.
    """

    centres: np.ndarray
    width: np.ndarray
    wraps: np.ndarray
    rough: Sequence[Histogram]

    @classmethod
    def about(cls, u: np.ndarray, wraps: np.ndarray, rough: Sequence[Histogram], rng: np.random.Generator) -> Kernels:
        """About some of the particles u (N, d), as wide as a normal distribution of their spread asks for (Silverman);
        the spread is that of one mode, from the median difference of two particles."""
        centres, others = (u[rng.choice(len(u), min(CENTRES, len(u)), replace=False)] for _ in range(2))
        m, d = centres.shape
        apart = centres - others
        apart = np.where(wraps, (apart + 0.5) % 1.0 - 0.5, apart)
        sd = np.median(np.abs(apart), axis=0) / 0.954 + 1e-9
        width = sd / BIWEIGHT_SD * (4 / (d + 2) / m) ** (1 / (d + 4))
        return cls(centres, np.where(wraps, width.clip(max=0.5), width), wraps, rough)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """u (n, d)."""
        m, d = self.centres.shape
        u = self.centres[rng.integers(m, size=n)] + self.width * (2 * rng.beta(3, 3, (n, d)) - 1)
        u = np.where(self.wraps, u % 1.0, u)
        rough = np.flatnonzero(rng.random(n) < ROUGH)
        for column, histogram in enumerate(self.rough):
            u[rough, column] = histogram.draw(len(rough), rng)
        return u

    def log_density(self, u: np.ndarray) -> np.ndarray:
        """ln of the density (N,) at u (N, d)."""
        near = np.concatenate([self._near(part) for part in np.split(u, range(ROWS_AT_ONCE, len(u), ROWS_AT_ONCE))])
        rough = sum((h.log_density(u[:, i]) for i, h in enumerate(self.rough)), np.zeros(len(u)))
        return np.log((1 - ROUGH) * near + ROUGH * np.exp(rough))

    def _near(self, u: np.ndarray) -> np.ndarray:
        total = np.ones((len(u), len(self.centres)), "f4")
        for i, width in enumerate(self.width):
            t = u[:, i, None] - self.centres[:, i]
            if self.wraps[i]:
                t = (t + 0.5) % 1.0 - 0.5
            total *= (15 / 16 / width) * np.square((1 - np.square((t / width).astype("f4"))).clip(0))
        return total.mean(1).astype(float)
