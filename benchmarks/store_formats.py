"""Formats for stored simulations: plain .npy, .npz and zarr 3 (pip install zarr).

    python benchmarks/store_formats.py [--folder DIR]

Rates in GB/s, best of three, of 40 shards of 2,000 rows of 8 kB: writing (.npy with the checksum that the store keeps),
reading whole shards, and reading random batches of 512 rows.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zarr

SHARDS, ROWS, WIDTH, BATCH = 40, 2000, 2000, 512
GB = SHARDS * ROWS * WIDTH * 4 / 1e9


def rate(work: Callable[[], object], share: float = 1.0) -> float:
    """GB/s of work that touches a share of the data."""
    started = time.perf_counter()
    work()
    return share * GB / (time.perf_counter() - started)


def measure(root: Path) -> dict[str, float]:
    """One pass over all formats in an empty folder."""
    data = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype("f4")
    batches = np.random.default_rng(1).permutation(SHARDS * ROWS)[: 40 * BATCH].reshape(-1, BATCH)
    share = batches.size / (SHARDS * ROWS)
    npy, npz = ([root / f"{i}.{kind}" for i in range(SHARDS)] for kind in ("npy", "npz"))
    arrays = {
        name: zarr.create_array(
            str(root / name), shape=(SHARDS * ROWS, WIDTH), chunks=(ROWS, WIDTH), dtype="f4", compressors=compressors
        )
        for name, compressors in (("raw", None), ("default", "auto"))
    }

    def write_zarr(array: zarr.Array) -> None:
        for i in range(SHARDS):
            array[i * ROWS : (i + 1) * ROWS] = data

    found = {
        "write npy": rate(lambda: [(np.save(path, data), zlib.crc32(path.read_bytes())) for path in npy]),
        "write npz": rate(lambda: [np.savez(path, x=data) for path in npz]),
        "shards npy": rate(lambda: [np.load(path).sum() for path in npy]),
        "shards memory map": rate(lambda: [np.load(path, mmap_mode="r").sum() for path in npy]),
        "shards npz": rate(lambda: [np.load(path)["x"].sum() for path in npz]),
    }
    for name, array in arrays.items():
        found[f"write zarr {name}"] = rate(lambda array=array: write_zarr(array))
        found[f"shards zarr {name}"] = rate(
            lambda array=array: [array[i * ROWS : (i + 1) * ROWS].sum() for i in range(SHARDS)]
        )
    maps = [np.load(path, mmap_mode="r") for path in npy]
    found["batches npy"] = rate(
        lambda: [np.stack([maps[i // ROWS][i % ROWS] for i in b]).sum() for b in batches], share
    )
    few = batches[:2]
    found["batches zarr raw"] = rate(
        lambda: [arrays["raw"].get_orthogonal_selection((np.sort(b), slice(None))).sum() for b in few],
        few.size / (SHARDS * ROWS),
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    passes = []
    for _ in range(3):
        root = Path(tempfile.mkdtemp(dir=options.folder))
        passes.append(measure(root))
        shutil.rmtree(root)
    print(json.dumps({name: round(max(one[name] for one in passes), 3) for name in passes[0]}, indent=1))


if __name__ == "__main__":
    main()
