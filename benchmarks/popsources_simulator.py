"""Maps per second of the simulator in the setting of 2211.04291, 128 x 128 pixels, on one core.

    python benchmarks/popsources_simulator.py [--maps 1024] [--repeats 5]

A map is a population from the prior, its blurred map and Poisson noise.  The public code of the paper makes 210 to 530
a second (its notebooks' progress bars, a machine of its own).  Seconds are of the processor, so that other work on the
machine counts little; two processes make twice as many, because nothing is shared.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch
from stored import stamp, store

from tmnre_popsources.patch import AT_ONCE, PRIOR, Patch, Scene
from tmnre_popsources.recipes.detection_is_truncation import PUBLISHED


def per_second(patch: Patch, maps: int, seed: int) -> dict[str, float]:
    """Maps per second of processor time: populations and expected counts, and with noise."""
    scene, generator = Scene.of(patch), torch.Generator().manual_seed(seed)
    theta = torch.from_numpy(PRIOR.sample(maps, np.random.default_rng(seed)))
    seconds = np.zeros(2)
    for some in theta.split(AT_ONCE):
        started = time.process_time()
        expected = scene.expected(scene.draw(some, generator), len(some))
        drawn = time.process_time()
        scene.counts(expected, generator)
        seconds += drawn - started, time.process_time() - drawn
    return {"expected": maps / seconds[0], "counts": maps / seconds.sum()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--maps", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = {"as published": PUBLISHED, "within pixels": Patch(pixels=128, psf_deg=0.9375)}
    per_second(PUBLISHED, AT_ONCE, 0)  # tables are made at the first use
    rates = {}
    for name, patch in settings.items():
        runs = [per_second(patch, options.maps, seed) for seed in range(options.repeats)]
        rates[name] = {what: [run[what] for run in runs] for what in runs[0]}
    found = {**stamp(), "maps_per_second_one_core": rates, "maps": options.maps}
    print(json.dumps(found, indent=1))
    store("popsources_simulator", found)


if __name__ == "__main__":
    main()
