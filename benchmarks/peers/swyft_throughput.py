"""swyft's training throughput, as its documentation would do it; run by the interpreter of its own environment.

python peers/swyft_throughput.py [--pairs] [--batches N]
"""

import argparse
import json
import logging
import sys
import time
import warnings
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
import problem  # noqa: E402
import pytorch_lightning as pl  # noqa: E402
import swyft  # noqa: E402


class Network(swyft.SwyftModule):
    def __init__(self, pairs):
        super().__init__()
        self.embedding = torch.nn.Sequential(
            torch.nn.Linear(problem.VALUES, 128), torch.nn.ReLU(), torch.nn.Linear(128, 64)
        )
        self.one = swyft.LogRatioEstimator_1dim(num_features=64, num_params=problem.PARAMETERS, varnames="z")
        self.two = swyft.LogRatioEstimator_Ndim(64, problem.pairs(), varnames="z") if pairs else None

    def forward(self, A, B):  # noqa: N803 - swyft's names
        features = self.embedding(A["x"])
        found = self.one(features, B["z"])
        return found if self.two is None else (found, self.two(features, B["z"]))


class Clock(pl.Callback):
    """Samples per second over the training batches after the first ten."""

    def __init__(self):
        self.count, self.start = 0, 0.0

    def on_train_batch_end(self, *_):
        self.count += 1
        if self.count == 10:
            self.start = time.perf_counter()
        self.last = time.perf_counter()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", action="store_true")
    parser.add_argument("--batches", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    theta, x = problem.simulations()
    samples = swyft.Samples(x=x, z=theta)
    clock = Clock()
    trainer = swyft.SwyftTrainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=options.batches,
        limit_val_batches=1,
        num_sanity_val_steps=0,
        callbacks=[clock],
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    module = swyft.SwyftDataModule(samples, batch_size=problem.BATCH, num_workers=0)
    trainer.fit(Network(options.pairs), module)
    rate = (clock.count - 10) * problem.BATCH / (clock.last - clock.start)
    print(json.dumps({"peer": "swyft", "pairs": options.pairs, "samples_per_second": round(rate, 1)}))


if __name__ == "__main__":
    main()
