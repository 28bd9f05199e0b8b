"""Embedding of count maps: histograms of counts beside a small convolutional network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tmnre import ResidualMLP, Standardise

THRESHOLDS = (1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 22, 30, 40, 60, 100, 200, 500, 1000, 5000)
"""counts at which the histograms are cut: every integer where faint sources are, few where only bright ones are"""


class CountsNet(nn.Module):
    """Features (N, F) of count maps {"counts": (N, n, n)}.

    Two histograms, of pixels and of sums over 3 x 3 pixels (about the point spread function), hold what the fluxes of
    sources do to the statistics of counts; the convolutions on ln(1 + counts) see where sources are.
    """

    bin_of: Tensor

    def __init__(self, x: dict[str, Tensor], features: int = 128, channels: int = 16) -> None:
        super().__init__()
        counts = x["counts"]
        self.bins = len(THRESHOLDS) + 1
        table = torch.bucketize(torch.arange(THRESHOLDS[-1] + 1), torch.tensor(THRESHOLDS), right=True)
        self.register_buffer("bin_of", table)
        self.standardise = Standardise(torch.log1p(counts).flatten()[:, None])
        self.histograms = ResidualMLP({"histograms": self.binned(counts)}, features, 1)
        # a first layer of stride 4 keeps the large maps, which cost most on a CPU, out of the network
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, channels, 6, stride=4, padding=1),
            nn.GELU(),
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(2 * channels, 2 * channels, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.LazyLinear(features),
        )
        self.out = nn.LayerNorm(features)
        self.convolutions(counts[:2, None])

    def binned(self, counts: Tensor) -> Tensor:
        """Square roots of both histograms (N, 2 (T + 1)): Poisson numbers then scatter the same in every bin."""
        neighbours = 9 * nn.functional.avg_pool2d(counts[:, None], 3, stride=1)[:, 0]
        parts = []
        for values in (counts.flatten(1), neighbours.flatten(1)):
            # counts are whole numbers: a table of bins and one bincount over all maps is ten times quicker than sorting
            bins = self.bin_of[values.round().clamp(max=len(self.bin_of) - 1).long()]
            place = bins + self.bins * torch.arange(len(values), device=values.device)[:, None]
            parts.append(torch.bincount(place.flatten(), minlength=self.bins * len(values)).view(len(values), -1))
        return torch.cat(parts, dim=1).to(counts.dtype).sqrt()

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        counts = x["counts"]
        image = self.standardise(torch.log1p(counts).flatten()[:, None]).view_as(counts)
        histograms = self.histograms({"histograms": self.binned(counts)})
        return self.out(histograms + self.convolutions(image[:, None]))
