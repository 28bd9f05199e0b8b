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
    # Of the n rows many share the smallest p: every quantity has two extremes.  Their distance from the median in
    # mean deviations orders them; any function of a row and the pool keeps observation and replicates exchangeable.
    away = np.abs(pool - np.median(pool, axis=1, keepdims=True))
    away = (away / np.maximum(away.mean(1, keepdims=True), np.finfo(float).tiny)).max(0)
    smallest = p.min(0)
    as_extreme = (smallest < smallest[-1]) | ((smallest == smallest[-1]) & (away >= away[-1]))
    return Check.of("predictive", as_extreme.mean(), dict(zip((f"p_{name}" for name in names), p[:, -1], strict=True)))
