"""Conjugate gradients for a batch of systems, and log determinants from the coefficients they leave.

For K t = r the coefficients of n iterations make a tridiagonal matrix T whose eigenvalues and first components of
eigenvectors are a Gauss quadrature of the spectral measure of K in r (Golub & Meurant 2010, ch. 6):

    <r, log(K) r> = |r|^2 e_1^T log(T) e_1.

With E <r, a> <r, b> = <a, b> its expectation is log det K (Hutchinson 1990; Ubaru, Chen & Saad 2017).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Solution:
    """t (N, ...), and what is left of the iterations.

    alpha, beta : (N, J) step lengths and ratios of residuals; alpha is 1 and beta 0 after a system has converged.
    residual : (N,) |r - K t| / |r|.
    iterations : how many there were.
    """

    t: Tensor
    alpha: Tensor
    beta: Tensor
    residual: Tensor
    iterations: int

    def rows(self, rows: slice) -> Solution:
        """Some of the systems."""
        parts = (part[rows] for part in (self.t, self.alpha, self.beta, self.residual))
        return Solution(*parts, self.iterations)

    def quadratic_log(self, norm: Tensor) -> Tensor:
        """<r, log(K) r> (N,), with norm = <r, r>."""
        alpha, beta = self.alpha.double(), self.beta.double()
        before = torch.cat([torch.zeros_like(beta[:, :1]), beta[:, :-1] / alpha[:, :-1]], 1)
        off = (beta[:, :-1].sqrt() / alpha[:, :-1]) if beta.shape[1] > 1 else beta[:, :0]
        matrix = torch.diag_embed(1 / alpha + before)
        matrix = matrix + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
        values, vectors = torch.linalg.eigh(matrix)
        weights = vectors[:, 0, :].square()
        return (norm.double() * (weights * values.clamp_min(1e-12).log()).sum(1)).to(norm.dtype)


def solve(
    k: Callable[[Tensor], Tensor],
    right: Tensor,
    inner: Callable[[Tensor, Tensor], Tensor],
    *,
    tolerance: float,
    iterations: int,
) -> Solution:
    """t with k(t) = right for a batch (N, ...), `k` positive in the product `inner`; from t = 0.

    Stops when every residual is below `tolerance` of its right-hand side, or after `iterations`.
    """

    def along(values: Tensor) -> Tensor:
        return values.reshape(-1, *(1,) * (right.ndim - 1))

    t, residual, direction = torch.zeros_like(right), right, right
    start = square = inner(residual, residual)
    target = tolerance**2 * start
    alphas, betas = [], []
    for _ in range(iterations):
        active = square > target
        if not active.any():
            break
        moved = k(direction)
        alpha = torch.where(active, square / inner(direction, moved).clamp_min(1e-30), torch.zeros_like(square))
        t = t + along(alpha) * direction
        residual = residual - along(alpha) * moved
        new = inner(residual, residual)
        beta = torch.where(active, new / square.clamp_min(1e-30), torch.zeros_like(square))
        direction = residual + along(beta) * direction
        square = torch.where(active, new, square)
        alphas.append(torch.where(active, alpha, torch.ones_like(alpha)))
        # a converged system's matrix ends there: nothing couples it to the rows of ones that follow
        betas.append(torch.where(active & (new > target), beta, torch.zeros_like(beta)))
    if not alphas:
        alphas, betas = [torch.ones_like(start)], [torch.zeros_like(start)]
    return Solution(
        t, torch.stack(alphas, 1), torch.stack(betas, 1), (square / start.clamp_min(1e-30)).sqrt(), len(alphas)
    )
