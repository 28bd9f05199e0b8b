import numpy as np
import pytest

from tmnre.store import Store


@pytest.fixture
def store(tmp_path):
    """Two rounds, three chunks of ten rows; row i of all holds u = (i, -i) and x = 10 i."""
    store = Store(tmp_path / "store")
    for start, (round_number, chunk) in enumerate([(0, 0), (0, 1), (1, 0)]):
        i = np.arange(10.0 * start, 10.0 * start + 10)
        store.write(round_number, chunk, np.stack([i, -i], 1), {"x": 10 * i[:, None], "k": i.astype(np.int32)})
    return store


def everything(u):
    return np.ones(len(u), dtype=bool)


def even(u):
    return u[:, 0] % 2 == 0


def test_rows_stay_together(store):
    u, arrays = store.load(store.chunks(before_round=2), everything, 1000)
    assert sorted(u[:, 0]) == list(range(30))
    np.testing.assert_array_equal(u[:, 1], -u[:, 0])
    np.testing.assert_array_equal(arrays["x"][:, 0], 10 * u[:, 0])
    np.testing.assert_array_equal(arrays["k"], u[:, 0])
    assert arrays["k"].dtype == np.int32


def test_only_earlier_rounds_and_only_rows_that_are_kept(store):
    assert {path.name[:2] for path in store.chunks(before_round=99)} == {"00", "01"}
    earlier = store.chunks(before_round=1)
    assert store.count(earlier, even) == 10
    u, _ = store.load(earlier, even, 1000)
    assert sorted(u[:, 0]) == list(range(0, 20, 2))


def test_limit_takes_the_newest(store):
    u, arrays = store.load(store.chunks(before_round=2), even, 7)
    assert len(u) == len(arrays["x"]) == 7
    assert set(range(20, 30, 2)) <= set(u[:, 0])


def test_chunks_are_whole_or_absent(store, monkeypatch):
    def broken(path, **arrays):
        path.write_bytes(b"half of it")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", broken)
    with pytest.raises(OSError, match="disk full"):
        store.write(2, 0, np.zeros((1, 2)), {"x": np.zeros(1)})
    assert {path.name[:2] for path in store.chunks(before_round=99)} == {"00", "01"}
    assert len(list(store.folder.iterdir())) == 3


def test_reserved_name_is_refused(store):
    with pytest.raises(ValueError, match="named {'u'}"):
        store.write(2, 0, np.zeros((1, 2)), {"u": np.zeros(1)})
