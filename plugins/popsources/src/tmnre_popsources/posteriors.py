"""Posteriors from sub-threshold sources, from detected ones, and from both.

Of a set of parameters the sub-threshold posterior is p3 ~ p(theta) r3, with an exact density from the chain rule, and
the detected one p(theta) r(theta; I = 1), where

    r(theta; I = 1) = int ds_det r4(s_det; theta) p(s_det | I = 1).

p(s_det) itself is never known, but r4 = p(s_det | theta) / p(s_det) holds for every theta, so that with any theta_0

    r(theta; I = 1)  ~  E [ r4(s_det; theta) / r4(s_det; theta_0) ],   s_det ~ p(s_det | theta_0, I = 1),

and of that last density sources are drawn one by one.  Both together: draws of either posterior, half and half, with
weight p3 r / (p3 + p4), which is bounded wherever either of the two covers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tmnre import MarginalPosterior, Prior, Simulator
from tmnre.ratio import RatioEstimator
from tmnre.rounds import Rounds
from tmnre.simulator import Tensors
from tmnre_popsources.patch import Scene, Sources
from tmnre_popsources.truncated import Regions, SensitivityFunction, draw_in_regions

LISTS = 48
"""of detections, drawn for the Monte Carlo integral over them"""


@dataclass(frozen=True)
class JointRatio:
    """A learned joint ratio of parameters: its estimator, the box {name: (low, high)} in the cube it was learned in,
    the records of the rounds that led to it, and what simulated them."""

    estimator: RatioEstimator
    cube: dict[str, tuple[float, float]]
    names: tuple[str, ...]
    rounds: Sequence[dict[str, Any]] = ()
    simulator: Simulator | None = None

    @classmethod
    def of(cls, rounds: Rounds, names: tuple[str, ...]) -> JointRatio:
        """Of rounds that learn it; those not finished are run."""
        records = rounds.run().rounds
        return cls(rounds.last.estimator, records[-1]["region"]["cube"], names, records, rounds.simulator)

    @property
    def log_prior(self) -> float:
        """ln density of the region's prior in the cube, inside."""
        return -float(sum(np.log(high - low) for low, high in (self.cube[name] for name in self.names)))

    def inside(self, u: Tensor) -> Tensor:
        """Which rows of u (S, d) lie in the region."""
        low, high = torch.tensor([self.cube[name] for name in self.names], dtype=u.dtype).T
        return ((u >= low) & (u <= high)).all(1)

    def sample(self, x: Tensors, n: int, generator: torch.Generator) -> Tensor:
        """u (n, d) of the posterior at x (1, ...)."""
        return self.estimator.sample(self.names, x, n, generator)[0].double()

    @torch.no_grad()
    def log_density(self, x: Tensors, u: Tensor) -> Tensor:
        """ln p(u | x) (N, S) in the cube, at points u (S, d), for every x (N, ...); minus infinity outside."""
        joint, quantiles = self.estimator.joints[self.names], self.estimator.quantiles
        table = type(quantiles)(quantiles.table[joint.columns])
        s = table(u)
        features = self.estimator.embedding(x)
        log_r = torch.stack([joint.log_ratio(one[None], s) for one in features])
        return torch.where(self.inside(u), log_r + self.log_prior, -torch.inf)


@dataclass(frozen=True)
class Detected:
    """The posterior of the regions alone, p(theta) r(theta; I = 1), as draws with weights.

    u (S, d), log_w (S,) : draws, of the posterior of a list of points in the regions
    lists, reference : for `log_detected`.  log_norm : its logarithm over that of a density in the cube
    """

    r4: JointRatio
    u: Tensor
    log_w: Tensor
    lists: Tensors
    reference: Tensor
    log_norm: Tensor

    @classmethod
    def of(
        cls,
        r4: JointRatio,
        x: Tensors,
        scene: Scene,
        sensitivity: SensitivityFunction,
        regions: Regions,
        points: int,
        generator: torch.Generator,
    ) -> Detected:
        """Of so many draws; x is a list of one point in each region, as point estimates."""
        u = r4.sample(x, points, generator)
        # any reference will do; the median of what the points say keeps the integrand flat
        reference = u.median(0).values[None]
        theta = r4.simulator.prior.from_cube(reference).expand(LISTS, -1)
        drawn = draw_in_regions(scene, sensitivity, regions, theta, generator, candidates=64)
        lists = r4.simulator.padded(Sources(*(column.flatten() for column in drawn)), LISTS)
        log_w = log_detected(r4, lists, u, reference) - r4.log_density(x, u)[0]
        return cls(r4, u, log_w, lists, reference, log_w[torch.isfinite(log_w)].logsumexp(0) - np.log(points))

    def log_density(self, u: Tensor) -> Tensor:
        """ln p(u | I = 1) (S,) in the cube, at u (S, d)."""
        return log_detected(self.r4, self.lists, u, self.reference) - self.log_norm

    def resampled(self, n: int, generator: torch.Generator) -> Tensor:
        """u (n, d), drawn by weight."""
        largest = self.log_w[torch.isfinite(self.log_w)].max()
        return self.u[torch.multinomial((self.log_w - largest).exp().nan_to_num(), n, True, generator=generator)]

    def with_maps(self, r3: JointRatio, x: Tensors, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """u (2 n, d) and ln weights (2 n,) of the combined posterior, of a map x beside."""
        u = torch.cat([r3.sample(x, n, generator), self.resampled(n, generator)])
        return u, combine(r3.log_density(x, u)[0], self.log_density(u))


def log_detected(r4: JointRatio, lists: Tensors, u: Tensor, reference: Tensor) -> Tensor:
    """ln r(theta; I = 1) (S,) up to a constant at u (S, d); lists (M, ...) drawn under reference (1, d) and I = 1."""
    both = r4.log_density(lists, torch.cat([u, reference]))
    return (both[:, :-1] - both[:, -1:]).logsumexp(0) - np.log(len(both))


def combine(log_p3: Tensor, log_p4: Tensor) -> Tensor:
    """ln weights (S,) of p3 p4 at draws of the mixture of both, half and half; densities in one cube, flat prior."""
    log_q = torch.logaddexp(log_p3, log_p4)
    return torch.nan_to_num(log_p3 + log_p4 - log_q, nan=-torch.inf)


def marginals_of(
    prior: Prior, names: tuple[str, ...], u: Tensor, log_w: Tensor, *, pairs: bool = True
) -> dict[tuple[str, ...], MarginalPosterior]:
    """All 1-d and (if asked) 2-d marginals, and the joint, of weighted samples u (S, d) in the cube."""
    kept = torch.isfinite(log_w)
    theta = np.stack([prior[name].quantile(column) for name, column in zip(names, u[kept].numpy().T, strict=True)], 1)
    w = log_w[kept].numpy()
    columns = [(i,) for i in range(len(names))]
    columns += [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))] if pairs else []
    columns += [tuple(range(len(names)))] if len(names) > 2 else []
    return {
        tuple(names[i] for i in which): MarginalPosterior(tuple(names[i] for i in which), theta[:, which], w, w)
        for which in columns
    }
