"""Linear regression of a round's targets on its data, from which training starts; see `tmnre.start`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from tmnre.draws import Draws
from tmnre.embedding import flat
from tmnre.ratio import Quantiles
from tmnre.simulator import Tensors
from tmnre.start import FLOOR, Coordinates, Start, log_mass

MOST_INPUTS = 1024
"""more summaries than these are not regressed on"""
ROWS, ROWS_AT_ONCE = 20_000, 1024
"""simulations that the regression sees, drawn with replacement, and how many at a time"""
RIDGES = (1e-6, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3)
"""in units of the variance of a summary"""
FOLDS = 5
"""means of each fifth of the simulations are those of a regression on the others"""
FEWEST, FEWEST_EACH, ERRORS = 250, 20, 2.0
"""simulations, those for each target to invert, and standard errors of a gain above zero, that are trusted; a mean
inverted with n simulations of T targets is off by sqrt(T / n) standard deviations"""
ENOUGH = 0.7
"""of the shrunken regression's gain, for the inverted one to be taken: it is better for data from a region's middle,
and worse for those near the edge of a region cut by a contour, which are most"""
FLAT = 0.1
"""precision of a Gaussian that stands for a flat prior of s"""


class _Fit(NamedTuple):
    """Means x @ weight + offset of targets in `place`, weight (P, T).

    Also the rows' means (n, T), each by a regression that has not seen the row, the covariance (T, T) left, and by how
    much the mean log ratio (T,) is above zero, beyond doubt.
    """

    place: Coordinates
    weight: Tensor
    offset: Tensor
    means: Tensor
    covariance: Tensor
    gain: Tensor


def linear_start(
    draws: Draws, rows: Tensor, s_of: Quantiles, seed: int, summaries: Callable[[Tensors], Tensor] = flat
) -> Start | None:
    """The start for a round, from the simulations `rows`; None for more than MOST_INPUTS summaries (N, P) of data.

    s_of: quantiles (n, T) of targets z.  Each fifth of the rows is predicted by a regression on the others: this
    chooses the ridge and the coordinate of each target, tells the covariance, and says whether any of it is better than
    a ratio of one.
    """
    generator = torch.Generator().manual_seed(seed)
    summaries = torch.no_grad()(summaries)
    if summaries(draws.batch(rows[:1], generator)[0]).shape[1] > MOST_INPUTS:
        return None
    parts = []
    for part in rows[torch.randperm(len(rows), generator=generator)].chunk(FOLDS):
        weight = draws.weight[part].clamp_min(1e-12)
        many = min(ROWS // FOLDS, 4 * len(part))
        chosen = part[torch.multinomial(weight, many, replacement=True, generator=generator)]
        batches = [draws.batch(some, generator) for some in chosen.split(ROWS_AT_ONCE)]
        x = torch.cat([summaries(x) for x, _ in batches]).double()
        parts.append((x, torch.cat([s_of(z) for _, z in batches]).double()))
    x, s = (torch.cat(part) for part in zip(*parts, strict=True))
    shift, scale = x.mean(0), x.std(0)
    # what never varies has no weight, whatever it does later
    scale = torch.where(scale > 1e-6 * shift.abs() + 1e-30, scale, torch.inf)
    ends = list(accumulate(len(part) for part, _ in parts))
    folds = list(map(slice, [0, *ends[:-1]], ends))
    known = torch.tensor([name in draws.simulator.prior for name in draws.targets])
    cut = torch.tensor([any(name in group for group in draws.region.contours) for name in draws.targets])
    places, trust = _places(known, cut, s_of), ERRORS / len(rows) ** 0.5
    fit = _shrunken(places, (x - shift) / scale, s, folds, trust)
    if len(rows) >= FEWEST_EACH * len(draws.targets):
        inverted = _inverted(fit, s, trust)
        if inverted.gain.clamp_min(0).sum() > ENOUGH * fit.gain.clamp_min(0).sum():
            fit = inverted
    # of what nothing has been learned the ratio is one: a score without a mean, of unit variance
    lost = (fit.gain <= 0) | (len(rows) < FEWEST)
    weight = (fit.weight / scale[:, None]).masked_fill(lost, 0)
    offset = fit.offset.masked_fill(lost, 0) - shift @ weight
    covariance = fit.covariance.masked_fill(lost[:, None] | lost, 0) + torch.diag(lost.double())
    _, score = _places(known & False, cut, s_of)
    place = _columns([fit.place, score], lost.long())
    return Start(weight.float(), offset.float(), place, covariance.float(), ~lost)


def _places(known: Tensor, cut: Tensor, s_of: Quantiles) -> list[Coordinates]:
    """The coordinates to choose from, each of all targets: u from end to end, and its normal score.

    known (T,): of which u is the quantile in the whole prior; cut (T,): by a contour, so that their prior is not flat.
    """
    low, high = torch.where(known, s_of.table[:, [0, -1]].float().T, torch.tensor([[0.0], [1.0]]))
    flat_in_u = Coordinates.between(torch.ones_like(known), low, high)
    table, log_density = flat_in_u.table, flat_in_u.log_density_of_u
    if cut.any():
        levels, curved = torch.linspace(0, 1, s_of.table.shape[1]), (known & cut)[:, None]
        table = torch.where(curved, s_of.table.float(), low[:, None] + (high - low)[:, None] * levels)
        log_density = torch.where(curved, s_of.log_density.float(), log_density)
    return [Coordinates(linear, table, log_density) for linear in (torch.ones_like(known), torch.zeros_like(known))]


def _columns(places: Sequence[Coordinates], which: Tensor) -> Coordinates:
    """Of several coordinates of all targets, for each target those with number `which` (T,)."""
    linear = _chosen([place.linear for place in places], which)
    parts = zip(*((place.table.T, place.log_density_of_u.T) for place in places), strict=True)
    return Coordinates(linear, *(_chosen(part, which).T for part in parts))


def _chosen(parts: Iterable[Tensor], which: Tensor) -> Tensor:
    """Of tensors (..., T), for each column that of the tensor with number `which` (T,)."""
    stacked = torch.stack(list(parts))
    return stacked.gather(0, which.expand_as(stacked[:1])).squeeze(0)


def _shrunken(places: Sequence[Coordinates], x: Tensor, s: Tensor, folds: Sequence[slice], trust: float) -> _Fit:
    """The ridge regression on x (n, P), each target in the coordinate and with the ridge that suit it best."""
    each = [place.of(s) for place in places]
    offsets = torch.cat([t.mean(0) for t in each])
    t = torch.cat(each, dim=1) - offsets
    square, cross = x.T @ x, x.T @ t
    seen = []
    for fold in folds:
        a, b = x[fold], t[fold]
        ridged = _ridged(square - a.T @ a, cross - a.T @ b, len(x) - len(a))
        seen.append(torch.stack([a @ weight for weight in ridged]))
    predicted = torch.cat(seen, dim=1)
    errors = (t - predicted).square().mean(1)
    ridge = errors.argmin(0)
    means = _chosen(predicted, ridge.expand_as(t)) + offsets
    weights = _chosen(_ridged(square, cross, len(x)), ridge)

    def by_place(v: Tensor) -> Sequence[Tensor]:
        return v.chunk(len(places), dim=-1)

    parts = zip(places, by_place(means), by_place(errors.amin(0)), strict=True)
    gain, best = torch.stack([_gain(place, s, m, v, trust) for place, m, v in parts]).max(0)
    weight, offset, mean, target = (_chosen(by_place(v), best) for v in (weights, offsets, means, t + offsets))
    left = target - mean
    return _Fit(_columns(places, best), weight, offset, mean, left.T @ left / len(left), gain)


def _ridged(square: Tensor, cross: Tensor, n: int) -> list[Tensor]:
    """Weights (P, T) by each of the ridges, of n rows with these sums of squares (P, P) and with targets (P, T)."""
    values, vectors = torch.linalg.eigh(square / n)
    projected = vectors.T @ cross / n
    return [vectors @ (projected / (values.clamp_min(0) + ridge)[:, None]) for ridge in RIDGES]


def _inverted(fit: _Fit, s: Tensor, trust: float) -> _Fit:
    """The posterior where the regression's means m are the data.

    A regression takes the region for a Gaussian prior and draws all to its middle.  Turned round, m is linear in t with
    Gaussian errors, whatever the prior; beside that likelihood a score has the unit Gaussian of which the region is a
    part, and s next to nothing, being flat.
    """
    t, m = fit.place.of(s), fit.means
    middle, average, spread = t.mean(0), m.mean(0), m.std(0).clamp_min(1e-12)
    scaled = (m - average) / spread
    response = torch.linalg.lstsq(t - middle, scaled).solution
    left = scaled - (t - middle) @ response
    errors = left.T @ left / len(t) + 1e-9 * torch.eye(len(spread)).double()
    projection = torch.linalg.solve(errors, response.T).T
    information = projection @ response.T
    prior = torch.where(fit.place.linear, FLAT, 1.0).double()
    covariance = torch.linalg.inv(information + torch.diag(prior))
    pull = (covariance @ projection).T / spread[:, None]
    push = covariance @ (information @ middle + prior * torch.where(fit.place.linear, 0.5, 0.0)) - average @ pull
    means = m @ pull + push
    gain = _gain(fit.place, s, means, covariance.diagonal(), trust)
    return _Fit(fit.place, fit.weight @ pull, fit.offset @ pull + push, means, covariance, gain)


def _gain(place: Coordinates, s: Tensor, m: Tensor, variance: Tensor, trust: float) -> Tensor:
    """Mean log ratio (T,) at quantiles s (n, T) of targets with means m, less so many of its standard deviations."""
    sd = (variance + FLOOR**2).sqrt()
    inside = log_mass((place.ends[0] - m) / sd, (place.ends[1] - m) / sd)
    t, log_density = place.with_log_density(s)
    gaussian = -0.5 * math.log(2 * math.pi) - sd.log() - 0.5 * ((t - m) / sd).square()
    each = gaussian - inside - log_density
    return each.mean(0) - trust * each.std(0)
