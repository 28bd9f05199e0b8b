"""Heads of marginals: small networks for many of them at once, and what they see of a target's quantile."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmnre.start import GaussianRatios, Start, normal_score

WAVES, RANK = 16, 32
ENCODED = WAVES + 4
"""length of `encoded`"""


def wave_weights(smooth: float) -> Tensor:
    """Weights (ENCODED,) of what `encoded` gives that divide the k-th wave by k^smooth.

    What training starts from, and few simulations leave, is then the smoother.
    """
    weights = torch.ones(ENCODED)
    weights[:WAVES] /= torch.arange(1, WAVES + 1) ** smooth
    return weights


def encoded(s: Tensor) -> Tensor:
    """Quantiles s (...) as inputs of a network (..., ENCODED)."""
    s = s[..., None]
    score = normal_score(s)
    waves = math.pi * torch.arange(1, WAVES + 1, device=s.device)
    return torch.cat([torch.cos(s * waves), s, s**2, score, score**2 / 4], dim=-1)


def of_one_rank(parts: Sequence[Tensor]) -> Tensor:
    """Factors (N, ..., rank) one after another, the shorter ones padded with zeros."""
    rank = max(part.shape[2] for part in parts)
    return torch.cat([F.pad(part, (0, rank - part.shape[2])) for part in parts], dim=1)


class BatchedLinear(nn.Module):
    """M independent linear maps: (N, M, I) -> (N, M, O)."""

    def __init__(self, m: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(m, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(m, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x.transpose(0, 1), self.weight).transpose(0, 1)

    def one(self, i: int, x: Tensor) -> Tensor:
        """The i-th map alone: (N, I) -> (N, O)."""
        return torch.addmm(self.bias[i], x, self.weight[i])


class Heads(nn.Module):
    """Scalar-product heads of all marginals of one dimension d.

    columns (M, d): which targets each marginal takes.  With a `start`, whose means and widths are the last features,
    what they learn is added to its ratios.
    """

    columns: Tensor
    pairs: Tensor

    def __init__(
        self, columns: Tensor, features: int, *, hidden: int = 64, rank: int = RANK, start: Start | None = None
    ) -> None:
        super().__init__()
        m, d = columns.shape
        self.register_buffer("columns", columns)
        self.x_in = nn.Linear(features, m * hidden)
        self.x_out = BatchedLinear(m, hidden, rank)
        self.register_buffer("pairs", torch.triu_indices(d, d, 1))
        inputs = d * ENCODED + 2 * self.pairs.shape[1]
        self.z_in = BatchedLinear(m, inputs, hidden * d)
        self.z_out = BatchedLinear(m, hidden * d, rank)
        self.z_skip = BatchedLinear(m, inputs, rank)
        self.hidden = hidden
        self.start = GaussianRatios(columns, start) if start else None
        if start:
            known = start.tells[columns].any(1)
            with torch.no_grad():
                self.x_out.weight[known], self.x_out.bias[known] = 0, 0

    def of_x(self, features: Tensor) -> Tensor:
        """a (N, M, rank) from features (N, F)."""
        hidden = F.gelu(self.x_in(features)).unflatten(1, (-1, self.hidden))
        a = self.x_out(hidden).float()
        return a if self.start is None else torch.cat([a, self.start.of_x(features)], dim=-1)

    def of_z(self, s: Tensor) -> Tensor:
        """b (N, M, rank) from quantiles s (N, T)."""
        start = [] if self.start is None else [self.start.of_z(s)]
        # each target once, though many marginals take it
        one, other = self.columns[:, self.pairs].unbind(1)
        products = [v[:, one] * v[:, other] for v in (normal_score(s), 4 * s - 2)]
        inputs = torch.cat([encoded(s)[:, self.columns].flatten(2), *products], dim=2)
        b = self.z_out(F.gelu(self.z_in(inputs))) + self.z_skip(inputs)
        return torch.cat([b.float(), *start], dim=-1)
