"""Is the learned posterior calibrated?  Expected coverage on simulations that training has not seen.

For every held-out simulation the rank of the true value under its own learned marginal is uniform if the posterior is
right on average over the region.  This cannot see a posterior that is merely too wide because the network
ignores part of the data: calibration is no proof of sharpness.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from tmnre.ratio import RatioEstimator
from tmnre.simulator import Tensors


def ranks(estimator: RatioEstimator, x: Tensors, z: Tensor, prior_z: Tensor) -> dict[str, np.ndarray]:
    """Posterior probability below the truth, {name: (N,)}, for every one-dimensional marginal.

    x {"name": (N, ...)} with truths z (N, T); prior_z (S, T) samples of the region's prior.
    """
    a, b = estimator.of_x(x), estimator.of_z(prior_z)
    found = {}
    for m, names in enumerate(estimator.marginals):
        if len(names) == 1:
            column = estimator.targets.index(names[0])
            weights = torch.softmax(a[:, m] @ b[:, m].T, dim=1)
            below = prior_z[:, column] < z[:, column, None]
            found[names[0]] = (weights * below).sum(1).double().detach().numpy()
    return found


def coverage(rank: np.ndarray, levels: tuple[float, ...] = (0.5, 0.68, 0.9)) -> dict[str, float | bool]:
    """Fractions of truths inside central intervals, and a Kolmogorov-Smirnov test of the ranks (N,).

    `passed` is False where the ranks differ from uniform with p < 1e-3: of 20 calibrated marginals, one in fifty
    analyses has one that fails.
    """
    inside = {f"{level:.2f}": float(np.mean(np.abs(rank - 0.5) < level / 2)) for level in levels}
    p = float(stats.kstest(rank, "uniform").pvalue)
    return {**inside, "p_uniform": p, "passed": p > 1e-3}
