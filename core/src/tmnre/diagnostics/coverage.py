"""Expected coverage on simulations that training has not seen.

Two ranks of a truth z* under its own learned marginal are uniform if the posterior is right on average over the region:

    central           P(z < z* | x), one-dimensional marginals
    highest density   P(r(x, z) > r(x, z*) | x), any dimension (2110.06581, section 2)

The second ranks by the ratio itself.  r is the posterior's density over the prior's measure (over u, where the prior
is uniform), so its level sets do not depend on how the targets are parametrised; {r > r*} is the smallest region in
prior volume that holds its mass.  Uniformity holds for any function of (x, z) in the place of r.

Neither sees a posterior that is merely too wide because the network ignores part of the data: calibration is no
proof of sharpness, and the prior passes.  With N = 1000 a posterior shifted by half a standard deviation, or 1.5 times
too narrow or too wide, fails the central ranks in over 99% of repeats.  So does the width with the highest-density
ones; the shift enters them at second order and takes N = 2000 in one dimension.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from tmnre.diagnostics.check import THRESHOLD, Check
from tmnre.diagnostics.shapes import shaped
from tmnre.ratio import RatioEstimator
from tmnre.simulator import Tensors

LEVELS = (0.5, 0.68, 0.9)
PERCENTILES = tuple(k / 20 for k in range(1, 20))


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


def coverage(rank: np.ndarray, levels: tuple[float, ...] = LEVELS) -> dict[str, float | bool]:
    """Fractions of truths inside central intervals, and a Kolmogorov-Smirnov test of the ranks (N,)."""
    inside = {f"{level:.2f}": float(np.mean(np.abs(rank - 0.5) < level / 2)) for level in levels}
    p = float(stats.kstest(rank, "uniform").pvalue)
    return {**inside, "p_uniform": p, "passed": p > THRESHOLD}


def percentiles(rank: np.ndarray) -> list[float]:
    """Fractions of truths with a rank (N,) below each of `PERCENTILES`: the curve of a percentile-percentile plot."""
    return (rank[:, None] < np.array(PERCENTILES)).mean(0).tolist()


def binomial_bands(n: int, levels: Sequence[float] = LEVELS, probability: float = 0.99) -> np.ndarray:
    """Coverage (levels, 2) between which n calibrated simulations lie with at least the given probability, exact."""
    tail = (1 - probability) / 2
    return np.array([[stats.binom.ppf(tail, n, level), stats.binom.isf(tail, n, level)] for level in levels]) / n


def mass_above(log_r: Tensor, log_r_truth: Tensor, generator: torch.Generator) -> Tensor:
    """Posterior mass (...) of the prior draws whose log ratio (..., S) exceeds that of the truth (...).

    Ties are broken at random: a ratio that is constant gives uniform ranks, as it must.
    """
    weights = torch.softmax(log_r, dim=-1)
    truth = log_r_truth[..., None]
    split = torch.rand(log_r_truth.shape, generator=generator, dtype=weights.dtype)
    return (weights * (log_r > truth)).sum(-1) + split * (weights * (log_r == truth)).sum(-1)


@torch.no_grad()
def density_ranks(
    estimator: RatioEstimator, x: Tensors, z: Tensor, prior_z: Tensor, *, generator: torch.Generator, chunk: int = 50
) -> dict[tuple[str, ...], np.ndarray]:
    """Posterior mass of larger ratio than the truth's, {names: (N,)}, for every marginal.

    Shapes as for `ranks`.  prior_z stands for the posterior by importance: draws worth fewer than about sqrt(N)
    under it leave the ranks visibly discrete.
    """
    a, own, b = estimator.of_x(x), estimator.of_z(z), estimator.of_z(prior_z)
    found = [
        mass_above(torch.einsum("nmr,smr->nms", part, b), (part * truth).sum(2), generator)
        for part, truth in zip(a.split(chunk), own.split(chunk), strict=True)
    ]
    return dict(zip(estimator.marginals, torch.cat(found).T.double().numpy(), strict=True))


@torch.no_grad()
def joint_ranks(
    estimator: RatioEstimator, x: Tensors, z: Tensor, *, generator: torch.Generator, draws: int = 49
) -> tuple[dict[tuple[str, ...], np.ndarray], dict[tuple[str, ...], np.ndarray]]:
    """The same for every joint, {names: (N,)}, by so many posterior draws of each x.

    And how far the truth's log ratio is below the largest of the draws', {names: (N,)}.
    """
    ranks, depths = {}, {}
    for names, joint in estimator.joints.items():
        log_r = estimator.sample(names, x, draws, generator)[1].reshape(len(z), draws)
        truth = joint.log_ratio(estimator.embedding(x), estimator.quantiles(z)[:, joint.columns])
        above = (log_r > truth[:, None]).sum(1)
        # anywhere between two draws
        ranks[names] = ((above + torch.rand(len(z), generator=generator)) / (draws + 1)).double().numpy()
        depths[names] = (log_r.amax(1) - truth).numpy()
    return ranks, depths


def expected_coverage(rank: np.ndarray, *, name: str = "", levels: Sequence[float] = LEVELS) -> Check:
    """Fractions of truths inside highest-density regions with their 99% bands, and a Kolmogorov-Smirnov test.

    rank (N,), a marginal's from `density_ranks`.
    """
    (rank,) = shaped(rank=(rank, "N"))
    numbers = {"simulations": len(rank)}
    for level, (low, high) in zip(levels, binomial_bands(len(rank), levels), strict=True):
        inside = np.mean(rank < level)
        numbers |= {f"{level:.2f}": inside, f"{level:.2f}_low": low, f"{level:.2f}_high": high}
    return Check.of(f"expected coverage {name}".strip(), stats.kstest(rank, "uniform").pvalue, numbers)
