"""Detection on the sphere: which pixels of a HEALPix sky hold a source brighter than F_k, its position and its flux.

As on a patch (see `detection`), a network gives for every pixel and every k of a ladder of fluxes the logit of
P(a source with F >= F_k is in this pixel | map), and where, seen from the pixel, the brightest source of its
surroundings is, and its ln F, with standard deviations.

The network hands messages from pixel to neighbour, the same along all four sides and along all four corners, so that
the grid's directions, which turn over the sphere and break at the base pixels' edges, make no difference.  Positions
and their variances are sums over the neighbours' own offsets, each with a learned weight.

A detection is connected pixels (8 neighbours) where log r1 at the threshold's flux exceeds the threshold and whose
probabilities add up to enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import healpy
import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from tmnre import Standardise
from tmnre.simulator import Tensors
from tmnre_popsources.detection import (
    LEAST_SD,
    MEASURED,
    Detections,
    Threshold,
    Truth,
    falling,
    log_r1,
    start_from_odds,
)
from tmnre_popsources.sky_simulator import FINE, SkySimulator
from tmnre_popsources.surroundings import Surroundings

SIDES, CORNERS = [1, 3, 5, 7], [2, 4, 6, 8]
"""columns of `Sky.neighbours` that share a side, and only a corner, with the pixel"""
SKIES_AT_ONCE = 4
REACH, CLIP = 5, 2.0
"""pixels over which the level of diffuse emission is seen, and standard deviations beyond which photons are clipped"""
HELD = 6
"""skies that training is validated on"""


class SkySources(NamedTuple):
    """S sources in the region, of a batch of skies: whose each is, place of its pixel, unit vector (S, 3), ln F."""

    row: Tensor
    place: Tensor
    vector: Tensor
    log_flux: Tensor

    def of(self, keep: Tensor) -> SkySources:
        """Those where keep (S,) is true, or at the places keep."""
        return SkySources(*(column[keep] for column in self))


class SkyDetectionNet(nn.Module):
    """Logits (N, K, P), falling with k, and measured mean and sd (N, 6, P) of skies {"counts": (N, P)}.

    before (K,) : prior probabilities, whose odds the logits start from
    diffuse (P,) expected counts without sources; exposure (P,), relative to its mean
    """

    def __init__(
        self, near: Surroundings, before: Tensor, *, diffuse: Tensor, exposure: Tensor, width: int = 16, rounds: int = 2
    ) -> None:
        super().__init__()
        self.ladder = len(before)
        known = torch.stack([diffuse.log(), exposure.log()], dim=1).float()
        offsets = near.of_neighbours()[:, np.subtract(SIDES + CORNERS, 1)].float()
        for name, array in (("known", known), ("around", near.around), ("offsets", offsets)):
            self.register_buffer(name, array, persistent=False)
        inputs, _ = self._pixels(torch.poisson(diffuse[None].float()))
        self.scale = Standardise(inputs.flatten(0, 1))
        self.first = nn.Sequential(nn.Linear(inputs.shape[2], width), nn.GELU(), nn.Linear(width, width))
        self.messages = nn.ModuleList(Messages(width) for _ in range(rounds))
        self.toward = nn.Linear(width, 2)
        self.out = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, self.ladder + 2))
        start_from_odds(self.out[-1], before)

    def _pixels(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (N, P, 6), and ln F (N, P) of a source to which all that is more than diffuse in the surroundings is
        due."""
        diffuse = self.known[:, 0].exp()
        own = torch.stack([counts - diffuse, diffuse.expand(len(counts), -1)])
        around = F.pad(own, (0, 1))[..., self.around].sum(-1)
        excess = [torch.asinh(more / mean.sqrt()) for more, mean in (own, around)]
        own = torch.stack([counts.log1p(), *excess, self._level(counts)], 2)
        inputs = torch.cat([own, self.known.expand(len(counts), -1, -1)], dim=2)
        return inputs, around[0].clamp(min=1.0).log() - self.known[:, 1]

    def _level(self, counts: Tensor) -> Tensor:
        """ln of what there is over what is expected (N, P), averaged over some `REACH` pixels, bright ones clipped."""
        diffuse = self.known[:, 0].exp()
        both = torch.stack([torch.minimum(counts, diffuse + CLIP * diffuse.sqrt()), diffuse.expand_as(counts)])
        for _ in range(REACH):
            both = F.pad(both, (0, 1))[..., self.around].sum(-1)
            both = both / both[1].mean()
        return (both[0] / both[1]).clamp(min=0.1).log()

    def forward(self, x: Tensors) -> tuple[Tensor, Tensor]:
        inputs, log_flux = self._pixels(x["counts"])
        h = self.first(self.scale(inputs))
        for one in self.messages:
            h, said = one(h, self.around)
        maps = self.out(h).transpose(1, 2)
        flux, wide = maps[:, self.ladder :].unbind(1)
        weight, spread = torch.cat([self.toward(one) for one in said], dim=2)[..., None].unbind(3)
        offset = (weight * self.offsets).sum(2).transpose(1, 2)
        variance = (F.softplus(spread) * self.offsets.square()).sum(2).transpose(1, 2)
        sd = torch.cat([(variance + LEAST_SD**2).sqrt(), (F.softplus(wide) + LEAST_SD)[:, None]], dim=1)
        return falling(maps[:, : self.ladder]), torch.cat([offset, (log_flux + flux)[:, None], sd], dim=1)


class Messages(nn.Module):
    """One round: pixels (N, P, F) with what their neighbours said, and what each of them said, twice (N, P, 4, F)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.own = nn.Linear(width, 2 * width)
        self.other = nn.Linear(width, 2 * width, bias=False)
        self.outside = nn.Parameter(torch.zeros(2 * width))
        self.out = nn.Sequential(nn.Linear(3 * width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, h: Tensor, around: Tensor) -> tuple[Tensor, list[Tensor]]:
        outside = self.outside.expand(len(h), 1, -1)
        told = torch.cat([self.other(h), outside], dim=1).chunk(2, dim=2)
        said = [
            F.relu(mine[:, :, None] + other[:, around[:, which]])
            for mine, other, which in zip(self.own(h).chunk(2, dim=2), told, (SIDES, CORNERS), strict=True)
        ]
        return h + self.out(torch.cat([h, *(one.sum(2) for one in said)], dim=2)), said


class Skies:
    """Source of training batches: skies of populations theta (rows, D), drawn anew, and what there is to find."""

    def __init__(self, simulator: SkySimulator, theta: np.ndarray, log_fluxes: np.ndarray) -> None:
        self.simulator, self.theta = simulator, torch.from_numpy(theta)
        self.log_fluxes = torch.as_tensor(log_fluxes, dtype=torch.float32)
        self.near = Surroundings(simulator.sky)

    def __len__(self) -> int:
        return len(self.theta)

    def split(self, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        held = min(HELD, len(self) // 4)
        return torch.arange(held, len(self)), torch.arange(held)

    def epoch(self, rows: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
        yield from rows[torch.randperm(len(rows), generator=generator)].split(batch_size)

    def draw(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, SkySources]:
        """Counts (N, P) and the sources above the ladder's lowest flux."""
        sky, theta = self.simulator.sky, self.theta[rows]
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        photons, found = [], []
        for row, one in enumerate(theta.numpy()):
            seen, at, log_flux = self.simulator.drawn(one, rng)
            place = sky.place[at >> 2 * FINE]
            kept = (place >= 0) & (log_flux >= float(self.log_fluxes[0]))
            vector = np.array(healpy.pix2vec(sky.nside << FINE, at[kept], nest=True)).T
            photons.append(torch.from_numpy(seen))
            found.append((np.full(kept.sum(), row), place[kept], vector, log_flux[kept]))
        counts = torch.stack(photons) + self.simulator.diffuse(theta, generator)
        return counts, SkySources(*(torch.from_numpy(np.concatenate(q)) for q in zip(*found, strict=True)))

    def batch(self, rows: Tensor, generator: torch.Generator, *, redraw: bool = True) -> tuple[Tensors, Truth]:
        counts, sources = self.draw(rows, generator)
        return {"counts": counts}, self.truth(sources, len(rows))

    def truth(self, sources: SkySources, n: int) -> Truth:
        """What there is to find in n skies of these sources."""
        near, log_flux = self.near, torch.cat([sources.log_flux, torch.tensor([-torch.inf])])
        own = log_flux[brightest_near(sources, n, near.around[:, :1])]
        best = brightest_near(sources, n, near.around)
        there = log_flux[best] >= self.log_fluxes[0]
        row, place = there.nonzero(as_tuple=True)
        of = best[row, place]
        measured = torch.zeros(n, len(near), MEASURED)
        offsets = near.offsets(place, sources.vector[of]).float()
        measured[row, place] = torch.cat([offsets, sources.log_flux[of][:, None]], dim=1)
        present = (own[:, None] >= self.log_fluxes[:, None]).float()
        return Truth(present, measured.transpose(1, 2), there)


def brightest_near(sources: SkySources, n: int, around: Tensor) -> Tensor:
    """Index (n, P) of the brightest source in the pixels around (P, A) every pixel, -1 where none is."""
    order = sources.log_flux.argsort()
    # ranks stand for fluxes: they are distinct; the last column is what lies outside
    rank = torch.full((n, len(around) + 1), -1, dtype=torch.long)
    place = sources.row[order] * rank.shape[1] + sources.place[order]
    rank.view(-1).scatter_reduce_(0, place, torch.arange(len(order)), "amax")
    best = rank[:, around].amax(2)
    return torch.where(best >= 0, order[best.clamp(min=0)] if len(order) else -1, -1)


def prior_probability(simulator: SkySimulator, theta: np.ndarray, log_fluxes: np.ndarray) -> Tensor:
    """P(a source with F >= F_k is in a pixel) (K,), 1 - exp(-expected number), averaged over theta (S, D).

    Raises ValueError where sources are not spread evenly: then it would differ from pixel to pixel.
    """
    if not simulator.even:
        raise ValueError("detection on a sky needs sources that are spread evenly")
    p, _ = simulator.split(torch.from_numpy(theta))
    bright = simulator.law.number(p)[:, None] * simulator.law.survival(torch.as_tensor(log_fluxes), p[:, None])
    return -torch.expm1(-bright * simulator.sky.pixel_sr).mean(0)


@torch.no_grad()
def read(network: nn.Module, counts: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log r1 (N, K, P), probabilities (N, K, P) and measured maps (N, 6, P) of skies counts (N, P)."""
    outputs = [network({"counts": part}) for part in counts.split(SKIES_AT_ONCE)]
    logits, maps = (torch.cat(parts) for parts in zip(*outputs, strict=True))
    return log_r1(logits, before[:, None]), torch.sigmoid(logits), maps


def find(ratio: Tensor, chance: Tensor, maps: Tensor, near: Surroundings, threshold: Threshold) -> Detections:
    """Detections in N skies, of what `read` gives."""
    k = 1  # the threshold's place in the ladder
    row, place = (ratio[:, k] > threshold.log_r1).nonzero(as_tuple=True)
    label = groups(row, place, near.around)
    each = chance[row, k, place].double().numpy()
    total = np.bincount(label, each)
    peak = np.zeros(len(total), dtype=int)
    order = each.argsort()
    peak[label[order]] = order  # of several the last stays, which is the most probable
    peak, total = (torch.from_numpy(q[total >= threshold.probability]) for q in (peak, total))
    row, place = row[peak], place[peak]
    mean, sd = (q[row, :, place] for q in maps.chunk(2, dim=1))
    l_deg, b_deg = healpy.vec2ang(near.vectors(place, mean[:, :2]).numpy(), lonlat=True)
    return Detections(
        row,
        torch.from_numpy(l_deg),
        torch.from_numpy(b_deg),
        mean[:, 2],
        sd[:, 1] * near.pixel_deg,
        sd[:, 0] * near.pixel_deg,
        sd[:, 2],
        ratio[row, k, place].float(),
        total.float(),
        place,
        chance[row, :, place] / chance[row, :1, place],
    )


def groups(row: Tensor, place: Tensor, around: Tensor) -> np.ndarray:
    """Labels (D,), from 0 on, of pixels at places of skies row, both (D,): the same for those that touch."""
    n = len(row)
    index = torch.full((int(row.max()) + 1 if n else 1, len(around) + 1), -1)
    index[row, place] = torch.arange(n)
    touching = index[row[:, None], around[place]]
    first, column = (touching >= 0).nonzero(as_tuple=True)
    graph = coo_array((np.ones(len(first)), (first.numpy(), touching[first, column].numpy())), shape=(n, n))
    return connected_components(graph, directed=False)[1]
