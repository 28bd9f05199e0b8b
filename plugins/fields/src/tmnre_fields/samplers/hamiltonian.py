"""Hamiltonian Monte Carlo (Neal 2011) in coordinates t of z = R t that are nearly white for a Gaussian posterior.

R R^T = (P^-1 + gain)^-1 is diagonal in modes (`tmnre_fields.posterior`), so bright and faint pixels remain to be
explored but no wavenumber is stiff.  The step length is adapted per chain by dual averaging (Hoffman & Gelman 2014) and
jittered; with one leapfrog step it is the Metropolis-adjusted Langevin algorithm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from tmnre_fields.posterior import Posterior


@dataclass(frozen=True)
class Chain:
    """draws (S, N, ...) of what was kept; acceptance (N,); step (N,); gradients per chain, warm-up included."""

    draws: Tensor
    acceptance: Tensor
    step: Tensor
    evaluations: int
    last: Tensor
    """the last z (N, C, *mode_shape)"""


def hamiltonian(
    log_likelihood: Callable[[Tensor], Tensor],
    metric: Posterior,
    start: Tensor,
    generator: torch.Generator,
    *,
    draws: int,
    warmup: int,
    leaps: int = 12,
    target: float = 0.8,
    step: float = 0.15,
    keep: Callable[[Tensor], Tensor] = lambda z: z,
    progress: Callable[..., tqdm] | None = None,
) -> Chain:
    """Chains of log_likelihood(z) (N,) under the prior N(0, P) of `metric`, from start (N, C, *mode_shape).

    metric : its power is the prior, its information sets R; any choice is exact, a good one is quick.
    keep : what is stored of z (N, C, *mode_shape).
    """
    sky, power = metric.information.response.sky, metric.power
    kind, n = start.real.dtype, len(start)
    along = (-1, *(1,) * (start.ndim - 1))
    weight = sky.weights(start.real)

    def log_p(t: Tensor) -> Tensor:
        z = metric.coloured(t)
        return log_likelihood(z) - 0.5 * sky.inner(z, z / power)

    def gradient(t: Tensor) -> tuple[Tensor, Tensor]:
        t = t.detach().requires_grad_()
        with torch.enable_grad():
            value = log_p(t)
            (g,) = torch.autograd.grad(value.sum(), t)
        # torch counts half-plane modes once, the product of modes counts them w times
        return value.detach(), g / weight

    t = _uncoloured(metric, start)
    value, g = gradient(t)
    log_step = torch.full((n,), step, dtype=kind).log()
    mu, average, bias = log_step + 2.3, torch.zeros(n, dtype=kind), torch.zeros(n, dtype=kind)
    kept, accepted = [], torch.zeros(n, dtype=kind)
    steps = range(warmup + draws)
    for i in progress(steps, desc="hmc", unit="step") if progress else steps:
        epsilon = (log_step.exp() * (0.8 + 0.4 * torch.rand(n, generator=generator, dtype=kind))).view(along)
        momentum = sky.white((n, start.shape[1]), generator, kind)
        energy = value - 0.5 * sky.inner(momentum, momentum)
        new, p = t, momentum + 0.5 * epsilon * g
        for leap in range(leaps):
            new = new + epsilon * p
            new_value, new_g = gradient(new)
            p = p + (epsilon if leap < leaps - 1 else 0.5 * epsilon) * new_g
        change = new_value - 0.5 * sky.inner(p, p) - energy
        probability = torch.where(torch.isfinite(change), change, -torch.inf).clamp_max(0).exp()
        yes = torch.rand(n, generator=generator, dtype=kind) < probability
        t = torch.where(yes.view(along), new, t)
        g = torch.where(yes.view(along), new_g, g)
        value = torch.where(yes, new_value, value)
        if i < warmup:
            # constants of Hoffman & Gelman's algorithm 5
            m = i + 1
            bias = (1 - 1 / (m + 10)) * bias + (target - probability) / (m + 10)
            log_step = mu - m**0.5 / 0.05 * bias
            average = m**-0.75 * log_step + (1 - m**-0.75) * average
            if i == warmup - 1:
                log_step = average
        else:
            accepted += probability / draws
            kept.append(keep(metric.coloured(t)))
    return Chain(torch.stack(kept), accepted, log_step.exp(), (warmup + draws) * leaps, metric.coloured(t))


def _uncoloured(metric: Posterior, z: Tensor) -> Tensor:
    """R^-1 z = R^T M z, with M = R^-T R^-1 solved for without forming it: R t = z has one component or a triangle."""
    root = metric.root
    if root.ndim == z.ndim:
        return z / root
    solved = torch.linalg.solve(root.movedim((1, 2), (-2, -1)).to(z), z.movedim(1, -1)[..., None])
    return solved[..., 0].movedim(-1, 1)
