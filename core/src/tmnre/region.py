"""Where the prior still stands: a box in the unit cube, and bounds on derived quantities.

In the cube the prior is uniform, so a box is sampled exactly and its volume is the prior mass it holds.  Bounds on
derived quantities (a signal-to-noise ratio, a total mass) cut the box further; draws respect them by rejection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from tmnre.prior import Prior

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """Bounds {parameter: (low, high)} on u in [0, 1] and {derived quantity: (low, high)} in its own units."""

    cube: Mapping[str, Bounds]
    derived: Mapping[str, Bounds] = field(default_factory=dict)

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
        low, high = self._edges.T
        return low + (high - low) * rng.random((n, len(low)))

    def contains(self, u: np.ndarray, names: tuple[str, ...] | None = None) -> np.ndarray:
        """Which rows of u (N, D) lie in the box, looking only at the parameters named (all by default)."""
        low, high = self._edges.T
        inside = (u >= low) & (u <= high)
        if names is not None:
            inside = inside[:, [list(self.cube).index(name) for name in names]]
        return inside.all(axis=1)

    def allows(self, derived: Mapping[str, Tensor]) -> Tensor | bool:
        """Which rows of the derived quantities {"name": (N,)} are within bounds; quantities not given are not
        tested."""
        allowed: Tensor | bool = True
        for name, (low, high) in self.derived.items():
            if name in derived:
                allowed = allowed & (derived[name] >= low) & (derived[name] <= high)
        return allowed

    @property
    def log_volume(self) -> float:
        """Logarithm of the prior mass of the box in the cube, bounds on derived quantities not counted."""
        return float(np.log(np.diff(self._edges)).sum())

    def tightened(self, cube: Mapping[str, Bounds], derived: Mapping[str, Bounds]) -> Box:
        """This box cut to the given bounds; never larger than before."""

        def cut(old: Bounds | None, new: Bounds) -> Bounds:
            return new if old is None else (max(old[0], new[0]), min(old[1], new[1]))

        return Box(
            {name: cut(old, cube[name]) if name in cube else old for name, old in self.cube.items()},
            {**self.derived, **{name: cut(self.derived.get(name), new) for name, new in derived.items()}},
        )

    def to_dict(self) -> dict:
        """Plain lists, for JSON."""
        return {
            "cube": {k: list(v) for k, v in self.cube.items()},
            "derived": {k: list(v) for k, v in self.derived.items()},
        }

    @classmethod
    def from_dict(cls, plain: Mapping) -> Box:
        """The inverse of `to_dict`."""
        return cls(*({k: (v[0], v[1]) for k, v in plain[part].items()} for part in ("cube", "derived")))
