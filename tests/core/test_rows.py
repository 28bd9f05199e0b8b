"""Rows from disk are the rows from memory; what is held stays within the budget."""

import numpy as np
import pytest
import torch

from tmnre.rows import InMemory, OnDisk
from tmnre.store import Store

SHARDS, ROWS, WIDTH = 12, 20, 50
ROW_BYTES = 4 * WIDTH + 8


@pytest.fixture
def selection(tmp_path):
    """Every row of 12 shards whose number is not a multiple of seven."""
    store = Store(tmp_path)
    for number in range(SHARDS):
        i = np.arange(number * ROWS, (number + 1) * ROWS)
        stored = {"x": np.tile(i[:, None], WIDTH).astype("f4"), "k": i}
        store.write(0, number, i[:, None].astype(float), stored, {"failures": []})
    return store.select(store.shards(before_round=1), lambda u: u[:, 0] % 7 != 0, 10_000)


@pytest.fixture(params=[0.1, 1.0, 100.0], ids=["one shard at a time", "a quarter", "all"])
def on_disk(selection, request):
    return OnDisk(selection, request.param * selection.nbytes)


def held_bytes(rows):
    shards = [t for arrays in (*rows._recent.values(), rows._held) for t in arrays.values()]
    return sum(t.numel() * t.element_size() for t in shards)


def test_rows_are_the_same_as_in_memory(selection, on_disk):
    memory = InMemory(selection.load())
    generator = torch.Generator().manual_seed(0)
    for n in (1, 3, 200):
        rows = torch.randint(len(selection.u), (n,), generator=generator)
        for names in (None, ["k"]):
            ours, theirs = on_disk.take(rows, names), memory.take(rows, names)
            assert ours.keys() == theirs.keys()
            for name in ours:
                assert torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype


def test_an_epoch_visits_every_row_once_and_stays_within_the_budget(selection, on_disk):
    train, held = on_disk.split(0.1, 0)
    assert set(train.tolist()) | set(held.tolist()) == set(range(len(selection.u)))
    assert len(held) <= max(1, 0.1 * len(selection.u)) and not set(train.tolist()) & set(held.tolist())
    generator = torch.Generator().manual_seed(1)
    first, second = (on_disk.shuffled(train, generator) for _ in range(2))
    assert sorted(first.tolist()) == sorted(train.tolist()) and first.tolist() != second.tolist()
    seen = []
    for batch in first.split(16):
        seen += on_disk.take(batch)["k"].tolist()
        on_disk.take(held)
        # never less than two shards, whatever the budget
        assert held_bytes(on_disk) <= max(0.75 * on_disk.budget, 2.1 * ROWS * ROW_BYTES)
    assert sorted(seen) == sorted(selection.u[train, 0].tolist())


def test_an_epoch_reads_every_shard_once(selection, monkeypatch):
    rows = OnDisk(selection, selection.nbytes)
    train, _ = rows.split(0.1, 0)
    read = []
    original = np.load
    monkeypatch.setattr(np, "load", lambda path, **how: (read.append(path), original(path, **how))[1])
    for batch in rows.shuffled(train, torch.Generator().manual_seed(1)).split(16):
        rows.take(batch)
    # every file is opened at most twice: for its shape, and to be read
    assert max(read.count(path) for path in set(read)) <= 2


def test_validation_rows_are_read_once_and_kept(selection, on_disk, monkeypatch):
    _, held = on_disk.split(0.1, 0)
    expected = on_disk.take(held)["x"]
    monkeypatch.setattr(np, "load", None)
    assert torch.equal(on_disk.take(held)["x"], expected)
    assert on_disk.split(0.1, 0)[1].tolist() == held.tolist()
