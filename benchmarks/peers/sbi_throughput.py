"""sbi's training throughput for one marginal, as its documentation would do it; run by its own environment.

python peers/sbi_throughput.py [--epochs N]

NRE-C with ten classes and sbi's default residual classifier behind the same embedding.  The rate is of the epochs after
the first, validation included, which sbi does after each.
"""

import argparse
import json
import sys
import time
import warnings
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
warnings.simplefilter("ignore")
import problem  # noqa: E402
from sbi.inference import NRE_C  # noqa: E402
from sbi.neural_nets import classifier_nn  # noqa: E402
from sbi.utils import BoxUniform  # noqa: E402


def seconds(theta, x, epochs):
    """Wall time of a whole training of so many epochs."""
    embedding = torch.nn.Sequential(torch.nn.Linear(problem.VALUES, 128), torch.nn.ReLU(), torch.nn.Linear(128, 64))
    classifier = classifier_nn("resnet", embedding_net_x=embedding)
    trainer = NRE_C(BoxUniform(torch.zeros(1), torch.ones(1)), classifier=classifier, show_progress_bars=False)
    trainer.append_simulations(theta, x)
    start = time.perf_counter()
    trainer.train(
        num_classes=10,
        training_batch_size=problem.BATCH,
        validation_fraction=0.2,
        max_num_epochs=epochs,
        stop_after_epochs=10**6,
    )
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    theta, x = (torch.from_numpy(values) for values in problem.simulations())
    theta = theta[:, :1]
    once = seconds(theta, x, 1)
    each = (seconds(theta, x, 1 + options.epochs) - once) / options.epochs
    print(json.dumps({"peer": "sbi", "samples_per_second": round(0.8 * len(x) / each, 1)}))


if __name__ == "__main__":
    main()
