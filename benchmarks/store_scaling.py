"""What the core adds to a simulation, and whether that grows with what is stored: 1e4 to 1e6 simulations.

    python benchmarks/store_scaling.py [--sizes 10000 100000 1000000] [--folder DIR]

A simulator that costs almost nothing (ten values), shards of 500 rows, this process only: microseconds of CPU time per
simulation to make and write them, to find those of a region that are used again (a check of every manifest's
checksums, selection, loading) and to hand them out in one epoch of batches.  Writes results/store_scaling.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from tmnre import Box, Prior, Simulator, Uniform
from tmnre.draws import Draws
from tmnre.inside import in_region
from tmnre.rows import InMemory
from tmnre.simulate import simulate
from tmnre.store import Store

HERE = Path(__file__).parent


class Cheap(Simulator):
    """Ten values of two parameters."""

    prior = Prior(a=Uniform(0, 1), b=Uniform(0, 1))
    design = np.random.default_rng(0).normal(size=(2, 10)).astype("f4")

    def simulate(self, theta, rng):
        return {"x": theta.astype("f4") @ self.design}


def measure(n: int, folder: Path) -> dict[str, float]:
    """Microseconds per simulation of each part."""
    simulator, store = Cheap(), Store(folder)
    region = Box.full(simulator.prior)
    found, last = {}, time.process_time()

    def lap(part: str) -> None:
        nonlocal last
        found[part] = (time.process_time() - last) / n * 1e6
        last = time.process_time()

    quiet = partial(tqdm, disable=True)
    how = {"round_number": 0, "seed": 0, "workers": 1, "shard_size": 500, "max_failed": 0.05, "progress": quiet}
    simulate(simulator, store, region, n, **how)
    lap("simulate and write")
    store.mend()
    lap("checksums")
    half = Box({"a": (0.0, 0.5), "b": (0.0, 1.0)})
    selection = store.select(store.shards(before_round=1), partial(in_region, simulator, half), n)
    rows = InMemory(selection.load())
    lap("select and load a region")
    draws = Draws(simulator, half, selection.u, rows, ["a", "b"], seed=0)
    generator = torch.Generator().manual_seed(0)
    for batch in draws.epoch(torch.arange(len(draws)), 512, generator):
        draws.batch(batch, generator)
    lap("an epoch of batches of half of them")
    return {part: round(value, 2) for part, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for n in options.sizes:
        with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
            found[f"{n:,}"] = measure(n, Path(temporary) / "store")
        print(n, json.dumps(found[f"{n:,}"]), flush=True)
    (HERE / "results" / "store_scaling.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
