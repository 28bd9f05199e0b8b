"""Proposals for one observation: its learned information, weakened until it only bounds where the truth may be.

A hard constraint chi2(z) = (z - mu)^T Q (z - mu) < c on what the data determine is a proposal that is flat in the
data's directions.  In many dimensions its draws all lie at the boundary, and it is as good as the tempered proposal

    p~(z) ~ p(z) exp(g b . z - g z^T Q z / 2)

whose g solves E_g[chi2] = c; that one is Gaussian, so it is drawn exactly and its effect on what is learned is known
exactly.  The threshold is given in units of what the posterior itself has, E_1[chi2] = tr(Q (P^-1 + Q)^-1), the number
of modes the data determine: c = 10 E_1 holds errors of three standard deviations in every one of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tmnre_fields.information import Information
from tmnre_fields.posterior import Posterior


@dataclass(frozen=True)
class Tempering:
    """A solved proposal."""

    g: float
    """the factor on the information"""
    reached: float
    """E_g[chi2] / E_1[chi2]; below the threshold only where even the prior is"""
    determined: float
    """E_1[chi2], the number of modes that the data determine"""


def excess(
    information: Information, power: Tensor, g: float, mean: Tensor, generator: torch.Generator, draws: int
) -> float:
    """E_g[(z - mean)^T Q (z - mean)] over draws of the proposal with this g."""
    tempered = Posterior(information * g, power)
    total = torch.cat(list(tempered.draws(draws, generator, tolerance=1e-3))) - mean
    response = information.response(total)
    return float(information.product(total, total, response, response).mean())


def solve(
    information: Information,
    power: Tensor,
    threshold: float,
    generator: torch.Generator,
    *,
    draws: int = 16,
    smallest: float = 1e-4,
    steps: int = 14,
) -> Tempering:
    """g such that E_g[chi2] = threshold E_1[chi2], by bisection in log g with the same random numbers at every g.

    information: of the observation, a batch of one.  Raises ValueError for a threshold below 1.
    """
    if threshold < 1:
        raise ValueError(f"the threshold must be at least 1, what the posterior itself has, got {threshold}")
    mean = Posterior(information, power).mean(tolerance=1e-4)
    state = generator.get_state()

    def at(g: float) -> float:
        generator.set_state(state)
        return excess(information, power, g, mean, generator, draws)

    determined = at(1.0)
    low, high = smallest, 1.0
    if at(low) <= threshold * determined:
        return Tempering(low, at(low) / determined, determined)
    for _ in range(steps):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if at(middle) > threshold * determined else (low, middle)
    g = (low * high) ** 0.5
    return Tempering(g, at(g) / determined, determined)
