"""The rounds of a recipe whose lengths are set."""

from __future__ import annotations

from collections.abc import Sequence

from tmnre import Stage


def stages(waveforms: Sequence[int], steps: Sequence[int]) -> list[Stage]:
    """One stage each; the last starts from random weights, for those of a wider region leave its posteriors too wide.

    Raises ValueError when the two are not equally many.
    """
    if len(waveforms) != len(steps):
        raise ValueError(f"waveforms are given for {len(waveforms)} rounds, steps for {len(steps)}; give both the same")
    last = len(steps) - 1
    return [Stage(n, length, afresh=i == last) for i, (n, length) in enumerate(zip(waveforms, steps, strict=True))]
