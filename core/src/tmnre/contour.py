"""The correlated part of a region: where the learned joint ratio of a group of parameters is not negligible.

A contour holds one constraint for every round that cut it, each a ratio learned where the one before it held, and
points that are uniform inside.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from scipy import special, stats
from torch import Tensor

from tmnre.ellipsoid import Ellipsoid
from tmnre.joint import Joint
from tmnre.nested import REACH, measured_log_volume, nested_sampling, uniform

LIVE = 1000
AT_ONCE = 1024
"""points, few enough for what a network makes of them to stay in cache"""


class Surface:
    """log r of a group at the observation: called with u (N, d), gives (N,).

    features (1, F) of the observation; table (d, knots), the group's quantiles in the region the ratio was learned in.
    """

    def __init__(self, joint: Joint, features: Tensor, table: torch.nn.Module) -> None:
        self.joint, self.features, self.table = joint, features, table

    def __call__(self, u: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            parts = torch.from_numpy(u).split(AT_ONCE)
            return torch.cat([self.joint.logit(self.features, self.table(part)) for part in parts]).numpy()


def mass_beyond(epsilon: float) -> float:
    """Posterior mass of a one-dimensional Gaussian where r < epsilon max r."""
    return float(special.erfc(np.sqrt(-np.log(epsilon))))


def drop(mass: float, d: int, padding: float = 0.0) -> float:
    """How far log r of a d-dimensional Gaussian falls on the contour that loses so much of its posterior mass.

    And farther, by what makes the contour wider by `padding` of its width on every side.
    """
    return float(stats.chi2.isf(mass, d) / 2 * (1 + 2 * padding) ** 2)


@dataclass(frozen=True)
class Contour:
    """Points u of a group's cube where every surface exceeds its threshold.

    constraints : (surface, threshold), the newest last
    live (L, d) : uniform inside
    edges (d, 2) : the box about them
    log_volume : of the contour in the group's unit cube
    """

    constraints: tuple[tuple[Surface, float], ...]
    live: np.ndarray
    edges: np.ndarray
    log_volume: float

    @classmethod
    def full(cls, d: int, rng: np.random.Generator) -> Contour:
        """All of the unit cube of d parameters."""
        return cls.box(np.tile([0.0, 1.0], (d, 1)), rng)

    @classmethod
    def box(cls, edges: np.ndarray, rng: np.random.Generator) -> Contour:
        """All between edges (d, 2)."""
        low, width = edges[:, 0], edges[:, 1] - edges[:, 0]
        return cls((), low + width * rng.random((LIVE, len(edges))), edges, float(np.log(width).sum()))

    @cached_property
    def _ellipsoid(self) -> Ellipsoid:
        return Ellipsoid.about(self.live, reach=REACH)

    def contains(self, u: np.ndarray) -> np.ndarray:
        """Which rows of u (N, d) are inside."""
        inside = ((u >= self.edges[:, 0]) & (u <= self.edges[:, 1])).all(axis=1)
        if self.constraints:
            inside &= self._ellipsoid.contains(u)
        for surface, threshold in reversed(self.constraints):
            rows = np.flatnonzero(inside)
            if len(rows):
                inside[rows] = surface(u[rows]) > threshold
        return inside

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """u (n, d) uniform inside."""
        return uniform(self.contains, self.live, n, rng, edges=self.edges)

    def tightened(self, surface: Surface, threshold: float, padding: float, rng: np.random.Generator) -> Contour:
        """This contour cut to where `surface` exceeds `threshold`, with a box about it that is padded."""
        live = self.sample(10 * LIVE, rng)
        inside = surface(live) > threshold
        shrunk = inside.sum() < LIVE
        if shrunk:
            found = nested_sampling(surface, live[:LIVE], rng, allowed=self.contains, level=threshold)
            live, log_volume = found.live, found.log_volume
        else:
            live, log_volume = live[inside][:LIVE], float(np.log(inside.mean()))
        low, high = live.min(0), live.max(0)
        pad = padding * (high - low)
        edges = np.stack([np.maximum(self.edges[:, 0], low - pad), np.minimum(self.edges[:, 1], high + pad)], axis=1)
        new = Contour((*self.constraints, (surface, threshold)), live, edges, self.log_volume + log_volume)
        # nested sampling knows a log volume to its root over the points', which is 8% of the volume at 6 nat
        measured = measured_log_volume(new.contains, live, rng, edges=edges) if shrunk else None
        return new if measured is None else replace(new, log_volume=measured)
