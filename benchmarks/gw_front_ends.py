"""gw's networks on the same simulations for the same time: tmnre run gw/gw150914 --out RUN first, then

    python benchmarks/gw_front_ends.py RUN [--seconds 60]

For the first and the last region of the run, each network is trained from random weights for as many steps as fit into
the time.  Lower validation loss (nat, summed over marginals, on the same held-out simulations) is better.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch

from tmnre import settings as typed
from tmnre.draws import Draws
from tmnre.files import read_json
from tmnre.inside import in_region
from tmnre.plugin import find_recipe
from tmnre.region import Box
from tmnre.rounds import Rounds
from tmnre.rows import InMemory
from tmnre.train import fit
from tmnre_gw.embedding import NETWORKS

HERE = Path(__file__).parent
SIMULATIONS, TRIAL_STEPS = 20_000, 20


def train(settings, run: Path, number: int, seconds: float) -> dict[str, float]:
    """Steps, steps per second and validation loss of one network in one region."""
    analysis = find_recipe("gw/gw150914").build(settings)
    rounds = Rounds(analysis, run)
    simulator = rounds.simulator
    region = Box.from_dict(read_json(run / "rounds" / f"{number:02d}" / "region.json")["region"])
    selection = rounds.store.select(
        rounds.store.shards(before_round=number + 1), lambda u: in_region(simulator, region, u), SIMULATIONS
    )
    u, stored = selection.u, InMemory(selection.load())
    trial, found = TRIAL_STEPS, {}
    for steps in (trial, None):
        draws = Draws(simulator, region, u, stored, rounds.asked.targets, seed=0)
        reduction = rounds._fit_reduction(draws, 0)
        draws.simulator = simulator.reduced(reduction)
        (candidates,) = rounds._new_members(number, draws, 0)
        steps = steps or int(seconds * found["steps_per_second"])
        started = time.perf_counter()
        estimator, curve = fit(candidates, draws, analysis.training, steps=steps, seed=0)
        # the time of a trial includes the start of training, so the real run is a little shorter than asked
        found = {"steps": steps, "steps_per_second": steps / (time.perf_counter() - started)}
    return {**found, "validation_loss": min(point["validation"] for point in curve), "simulations": len(u)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    settings = typed.parse(find_recipe("gw/gw150914"), config=options.run / "config.yaml")
    last = max(int(path.parent.name) for path in options.run.glob("rounds/*/DONE"))
    found = {
        f"round {number}": {
            network: train(replace(settings, network=network), options.run, number, options.seconds)
            for network in NETWORKS
        }
        for number in (0, last)
    }
    found["torch_threads"] = torch.get_num_threads()
    text = json.dumps(found, indent=1)
    print(text)
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "gw_front_ends.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
