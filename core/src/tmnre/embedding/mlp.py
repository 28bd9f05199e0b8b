"""Residual multilayer perceptron: the core's default embedding."""

from __future__ import annotations

from torch import Tensor, nn

from tmnre.embedding.standardise import Standardise, flat
from tmnre.simulator import Tensors


class ResidualBlock(nn.Module):
    """Pre-norm residual block (N, F) -> (N, F)."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.LayerNorm(features), nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, features)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class ResidualMLP(nn.Module):
    """Standardised data, flattened, through residual blocks: the core's default embedding."""

    def __init__(self, x: Tensors, features: int = 128, blocks: int = 2) -> None:
        super().__init__()
        data = flat(x)
        self.layers = nn.Sequential(
            Standardise(data),
            nn.Linear(data.shape[1], features),
            *(ResidualBlock(features, 2 * features) for _ in range(blocks)),
            nn.LayerNorm(features),
        )

    def forward(self, x: Tensors) -> Tensor:
        return self.layers(flat(x))
