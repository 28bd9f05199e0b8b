"""Densities from which some parameters are drawn given the others: about all particles, whatever they were before, or
about each particle's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
    """Biweight kernels about particles in u - slope known, and the product of histograms.

    centres (M, d) : of particles, their u less what is linear in what is known of them
    slope (p, d) : of u in what is known
    width (d,) : of a kernel to either side
    wraps (d,) : columns that are circles; no kernel reaches round to itself
    """

    centres: np.ndarray
    slope: np.ndarray
    width: np.ndarray
    wraps: np.ndarray
    rough: Sequence[Histogram]

    @classmethod
    def about(
        cls,
        u: np.ndarray,
        known: np.ndarray,
        wraps: np.ndarray,
        rough: Sequence[Histogram],
        rng: np.random.Generator,
    ) -> Kernels:
        """About some of the particles u (N, d) of which known (N, p) is, as wide as a normal distribution of their
        spread asks for (Silverman); slope and spread are those of differences of two particles, the spread by its
        median, as that of one mode."""
        other = rng.permutation(len(u))
        apart, known_apart = short_way(u - u[other], wraps), known - known[other]
        ridge = 1e-6 * len(u) * np.eye(known.shape[1])
        slope = np.linalg.solve(known_apart.T @ known_apart + ridge, known_apart.T @ apart)
        some = rng.choice(len(u), min(CENTRES, len(u)), replace=False)
        m, d = len(some), u.shape[1]
        sd = np.median(np.abs(short_way(apart - known_apart @ slope, wraps)), axis=0) / 0.954
        sd += 1e-6  # of copies, more than nothing
        width = sd / BIWEIGHT_SD * (4 / (d + 2) / m) ** (1 / (d + 4))
        return cls(u[some] - known[some] @ slope, slope, np.where(wraps, width.clip(max=0.5), width), wraps, rough)

    def draw(self, known: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """u (n, d), given known (n, p)."""
        n, (m, d) = len(known), self.centres.shape
        u = self.centres[rng.integers(m, size=n)] + known @ self.slope
        u += self.width * _biweight((n, d), rng)
        u = np.where(self.wraps, u % 1.0, u)
        rough = np.flatnonzero(rng.random(n) < ROUGH)
        for column, histogram in enumerate(self.rough):
            u[rough, column] = histogram.draw(len(rough), rng)
        return u

    def log_density(self, u: np.ndarray, known: np.ndarray) -> np.ndarray:
        """ln of the density (N,) at u (N, d), given known (N, p)."""
        left = u - known @ self.slope
        near = np.concatenate([self._near(part) for part in np.split(left, range(ROWS_AT_ONCE, len(u), ROWS_AT_ONCE))])
        rough = sum((h.log_density(u[:, i]) for i, h in enumerate(self.rough)), np.zeros(len(u)))
        return np.log((1 - ROUGH) * near + ROUGH * np.exp(rough))

    def _near(self, left: np.ndarray) -> np.ndarray:
        total = np.ones((len(left), len(self.centres)), "f4")
        for i, width in enumerate(self.width):
            t = left[:, i, None] - self.centres[:, i]
            if self.wraps[i]:
                t = (t + 0.5) % 1.0 - 0.5
            total *= (15 / 16 / width) * np.square((1 - np.square((t / width).astype("f4"))).clip(0))
        return total.mean(1).astype(float)


@dataclass(frozen=True)
class Nearby:
    """Kernels about one centre for each particle.

    A centre that was drawn about a place is as likely as that place would be about the centre, so weights are those of
    a density that is even everywhere.

    centre (N, d) : of each particle
    width (d,) : of a kernel to either side
    wraps (d,) : columns that are circles
    """

    centre: np.ndarray
    width: np.ndarray
    wraps: np.ndarray

    @classmethod
    def about(cls, u: np.ndarray, width: np.ndarray, wraps: np.ndarray, rng: np.random.Generator) -> Nearby:
        """Centres about u (N, d)."""
        return cls(u + width * _biweight(u.shape, rng), width, wraps)

    def moved(self, by: np.ndarray) -> Nearby:
        """The same with every centre moved by (N, d)."""
        return replace(self, centre=self.centre + by)

    def draw(self, known: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """u (N, d) about the centres, whatever is known."""
        u = self.centre + self.width * _biweight(self.centre.shape, rng)
        return np.where(self.wraps, u % 1.0, u)

    def log_density(self, u: np.ndarray, known: np.ndarray) -> np.ndarray:
        """The same for all (N,)."""
        return np.zeros(len(u))


def _biweight(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return 2 * rng.beta(3, 3, shape) - 1


def short_way(difference: np.ndarray, wraps: np.ndarray) -> np.ndarray:
    """The short way round on circles."""
    return np.where(wraps, (difference + 0.5) % 1.0 - 0.5, difference)
