"""Pickled .npy files of numpy arrays, read without running what a pickle may ask for.

The observation of 2211.04291 was published as one.  A pickle names functions that are called while it is read; here
only those that rebuild numpy arrays are known, and any other name is refused before anything is called.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

_RECONSTRUCT = np.empty(0).__reduce__()[0]
KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no array needs")
        return KNOWN[module, name]


def read(path: Path) -> np.ndarray:
    """The object array of a pickled .npy file.  Raises ValueError where it is none, or holds more than arrays."""
    try:
        with Path(path).open("rb") as file:
            version = npy.read_magic(file)
            header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            *_, dtype = header(file)
            if dtype != np.dtype("O"):
                raise ValueError("its header says plain numbers")
            content = _ArraysOnly(file).load()
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(f"{path} is not a pickled .npy file of arrays: {error}") from error
    if not isinstance(content, np.ndarray):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a numpy array")
    return content
