"""Simulation-based calibration (1804.06788, theorem 1 and algorithm 1).

If theta* ~ p(theta), x ~ p(x | theta*) and L draws come from the posterior of x, then the rank of theta* among the
draws is uniform on 0 ... L, in every dimension.

It sees each dimension alone and on average over x: the prior passes, and so do errors of the correlations.  With
N = 500 a posterior shifted by half a standard deviation, or 1.5 times too narrow or too wide, fails in over 99% of
repeats.  Draws resampled from weighted ones must be worth more than L, or their ties make the ranks uneven.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from tmnre.diagnostics.check import Check
from tmnre.diagnostics.shapes import shaped
from tmnre.diagnostics.uniform import rank_test


def sbc(truth: ArrayLike, draws: ArrayLike, names: Sequence[str] | None = None) -> Check:
    """Ranks of truths (N, D) among their posterior draws (N, L, D); one verdict, Bonferroni over the D dimensions.

    numbers, per name: `p_` of its own ranks, `mean_` (0.5; larger where the posterior lies too low) and `spread_`
    (1; larger where it is too narrow) of the ranks.
    """
    truth, draws = shaped(truth=(truth, "N D"), draws=(draws, "N L D"))
    found = (draws < truth[:, None]).sum(1)
    n_draws, dimensions = draws.shape[1:]
    names = [str(i) for i in range(dimensions)] if names is None else names
    numbers: dict[str, float] = {}
    p: list[float] = []
    for name, column in zip(names, found.T, strict=True):
        p.append(rank_test(column, n_draws))
        # sd of the uniform distribution on 0 ... L
        even = np.sqrt(n_draws * (n_draws + 2) / 12)
        numbers |= {f"p_{name}": p[-1], f"mean_{name}": column.mean() / n_draws, f"spread_{name}": column.std() / even}
    return Check.of("sbc", min(1.0, dimensions * min(p)), numbers)
