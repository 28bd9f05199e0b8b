"""Tighten a region: keep the values of each parameter whose ratio for this observation is not negligible.

The one-dimensional ratio is evaluated on a grid of prior quantiles, not at the samples, so the edges do not depend on
which values happened to be drawn.  In quantiles the prior is flat: the ratio itself is the posterior density, and its
integral outside the new edges is the posterior mass lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tmnre.analysis import Truncation
from tmnre.prior import Prior
from tmnre.ratio import Quantiles, RatioEstimator
from tmnre.region import Box
from tmnre.simulator import Tensors

GRID = 4096


@dataclass(frozen=True)
class Tightened:
    """The new region, what it kept of the old one's volume, and the posterior mass each cut is estimated to lose."""

    region: Box
    kept: float
    lost_mass: dict[str, float]


def tighten(
    region: Box,
    prior: Prior,
    estimator: RatioEstimator,
    x: Tensors,
    z: Tensor,
    names: Sequence[str],
    settings: Truncation,
) -> Tightened:
    """Cut `region` to where the 1-d ratio of each name exceeds epsilon times its maximum, padded.

    x: the observation with a batch axis of one; z (S, T): samples of the targets from the region's prior.
    """
    cube, derived, lost = {}, {}, {}
    tables = Quantiles(z, knots=1025)
    levels = (torch.arange(GRID) + 0.5) / GRID
    for name in names:
        target = estimator.targets.index(name)
        grid = tables.inverse(levels, target)
        log_r = estimator.log_ratio_grid(x, estimator.marginals.index((name,)), grid)[0].double()
        kept = torch.nonzero(log_r > log_r.max() + np.log(settings.epsilon))[:, 0]
        # one cell further on each side: the contour lies between a kept and a dropped grid point
        first, last = max(0, int(kept[0]) - 1), min(GRID - 1, int(kept[-1]) + 1)
        low, high = (float(grid[i]) for i in (first, last))
        pad = settings.padding * (high - low)
        if name in prior:
            edge = region.cube[name]
        else:
            edge = region.derived.get(name, (-np.inf, np.inf))
        # an edge of the grid that is kept is no contour: the old bound stays
        low = edge[0] if first == 0 else max(edge[0], low - pad)
        high = edge[1] if last == GRID - 1 else min(edge[1], high + pad)
        density = torch.exp(log_r - log_r.max())
        outside = (grid < low) | (grid > high)
        lost[name] = float(density[outside].sum() / density.sum())
        if name in prior:
            cube[name] = (low, high)
        elif np.isfinite((low, high)).any():
            derived[name] = (low, high)
    tightened = region.tightened(cube, derived)
    return Tightened(tightened, _kept(region, tightened, prior, estimator.targets, z), lost)


def _kept(old: Box, new: Box, prior: Prior, targets: Sequence[str], z: Tensor) -> float:
    """Share of the old region's volume in the new one: exact for a box in the cube, else counted among the samples."""
    if not new.derived:
        return float(np.exp(new.log_volume - old.log_volume))
    inside = torch.ones(len(z), dtype=torch.bool)
    for i, name in enumerate(targets):
        low, high = new.cube[name] if name in prior else new.derived.get(name, (-np.inf, np.inf))
        inside &= (z[:, i] >= low) & (z[:, i] <= high)
    return max(float(inside.double().mean()), 1 / len(z))
