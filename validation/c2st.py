"""Classifier two-sample test as the sbi benchmark has it (2101.04653), of many pairs of sample sets at once.

Accuracy of a multilayer perceptron, two hidden layers of ten units a dimension, in five-fold cross-validation on data
z-scored by the reference; 0.5 is perfect.  Layers, initial weights, optimiser and the rule that ends training are those
of scikit-learn's `MLPClassifier(solver="adam", max_iter=10_000)`, which trains one network at a time: a minute or more
each.  Here the folds of all pairs are one batch of networks, on a GPU where there is one.

    python validation/c2st.py        compares the two on samples of Gaussians
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

FOLDS, WIDTH, BATCH, RATE, DECAY = 5, 10, 200, 1e-3, 1e-4
MOST_EPOCHS, TOLERANCE, PATIENCE = 10_000, 1e-4, 10
"""training ends when for more than PATIENCE epochs in a row its loss was not TOLERANCE below the lowest before"""


def c2st(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    """Accuracy of telling samples a (N, d) from the reference's b (N, d), for each pair; N and d the same for all."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data, held, generator = [], [], torch.Generator(device).manual_seed(1)
    labels = torch.tensor([0.0, 1.0]).repeat_interleave(len(pairs[0][0]))
    order = torch.from_numpy(np.random.default_rng(1).permutation(len(labels)))
    for a, b in pairs:
        z = torch.tensor((np.concatenate([a, b]) - b.mean(0)) / b.std(0), dtype=torch.float32)
        folds = (torch.cat([z, labels[:, None]], 1)[order]).chunk(FOLDS)
        for i in range(FOLDS):
            data.append(torch.cat([fold for j, fold in enumerate(folds) if j != i]))
            held.append(folds[i])
    network = _trained(torch.stack(data).to(device), generator)
    held = torch.stack(held).to(device)
    right = (_logits(network, held[..., :-1]) > 0) == (held[..., -1] > 0.5)
    return right.float().mean(1).reshape(len(pairs), FOLDS).mean(1).tolist()


def _logits(network: list[tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
    """(M, n) of M networks for data x (M, n, d)."""
    for i, (weight, bias) in enumerate(network):
        x = torch.baddbmm(bias, x.relu() if i else x, weight)
    return x[..., 0]


def _trained(data: Tensor, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """M networks, each on its own rows of data (M, n, d + 1), the last column the label."""
    m, n, d = len(data), data.shape[1], data.shape[2] - 1
    sizes = [d, WIDTH * d, WIDTH * d, 1]
    network = []
    for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True):
        bound = (6 / (inputs + outputs)) ** 0.5
        weight, bias = (
            (2 * torch.rand(m, rows, outputs, device=data.device, generator=generator) - 1).mul_(bound)
            for rows in (inputs, 1)
        )
        network.append((weight.requires_grad_(), bias.requires_grad_()))
    parameters = [p for layer in network for p in layer]
    optimiser = torch.optim.Adam(parameters, RATE)
    kept = [p.detach().clone() for p in parameters]
    best, waited = torch.full((m,), torch.inf, device=data.device), torch.zeros(m, device=data.device)
    going, rows = torch.ones(m, dtype=torch.bool, device=data.device), torch.arange(m, device=data.device)[:, None]
    for _ in range(MOST_EPOCHS):
        total = torch.zeros(m, device=data.device)
        shuffled = torch.rand(m, n, device=data.device, generator=generator).argsort(1)
        for part in shuffled.split(BATCH, 1):
            batch = data[rows, part]
            squares = sum(weight.square().sum((1, 2)) for weight, _ in network)
            loss = (
                torch.nn.functional.binary_cross_entropy_with_logits(
                    _logits(network, batch[..., :-1]), batch[..., -1], reduction="none"
                ).mean(1)
                + 0.5 * DECAY * squares / part.shape[1]
            )
            optimiser.zero_grad()
            loss.sum().backward()
            optimiser.step()
            total += loss.detach() * part.shape[1] / n
        waited = torch.where(total > best - TOLERANCE, waited + 1, 0)
        best = torch.minimum(best, total)
        ended = going & (waited > PATIENCE)
        for p, keep in zip(parameters, kept, strict=True):
            keep[ended] = p.detach()[ended]
        going &= ~ended
        if not going.any():
            break
    return [(kept[i], kept[i + 1]) for i in range(0, len(kept), 2)]


def _with_sklearn(a: np.ndarray, b: np.ndarray) -> float:
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.neural_network import MLPClassifier

    data, labels = (np.concatenate([a, b]) - b.mean(0)) / b.std(0), np.repeat([0, 1], [len(a), len(b)])
    width = WIDTH * a.shape[1]
    network = MLPClassifier((width, width), activation="relu", max_iter=MOST_EPOCHS, solver="adam", random_state=1)
    folds = KFold(n_splits=FOLDS, shuffle=True, random_state=1)
    return float(cross_val_score(network, data, labels, cv=folds, scoring="accuracy").mean())


def main() -> None:
    rng = np.random.default_rng(0)
    for d, n in ((2, 2000), (2, 10_000)):
        pairs = [(rng.normal(shift, 1, (n, d)), rng.standard_normal((n, d))) for shift in (0.0, 0.1, 0.3, 1.0)]
        for (a, b), ours in zip(pairs, c2st(pairs), strict=True):
            print(f"d = {d}, {n} samples: here {ours:.4f}, scikit-learn {_with_sklearn(a, b):.4f}", flush=True)


if __name__ == "__main__":
    main()
