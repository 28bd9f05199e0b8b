"""A linear Gaussian model, whose posterior is known in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tmnre import Normal, Prior

# rows: data, columns: parameters; correlates the three in the posterior
DESIGN = np.array([[1.0, 0.5, 0.0], [0.0, 1.0, -0.5], [0.3, 0.0, 1.0], [0.5, -0.5, 0.5]])


@dataclass(frozen=True)
class LinearGaussian:
    """x = DESIGN theta + noise, theta standard normal; the noise is part of `simulate`."""

    noise: float = 0.3
    prior = Prior(a=Normal(0, 1), b=Normal(0, 1), c=Normal(0, 1))

    def simulate(self, theta, rng):
        return {"x": theta @ DESIGN.T + self.noise * rng.standard_normal((len(theta), len(DESIGN)))}

    def posterior(self, x):
        """Means (N, 3) for data (N, 4), and the covariance (3, 3) they share."""
        covariance = np.linalg.inv(np.eye(3) + DESIGN.T @ DESIGN / self.noise**2)
        return x @ DESIGN @ covariance / self.noise**2, covariance


@pytest.fixture(scope="session")
def linear_gaussian():
    return LinearGaussian()
