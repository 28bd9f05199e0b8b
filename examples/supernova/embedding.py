"""The network that reads a Hubble diagram: mean residuals in bins of redshift, then a residual perceptron."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tmnre import ResidualMLP


class HubbleNet(nn.Module):
    """Features (N, F) of {"magnitude": (N, n)} in order of redshift; alone each is mostly noise."""

    pool: Tensor

    def __init__(self, x: dict[str, Tensor], bins: int = 20, features: int = 64) -> None:
        super().__init__()
        n = x["magnitude"].shape[1]
        which = torch.arange(n) * bins // n
        self.register_buffer("pool", nn.functional.one_hot(which, bins).float() / torch.bincount(which, minlength=bins))
        self.network = ResidualMLP(self._binned(x), features)

    def _binned(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"mean": x["magnitude"] @ self.pool}

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        return self.network(self._binned(x))
