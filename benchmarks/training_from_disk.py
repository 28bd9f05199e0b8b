"""Training on more data than memory: the same analysis from memory and from disk under a budget.

    python benchmarks/training_from_disk.py [--gib 6] [--budget-gib 1] [--folder DIR]

A linear Gaussian model of three parameters with 4,000 data values; one round on the whole prior, the same steps.  Each
way runs in a process of its own, one thread: training steps per second, peak resident memory above that of a process
that has only imported everything, and the divergence (JSD, nat) of every marginal from the exact posterior.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from scipy import stats

HERE = Path(__file__).parent
PARAMETERS, VALUES, NOISE = 3, 4000, 6.0


def analysis(gib: float, steps: int):
    """The analysis, and the exact posterior of its observation as mean (3,) and covariance (3, 3)."""
    import torch

    import tmnre

    torch.set_num_threads(1)
    matrix = np.random.default_rng(1).normal(size=(VALUES, PARAMETERS)).astype("f4")

    class Linear(tmnre.Simulator):
        prior = tmnre.Prior({f"t{i}": tmnre.Normal(0, 1) for i in range(PARAMETERS)})

        def simulate(self, theta, rng):
            return {"mean": theta.astype("f4") @ matrix.T}

        def observe(self, stored, theta, generator):
            return {"x": stored["mean"] + NOISE * torch.randn(stored["mean"].shape, generator=generator)}

    rng = np.random.default_rng(2)
    x = matrix @ rng.normal(size=PARAMETERS) + NOISE * rng.normal(size=VALUES)
    covariance = np.linalg.inv(np.eye(PARAMETERS) + matrix.T @ matrix / NOISE**2)
    rows = round(gib * 2**30 / (4 * VALUES))
    made = tmnre.Analysis(
        Linear(),
        {"x": x.astype("f4")},
        list(Linear.prior.names),
        stages=(tmnre.Stage(rows, steps),),
        workers=2,
        # validation has to fit into a quarter of the budget, or the two ways would not validate alike
        training=tmnre.Training(threads=1, accelerator="cpu", validation_fraction=0.02),
    )
    return made, covariance @ matrix.T @ x / NOISE**2, covariance


def one(gib: float, steps: int, memory_gib: float, folder: Path) -> dict[str, float]:
    """Run in this process; simulations are made where the folder has none."""
    from tqdm import tqdm

    from tmnre.rounds import Rounds

    made, mean, covariance = analysis(gib, steps)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = Rounds(made, folder, memory_gib=memory_gib, progress=partial(tqdm, mininterval=10.0)).run()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (record,) = result.rounds
    found = {
        "steps_per_second": record["steps"] / record["seconds"]["train"],
        "peak_gib": (peak - before) / 2**20,
        "simulations": record["simulations"],
    }
    for i, name in enumerate(result.names):
        marginal = result[name]
        values, p = marginal.samples[:, 0], marginal.weights
        log_q = stats.norm.logpdf(values, mean[i], covariance[i, i] ** 0.5) - stats.norm.logpdf(values)
        q = np.exp(log_q - log_q.max())
        q /= q.sum()
        middle = 0.5 * (p + q)
        found[f"jsd_{name}"] = float(0.5 * sum(np.sum(w[w > 0] * np.log(w[w > 0] / middle[w > 0])) for w in (p, q)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gib", type=float, default=6.0)
    parser.add_argument("--budget-gib", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--one", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(one(options.gib, options.steps, options.one, options.folder)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        found = {}
        for way, memory in (
            ("disk", options.budget_gib),
            ("memory", 4 * options.gib),
            ("disk again", options.budget_gib),
        ):
            # the store is kept, the round is trained anew
            for done in Path(temporary).glob("rounds/*/DONE"):
                done.unlink()
            command = [sys.executable, __file__, "--gib", str(options.gib), "--steps", str(options.steps)]
            command += ["--one", str(memory), "--folder", temporary]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found[way] = json.loads(output.splitlines()[-1])
            print(way, json.dumps(found[way]), flush=True)
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "training_from_disk.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
