"""Simulations on disk: one file per chunk, written once and never changed.

A chunk holds u (n, D) and the arrays of `simulate` (n, ...).  Its name says the round and the number of the chunk,
so a run that was stopped finds what is there and goes on with what is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tmnre.files import write_whole
from tmnre.simulator import Arrays

CUBE = "u"


class Store:
    """Append-only chunks in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, round_number: int, chunk: int) -> Path:
        """File of one chunk."""
        return self.folder / f"{round_number:02d}_{chunk:05d}.npz"

    def write(self, round_number: int, chunk: int, u: np.ndarray, stored: Arrays) -> None:
        """Write one chunk; u (n, D) beside the stored arrays (n, ...)."""
        if CUBE in stored:
            raise ValueError(f"simulate returned an array named {CUBE!r}, which the store keeps for itself; rename it")
        write_whole(self.path(round_number, chunk), lambda path: np.savez(path, **{CUBE: u}, **stored))

    def rounds(self) -> list[int]:
        """Numbers of the rounds that have chunks."""
        return sorted({int(path.name[:2]) for path in self.folder.glob("[0-9]*.npz")})

    def chunks(self, before_round: int) -> list[Path]:
        """Files of all rounds before the given one, in order."""
        return [path for path in sorted(self.folder.glob("[0-9]*.npz")) if int(path.name[:2]) < before_round]

    def count(self, paths: list[Path], keep: Callable[[np.ndarray], np.ndarray]) -> int:
        """How many rows of these chunks `keep(u)` lets pass."""
        total = 0
        for path in paths:
            with np.load(path, allow_pickle=False) as chunk:
                total += int(keep(chunk[CUBE]).sum())
        return total

    def load(self, paths: list[Path], keep: Callable[[np.ndarray], np.ndarray], limit: int) -> tuple[np.ndarray, Arrays]:
        """u (N, D) and stored arrays (N, ...) of the rows that `keep(u)` lets pass, at most `limit`, newest first.

        Two passes, so that the arrays are allocated once and the peak memory is theirs and one chunk's.
        """
        selected: list[tuple[Path, np.ndarray]] = []
        total = 0
        for path in reversed(paths):
            with np.load(path, allow_pickle=False) as chunk:
                rows = np.flatnonzero(keep(chunk[CUBE]))[: limit - total]
            if len(rows):
                selected.append((path, rows))
                total += len(rows)
            if total >= limit:
                break
        arrays: Arrays = {}
        start = 0
        for path, rows in selected:
            with np.load(path, allow_pickle=False) as chunk:
                for name in chunk.files:
                    values = chunk[name]
                    if name not in arrays:
                        arrays[name] = np.empty((total, *values.shape[1:]), values.dtype)
                    arrays[name][start : start + len(rows)] = values if len(rows) == len(values) else values[rows]
            start += len(rows)
        return arrays.pop(CUBE), arrays
