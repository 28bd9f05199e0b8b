"""Training throughput of the core beside swyft and sbi: same data, same embedding, one thread, alternating runs.

    python benchmarks/training_throughput.py [--peers swyft sbi] [--repeats 5] [--python swyft=PATH sbi=PATH]

Prints and stores training samples per second and their ratios; for sbi, which trains one marginal at a time, samples
times marginals per second.  Where no interpreter is given, the environment of peers/PEER-requirements.txt is made
beside this file first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from environments import environment
from stored import load, stamp, store

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


def theirs(peer: str, python: Path, *options: str) -> float:
    """Samples per second of a peer."""
    command = [str(python), str(HERE.resolve() / "peers" / f"{peer}_throughput.py"), *options]
    with tempfile.TemporaryDirectory() as folder:  # swyft leaves checkpoints where it runs
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
    return json.loads(done.stdout.splitlines()[-1])["samples_per_second"]


COMPARISONS = {
    "swyft, 15 marginals": ("swyft", (), False, 1),
    "swyft, 15 marginals and 105 pairs": ("swyft", ("--pairs",), True, 1),
    "sbi, per marginal": ("sbi", (), False, 15),
}
"""peer, its options, whether ours learns pairs too, and the marginals of ours that one of the peer's stands for"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", nargs="+", choices=("swyft", "sbi"), default=["swyft", "sbi"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--python", nargs="*", default=[], metavar="PEER=PATH")
    options = parser.parse_args()
    given = dict(text.split("=", 1) for text in options.python)
    first = ("torch==2.13.0", "setuptools<80")
    pythons = {peer: Path(given[peer]) if peer in given else environment(peer, *first) for peer in options.peers}
    found = load("training_throughput")
    for title, (peer, extra, with_pairs, marginals) in COMPARISONS.items():
        if peer not in pythons:
            continue
        rows = []
        for _ in range(options.repeats):
            rows.append((ours(with_pairs) * marginals, theirs(peer, pythons[peer], *extra)))
        ratios = [a / b for a, b in rows]
        found[title] = {
            **stamp(),
            "tmnre": [round(a) for a, _ in rows],
            "peer": [round(b, 1) for _, b in rows],
            "ratio_median": round(statistics.median(ratios), 1),
            "ratio_range": [round(min(ratios), 1), round(max(ratios), 1)],
        }
        print(title, json.dumps(found[title]), flush=True)
        store("training_throughput", found)


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    main()
