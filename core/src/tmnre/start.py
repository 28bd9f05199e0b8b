"""Where training starts from: the ratios of a linear model with Gaussian errors, known in closed form.

Linear regression gives every target a mean m(x) and all of them a covariance C (`tmnre.regression`).  A marginal's
ratio is then N(t; m(x), C) / p(t), divided by the mass that each target's Gaussian has inside the region: a scalar
product of functions of x and of t as all heads are.  A head learns by how much the truth differs: nothing where all is
linear, and everything where data tell nothing linearly of a target, whose ratio starts from one.

What is nearly Gaussian, but neither linear nor of the same width for all data, is learned in these terms: the features
move every mean and scale every width, which begin as the regression's.  A scalar product of free functions has to learn
a width as a difference of large numbers, and stays far behind.  Targets of which a line tells nothing may well have
several modes, and are left to the scalar products.

In the ratio of a joint, learned target after target, each term starts from the Gaussian of its target given those
before it, likewise divided by the target's prior and the mass inside.

t is the coordinate of a target in which this describes it best: its quantile u, from end to end of the region, or the
normal score of u.  A parameter's u is that in the whole prior, another target's that in the region, s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from tmnre.embedding import flat
from tmnre.simulator import Tensors

MOST_SCALED = 16.0
"""a width is at most so many times the regression's, and at least the inverse of it"""
GAIN = 0.5
"""of what is added to means and widths: twice as much learns uneven widths sooner, and costs where a line is exact"""
FLOOR = 2.0**-8
"""least standard deviation of t: with narrower ones single precision would not do"""
TAIL = 1e-6
REACH = 4.0
"""standard deviations that a mean may lie beyond the ends of its target, however unusual the data"""


def normal_score(s: Tensor) -> Tensor:
    """The standard normal value with quantile s, finite at the ends."""
    return torch.special.ndtri(s.clamp(TAIL, 1 - TAIL))


def log_mass(low: Tensor, high: Tensor) -> Tensor:
    """Log probability that a standard normal value lies between low and high."""
    # in the tail where differences are exact
    flip = low > 0
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    return torch.log((torch.special.ndtr(high) - torch.special.ndtr(low)).clamp_min(1e-30))


def within_reach(means: Tensor, ends: Tensor, sd: Tensor) -> Tensor:
    """Means (..., T), no farther beyond the ends (2, T) of their targets than REACH standard deviations (..., T)."""
    return torch.maximum(torch.minimum(means, ends[1] + REACH * sd), ends[0] - REACH * sd)


@dataclass(frozen=True)
class Coordinates:
    """Coordinates t of T targets: u from end to end where `linear` (T,), else its normal score.

    table (T, K): u at evenly spaced quantiles s in the region, between which it is linear; log_density_of_u (T, K - 1):
    of the region's prior there.
    """

    linear: Tensor
    table: Tensor
    log_density_of_u: Tensor

    @classmethod
    def between(cls, linear: Tensor, low: Tensor, high: Tensor) -> Coordinates:
        """Of targets with a prior that is flat in u from low to high (T,)."""
        return cls(linear, torch.stack([low, high], 1), -torch.log(high - low)[:, None])

    def of(self, s: Tensor) -> Tensor:
        """t (..., T) of quantiles s."""
        return self._of(*self._place(s))

    def with_log_density(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """t (..., T) of quantiles s, and the log density there of the region's prior of t."""
        place, cell = self._place(s)
        t = self._of(place, cell)
        width = torch.log(self.table[:, -1] - self.table[:, 0])
        score = -0.5 * t.square() - 0.5 * math.log(2 * math.pi)
        return t, self._at(self.log_density_of_u, cell) + torch.where(self.linear, width, score)

    def _of(self, place: Tensor, cell: Tensor) -> Tensor:
        low, high = self._at(self.table, cell), self._at(self.table, cell + 1)
        u = low + (high - low) * (place - cell)
        first, last = self.table[:, 0], self.table[:, -1]
        return torch.where(self.linear, (u - first) / (last - first), normal_score(u))

    def _place(self, s: Tensor) -> tuple[Tensor, Tensor]:
        cells = self.table.shape[1] - 1
        return s * cells, (s.detach() * cells).long().clamp(0, cells - 1)

    @staticmethod
    def _at(table: Tensor, cell: Tensor) -> Tensor:
        first = torch.arange(len(table), device=cell.device) * table.shape[1]
        return table.flatten()[cell + first]

    def __getitem__(self, which: Tensor | slice) -> Coordinates:
        """Of some of the targets."""
        return Coordinates(self.linear[which], self.table[which], self.log_density_of_u[which])

    @property
    def ends(self) -> Tensor:
        """t (2, T) at the ends of the region."""
        return self.of(torch.tensor([0.0, 1.0], dtype=self.table.dtype)[:, None].expand(2, len(self.table)))


@dataclass(frozen=True)
class Start:
    """The regression m(x) = x @ weight + offset, weight (P, T), in `coordinates`, and the covariance (T, T) left.

    tells (T,): of which targets it tells anything.
    """

    weight: Tensor
    offset: Tensor
    coordinates: Coordinates
    covariance: Tensor
    tells: Tensor

    @property
    def sd(self) -> Tensor:
        """Standard deviations (T,), no smaller than FLOOR."""
        return (self.covariance.diagonal() + FLOOR**2).sqrt()


@runtime_checkable
class Summarising(Protocol):
    """An embedding that reads nothing of the data but fixed summaries, which are then regressed on in their place."""

    def summaries(self, x: Tensors) -> Tensor:
        """(N, P), without anything that is trained."""

    def read(self, summaries: Tensor) -> Tensor:
        """Features (N, F)."""


class WithMoments(nn.Module):
    """Features (N, F + 2 T): those of an embedding, and each target's mean, and its width over the regression's."""

    weight: Tensor
    offset: Tensor
    sd: Tensor
    tells: Tensor

    def __init__(self, embedding: nn.Module, features: int, start: Start) -> None:
        super().__init__()
        self.embedding = embedding
        self.register_buffer("weight", start.weight)
        self.register_buffer("offset", start.offset)
        self.register_buffer("sd", start.sd)
        self.register_buffer("tells", start.tells)
        self.moved = nn.Linear(features, 2 * len(start.sd))
        nn.init.zeros_(self.moved.weight)
        nn.init.zeros_(self.moved.bias)

    def forward(self, x: Tensors) -> Tensor:
        if isinstance(self.embedding, Summarising):
            summaries = self.embedding.summaries(x)
            features = self.embedding.read(summaries)
        else:
            summaries, features = flat(x), self.embedding(x)
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            shift, scale = (GAIN * self.tells * self.moved(features).unflatten(1, (2, -1))).unbind(1)
            means = summaries.float() @ self.weight + self.offset + self.sd * shift
            most = math.log(MOST_SCALED)
            widths = (most * torch.tanh(scale / most)).exp()
        # no narrower than single precision allows
        return torch.cat([features, means, torch.maximum(widths, FLOOR / self.sd)], dim=-1)


class GaussianRatios(nn.Module):
    """log N(t; m, C) - log p(t) - log mass inside of marginals with columns (M, d), as a scalar product."""

    columns: Tensor
    linear: Tensor
    table: Tensor
    log_density_of_u: Tensor
    precision: Tensor
    constant: Tensor
    ends: Tensor
    sd: Tensor

    def __init__(self, columns: Tensor, start: Start) -> None:
        super().__init__()
        place = start.coordinates
        self.register_buffer("columns", columns)
        self.targets = len(place.table)
        for name in ("linear", "table", "log_density_of_u"):
            self.register_buffer(name, getattr(place, name))
        d = columns.shape[1]
        covariance = start.covariance[columns[:, :, None], columns[:, None, :]] + FLOOR**2 * torch.eye(d)
        self.register_buffer("precision", torch.linalg.inv(covariance.double()).float())
        constant = -0.5 * torch.logdet(covariance.double()) - 0.5 * d * math.log(2 * math.pi)
        self.register_buffer("constant", constant.float())
        self.register_buffer("ends", place.ends)
        self.register_buffer("sd", start.sd)

    def of_x(self, features: Tensor) -> Tensor:
        """a (N, M, 2 + d + d^2) from features (N, F) that end in means and widths of all targets."""
        means, widths = _moments(features, self.targets)
        sd = self.sd * widths
        means = within_reach(means, self.ends, sd)
        inside = log_mass((self.ends[0] - means) / sd, (self.ends[1] - means) / sd)
        m, width = means[:, self.columns], widths[:, self.columns]
        precision = self.precision / (width[..., :, None] * width[..., None, :])
        pull = (precision * m[..., None, :]).sum(-1)
        constant = self.constant - width.log().sum(-1) - 0.5 * (pull * m).sum(-1) - inside[:, self.columns].sum(-1)
        square = -0.5 * precision.flatten(2)
        return torch.cat([constant[..., None], torch.ones_like(constant)[..., None], pull, square], dim=-1)

    def of_z(self, s: Tensor) -> Tensor:
        """b (N, M, 2 + d + d^2) from quantiles s (N, T) of all targets."""
        place = Coordinates(self.linear, self.table, self.log_density_of_u)
        t, log_density = place.with_log_density(s)
        prior = -log_density[:, self.columns].sum(-1, keepdim=True)
        t = t[:, self.columns]
        square = (t[..., :, None] * t[..., None, :]).flatten(2)
        return torch.cat([torch.ones_like(prior), prior, t, square], dim=-1)


def _moments(features: Tensor, targets: int) -> tuple[Tensor, Tensor]:
    """Means and widths (N, T) that features (N, F) end in."""
    means, widths = features[:, -2 * targets :].chunk(2, dim=-1)
    return means, widths


class Gaussian(NamedTuple):
    """Means (N, d) of targets given those told before, and widths (N, d) over the regression's."""

    centre: Tensor
    width: Tensor


class GaussianChain(nn.Module):
    """log N(t_i; m, C | t_<i) - log p(t_i) - log mass inside, of the targets in columns (d,), as scalar products.

    With widths w, C = w L diag(sd^2) L^T w, L unit lower triangular, t = m + w L e where the e_i are independent, and
    the mean of t_i given those before it is t_i - w_i e_i, or with B = 1 - L^-1, `before`, m + w B (t - m) / w.
    """

    columns: Tensor
    linear: Tensor
    table: Tensor
    log_density_of_u: Tensor
    lower: Tensor
    before: Tensor
    sd: Tensor
    marginal_sd: Tensor
    ends: Tensor

    def __init__(self, columns: Tensor, start: Start) -> None:
        super().__init__()
        self.targets = len(start.tells)
        place, d = start.coordinates[columns], len(columns)
        covariance = start.covariance[columns[:, None], columns].double() + FLOOR**2 * torch.eye(d).double()
        root = torch.linalg.cholesky(covariance)
        sd = root.diagonal()
        lower = root / sd
        self.register_buffer("columns", columns)
        for name in ("linear", "table", "log_density_of_u", "ends"):
            self.register_buffer(name, getattr(place, name))
        before, marginal_sd = torch.eye(d).double() - torch.linalg.inv(lower), covariance.diagonal().sqrt()
        for name, value in (("sd", sd), ("marginal_sd", marginal_sd), ("lower", lower), ("before", before)):
            self.register_buffer(name, value.float())

    def begin(self, features: Tensor) -> Gaussian:
        """Before any target is known, from features (N, F) that end in means and widths of all targets."""
        means, widths = (v[:, self.columns] for v in _moments(features, self.targets))
        return Gaussian(within_reach(means, self.ends, self.marginal_sd * widths), widths)

    def tell(self, i: int, known: Gaussian, s: Tensor) -> None:
        """Enters quantiles s (N,) of the i-th target into the means."""
        error = (self._place[i : i + 1].of(s[:, None]) - known.centre[:, i : i + 1]) / known.width[:, i : i + 1]
        known.centre[:, i + 1 :] += error * self.lower[i + 1 :, i] * known.width[:, i + 1 :]

    def of_given(self, features: Tensor, s: Tensor) -> Tensor:
        """a (N, d, 4) of features (N, F) and quantiles s (N, d): the i-th of those before it."""
        m, width = self.begin(features)
        with torch.autocast(m.device.type, enabled=False):
            centre = m + (((self._place.of(s) - m) / width) @ self.before.T) * width
        return self.a_of(slice(None), Gaussian(centre, width))

    def a_of(self, which: slice, known: Gaussian) -> Tensor:
        """a (N, k, 4) of `which` targets, given those before them."""
        sd, (first, last) = (self.sd[which] * known.width[:, which]).clamp_min(FLOOR), self.ends[:, which]
        centre = within_reach(known.centre[:, which], self.ends[:, which], sd)
        inside = log_mass((first - centre) / sd, (last - centre) / sd)
        constant = -0.5 * (centre / sd).square() - sd.log() - 0.5 * math.log(2 * math.pi) - inside
        square = (-0.5 / sd.square()).expand_as(centre)
        return torch.stack([constant, torch.ones_like(constant), centre / sd.square(), square], dim=-1)

    def of_value(self, s: Tensor) -> Tensor:
        """b (N, d, 4) of quantiles s (N, d)."""
        t, prior = self._place.with_log_density(s)
        return torch.stack([torch.ones_like(t), -prior, t, t.square()], dim=-1)

    @property
    def _place(self) -> Coordinates:
        return Coordinates(self.linear, self.table, self.log_density_of_u)
