"""The networks of a round, made for its data: the ensemble's members, and the candidates each is chosen from."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tmnre.analysis import Analysis
from tmnre.draws import Draws
from tmnre.embedding import ResidualMLP, flat
from tmnre.ratio import Quantiles, RatioEstimator
from tmnre.regression import linear_start
from tmnre.start import Start, Summarising

SMOOTHS = (0.0, 2.0)
"""of a joint's network, to be chosen from: with few simulations, or a plain posterior, the smoother learns far more"""


def new_members(
    analysis: Analysis,
    draws: Draws,
    marginals: Sequence[tuple[str, ...]],
    joints: Sequence[tuple[str, ...]],
    seed: int,
    *,
    prior_draws: int = 2**16,
) -> list[list[RatioEstimator]]:
    """Of every member of the ensemble the candidates, with random weights.

    marginals: those that heads learn; joints: those learned by the chain rule; prior_draws: from which the targets'
    quantiles in the region are taken.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.multinomial(draws.weight, min(2048, len(draws)), replacement=True, generator=generator)
    x, _ = draws.batch(rows, generator)
    quantiles = Quantiles.of(draws.sample_targets(prior_draws, generator))
    ties = {names: tie(names, draws) for names in joints}
    make = analysis.embedding or ResidualMLP
    train, _ = draws.split(analysis.training.validation_fraction, seed)
    smooths = SMOOTHS if joints else SMOOTHS[:1]
    members: list[list[RatioEstimator]] = []
    start: Start | None = None
    with torch.random.fork_rng(devices=[]):
        for order in range(analysis.training.members):
            torch.manual_seed(seed + order)
            embedding = make(x)
            if not members:
                summaries = embedding.summaries if isinstance(embedding, Summarising) else flat
                start = linear_start(draws, train, quantiles, seed, summaries)
            with torch.no_grad():
                features = embedding({k: v[:2] for k, v in x.items()}).shape[-1]
            after = torch.get_rng_state()
            candidates = []
            for smooth in smooths:  # which begin alike
                torch.set_rng_state(after)
                what = copy.deepcopy(embedding), features, quantiles, draws.targets, marginals, ties
                candidates.append(RatioEstimator.new(*what, smooth=smooth, start=start))
            members.append(candidates)
    return members


def tie(names: tuple[str, ...], draws: Draws) -> dict[str, Any]:
    """How the region's prior ties the targets of a joint together; see `RatioEstimator`."""
    prior, contours = draws.simulator.prior, draws.region.contours
    contours = {group: contour for group, contour in contours.items() if set(group) & set(names)}
    if draws.tied or not set(names) <= prior.keys():
        return {"learned": True}
    if not contours:
        return {}
    if any(not set(group) <= set(names) for group in contours):
        return {"learned": True}
    widths = np.diff([draws.region.cube[name] for name in names if not any(name in group for group in contours)])
    return {"log_volume": float(np.log(widths).sum()) + sum(c.log_volume for c in contours.values())}
