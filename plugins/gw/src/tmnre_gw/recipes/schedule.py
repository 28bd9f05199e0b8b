"""The rounds of a recipe whose lengths are set."""

from __future__ import annotations

from collections.abc import Sequence

from tmnre import Stage


def stages(waveforms: Sequence[int], steps: Sequence[int], *, afresh: int) -> list[Stage]:
    """One stage each; the one `afresh` from the end (-1: the last) starts from random weights.

    Weights, data reduction and quantile tables of a wider region leave posteriors too wide.  A fresh start is well
    placed where the region has all but stopped shrinking: what follows goes on from there.

    Raises ValueError when the two are not equally many.
    """
    if len(waveforms) != len(steps):
        lengths = f"waveforms are given for {len(waveforms)} rounds, steps for {len(steps)}"
        raise ValueError(f"{lengths}; give lists of the same length")
    return [
        Stage(n, length, afresh=i == len(steps) + afresh)
        for i, (n, length) in enumerate(zip(waveforms, steps, strict=True))
    ]
