"""Embeddings of lens images: convolutions for whole images, a perceptron for what is left of them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmnre import ResidualBlock, ResidualMLP, Standardise

PIXELS = 51
"""pixels a side, at most, of the images that convolutions see"""
RINGS, ORDER = 20, 5
"""of `multipoles`"""


def lens_network(x: dict[str, Tensor], *, noise: float) -> nn.Module:
    """The network for what the simulator shows of this region; noise: typical standard deviation of a pixel."""
    return ImageNet(x, noise) if "image" in x and x["image"].ndim == 3 else ResidualMLP(x)


class ImageNet(nn.Module):
    """Features (N, F) of whole images {"image": (N, H, W)}.

    Brightness varies by a factor of a thousand over a wide prior, so pixels enter as inverse hyperbolic sines in units
    of the noise.  The convolutions see arcs wherever they are; the multipoles of rings beside them tell radius,
    position and quadrupole of an almost circular lens from few numbers, where a linear map of all pixels would learn
    the simulations by heart.  Images of more than `PIXELS` a side are seen in blocks of pixels: what a wide region has
    to tell is coarse.
    """

    def __init__(self, x: dict[str, Tensor], noise: float, features: int = 128, channels: int = 32) -> None:
        super().__init__()
        self.noise = noise
        self.block = math.ceil(max(x["image"].shape[1:]) / PIXELS)
        image = self._scaled(x["image"])
        self.standardise = Standardise(image.flatten(1))
        self.register_buffer("multipoles", multipoles(*image.shape[1:]))
        self.standardise_multipoles = Standardise(image.flatten(1) @ self.multipoles.T)
        # a first layer of stride 4 keeps the large maps, which cost most on a CPU, out of the network
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, channels, 8, stride=4, padding=2),
            nn.GELU(),
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.LazyLinear(features),
        )
        self.linear = nn.Linear(len(self.multipoles), features)
        self.blocks = nn.Sequential(ResidualBlock(features, 2 * features), ResidualBlock(features, 2 * features))
        self.out = nn.LayerNorm(features)
        self.convolutions(image[:2, None])

    def _scaled(self, image: Tensor) -> Tensor:
        if self.block > 1:  # sums over a block, in units of their noise
            image = F.avg_pool2d(image[:, None], self.block, ceil_mode=True)[:, 0] * self.block
        return torch.asinh(image / self.noise)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        image = self._scaled(x["image"])
        pixels = self.standardise(image.flatten(1)).view(image.shape)
        rings = self.standardise_multipoles(image.flatten(1) @ self.multipoles.T)
        return self.out(self.blocks(self.linear(rings) + self.convolutions(pixels[:, None])))


def multipoles(ny: int, nx: int) -> Tensor:
    """Rows (M, ny nx) of unit length: cos and sin of m phi for m up to ORDER, on RINGS rings about the middle.

    Rings are triangles in the radius that overlap by half, up to the nearer edge of the image.
    """
    y, x = (torch.arange(n) - (n - 1) / 2 for n in (ny, nx))
    r, phi = torch.hypot(x, y[:, None]).flatten(), torch.atan2(y[:, None], x).flatten()
    step = min(ny, nx) / 2 / RINGS
    middles = step * (torch.arange(RINGS) + 0.5)
    rings = (1 - (r - middles[:, None]).abs() / step).clamp_min(0)
    m = torch.arange(ORDER + 1)[:, None]
    waves = torch.cat([torch.cos(m * phi), torch.sin(m[1:] * phi)])
    rows = (rings[:, None] * waves).flatten(0, 1)
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-6)
