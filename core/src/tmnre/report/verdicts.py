"""What each check of a posterior asks and what it found, in plain words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tmnre.report import charts, words

LEVELS = ("0.50", "0.68", "0.90")


@dataclass(frozen=True)
class Kind:
    """One kind of check: how its records' names begin, a title, and what it asks."""

    begins: str
    title: str
    question: str


KINDS = (
    Kind(
        "expected coverage",
        "Expected coverage",
        "Of simulations kept aside, whose truth is known: do 50%, 68% and 90% regions of highest posterior density "
        "hold the truth as often as they say? Below the band the posterior is too narrow, above it too wide.",
    ),
    Kind(
        "central intervals",
        "Central intervals",
        "The same of intervals with equal tails, one parameter at a time.",
    ),
    Kind(
        "sbc",
        "Simulation-based calibration",
        "Where does the truth rank among draws of its posterior? Anywhere with equal probability, if the posterior is "
        "right.",
    ),
    Kind(
        "tarp",
        "TARP",
        "Coverage of regions about random points: also sees a posterior that is wide enough but looks at the wrong "
        "part of the data.",
    ),
    Kind(
        "local c2st",
        "At this very observation",
        "Near this observation, can a classifier tell draws of the posterior from the truth? It should not.",
    ),
    Kind(
        "distortions",
        "Goodness of fit",
        "Is the observation like the model's data at all, or is it better described with something added?",
    ),
)
OTHER = Kind("", "Other checks", "Checks of this recipe's own.")


@dataclass
class Group:
    """Checks of one kind, each with its name without the kind, what was found, and its coverage where it has one."""

    kind: Kind
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """How many did not pass."""
        return sum(not row["passed"] for row in self.rows)


def grouped(checks: Iterable[Mapping[str, Any]]) -> list[Group]:
    """Checks {"name", "passed", "p_value", "numbers"} by kind, in the order of KINDS."""
    groups = [Group(kind) for kind in (*KINDS, OTHER)]
    for check in checks:
        name = str(check.get("name", "check"))
        group = next(g for g in groups if name.startswith(g.kind.begins))
        given = check.get("numbers")
        numbers: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
        group.rows.append(
            {
                "name": name.removeprefix(group.kind.begins).strip() or "all parameters",
                "passed": bool(check.get("passed")),
                "p": words.p_value(check.get("p_value")),
                "levels": (levels := _levels(numbers)),
                "picture": charts.coverage(name, levels) if levels else "",
                "found": _found(group.kind.begins, numbers),
            }
        )
    return [group for group in groups if group.rows]


def by_simulations(check: Mapping[str, Any]) -> bool:
    """Whether a check judges posteriors by simulations whose truth is known."""
    name = str(check.get("name", ""))
    return any(name.startswith(kind.begins) for kind in KINDS if kind.begins != "distortions")


def _levels(numbers: Mapping[str, Any]) -> list[dict[str, float]]:
    """[{"level", "inside", "low", "high"}] of a coverage check; empty for others."""
    return [
        {
            "level": float(level),
            "inside": float(numbers[level]),
            "low": float(numbers.get(f"{level}_low", "nan")),
            "high": float(numbers.get(f"{level}_high", "nan")),
        }
        for level in LEVELS
        if level in numbers
    ]


def _found(kind: str, numbers: Mapping[str, Any]) -> str:
    if kind == "tarp" and "deviation" in numbers:
        return f"coverage is off by {words.percent(numbers['deviation'])} at most"
    if kind == "local c2st" and {"statistic", "null_median"} <= set(numbers):
        found, typical = (words.number(numbers[key]) for key in ("statistic", "null_median"))
        return f"distance {found}; {typical} is typical of a right one"
    if kind == "distortions" and {"at", "t"} <= set(numbers):
        return f"most of all at distortion {numbers['at']:.0f}, by {words.number(numbers['t'])} standard deviations"
    if kind == "sbc":
        worst = min((key for key in numbers if key.startswith("p_")), key=lambda key: numbers[key], default=None)
        if worst:
            name = worst.removeprefix("p_")
            mean, spread = numbers.get(f"mean_{name}", 0.5), numbers.get(f"spread_{name}", 1.0)
            where = f"mean rank {words.number(mean)} (0.5 is right), spread {words.number(spread)} (1 is right)"
            return f"worst for {name}: {where}"
    return ""
