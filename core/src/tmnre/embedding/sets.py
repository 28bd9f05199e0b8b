"""Sets of varying length: networks that neither the members' order nor the padding affects.

A set array is {"name": (N, L, P)}, or (N, L) with one number a member, beside a mask (N, L), true (or not zero) where
there is a member.  The weights do not depend on L.

Keywords of all: `name`, the key of the members, None for the only array that is not the mask; `mask`, the key of the
mask, None for "mask" if there is one, and else every entry is a member.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmnre.embedding.mlp import ResidualBlock
from tmnre.embedding.standardise import Standardise
from tmnre.simulator import Tensors


class Members(nn.Module):
    """Standardised members (N, L, P), zero where there is none, and the mask (N, L) bool, from x.

    Mean and scale are those of the members alone; what stands in the padding, be it NaN, never enters.
    """

    def __init__(self, x: Tensors, name: str | None, mask: str | None) -> None:
        super().__init__()
        self.mask = "mask" if mask is None and "mask" in x else mask
        arrays = [key for key in x if key != self.mask]
        if name is None and len(arrays) != 1:
            raise ValueError(f"x must hold one array beside the mask, got {sorted(x)}; set `name` and `mask`")
        self.name = name or arrays[0]
        members, valid = self._arrays(x)
        # no member at all has no mean; a row of zeros leaves the members as they are
        rows = members[valid] if valid.any() else members.new_zeros(2, members.shape[2])
        self.standardise = Standardise(rows)
        self.size = members.shape[2]

    def _arrays(self, x: Tensors) -> tuple[Tensor, Tensor]:
        members = x[self.name].float()
        members = members[..., None] if members.ndim == 2 else members
        if members.ndim != 3:
            raise ValueError(f"{self.name!r} must have shape (N, L, P) or (N, L), got {tuple(x[self.name].shape)}")
        valid = torch.ones_like(members[..., 0], dtype=torch.bool) if self.mask is None else x[self.mask].bool()
        if valid.shape != members.shape[:2]:
            raise ValueError(f"{self.mask!r} must have shape {tuple(members.shape[:2])}, got {tuple(valid.shape)}")
        return members, valid

    def forward(self, x: Tensors) -> tuple[Tensor, Tensor]:
        members, valid = self._arrays(x)
        return torch.where(valid[..., None], self.standardise(members), 0.0), valid


class Count(nn.Module):
    """Number of members, and its logarithm, standardised (N, 2); `relative` is the number over its mean (N, 1)."""

    mean: Tensor

    def __init__(self, valid: Tensor) -> None:
        super().__init__()
        count = valid.sum(1, dtype=torch.float32)
        self.register_buffer("mean", count.mean().clamp_min(1.0))
        self.standardise = Standardise(self._both(count))

    @staticmethod
    def _both(count: Tensor) -> Tensor:
        return torch.stack([count, torch.log1p(count)], dim=1)

    def forward(self, valid: Tensor) -> Tensor:
        return self.standardise(self._both(valid.sum(1, dtype=torch.float32)))

    def relative(self, valid: Tensor) -> Tensor:
        return valid.sum(1, keepdim=True, dtype=torch.float32) / self.mean


class DeepSet(nn.Module):
    """Features (N, F) of sets: one network for every member; sum, mean and maximum over members; one for the features.

    Zaheer et al. (2017, 1703.06114).  The count is a feature too.
    """

    def __init__(
        self,
        x: Tensors,
        *,
        features: int = 128,
        hidden: int = 64,
        blocks: int = 1,
        name: str | None = None,
        mask: str | None = None,
    ) -> None:
        super().__init__()
        self.members = Members(x, name, mask)
        self.count = Count(self.members(x)[1])
        self.each = nn.Sequential(
            nn.Linear(self.members.size, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
        )
        self.out = nn.Sequential(
            nn.Linear(3 * hidden + 2, features),
            *(ResidualBlock(features, 2 * features) for _ in range(blocks)),
            nn.LayerNorm(features),
        )

    def forward(self, x: Tensors) -> Tensor:
        members, valid = self.members(x)
        # a sum over many in half precision would lose the small
        each = self.each(members).float()
        mean = torch.where(valid[..., None], each, 0.0).sum(1) / valid.sum(1, keepdim=True).clamp_min(1)
        most = each.masked_fill(~valid[..., None], -torch.inf).amax(1)
        most = torch.where(valid.any(1, keepdim=True), most, 0.0)
        return self.out(torch.cat([mean * self.count.relative(valid), mean, most, self.count(valid)], dim=1))


class SetTransformer(nn.Module):
    """Features (N, F) of sets by attention: members see one another through `inducing` learned points, `layers` times,
    and `seeds` learned queries pool them.

    Lee et al. (2019, 1810.00825): induced set attention and pooling by attention, at a cost linear in L.  One learned
    member is in every set, so that an empty one has something to attend to.  The pooled are features as they are, a
    mean, and times the count, a sum.
    """

    def __init__(
        self,
        x: Tensors,
        *,
        features: int = 128,
        hidden: int = 32,
        heads: int = 4,
        layers: int = 1,
        inducing: int = 8,
        seeds: int = 4,
        name: str | None = None,
        mask: str | None = None,
    ) -> None:
        super().__init__()
        self.members = Members(x, name, mask)
        self.count = Count(self.members(x)[1])
        self.each = nn.Sequential(nn.Linear(self.members.size, hidden), ResidualBlock(hidden, hidden))
        self.own = nn.Parameter(torch.randn(hidden))
        self.inducing = nn.ParameterList(torch.randn(inducing, hidden) for _ in range(layers))
        self.gather = nn.ModuleList(Attention(hidden, heads) for _ in range(layers))
        self.spread = nn.ModuleList(Attention(hidden, heads) for _ in range(layers))
        self.seeds = nn.Parameter(torch.randn(seeds, hidden))
        self.pool = Attention(hidden, heads)
        self.out = nn.Sequential(
            nn.Linear(2 * seeds * hidden + 2, features), ResidualBlock(features, 2 * features), nn.LayerNorm(features)
        )

    def forward(self, x: Tensors) -> Tensor:
        members, valid = self.members(x)
        n = len(members)
        each = torch.cat([self.own.expand(n, 1, -1), self.each(members)], dim=1)
        attended = F.pad(valid, (1, 0), value=True)
        for points, gather, spread in zip(self.inducing, self.gather, self.spread, strict=True):
            each = spread(each, gather(points.expand(n, -1, -1), each, attended))
        pooled = self.pool(self.seeds.expand(n, -1, -1), each, attended).flatten(1).float()
        return self.out(torch.cat([pooled, pooled * self.count.relative(valid), self.count(valid)], dim=1))


class Attention(nn.Module):
    """Queries (N, Q, F) that have attended to members (N, L, F) where `valid` (N, L); pre-norm, a residual block last.

    Biases on keys would drop out of the softmax over members, those on values are one with those of `out`.
    """

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_queries, self.norm_members = nn.LayerNorm(features), nn.LayerNorm(features)
        self.queries = nn.Linear(features, features, bias=False)
        self.keys_values = nn.Linear(features, 2 * features, bias=False)
        self.out = nn.Linear(features, features)
        self.block = ResidualBlock(features, features)

    def forward(self, queries: Tensor, members: Tensor, valid: Tensor | None = None) -> Tensor:
        projected = (
            self.queries(self.norm_queries(queries)),
            *self.keys_values(self.norm_members(members)).chunk(2, -1),
        )
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in projected)
        mask = None if valid is None else valid[:, None, None]
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.block(queries + self.out(found.transpose(1, 2).flatten(2)))
