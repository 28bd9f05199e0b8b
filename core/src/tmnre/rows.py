"""Rows of stored simulations by index: from memory, or from disk where they exceed the memory budget.

From disk, an epoch visits the shards in random order, as many at a time as a quarter of the budget holds, and the rows
of these in random order.  Rows of a shard are independent draws like any others, so batches are as good; each shard is
read once an epoch, whole, which disks do best.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from tmnre.simulator import Arrays, Tensors, as_tensors
from tmnre.store import Selection, read


class Rows(Protocol):
    """N rows of named arrays."""

    def take(self, rows: Tensor, names: Sequence[str] | None = None) -> Tensors:
        """Arrays {"name": (n, ...)} of rows (n,); only those named, all by default."""

    def shuffled(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """The rows (n,) in a random order that is cheap to read."""

    def split(self, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        """Training and validation rows: a simulation is in one or the other, whatever is redrawn of it."""


class InMemory:
    """All rows at hand."""

    def __init__(self, arrays: Arrays | Tensors) -> None:
        self.arrays = as_tensors(arrays)

    def take(self, rows: Tensor, names: Sequence[str] | None = None) -> Tensors:
        return {name: self.arrays[name][rows] for name in (self.arrays if names is None else names)}

    def shuffled(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        return rows[torch.randperm(len(rows), generator=generator)]

    def split(self, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        return _split(len(next(iter(self.arrays.values()))), fraction, seed)


class OnDisk:
    """Rows of shards, read when they are used; at most three quarters of `budget` bytes are held."""

    def __init__(self, selection: Selection, budget: float) -> None:
        self.parts, self.budget = selection.parts, budget
        sizes = torch.tensor([len(rows) for _, rows in self.parts])
        self.shard = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
        self.first = torch.cumsum(sizes, 0) - sizes
        self.row_bytes = max(1, selection.nbytes // len(self.shard))
        # a quarter each: validation, its batches, the shards in use, those that a batch at their border needs
        self.window = max(1, int(budget / 4 / (self.row_bytes * float(sizes.double().mean()))))
        self._recent: OrderedDict[int, Tensors] = OrderedDict()
        self._held: Tensors = {}
        self._place = torch.full((len(self.shard),), -1)

    def take(self, rows: Tensor, names: Sequence[str] | None = None) -> Tensors:
        place = self._place[rows]
        if (place >= 0).all() and self._held:
            return {name: self._held[name][place] for name in (self._held if names is None else names)}
        order = torch.argsort(self.shard[rows], stable=True)
        shards, counts = torch.unique_consecutive(self.shard[rows][order], return_counts=True)
        keep = len(shards) <= 2 * self.window  # else scattered, and no shard will be asked for again soon
        found: dict[str, list[Tensor]] = {}
        for shard, part in zip(shards.tolist(), rows[order].split(counts.tolist()), strict=True):
            for name, values in self._of_shard(shard, part - self.first[shard], names, keep).items():
                found.setdefault(name, []).append(values)
        back = torch.argsort(order)
        return {name: torch.cat(values)[back] for name, values in found.items()}

    def shuffled(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        rank = torch.randperm(len(self.parts), generator=generator) // self.window
        mixed = rows[torch.randperm(len(rows), generator=generator)]
        return mixed[torch.argsort(rank[self.shard[mixed]], stable=True)]

    def split(self, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        """As `Rows`; validation rows are read once and kept, so they are at most a quarter of the budget."""
        n = len(self.shard)
        train, held = _split(n, min(fraction, self.budget / 4 / (self.row_bytes * n)), seed)
        if not (self._place[held] >= 0).all():
            kept = self.take(held)
            self._held, self._place[held] = kept, torch.arange(len(held))
            self._recent.clear()
        return train, held

    def _of_shard(self, shard: int, rows: Tensor, names: Sequence[str] | None, keep: bool) -> Tensors:
        path, all_rows = self.parts[shard]
        if shard in self._recent:
            self._recent.move_to_end(shard)
        elif keep and names is None:
            self._recent[shard] = as_tensors(read(path, all_rows))
            while len(self._recent) > 2 * self.window:
                self._recent.popitem(last=False)
        else:
            return as_tensors(read(path, all_rows[rows.numpy()], names))
        arrays = self._recent[shard]
        return {name: arrays[name][rows] for name in (arrays if names is None else names)}


def _split(n: int, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    held = max(2, round(fraction * n))  # one alone has nothing to be contrasted with
    return order[held:], order[:held]
