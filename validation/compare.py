"""Jensen-Shannon divergence between weighted samples of one quantity, and tables of it.

Both sets are smoothed with one Gaussian kernel (Silverman's width for the reference), reflected at hard bounds or
wrapped where the quantity is periodic, so smoothing cancels to first order.  `floor` is what two sets drawn from the
same distribution score on average at the reference's effective size: differences below it cannot be seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from tmnre.result import weighted_quantile

BINS, BINS_2D = 512, 128


@dataclass(frozen=True)
class Samples:
    """Values (S,), or (S, 2), with weights (S,)."""

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

    def quantiles_2d(self, *q: float) -> np.ndarray:
        """Weighted quantiles (2, Q) of both columns."""
        return np.stack([weighted_quantile(column, self.weights, q) for column in self.values.T])

    @property
    def spread_2d(self) -> np.ndarray:
        """Scale (2,) of both columns, from the quartiles: that of one mode where there are two."""
        return np.diff(self.quantiles_2d(0.25, 0.75), axis=1)[:, 0] / 1.349

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


def jsd_2d(ours: Samples, reference: Samples, *, periodic: tuple[bool, bool] = (False, False)) -> float:
    """Divergence in nats of two-dimensional samples, values (S, 2); one kernel, the reference's Scott width."""
    edges = np.array([s.quantiles_2d(1e-3, 1 - 1e-3) for s in (ours, reference)])
    low, high = edges[..., 0].min(0), edges[..., 1].max(0)
    margin = 0.05 * (high - low)
    bounds = np.stack([low - margin, high + margin], axis=1)
    width = reference.spread_2d * reference.effective ** (-1 / 6)
    p, q = (_density_2d(s, bounds, width, periodic) for s in (ours, reference))
    middle = 0.5 * (p + q)
    return float(0.5 * sum(np.sum(d[d > 0] * np.log(d[d > 0] / middle[d > 0])) for d in (p, q)))


def _density_2d(samples: Samples, bounds: np.ndarray, width: np.ndarray, periodic: tuple[bool, bool]) -> np.ndarray:
    counts, _, _ = np.histogram2d(*samples.values.T, BINS_2D, bounds, weights=samples.weights)
    modes = ["wrap" if p else "reflect" for p in periodic]
    smooth = gaussian_filter(counts, width / (bounds[:, 1] - bounds[:, 0]) * BINS_2D, mode=modes)
    return smooth / smooth.sum()


def _density(samples: Samples, bounds: tuple[float, float], width: float, periodic: bool) -> np.ndarray:
    counts, _ = np.histogram(samples.values, BINS, bounds, weights=samples.weights)
    smooth = gaussian_filter1d(counts, width / (bounds[1] - bounds[0]) * BINS, mode="wrap" if periodic else "reflect")
    return smooth / smooth.sum()


def floor(reference: Samples, divergence: Callable[..., float] | None = None, **how) -> float:
    """Expected divergence of a large exact set from the reference: a quarter of that between the reference's halves.

    The divergence of two sets is proportional to the sum of their inverse sizes: halves have 4 / n, one full set 1 / n.
    """
    return (divergence or jsd)(reference.half(True), reference.half(False), **how) / 4
