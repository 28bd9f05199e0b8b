"""How many sources there are and how bright: laws of flux, batched.

    number(p)                  expected number of sources (for counts per steradian: per steradian)
    log_flux(v, p)             ln F at cumulative probability v, so that ln F of uniform v is a draw
    log_density(log_flux, p)   ln p(ln F), normalised
    survival(log_flux, p)      P(> F)

p (..., k) holds the law's parameters, in the order of `names`, along its last axis; everything else broadcasts against
the axes before it.  A user's own law is any object with these four and `names`; `UserLaw` makes one of two functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class FluxLaw(Protocol):
    """Number and fluxes of a population; see the module."""

    names: tuple[str, ...]

    def number(self, p: Tensor) -> Tensor: ...

    def log_flux(self, v: Tensor, p: Tensor) -> Tensor: ...

    def log_density(self, log_flux: Tensor, p: Tensor) -> Tensor: ...

    def survival(self, log_flux: Tensor, p: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class LogNormal:
    """ln F ~ Normal(mean_log_flux, flux_width^2), of a number of sources that is a parameter itself (2211.04291)."""

    mean_log_flux: float = 1.0
    """mean of ln F"""
    names: tuple[str, ...] = ("expected_sources", "flux_width")

    def number(self, p: Tensor) -> Tensor:
        return p[..., 0]

    def log_flux(self, v: Tensor, p: Tensor) -> Tensor:
        return self.mean_log_flux + p[..., 1] * torch.special.ndtri(v.clamp(1e-7, 1 - 1e-7))

    def log_density(self, log_flux: Tensor, p: Tensor) -> Tensor:
        score = (log_flux - self.mean_log_flux) / p[..., 1]
        return -0.5 * score.square() - p[..., 1].log() - 0.5 * math.log(2 * math.pi)

    def survival(self, log_flux: Tensor, p: Tensor) -> Tensor:
        return torch.special.ndtr((self.mean_log_flux - log_flux) / p[..., 1])


@dataclass(frozen=True)
class BrokenPowerLaw:
    """dN/dF in pieces F^-n: n1 above the highest break, then n2, ... down to `faintest`, per unit of sky.

    The first parameter is log10 of F^2 dN/dF at `pivot`, which data tell far better than an amplitude at a break, and
    which slopes and breaks hardly move.  Sources fainter than `faintest` make less than a photon each and cannot be
    told from smooth emission, so that a population needs an end there.
    """

    breaks: int = 2
    """number of breaks; there is a slope more"""
    pivot: float = 10.0
    """flux at which the level is given; in the units of flux"""
    faintest: float = 0.1
    """lower end of the law, in the units of flux"""
    brightest: float = 1e5
    """upper end of the law, in the units of flux"""

    @property
    def names(self) -> tuple[str, ...]:
        slopes = tuple(f"n{i + 1}" for i in range(self.breaks + 1))
        return ("log10_level", *slopes, *(f"log10_break{i + 1}" for i in range(self.breaks)))

    def _pieces(self, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ln edges (..., breaks + 2), slopes, ln dN/d ln F at the lower edge of every piece; from faint to bright."""
        slopes = p[..., 1 : self.breaks + 2].flip(-1)
        cuts = (p[..., self.breaks + 2 :] * math.log(10.0)).flip(-1)
        low, high = torch.full_like(p[..., :1], math.log(self.faintest)), torch.full_like(p[..., :1], self._top)
        edges = torch.cat([low, cuts, high], dim=-1)
        # ln dN/dlnF is linear in ln F with slope 1 - n in every piece; first relative to the faintest end
        steps = (1 - slopes) * edges.diff(dim=-1)
        starts = torch.cat([torch.zeros_like(low), steps[..., :-1].cumsum(-1)], dim=-1)
        pivot = math.log(self.pivot)
        piece = (edges[..., 1:-1] <= pivot).sum(-1, keepdim=True)
        there = (starts + (1 - slopes) * (pivot - edges[..., :-1])).gather(-1, piece)
        level = p[..., :1] * math.log(10.0) - pivot  # F^2 dN/dF = F dN/dlnF
        return edges, slopes, starts - there + level

    @property
    def _top(self) -> float:
        return math.log(self.brightest)

    def _numbers(self, edges: Tensor, slopes: Tensor, starts: Tensor) -> Tensor:
        """Integral of dN/dlnF over every piece; exp(start) (exp(a d) - 1) / a with a = 1 - n, finite at a = 0."""
        return starts.exp() * _grown(1 - slopes, edges.diff(dim=-1))

    def number(self, p: Tensor) -> Tensor:
        return self._numbers(*self._pieces(p)).sum(-1)

    def log_flux(self, v: Tensor, p: Tensor) -> Tensor:
        edges, slopes, starts = self._pieces(p)
        numbers = self._numbers(edges, slopes, starts)
        upper = numbers.cumsum(-1)
        wanted = v * upper[..., -1]
        piece = (upper[..., :-1] <= wanted[..., None]).sum(-1, keepdim=True)

        def at(values: Tensor) -> Tensor:
            return values.expand(*piece.shape[:-1], values.shape[-1]).gather(-1, piece)[..., 0]

        within = (wanted - at(upper - numbers)) / at(starts).exp()
        a = at(1 - slopes)
        safe = torch.where(a.abs() < 1e-4, torch.ones_like(a), a)
        # the inverse of `_grown`, to first order where the slope is 1
        inverse = torch.where(a.abs() < 1e-4, within * (1 - a * within / 2), torch.log1p(safe * within) / safe)
        return at(edges[..., :-1]) + inverse

    def log_dn_dlogf(self, log_flux: Tensor, p: Tensor) -> Tensor:
        """ln dN/d ln F, minus infinity outside of the law's ends."""
        edges, slopes, starts = self._pieces(p)
        piece = (edges[..., 1:-1] <= log_flux[..., None]).sum(-1, keepdim=True)
        shape = (*piece.shape[:-1], slopes.shape[-1])
        a, start, low = (q.expand(shape).gather(-1, piece)[..., 0] for q in (1 - slopes, starts, edges[..., :-1]))
        inside = (log_flux >= math.log(self.faintest)) & (log_flux <= self._top)
        return torch.where(inside, start + a * (log_flux - low), -math.inf)

    def log_density(self, log_flux: Tensor, p: Tensor) -> Tensor:
        return self.log_dn_dlogf(log_flux, p) - self.number(p).log()

    def survival(self, log_flux: Tensor, p: Tensor) -> Tensor:
        edges, slopes, starts = self._pieces(p)
        low = edges[..., :-1].maximum(log_flux[..., None]).minimum(edges[..., 1:])
        left = (starts + (1 - slopes) * (low - edges[..., :-1])).exp() * _grown(1 - slopes, edges[..., 1:] - low)
        return left.sum(-1) / self._numbers(edges, slopes, starts).sum(-1)

    def expected_flux(self, p: Tensor) -> Tensor:
        """Integral of F dN/dF: the whole population's flux, per unit of sky."""
        edges, slopes, starts = self._pieces(p)
        return ((starts + edges[..., :-1]).exp() * _grown(2 - slopes, edges.diff(dim=-1))).sum(-1)


def _grown(a: Tensor, d: Tensor) -> Tensor:
    """(exp(a d) - 1) / a."""
    small = a.abs() < 1e-4
    safe = torch.where(small, torch.ones_like(a), a)
    return torch.where(small, d * (1 + a * d / 2), torch.expm1(safe * d) / safe)


@dataclass(frozen=True)
class UserLaw:
    """A law from its quantile function and its density; the number of sources is the first parameter.

    >>> quantile = lambda v, p: (-torch.log1p(-v)).log()
    >>> exponential = UserLaw(quantile, lambda t, p: t - t.exp(), lambda t, p: (-t.exp()).exp())
    >>> exponential.survival(torch.tensor(0.0), torch.tensor([10.0]))
    tensor(0.3679)
    """

    quantile_function: Callable[[Tensor, Tensor], Tensor]
    """(v, p) -> ln F at cumulative probability v"""
    log_density_function: Callable[[Tensor, Tensor], Tensor]
    """(ln F, p) -> ln p(ln F)"""
    survival_function: Callable[[Tensor, Tensor], Tensor]
    """(ln F, p) -> P(> F)"""
    names: tuple[str, ...] = ("expected_sources",)

    def number(self, p: Tensor) -> Tensor:
        return p[..., 0]

    def log_flux(self, v: Tensor, p: Tensor) -> Tensor:
        return self.quantile_function(v, p)

    def log_density(self, log_flux: Tensor, p: Tensor) -> Tensor:
        return self.log_density_function(log_flux, p)

    def survival(self, log_flux: Tensor, p: Tensor) -> Tensor:
        return self.survival_function(log_flux, p)
