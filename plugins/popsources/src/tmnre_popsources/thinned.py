"""Exact likelihoods of detected sources: the thinned Poisson process (Loredo 2004, astro-ph/0409387).

    ln L(list | theta)    = -Lambda + sum_i ln[lambda S(s_i) p(s_i)],      Lambda = lambda int S p dl db dln F
    ln L(I = 1 | theta)   = -Lambda + sum_i ln int_{R_i} lambda S p dl db dln F

The first is what r4 must equal, the second its Monte Carlo integral, both up to a constant in theta.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tmnre_popsources.patch import Scene, Sources
from tmnre_popsources.truncated import Regions, SensitivityFunction


def expected_detections(
    scene: Scene, sensitivity: SensitivityFunction, theta: Tensor, *, draws: int = 2**14, seed: int = 0
) -> Tensor:
    """Lambda (T,) under theta (T, D), by quasi-Monte Carlo over the population itself.

    Fluxes and places of a Sobol sequence, the same for all theta: the error is smooth in theta.
    """
    v = torch.quasirandom.SobolEngine(3, scramble=True, seed=seed).draw(draws)
    total = []
    for one in theta.float():
        p, q = scene.split(one)
        l_deg, b_deg = places_of(scene, v[:, 1:], q)
        sources = Sources(torch.zeros(draws, dtype=torch.long), l_deg, b_deg, scene.fluxes.log_flux(v[:, 0], p))
        total.append(scene.fluxes.number(p) * sensitivity(sources, one).mean())
    return torch.stack(total).double()


def places_of(scene: Scene, v: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """l and b at quantiles v (S, 2), of a disk."""
    score = torch.special.ndtri(v.clamp(1e-6, 1 - 1e-6))
    return score[:, 0] * scene.places.spread_l_deg, score[:, 1] * q[0]


def log_likelihood_of_list(
    scene: Scene, sensitivity: SensitivityFunction, point: Tensor, theta: Tensor, expected: Tensor
) -> Tensor:
    """ln L (T,) of a list of sources (D, 3), l, b and ln F, under theta (T, D'); expected (T,) is Lambda."""
    sources = Sources(torch.zeros(len(point), dtype=torch.long), *point.float().unbind(-1))
    given = theta[:, None].float()
    each = scene.log_intensity(sources, given).double() + sensitivity(sources, given).double().log()
    return each.sum(1) - expected


def log_likelihood_of_regions(
    scene: Scene,
    sensitivity: SensitivityFunction,
    regions: Regions,
    theta: Tensor,
    expected: Tensor,
    *,
    draws: int = 256,
    seed: int = 0,
) -> Tensor:
    """ln L (T,) of one detected source in every region, and no other, under theta (T, D)."""
    generator = torch.Generator().manual_seed(seed)
    sources = regions.uniform((draws,), generator)
    found = []
    for one in theta.float():
        weight = scene.log_intensity(sources, one).double() + sensitivity(sources, one).double().log()
        found.append((weight.logsumexp(0) + regions.log_volume).sum())
    return torch.stack(found) - expected - len(regions.low) * torch.tensor(float(draws)).log()
