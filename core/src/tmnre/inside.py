"""Parameters inside a region, bounds on derived quantities included: which are, and new ones.

A box is drawn from exactly, a contour about the points it is held by, and bounds on derived quantities reject.  Where
they leave little of either, draws begin at points that are known to be inside, a pool, which the round before leaves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tmnre.nested import FILLED, uniform
from tmnre.region import Box
from tmnre.simulator import Simulator

FIRST, DRAWS = 1000, 100_000
"""of a box, to see whether it needs a pool, and to find one"""
LEAST = 4
"""points a dimension that tell the shape of a region"""


class SimulationError(RuntimeError):
    """The simulator failed; the message names parameters and reason."""


def in_region(simulator: Simulator, region: Box, u: np.ndarray) -> np.ndarray:
    """Which rows of u (N, D) may be simulated for this region: their simulated parameters lie in it.

    Redrawn parameters are not looked at, they will be drawn anew.
    """
    names = tuple(name for name in simulator.prior.names if name not in simulator.redrawn)
    inside = region.contains(u, names)
    if region.derived and inside.any():
        derived = simulator.derive(torch.from_numpy(simulator.prior.from_cube(u)))
        inside &= np.asarray(region.allows(derived))
    return inside


def draw(
    simulator: Simulator,
    region: Box,
    n: int,
    rng: np.random.Generator,
    *,
    pool: np.ndarray | None = None,
    max_tries: int = 2000,
) -> np.ndarray:
    """u (n, D) in the region, uniform but for the redrawn parameters.

    pool (P, D) : points spread over all of the region, about which to draw; None: by rejection, at the price of many
    points for one where bounds on derived quantities cut deep

    Raises SimulationError when fewer than one proposal in `max_tries` satisfies the bounds on derived quantities.
    """
    if pool is not None:
        return _drawn_about(pool, simulator, region, n, rng)
    accepted = np.empty((0, len(simulator.prior)))
    tried = 0
    while len(accepted) < n:
        share = max(len(accepted), 1) / max(tried, 1)
        u = region.sample(min(int(1.1 * (n - len(accepted)) / share), 10 * max(n, 1000)) + 1, rng)
        tried += len(u)
        accepted = np.concatenate([accepted, u[in_region(simulator, region, u)]])
        if tried > max_tries * max(n, 1000) / 10 and len(accepted) < tried / max_tries:
            raise SimulationError(
                f"of {tried} parameter draws {len(accepted)} satisfy the bounds {dict(region.derived)}; "
                f"check that prior and constraints overlap"
            )
    return accepted[:n]


def _drawn_about(pool: np.ndarray, simulator: Simulator, region: Box, n: int, rng: np.random.Generator) -> np.ndarray:
    """The same by `uniform`, of all simulated parameters together."""
    prior, redrawn = simulator.prior, simulator.redrawn
    columns = prior.columns(tuple(name for name in prior.names if name not in redrawn))

    def whole(v: np.ndarray) -> np.ndarray:
        u = np.empty((len(v), len(prior)))
        u[:, columns] = v
        u[:, prior.columns(redrawn)] = region.spread(np.full((len(v), len(redrawn)), 0.5), redrawn)
        return u

    u = whole(uniform(lambda v: in_region(simulator, region, whole(v)), pool[:, columns], n, rng))
    u[:, prior.columns(redrawn)] = region.spread(rng.random((n, len(redrawn))), redrawn)
    return u


def pool_of(simulator: Simulator, region: Box, targets: Sequence[str], z: Tensor, seed: int) -> np.ndarray | None:
    """u (P, D) spread over a region that bounds on derived quantities make hard to draw from; None: it is not, or too
    few are known.

    What is inside of draws of its box, or of the points of its contours, and of targets z (S, T) drawn in the wider
    region before.
    """
    prior, rng = simulator.prior, np.random.default_rng(seed)
    if not (region.derived and prior.keys() <= set(targets)):
        return None
    if not region.contours and in_region(simulator, region, region.sample(FIRST, rng)).mean() >= FILLED:
        return None
    u = region.about(rng) if region.contours else region.sample(DRAWS, rng)
    u = u[in_region(simulator, region, u)]
    simulated = [i for i, name in enumerate(prior.names) if name not in simulator.redrawn]
    before = z[:, [targets.index(name) for name in prior.names]].numpy()
    before = before[np.unique(before[:, simulated], axis=0, return_index=True)[1]]
    u = np.concatenate([u, before[in_region(simulator, region, before)]])
    return u if len(u) >= LEAST * len(simulated) else None
