"""Arrays whose shapes agree, checked where a diagnostic is entered."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def shaped(**given: tuple[ArrayLike, str]) -> list[np.ndarray]:
    """The arrays as float64, each given as name=(array, "N L D"); a letter stands for the same length everywhere.

    Raises ValueError where a shape disagrees with those before it, or for NaN and infinite values.
    """
    sizes: dict[str, int] = {}
    arrays = []
    for name, (value, letters) in given.items():
        array = np.asarray(value, dtype=np.float64)
        axes = letters.split()
        known = {axis: sizes[axis] for axis in axes if axis in sizes}
        found = dict(zip(axes, array.shape, strict=False))
        if array.ndim != len(axes) or any(found[axis] != size for axis, size in known.items()):
            wanted = f"({', '.join(axes)})" + "".join(f", {axis} = {size}" for axis, size in known.items())
            raise ValueError(f"{name} must have shape {wanted}, got {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinite values; leave those simulations out first")
        sizes |= found
        arrays.append(array)
    return arrays
