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
    """Binary classification (1903.04057): joint (M, ...), marginal (M, ..., K) -> loss (M,); optimum h = log r."""
    return F.softplus(-joint).flatten(1).mean(1) + F.softplus(marginal).flatten(1).mean(1)


def nre_c(joint: Tensor, marginal: Tensor, gamma: float = 1.0) -> Tensor:
    """Contrastive estimation with an extra class "none of them" (2210.06170, eq. 11), which pins h to log r.

    joint (M, ...), marginal (M, ..., K) with K >= 1 -> loss (M,).  K = gamma = 1 is `nre_a` (up to the factor 1/2).
    """
    k = marginal.shape[-1]
    others = torch.logsumexp(marginal[..., 1:], dim=-1)
    # K candidates when x belongs to one of them: the true z and K - 1 others
    given, none = torch.logaddexp(joint, others), torch.logaddexp(marginal[..., 0], others)
    log_k, log_gamma = math.log(k), math.log(gamma)
    among = log_gamma + joint - torch.logaddexp(torch.full_like(given, log_k), log_gamma + given)
    neither = log_k - torch.logaddexp(torch.full_like(none, log_k), log_gamma + none)
    return -(gamma * among.flatten(1).mean(1) + neither.flatten(1).mean(1)) / (1 + gamma)


def imbalance(joint: Tensor, marginal: Tensor) -> Tensor:
    """(E_joint sigma(h) + E_marginal sigma(h) - 1)^2 of joint (M, ...) and marginal (M, ..., K) logits -> (M,).

    Zero for the true ratio.  Added to a loss with a weight of about 100 it makes posteriors conservative: where data
    are too few, too wide rather than too narrow (2208.13624, eq. 7; for NRE-C 2304.10978).
    """
    return (joint.sigmoid().flatten(1).mean(1) + marginal.sigmoid().flatten(1).mean(1) - 1).square()


def contrasts(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Joint (..., G) and marginal (..., G, G - 1) logits from all pairings (..., G, G) of x (rows) and z (columns).

    What lies off the diagonal is cut out without an index: after its first element a matrix is G - 1 runs of G such
    elements, each followed by one of the diagonal.
    """
    g = logits.shape[-1]
    runs = logits.flatten(-2)[..., 1:].unflatten(-1, (g - 1, g + 1))[..., :-1]
    return logits.diagonal(dim1=-2, dim2=-1), runs.flatten(-2).unflatten(-1, (g, g - 1))
