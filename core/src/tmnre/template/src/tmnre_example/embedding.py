"""The network that reads counts: their variance is made the same everywhere, then a residual perceptron."""

from __future__ import annotations

from torch import Tensor, nn

from tmnre import ResidualMLP


class CountsNet(nn.Module):
    """Features (N, F) of {"counts": (N, B)}; made with a batch of data, from which it learns their scale."""

    def __init__(self, x: dict[str, Tensor], features: int = 64) -> None:
        super().__init__()
        self.network = ResidualMLP(_steady(x), features)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        return self.network(_steady(x))


def _steady(x: dict[str, Tensor]) -> dict[str, Tensor]:
    """2 sqrt(n + 3/8), whose scatter is 1 for a Poisson number n (Anscombe 1948)."""
    return {"counts": 2 * (x["counts"] + 0.375).sqrt()}
