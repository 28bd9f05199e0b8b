"""Two tasks of the sbi benchmark (2101.04653): C2ST from the reference posteriors, at 1e3 to 1e5 simulations.

    python validation/sbibm.py [--tasks two_moons gaussian_linear] [--budgets 1000 10000] [--observations 1 2 3]
        [--processes 2] [--runs DIR]

One configuration for all: four rounds of a quarter of the budget, all parameters truncated together by the contour of
their joint, everything else as `tmnre.infer` has it.  The simulator is a black box, its noise is not redrawn.  C2ST as
published (`c2st.py`), of 10,000 samples a side.  Keeps the samples of what is done in DIR, and writes
results/sbibm.json.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from c2st import c2st
from provenance import stamp

import tmnre

PATH = Path(__file__).parent / "results" / "sbibm.json"
SAMPLES = 10_000


class GaussianLinear:
    """x = theta + noise, both N(0, 0.1) in ten dimensions (2101.04653, T.1)."""

    prior = tmnre.Prior({f"theta_{i}": tmnre.Normal(0, np.sqrt(0.1)) for i in range(1, 11)})

    def simulate(self, theta: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"x": theta + np.sqrt(0.1) * rng.standard_normal(theta.shape)}


class TwoMoons:
    """A crescent of random angle and radius, moved by |theta_1 + theta_2| (2101.04653, T.8)."""

    prior = tmnre.Prior({f"theta_{i}": tmnre.Uniform(-1, 1) for i in (1, 2)})

    def simulate(self, theta: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        angle = rng.uniform(-np.pi / 2, np.pi / 2, len(theta))
        radius = rng.normal(0.1, 0.01, len(theta))
        total, difference = theta.sum(1), theta[:, 1] - theta[:, 0]
        x = [
            radius * np.cos(angle) + 0.25 - np.abs(total) / np.sqrt(2),
            radius * np.sin(angle) + difference / np.sqrt(2),
        ]
        return {"x": np.stack(x, axis=1)}


TASKS = {"gaussian_linear": GaussianLinear, "two_moons": TwoMoons}


def folder_of(task: str, number: int) -> Path:
    return Path(os.environ["TMNRE_DATA"]) / "sbibm" / task / f"num_observation_{number}"


def sample(task: str, budget: int, number: int, path: Path) -> str:
    """Samples of the joint posterior of one observation, and of its marginals where they are few, into `path`."""
    torch.set_num_threads(1)
    x = np.loadtxt(folder_of(task, number) / "observation.csv", delimiter=",", skiprows=1)
    simulator = TASKS[task]()
    names = simulator.prior.names
    marginals = [*names, names] if len(names) == 2 else [names]
    started = time.monotonic()
    how = {"rounds": 4, "truncated": [names], "seed": number, "quiet": True}
    result = tmnre.infer(simulator, {"x": x}, marginals, budget=budget, **how)
    row = {
        **stamp(),
        "simulations": result.simulations,
        "wall_s": round(time.monotonic() - started),
        "log_volume": result.rounds[-1]["log_volume"],
        "log_evidence": result[names].log_evidence,
    }
    drawn = [result[what].sample(SAMPLES, number) for what in (names, *marginals[:-1])]
    part = path.with_name("part-" + path.name)
    np.savez(part, row=json.dumps(row), **{f"drawn_{i}": d.astype("f4") for i, d in enumerate(drawn)})
    part.rename(path)
    return f"{task} {budget} {number}: {row['wall_s']} s"


def score(task: str, budget: int, runs: Path) -> dict[str, dict[str, object]]:
    """{observation: row} of all that have samples."""
    rows, drawn, pairs = [], [], []
    paths = sorted(runs.glob(f"{task}-{budget}-*.npz"))
    for path in paths:
        number = int(path.stem.split("-")[-1])
        file = folder_of(task, number) / "reference_posterior_samples.csv.bz2"
        reference = np.loadtxt(file, delimiter=",", skiprows=1)[:SAMPLES]
        with np.load(path) as saved:
            rows.append((str(number), json.loads(str(saved["row"]))))
            drawn.append([saved[f"drawn_{i}"] for i in range(len(saved.files) - 1)])
        parts = [reference, *(reference[:, [i]] for i in range(len(drawn[-1]) - 1))]
        pairs.append(list(zip(drawn[-1], parts, strict=True)))
    if not pairs:
        return {}
    joint, *single = (c2st([pair[i] for pair in pairs]) for i in range(len(pairs[0])))
    scores = [
        {"c2st": both, **({"c2st_1d": list(one)} if one else {})} for both, *one in zip(joint, *single, strict=True)
    ]
    return {number: {**row, **scored} for (number, row), scored in zip(rows, scores, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--budgets", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--observations", type=int, nargs="*", default=list(range(1, 11)))
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/sbibm"))
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    wanted = [
        (task, budget, number, path)
        for budget, number, task in product(options.budgets, options.observations, options.tasks)
        if not (path := options.runs / f"{task}-{budget}-{number}.npz").exists()
    ]
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        for done in as_completed([pool.submit(sample, *what) for what in wanted]):
            print(done.result(), flush=True)
    found = json.loads(PATH.read_text()) if PATH.exists() else {}
    for task, budget in product(options.tasks, options.budgets):
        rows = score(task, budget, options.runs)
        found.setdefault(task, {}).setdefault(str(budget), {}).update(rows)
        print(
            task, budget, "mean C2ST", np.mean([row["c2st"] for row in rows.values()]) if rows else "none", flush=True
        )
        PATH.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
