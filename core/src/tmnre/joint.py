"""Joint posterior of a group of targets, by the chain rule (autoregressive ratio estimation, 2308.08597).

    log r(x, z) = sum_i [ log p(z_i | x, z_<i) / p(z_i)  -  log p(z_i | z_<i) / p(z_i) ]

Every term is a one-dimensional ratio, learned by classification like any other: the contrasts of z_i are values of
other simulations, the preceding targets belong to the data.  It is a scalar product a_i(f(x), z_<i) . b_i(z_i), so all
pairings of a group cost one matrix product.

The second term is the prior's own correlation.  It is zero in a region that is a plain box, where the prior is a
product.  Where the region is cut by contours the prior is flat inside, so that the term follows from the densities of
the prior's marginals: sum_i log p(z_i) + log volume.  Only where derived quantities take part it has to be learned.

A one-dimensional ratio can be put on a grid of quantiles, where the prior is flat: each term is normalised exactly,
and the posterior is drawn target after target, without a Markov chain and with an exact density.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmnre.heads import ENCODED, RANK, BatchedLinear, encoded, of_one_rank, wave_weights
from tmnre.start import Gaussian, GaussianChain, Start

GRID = 512
ROWS_AT_ONCE = 1024


class State(NamedTuple):
    """What a chain keeps while targets are told: its first layer (N, d, hidden), and a start's moments."""

    hidden: Tensor
    known: Gaussian | None


class Chain(nn.Module):
    """One-dimensional ratios of the targets in `columns` (d,), the i-th conditional on those before it.

    features : how many; 0: nothing but targets is given
    smooth : see `wave_weights`
    start : what the ratios start from; means and widths of all targets are the last features
    """

    wave_weights: Tensor
    before: Tensor

    def __init__(
        self,
        columns: Tensor,
        features: int,
        *,
        smooth: float,
        start: Start | None = None,
        hidden: int = 96,
        rank: int = RANK,
    ) -> None:
        super().__init__()
        self.register_buffer("wave_weights", wave_weights(smooth))
        self.features, d = features, len(columns)
        if features:
            self.x_in = nn.Linear(features, d * hidden)
        self.given_in = BatchedLinear(d, d * ENCODED, hidden)
        self.deep = BatchedLinear(d, hidden, hidden)
        self.x_out = BatchedLinear(d, hidden, rank)
        self.z_in = BatchedLinear(d, ENCODED, hidden)
        self.z_out = BatchedLinear(d, hidden, rank)
        self.z_skip = BatchedLinear(d, ENCODED, rank)
        before = torch.ones(d, d).tril(-1).repeat_interleave(ENCODED, 1)
        self.register_buffer("before", before, persistent=False)
        self.start = GaussianChain(columns, start) if start else None
        if start:
            known = start.tells[columns]
            with torch.no_grad():
                self.x_out.weight[known], self.x_out.bias[known] = 0, 0

    def of_given(self, features: Tensor, s: Tensor) -> Tensor:
        """a (N, d, rank) of features (N, F) and quantiles s (N, d), of which the i-th row sees those before i."""
        hidden = self.before_any(features) + self.given_in(self._encoded(s).flatten(1)[:, None] * self.before)
        a = self._a(hidden, self.deep, self.x_out)
        return a if self.start is None else torch.cat([a, self.start.of_given(features, s)], dim=-1)

    def _encoded(self, s: Tensor) -> Tensor:
        return encoded(s) * self.wave_weights

    def before_any(self, features: Tensor) -> Tensor | float:
        """What the features (N, F) add to the first layer (N, d, hidden), before any target is known."""
        return self.x_in(features).unflatten(1, (len(self.before), -1)) if self.features else 0.0

    def begin(self, features: Tensor) -> State:
        """For `a_of` and `tell`, before any target is known."""
        hidden = self.before_any(features) + self.given_in.bias.transpose(0, 1)
        return State(hidden, None if self.start is None else self.start.begin(features))

    def a_of(self, i: int, state: State) -> Tensor:
        """a_i (N, rank), when the targets before the i-th have been told."""
        a = self._a(state.hidden[:, i], partial(self.deep.one, i), partial(self.x_out.one, i))
        if self.start is None or state.known is None:
            return a
        return torch.cat([a, self.start.a_of(slice(i, i + 1), state.known)[:, 0]], dim=-1)

    def tell(self, i: int, state: State, s: Tensor) -> None:
        """Enters quantiles s (N,) of the i-th target into the state."""
        weight = self.given_in.weight[i + 1 :, i * ENCODED : (i + 1) * ENCODED]
        state.hidden[:, i + 1 :] += (self._encoded(s) @ weight).transpose(0, 1)
        if self.start is not None and state.known is not None:
            self.start.tell(i, state.known, s)

    @staticmethod
    def _a(hidden: Tensor, deep: Callable[[Tensor], Tensor], out: Callable[[Tensor], Tensor]) -> Tensor:
        hidden = F.gelu(hidden)
        return out(hidden + F.gelu(deep(hidden))).float()

    def of_value(self, s: Tensor) -> Tensor:
        """b (N, d, rank) of quantiles s (N, d)."""
        inputs = self._encoded(s)
        b = (self.z_out(F.gelu(self.z_in(inputs))) + self.z_skip(inputs)).float()
        return b if self.start is None else torch.cat([b, self.start.of_value(s)], dim=-1)

    def on_grid(self) -> Tensor:
        """b (d, GRID, rank) at the middle of every cell."""
        levels = (torch.arange(GRID, device=self.before.device) + 0.5) / GRID
        return self.of_value(levels[:, None].expand(-1, len(self.before))).transpose(0, 1)


class Joint(nn.Module):
    """log r of the d targets in `columns` (d,).

    prior : the second term, where it is learned
    log_density (d, K) : what adds up to it instead, of each target between K + 1 evenly spaced quantiles
    """

    columns: Tensor
    log_density: Tensor | None

    def __init__(
        self, columns: Tensor, posterior: Chain, prior: Chain | None = None, log_density: Tensor | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("columns", columns)
        self.register_buffer("log_density", log_density)
        self.posterior, self.prior = posterior, prior

    @classmethod
    def new(
        cls,
        columns: Tensor,
        features: int,
        *,
        smooth: float = 0.0,
        learned: bool = False,
        log_density: Tensor | None = None,
        start: Start | None = None,
    ) -> Joint:
        """With random weights; `learned`: whether the second term is to be learned; start: of the first."""
        prior = Chain(columns, 0, smooth=smooth) if learned else None
        return cls(columns, Chain(columns, features, smooth=smooth, start=start), prior, log_density)

    @property
    def terms(self) -> int:
        """How many ratios `factors` gives."""
        return len(self.columns) + (0 if self.prior is None else len(self.columns) - 1)

    def factors(self, features: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """a and b (N, L, rank) of features (N, F) and quantiles s (N, T): the ratios that training learns."""
        s = s[:, self.columns]
        a, b = self.posterior.of_given(features, s), self.posterior.of_value(s)
        if self.prior is not None:  # of its terms the first is zero
            a = of_one_rank([a, self.prior.of_given(features, s)[:, 1:]])
            b = of_one_rank([b, self.prior.of_value(s)[:, 1:]])
        return a, b

    def logit(self, features: Tensor, s: Tensor) -> Tensor:
        """log r (N,) as learned, of features (N, F) or (1, F) and quantiles s (N, d) of the joint's own targets."""
        log_r = (self.posterior.of_given(features, s) * self.posterior.of_value(s)).double().sum((1, 2))
        if self.prior is not None:
            log_r = log_r - (self.prior.of_given(features, s) * self.prior.of_value(s))[:, 1:].double().sum((1, 2))
        return log_r + self._flat(s)

    def _flat(self, s: Tensor) -> Tensor | float:
        if self.log_density is None:
            return 0.0
        cells = self.log_density.shape[1]
        return self.log_density.gather(1, (s.T * cells).long().clamp(0, cells - 1)).sum(0)

    @torch.no_grad()
    def sample(self, features: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Posterior draws: quantiles s (N, d), one draw per row of features (N, F).

        Also log r (N,), normalised, as by `log_ratio`, and the log of the product of the terms' integrals (N,), zero
        for a perfect ratio.
        """
        n, grid = len(features), self.posterior.on_grid()
        drawn = torch.empty(n, len(self.columns))
        log_r, log_integral = torch.zeros(2, n, dtype=torch.float64)
        for rows in _chunks(n):
            state = self.posterior.begin(features[rows])
            for i in range(len(self.columns)):
                logits = self.posterior.a_of(i, state) @ grid[i].T
                log_p = torch.log_softmax(logits, dim=1)
                cumulative = log_p.exp().cumsum(1)
                level = torch.rand(len(logits), 1, generator=generator) * cumulative[:, -1:]
                cell = torch.searchsorted(cumulative, level).clamp(max=GRID - 1)
                # uniform within its cell
                beyond = ((cumulative.gather(1, cell) - level) / log_p.gather(1, cell).exp()).clamp(0, 1)
                drawn[rows, i] = ((cell + 1 - beyond) / GRID)[:, 0]
                log_r[rows] += log_p.gather(1, cell)[:, 0] + math.log(GRID)
                log_integral[rows] += logits.logsumexp(1) - math.log(GRID)
                self.posterior.tell(i, state, drawn[rows, i])
            if self.prior is not None:
                log_r[rows] -= self._normalised(self.prior, features[rows], drawn[rows])[:, 1:].sum(1)
        return drawn, log_r + self._flat(drawn), log_integral

    @torch.no_grad()
    def log_ratio(self, features: Tensor, s: Tensor) -> Tensor:
        """log p(z|x)/p(z) (N,) of features (N, F) or (1, F) and quantiles s (N, d), each term normalised."""
        log_r = torch.zeros(len(s), dtype=torch.float64)
        for rows in _chunks(len(s)):
            given = features if len(features) == 1 else features[rows]
            log_r[rows] = self._normalised(self.posterior, given, s[rows]).sum(1)
            if self.prior is not None:
                log_r[rows] -= self._normalised(self.prior, given, s[rows])[:, 1:].sum(1)
        return log_r + self._flat(s)

    @staticmethod
    def _normalised(chain: Chain, features: Tensor, s: Tensor) -> Tensor:
        """The d terms (N, d) of a chain, less their integral over the prior."""
        a, b = chain.of_given(features, s), chain.of_value(s)
        normaliser = torch.einsum("nir,igr->nig", a, chain.on_grid()).logsumexp(2) - math.log(GRID)
        return ((a * b).sum(2) - normaliser).double()


def _chunks(n: int) -> Iterator[slice]:
    for start in range(0, n, ROWS_AT_ONCE):
        yield slice(start, min(start + ROWS_AT_ONCE, n))
