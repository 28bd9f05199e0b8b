"""Sensitivity: the probability S(F, l, b | theta) that a source is detected, learned from simulated maps.

Maps are drawn from the prior, `find` runs on them, and a network learns by classification which of their sources were
found.  S depends on theta as well, because a source is harder to find among many: the more sources there are, and the
thinner their disk, the more of them hide one another.

From the same maps come purity, completeness, and how far the truth lies from what is measured, in standard deviations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmnre import Prior, ResidualBlock, Standardise
from tmnre_popsources.detection import DetectionNet, Threshold, find, match
from tmnre_popsources.patch import Scene, Sources


class SensitivityNet(nn.Module):
    """Logit of S (...) from ln F, l, b (..., 3) and theta (..., D)."""

    def __init__(self, inputs: Tensor, hidden: int = 48) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Standardise(inputs), nn.Linear(inputs.shape[-1], hidden), nn.GELU(), ResidualBlock(hidden, hidden)
        )
        self.out = nn.Linear(hidden, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.out(self.layers(inputs))[..., 0]


class Sensitivity:
    """S as a function, zero off the patch."""

    def __init__(self, network: SensitivityNet, scene: Scene) -> None:
        self.network, self.scene = network, scene

    @torch.no_grad()
    def __call__(self, sources: Sources, theta: Tensor) -> Tensor:
        """S of sources with columns (...), under theta (..., D), which broadcast."""
        inputs = inputs_of(sources, theta)
        shape = inputs.shape[:-1]
        parts = [torch.sigmoid(self.network(part)) for part in inputs.reshape(-1, inputs.shape[-1]).split(1 << 15)]
        seen = torch.cat(parts).view(shape) if parts else torch.zeros(shape)
        return torch.where(self.scene.inside(sources).expand(shape), seen, 0.0)


def inputs_of(sources: Sources, theta: Tensor) -> Tensor:
    """Inputs (..., 3 + D) of the network."""
    columns = [sources.log_flux, sources.l_deg, sources.b_deg, *theta.float().unbind(-1)]
    return torch.stack(torch.broadcast_tensors(*columns), dim=-1)


@dataclass(frozen=True)
class Trials:
    """What became of the sources of simulated maps: network inputs (S, 3 + D), whether found (S,); of the detections
    their measured ln F (D,), and those of their sources with the pulls of l, b and ln F (D, 4), NaN where spurious."""

    inputs: Tensor
    found: Tensor
    measured: Tensor
    sources: Tensor

    @property
    def pulls(self) -> Tensor:
        """(true - measured) / sd of l, b and ln F, of detections that stand for a source (D', 3)."""
        return self.sources[~self.sources[:, 0].isnan(), 1:]

    @property
    def purity(self) -> float:
        """Share of detections that stand for a source."""
        return float((~self.sources[:, 0].isnan()).float().mean())

    def by_flux(self, edges: np.ndarray) -> dict[str, list[float]]:
        """Completeness in bins of true ln F and purity in bins of measured ln F; None where there are none."""
        real = ~self.sources[:, 0].isnan()

        def share(values: Tensor, what: Tensor) -> list[float | None]:
            bins = np.digitize(values.numpy(), edges) - 1
            every, hits = (np.bincount(bins[m & (bins >= 0)], minlength=len(edges))[: len(edges) - 1]
                           for m in (np.ones(len(bins), bool), what.numpy().astype(bool)))  # fmt: skip
            return [float(h / e) if e else None for h, e in zip(hits, every, strict=True)]

        return {
            "log_flux_edges": edges.tolist(),
            "completeness": share(self.inputs[:, 0], self.found),
            "purity": share(self.measured, real),
        }

    # batches for `train_network`
    def __len__(self) -> int:
        return len(self.found)

    def split(self, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        held = int(fraction * len(self))  # sources of other maps than those trained on
        return torch.arange(held, len(self)), torch.arange(held)

    def epoch(self, rows: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
        yield from rows[torch.randperm(len(rows), generator=generator)].split(batch_size)

    def batch(self, rows: Tensor, generator: torch.Generator, *, redraw: bool = True) -> tuple[Tensor, Tensor]:
        return self.inputs[rows], self.found[rows]


def sensitivity_loss(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy."""
    inputs, found = batch
    return F.binary_cross_entropy_with_logits(network(inputs), found)


def trials(
    network: DetectionNet,
    scene: Scene,
    prior: Prior,
    before: Tensor,
    threshold: Threshold,
    *,
    maps: int,
    seed: int,
    at_once: int = 64,
) -> Trials:
    """`find` on maps of populations from the prior."""
    generator = torch.Generator().manual_seed(seed)
    theta = torch.from_numpy(prior.sample(maps, np.random.default_rng(seed)))
    parts: list[tuple[Tensor, ...]] = []
    for some in theta.split(at_once):
        sources = scene.draw(some, generator)
        sources = sources.of(torch.maximum(sources.l_deg.abs(), sources.b_deg.abs()) < 1.2 * scene.half_width_deg)
        counts = scene.counts(scene.expected(sources, len(some)), generator)
        detections = find(network, scene, counts, before, threshold)
        matched = match(scene, sources, detections, len(some))
        real = matched >= 0
        found = torch.zeros(len(sources.row))
        found[matched[real]] = 1.0
        of = sources.of(matched.clamp(min=0))
        there = torch.stack([of.l_deg, of.b_deg, of.log_flux], dim=1)
        pulls = torch.where(real[:, None], (there - detections.point) / detections.sd, torch.nan)
        true = torch.where(real, of.log_flux, torch.nan)
        on = scene.inside(sources)
        inputs = inputs_of(sources, some[sources.row])[on]
        parts.append((inputs, found[on], detections.log_flux, torch.cat([true[:, None], pulls], dim=1)))
    return Trials(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
