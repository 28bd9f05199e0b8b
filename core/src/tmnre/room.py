"""What the disk may hold: the oldest simulations are discarded first, and a round too large for it goes in windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tmnre.analysis import Stage
from tmnre.store import Keep, Store


def capacity(gib: float, nbytes: int, shard_size: int) -> int:
    """Simulations of so many bytes each, in whole shards, that fit; raises ValueError where not one shard does."""
    fit = int(gib * 2**30 / nbytes)
    if fit < shard_size:
        raise ValueError(
            f"a disk budget of {gib:g} GiB holds {fit} simulations of {nbytes} bytes, fewer than the {shard_size} of "
            f"one shard; allow {shard_size * nbytes / 2**30:.2g} GiB or set a smaller shard_size"
        )
    return fit // shard_size * shard_size


@dataclass(frozen=True)
class Room:
    """A store of at most `capacity` simulations (None: no bound), a multiple of the shards' size."""

    store: Store
    shard_size: int
    capacity: int | None

    def make(self, round_number: int, stage: Stage, keep: Keep) -> tuple[int, int]:
        """Make room for a round: how many simulations it trains on, and how many of them are there already."""
        shards = self.store.shards(before_round=round_number)
        counts = [self.store.count([shard], keep) for shard in shards]
        while True:
            reused = sum(counts) if stage.added else min(sum(counts), stage.simulations)
            total = stage.simulations + reused if stage.added else stage.simulations
            full = self.capacity is not None and self.store.rows(shards) + total - reused > self.capacity
            if not (full and shards):
                return total, reused
            self.store.discard([shards.pop(0)])
            del counts[0]

    def windows(self, n: int) -> list[int]:
        """Sizes of the windows of n new simulations: whole shards, but for the last."""
        count = max(1, -(-n // self.capacity)) if self.capacity else 1
        shards = np.array_split(np.arange(-(-n // self.shard_size)), count)
        sizes = [len(part) * self.shard_size for part in shards]
        return [*sizes[:-1], n - sum(sizes[:-1])]
