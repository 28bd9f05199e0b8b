"""Pickled arrays are read, and nothing else that a pickle may hold."""

import os

import numpy as np
import pytest

from tmnre_popsources import arrays_only


class Hostile:
    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return os.mkdir, (str(self.proof),)


def test_arrays_come_back(tmp_path):
    content = {"data": np.arange(6.0).reshape(2, 3), "names": ["a"]}
    np.save(tmp_path / "good.npy", content, allow_pickle=True)
    found = arrays_only.read(tmp_path / "good.npy").item()
    np.testing.assert_array_equal(found["data"], content["data"])
    assert found["names"] == ["a"]


def test_a_hostile_file_runs_nothing(tmp_path):
    proof = tmp_path / "proof"
    np.save(tmp_path / "bad.npy", {"data": Hostile(proof)}, allow_pickle=True)
    with pytest.raises(ValueError, match=r"not a pickled .npy file of arrays: it names .*mkdir"):
        arrays_only.read(tmp_path / "bad.npy")
    assert not proof.exists()


def test_other_files_are_refused(tmp_path):
    np.save(tmp_path / "plain.npy", np.arange(3))
    (tmp_path / "text.npy").write_text("no array")
    for name in ("plain.npy", "text.npy"):
        with pytest.raises(ValueError, match="not a pickled .npy file of arrays"):
            arrays_only.read(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        arrays_only.read(tmp_path / "none.npy")
