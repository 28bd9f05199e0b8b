"""How many independent draws a chain is worth: Geyer's (1992) initial monotone sequence over several chains.

As in Stan (Vehtari et al. 2021, eq. 10): autocorrelations combine the chains' own with their disagreement, so chains
that have not mixed are worth little.
"""

from __future__ import annotations

import torch
from torch import Tensor


def effective_samples(draws: Tensor) -> Tensor:
    """(Q,) for draws (S, N, Q) of Q quantities in N chains of S draws."""
    s, n, _ = draws.shape
    x = draws.double()
    centred = x - x.mean(0)
    f = torch.fft.rfft(centred, 2 * s, dim=0)
    covariance = torch.fft.irfft(f.real.square() + f.imag.square(), 2 * s, dim=0)[:s] / s
    within = (covariance[0] * s / (s - 1)).mean(0)
    between = x.mean(0).var(0) if n > 1 else torch.zeros_like(within)
    total = within * (s - 1) / s + between
    rho = 1 - (within - covariance.mean(1)) / total
    rho[0] = 1
    pairs = rho[: s // 2 * 2].unflatten(0, (-1, 2)).sum(1)
    # stop at the first negative pair, and never rise
    positive = torch.cumprod((pairs > 0).double(), 0)
    pairs = torch.cummin(pairs, 0).values * positive
    tau = (2 * pairs.sum(0) - 1).clamp_min(1 / torch.log10(torch.tensor(float(s * n))))
    return s * n / tau
