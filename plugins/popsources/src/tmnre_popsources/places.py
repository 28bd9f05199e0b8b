"""Where the sources of a flat patch are: laws of position, batched, in degrees.

draw(p, generator)     l and b of one source for every row of p (S, k), the parameters named in `names`
log_density(l, b, p)   ln p(l, b) per square degree
pixels(edges, p)       probability (N, n, n) of every pixel, rows b and columns l, for p (N, k)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Disk:
    """l ~ Normal(0, spread_l_deg^2), b ~ Normal(0, height_deg^2): the disk of 2211.04291, flat."""

    spread_l_deg: float = 20.0
    """standard deviation of longitude in degrees"""
    names: tuple[str, ...] = ("height_deg",)

    def draw(self, p: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        score = torch.randn(2, len(p), generator=generator)
        return score[0] * self.spread_l_deg, score[1] * p[:, 0].float()

    def log_density(self, l_deg: Tensor, b_deg: Tensor, p: Tensor) -> Tensor:
        height = p[..., 0]
        score = (l_deg / self.spread_l_deg).square() + (b_deg / height).square()
        return -0.5 * score - height.log() - math.log(2 * math.pi * self.spread_l_deg)

    def pixels(self, edges: Tensor, p: Tensor) -> Tensor:
        columns = torch.special.ndtr(edges / self.spread_l_deg).diff()
        rows = torch.special.ndtr(edges / p[:, :1]).diff(dim=1)
        return rows[:, :, None] * columns


@dataclass(frozen=True)
class Isotropic:
    """Evenly over a square of +-half_width_deg, which has to be wider than the patch by what blurs into it."""

    half_width_deg: float = 45.0
    """half of the square's side in degrees"""
    names: tuple[str, ...] = ()

    def draw(self, p: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        places = (2 * torch.rand(2, len(p), generator=generator) - 1) * self.half_width_deg
        return places[0], places[1]

    def log_density(self, l_deg: Tensor, b_deg: Tensor, p: Tensor) -> Tensor:
        inside = torch.maximum(l_deg.abs(), b_deg.abs()) <= self.half_width_deg
        return torch.where(inside, -2 * math.log(2 * self.half_width_deg), -math.inf)

    def pixels(self, edges: Tensor, p: Tensor) -> Tensor:
        share = edges.clamp(-self.half_width_deg, self.half_width_deg).diff() / (2 * self.half_width_deg)
        return (share[:, None] * share).expand(len(p), -1, -1)


class Template:
    """In proportion to an image (m, m) of +-half_width_deg, rows b and columns l; evenly within its pixels."""

    names: tuple[str, ...] = ()

    def __init__(self, image: Tensor, half_width_deg: float) -> None:
        image = torch.as_tensor(image, dtype=torch.float64)
        if image.ndim != 2 or image.shape[0] != image.shape[1] or (image < 0).any() or image.sum() <= 0:
            raise ValueError(
                f"a template is a square image of numbers >= 0, not all zero, got shape {tuple(image.shape)}"
            )
        self.share = image / image.sum()
        self.half_width_deg, self.pixel_deg = half_width_deg, 2 * half_width_deg / len(image)

    def draw(self, p: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        upper = self.share.flatten().cumsum(0)
        v = torch.rand(len(p), generator=generator, dtype=torch.float64) * upper[-1]
        place = torch.searchsorted(upper, v, right=True).clamp(max=len(upper) - 1)
        within = torch.rand(2, len(p), generator=generator)
        rows, columns = place // len(self.share), place % len(self.share)
        b_deg, l_deg = (torch.stack([rows, columns]) + within) * self.pixel_deg - self.half_width_deg
        return l_deg, b_deg

    def log_density(self, l_deg: Tensor, b_deg: Tensor, p: Tensor) -> Tensor:
        both = torch.broadcast_tensors(b_deg, l_deg)
        places = [((x + self.half_width_deg) / self.pixel_deg).floor().long() for x in both]
        inside = torch.stack([(q >= 0) & (q < len(self.share)) for q in places]).all(0)
        rows, columns = (q.clamp(0, len(self.share) - 1) for q in places)
        return torch.where(inside, (self.share[rows, columns] / self.pixel_deg**2).log(), -math.inf).to(both[0].dtype)

    def pixels(self, edges: Tensor, p: Tensor) -> Tensor:
        own = torch.linspace(-self.half_width_deg, self.half_width_deg, len(self.share) + 1, dtype=edges.dtype)
        # the share of every own pixel that falls into every pixel asked for
        overlap = (torch.minimum(edges[1:, None], own[1:]) - torch.maximum(edges[:-1, None], own[:-1])).clamp(min=0)
        overlap = overlap / self.pixel_deg
        return (overlap @ self.share.to(edges.dtype) @ overlap.T).expand(len(p), -1, -1)
