"""Where training starts from: the ratios of a linear model with Gaussian errors, known in closed form.

Linear regression gives every target a mean m(x) and all of them a covariance C (`tmnre.regression`).  A marginal's
ratio is then N(t; m(x), C) / p(t), divided by the mass that each target's Gaussian has inside the region: a scalar
product of functions of x and of t as all heads are.  A head learns by how much the truth differs: nothing where all is
linear, and everything where data tell nothing linearly of a target, whose ratio starts from one.

t is the coordinate of a target in which this describes it best: its quantile s in the region, or the normal score of
a parameter's quantile in the whole prior, of another target's in the region.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from tmnre.embedding import flat
from tmnre.simulator import Tensors

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


@dataclass(frozen=True)
class Coordinates:
    """Coordinates t of T targets: s itself where `linear` (T,), else the normal score of low + (high - low) s."""

    linear: Tensor
    low: Tensor
    high: Tensor

    def of(self, s: Tensor) -> Tensor:
        """t (..., T) of quantiles s."""
        return torch.where(self.linear, s, normal_score(self.low + (self.high - self.low) * s))

    def log_density(self, t: Tensor) -> Tensor:
        """Of the region's prior at t (..., T), where s is uniform."""
        score = -0.5 * t.square() - 0.5 * math.log(2 * math.pi) - torch.log(self.high - self.low)
        return torch.where(self.linear, torch.zeros_like(t), score)

    @property
    def ends(self) -> Tensor:
        """t (2, T) at the ends of the region."""
        return self.of(torch.tensor([0.0, 1.0], dtype=self.low.dtype)[:, None].expand(2, len(self.low)))


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


@runtime_checkable
class Summarising(Protocol):
    """An embedding that reads nothing of the data but fixed summaries, which are then regressed on in their place."""

    def summaries(self, x: Tensors) -> Tensor:
        """(N, P), without anything that is trained."""

    def read(self, summaries: Tensor) -> Tensor:
        """Features (N, F)."""


class WithMeans(nn.Module):
    """Features (N, F + T): those of an embedding, and the regression's means."""

    weight: Tensor
    offset: Tensor

    def __init__(self, embedding: nn.Module, start: Start) -> None:
        super().__init__()
        self.embedding = embedding
        self.register_buffer("weight", start.weight)
        self.register_buffer("offset", start.offset)

    def forward(self, x: Tensors) -> Tensor:
        if isinstance(self.embedding, Summarising):
            summaries = self.embedding.summaries(x)
            features = self.embedding.read(summaries)
        else:
            summaries, features = flat(x), self.embedding(x)
        with torch.autocast(features.device.type, enabled=False):
            means = summaries.float() @ self.weight + self.offset
        return torch.cat([features.float(), means], dim=-1)


class GaussianRatios(nn.Module):
    """log N(t; m, C) - log p(t) - log mass inside of marginals with columns (M, d), as a scalar product."""

    columns: Tensor
    linear: Tensor
    low: Tensor
    high: Tensor
    precision: Tensor
    constant: Tensor
    ends: Tensor
    sd: Tensor

    def __init__(self, columns: Tensor, start: Start) -> None:
        super().__init__()
        place = start.coordinates
        self.register_buffer("columns", columns)
        self.targets = len(place.low)
        for name in ("linear", "low", "high"):
            self.register_buffer(name, getattr(place, name))
        d = columns.shape[1]
        covariance = start.covariance[columns[:, :, None], columns[:, None, :]] + FLOOR**2 * torch.eye(d)
        self.register_buffer("precision", torch.linalg.inv(covariance.double()).float())
        constant = -0.5 * torch.logdet(covariance.double()) - 0.5 * d * math.log(2 * math.pi)
        self.register_buffer("constant", constant.float())
        self.register_buffer("ends", place.ends)
        self.register_buffer("sd", (start.covariance.diagonal() + FLOOR**2).sqrt())

    def of_x(self, means: Tensor) -> Tensor:
        """a (N, M, 2 + d + d^2) from the means (N, T) of all targets."""
        low, high = self.ends[0] - REACH * self.sd, self.ends[1] + REACH * self.sd
        means = torch.maximum(torch.minimum(means, high), low)
        inside = log_mass((self.ends[0] - means) / self.sd, (self.ends[1] - means) / self.sd)
        m = means[:, self.columns]
        with torch.autocast(m.device.type, enabled=False):
            pull = torch.einsum("mij,nmj->nmi", self.precision, m)
        constant = self.constant - 0.5 * (pull * m).sum(-1) - inside[:, self.columns].sum(-1)
        square = (-0.5 * self.precision).flatten(1).expand(len(m), -1, -1)
        return torch.cat([constant[..., None], torch.ones_like(constant)[..., None], pull, square], dim=-1)

    def of_z(self, s: Tensor) -> Tensor:
        """b (N, M, 2 + d + d^2) from quantiles s (N, T) of all targets."""
        place = Coordinates(self.linear, self.low, self.high)
        t = place.of(s)
        prior = -place.log_density(t)[:, self.columns].sum(-1, keepdim=True)
        t = t[:, self.columns]
        square = (t[..., :, None] * t[..., None, :]).flatten(2)
        return torch.cat([torch.ones_like(prior), prior, t, square], dim=-1)
