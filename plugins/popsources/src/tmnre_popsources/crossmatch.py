"""Cross-match of detections with a list of sources, and shares by flux.

A detection stands for the brightest listed source within

    sqrt(r^2 + (3.03 sd_listed)^2),   r = 3.03 sd, at least `least` and at most three times that,

where 99% of a two-dimensional Gaussian are.  sd is what the network says of the position, in which the size of the
pixels and the scatter of the photons are; `least`, half a pixel, keeps bright sources, whose sd is a small part of one,
from being lost to tails that no Gaussian has and to a point spread function that is not quite the model's; and a
source is measured by the pixels that touch its own, so that it cannot be more than one and a half from a centre.

How often one matches by chance is seen with the list turned about the Galactic poles, which keeps its latitudes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import KDTree

from tmnre_popsources.detection import Detections

REACH_99 = np.sqrt(-2 * np.log(0.01))
"""radius of 99% of a two-dimensional Gaussian in standard deviations"""
MOST = 3.0
"""largest radius of a match, over the least"""
TURNS_DEG = (20.0, 60.0, 100.0, 140.0, 180.0, 220.0, 260.0, 300.0)


@dataclass(frozen=True)
class Listed:
    """S sources: Galactic longitude and latitude, standard deviation of the position, ln F."""

    l_deg: np.ndarray
    b_deg: np.ndarray
    sd_deg: np.ndarray
    log_flux: np.ndarray

    @property
    def vectors(self) -> np.ndarray:
        return unit_vectors(self.l_deg, self.b_deg)

    def turned(self, deg: float) -> Listed:
        """The same about the Galactic poles."""
        return replace(self, l_deg=(self.l_deg + deg) % 360)


def unit_vectors(l_deg: np.ndarray, b_deg: np.ndarray) -> np.ndarray:
    """Unit vectors (S, 3)."""
    l_rad, b_rad = np.radians(l_deg), np.radians(b_deg)
    return np.stack([np.cos(b_rad) * np.cos(l_rad), np.cos(b_rad) * np.sin(l_rad), np.sin(b_rad)], axis=-1)


def radius_deg(found: Detections, *, least_deg: float) -> np.ndarray:
    """How far from each detection (D,) a source may lie whose position has no error of its own."""
    sd = np.hypot(found.sd_l_deg.numpy(), found.sd_b_deg.numpy()) / np.sqrt(2)
    return np.clip(REACH_99 * sd, least_deg, MOST * least_deg)


def match(found: Detections, listed: Listed, *, least_deg: float) -> np.ndarray:
    """Index (D,) of the source every detection of one sky stands for, or -1; see the module."""
    if not len(listed.l_deg):
        return np.full(len(found.row), -1)
    reach = radius_deg(found, least_deg=least_deg)
    widest = np.hypot(reach, REACH_99 * listed.sd_deg.max(initial=0.0))
    own = unit_vectors(found.l_deg.numpy(), found.b_deg.numpy())
    there = listed.vectors
    best = np.full(len(own), -1)
    for i, near in enumerate(KDTree(there).query_ball_point(own, _chord(widest))):
        near = np.array(near, dtype=int)
        reached = np.hypot(reach[i], REACH_99 * listed.sd_deg[near])
        near = near[np.linalg.norm(there[near] - own[i], axis=1) <= _chord(reached)]
        if len(near):
            best[i] = near[listed.log_flux[near].argmax()]
    return best


def by_chance(found: Detections, listed: Listed, *, least_deg: float) -> dict[str, float]:
    """Shares of detections, and of listed sources, that are matched with the list turned; means over the turns."""
    matches = [match(found, listed.turned(deg), least_deg=least_deg) for deg in TURNS_DEG]
    return {
        "detections": float(np.mean([(m >= 0).sum() / max(1, len(m)) for m in matches])),
        "listed": float(np.mean([len(set(m[m >= 0])) / max(1, len(listed.l_deg)) for m in matches])),
    }


def shares(log_flux: np.ndarray, hits: np.ndarray, edges: np.ndarray) -> list[dict[str, float | int | None]]:
    """In bins of ln F with these edges: how many there are, and the share of hits with its binomial error."""
    bins = np.digitize(log_flux, edges) - 1
    found: list[dict[str, float | int | None]] = []
    for k in range(len(edges) - 1):
        inside = hits[bins == k]
        n, share = len(inside), float(inside.mean()) if len(inside) else None
        # (k + 1/2) / (n + 1), which has an error at 0 and at 1 too
        smooth = (inside.sum() + 0.5) / (n + 1)
        error = float(np.sqrt(smooth * (1 - smooth) / (n + 1)))
        found.append({"low": float(np.exp(edges[k])), "high": float(np.exp(edges[k + 1])), "number": n,
                      "share": share, "error": error})  # fmt: skip
    return found


def _chord(deg: np.ndarray) -> np.ndarray:
    """Distance of unit vectors so far apart."""
    return 2 * np.sin(np.radians(deg) / 2)
