"""A round's training set: stored simulations whose cheap parameters and noise are drawn anew at every use.

Redrawn parameters have to follow the prior *given* the stored ones and the region, also where bounds on derived
quantities tie them together (a distance to a signal-to-noise ratio).  Two steps make that exact at any acceptance:

1. every row proposes `proposals` values; the accepted share is the row's weight, P(region | stored parameters), and
   rows enter batches in proportion to it;
2. from then on each use proposes again from the prior in the box and keeps the old value where all proposals
   violate the bounds: an independence Metropolis step, which leaves the conditional distribution as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from tmnre.device import CPU, generator_on, moved
from tmnre.region import Box
from tmnre.rows import Rows
from tmnre.simulator import Simulator, Tensors

ROWS_AT_ONCE = 1024
TRIES = (2, 4, 10)
"""proposals of a redraw; the later ones are for rows of which none before was accepted"""


class Draws:
    """Rows of (theta, stored) in a region, with weights.

    Parameters
    ----------
    u (N, D), stored : simulations whose stored parameters lie in the region, and the rows of their arrays
    targets : names of parameters and derived quantities, the columns of z; parameters appear as u

    `tied` : whether bounds on derived quantities tie parameters together
    """

    def __init__(
        self,
        simulator: Simulator,
        region: Box,
        u: np.ndarray,
        stored: Rows,
        targets: Sequence[str],
        *,
        seed: int,
        proposals: int = 64,
    ) -> None:
        self.simulator = simulator
        self.region = region
        self.targets = tuple(targets)
        self.stored, self.device = stored, CPU
        self.u = torch.from_numpy(np.array(u, dtype=float))
        self.theta = torch.from_numpy(simulator.prior.from_cube(u))
        self.weight = torch.ones(len(u), dtype=torch.float64)
        self._columns = simulator.prior.columns(simulator.redrawn)
        self.tied = any(name in region.derived for name in simulator.derived)
        generator = torch.Generator().manual_seed(seed)
        if self.tied:
            for rows in torch.arange(len(u)).split(ROWS_AT_ONCE):
                stored_rows = self._stored(rows, self.simulator.derive_from)
                count = proposals if self._columns else 1
                self.u[rows], self.theta[rows], self.weight[rows] = self._propose(rows, stored_rows, count, generator)
        elif self._columns:
            self.u, self.theta, _ = self._propose(torch.arange(len(u)), {}, 1, generator)

    def __len__(self) -> int:
        return len(self.theta)

    def on(self, device: torch.device) -> Draws:
        """These draws, parameters in common, with batches made on a device if the simulator knows how to."""
        if device == self.device or not self.simulator.any_device:
            return self
        there = copy.copy(self)
        there.simulator, there.device = moved(self.simulator, device), device
        return there

    def split(self, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        """Training and validation rows: a simulation is in one or the other, whatever is redrawn of it."""
        return self.stored.split(fraction, seed)

    @property
    def effective_size(self) -> float:
        """Number of equally weighted rows worth the same, (sum w)^2 / sum w^2."""
        return float(self.weight.sum() ** 2 / self.weight.square().sum().clamp_min(1e-300))

    def _stored(self, rows: Tensor, names: Sequence[str] | None = None) -> Tensors:
        return {name: array.to(self.device) for name, array in self.stored.take(rows, names).items()}

    def _propose(
        self, rows: Tensor, stored: Tensors, tries: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """u and theta of rows with redrawn columns from the first accepted of `tries` proposals, and the accepted share
        (N,)."""
        n, (u, theta) = len(rows), (self.u[rows], self.theta[rows])
        proposed, candidates = u.repeat(tries, 1), theta.repeat(tries, 1)
        v = torch.rand(tries * n, len(self._columns), dtype=torch.float64, generator=generator)
        new = self.region.spread(v.numpy(), self.simulator.redrawn)
        for i, (column, name) in enumerate(zip(self._columns, self.simulator.redrawn, strict=True)):
            proposed[:, column] = torch.from_numpy(new[:, i])
            candidates[:, column] = torch.from_numpy(self.simulator.prior[name].quantile(new[:, i]))
        if not self.tied:
            return proposed, candidates, torch.ones(n, dtype=torch.float64)
        repeated = {name: array.repeat(tries, *(1,) * (array.ndim - 1)) for name, array in self._cheap(stored).items()}
        allowed = self.region.allows(self.simulator.derive(candidates.to(self.device), repeated))
        allowed = torch.as_tensor(allowed).expand(tries * n).reshape(tries, n).cpu()
        chosen, some = allowed.int().argmax(0) * n + torch.arange(n), allowed.any(0)[:, None]
        return (
            torch.where(some, proposed[chosen], u),
            torch.where(some, candidates[chosen], theta),
            allowed.double().mean(0),
        )

    def _cheap(self, stored: Tensors) -> Tensors:
        names = self.simulator.derive_from
        return stored if names is None else {name: stored[name] for name in names}

    def _redrawn(self, rows: Tensor, stored: Tensors, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """u and theta of rows, redrawn columns from the first accepted proposal, old where none is."""
        u, theta, left = self.u[rows], self.theta[rows], torch.arange(len(rows))
        known = self._cheap(stored) if self.tied else {}
        for tries in (TRIES if self.tied else (1,)) if self._columns else ():
            some = {name: array[left] for name, array in known.items()}
            u[left], theta[left], share = self._propose(rows[left], some, tries, generator)
            left = left[share == 0]
            if not len(left):
                break
        return u, theta

    def _targets(self, u: Tensor, theta: Tensor, stored: Tensors) -> Tensor:
        """z (N, T) float64: u of parameters, values of derived quantities."""
        prior = self.simulator.prior
        if all(name in prior for name in self.targets):
            return u[:, prior.columns(self.targets)]
        known = dict(zip(prior.names, u.T, strict=True)) | self.simulator.derive(theta, stored)
        return torch.stack([known[name].double() for name in self.targets], dim=1)

    def batch(self, rows: Tensor, generator: torch.Generator, *, redraw: bool = True) -> tuple[Tensors, Tensor]:
        """x {"name": (n, ...)} and z (n, T) of the given rows, with fresh noise and (if asked) redrawn parameters."""
        stored = self._stored(rows)
        if redraw:
            self.u[rows], self.theta[rows] = self._redrawn(rows, stored, generator)
        u, theta = self.u[rows].to(self.device), self.theta[rows].to(self.device)
        x = self.simulator.observe(stored, theta, generator_on(self.device, generator))
        return x, self._targets(u, theta, self._cheap(stored))

    def epoch(self, rows: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Row batches of one pass in random order; a row takes part with probability weight / max weight."""
        weight = self.weight[rows]
        taken = rows[torch.rand(len(rows), dtype=torch.float64, generator=generator) * weight.max() < weight]
        shuffled = self.stored.shuffled(taken, generator)
        yield from shuffled.tensor_split(max(1, -(-len(taken) // batch_size)))

    def sample_targets(self, n: int, generator: torch.Generator) -> Tensor:
        """z (n, T) from the region's prior.

        Drawn afresh where the region is a plain box of parameters, else from rows by weight, redrawn.
        """
        prior = self.simulator.prior
        if not self.tied and prior.keys() >= set(self.targets):
            rng = np.random.default_rng(torch.randint(2**62, (1,), generator=generator).item())
            return torch.from_numpy(self.region.sample(n, rng)[:, prior.columns(self.targets)])
        parts = []
        for rows in torch.multinomial(self.weight, n, replacement=True, generator=generator).split(ROWS_AT_ONCE):
            stored = self._stored(rows, self.simulator.derive_from)
            u, theta = (part.to(self.device) for part in self._redrawn(rows, stored, generator))
            parts.append(self._targets(u, theta, stored))
        return torch.cat(parts)
