"""Jensen-Shannon divergence between weighted samples of one quantity, and tables of it.

Both sets are smoothed with one Gaussian kernel (Silverman's width for the reference), reflected at hard bounds or
wrapped where the quantity is periodic, so smoothing cancels to first order.  `floor` is what two sets drawn from the
same distribution score on average at the reference's effective size: differences below it cannot be seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from tmnre.result import weighted_quantile

BINS = 512


@dataclass(frozen=True)
class Samples:
    """Values (S,) with weights (S,)."""

    values: np.ndarray
    weights: np.ndarray

    @property
    def effective(self) -> float:
        """1 / sum w^2 of the normalised weights."""
        w = self.weights / self.weights.sum()
        return float(1 / np.sum(w**2))

    def quantiles(self, *q: float) -> np.ndarray:
        """Weighted quantiles."""
        return weighted_quantile(self.values, self.weights, q)

    @property
    def sd(self) -> float:
        """Weighted standard deviation."""
        mean = np.average(self.values, weights=self.weights)
        return float(np.sqrt(np.average((self.values - mean) ** 2, weights=self.weights)))

    def half(self, first: bool) -> Samples:
        """Every other sample."""
        return Samples(self.values[int(first) :: 2], self.weights[int(first) :: 2])


def jsd(
    ours: Samples, reference: Samples, *, bounds: tuple[float, float] | None = None, periodic: bool = False
) -> float:
    """Divergence in nats."""
    if bounds is None:
        edges = np.array([s.quantiles(1e-4, 1 - 1e-4) for s in (ours, reference)])
        low, high = edges.min(), edges.max()
        bounds = (low - 0.02 * (high - low), high + 0.02 * (high - low))
    quarter = np.diff(reference.quantiles(0.25, 0.75))[0] / 1.349
    width = 0.9 * min(reference.sd, quarter) * reference.effective**-0.2
    p, q = (_density(s, bounds, width, periodic) for s in (ours, reference))
    middle = 0.5 * (p + q)
    return float(0.5 * sum(np.sum(d[d > 0] * np.log(d[d > 0] / middle[d > 0])) for d in (p, q)))


def _density(samples: Samples, bounds: tuple[float, float], width: float, periodic: bool) -> np.ndarray:
    counts, _ = np.histogram(samples.values, BINS, bounds, weights=samples.weights)
    smooth = gaussian_filter1d(counts, width / (bounds[1] - bounds[0]) * BINS, mode="wrap" if periodic else "reflect")
    return smooth / smooth.sum()


def floor(reference: Samples, **how) -> float:
    """Expected divergence of a large exact set from the reference: a quarter of that between the reference's halves.

    The divergence of two sets is proportional to the sum of their inverse sizes: halves have 4 / n, one full set 1 / n.
    """
    return jsd(reference.half(True), reference.half(False), **how) / 4
