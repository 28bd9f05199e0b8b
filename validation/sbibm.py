"""Two tasks of the sbi benchmark (2101.04653): C2ST from the reference posteriors, at 1e3 to 1e5 simulations.

    python validation/sbibm.py [--tasks two_moons gaussian_linear] [--budgets 1000 10000] [--observations 1 2 3]
        [--processes 2]

One configuration for all: four rounds of a quarter of the budget, all parameters truncated together by the contour of
their joint, everything else as `tmnre.infer` has it.  The simulator is a black box, its noise is not redrawn.  C2ST as
published: a multilayer perceptron with two hidden layers of ten units a dimension, five-fold cross-validation,
z-scored, 10,000 samples a side; 0.5 is perfect.  Writes results/sbibm.json and skips what is there.
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
from provenance import stamp
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neural_network import MLPClassifier

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


def c2st(a: np.ndarray, b: np.ndarray) -> float:
    """Accuracy of telling samples a (N, d) from b (N, d), cross-validated."""
    mean, sd = b.mean(0), b.std(0)
    data = (np.concatenate([a, b]) - mean) / sd
    labels = np.repeat([0, 1], [len(a), len(b)])
    width = 10 * a.shape[1]
    network = MLPClassifier((width, width), activation="relu", max_iter=10_000, solver="adam", random_state=1)
    folds = KFold(n_splits=5, shuffle=True, random_state=1)
    return float(cross_val_score(network, data, labels, cv=folds, scoring="accuracy").mean())


def measure(task: str, budget: int, number: int) -> dict[str, object]:
    """One observation at one budget."""
    torch.set_num_threads(1)
    folder = Path(os.environ["TMNRE_DATA"]) / "sbibm" / task / f"num_observation_{number}"
    x = np.loadtxt(folder / "observation.csv", delimiter=",", skiprows=1)
    reference = np.loadtxt(folder / "reference_posterior_samples.csv.bz2", delimiter=",", skiprows=1)[:SAMPLES]
    simulator = TASKS[task]()
    names = simulator.prior.names
    marginals = [*names, names] if len(names) == 2 else [names]
    started = time.monotonic()
    how = {"rounds": 4, "truncated": [names], "seed": number, "quiet": True}
    result = tmnre.infer(simulator, {"x": x}, marginals, budget=budget, **how)
    wall = time.monotonic() - started
    row = {
        **stamp(),
        "simulations": result.simulations,
        "wall_s": round(wall),
        "log_volume": result.rounds[-1]["log_volume"],
        "log_evidence": result[names].log_evidence,
        "c2st": c2st(result[names].sample(SAMPLES, number), reference),
    }
    if len(names) == 2:
        row["c2st_1d"] = [c2st(result[n].sample(SAMPLES, number), reference[:, [i]]) for i, n in enumerate(names)]
    return row


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--budgets", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--observations", type=int, nargs="+", default=list(range(1, 11)))
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    found = json.loads(PATH.read_text()) if PATH.exists() else {}
    wanted = [
        (task, budget, number)
        for budget, number, task in product(options.budgets, options.observations, options.tasks)
        if str(number) not in found.get(task, {}).get(str(budget), {})
    ]
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        work = {pool.submit(measure, *what): what for what in wanted}
        for done in as_completed(work):
            task, budget, number = work[done]
            row = done.result()
            found.setdefault(task, {}).setdefault(str(budget), {})[str(number)] = row
            PATH.write_text(json.dumps(found, indent=1) + "\n")
            print(task, budget, number, {k: v for k, v in row.items() if k not in stamp()}, flush=True)


if __name__ == "__main__":
    main()
