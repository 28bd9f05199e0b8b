"""Training throughput of the core beside swyft: same data, same embedding, one thread, alternating runs.

    python benchmarks/training_throughput.py [--peer-python PATH] [--repeats 5]

Prints and stores samples per second of both and their ratios.  Without --peer-python, the environment of
peers/swyft-requirements.txt is made beside this file first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

HERE = Path(__file__).parent
STEPS, WARM = 60, 10


def ours(with_pairs: bool) -> float:
    """Samples per second of a whole training step: batch, embedding, heads, loss, gradient, optimiser."""
    import problem
    import torch
    from torch import nn

    from tmnre import Box, Prior, Simulator, Uniform
    from tmnre.analysis import Training
    from tmnre.descent import Batches
    from tmnre.draws import Draws
    from tmnre.embedding import flat
    from tmnre.ratio import Quantiles, RatioEstimator
    from tmnre.rows import InMemory
    from tmnre.train import losses

    torch.set_num_threads(1)
    theta, x = problem.simulations()
    names = [f"t{i}" for i in range(problem.PARAMETERS)]

    class Stored(Simulator):
        prior = Prior({name: Uniform(0, 1) for name in names})

    class Embedding(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(problem.VALUES, 128), nn.ReLU(), nn.Linear(128, 64))

        def forward(self, batch):
            return self.layers(flat(batch))

    simulator = Stored()
    draws = Draws(simulator, Box.full(simulator.prior), theta, InMemory({"x": x}), names, seed=0)
    marginals = [(n,) for n in names]
    if with_pairs:
        marginals += [(names[i], names[j]) for i, j in problem.pairs()]
    quantiles = Quantiles.of(draws.sample_targets(10_000, torch.Generator()))
    estimator = RatioEstimator.new(Embedding(), 64, quantiles, names, marginals)
    optimiser = torch.optim.AdamW(estimator.parameters(), fused=True)
    batches = iter(Batches(draws, torch.arange(16_000), problem.BATCH, 0, endless=True))
    for step in range(STEPS):
        if step == WARM:
            start = time.perf_counter()
        optimiser.zero_grad()
        losses(estimator, next(batches)[1], how=Training()).sum().backward()
        optimiser.step()
    return (STEPS - WARM) * problem.BATCH / (time.perf_counter() - start)


def environment() -> Path:
    """Interpreter of swyft's own environment, made if it is not there."""
    folder = HERE / "peers" / ".swyft-venv"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, "torch==2.13.0", "setuptools<80"], check=True)
        subprocess.run([*install, "-r", str(HERE / "peers" / "swyft-requirements.txt")], check=True)
    return python


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    python = options.peer_python or environment()
    found = {}
    for with_pairs in (False, True):
        rows = []
        for _ in range(options.repeats):
            command = [
                str(python),
                str(HERE.resolve() / "peers" / "swyft_throughput.py"),
                *(["--pairs"] if with_pairs else []),
            ]
            with tempfile.TemporaryDirectory() as folder:  # swyft leaves checkpoints where it runs
                done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
            peer = done.stdout.splitlines()[-1]
            rows.append((ours(with_pairs), json.loads(peer)["samples_per_second"]))
        ratios = [a / b for a, b in rows]
        found["15 marginals and 105 pairs" if with_pairs else "15 marginals"] = {
            "tmnre": [round(a) for a, _ in rows],
            "swyft": [round(b, 1) for _, b in rows],
            "ratio_median": round(statistics.median(ratios), 1),
            "ratio_range": [round(min(ratios), 1), round(max(ratios), 1)],
        }
    text = json.dumps(found, indent=1)
    print(text)
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "training_throughput.json").write_text(text + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    main()
