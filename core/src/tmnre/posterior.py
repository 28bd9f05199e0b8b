"""Posteriors of one observation from what a round has learned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tmnre.prior import Prior
from tmnre.ratio import RatioEstimator
from tmnre.region import Box
from tmnre.result import MarginalPosterior
from tmnre.simulator import Tensors

JOINT_SAMPLES = 20_000

Posteriors = dict[tuple[str, ...], MarginalPosterior]


def of_heads(estimator: RatioEstimator, x: Tensors, z: Tensor, prior: Prior) -> Posteriors:
    """Of every marginal with a head: draws z (S, T) of the region's prior, weighted by the ratio at x (1, ...)."""
    log_r = estimator.log_ratio(x, z)[0].double().numpy()
    values = _values(prior, estimator.targets, z)
    return {
        names: MarginalPosterior(names, np.stack([values[name] for name in names], axis=1), log_r[:, m])
        for m, names in enumerate(estimator.marginals)
    }


def of_joints(
    joints: Sequence[tuple[str, ...]], estimator: RatioEstimator, x: Tensors, prior: Prior, region: Box, seed: int
) -> Posteriors:
    """Of joints learned by the chain rule: draws of the posterior at x (1, ...), those outside a contour left out."""
    found = {}
    for i, names in enumerate(joints):
        drawn, log_r, log_integral = estimator.sample(names, x, JOINT_SAMPLES, torch.Generator().manual_seed(seed + i))
        contour = region.contours.get(names)
        inside = contour.contains(drawn.numpy()) if contour else np.ones(len(drawn), dtype=bool)
        values = _values(prior, names, drawn[inside])
        found[names] = MarginalPosterior(
            names,
            np.stack([values[name] for name in names], axis=1),
            log_r[inside].numpy(),
            log_weights=np.zeros(inside.sum()),
            log_evidence=float(log_integral.logsumexp(0)) - np.log(len(drawn)),
        )
    return found


def _values(prior: Prior, names: Sequence[str], z: Tensor) -> dict[str, np.ndarray]:
    """Values of targets z (S, T): parameters from the cube, derived quantities as they are."""
    return {
        name: prior[name].quantile(column) if name in prior else column
        for name, column in zip(names, z.numpy().T, strict=True)
    }
