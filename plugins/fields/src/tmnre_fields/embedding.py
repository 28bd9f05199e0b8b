"""Embedding of fields: binned power spectra and one-point moments through a small network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tmnre import ResidualMLP
from tmnre.simulator import Tensors
from tmnre_fields import spectrum


class SpectrumNet(nn.Module):
    """Features (N, F) of a periodic statistically homogeneous field {"x": (N, n, n)}.

    Without `floor` the summaries are logarithms of the power in annuli: all there is to know of a Gaussian field in
    white noise, but for how modes differ within an annulus.  With it they are the same of x and of its logarithm, which
    undoes an exponential where x is above `floor`, the noise, and four moments of both.
    """

    annuli: Tensor

    def __init__(self, x: Tensors, features: int = 64, blocks: int = 2, floor: float | None = None) -> None:
        super().__init__()
        self.floor = floor
        _, matrix = spectrum.annuli(x["x"].shape[-1])
        # per mode relative to its typical power: a plain mean over an annulus would be that of its steep inner edge
        powers = [spectrum.measured_power(field).flatten(1) for field in self._views(x["x"])]
        typical = [power.clamp_min(1e-30).log().mean(0).exp() for power in powers]
        self.register_buffer("annuli", torch.stack([matrix.float() / power[:, None] for power in typical]))
        self.network = ResidualMLP({"summaries": self.summaries(x)}, features, blocks)

    def summaries(self, x: Tensors) -> Tensor:
        """Log power in annuli and moments (N, S)."""
        parts = []
        for field, annuli in zip(self._views(x["x"]), self.annuli, strict=True):
            power = spectrum.measured_power(field).flatten(1) @ annuli
            parts.append(power.clamp_min(1e-30).log())
            if self.floor is None:
                # the spectrum of a Gaussian field is sufficient; moments would only be noise to learn to ignore
                continue
            pixels = field.flatten(1)
            std, mean = torch.std_mean(pixels, dim=1, keepdim=True)
            standard = (pixels - mean) / std
            square = standard * standard
            skewness, kurtosis = (square * p for p in (standard, square))
            parts += [mean, std.log(), skewness.mean(1, keepdim=True), kurtosis.mean(1, keepdim=True).log()]
        return torch.cat(parts, dim=1)

    def read(self, summaries: Tensor) -> Tensor:
        """Features (N, F) from summaries (N, S)."""
        return self.network({"summaries": summaries})

    def _views(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x,) if self.floor is None else (x, _logarithm(x, self.floor))

    def forward(self, x: Tensors) -> Tensor:
        return self.read(self.summaries(x))


def _logarithm(x: Tensor, floor: float) -> Tensor:
    """ln(x / floor) above the floor, bent smoothly to an odd function below it, where noise makes x negative.

    That is asinh(x / 2 floor), written out because torch's asinh takes ten times as long; the clamp keeps values a
    hundred times below -floor, where the sum cancels, finite.
    """
    y = x / (2 * floor)
    return (y + torch.sqrt(y * y + 1)).clamp_min(1e-2).log()
