"""The rounds of a recipe whose lengths are set."""

from __future__ import annotations

from collections.abc import Sequence

from tmnre import Stage


def stages(waveforms: Sequence[int], steps: Sequence[int], *, afresh: Sequence[int] = (-1,)) -> list[Stage]:
    """One stage each; those `afresh`, counted from the end (-1: the last), start from random weights.

    Weights, data reduction and quantile tables of a wider region leave posteriors too wide.

    Raises ValueError when waveforms and steps are not equally many, or a round is not counted from the end.
    """
    if any(i >= 0 for i in afresh):
        raise ValueError(f"rounds that start afresh are counted from the end, -1 the last; got {list(afresh)}")
    if len(waveforms) != len(steps):
        lengths = f"waveforms are given for {len(waveforms)} rounds, steps for {len(steps)}"
        raise ValueError(f"{lengths}; give lists of the same length")
    return [
        Stage(n, length, afresh=i - len(steps) in afresh)
        for i, (n, length) in enumerate(zip(waveforms, steps, strict=True))
    ]
