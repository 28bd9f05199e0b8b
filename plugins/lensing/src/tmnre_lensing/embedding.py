"""Embedding of images: a small convolutional network beside a linear map."""

from __future__ import annotations

from torch import Tensor, nn

from tmnre import ResidualBlock, Standardise


class ImageNet(nn.Module):
    """Features (N, F) of one image per simulation {"image": (N, H, W)}.

    Pixels are standardised over the region's simulations.  The convolutions see a wide region's arcs wherever they are;
    the linear map is what remains to be learned once the region is so small that the image responds linearly, and is
    quicker at it.  The residual blocks behind both learn what is not linear: the region's edges cut the posterior
    of correlated parameters.
    """

    def __init__(self, x: dict[str, Tensor], features: int = 128, channels: int = 32) -> None:
        super().__init__()
        image = x["image"]
        pixels = image[0].numel()
        self.standardise = Standardise(image.flatten(1))
        # a first layer of stride 4 keeps the large maps, which cost most on a CPU, out of the network
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, channels, 8, stride=4, padding=2),
            nn.GELU(),
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.LazyLinear(features),
        )
        self.linear = nn.Linear(pixels, features)
        self.blocks = nn.Sequential(ResidualBlock(features, 2 * features), ResidualBlock(features, 2 * features))
        self.out = nn.LayerNorm(features)
        self.convolutions(image[:2, None])

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        image = x["image"]
        flat = self.standardise(image.flatten(1))
        features = self.linear(flat) + self.convolutions(flat.view(image.shape)[:, None])
        return self.out(self.blocks(features))
