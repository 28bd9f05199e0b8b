"""Every check that posterior draws allow, of all marginals of one estimator on simulations it has not seen.

Where TARP and the local test need something that tells one x from another, it is the means of the posteriors: one
number per target, and all that a posterior ought to depend on.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tmnre.diagnostics.check import Check
from tmnre.diagnostics.local_c2st import local_c2st
from tmnre.diagnostics.sbc import sbc
from tmnre.diagnostics.tarp import regressed_references, tarp
from tmnre.diagnostics.uniform import FEWEST
from tmnre.ratio import RatioEstimator
from tmnre.simulator import Tensors

DRAWS, DRAWS_HERE, DISTINCT = 64, 500, 16
NULLS = 999


def posterior_checks(
    estimator: RatioEstimator, x: Tensors, z: Tensor, x_o: Tensors, prior_z: Tensor, *, seed: int
) -> list[Check]:
    """SBC of all one-dimensional marginals; TARP, and the local C2ST at x_o (1, ...), of every marginal.

    x {"name": (N, ...)} with truths z (N, T), held out; prior_z (S, T) samples of the region's prior.

    Empty for fewer than 400 simulations.  A marginal without 16 distinct draws at some x, because the region is much
    wider than the posterior, has no local test.
    """
    if len(z) < 2 * FEWEST:
        return []
    generator = torch.Generator().manual_seed(seed)
    drawn = {names: d.numpy() for names, d in posterior_draws(estimator, x, prior_z, DRAWS, generator).items()}
    here = {names: d[0].numpy() for names, d in posterior_draws(estimator, x_o, prior_z, DRAWS_HERE, generator).items()}
    truth = {names: z[:, [estimator.targets.index(name) for name in names]].numpy() for names in drawn}
    means = {name: d.mean(1)[:, i] for names, d in drawn.items() for i, name in enumerate(names)}
    means_here = {name: d.mean(0)[i] for names, d in here.items() for i, name in enumerate(names)}
    features = np.column_stack(list(means.values()))
    single = [names for names in drawn if len(names) == 1]
    found = []
    if single:
        columns = np.concatenate([truth[names] for names in single], axis=1)
        draws = np.concatenate([drawn[names] for names in single], axis=2)
        found.append(sbc(columns, draws, [name for (name,) in single]))
    for names, draws in drawn.items():
        where = ", ".join(names)
        references = regressed_references(features, truth[names], draws)
        tested = slice(len(truth[names]) - len(references), None)
        found.append(
            tarp(truth[names][tested], draws[tested], references, scale=prior_scale(estimator, names, prior_z)).named(
                f"tarp {where}"
            )
        )
        if min(len(np.unique(row[:, 0])) for row in (*draws, here[names])) >= DISTINCT:
            local = local_c2st(
                features,
                truth[names],
                draws,
                x_o=np.array(list(means_here.values())),
                draws_o=here[names],
                seed=seed,
                nulls=NULLS,
            )
            found.append(local.named(f"local c2st {where}"))
    return found


def prior_scale(estimator: RatioEstimator, names: tuple[str, ...], prior_z: Tensor) -> np.ndarray:
    """Standard deviation (d,) of the region's prior."""
    return prior_z[:, [estimator.targets.index(name) for name in names]].std(0).numpy()


@torch.no_grad()
def posterior_draws(
    estimator: RatioEstimator, x: Tensors, prior_z: Tensor, n: int, generator: torch.Generator
) -> dict[tuple[str, ...], Tensor]:
    """n draws (N, n, d) for every x (N, ...) from every marginal: prior samples resampled, or exact ones of a joint."""
    a, b = estimator.of_x(x), estimator.of_z(prior_z)
    found = {}
    for m, names in enumerate(estimator.marginals):
        columns = [estimator.targets.index(name) for name in names]
        weights = torch.softmax(a[:, m] @ b[:, m].T, dim=1)
        rows = torch.multinomial(weights, n, replacement=True, generator=generator)
        found[names] = prior_z[:, columns][rows]
    for names in estimator.joints:
        z, _, _ = estimator.sample(names, x, n, generator)
        found[names] = z.reshape(-1, n, len(names))
    return found
