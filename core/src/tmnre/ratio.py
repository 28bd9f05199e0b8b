"""The ratio estimator: one embedding, and for every marginal a head that is a scalar product.

    log r_m(x, z) = a_m(f(x)) . b_m(z)

f is the embedding, evaluated once per x; a_m and b_m are small networks, all marginals of one dimension in one
batched matrix product.  Because the head is a scalar product, pairing every x with every z of a group costs one
matrix product.

Beside these there are joints of several targets, learned by the chain rule (`tmnre.joint`).

Targets enter b_m through their prior quantile in the region, s in [0, 1], the same for parameters and for derived
quantities of any distribution: cosines of s for what is multimodal or periodic; s and its normal score with squares
and products, passed on linearly as well, because with these the tails of a Gaussian posterior extrapolate.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tmnre.contour import Surface
from tmnre.heads import RANK, Heads, of_one_rank
from tmnre.joint import Joint
from tmnre.simulator import Tensors
from tmnre.start import Start, WithMoments

SMOOTH = 3
"""knots to either side from which a density is taken"""


class Quantiles(nn.Module):
    """Maps each target to its quantile s in [0, 1] in the region's prior, piecewise linear between knots.

    table (T, knots) float64: values at evenly spaced quantiles.  Values beyond them map to 0 or 1.
    """

    table: Tensor

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table)

    @classmethod
    def of(cls, samples: Tensor, knots: int = 257) -> Quantiles:
        """From samples (S, T) float64 of the prior."""
        levels = torch.linspace(0, 1, knots, dtype=torch.float64)
        table = torch.quantile(samples[: 2**16], levels, dim=0).T.contiguous()
        table[:, 0], table[:, -1] = samples.amin(0), samples.amax(0)
        # ties (a quantity that piles up at a value) would make the inverse slope infinite
        span = (table[:, -1:] - table[:, :1]).clamp_min(1e-300)
        return cls(torch.cummax(table, dim=1).values + span * 1e-9 * levels)

    def forward(self, z: Tensor) -> Tensor:
        """z (N, T) float64 -> s (N, T) float32."""
        flat = z.T.contiguous()
        index = torch.searchsorted(self.table, flat).clamp(1, self.table.shape[1] - 1)
        low, high = self.table.gather(1, index - 1), self.table.gather(1, index)
        s = (index - 1 + (flat - low) / (high - low)) / (self.table.shape[1] - 1)
        return s.clamp(0, 1).T.float()

    @property
    def log_density(self) -> Tensor:
        """Log density (T, knots - 1) of each target between the knots, from a few knots to either side."""
        knots = self.table.shape[1]
        low, high = (torch.arange(knots - 1) + step for step in (-SMOOTH, SMOOTH + 1))
        low, high = low.clamp(min=0), high.clamp(max=knots - 1)
        return torch.log((high - low) / (knots - 1) / (self.table[:, high] - self.table[:, low]))

    def inverse(self, s: Tensor, target: int) -> Tensor:
        """Value of one target at quantiles s (N,)."""
        position = s.double() * (self.table.shape[1] - 1)
        index = position.long().clamp(0, self.table.shape[1] - 2)
        low, high = self.table[target, index], self.table[target, index + 1]
        return low + (position - index) * (high - low)


class RatioEstimator(nn.Module):
    """log r for all marginals.

    Parameters
    ----------
    embedding : x -> (N, F)
    quantiles : of the targets in the region's prior
    targets : names of the T scalar targets, in the order of the columns of z
    marginals : tuples of target names that have a head each
    heads : of the marginals of one dimension each, in the order in which the dimensions appear
    joints : of targets that are learned by the chain rule
    """

    def __init__(
        self,
        embedding: nn.Module,
        quantiles: Quantiles,
        targets: Sequence[str],
        marginals: Sequence[tuple[str, ...]],
        heads: Sequence[nn.Module],
        joints: Mapping[tuple[str, ...], Joint],
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.quantiles = quantiles
        self.targets = tuple(targets)
        self.marginals = tuple(marginals)
        order = [i for group in _by_dimension(self.marginals) for i in group]
        self._place = sorted(range(len(order)), key=order.__getitem__)
        self.heads = nn.ModuleList(heads)
        self.joints = dict(joints)
        self._joints = nn.ModuleList(self.joints.values())

    @classmethod
    def new(
        cls,
        embedding: nn.Module,
        features: int,
        quantiles: Quantiles,
        targets: Sequence[str],
        marginals: Sequence[tuple[str, ...]],
        joints: Mapping[tuple[str, ...], Mapping[str, Any]] | None = None,
        *,
        smooth: float = 0.0,
        start: Start | None = None,
    ) -> RatioEstimator:
        """With random weights, for an embedding with so many features.

        joints : {targets learned by the chain rule: how the prior ties them}; {}: not at all; {"log_volume": v}: it
            is flat in a set of that log volume; {"learned": True}: in a way that has to be learned
        smooth : of joints, see `wave_weights`
        start : what ratios start from; None: from random ones
        """

        def columns(names: tuple[str, ...]) -> list[int]:
            return [targets.index(name) for name in names]

        def joint(names: tuple[str, ...], *, learned: bool = False, log_volume: float | None = None) -> Joint:
            where, log_density = torch.tensor(columns(names)), None
            if log_volume is not None:
                log_density = quantiles.log_density[where] + log_volume / len(where)
            return Joint.new(where, features, smooth=smooth, learned=learned, log_density=log_density, start=start)

        if start:
            embedding, features = WithMoments(embedding, features, start), features + 2 * len(targets)
        heads = [
            Heads(torch.tensor([columns(marginals[i]) for i in group]), features, start=start)
            for group in _by_dimension(marginals)
        ]
        made = {names: joint(names, **tie) for names, tie in (joints or {}).items()}
        return cls(embedding, quantiles, targets, marginals, heads, made)

    @property
    def terms(self) -> int:
        """How many ratios training learns: one per marginal and several per joint."""
        return len(self.marginals) + sum(joint.terms for joint in self.joints.values())

    def factors(self, x: Tensors, z: Tensor) -> tuple[Tensor, Tensor]:
        """a and b (N, L, rank): the L `terms` that training learns.

        The logit of the data of row i with the parameters of row j is a_i . b_j.
        """
        features, s = self.embedding(x), self.quantiles(z)
        parts = [(self._of_features(features), self._of_quantiles(s))]
        parts += [joint.factors(features, s) for joint in self._joints]
        a, b = zip(*parts, strict=True)
        return of_one_rank(a), of_one_rank(b)

    def of_x(self, x: Tensors) -> Tensor:
        """a (N, M, rank), everything the heads need to know of x."""
        return self._of_features(self.embedding(x))

    def of_z(self, z: Tensor) -> Tensor:
        """b (N, M, rank) from targets z (N, T)."""
        return self._of_quantiles(self.quantiles(z))

    def _of_features(self, features: Tensor) -> Tensor:
        return self._in_order([head.of_x(features) for head in self.heads], len(features))

    def _of_quantiles(self, s: Tensor) -> Tensor:
        return self._in_order([head.of_z(s) for head in self.heads], len(s))

    def _in_order(self, parts: list[Tensor], n: int) -> Tensor:
        return of_one_rank(parts)[:, self._place] if parts else torch.empty(n, 0, RANK)

    @torch.no_grad()
    def log_ratio(self, x: Tensors, z: Tensor, *, chunk: int = 512) -> Tensor:
        """log r (N, S, M) of every x (N, ...) with every z (S, T), for the marginals; so many z fit into caches."""
        a = self.of_x(x)
        return torch.cat([torch.einsum("nmr,smr->nsm", a, self.of_z(part)) for part in z.split(chunk)], dim=1)

    @torch.no_grad()
    def log_ratio_grid(self, x: Tensors, marginal: int, grid: Tensor) -> Tensor:
        """log r (N, S) of a one-dimensional marginal at values grid (S,) of its target."""
        (name,) = self.marginals[marginal]
        z = self.quantiles.table[:, 0].repeat(len(grid), 1)
        z[:, self.targets.index(name)] = grid
        which, group = next((i, g) for i, g in enumerate(_by_dimension(self.marginals)) if marginal in g)
        b = self.heads[which].of_z(self.quantiles(z))[:, group.index(marginal)]
        return self.of_x(x)[:, marginal, : b.shape[1]] @ b.T

    def surface(self, names: tuple[str, ...], x: Tensors) -> Surface:
        """log r of a joint at one x (1, ...), as a function of the targets."""
        joint = copy.deepcopy(self.joints[names])
        with torch.no_grad():
            return Surface(joint, self.embedding(x), Quantiles(self.quantiles.table[joint.columns]))

    @torch.no_grad()
    def sample(
        self, names: tuple[str, ...], x: Tensors, n: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """n draws for every x (N, ...) from a joint's posterior: targets z (N n, d), and what `Joint.sample` gives
        besides."""
        joint = self.joints[names]
        s, log_r, log_integral = joint.sample(self.embedding(x).repeat_interleave(n, 0), generator)
        z = [self.quantiles.inverse(s[:, i], int(column)) for i, column in enumerate(joint.columns)]
        return torch.stack(z, dim=1), log_r, log_integral


def _by_dimension(marginals: Sequence[tuple[str, ...]]) -> list[list[int]]:
    """Places of the marginals of one dimension each, in the order in which the dimensions appear."""
    groups: dict[int, list[int]] = {}
    for i, names in enumerate(marginals):
        groups.setdefault(len(names), []).append(i)
    return list(groups.values())
