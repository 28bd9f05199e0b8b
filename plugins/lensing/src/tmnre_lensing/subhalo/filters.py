"""Matched filters of subhaloes, with everything else about the lens marginalised to first order.

In a region so narrow that images respond linearly to lens and source, d = mu + J dtheta + s_k + n, and the log ratio of
a subhalo in bin k against none is

    s_k^T C^-1 (d - mu) - s_k^T C^-1 s_k / 2,        C = 1 + J Sigma J^T        (whitened pixels)

mu and J Sigma J^T are mean and covariance of the region's own images, the latter through its principal components;
s_k is the change that a subhalo makes to the image of the region's mean parameters.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tmnre.embedding import signal_basis
from tmnre_lensing.simulator import LensSimulator
from tmnre_lensing.subhalo.bins import NO_MASS, Bins

MOST = 200
AT_ONCE = 512


class Cleaning(nn.Module):
    """C^-1 (d - mu) of whitened pixels d (N, P); C^-1 = 1 - B^T diag(v / (1 + v)) B with components B of variance v."""

    def __init__(self, images: Tensor) -> None:
        """images (S, P): whitened, of lenses of the region without subhalo and without noise."""
        super().__init__()
        mean = images.double().mean(0)
        centred = images.double() - mean
        basis = signal_basis(centred, most=min(MOST, len(images) // 4), lost=1e-9)
        variance = (centred @ basis.T).square().mean(0)
        self.register_buffer("mean", mean.float())
        self.register_buffer("basis", basis.float())
        self.register_buffer("share", (variance / (1 + variance)).float())

    def forward(self, d: Tensor) -> Tensor:
        return self.solve(d - self.mean)

    def solve(self, r: Tensor) -> Tensor:
        """C^-1 r of (N, P)."""
        return r - (r @ self.basis.T * self.share) @ self.basis

    def undo(self, r: Tensor) -> Tensor:
        """C r of (N, P)."""
        return r + (r @ self.basis.T * (self.share / (1 - self.share))) @ self.basis


class Filters(nn.Module):
    """C^-1 s_k of every bin, and s_k^T C^-1 s_k."""

    def __init__(self, signals: Tensor, cleaning: Cleaning) -> None:
        """signals s_k (K - 1, P), whitened."""
        super().__init__()
        filters = torch.cat([cleaning.solve(part) for part in signals.split(AT_ONCE)])
        self.register_buffer("filters", filters)
        self.register_buffer("squared_snr", (filters * signals).sum(1))

    def forward(self, residual: Tensor) -> Tensor:
        """s_k^T C^-1 (d - mu) (N, K - 1) of residuals d - mu (N, P)."""
        return residual @ self.filters.T

    def expected(self, p: Tensor) -> Tensor:
        """C^-1 of the mean signal (N, P), of probabilities p (N, K - 1) of the bins."""
        return p @ self.filters


@torch.no_grad()
def signals(simulator: LensSimulator, theta: np.ndarray, subhalo: np.ndarray) -> Tensor:
    """Whitened changes s (K, P) of the image of theta (1, D) by subhaloes (K, 3)."""
    columns = simulator.prior.columns(("subhalo_x_arcsec", "subhalo_y_arcsec", "subhalo_log10_m200"))
    every = np.repeat(theta, len(subhalo) + 1, axis=0)
    every[1:, columns] = subhalo
    every[0, columns[2]] = NO_MASS
    parts = torch.from_numpy(every.astype(np.float32)).split(AT_ONCE)
    images = torch.cat([simulator.whitened(simulator.images(part)).float() for part in parts])
    return images[1:] - images[0]


def of_region(simulator: LensSimulator, theta: np.ndarray, images: Tensor, bins: Bins) -> tuple[Cleaning, Filters]:
    """Cleaning and filters of a region: theta (S, D) drawn in it, images (S, P) whitened, of them without subhalo."""
    cleaning = Cleaning(images)
    return cleaning, Filters(signals(simulator, theta.mean(0, keepdims=True), bins.at_centres()), cleaning)
