"""2-d U-Net: images to maps of the same size, and the encoder half alone to features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmnre.embedding.convolution import ConvolutionBlock, PooledFeatures, StandardiseChannels, channels
from tmnre.simulator import Tensors


class Encoder(nn.Module):
    """Standardised images (N, C, H, W) at every level, finest first: (N, widths[i], H / 2^i, W / 2^i).

    H and W are padded up to multiples of the coarsest pixel with zeros, the mean of the standardised image.
    """

    def __init__(self, images: Tensor, widths: Sequence[int]) -> None:
        super().__init__()
        self.standardise = StandardiseChannels(images)
        self.stem = nn.Conv2d(images.shape[1], widths[0], 3, padding=1)
        # none at the finest level, neither here nor on the U-Net's way up: it would cost as much as all others together
        self.blocks = nn.ModuleList(ConvolutionBlock(width, 2) for width in widths[1:])
        self.down = nn.ModuleList(
            nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in zip(widths, widths[1:], strict=False)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        multiple = 2 ** len(self.down)
        height, width = images.shape[2:]
        padded = F.pad(self.standardise(images), (0, -width % multiple, 0, -height % multiple))
        levels = [self.stem(padded.contiguous(memory_format=torch.channels_last))]
        for down, block in zip(self.down, self.blocks, strict=True):
            levels.append(block(down(levels[-1])))
        return levels


class UNet(nn.Module):
    """Maps (N, out_channels, H, W) of images {"name": (N, H, W) or (N, C, H, W)} of any size.

    After Ronneberger et al. (2015, 1505.04597); levels are added, not concatenated, to the upsampled ones (nearest
    neighbour), and blocks are residual: half the cost at the same widths.  `tmnre.embedding.pool(unet.encode(x)[-1])`
    are global features (N, 4 widths[-1]) of the same network.

    names : the arrays to read, which are channels of one network; None: all
    """

    def __init__(
        self,
        x: Tensors,
        *,
        out_channels: int = 1,
        widths: Sequence[int] = (8, 16, 32, 64),
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.names = names
        self.encoder = Encoder(channels(x, 2, names), widths)
        self.narrow = nn.ModuleList(
            nn.Conv2d(coarse, fine, 1) for fine, coarse in zip(widths, widths[1:], strict=False)
        )
        self.blocks = nn.ModuleList(ConvolutionBlock(w, 2) if i else nn.GELU() for i, w in enumerate(widths[:-1]))
        self.out = nn.Conv2d(widths[0], out_channels, 3, padding=1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs leave it out

    def encode(self, x: Tensors) -> list[Tensor]:
        """Maps at every level, finest first and padded: (N, widths[i], ...)."""
        return self.encoder(channels(x, 2, self.names))

    def forward(self, x: Tensors) -> Tensor:
        images = channels(x, 2, self.names)
        *levels, maps = self.encoder(images)
        for skip, narrow, block in reversed(list(zip(levels, self.narrow, self.blocks, strict=True))):
            # a 1 x 1 convolution and nearest upsampling commute; in this order the convolution costs a quarter
            maps = block(skip + F.interpolate(narrow(maps), scale_factor=2, mode="nearest"))
        return self.out(maps)[..., : images.shape[2], : images.shape[3]].float()


class UNetFeatures(nn.Module):
    """Features (N, F) of images {"name": (N, H, W) or (N, C, H, W)}: the U-Net's coarsest level, pooled (`pool`),
    beside a linear map of all pixels.

    names : the arrays to read, which are channels of one network; None: all
    """

    def __init__(
        self,
        x: Tensors,
        *,
        features: int = 128,
        widths: Sequence[int] = (8, 16, 32, 64),
        blocks: int = 1,
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.names = names
        images = channels(x, 2, names)
        self.encoder = Encoder(images, widths)
        self.out = PooledFeatures(images, widths[-1], features, blocks)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs leave it out

    def forward(self, x: Tensors) -> Tensor:
        images = channels(x, 2, self.names)
        return self.out(images, self.encoder(images)[-1])
