"""Ellipsoids that hold points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special


@dataclass(frozen=True)
class Ellipsoid:
    """All centre (d,) + axes (d, d) @ x with |x| <= 1; axes lower triangular."""

    centre: np.ndarray
    axes: np.ndarray

    @classmethod
    def about(cls, points: np.ndarray, *, reach: float = 1.0) -> Ellipsoid:
        """Of the shape of the points' (N, d) covariance, `reach` times as large as holds all of them."""
        centre = points.mean(0)
        covariance = np.atleast_2d(np.cov(points.T))
        # points in a plane: an ellipsoid all the same
        covariance += (1e-12 * covariance.trace() or 1.0) * np.eye(len(covariance))
        factor = np.linalg.cholesky(covariance)
        farthest = np.linalg.norm(np.linalg.solve(factor, (points - centre).T), axis=0).max()
        return cls(centre, factor * farthest * reach)

    @property
    def log_volume(self) -> float:
        """Natural log of the volume."""
        d = len(self.centre)
        return float(d / 2 * np.log(np.pi) - special.gammaln(d / 2 + 1) + np.log(np.diag(self.axes)).sum())

    def contains(self, u: np.ndarray) -> np.ndarray:
        """Which rows of u (N, d) are inside."""
        return (np.linalg.solve(self.axes, (u - self.centre).T) ** 2).sum(0) <= 1

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """u (n, d) uniform inside."""
        d = len(self.centre)
        ball = rng.standard_normal((n, d))
        ball *= rng.random((n, 1)) ** (1 / d) / np.linalg.norm(ball, axis=1, keepdims=True)
        return self.centre + ball @ self.axes.T
