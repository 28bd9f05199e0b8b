"""Simulations as a source of training batches: fields are kept, noise is drawn anew at every use.

Fields are kept where the generator they were drawn with is, and batches are made there.  One is {"z", "x", "white",
"power"}: modes of the fields, data, white noise for the trace of `tmnre_fields.nll`, and
the prior's power where it differs from field to field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from tmnre.analysis import Training
from tmnre.descent import train_network
from tmnre.device import generator_on
from tmnre_fields.forward import FieldModel
from tmnre_fields.information import Information
from tmnre_fields.network import InformationNet
from tmnre_fields.nll import negative_log_ratio
from tmnre_fields.posterior import Posterior


@dataclass(frozen=True)
class Simulations:
    """Fields z (N, C, *mode_shape), their signals (N, V, *grid), and P (N or 1, C, *mode_shape)."""

    model: FieldModel
    z: Tensor
    signal: Tensor
    power: Tensor
    proposal: Information | None = None
    """what z was drawn under, beside the prior: information times its g, a batch of one"""
    theta: Tensor | None = None
    """the prior's parameters (N, D), where the model has any"""

    def __len__(self) -> int:
        return len(self.z)

    def split(self, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        """Training and validation rows."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        # training skips batches of one
        held = max(2, round(fraction * len(self)))
        return order[held:], order[:held]

    def epoch(self, rows: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Rows in random order, in batches."""
        yield from rows[torch.randperm(len(rows), generator=generator)].split(batch_size)

    def batch(self, rows: Tensor, generator: torch.Generator, *, redraw: bool = True) -> tuple[dict[str, Tensor]]:
        """Fields with new noise."""
        rows, generator = rows.to(self.z.device), generator_on(self.z.device, generator)
        z = self.z[rows]
        white = self.model.response.sky.white((len(rows), z.shape[1]), generator)
        power = self.power if len(self.power) == 1 else self.power[rows]
        return ({"z": z, "x": self.x(rows, generator), "white": white, "power": power},)

    def x(self, rows: slice | Tensor, generator: torch.Generator) -> Tensor:
        """Data (n, V, *grid) of some rows."""
        theta = None if self.theta is None else self.theta[rows]
        return self.model.observe(self.signal[rows], generator_on(self.z.device, generator), theta)


def simulate(
    model: FieldModel,
    n: int,
    generator: torch.Generator,
    *,
    proposal: Information | None = None,
    theta: Tensor | None = None,
    batch: int = 64,
    progress: Callable[..., tqdm] | None = None,
) -> Simulations:
    """n simulations from the prior, or from a tempered proposal by perturb-and-optimise; theta (n, D) of spectra.

    Where the generator is, and the model and the proposal must be.
    """
    power = (model.power() if model.fixed else model.power(theta)).to(generator.device)
    if proposal is None:
        z = model.draw(n, generator, None if model.fixed else theta)
    else:
        z = torch.cat(list(Posterior(proposal, power).draws(n, generator, batch=batch, progress=progress)))
    signal = torch.cat([model.signal(part) for part in z.split(batch)])
    return Simulations(model, z, signal, power, proposal, None if theta is None else theta.to(z.device))


def train(
    network: InformationNet,
    simulations: Simulations,
    settings: Training,
    *,
    steps: int,
    seed: int,
    peak: float | None = None,
    **reporting,
) -> list[dict[str, float]]:
    """Train by the negative log-likelihood, in nat per data pixel; returns the curve of `train_network`."""
    pixels = float(network.observed.sum())
    proposal = simulations.proposal

    def loss(net: InformationNet, batch: tuple[dict[str, Tensor]]) -> Tensor:
        (b,) = batch
        information = net({"x": b["x"]})
        return negative_log_ratio(information, b["z"], b["power"], b["white"], proposal=proposal).mean() / pixels

    return train_network(network, loss, simulations, settings, steps=steps, seed=seed, peak=peak, **reporting)
