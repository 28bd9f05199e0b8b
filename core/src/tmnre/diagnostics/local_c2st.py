"""Local classifier two-sample test: is the posterior right at this observation (2306.03580, section 3)?

A classifier d(x, z) learns to tell pairs (x_i, truth_i) from (x_i, draw of the posterior of x_i).  At the observation
it is evaluated on posterior draws only,

    t = mean over draws z of (d(x_o, z) - 1/2)^2,

zero where the two distributions are equal.  The null distribution of t comes from classifiers whose labels are swapped
at random within the pairs, which are exchangeable if the posterior is right for every x: all start from the same
weights and see the same batches, so that the rank of t among them is exactly uniform.  Once twenty of them exceed t it
cannot fail any more, and no more are trained.  A posterior that is right at x_o but not elsewhere may fail as well,
because the classifier is smooth in x: t, larger where the posterior is worse, tells the observations apart.

Targets are whitened by mean and sd of the posterior's other draws at the same x, in the spirit of the paper's variant
for normalising flows: then errors look alike at every x and few simulations show them.  Squares of the whitened targets
are inputs as well; they double t for a wrong width, which is the hardest to see among many features.

Sees ignored data, where calibration does not.  With N = 2000, 20 features and three targets the prior and posteriors
shifted by half a standard deviation, or 1.5 times too narrow or too wide, fail in over 95% of repeats.  x_o has to be
an x like the others: far from all of them the classifier extrapolates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from tmnre.diagnostics.check import THRESHOLD, Check
from tmnre.diagnostics.shapes import shaped

HIDDEN, EPOCHS, BATCHES = 16, 5, 10
"""hidden units; passes over the simulations, few, since longer training only fits noise; batches in each"""
GROUP, ENOUGH = 50, 20
"""networks trained at a time, and nulls above t after which no more are needed"""


def local_c2st(
    x: ArrayLike,
    truth: ArrayLike,
    draws: ArrayLike,
    *,
    x_o: ArrayLike,
    draws_o: ArrayLike,
    seed: int,
    nulls: int = 1999,
) -> Check:
    """Whether the posterior at features x_o (F,), given by its draws (S, D), is the right one.

    Held-out features x (N, F), truths (N, D) and distinct posterior draws of each (N, L, D).

    Raises ValueError for fewer nulls than a p-value below the threshold needs, 999.
    """
    if nulls + 1 < 1 / THRESHOLD:
        raise ValueError(
            f"with {nulls} null classifiers no check can fail; use at least {math.ceil(1 / THRESHOLD) - 1}"
        )
    t = np.empty(0)
    for group in local_statistics(x, truth, draws, x_o, draws_o, seed, nulls):
        t = np.append(t, group)
        if np.sum(t[1:] >= t[0]) >= ENOUGH:
            break
    numbers = {"statistic": t[0], "null_median": np.median(t[1:]), "null_largest": t[1:].max()}
    return Check.of("local c2st", sequential_p_value(t[0], t[1:]), numbers)


def sequential_p_value(found: float, null: np.ndarray) -> float:
    """Of `found` among draws of its null distribution, of which no more have to be made than contain `ENOUGH` above it.

    Besag & Clifford 1991 (doi:10.1093/biomet/78.2.301): never too small, however many draws were made.
    """
    above = np.flatnonzero(null >= found)
    return ENOUGH / (1 + above[ENOUGH - 1]) if len(above) >= ENOUGH else (1 + len(above)) / (1 + len(null))


def local_statistics(
    x: ArrayLike,
    truth: ArrayLike,
    draws: ArrayLike,
    x_o: ArrayLike,
    draws_o: ArrayLike,
    seed: int,
    nulls: int,
) -> Iterator[np.ndarray]:
    """t of the classifier with the right labels and of `nulls` with swapped ones, in this order, group by group."""
    x, truth, draws, x_o, draws_o = shaped(
        x=(x, "N F"), truth=(truth, "N D"), draws=(draws, "N L D"), x_o=(x_o, "F"), draws_o=(draws_o, "S D")
    )
    if draws.shape[1] < 8:
        raise ValueError(f"whitening needs at least 8 draws of every x, draws has shape {draws.shape}")
    centre, width = draws[:, 1:].mean(1), draws[:, 1:].std(1, ddof=1)
    if not (width > 0).all():
        raise ValueError("the posterior draws of some x are all the same; draw them from more prior samples")
    spread = np.where(x.std(0) > 0, x.std(0), 1.0)
    at_x_o = np.broadcast_to(x_o, (len(draws_o), len(x_o)))
    true, drawn, points = (
        torch.from_numpy(np.column_stack([(at - x.mean(0)) / spread, z, z**2 - 1, np.ones(len(z))])).float()
        for at, z in (
            (x, (truth - centre) / width),
            (x, (draws[:, 0] - centre) / width),
            (at_x_o, (draws_o - draws_o.mean(0)) / draws_o.std(0, ddof=1)),
        )
    )
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (1 + nulls, len(x)), generator=generator) * 2.0 - 1
    signs[0] = 1
    batches = [
        rows for _ in range(EPOCHS) for rows in torch.randperm(len(x), generator=generator).tensor_split(BATCHES)
    ]
    start = [
        torch.empty(rows, HIDDEN).uniform_(-1, 1, generator=generator) / math.sqrt(inputs)
        for rows, inputs in ((true.shape[1], true.shape[1]), (1, HIDDEN))
    ]
    for group in signs.split(GROUP):
        yield _train(true, drawn, points, group, start, batches).double().numpy()


def _train(
    true: Tensor, drawn: Tensor, points: Tensor, signs: Tensor, start: list[Tensor], batches: list[Tensor]
) -> Tensor:
    """t (M,) at points (S, I) of M classifiers of true (N, I) from drawn (N, I); signs (M, N), -1 swaps the labels."""
    m = len(signs)
    # side by side, so that one product serves all
    weights = [start[0].repeat(1, m).requires_grad_(), start[1].repeat(m, 1).requires_grad_()]

    def logits(z: Tensor) -> Tensor:
        """(N, M) from z (N, I)."""
        return (F.relu(z @ weights[0]).unflatten(1, (m, -1)) * weights[1]).sum(2)

    optimiser = torch.optim.AdamW(weights, lr=0.01, weight_decay=1.0, fused=True)
    for rows in batches:
        s = signs[:, rows].T
        wrong = torch.cat([-s, s]) * logits(torch.cat([true[rows], drawn[rows]]))
        optimiser.zero_grad()
        # every network has its own weights: the gradient of the sum is that of each
        (F.softplus(wrong).sum() / len(rows)).backward()
        optimiser.step()
    with torch.no_grad():
        return ((torch.sigmoid(logits(points)) - 0.5) ** 2).mean(0)
