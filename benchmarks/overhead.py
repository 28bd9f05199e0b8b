"""What a whole analysis costs beside the bare simulator and a bare training loop on the same data, steps and networks.

    python benchmarks/overhead.py [--rounds 3] [--cost-ms 5]

A simulator that takes `cost-ms` of processor time a simulation, ten parameters, a hundred data values; three rounds of
5,000 simulations and 1,000 steps; one process, one thread, CPU time.  The bare parts are what a scientist would write
without the core: simulate in a loop, keep the arrays in memory, and per step batch, noise, forward, loss, backward,
optimiser.  What is left is the core's: shards and checksums, quantiles, validation, tightening, checks, posteriors.
Writes results/overhead.json.
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

from tmnre import Analysis, Normal, Prior, Simulator, Stage, Training
from tmnre.draws import Draws
from tmnre.members import new_members
from tmnre.region import Box
from tmnre.rounds import Rounds
from tmnre.rows import InMemory
from tmnre.train import losses

HERE = Path(__file__).parent
PARAMETERS, VALUES, NOISE = 10, 100, 1.0
SIMULATIONS, STEPS = 5000, 1000


class Busy(Simulator):
    """Linear Gaussian data, after some work."""

    prior = Prior({f"t{i}": Normal(0, 1) for i in range(PARAMETERS)})
    design = np.random.default_rng(0).normal(size=(PARAMETERS, VALUES)).astype("f4")

    def __init__(self, cost_s: float) -> None:
        self.cost_s = cost_s

    def simulate(self, theta, rng):
        until = time.process_time() + self.cost_s * len(theta)
        while time.process_time() < until:
            pass
        return {"x": theta.astype("f4") @ self.design}

    def observe(self, stored, theta, generator):
        return {"x": stored["x"] + NOISE * torch.randn(stored["x"].shape, generator=generator)}


def bare(analysis: Analysis, counts: list[tuple[int, int]]) -> dict[str, float]:
    """CPU seconds of simulating and training as often as [(simulations, steps)] of the rounds say."""
    simulator, how = analysis.simulator, analysis.training
    names = list(simulator.prior.names)
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    seconds = {"simulate": 0.0, "train": 0.0}
    x, u = np.empty((0, VALUES), "f4"), np.empty((0, PARAMETERS))
    for new, steps in counts:
        start = time.process_time()
        more = rng.random((new, PARAMETERS))
        x = np.concatenate([x, simulator.simulate(simulator.prior.from_cube(more), rng)["x"]])
        u = np.concatenate([u, more])
        seconds["simulate"] += time.process_time() - start
        draws = Draws(simulator, Box.full(simulator.prior), u, InMemory({"x": x}), names, seed=0)
        ((network,),) = new_members(analysis, draws, [(name,) for name in names], [], 0)
        start = time.process_time()
        mean, z = torch.from_numpy(x), torch.from_numpy(u)
        optimiser = torch.optim.AdamW(network.parameters(), fused=True)
        for _ in range(steps):
            rows = torch.randint(len(mean), (how.batch_size,), generator=generator)
            noisy = mean[rows] + NOISE * torch.randn(len(rows), VALUES, generator=generator)
            optimiser.zero_grad()
            losses(network, ({"x": noisy}, z[rows]), how=how).sum().backward()
            optimiser.step()
        seconds["train"] += time.process_time() - start
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cost-ms", type=float, default=5.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    simulator = Busy(options.cost_ms / 1e3)
    x = NOISE * np.random.default_rng(1).normal(size=VALUES) + 0.5 * simulator.design.sum(0)
    analysis = Analysis(
        simulator,
        {"x": x.astype("f4")},
        list(simulator.prior.names),
        stages=(Stage(SIMULATIONS, STEPS),) * options.rounds,
        training=Training(accelerator="cpu", threads=1, patience=1000),
    )
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        result = Rounds(analysis, folder, progress=partial(tqdm, disable=True), say=lambda _: None).run()
    whole = time.process_time() - start
    parts = bare(analysis, [(record["simulated"], record["steps"]) for record in result.rounds])
    found = {
        "whole_s": round(whole, 1),
        "bare_simulator_s": round(parts["simulate"], 1),
        "bare_training_s": round(parts["train"], 1),
        "overhead": round(1 - sum(parts.values()) / whole, 3),
        "seconds_by_part": {
            part: round(sum(record["seconds"][part] for record in result.rounds), 1)
            for part in result.rounds[0]["seconds"]
        },
        "simulated": result.simulations,
    }
    print(json.dumps(found))
    (HERE / "results" / "overhead.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
