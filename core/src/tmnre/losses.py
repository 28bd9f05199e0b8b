"""Losses of neural ratio estimation, pure functions of joint and marginal logits.

h is the network's estimate of log r = log p(z|x)/p(z).  Joint logits belong to the z that made x; marginal logits to
z of other simulations, independent of x.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def nre_a(joint: Tensor, marginal: Tensor) -> Tensor:
    """Binary classification (1903.04057): joint (N, M), marginal (N, K, M) -> loss (M,); optimum h = log r."""
    return F.softplus(-joint).mean(0) + F.softplus(marginal).mean((0, 1))


def nre_c(joint: Tensor, marginal: Tensor, gamma: float = 1.0) -> Tensor:
    """Contrastive estimation with an extra class "none of them" (2210.06170, eq. 11), which pins h to log r.

    joint (N, M), marginal (N, K, M) with K >= 1 -> loss (M,).  K = gamma = 1 is `nre_a` (up to the factor 1/2).
    """
    k = marginal.shape[1]
    # K candidates when x belongs to one of them: the true z and K - 1 others
    given = torch.logsumexp(torch.cat([joint[:, None], marginal[:, 1:]], dim=1), dim=1)
    none = torch.logsumexp(marginal, dim=1)
    log_k, log_gamma = math.log(k), math.log(gamma)
    among = log_gamma + joint - torch.logaddexp(torch.full_like(given, log_k), log_gamma + given)
    neither = log_k - torch.logaddexp(torch.full_like(none, log_k), log_gamma + none)
    return -(gamma * among.mean(0) + neither.mean(0)) / (1 + gamma)


def imbalance(joint: Tensor, marginal: Tensor) -> Tensor:
    """(E_joint sigma(h) + E_marginal sigma(h) - 1)^2 of joint (N, M) and marginal (N, K, M) logits -> (M,).

    Zero for the true ratio.  Added to a loss with a weight of about 100 it makes posteriors conservative: where data
    are too few, too wide rather than too narrow (2208.13624, eq. 7; for NRE-C 2304.10978).
    """
    return (joint.sigmoid().mean(0) + marginal.sigmoid().mean((0, 1)) - 1).square()


def contrasts(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Joint (B G, M) and marginal (B G, G - 1, M) logits from all pairings (B, G, G, M) of x (rows) and z in B
    groups."""
    g = logits.shape[1]
    rows = torch.arange(g, device=logits.device)
    others = (rows[:, None] + torch.arange(1, g, device=logits.device)) % g
    return logits[:, rows, rows].flatten(0, 1), logits[:, rows[:, None], others].flatten(0, 1)
