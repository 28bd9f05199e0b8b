"""Elliptical slice sampling (Murray, Adams & MacKay 2010) of a Gaussian prior under any likelihood; no gradients.

A step draws v from the prior and moves on the ellipse z cos(a) + v sin(a), from a random angle in a bracket that
shrinks to zero until the likelihood is above a level drawn under the present one.  With a hard constraint the
likelihood is 0 or 1, and a step ends at the first angle inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

from tmnre_fields.samplers.hamiltonian import Chain
from tmnre_fields.sky import Sky


def elliptical_slice(
    log_likelihood: Callable[[Tensor], Tensor],
    sky: Sky,
    power: Tensor,
    start: Tensor,
    generator: torch.Generator,
    *,
    draws: int,
    warmup: int = 0,
    keep: Callable[[Tensor], Tensor] = lambda z: z,
    progress: Callable[..., tqdm] | None = None,
) -> Chain:
    """Chains under the prior N(0, power) (N or 1, C, *mode_shape) from start (N, C, *mode_shape), inside a constraint.

    log_likelihood: modes (n, C, *mode_shape) of any chains -> (n,), a learned log ratio for example; for a hard
    constraint 0 inside and -inf outside.  `acceptance` of the chain is one over the evaluations a step needed.  Raises
    ValueError where a start is outside.
    """
    n, kind = len(start), start.real.dtype
    along = (-1, *(1,) * (start.ndim - 1))
    z, value = start, log_likelihood(start)
    if not torch.isfinite(value).all():
        raise ValueError(f"{int((~torch.isfinite(value)).sum())} of {n} chains start where the likelihood is zero")
    kept, needed, evaluations = [], torch.zeros(n, dtype=kind), 0
    steps = range(warmup + draws)
    for i in progress(steps, desc="ellipses", unit="step") if progress else steps:
        v = power.sqrt() * sky.white((n, start.shape[1]), generator, kind)
        level = value + torch.rand(n, generator=generator, dtype=kind).log()
        angle = 2 * math.pi * torch.rand(n, generator=generator, dtype=kind)
        low, high = angle - 2 * math.pi, angle.clone()
        waiting = torch.ones(n, dtype=torch.bool)
        new_z, new_value = z.clone(), value.clone()
        while waiting.any():
            rows = waiting.nonzero()[:, 0]
            a = angle[rows].view(along)
            tried = z[rows] * a.cos() + v[rows] * a.sin()
            found = log_likelihood(tried)
            needed[rows] += 1
            evaluations += 1
            inside = found > level[rows]
            new_z[rows[inside]], new_value[rows[inside]] = tried[inside], found[inside]
            waiting[rows[inside]] = False
            out = rows[~inside]
            below = angle[out] < 0
            low[out] = torch.where(below, angle[out], low[out])
            high[out] = torch.where(below, high[out], angle[out])
            width = high[out] - low[out]
            angle[out] = low[out] + width * torch.rand(len(out), generator=generator, dtype=kind)
        z, value = new_z, new_value
        if i >= warmup:
            kept.append(keep(z))
    return Chain(torch.stack(kept), (warmup + draws) / needed, torch.full((n,), float("nan")), evaluations, z)
