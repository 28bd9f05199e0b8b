"""Nested sampling with many points at a time, of any function on the unit cube.

Live points are uniform where the function exceeds a level.  Each iteration removes the lower half of them, which
raises the level, and replaces it by points drawn in the ellipsoid or box about the upper half.  Where what is left is
much smaller than both, narrow, curved or in several pieces, they are grown from the upper half instead, with slice
sampling along differences of live points; all chains move together, one call of the function for all.  The volume
shrinks by a known factor on average (Skilling 2006), which gives the volume above any level, and the integral.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tmnre.ellipsoid import Ellipsoid

Function = Callable[[np.ndarray], np.ndarray]

REACH = 1.1
"""ellipsoids and boxes are larger by this than holds all points; those leave about 1 / points of the volume outside"""
FILLED = 0.02
"""a set that fills less of its ellipsoid and box than this is sampled by slices, which take some 50 calls a point"""


def uniform(
    allowed: Function,
    pool: np.ndarray,
    n: int,
    rng: np.random.Generator,
    *,
    edges: np.ndarray | None = None,
    slices: int | None = None,
) -> np.ndarray:
    """Points (n, d) uniform where `allowed` (N, d) -> (N,) bool is true.

    pool (P, d) : points spread over all of that set
    edges (d, 2) : a box that holds it; None: the one about the pool
    slices : of each chain, where ellipsoid and box are too large; None: 2 d + 10
    """
    d = pool.shape[1]
    draw, _ = _about(pool, edges)
    found, proposed = np.empty((0, d)), 0
    while len(found) < n:
        m = 2 * (n - len(found)) + 100
        u = draw(m, rng)
        found, proposed = np.concatenate([found, u[allowed(u)]]), proposed + m
        if len(found) < FILLED * proposed:
            start = pool[rng.integers(len(pool), size=n)]
            return slice_sample(allowed, start, pool, 2 * d + 10 if slices is None else slices, rng)
    return found[:n]


def measured_log_volume(
    allowed: Function, pool: np.ndarray, rng: np.random.Generator, *, edges: np.ndarray, draws: int = 10_000
) -> float | None:
    """Log volume of the set that `uniform` samples, by the share of its ellipsoid or box that is allowed.

    The relative error is at most 1 / sqrt(FILLED draws); None where the set fills less than FILLED.
    """
    draw, log_volume = _about(pool, edges)
    share = float(allowed(draw(draws, rng)).mean())
    return log_volume + float(np.log(share)) if share >= FILLED else None


def _about(
    pool: np.ndarray, edges: np.ndarray | None
) -> tuple[Callable[[int, np.random.Generator], np.ndarray], float]:
    """Draws from the ellipsoid or the box about points, whichever is smaller, and its log volume."""
    ellipsoid = Ellipsoid.about(pool, reach=REACH)
    if edges is None:
        low, high = pool.min(0), pool.max(0)
        margin = (REACH - 1) / 2 * (high - low)
        edges = np.stack([low - margin, high + margin], axis=1)
    low, width = edges[:, 0], edges[:, 1] - edges[:, 0]
    if (width > 0).all() and (log_volume := float(np.log(width).sum())) < ellipsoid.log_volume:
        return lambda n, rng: low + width * rng.random((n, len(low))), log_volume
    return ellipsoid.sample, ellipsoid.log_volume


def slice_sample(
    allowed: Function, start: np.ndarray, pool: np.ndarray, steps: int, rng: np.random.Generator
) -> np.ndarray:
    """Points (N, d) uniform where `allowed` (N, d) -> (N,) bool is true: chains of the given length from start (N, d).

    start has to be allowed; pool (P, d) are points of that set, whose differences are the directions.
    """
    points = start.copy()
    n = len(points)
    # in units in which the pool has unit spread every direction is as long as two points are apart on average: too
    # long costs a few halvings, too short many steps
    covariance = np.atleast_2d(np.cov(pool.T))
    covariance += (1e-12 * covariance.trace() or 1.0) * np.eye(len(covariance))
    whiten = np.linalg.inv(np.linalg.cholesky(covariance))
    for _ in range(steps):
        first, second = rng.integers(len(pool), size=(2, n))
        direction = pool[first] - pool[second]
        equal = ~direction.any(axis=1)
        direction[equal] = rng.standard_normal((equal.sum(), pool.shape[1]))
        direction *= np.sqrt(2 * pool.shape[1]) / np.linalg.norm(direction @ whiten.T, axis=1, keepdims=True)
        low = -rng.random(n)
        high = low + 1
        for edge, sign in ((low, -1), (high, 1)):
            going = np.arange(n)
            while len(going):
                going = going[allowed(points[going] + edge[going, None] * direction[going])]
                edge[going] += sign
        left = np.arange(n)
        while len(left):
            at = rng.uniform(low[left], high[left])
            proposal = points[left] + at[:, None] * direction[left]
            good = allowed(proposal)
            # the start of the slice is allowed, so an interval that has shrunk to it is left there
            points[left[good]] = proposal[good]
            bad, at = left[~good], at[~good]
            low[bad[at < 0]], high[bad[at >= 0]] = at[at < 0], at[at >= 0]
            left = bad[high[bad] - low[bad] > 1e-12]
    return points


def _above(level: float, log_f: Function, allowed: Function) -> Function:
    """Where a function that is known where `allowed` exceeds a level."""

    def inside(u: np.ndarray) -> np.ndarray:
        rows = allowed(u)
        if rows.any():
            rows[rows] = log_f(u[rows]) > level
        return rows

    return inside


@dataclass(frozen=True)
class Nested:
    """What nested sampling leaves.

    live (L, d) : uniform where the function exceeds `level`
    log_volume : of that set, as a fraction of where it began
    samples (S, d), log_weights (S,) : the function as a density over the whole of where it began; weights add up to
        the integral
    """

    live: np.ndarray
    level: float
    log_volume: float
    samples: np.ndarray
    log_weights: np.ndarray

    @property
    def log_evidence(self) -> float:
        """Log of the function's integral over the uniform distribution it began with."""
        return float(np.logaddexp.reduce(self.log_weights))


def nested_sampling(
    log_f: Function,
    live: np.ndarray,
    rng: np.random.Generator,
    *,
    allowed: Function,
    level: float = np.inf,
    tolerance: float = 1e-3,
    steps: int | None = None,
    max_iterations: int = 1000,
) -> Nested:
    """Shrink from live (L, d), uniform where `allowed`, until every point exceeds `level` in log_f.

    Without a level, until what is left can add no more than `tolerance` of the integral.  The error of log evidence
    and log volume is about sqrt(-log volume / L).

    steps : slices of each chain, where the points are grown; None: 2 d + 10.
    """
    live, log_live = live.copy(), log_f(live)
    n, half = len(live), len(live) // 2
    if n < 4 * live.shape[1]:
        raise ValueError(f"nested sampling in {live.shape[1]} dimensions needs {4 * live.shape[1]} points, got {n}")
    # removed one after the other: of m points the lowest takes 1/m of the volume with it
    shrink = -1.0 / (n - np.arange(half))
    log_volume, dead = 0.0, []
    reached = -np.inf
    for _ in range(max_iterations):
        order = np.argsort(log_live)
        below = int(np.searchsorted(log_live[order], level, side="right"))
        gone = order[: min(half, below)]
        if not len(gone):
            break
        volumes = log_volume + np.concatenate([[0.0], np.cumsum(shrink[: len(gone)])])
        # the volume between one level and the next
        shells = volumes[:-1] + np.log(-np.expm1(np.diff(volumes)))
        dead.append((live[gone], log_live[gone] + shells))
        log_volume, reached = float(volumes[-1]), float(log_live[gone[-1]])
        kept = np.delete(np.arange(n), gone)
        if level == np.inf:
            found = np.logaddexp.reduce(np.concatenate([weights for _, weights in dead]))
            if log_live.max() + log_volume < found + np.log(tolerance) or len(np.unique(log_live[kept])) == 1:
                live, log_live = live[kept], log_live[kept]
                break
        live[gone] = uniform(_above(reached, log_f, allowed), live[kept], len(gone), rng, slices=steps)
        log_live[gone] = log_f(live[gone])
    dead.append((live, log_live + log_volume - np.log(len(live))))
    samples, weights = (np.concatenate(part) for part in zip(*dead, strict=True))
    return Nested(live, reached, log_volume, samples, weights)
