"""Simulations on disk: one folder per shard, written once and never changed.

A shard holds u (n, D) and the arrays of `simulate` (n, ...), each in a .npy file, and manifest.json with the seed, the
region, the simulations that failed, and a checksum of every file.  Its name says round and number, so a run that was
stopped finds what is there and goes on with what is missing.  A shard takes its name when it is complete, so writers
never see each other's half of one, and the last of two that write the same shard wins.

Plain .npy, not zarr: whole shards are read twice as fast and single rows twenty times (benchmarks/store_formats.py).
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tmnre.files import checksum, mismatch, read_json, write_json
from tmnre.simulator import Arrays

CUBE = "u"
"""the array of a shard that is the store's own"""
MANIFEST = "manifest.json"
Keep = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Selection:
    """Rows of shards, and their u (N, D) in the same order; nothing else has been read."""

    u: np.ndarray
    parts: list[tuple[Path, np.ndarray]]

    @property
    def nbytes(self) -> int:
        """Memory that all arrays of these rows would take."""
        total = 0
        for path, rows in self.parts:
            for file in _files(path):
                array = np.load(file, mmap_mode="r")
                total += array.nbytes // max(1, len(array)) * len(rows)
        return total

    def load(self) -> Arrays:
        """Stored arrays {"name": (N, ...)}; allocated once, so the peak memory is theirs and one shard's."""
        arrays: Arrays = {}
        start = 0
        for path, rows in self.parts:
            for name, values in read(path, rows).items():
                if name not in arrays:
                    arrays[name] = np.empty((len(self.u), *values.shape[1:]), values.dtype)
                arrays[name][start : start + len(rows)] = values
            start += len(rows)
        return arrays


class Store:
    """Append-only shards in one folder; the arrays of whole ones can be discarded."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def path(self, round_number: int, number: int) -> Path:
        """Folder of one shard."""
        return self.folder / f"{round_number:02d}_{number:06d}"

    def write(self, round_number: int, number: int, u: np.ndarray, stored: Arrays, about: Mapping[str, Any]) -> None:
        """Write one shard: u (n, D), the stored arrays (n, ...), and what else its manifest says."""
        if CUBE in stored:
            raise ValueError(f"simulate returned an array named {CUBE!r}, which the store keeps for itself; rename it")
        odd = [name for name in stored if "/" in name or name.startswith(".")]
        if odd:
            raise ValueError(f"simulate returned arrays named {odd}; a name is a file name, without / and leading dot")
        final = self.path(round_number, number)
        temporary = self.folder / f".{final.name}.{uuid.uuid4().hex[:8]}"
        temporary.mkdir(parents=True)
        try:
            for name, array in {CUBE: u, **stored}.items():
                np.save(temporary / f"{name}.npy", array, allow_pickle=False)
            sums = {file.name: checksum(file) for file in _files(temporary, own=True)}
            write_json(temporary / MANIFEST, {"rows": len(u), **about, "crc32": sums})
            if final.exists():  # a shorter one, or the same by another writer
                os.rename(final, temporary.with_name(temporary.name + ".old"))
            os.rename(temporary, final)
        finally:
            for left in self.folder.glob(temporary.name + "*"):
                shutil.rmtree(left, ignore_errors=True)

    def manifest(self, round_number: int, number: int) -> dict[str, Any] | None:
        """Manifest of one shard; None where it has not been written."""
        path = self.path(round_number, number) / MANIFEST
        return read_json(path) if path.exists() else None

    def shards(self, before_round: int, from_round: int = 0) -> list[Path]:
        """Folders of all rounds from one on and before another, in order, without those discarded."""
        return [path for path in self._of_rounds(from_round, before_round) if (path / f"{CUBE}.npy").exists()]

    def _of_rounds(self, first: int, end: int) -> list[Path]:
        return [path for path in sorted(self.folder.glob("[0-9]*_*")) if first <= int(path.name[:2]) < end]

    def rows(self, shards: Iterable[Path]) -> int:
        """Simulations in these shards."""
        return sum(read_json(path / MANIFEST)["rows"] for path in shards)

    def discard(self, shards: Iterable[Path]) -> None:
        """Remove the arrays of these shards; the manifests stay, so that nothing is simulated again."""
        for path in shards:
            write_json(path / MANIFEST, {**read_json(path / MANIFEST), "discarded": True})
            _remove_arrays(path)

    def remove_discarded(self, round_number: int) -> None:
        """Make a round forget its shards, all of them, if one has been discarded."""
        there = self._of_rounds(round_number, round_number + 1)
        if any(_discarded(path) for path in there):
            for path in there:
                shutil.rmtree(path)

    def failures(self, round_number: int) -> list[dict[str, Any]]:
        """Simulations of a round that failed and were replaced: seed, parameters and reason of each."""
        manifests = [read_json(path / MANIFEST) for path in sorted(self.folder.glob(f"{round_number:02d}_*"))]
        return [{"seed": manifest["seed"], **failure} for manifest in manifests for failure in manifest["failures"]]

    def count(self, shards: list[Path], keep: Keep) -> int:
        """How many rows of these shards `keep(u)` lets pass."""
        return sum(int(keep(np.load(path / f"{CUBE}.npy")).sum()) for path in shards)

    def select(self, shards: list[Path], keep: Keep, limit: int) -> Selection:
        """The rows that `keep(u)` lets pass, at most `limit`, newest first."""
        parts, cube, total = [], [], 0
        for path in reversed(shards):
            u = np.load(path / f"{CUBE}.npy")
            rows = np.flatnonzero(keep(u))[: limit - total]
            if len(rows):
                parts.append((path, rows))
                cube.append(u[rows])
                total += len(rows)
            if total >= limit:
                break
        return Selection(np.concatenate(cube) if cube else np.empty((0, 0)), parts)

    def mend(self) -> list[str]:
        """Remove shards that are damaged, and what killed writers left; says for each shard what was wrong."""
        found = []
        for path in sorted(self.folder.glob("*")):
            problem = None if path.name.startswith(".") else damage(path)
            if not problem and _discarded(path):
                _remove_arrays(path)  # where that was interrupted
            if problem:
                found.append(f"{path.name}: {problem}")
            if problem or path.name.startswith("."):
                shutil.rmtree(path, ignore_errors=True)
        return found


def read(shard: Path, rows: np.ndarray | None = None, names: Sequence[str] | None = None) -> Arrays:
    """Stored arrays of one shard {"name": (n, ...)}: the rows given, or all, of the arrays named, or all."""
    arrays = {}
    for file in _files(shard) if names is None else [shard / f"{name}.npy" for name in names]:
        values = np.load(file, mmap_mode="r")
        whole = rows is None or len(rows) == len(values)
        # all rows by read(2), faster than by page faults
        arrays[file.stem] = np.load(file) if whole else values[rows]
    return arrays


def damage(shard: Path) -> str | None:
    """What is wrong with a shard; None if nothing is."""
    try:
        name = None if _discarded(shard) else mismatch(shard, read_json(shard / MANIFEST)["crc32"])
    except (OSError, ValueError, KeyError, TypeError):
        name = MANIFEST
    return name and f"{name} is missing or does not match its checksum"


def _discarded(shard: Path) -> bool:
    path = shard / MANIFEST
    return path.exists() and read_json(path).get("discarded", False)


def _remove_arrays(shard: Path) -> None:
    for file in (shard / f"{CUBE}.npy", *_files(shard)):  # the one that makes it a shard first
        file.unlink(missing_ok=True)


def _files(shard: Path, *, own: bool = False) -> list[Path]:
    return sorted(file for file in shard.glob("*.npy") if own or file.stem != CUBE)
