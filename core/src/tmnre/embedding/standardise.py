"""Data as one matrix, and its normalisation: buffers fitted once to a batch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmnre.simulator import Tensors


def flat(x: Tensors) -> Tensor:
    """All arrays of x as one real matrix (N, P), in the order of the names; complex values as pairs."""
    parts = [torch.view_as_real(x[k]) if x[k].is_complex() else x[k] for k in sorted(x)]
    return torch.cat([part.reshape(len(part), -1).float() for part in parts], dim=1)


class Standardise(nn.Module):
    """Subtract mean and divide by standard deviation per column; both are buffers, fitted to a batch (N, P)."""

    mean: Tensor
    std: Tensor

    def __init__(self, batch: Tensor) -> None:
        super().__init__()
        mean, std = batch.mean(0), batch.std(0)
        self.register_buffer("mean", mean)
        # a column that does not vary carries nothing; leave its scale alone
        self.register_buffer("std", torch.where(std > 1e-6 * mean.abs() + 1e-30, std, torch.ones_like(std)))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Whiten(nn.Module):
    """The `most` leading principal components of a batch (N, P), each with unit variance; buffers, fitted once.

    Columns that vary together become one input, where `Standardise` leaves as many copies.  Components with less than
    `floor` of the mean column's variance are zero, and so are those beyond the rows: the shape does not depend on the
    values.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, batch: Tensor, most: int, floor: float = 1e-3) -> None:
        super().__init__()
        (rows, columns), mean = batch.shape, batch.mean(0)
        centred = (batch - mean).double() / math.sqrt(rows)
        if rows < columns:  # the smaller of two matrices that have the same eigenvalues
            variance, left = torch.linalg.eigh(centred @ centred.T)
            axes = centred.T @ (left * variance.clamp_min(1e-300).rsqrt())
        else:
            variance, axes = torch.linalg.eigh(centred.T @ centred)
        kept = variance > floor * centred.square().sum(0).mean()
        matrix = (axes * torch.where(kept, variance.clamp_min(1e-300).rsqrt(), 0.0)).flip(1)[:, :most]
        self.register_buffer("mean", mean)
        self.register_buffer("matrix", F.pad(matrix, (0, min(most, columns) - matrix.shape[1])).to(batch.dtype))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) @ self.matrix
