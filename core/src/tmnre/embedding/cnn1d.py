"""Residual 1-d convolutional network for series."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from tmnre.embedding.convolution import ConvolutionBlock, PooledFeatures, StandardiseChannels, channels
from tmnre.simulator import Tensors


class CNN1d(nn.Module):
    """Features (N, F) of series {"name": (N, T) or (N, C, T)}; arrays of one length are channels of one network.

    The first stage shortens the series by four, each further one by two, and widens it to the next of `widths`; the
    last is pooled (`pool`), beside a linear map of the whole series.

    names : the arrays to read; None: all
    """

    def __init__(
        self,
        x: Tensors,
        *,
        features: int = 128,
        widths: Sequence[int] = (16, 32, 64),
        blocks: int = 1,
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.names = names
        series = channels(x, 1, names)
        self.standardise = StandardiseChannels(series)
        stages: list[nn.Module] = []
        for before, after in zip((series.shape[1], *widths), widths, strict=False):
            # the long series at the start cost most: a wide kernel and a stride of four leave them at once
            size, stride = (3, 2) if stages else (9, 4)
            stages += [nn.Conv1d(before, after, size, stride=stride, padding=size // 2), ConvolutionBlock(after, 1)]
        self.stages = nn.Sequential(*stages)
        self.out = PooledFeatures(series, widths[-1], features, blocks)

    def forward(self, x: Tensors) -> Tensor:
        series = channels(x, 1, self.names)
        return self.out(series, self.stages(self.standardise(series)))
