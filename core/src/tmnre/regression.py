"""Linear regression of a round's targets on its data, from which training starts; see `tmnre.start`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
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
FEWEST, FEWEST_EACH, ERRORS = 50, 10, 2.0
"""held-out simulations, those for each target to invert, and standard errors of a gain above zero, that are trusted"""
ENOUGH = 0.9
"""of the shrunken regression's gain, for the inverted one to be taken: it is better for data from a region's middle"""
FLAT = 0.1
"""precision of a Gaussian that stands for a flat prior of s"""


class _Fit(NamedTuple):
    """Means x @ weight + offset of targets in `place`, weight (P, T), their covariance (T, T), and by how much the mean
    log ratio (T,) of held-out rows is above zero, beyond doubt."""

    place: Coordinates
    weight: Tensor
    offset: Tensor
    covariance: Tensor
    gain: Tensor


def linear_start(
    draws: Draws, rows: Tensor, s_of: Quantiles, seed: int, summaries: Callable[[Tensors], Tensor] = flat
) -> Start | None:
    """The start for a round, from the simulations `rows`; None for more than MOST_INPUTS summaries (N, P) of data.

    s_of: quantiles (n, T) of targets z.  A fifth of the rows is held out: it chooses the ridge and the coordinate of
    each target, tells the covariance, and says whether any of it is better than a ratio of one.
    """
    generator = torch.Generator().manual_seed(seed)
    summaries = torch.no_grad()(summaries)
    if summaries(draws.batch(rows[:1], generator)[0]).shape[1] > MOST_INPUTS:
        return None
    rows = rows[torch.randperm(len(rows), generator=generator)]
    held_out = max(1, len(rows) // 5)
    parts = []
    for part in (rows[held_out:], rows[:held_out]):
        weight = draws.weight[part].clamp_min(1e-12)
        chosen = part[torch.multinomial(weight, min(ROWS, 4 * len(part)), replacement=True, generator=generator)]
        batches = [draws.batch(some, generator) for some in chosen.split(ROWS_AT_ONCE)]
        x = torch.cat([summaries(x) for x, _ in batches]).double()
        parts.append((x, torch.cat([s_of(z) for _, z in batches]).double()))
    (x, s), (held_x, held_s) = parts
    shift, scale = x.mean(0), x.std(0)
    # what never varies has no weight, whatever it does later
    scale = torch.where(scale > 1e-6 * shift.abs() + 1e-30, scale, torch.inf)
    fitted, held = ((x - shift) / scale, s), ((held_x - shift) / scale, held_s)
    places, trust = _places(draws.targets, set(draws.simulator.prior), s_of), ERRORS / held_out**0.5
    fit = _shrunken(places, fitted, held, trust)
    if held_out >= FEWEST_EACH * len(draws.targets):
        inverted = _inverted(fit, held, trust)
        if inverted.gain.clamp_min(0).sum() > ENOUGH * fit.gain.clamp_min(0).sum():
            fit = inverted
    # of what nothing has been learned the ratio is one: a score without a mean, of unit variance
    lost = (fit.gain <= 0) | (held_out < FEWEST)
    weight = (fit.weight / scale[:, None]).masked_fill(lost, 0)
    offset = fit.offset.masked_fill(lost, 0) - shift @ weight
    covariance = fit.covariance.masked_fill(lost[:, None] | lost, 0) + torch.diag(lost.double())
    score = _places(draws.targets, set(), s_of)[1]
    place = _columns([fit.place, score], lost.long())
    return Start(weight.float(), offset.float(), place, covariance.float(), ~lost)


def _places(targets: Sequence[str], parameters: set[str], s_of: Quantiles) -> list[Coordinates]:
    """The coordinates to choose from, each of all targets: s, and the normal score in the whole prior."""
    known = torch.tensor([name in parameters for name in targets])
    low, high = s_of.table[:, [0, -1]].float().T
    zero, one = torch.zeros_like(low), torch.ones_like(low)
    return [
        Coordinates(torch.ones_like(known), zero, one),
        Coordinates(torch.zeros_like(known), torch.where(known, low, zero), torch.where(known, high, one)),
    ]


def _columns(places: Sequence[Coordinates], which: Tensor) -> Coordinates:
    """Of several coordinates of all targets, for each target those with number `which` (T,)."""
    return Coordinates(*(_chosen([getattr(p, name) for p in places], which) for name in ("linear", "low", "high")))


def _chosen(parts: Iterable[Tensor], which: Tensor) -> Tensor:
    """Of tensors (..., T), for each column that of the tensor with number `which` (T,)."""
    stacked = torch.stack(list(parts))
    return stacked.gather(0, which.expand_as(stacked[:1])).squeeze(0)


def _shrunken(
    places: Sequence[Coordinates], fitted: tuple[Tensor, Tensor], held: tuple[Tensor, Tensor], trust: float
) -> _Fit:
    """The ridge regression, each target in the coordinate and with the ridge that suit it best."""
    (x, s), (held_x, held_s) = fitted, held
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    weights, offsets, gains = [], [], []
    for place in places:
        t, held_t = place.of(s), place.of(held_s)
        offset = t.mean(0)
        projected = vectors.T @ (x.T @ (t - offset)) / len(t)
        ridged = [vectors @ (projected / (values.clamp_min(0) + ridge)[:, None]) for ridge in RIDGES]
        errors = torch.stack([(held_t - offset - held_x @ weight).square().mean(0) for weight in ridged])
        weight = _chosen(ridged, errors.argmin(0))
        gains.append(_gain(place, held_t, held_x @ weight + offset, errors.amin(0), trust))
        weights.append(weight)
        offsets.append(offset)
    gain, best = torch.stack(gains).max(0)
    place, weight, offset = _columns(places, best), _chosen(weights, best), _chosen(offsets, best)
    left = place.of(held_s) - held_x @ weight - offset
    return _Fit(place, weight, offset, left.T @ left / len(left), gain)


def _inverted(fit: _Fit, held: tuple[Tensor, Tensor], trust: float) -> _Fit:
    """The posterior where the regression's means m are the data.

    A regression takes the region for a Gaussian prior and draws all to its middle.  Turned round, m is linear in t with
    Gaussian errors, whatever the prior; beside that likelihood a score has the unit Gaussian of which the region is a
    part, and s next to nothing, being flat.
    """
    x, s = held
    t, m = fit.place.of(s), x @ fit.weight + fit.offset
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
    gain = _gain(fit.place, t, m @ pull + push, covariance.diagonal(), trust)
    return _Fit(fit.place, fit.weight @ pull, fit.offset @ pull + push, covariance, gain)


def _gain(place: Coordinates, t: Tensor, m: Tensor, variance: Tensor, trust: float) -> Tensor:
    """Mean log ratio (T,) of targets t (n, T) with means m, less so many of its standard deviations."""
    sd = (variance + FLOOR**2).sqrt()
    inside = log_mass((place.ends[0] - m) / sd, (place.ends[1] - m) / sd)
    gaussian = -0.5 * math.log(2 * math.pi) - sd.log() - 0.5 * ((t - m) / sd).square()
    each = gaussian - inside - place.log_density(t)
    return each.mean(0) - trust * each.std(0)
