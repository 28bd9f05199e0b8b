"""Detection as truncation: populations whose detected sources lie where this observation's detections are.

Every source is labelled detected with probability S(s | theta), independently of the others.  The labelled ones then
are a Poisson process of intensity lambda S p, the others one of lambda (1 - S) p, and the two are independent given
theta.  The truncation is the event

    I(s_det) = 1:   there is one labelled source in each of the regions R_i, and none elsewhere,

where R_i is a box in l, b and ln F about the i-th detection.  By Bayes, with both factors up to a constant,

    p(theta | x, I = 1)  ~  p(theta)  p(I = 1 | theta)  p(x | theta, I = 1).

`DetectedLists` gives what r4 learns the second factor from, `SubThreshold` what r3 learns the third from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tmnre import Prior, Simulator
from tmnre_popsources.detection import Detections
from tmnre_popsources.patch import PatchSimulator, Scene, Sources

SensitivityFunction = Callable[[Sources, Tensor], Tensor]
"""(sources, theta) -> S, broadcasting"""
SPREAD = 6.0
"""standard deviations of a Poisson number above its mean that a list has room for"""


class Regions(NamedTuple):
    """Boxes low, high (D, 3) in l [deg], b [deg] and ln F."""

    low: Tensor
    high: Tensor

    @classmethod
    def about(cls, found: Detections, reach: Tensor) -> Regions:
        """Boxes of `reach` (3,) standard deviations to either side of detections."""
        half = found.sd * reach
        return cls(found.point - half, found.point + half)

    @property
    def log_volume(self) -> Tensor:
        """ln of the volumes (D,)."""
        return (self.high - self.low).log().sum(1)

    def uniform(self, shape: tuple[int, ...], generator: torch.Generator) -> Sources:
        """Sources with columns (*shape, D), evenly in every box; their `row` is the first axis."""
        v = torch.rand(*shape, *self.low.shape, generator=generator)
        l_deg, b_deg, log_flux = (self.low + v * (self.high - self.low)).unbind(-1)
        row = torch.arange(shape[0]).view(-1, *(1,) * (l_deg.ndim - 1))
        return Sources(row.expand(l_deg.shape), l_deg, b_deg, log_flux)


def draw_in_regions(
    scene: Scene,
    sensitivity: SensitivityFunction,
    regions: Regions,
    theta: Tensor,
    generator: torch.Generator,
    *,
    candidates: int = 16,
) -> Sources:
    """One source (N, D) in every region, from the density lambda S p under theta (N, D'), cut to it.

    Drawn among `candidates` that are even in the box, by weight.  The density varies by a factor of a few at most
    within a box, so that few will do; the error is the weights' variance over their number.
    """
    if not len(regions.low):
        return Sources(*(torch.zeros(len(theta), 0, dtype=kind) for kind in (torch.long, *(torch.float32,) * 3)))
    proposed = regions.uniform((len(theta), candidates), generator)
    given = theta[:, None, None].float()
    weight = scene.log_intensity(proposed, given).exp() * sensitivity(proposed, given)
    weight = weight.transpose(1, 2).flatten(0, 1)
    # a region where theta has nothing at all: any place is as good
    weight = torch.where(weight.sum(1, keepdim=True) > 0, weight, 1.0)
    chosen = torch.multinomial(weight, 1, generator=generator).view(len(theta), 1, -1)
    return Sources(*(column.gather(1, chosen)[:, 0] for column in proposed))


class SubThreshold(PatchSimulator):
    """Data of p(x | theta, I = 1): sources not labelled detected, and one in every region."""

    def __init__(
        self, scene: Scene, prior: Prior, sensitivity: SensitivityFunction, regions: Regions, **how: Any
    ) -> None:
        super().__init__(scene, prior, **how)
        self.sensitivity, self.regions = sensitivity, regions

    def sources(self, theta: Tensor, generator: torch.Generator) -> Sources:
        sources = self.scene.draw(theta, generator)
        seen = self.sensitivity(sources, theta[sources.row])
        sources = sources.of(torch.rand(len(seen), generator=generator) >= seen)
        held = draw_in_regions(self.scene, self.sensitivity, self.regions, theta, generator)
        return sources.and_(Sources(*(column.flatten() for column in held)))


class DetectedLists(Simulator):
    """Lists {"sources": (N, L, 3), "mask": (N, L)} of the sources labelled detected: l, b and ln F in no order.

    length : room in a list; None: enough for SPREAD standard deviations above the largest number expected in the prior
    """

    def __init__(self, scene: Scene, prior: Prior, sensitivity: SensitivityFunction, length: int | None = None) -> None:
        self.scene, self.prior, self.sensitivity = scene, prior, sensitivity
        if length is None:
            theta = torch.from_numpy(prior.sample(512, np.random.default_rng(0)))
            most = max(
                len(self.detected(t[None].repeat(4, 1), torch.Generator().manual_seed(0)).row) / 4 for t in theta
            )
            length = int(1.1 * most + SPREAD * np.sqrt(most + 1)) + 1
        self.length = length

    def simulate(self, theta: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Lists, which have no noise."""
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        drawn = self.padded(self.detected(torch.from_numpy(theta), generator), len(theta))
        return {name: array.numpy() for name, array in drawn.items()}

    def detected(self, theta: Tensor, generator: torch.Generator) -> Sources:
        """Sources labelled detected, of populations theta (N, D)."""
        sources = self.scene.draw(theta, generator)
        seen = self.sensitivity(sources, theta[sources.row])
        return sources.of(torch.rand(len(seen), generator=generator) < seen)

    def padded(self, sources: Sources, n: int) -> dict[str, Tensor]:
        """Sources as n lists; raises ValueError where one has more than fit."""
        numbers = torch.bincount(sources.row, minlength=n)
        if numbers.max() > self.length:
            raise ValueError(
                f"{int(numbers.max())} detected sources do not fit into lists of {self.length}; raise length"
            )
        sources = sources.of(sources.row.argsort(stable=True))
        first = numbers.cumsum(0) - numbers
        place = torch.arange(len(sources.row)) - first[sources.row]
        lists, mask = torch.zeros(n, self.length, 3), torch.zeros(n, self.length, dtype=torch.bool)
        lists[sources.row, place] = torch.stack([sources.l_deg, sources.b_deg, sources.log_flux], dim=1).float()
        mask[sources.row, place] = True
        return {"sources": lists, "mask": mask}
