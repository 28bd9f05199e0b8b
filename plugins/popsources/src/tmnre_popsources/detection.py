"""Detection: where in a map is a source brighter than F_k, and what are its position and flux.

A U-Net gives for every pixel, and every k of a ladder of fluxes F_1 < F_2 < ..., the logit of P(a source with F >= F_k
is in this pixel | map), trained by classification, so that

    log r1(pixel, F >= F_k; x) = log P(pixel, F_k | x) - log P(pixel, F_k),

with the prior's probability in closed form.  Six more maps say where, seen from the pixel, the brightest source of its
3 x 3 surroundings is, and its ln F, with standard deviations.

A source is detected where log r1 at the threshold flux exceeds the threshold: connected pixels (8 neighbours) are one
detection if the probabilities in them add up to enough.  `find` is that rule, and the only one: for the observation,
for the sensitivity, for completeness and purity.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from tmnre import Prior, UNet
from tmnre.simulator import Tensors
from tmnre_popsources.patch import Scene, Sources

SAME_MAP_8_NEIGHBOURS = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))])
MEASURED = 3
"""b, l and ln F"""
LEAST_SD = 1e-3
"""pixels, or ln F: no standard deviation is smaller, which only keeps the loss finite"""


@dataclass(frozen=True)
class Threshold:
    """What counts as a detection; one rule for all steps."""

    flux: float = 20.0
    """flux from which on a source is looked for, in the units of flux"""
    log_r1: float = 3.0
    """a pixel is part of a detection where log r1 is above this"""
    probability: float = 0.5
    """the expected number of sources above the flux in a detection's pixels, at least"""
    ladder: int = 6
    """number of fluxes F_k: the threshold itself, and others a factor of two apart, one below and the rest above"""

    @property
    def log_fluxes(self) -> np.ndarray:
        """ln F_k; the second is the threshold's."""
        return np.log(self.flux) + np.log(2.0) * (np.arange(self.ladder) - 1)


class Detections(NamedTuple):
    """D detections of a batch of maps; each (D,), but survival (D, K): P(F >= F_k | x, there is a source)."""

    row: Tensor
    l_deg: Tensor
    b_deg: Tensor
    log_flux: Tensor
    sd_l_deg: Tensor
    sd_b_deg: Tensor
    sd_log_flux: Tensor
    log_r1: Tensor
    probability: Tensor
    peak: Tensor
    """flat index of the peak's pixel"""
    survival: Tensor

    def of(self, keep: Tensor) -> Detections:
        """Those where keep (D,) is true, or at the places keep."""
        return Detections(*(column[keep] for column in self))

    def sources(self) -> Sources:
        """Their point estimates as sources."""
        return Sources(self.row, self.l_deg, self.b_deg, self.log_flux)

    @property
    def point(self) -> Tensor:
        """l, b and ln F (D, 3)."""
        return torch.stack([self.l_deg, self.b_deg, self.log_flux], dim=1)

    @property
    def sd(self) -> Tensor:
        """Their standard deviations (D, 3)."""
        return torch.stack([self.sd_l_deg, self.sd_b_deg, self.sd_log_flux], dim=1)


class DetectionNet(nn.Module):
    """Logits (N, K, n, n), falling with k, and measured mean and sd (N, 6, n, n) of maps {"counts": (N, n, n)}.

    before (K, n, n) : prior probabilities, whose odds the logits start from; sources are rare
    """

    def __init__(self, x: Tensors, before: Tensor, widths: Sequence[int] = (8, 16, 32)) -> None:
        super().__init__()
        self.ladder = len(before)
        self.unet = UNet(self._input(x), out_channels=self.ladder + 2 * MEASURED, widths=widths)
        start_from_odds(self.unet.out, before.mean((1, 2)))

    @staticmethod
    def _input(x: Tensors) -> Tensors:
        return {"counts": torch.log1p(x["counts"])}

    def forward(self, x: Tensors) -> tuple[Tensor, Tensor]:
        maps = self.unet(self._input(x))
        mean, sd = maps[:, self.ladder :].chunk(2, dim=1)
        return falling(maps[:, : self.ladder]), torch.cat([mean, F.softplus(sd) + LEAST_SD], dim=1)


def falling(maps: Tensor) -> Tensor:
    """Logits (N, K, ...) that fall with k, of any maps (N, K, ...)."""
    first, steps = maps[:, :1], F.softplus(maps[:, 1:])
    return torch.cat([first, first - steps.cumsum(1)], dim=1)


@torch.no_grad()
def start_from_odds(out: nn.Module, before: Tensor) -> None:
    """Let the first K outputs of a layer, taken as `falling`, start from the odds of probabilities (K,)."""
    k, odds = len(before), torch.logit(before)
    out.weight[:k] *= 0.1
    out.bias[0] = odds[0]
    out.bias[1:k] = torch.log(torch.expm1(-odds.diff()))


class Truth(NamedTuple):
    """What a network should say of a batch of maps, whose pixels are (n, n) of a patch or (P,) of a sky: sources there
    (N, K, ...), the brightest one's offset from the pixel's centre in pixels along b and l and its ln F (N, 3, ...),
    and where there is one (N, ...)."""

    present: Tensor
    measured: Tensor
    near: Tensor


def detection_loss(network: nn.Module, batch: tuple[Tensors, Truth]) -> Tensor:
    """Cross-entropy of the logits, summed over pixels and fluxes, and the Gaussian log loss of what is measured."""
    x, truth = batch
    logits, maps = network(x)
    entropy = F.binary_cross_entropy_with_logits(logits, truth.present, reduction="none").flatten(1).sum(1).mean()
    mean, sd = maps.chunk(2, dim=1)
    score = (truth.measured - mean) / sd
    loss = torch.where(truth.near[:, None], 0.5 * score.square() + sd.log(), 0.0)
    return entropy + loss.flatten(1).sum(1).mean()


class MapsWithTruth:
    """Source of training batches: maps of populations from the prior, drawn anew, and what there is to find in them."""

    def __init__(self, scene: Scene, prior: Prior, log_fluxes: np.ndarray, *, rows: int, seed: int) -> None:
        self.scene, self.log_fluxes = scene, torch.as_tensor(log_fluxes, dtype=torch.float32)
        self.theta = torch.from_numpy(prior.sample(rows, np.random.default_rng(seed)))

    def __len__(self) -> int:
        return len(self.theta)

    def split(self, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        held = max(1, int(fraction * len(self)))
        return torch.arange(held, len(self)), torch.arange(held)

    def epoch(self, rows: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
        yield from rows[torch.randperm(len(rows), generator=generator)].split(batch_size)

    def batch(self, rows: Tensor, generator: torch.Generator, *, redraw: bool = True) -> tuple[Tensors, Truth]:
        theta = self.theta[rows]
        sources = self.scene.draw(theta, generator)
        counts = self.scene.counts(self.scene.expected(sources, len(rows)), generator)
        return {"counts": counts}, truth_of(self.scene, sources, len(rows), self.log_fluxes)


def brightest_near(scene: Scene, sources: Sources, n: int, reach: int = 1) -> Tensor:
    """Index (n, pixels, pixels) of the brightest source within `reach` pixels of every pixel, -1 where none is."""
    rows, columns = scene.pixel_of(sources)
    on = scene.inside(sources).nonzero()[:, 0]
    order = on[sources.log_flux[on].argsort()]
    place = (sources.row[order] * scene.pixels + rows[order]) * scene.pixels + columns[order]
    rank = torch.full((n * scene.pixels**2,), -1.0)
    # ranks stand for fluxes: exact in float32, and distinct
    rank.scatter_reduce_(0, place, torch.arange(len(order), dtype=torch.float32), "amax")
    around = F.max_pool2d(rank.view(n, 1, scene.pixels, scene.pixels), 2 * reach + 1, stride=1, padding=reach)[:, 0]
    found = around.long()
    return torch.where(found >= 0, order[found.clamp(min=0)] if len(order) else -1, -1)


def truth_of(scene: Scene, sources: Sources, n: int, log_fluxes: Tensor) -> Truth:
    """What there is to find in n maps of these sources."""
    own = brightest_near(scene, sources, n, reach=0)
    log_flux = torch.cat([sources.log_flux, torch.tensor([-torch.inf])])
    present = (log_flux[own][:, None] >= log_fluxes[:, None, None]).float()
    best = brightest_near(scene, sources, n)
    near = log_flux[best] >= log_fluxes[0]
    centre = (scene.edges[1:] + scene.edges[:-1]).float() / 2
    l_deg, b_deg = (torch.cat([x, torch.zeros(1)])[best] for x in (sources.l_deg, sources.b_deg))
    offsets = [(b_deg - centre[:, None]) / scene.pixel_deg, (l_deg - centre) / scene.pixel_deg]
    measured = torch.stack([*offsets, log_flux[best]], dim=1)
    return Truth(present, torch.where(near[:, None], measured, 0.0), near)


def prior_probability(scene: Scene, prior: Prior, log_fluxes: np.ndarray, *, draws: int = 512) -> Tensor:
    """P(a source with F >= F_k is in the pixel) (K, n, n), 1 - exp(-expected number), averaged over the prior."""
    theta = torch.from_numpy(prior.sample(draws, np.random.default_rng(0)))
    p, q = scene.split(theta)
    share = scene.places.pixels(scene.edges, q)
    bright = scene.fluxes.number(p)[:, None] * scene.fluxes.survival(torch.as_tensor(log_fluxes), p[:, None])
    return torch.stack([-torch.expm1(-bright[:, k, None, None] * share).mean(0) for k in range(bright.shape[1])])


def log_r1(logits: Tensor, before: Tensor) -> Tensor:
    """log P(source | x) / P(source) (N, K, n, n)."""
    return F.logsigmoid(logits.double()) - before.log()


@torch.no_grad()
def find(network: DetectionNet, scene: Scene, counts: Tensor, before: Tensor, threshold: Threshold) -> Detections:
    """Detections in maps counts (N, n, n); before (K, n, n) from `prior_probability`."""
    outputs = [network({"counts": part}) for part in counts.split(32)]
    logits, maps = (torch.cat(parts) for parts in zip(*outputs, strict=True))
    k = 1  # the threshold's place in the ladder
    ratio = log_r1(logits, before)[:, k]
    chance = torch.sigmoid(logits[:, k]).double().numpy()
    labels, number = ndimage.label((ratio > threshold.log_r1).numpy(), structure=SAME_MAP_8_NEIGHBOURS)
    index = np.arange(1, number + 1)
    if number == 0:
        none = torch.zeros(0)
        return Detections(none.long(), *(none,) * 8, none.long(), torch.zeros(0, logits.shape[1]))
    total = np.asarray(ndimage.sum(chance, labels, index))
    peaks = np.asarray(ndimage.maximum_position(chance, labels, index))
    kept = total >= threshold.probability
    row, b_pixel, l_pixel = torch.from_numpy(peaks[kept].astype(np.int64)).T
    mean, sd = (q[row, :, b_pixel, l_pixel] for q in maps.chunk(2, dim=1))
    centre = (scene.edges[1:] + scene.edges[:-1]).float() / 2
    survival = torch.sigmoid(logits[row, :, b_pixel, l_pixel])
    return Detections(
        row,
        centre[l_pixel] + mean[:, 1] * scene.pixel_deg,
        centre[b_pixel] + mean[:, 0] * scene.pixel_deg,
        mean[:, 2],
        sd[:, 1] * scene.pixel_deg,
        sd[:, 0] * scene.pixel_deg,
        sd[:, 2],
        ratio[row, b_pixel, l_pixel].float(),
        torch.from_numpy(total[kept]).float(),
        b_pixel * scene.pixels + l_pixel,
        survival / survival[:, :1],
    )


def match(scene: Scene, sources: Sources, found: Detections, n: int) -> Tensor:
    """Index (D,) of the source every detection stands for: the brightest within one pixel of its peak, or -1."""
    best = brightest_near(scene, sources, n).view(n, -1)
    return best[found.row, found.peak]
