"""What convolutional embeddings share: arrays as channels, the residual block, pooling beside a linear map.

Norms stand inside the residual branches only.  In the stream they would divide out the amplitude, often a parameter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tmnre.embedding.mlp import ResidualBlock
from tmnre.embedding.standardise import Standardise
from tmnre.simulator import Tensors

AXES = {1: "T", 2: "H, W"}


def channels(x: Tensors, axes: int, names: Sequence[str] | None = None) -> Tensor:
    """Arrays of x as channels of one real tensor (N, C, T) or (N, C, H, W), the last `axes` of them the grid.

    Each is (N, *grid) or (N, C, *grid); complex values become two channels.  Without `names` all arrays, in the
    order of their names.  Raises ValueError if an array has another form or the grids differ.
    """
    parts = []
    for name in sorted(x) if names is None else names:
        array = x[name]
        if array.ndim not in (axes + 1, axes + 2):
            raise ValueError(
                f"{name!r} must have shape (N, {AXES[axes]}) or (N, C, {AXES[axes]}), got {tuple(array.shape)}; "
                f"`names` chooses arrays of {sorted(x)}"
            )
        array = array[:, None] if array.ndim == axes + 1 else array
        if array.is_complex():
            array = torch.view_as_real(array).movedim(-1, 2).flatten(1, 2)
        parts.append(array.float())
    if len({part.shape[2:] for part in parts}) != 1:
        shapes = {name: tuple(array.shape) for name, array in x.items()}
        raise ValueError(
            f"arrays must agree in ({AXES[axes]}) to be channels of one network, got {shapes}; set `names`"
        )
    return torch.cat(parts, dim=1)


class StandardiseChannels(Standardise):
    """`Standardise` with one mean and scale per channel of maps (N, C, ...): it commutes with translations."""

    def __init__(self, maps: Tensor) -> None:
        super().__init__(maps.movedim(1, -1).flatten(0, -2))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ConvolutionBlock(nn.Module):
    """Pre-activation residual block on maps (N, C, ...) with one or two grid axes: norm, GELU, convolution."""

    def __init__(self, channels: int, axes: int) -> None:
        super().__init__()
        convolution = {1: nn.Conv1d, 2: nn.Conv2d}[axes]
        self.body = nn.Sequential(nn.GroupNorm(1, channels), nn.GELU(), convolution(channels, channels, 3, padding=1))

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.body(maps)


def pool(maps: Tensor) -> Tensor:
    """Mean, maximum and place of every channel: maps (N, C, *grid) -> (N, (2 + axes) C) float32.

    The place is the mean position, -1 to 1 along each axis, with the softmax of the channel as weight (spatial soft
    argmax, Finn et al. 2016, 1509.06113): the mean and the maximum alone do not say where.
    """
    centres = [(2 * torch.arange(size, device=maps.device) + 1) / size - 1 for size in maps.shape[2:]]
    places = torch.stack(torch.meshgrid(*centres, indexing="ij"), dim=-1).flatten(0, -2)
    with torch.autocast(maps.device.type, enabled=False):
        values = maps.flatten(2).float()
        place = torch.softmax(values, dim=2) @ places
        return torch.cat([values.mean(2), values.amax(2), place.transpose(1, 2).flatten(1)], dim=1)


class PooledFeatures(nn.Module):
    """Features (N, F) of pooled maps beside a linear map of the network's inputs (N, C, *grid), then residual blocks.

    Where a region is so small that data respond linearly, the linear map is all there is to learn, and quick to learn.
    """

    def __init__(self, inputs: Tensor, channels: int, features: int, blocks: int) -> None:
        super().__init__()
        self.linear = nn.Sequential(Standardise(inputs.flatten(1)), nn.Linear(inputs[0].numel(), features, bias=False))
        self.pooled = nn.Linear(inputs.ndim * channels, features)  # mean, maximum, and an axis each
        self.out = nn.Sequential(
            *(ResidualBlock(features, 2 * features) for _ in range(blocks)), nn.LayerNorm(features)
        )

    def forward(self, inputs: Tensor, maps: Tensor) -> Tensor:
        return self.out(self.linear(inputs.flatten(1)) + self.pooled(pool(maps)))
