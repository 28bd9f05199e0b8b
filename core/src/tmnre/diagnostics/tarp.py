"""Tests of accuracy with random points: coverage of balls around reference points (2302.03026, algorithm 2).

The fraction of posterior draws nearer to a reference point than the truth is uniform, if the reference may depend on x
but not on the truth.  Only references that do depend on x make uniformity sufficient for a right posterior: with any
others the prior passes.

`regressed_references` makes them from one half of the simulations and leaves the other half for the test.  A linear
regression predicts the truth from features of x: draws that ignore the data lie far from where the truths lie.  Each
prediction is then displaced, because a ball about the posterior's own centre, or about points scattered evenly around
it, sees a shift at second order only: what one side loses the other gains.  The displacement is along the mean
difference between draws and truths in the first half, the direction in which this posterior seems shifted; where it is
not, the direction is noise and harmless.  One residual standard deviation: with half of it a shift of one parameter in
three is missed, with twice as much the prior passes where the data say little.

With N = 1000, 500 of them tested, in three dimensions, the prior and a posterior shifted by half a standard deviation,
or 1.5 times too narrow or too wide, fail in over 99% of repeats; one shifted in one of the three, in over 90%.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tmnre.diagnostics.check import Check
from tmnre.diagnostics.shapes import shaped
from tmnre.diagnostics.uniform import rank_test


def tarp(truth: ArrayLike, draws: ArrayLike, references: ArrayLike, *, scale: ArrayLike) -> Check:
    """Whether balls around references (N, D) cover truths (N, D) as often as they hold posterior draws (N, L, D).

    scale (D,) : unit of distance in each dimension, the sd of the prior's draws.

    numbers: `deviation`, the largest difference between expected coverage and credibility.
    """
    truth, draws, references, scale = shaped(
        truth=(truth, "N D"), draws=(draws, "N L D"), references=(references, "N D"), scale=(scale, "D")
    )
    from_truth = np.sum(((truth - references) / scale) ** 2, axis=1)
    from_draws = np.sum(((draws - references[:, None]) / scale) ** 2, axis=2)
    nearer = (from_draws < from_truth[:, None]).sum(1)
    n_draws = draws.shape[1]
    covered = np.cumsum(np.bincount(nearer, minlength=n_draws + 1)) / len(truth)
    deviation = np.abs(covered - np.arange(1, n_draws + 2) / (n_draws + 1)).max()
    return Check.of("tarp", rank_test(nearer, n_draws), {"deviation": deviation})


def regressed_references(x: ArrayLike, truth: ArrayLike, draws: ArrayLike) -> np.ndarray:
    """References (N - N // 2, D) for the last simulations, from the first N // 2 of all.

    Features x (N, F), truths (N, D), draws (N, L, D).  A reference is the linear prediction, displaced by one residual
    standard deviation in root mean square over the dimensions.
    """
    x, truth, draws = shaped(x=(x, "N F"), truth=(truth, "N D"), draws=(draws, "N L D"))
    half = len(x) // 2
    design = np.column_stack([np.ones(len(x)), x])
    coefficients, *_ = np.linalg.lstsq(design[:half], truth[:half], rcond=None)
    residual = (truth - design @ coefficients)[:half].std(0)
    direction = (draws[:half].mean(1) - truth[:half]).mean(0) / residual
    direction *= np.sqrt(len(direction)) / np.linalg.norm(direction)
    return design[half:] @ coefficients + residual * direction
