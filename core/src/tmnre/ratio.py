"""The ratio estimator: one embedding, and for every marginal a head that is a scalar product.

    log r_m(x, z) = a_m(f(x)) . b_m(z)

f is the embedding, evaluated once per x; a_m and b_m are small networks, all marginals of one dimension in one
batched matrix product.  Because the head is a scalar product, pairing every x with every z of a group costs one
matrix product.

Targets enter b_m through their prior quantile in the region, s in [0, 1], the same for parameters and for derived
quantities of any distribution: cosines of s for what is multimodal or periodic; s and its normal score with squares
and products, passed on linearly as well, because with these the tails of a Gaussian posterior extrapolate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmnre.simulator import Tensors


class Quantiles(nn.Module):
    """Maps each target to its quantile s in [0, 1] among the region's samples, piecewise linear between knots.

    samples (S, T) float64.  Values outside the samples map to 0 or 1.
    """

    def __init__(self, samples: Tensor, knots: int = 257) -> None:
        super().__init__()
        levels = torch.linspace(0, 1, knots, dtype=torch.float64)
        table = torch.quantile(samples[: 2**16], levels, dim=0).T.contiguous()
        table[:, 0], table[:, -1] = samples.amin(0), samples.amax(0)
        # ties (a quantity that piles up at a value) would make the inverse slope infinite
        span = (table[:, -1:] - table[:, :1]).clamp_min(1e-300)
        table = torch.cummax(table, dim=1).values + span * 1e-9 * levels
        self.register_buffer("table", table)

    def forward(self, z: Tensor) -> Tensor:
        """z (N, T) float64 -> s (N, T) float32."""
        flat = z.T.contiguous()
        index = torch.searchsorted(self.table, flat).clamp(1, self.table.shape[1] - 1)
        low, high = self.table.gather(1, index - 1), self.table.gather(1, index)
        s = (index - 1 + (flat - low) / (high - low)) / (self.table.shape[1] - 1)
        return s.clamp(0, 1).T.float()

    def inverse(self, s: Tensor, target: int) -> Tensor:
        """Value of one target at quantiles s (N,)."""
        position = s.double() * (self.table.shape[1] - 1)
        index = position.long().clamp(0, self.table.shape[1] - 2)
        low, high = self.table[target, index], self.table[target, index + 1]
        return low + (position - index) * (high - low)


class BatchedLinear(nn.Module):
    """M independent linear maps: (N, M, I) -> (N, M, O)."""

    def __init__(self, m: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(m, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(m, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x.transpose(0, 1), self.weight).transpose(0, 1)


class Heads(nn.Module):
    """Scalar-product heads of all marginals of one dimension d.

    columns (M, d): which targets each marginal takes.
    """

    def __init__(self, columns: Tensor, features: int, *, hidden: int = 64, rank: int = 32, waves: int = 16) -> None:
        super().__init__()
        m, d = columns.shape
        self.register_buffer("columns", columns)
        self.register_buffer("waves", math.pi * torch.arange(1, waves + 1))
        self.x_in = nn.Linear(features, m * hidden)
        self.x_out = BatchedLinear(m, hidden, rank)
        self.register_buffer("pairs", torch.triu_indices(d, d, 1))
        inputs = d * (waves + 4) + self.pairs.shape[1]
        self.z_in = BatchedLinear(m, inputs, hidden * d)
        self.z_out = BatchedLinear(m, hidden * d, rank)
        self.z_skip = BatchedLinear(m, inputs, rank)
        self.hidden = hidden

    def of_x(self, features: Tensor) -> Tensor:
        """a (N, M, rank) from features (N, F)."""
        hidden = F.gelu(self.x_in(features)).unflatten(1, (-1, self.hidden))
        return self.x_out(hidden).float()

    def of_z(self, s: Tensor) -> Tensor:
        """b (N, M, rank) from quantiles s (N, T)."""
        s = s[:, self.columns, None]
        score = torch.special.ndtri(s.clamp(1e-6, 1 - 1e-6))
        single = torch.cat([torch.cos(s * self.waves), s, s**2, score, score**2 / 4], dim=3).flatten(2)
        inputs = torch.cat([single, score[:, :, self.pairs[0], 0] * score[:, :, self.pairs[1], 0]], dim=2)
        return (self.z_out(F.gelu(self.z_in(inputs))) + self.z_skip(inputs)).float()


class RatioEstimator(nn.Module):
    """log r for all marginals.

    Parameters
    ----------
    embedding : x -> (N, F)
    marginals : tuples of target names
    targets : names of the T scalar targets, in the order of the columns of z
    z : (S, T) float64, samples of the targets from the region's prior, to fit the quantile tables
    """

    def __init__(
        self,
        embedding: nn.Module,
        marginals: Sequence[tuple[str, ...]],
        targets: Sequence[str],
        z: Tensor,
        features: int,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.quantiles = Quantiles(z)
        self.marginals = tuple(marginals)
        self.targets = tuple(targets)
        by_dimension: dict[int, list[int]] = {}
        for i, names in enumerate(self.marginals):
            by_dimension.setdefault(len(names), []).append(i)
        self._order = [i for group in by_dimension.values() for i in group]
        self._place = sorted(range(len(self._order)), key=self._order.__getitem__)
        self.heads = nn.ModuleList(
            Heads(torch.tensor([[self.targets.index(n) for n in self.marginals[i]] for i in group]), features)
            for group in by_dimension.values()
        )

    def of_x(self, x: Tensors) -> Tensor:
        """a (N, M, rank), everything the heads need to know of x."""
        features = self.embedding(x)
        return torch.cat([head.of_x(features) for head in self.heads], dim=1)[:, self._place]

    def of_z(self, z: Tensor) -> Tensor:
        """b (N, M, rank) from targets z (N, T)."""
        s = self.quantiles(z)
        return torch.cat([head.of_z(s) for head in self.heads], dim=1)[:, self._place]

    @torch.no_grad()
    def log_ratio(self, x: Tensors, z: Tensor, *, chunk: int = 20_000) -> Tensor:
        """log r (N, S, M) of every x (N, ...) with every z (S, T)."""
        a = self.of_x(x)
        return torch.cat([torch.einsum("nmr,smr->nsm", a, self.of_z(part)) for part in z.split(chunk)], dim=1)

    @torch.no_grad()
    def log_ratio_grid(self, x: Tensors, marginal: int, grid: Tensor) -> Tensor:
        """log r (N, S) of a one-dimensional marginal at values grid (S,) of its target."""
        (name,) = self.marginals[marginal]
        z = self.quantiles.table[:, 0].repeat(len(grid), 1)
        z[:, self.targets.index(name)] = grid
        return torch.einsum("nr,sr->ns", self.of_x(x)[:, marginal], self.of_z(z)[:, marginal])
