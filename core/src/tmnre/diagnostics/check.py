"""The outcome of a diagnostic, and the one threshold on which all of them decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

THRESHOLD = 1e-3
"""A check fails at p <= 1e-3: of 20 calibrated marginals, one in fifty analyses has one that fails."""


@dataclass(frozen=True)
class Check:
    """A diagnostic's verdict; `numbers` say how far off and in which direction."""

    name: str
    passed: bool
    p_value: float
    numbers: dict[str, float]

    @classmethod
    def of(cls, name: str, p_value: float, numbers: Mapping[str, float]) -> Check:
        """The verdict that follows from a p-value; a NaN fails."""
        p = float(p_value)
        return cls(name, p > THRESHOLD, p, {key: float(value) for key, value in numbers.items()})

    def named(self, name: str) -> Check:
        """The same under another name."""
        return replace(self, name=name)

    def to_dict(self) -> dict[str, Any]:
        """Plain bool, floats and strings, for JSON."""
        return asdict(self)
