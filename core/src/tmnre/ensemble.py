"""Ensembles: estimators trained from different random weights, and their mean as one estimator.

The mean of scalar products is the scalar product of concatenated factors, (1/K) sum_k a_k . b_k: all that works with
one estimator works with the mean, ratios on grids and exact draws from joints included.  The mean is taken of log r.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tmnre.joint import Joint
from tmnre.ratio import RatioEstimator
from tmnre.simulator import Tensors


def mean(members: Sequence[RatioEstimator]) -> RatioEstimator:
    """One estimator with the mean log r of members that have marginals and quantiles in common; it uses theirs."""
    if len(members) == 1:
        return members[0]
    first = members[0]
    return RatioEstimator(
        _SideBySide(member.embedding for member in members),
        first.quantiles,
        first.targets,
        first.marginals,
        [_MeanHeads(parts) for parts in zip(*(member.heads for member in members), strict=True)],
        {names: _mean_joint([member.joints[names] for member in members]) for names in first.joints},
    )


def _mean_joint(joints: Sequence[Joint]) -> Joint:
    prior = None if joints[0].prior is None else _MeanChain(joint.prior for joint in joints)
    return Joint(joints[0].columns, _MeanChain(joint.posterior for joint in joints), prior, joints[0].log_density)


class _SideBySide(nn.ModuleList):
    """Features (N, K F) of K embeddings."""

    def forward(self, x: Tensors) -> Tensor:
        return torch.cat([member(x) for member in self], dim=-1)


class _Mean(nn.ModuleList):
    """a (N, ..., K rank), divided by K, from features (N, K F)."""

    def _a(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts), dim=-1) / len(self)

    def _own(self, features: Tensor) -> Sequence[Tensor]:
        return features.chunk(len(self), dim=-1)


class _MeanHeads(_Mean):
    def of_x(self, features: Tensor) -> Tensor:
        return self._a([member.of_x(own) for member, own in zip(self, self._own(features), strict=True)])

    def of_z(self, s: Tensor) -> Tensor:
        return torch.cat([member.of_z(s) for member in self], dim=-1)


class _MeanChain(_Mean):
    def of_given(self, features: Tensor, s: Tensor) -> Tensor:
        return self._a([member.of_given(own, s) for member, own in zip(self, self._own(features), strict=True)])

    def of_value(self, s: Tensor) -> Tensor:
        return torch.cat([member.of_value(s) for member in self], dim=-1)

    def on_grid(self) -> Tensor:
        return torch.cat([member.on_grid() for member in self], dim=-1)

    def begin(self, features: Tensor) -> list[Tensor]:
        return [member.begin(own) for member, own in zip(self, self._own(features), strict=True)]

    def a_of(self, i: int, state: list[Tensor]) -> Tensor:
        return self._a([member.a_of(i, own) for member, own in zip(self, state, strict=True)])

    def tell(self, i: int, state: list[Tensor], s: Tensor) -> None:
        for member, own in zip(self, state, strict=True):
            member.tell(i, own, s)
