import json
import shutil

import numpy as np
import pytest

from tmnre.store import Store, damage, read

ABOUT = {"seed": [0], "tried": 10, "failures": []}


def rows(start):
    i = np.arange(start, start + 10.0)
    return np.stack([i, -i], 1), {"x": 10 * i[:, None], "k": i.astype(np.int32)}


@pytest.fixture
def store(tmp_path):
    """Two rounds, three shards of ten rows; row i of all holds u = (i, -i) and x = 10 i."""
    store = Store(tmp_path / "store")
    for start, (round_number, number) in enumerate([(0, 0), (0, 1), (1, 0)]):
        store.write(round_number, number, *rows(10 * start), ABOUT)
    return store


def everything(u):
    return np.ones(len(u), dtype=bool)


def even(u):
    return u[:, 0] % 2 == 0


def test_rows_stay_together(store):
    selection = store.select(store.shards(before_round=2), everything, 1000)
    u, arrays = selection.u, selection.load()
    assert sorted(u[:, 0]) == list(range(30))
    np.testing.assert_array_equal(u[:, 1], -u[:, 0])
    np.testing.assert_array_equal(arrays["x"][:, 0], 10 * u[:, 0])
    np.testing.assert_array_equal(arrays["k"], u[:, 0])
    assert arrays["k"].dtype == np.int32
    assert selection.nbytes == sum(array.nbytes for array in arrays.values())


def test_only_earlier_rounds_and_only_rows_that_are_kept(store):
    assert {path.name[:2] for path in store.shards(before_round=99)} == {"00", "01"}
    earlier = store.shards(before_round=1)
    assert store.count(earlier, even) == 10
    selection = store.select(earlier, even, 1000)
    assert sorted(selection.u[:, 0]) == list(range(0, 20, 2))
    np.testing.assert_array_equal(selection.load()["k"], selection.u[:, 0])


def test_limit_takes_the_newest(store):
    selection = store.select(store.shards(before_round=2), even, 7)
    assert len(selection.u) == len(selection.load()["x"]) == 7
    assert set(range(20, 30, 2)) <= set(selection.u[:, 0])


def test_shards_are_whole_or_absent(store, monkeypatch):
    def broken(path, array, **_):
        path.write_bytes(b"half of it")
        raise OSError("disk full")

    monkeypatch.setattr(np, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        store.write(2, 0, *rows(0), ABOUT)
    assert {path.name[:2] for path in store.shards(before_round=99)} == {"00", "01"}
    assert len(list(store.folder.iterdir())) == 3


def test_the_last_of_two_writers_wins_and_readers_keep_what_they_opened(store):
    opened = np.load(store.path(0, 0) / "x.npy", mmap_mode="r")
    store.write(0, 0, *rows(100), ABOUT)
    assert opened[0, 0] == 0 and read(store.path(0, 0))["x"][0, 0] == 1000
    assert len(list(store.folder.iterdir())) == 3


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (lambda shard: flip(shard / "x.npy"), "x.npy"),
        (lambda shard: flip(shard / "u.npy"), "u.npy"),
        (lambda shard: (shard / "k.npy").unlink(), "k.npy"),
        (lambda shard: (shard / "x.npy").write_bytes((shard / "x.npy").read_bytes()[:-8]), "x.npy"),
        (lambda shard: (shard / "manifest.json").write_text("{"), "manifest.json"),
        (lambda shard: (shard / "manifest.json").unlink(), "manifest.json"),
    ],
)
def test_damage_is_named_and_removed(store, harm, named):
    harmed = store.path(0, 1)
    harm(harmed)
    # what a writer that was killed leaves
    shutil.copytree(store.path(0, 0), store.folder / ".00_000007.abcdef")
    assert store.mend() == [f"00_000001: {named} is missing or does not match its checksum"]
    assert sorted(path.name for path in store.folder.iterdir()) == ["00_000000", "01_000000"]
    assert store.mend() == [] and damage(store.path(0, 0)) is None


def test_manifest_tells_seed_and_failures(store):
    failure = {"theta": {"a": 1.0}, "error": "ValueError: no"}
    store.write(0, 1, *rows(0), {**ABOUT, "seed": [3, 0, 1], "failures": [failure]})
    assert store.failures(0) == [{"seed": [3, 0, 1], **failure}]
    manifest = json.loads((store.path(0, 1) / "manifest.json").read_text())
    assert manifest["rows"] == 10 and store.manifest(0, 1) == manifest and store.manifest(0, 5) is None


@pytest.mark.parametrize("name", ["u", "a/b", ".x"])
def test_reserved_names_are_refused(store, name):
    with pytest.raises(ValueError, match="named"):
        store.write(2, 0, np.zeros((1, 2)), {name: np.zeros(1)}, ABOUT)
    assert len(list(store.folder.iterdir())) == 3
