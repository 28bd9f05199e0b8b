"""Targeted simulations: lenses of the last region, half of them with a subhalo, noise drawn anew at every use."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from tmnre.device import CPU, generator_on, moved
from tmnre.rows import InMemory
from tmnre_lensing.simulator import LensSimulator
from tmnre_lensing.subhalo.bins import Bins

SUBHALO = ("subhalo_x_arcsec", "subhalo_y_arcsec", "subhalo_log10_m200")


def component(number: int) -> str:
    """Name of the first, second, ... subhalo in a scene: subhalo, subhalo2, ..."""
    return "subhalo" if number == 0 else f"subhalo{number + 1}"


def names(most: int) -> tuple[str, ...]:
    """Parameters of so many subhaloes, x and y in arcsec and log10 M200 of one after the other."""
    return tuple(name.replace("subhalo", component(i)) for i in range(most) for name in SUBHALO)


def simulate(
    simulator: LensSimulator, region: np.ndarray, bins: Bins, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """theta (n, D) of lenses drawn from region (S, D), subhaloes from the prior of bins, and images (n, ny, nx)."""
    theta = region[rng.integers(len(region), size=n)]
    theta[:, simulator.prior.columns(names(bins.most))] = bins.draw(n, rng).reshape(n, -1)
    return theta, simulator.simulate(theta, rng)["image"]


class Targeted:
    """Batches ({"image": (n, ny, nx)}, bins (n, most)) of targeted simulations; see `tmnre.descent.Source`."""

    def __init__(self, simulator: LensSimulator, bins: Bins, theta: np.ndarray, images: np.ndarray) -> None:
        self.simulator, self.rows, self.device = simulator, InMemory({"image": images}), CPU
        self.theta = torch.from_numpy(theta)
        subhaloes = theta[:, simulator.prior.columns(names(bins.most))].reshape(len(theta), bins.most, 3)
        self.number = torch.from_numpy(bins.number(subhaloes))

    def __len__(self) -> int:
        return len(self.theta)

    def on(self, device: torch.device) -> Targeted:
        """These simulations with noise drawn on a device."""
        there = copy.copy(self)
        there.simulator, there.device = moved(self.simulator, device), device
        return there

    def split(self, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        """Training and validation rows."""
        return self.rows.split(fraction, seed)

    def epoch(self, rows: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Row numbers (n,) of the batches of one pass."""
        yield from self.rows.shuffled(rows, generator).tensor_split(max(1, -(-len(rows) // batch_size)))

    def batch(
        self, rows: Tensor, generator: torch.Generator, *, redraw: bool = True
    ) -> tuple[dict[str, Tensor], Tensor]:
        """What rows hold, with new noise."""
        stored = {"image": self.rows.take(rows)["image"].to(self.device)}
        theta = self.theta[rows].to(self.device)
        x = self.simulator.observe(stored, theta, generator_on(self.device, generator))
        return {"image": x["image"]}, self.number[rows].to(self.device)
