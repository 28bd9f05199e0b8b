"""A rough density of one parameter inside a region, from its learned marginal; never zero where the region is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tmnre.region import Box
from tmnre.result import MarginalPosterior

BINS = 50


@dataclass(frozen=True)
class Histogram:
    """A density in u by even bins of the region's interval of a parameter, from its learned marginal."""

    low: float
    width: float
    mass: np.ndarray

    @classmethod
    def of(cls, prior, region: Box, name: str, marginal: MarginalPosterior | None) -> Histogram:
        low, high = region.cube[name]
        mass = np.full(BINS, 1 / BINS)
        if marginal is not None:
            u = prior[name].cdf(marginal.samples[:, 0])
            mass = 0.9 * np.histogram(u, BINS, (low, high), weights=marginal.weights)[0] + 0.1 * mass
        return cls(low, high - low, mass / mass.sum())

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """u (n,)."""
        cell = rng.choice(len(self.mass), n, p=self.mass)
        return self.low + self.width * (cell + rng.random(n)) / len(self.mass)

    def log_density(self, u: np.ndarray) -> np.ndarray:
        """Log density (n,) in u, that of the nearest bin outside."""
        cell = ((u - self.low) / self.width * len(self.mass)).astype(int).clip(0, len(self.mass) - 1)
        return np.log(self.mass[cell] * len(self.mass) / self.width)
