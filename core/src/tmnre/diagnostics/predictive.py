"""Posterior predictive check: does the fitted model make data like the observation (Gelman, Meng & Stern 1996)?

Test quantities of the observation are compared with those of data replicated from posterior draws.  Several of them
give one verdict by the smallest of their p-values, calibrated on the replicates' own smallest p-values, as in
2412.15100: no assumption about their correlations.

This tests the model, not the posterior.  Replicates carry their own noise, so that a posterior off by half of its
standard deviation, or 1.5 times too narrow or too wide, moves them by a fraction of that noise and passes.  For the
same reason p-values of replicates fitted to the observation are conservative: a right model fails less often than
the threshold says, with equality where the replicates do not know of the observation (prior predictive).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from tmnre.diagnostics.check import THRESHOLD, Check
from tmnre.diagnostics.shapes import shaped
from tmnre.diagnostics.smallest import calibrated, distance

FEWEST = math.ceil(2 / THRESHOLD) - 1
"""With fewer replicates a two-sided p-value, at least 2 / (R + 1), could not fail."""


def predictive(observed: Mapping[str, float], replicated: Mapping[str, ArrayLike]) -> Check:
    """Test quantities {name: value} of the observation against those {name: (R,)} of R replicated data sets.

    numbers: `p_` of every name, two-sided, with the observation counted among the replicates.

    Raises ValueError for fewer than 1999 replicates.
    """
    names = list(observed)
    arrays = shaped(**{name: (replicated[name], "R") for name in names})
    pool = np.array([np.append(array, observed[name]) for name, array in zip(names, arrays, strict=True)])
    n = pool.shape[1]
    if n - 1 < FEWEST:
        raise ValueError(f"a predictive check needs at least {FEWEST} replicates to be able to fail, got {n - 1}")
    at_most, below = (stats.rankdata(pool, method=method, axis=1) for method in ("max", "min"))
    p = np.minimum(1, 2 * np.minimum(at_most, n + 1 - below) / n)
    numbers = dict(zip((f"p_{name}" for name in names), p[:, -1], strict=True))
    return Check.of("predictive", calibrated(p, np.abs(distance(pool)))[-1], numbers)
