"""Embedding of an image's principal components, whatever their dynamic range."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tmnre import ResidualMLP


class ComponentsMLP(nn.Module):
    """Features (N, F) of coefficients {"image": (N, R)}, or of whole images, in units of the noise.

    In a narrow region data respond linearly and the coefficients are all that is needed.  In a wide one brightness
    varies by factors of a thousand: there the network sees inverse hyperbolic sines of the coefficients, their
    direction, and the logarithm of their length, which are of order one for all images.
    """

    def __init__(self, x: dict[str, Tensor], features: int = 128, blocks: int = 2) -> None:
        super().__init__()
        self.network = ResidualMLP({"x": _views(x["image"])}, features, blocks)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        return self.network({"x": _views(x["image"])})


def _views(image: Tensor) -> Tensor:
    c = image.flatten(1)
    squared = c.square().sum(1, keepdim=True)
    # coefficients of noise alone have unit variance each: below that there is no direction
    floor = squared + c.shape[1]
    return torch.cat([c, torch.asinh(c), c * torch.rsqrt(floor), 0.5 * torch.log(floor)], dim=1)
