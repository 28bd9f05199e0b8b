"""Tighten a region: keep the values of each parameter whose ratio for this observation is not negligible.

The one-dimensional ratio is evaluated on a grid of prior quantiles, not at the samples, so the edges do not depend on
which values happened to be drawn; the grid is refined until it resolves what is kept.  In quantiles the prior is flat:
the ratio itself is the posterior density, and its integral outside the new edges is the posterior mass lost.

Between separate modes of a parameter a gap is left out.

A group of correlated parameters is cut by a contour of its joint ratio instead, from posterior draws of the group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tmnre.analysis import Truncation
from tmnre.contour import Contour, drop, mass_beyond
from tmnre.prior import Prior
from tmnre.ratio import Quantiles, RatioEstimator
from tmnre.region import Box
from tmnre.simulator import Tensors

GRID = 4096
DRAWS = 20_000
UNRESOLVED = 0.1
"""posterior mass that a contour may lose, in units of what one simulation stands for"""
MOST_LOST = 1e-3
"""of a joint's own draws that its contour may leave out: a ratio from few simulations can be far too high where there
are none, and its maximum no measure of where the posterior is"""
GAP = 0.1
"""a gap narrower than this share of what is kept is not worth its edges"""


@dataclass(frozen=True)
class Tightened:
    """The new region, what it kept of the old one's volume, and the posterior mass each cut is estimated to lose."""

    region: Box
    kept: float
    lost_mass: dict[str, float]


def tighten(
    region: Box,
    prior: Prior,
    estimator: RatioEstimator,
    x: Tensors,
    z: Tensor,
    names: Sequence[str],
    settings: Truncation,
    groups: Sequence[tuple[str, ...]] = (),
    whole: Sequence[str] = (),
    depths: Mapping[tuple[str, ...], np.ndarray] | None = None,
    simulations: float = np.inf,
    seed: int = 0,
) -> Tightened:
    """Cut `region` to where the 1-d ratio of each name exceeds epsilon times its maximum, padded.

    x: the observation with a batch axis of one; z (S, T): samples of the targets from the region's prior.
    whole: names that keep what lies between separate modes.
    groups: of parameters, each cut by a contour that loses as much of a Gaussian as epsilon does in one dimension, or a
    tenth of what one of the simulations that the ratio was learned from stands for, where that is more; never more than
    MOST_LOST of the draws.
    depths: of simulations held out, {group: how far log r of the truth is below its maximum}; a contour reaches as low.
    """
    cube, derived, gaps, lost = {}, {}, {}, {}
    tables = Quantiles.of(z, knots=1025)
    for name in names:
        target = estimator.targets.index(name)
        marginal = estimator.marginals.index((name,))
        profile = _Profile(
            lambda levels, m=marginal, t=target: estimator.log_ratio_grid(x, m, tables.inverse(levels, t))[0].double(),
            float(np.log(settings.epsilon)),
        )
        low, high = (float(tables.inverse(torch.tensor([level]), target)[0]) for level in profile.edges)
        pad = settings.padding * (high - low)
        if name in prior:
            edge = region.cube[name]
        else:
            edge = region.derived.get(name, (-np.inf, np.inf))
        # an end of the grid that is kept is no contour: the old bound stays
        low = edge[0] if profile.edges[0] == 0 else max(edge[0], low - pad)
        high = edge[1] if profile.edges[1] == 1 else min(edge[1], high + pad)
        grid = tables.inverse(profile.levels, target)
        out = (grid < low) | (grid > high)
        found = () if name in whole else profile.gaps
        ends = (tables.inverse(torch.tensor(gap), target).tolist() for gap in found)
        gaps[name] = [(a + pad, b - pad) for a, b in ends if b - a > 2 * pad]
        for a, b in gaps[name]:
            out |= (grid > a) & (grid < b)
        if name in prior:
            cube[name] = (low, high)
        elif np.isfinite((low, high)).any() or gaps[name]:
            derived[name] = (low, high)
        lost[name] = float(profile.mass[out].sum())
    contours = {}
    mass = max(mass_beyond(settings.epsilon), UNRESOLVED / simulations)
    for i, group in enumerate(groups):
        rng = np.random.default_rng([seed, i])
        surface = estimator.surface(group, x)
        u = _posterior(region, estimator, x, group, seed)
        log_r = surface(u)
        fall = drop(mass, len(group), settings.padding)
        if depths is not None:
            fall = max(fall, float(depths[group].max()))
        threshold = min(float(log_r.max()) - fall, float(np.quantile(log_r, MOST_LOST)))
        lost[" , ".join(group)] = float((log_r < threshold).mean())
        old = region.contours.get(group) or Contour.box(np.array([region.cube[name] for name in group]), rng)
        contours[group] = old.tightened(surface, threshold, settings.padding, rng)
        cube |= {name: (low, high) for name, (low, high) in zip(group, contours[group].edges.tolist(), strict=True)}
    tightened = region.tightened(cube, derived, contours, gaps)
    return Tightened(tightened, _kept(region, tightened, prior, estimator.targets, z), lost)


class _Profile:
    """A log ratio over quantile levels in [0, 1].

    edges : where it falls below `log_epsilon` under its maximum, 0 or 1 where it does not
    gaps : between the edges, where it does so for more than a tenth of what they enclose
    levels, mass : cells of the grid, refined between the edges, and the posterior mass of each
    """

    def __init__(self, log_ratio: Callable[[Tensor], Tensor], log_epsilon: float) -> None:
        low, high, peak = 0.0, 1.0, -np.inf
        parts = []
        while True:
            cell = (high - low) / GRID
            levels = low + cell * (torch.arange(GRID, dtype=torch.float64) + 0.5)
            log_r = log_ratio(levels)
            peak = max(peak, float(log_r.max()))
            kept = torch.nonzero(log_r > peak + log_epsilon)[:, 0]
            first, last = int(kept[0]), int(kept[-1])
            if last - first >= GRID // 4 or cell < 1e-9:
                break
            # a cell more on each side, where the contour lies
            inner = slice(max(0, first - 1), min(GRID, last + 2))
            outer = torch.ones(GRID, dtype=torch.bool)
            outer[inner] = False
            parts.append((levels[outer], log_r[outer], cell))
            low, high = low + cell * inner.start, low + cell * inner.stop
        parts.append((levels, log_r, cell))
        threshold = peak + log_epsilon
        self.edges = (
            low if first == 0 else _crossing(levels, log_r, first, first - 1, threshold),
            high if last == GRID - 1 else _crossing(levels, log_r, last, last + 1, threshold),
        )
        below = torch.ones(GRID, dtype=torch.bool)
        below[: first + 1] = below[last:] = False
        below &= log_r <= threshold
        starts, ends = (torch.nonzero(torch.diff(below.int()) == step)[:, 0].tolist() for step in (1, -1))
        self.gaps = [
            (_crossing(levels, log_r, i, i + 1, threshold), _crossing(levels, log_r, j + 1, j, threshold))
            for i, j in zip(starts, ends, strict=True)
            if j - i > GAP * (last - first)
        ]
        self.levels = torch.cat([part[0] for part in parts])
        mass = torch.cat([torch.exp(part[1] - peak) * part[2] for part in parts])
        self.mass = mass / mass.sum()


def _crossing(levels: Tensor, log_r: Tensor, inside: int, outside: int, threshold: float) -> float:
    """The level between two neighbouring cells at which the log ratio equals the threshold, linearly."""
    share = (log_r[inside] - threshold) / (log_r[inside] - log_r[outside])
    return float(levels[inside] + share * (levels[outside] - levels[inside]))


def _posterior(region: Box, estimator: RatioEstimator, x: Tensors, group: tuple[str, ...], seed: int) -> np.ndarray:
    """u (N, d) of a group drawn from its joint posterior, those outside the region's contour left out."""
    u = estimator.sample(group, x, DRAWS, torch.Generator().manual_seed(seed))[0].numpy()
    contour = region.contours.get(group)
    return u if contour is None else u[contour.contains(u)]


def _kept(old: Box, new: Box, prior: Prior, targets: Sequence[str], z: Tensor) -> float:
    """Share of the old region's volume in the new one: exact for a box in the cube, else counted among the samples."""
    if not new.derived:
        return float(np.exp(new.log_volume - old.log_volume))
    inside = torch.ones(len(z), dtype=torch.bool)
    for i, name in enumerate(targets):
        low, high = new.cube[name] if name in prior else new.derived.get(name, (-np.inf, np.inf))
        inside &= (z[:, i] >= low) & (z[:, i] <= high)
    for name, gaps in new.gaps.items():
        for low, high in gaps if name in targets else ():
            inside &= (z[:, targets.index(name)] <= low) | (z[:, targets.index(name)] >= high)
    for names, contour in new.contours.items():
        columns = [targets.index(name) for name in names]
        inside &= torch.from_numpy(contour.contains(z[:, columns].numpy()))
    return max(float(inside.double().mean()), 1 / len(z))
