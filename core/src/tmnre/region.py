"""Where the prior still stands: a box in the unit cube, contours of groups, and bounds on derived quantities.

In the cube the prior is uniform, so a box is sampled exactly and its volume is the prior mass it holds.  Groups of
correlated parameters may be cut further by a contour each.  Bounds on derived quantities (a signal-to-noise ratio, a
total mass) cut both; draws respect them by rejection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from tmnre.contour import Contour
from tmnre.prior import Prior

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """Bounds {parameter: (low, high)} on u in [0, 1] and {derived quantity: (low, high)} in its own units.

    contours {group of parameters: Contour}; a parameter is in one group at most, and `cube` has the box about it.
    gaps {parameter or derived quantity: ((low, high), ...)} are left out of its bounds, in order: what lies between
    separate modes.
    """

    cube: Mapping[str, Bounds]
    derived: Mapping[str, Bounds] = field(default_factory=dict)
    contours: Mapping[tuple[str, ...], Contour] = field(default_factory=dict)
    gaps: Mapping[str, tuple[Bounds, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, (low, high) in self.cube.items():
            if not 0 <= low < high <= 1:
                raise ValueError(f"region of {name!r} must satisfy 0 <= low < high <= 1, got ({low}, {high})")
        for name, (low, high) in self.derived.items():
            if not low < high:
                raise ValueError(f"region of derived {name!r} is empty: ({low}, {high})")

    @classmethod
    def full(cls, prior: Prior, constraints: Mapping[str, Bounds] | None = None) -> Box:
        """The whole prior, with the constraints that belong to it."""
        return cls({name: (0.0, 1.0) for name in prior.names}, dict(constraints or {}))

    @property
    def _edges(self) -> np.ndarray:
        return np.array(list(self.cube.values()))

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """u (n, D) uniform in the box; bounds on derived quantities are not applied here."""
        u = self.spread(rng.random((n, len(self.cube))), tuple(self.cube))
        for names, contour in self.contours.items():
            u[:, self._columns(names)] = contour.sample(n, rng)
        return u

    def about(self, rng: np.random.Generator) -> np.ndarray:
        """u (L, D) uniform in the box, from the points that contours are held by; as many as these have."""
        n = min(len(contour.live) for contour in self.contours.values())
        u = self.spread(rng.random((n, len(self.cube))), tuple(self.cube))
        for names, contour in self.contours.items():
            u[:, self._columns(names)] = rng.permutation(contour.live)[:n]
        return u

    def spread(self, v: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Uniform numbers v (N, k) in [0, 1] spread over the intervals of k parameters."""
        u = np.empty_like(v)
        for i, name in enumerate(names):
            u[:, i] = self.cube[name][0] + v[:, i] * self._width(name)
            for low, high in self.gaps.get(name, ()):
                u[:, i] += (high - low) * (u[:, i] >= low)
        return u

    def _width(self, name: str) -> float:
        low, high = self.cube[name]
        return high - low - sum(b - a for a, b in self.gaps.get(name, ()))

    def contains(self, u: np.ndarray, names: tuple[str, ...] | None = None) -> np.ndarray:
        """Which rows of u (N, D) lie in the region, looking only at the parameters named (all by default)."""
        low, high = self._edges.T
        inside = (u >= low) & (u <= high)
        for column, name in enumerate(self.cube):
            for low, high in self.gaps.get(name, ()):
                inside[:, column] &= (u[:, column] <= low) | (u[:, column] >= high)
        if names is not None:
            inside = inside[:, self._columns(names)]
        inside = inside.all(axis=1)
        for group, contour in self.contours.items():
            if names is None or set(group) <= set(names):
                rows = np.flatnonzero(inside)
                inside[rows] = contour.contains(u[rows][:, self._columns(group)])
        return inside

    def _columns(self, names: Sequence[str]) -> list[int]:
        return [list(self.cube).index(name) for name in names]

    def allows(self, derived: Mapping[str, Tensor]) -> Tensor | bool:
        """Which rows of the derived quantities {"name": (N,)} are within bounds; quantities not given are not
        tested."""
        allowed: Tensor | bool = True
        for name, (low, high) in self.derived.items():
            if name in derived:
                allowed = allowed & (derived[name] >= low) & (derived[name] <= high)
                for low, high in self.gaps.get(name, ()):
                    allowed = allowed & ((derived[name] <= low) | (derived[name] >= high))
        return allowed

    @property
    def log_volume(self) -> float:
        """Logarithm of the prior mass in the cube, bounds on derived quantities not counted."""
        within = {name for group in self.contours for name in group}
        free = [self._width(name) for name in self.cube if name not in within]
        return float(np.log(free).sum()) + sum(contour.log_volume for contour in self.contours.values())

    def tightened(
        self,
        cube: Mapping[str, Bounds],
        derived: Mapping[str, Bounds],
        contours: Mapping[tuple[str, ...], Contour] | None = None,
        gaps: Mapping[str, Sequence[Bounds]] | None = None,
    ) -> Box:
        """This box cut to the given bounds, never larger than before, less the given gaps, with the given contours in
        place of its own."""

        def cut(old: Bounds | None, new: Bounds) -> Bounds:
            return new if old is None else (max(old[0], new[0]), min(old[1], new[1]))

        bounds = {name: cut(old, cube[name]) if name in cube else old for name, old in self.cube.items()}
        beside = {**self.derived, **{name: cut(self.derived.get(name), new) for name, new in derived.items()}}
        left_out = {
            name: _united([*self.gaps.get(name, ()), *(gaps or {}).get(name, ())], within)
            for name, within in (*bounds.items(), *beside.items())
        }
        return Box(
            bounds,
            beside,
            {**self.contours, **(contours or {})},
            {name: found for name, found in left_out.items() if found},
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, for JSON; of a contour its group, threshold and volume."""
        contours = [
            {"names": list(names), "threshold": contour.constraints[-1][1], "log_volume": contour.log_volume}
            for names, contour in self.contours.items()
        ]
        return {
            "cube": {k: list(v) for k, v in self.cube.items()},
            "derived": {k: list(v) for k, v in self.derived.items()},
            **({"contours": contours} if contours else {}),
            **({"gaps": {k: [list(gap) for gap in v] for k, v in self.gaps.items()}} if self.gaps else {}),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], contours: Mapping[tuple[str, ...], Contour] | None = None) -> Box:
        """The inverse of `to_dict` but for contours, which live with the networks they come from."""
        cube, derived = ({k: (v[0], v[1]) for k, v in plain[part].items()} for part in ("cube", "derived"))
        gaps = {k: tuple((low, high) for low, high in v) for k, v in plain.get("gaps", {}).items()}
        return cls(cube, derived, contours or {}, gaps)


def _united(gaps: Sequence[Bounds], within: Bounds) -> tuple[Bounds, ...]:
    """Gaps in order, those that overlap as one, those outside the bounds left out."""
    found: list[Bounds] = []
    for low, high in sorted(gap for gap in gaps if within[0] < gap[0] and gap[1] < within[1]):
        if found and low <= found[-1][1]:
            low, high = found[-1][0], max(high, found.pop()[1])
        found.append((low, high))
    return tuple(found)


def relative(regions: Sequence[Mapping[str, Any]], name: str) -> tuple[list[Bounds], list[list[Bounds]]]:
    """Bounds and gaps of one name in regions, as `to_dict` has them, to be drawn within [0, 1].

    Those of parameters are as they are, those of derived quantities relative to the first bounds that are finite on
    both sides; where none are, there is nothing to draw.
    """
    bounds = [{**region["derived"], **region["cube"]}.get(name, (-np.inf, np.inf)) for region in regions]
    gaps = [region.get("gaps", {}).get(name, ()) for region in regions]
    low, high = 0.0, 1.0
    if name not in regions[-1]["cube"]:
        first = next((b for b in bounds if np.isfinite(b).all()), None)
        if first is None:
            return [], []
        low, high = first

    def scaled(pair: Sequence[float]) -> Bounds:
        a, b = (min(max((value - low) / (high - low), 0.0), 1.0) for value in pair)
        return a, b

    return [scaled(pair) for pair in bounds], [[scaled(gap) for gap in each] for each in gaps]
