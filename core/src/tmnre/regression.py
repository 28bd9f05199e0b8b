"""Ridge regression of a round's targets on its data, from which training starts; see `tmnre.start`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tmnre.draws import Draws
from tmnre.embedding import flat
from tmnre.ratio import Quantiles
from tmnre.start import FLOOR, Coordinates, Start

MOST_INPUTS = 1024
"""more data values than these are not regressed on"""
ROWS, ROWS_AT_ONCE = 20_000, 1024
"""simulations that the regression sees, drawn with replacement, and how many at a time"""
RIDGES = (1e-6, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3)
"""in units of the variance of a data value"""
FEWEST, ERRORS = 50, 2.0
"""held-out simulations, and standard errors of the mean log ratio above zero, that a start needs to be trusted"""


def linear_start(draws: Draws, rows: Tensor, s_of: Quantiles, seed: int) -> Start | None:
    """The start for a round, from the simulations `rows`; None for data of more than MOST_INPUTS values.

    s_of: quantiles (n, T) of targets z.  A fifth of the rows chooses the ridge and the coordinate of each target,
    and tells the covariance.
    """
    generator = torch.Generator().manual_seed(seed)
    if flat(draws.batch(rows[:1], generator)[0]).shape[1] > MOST_INPUTS:
        return None
    rows = rows[torch.randperm(len(rows), generator=generator)]
    held_out = max(1, len(rows) // 5)
    parts = []
    for part in (rows[held_out:], rows[:held_out]):
        weight = draws.weight[part].clamp_min(1e-12)
        chosen = part[torch.multinomial(weight, min(ROWS, 4 * len(part)), replacement=True, generator=generator)]
        batches = [draws.batch(some, generator) for some in chosen.split(ROWS_AT_ONCE)]
        x = torch.cat([flat(x) for x, _ in batches]).double()
        parts.append((x, torch.cat([s_of(z) for _, z in batches]).double()))
    (x, s), (held_x, held_s) = parts
    shift, scale = x.mean(0), x.std(0)
    # what never varies has no weight, whatever it does later
    scale = torch.where(scale > 1e-6 * shift.abs() + 1e-30, scale, torch.inf)
    x, held_x = (x - shift) / scale, (held_x - shift) / scale
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    places = _places(draws.targets, set(draws.simulator.prior), s_of)
    fits = [_regress(place, (x, s), (held_x, held_s), held_out, values.clamp_min(0), vectors) for place in places]
    best_gain, best = torch.stack([gain for *_, gain in fits]).max(0)

    def chosen_of(parts: Sequence[Tensor]) -> Tensor:
        """Of tensors (..., T), one for each coordinate, the columns of the best ones."""
        stacked = torch.stack(list(parts))
        return stacked.gather(0, best.expand_as(stacked[:1])).squeeze(0)

    weight, offset, left = (chosen_of([fit[i] for fit in fits]) for i in range(3))
    place = Coordinates(*(chosen_of([getattr(p, name) for p in places]) for name in ("linear", "low", "high")))
    weight = weight / scale[:, None]
    covariance = left.T @ left / len(left)
    # of what nothing has been learned the ratio is one: a score without a mean, of unit variance
    lost = (best_gain <= 0) | (held_out < FEWEST)
    weight, offset = weight.masked_fill(lost, 0), (offset - shift @ weight).masked_fill(lost, 0)
    covariance = covariance.masked_fill(lost[:, None] | lost, 0) + torch.diag(lost.double())
    score = _places(draws.targets, set(), s_of)[1]
    place = Coordinates(*(torch.where(lost, getattr(score, n), getattr(place, n)) for n in ("linear", "low", "high")))
    return Start(weight.float(), offset.float(), place, covariance.float(), ~lost)


def _places(targets: Sequence[str], parameters: set[str], s_of: Quantiles) -> list[Coordinates]:
    """The coordinates to choose from, each of all targets."""
    known = torch.tensor([name in parameters for name in targets])
    low, high = s_of.table[:, [0, -1]].float().T
    zero, one = torch.zeros_like(low), torch.ones_like(low)
    never = torch.zeros_like(known)
    return [
        Coordinates(~never, zero, one),
        Coordinates(never, zero, one),
        Coordinates(never, torch.where(known, low, zero), torch.where(known, high, one)),
    ]


def _regress(
    place: Coordinates,
    fitted: tuple[Tensor, Tensor],
    held: tuple[Tensor, Tensor],
    simulations: int,
    values: Tensor,
    vectors: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights (P, T), offset (T,), what is left of the held-out rows (n, T), their mean log ratio (T,) less its error.

    simulations: how many different ones are held out; values, vectors: of the correlation of the fitted data.
    """
    t, held_t = place.of(fitted[1]), place.of(held[1])
    offset = t.mean(0)
    projected = vectors.T @ (fitted[0].T @ (t - offset)) / len(t)
    weights = [vectors @ (projected / (values + ridge)[:, None]) for ridge in RIDGES]
    left = torch.stack([held_t - offset - held[0] @ weight for weight in weights])  # (ridges, n, T)
    best = left.square().mean(1).argmin(0)
    left = left.gather(0, best.expand_as(left[:1])).squeeze(0)
    weight = torch.stack(weights).gather(0, best.expand_as(weights[0]).unsqueeze(0)).squeeze(0)
    variance = left.square().mean(0) + FLOOR**2
    each = -0.5 * torch.log(2 * math.pi * variance) - 0.5 * left.square() / variance - place.log_density(held_t)
    gain = each.mean(0) - ERRORS * each.std(0) / simulations**0.5
    return weight, offset, left, gain
