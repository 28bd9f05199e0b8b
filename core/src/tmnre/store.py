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

CUBE, FAILED = "u", "failed"
"""arrays of a chunk that are the store's own"""


class Store:
    """Append-only chunks in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def path(self, round_number: int, chunk: int) -> Path:
        """File of one chunk."""
        return self.folder / f"{round_number:02d}_{chunk:05d}.npz"

    def write(self, round_number: int, chunk: int, u: np.ndarray, stored: Arrays, failed: int = 0) -> None:
        """Write one chunk; u (n, D) beside the stored arrays (n, ...), and how many simulations it took to replace."""
        self.folder.mkdir(parents=True, exist_ok=True)
        taken = {CUBE, FAILED} & set(stored)
        if taken:
            raise ValueError(f"simulate returned arrays named {taken}, which the store keeps for itself; rename them")
        own = {CUBE: u, FAILED: np.array(failed)}
        write_whole(self.path(round_number, chunk), lambda path: np.savez(path, **own, **stored))

    def rows(self, round_number: int, chunk: int) -> int:
        """Rows of one chunk; 0 where it has not been written."""
        path = self.path(round_number, chunk)
        if not path.exists():
            return 0
        with np.load(path, allow_pickle=False) as content:
            return len(content[CUBE])

    def failures(self, round_number: int) -> int:
        """Simulations of a round that failed and were replaced."""
        total = 0
        for path in self.folder.glob(f"{round_number:02d}_*.npz"):
            with np.load(path, allow_pickle=False) as content:
                total += int(content[FAILED])
        return total

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

    def load(
        self, paths: list[Path], keep: Callable[[np.ndarray], np.ndarray], limit: int
    ) -> tuple[np.ndarray, Arrays]:
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
                for name in (name for name in chunk.files if name != FAILED):
                    values = chunk[name]
                    if name not in arrays:
                        arrays[name] = np.empty((total, *values.shape[1:]), values.dtype)
                    arrays[name][start : start + len(rows)] = values if len(rows) == len(values) else values[rows]
            start += len(rows)
        return arrays.pop(CUBE), arrays
