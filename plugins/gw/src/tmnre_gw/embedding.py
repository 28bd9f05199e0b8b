"""Embedding networks for whitened strain: canonical phase on compressed coefficients, and a 1D CNN on time series."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmnre.embedding import ResidualBlock, Standardise, Whiten
from tmnre.simulator import Tensors


class CompressedNetwork(nn.Module):
    """Residual network on the coefficients of a linear compression (N, detectors, B) complex, and on matched filters.

    The phase of a binary's orbit turns all coefficients of a detector together.  Each detector is rotated by the
    phase of its first coefficient, and the phases are appended: nothing is lost, and the network need not learn the
    rotation.

    The filters are signals of the region.  A softmax of half their squared moduli is their normalised profile
    likelihood, so the sum of a learned vector per filter, weighted with it, starts out as a rough posterior mean of
    anything: in wide regions this learns several times faster than the coefficients alone.  The moduli are inputs as
    well, whitened: in a narrow region they all vary together, and as they are would drown the rest.
    """

    def __init__(
        self, x: Tensors, *, features: int = 384, blocks: int = 3, per_filter: int = 64, moduli: int = 256
    ) -> None:
        super().__init__()
        inputs = _canonical(x["strain"])
        channels, filters = x["filtered"].shape[1:]
        self.standardise = Standardise(inputs)
        self.whiten = Whiten(x["filtered"].flatten(1), moduli)
        self.sharpness = nn.Parameter(torch.full((channels, 1), 0.5))
        self.values = nn.Parameter(torch.randn(channels, filters, per_filter))
        self.layers = nn.Sequential(
            nn.Linear(inputs.shape[1] + self.whiten.matrix.shape[1] + channels * per_filter, features),
            *(_GatedBlock(features, 4 * features // 3) for _ in range(blocks)),
            nn.LayerNorm(features),
        )

    def forward(self, x: Tensors) -> Tensor:
        with torch.autocast(x["strain"].device.type, enabled=False):
            inputs = torch.cat(
                [self.standardise(_canonical(x["strain"])), self.whiten(x["filtered"].flatten(1))], dim=1
            )
            weights = torch.softmax(self.sharpness * x["filtered"] ** 2, dim=2)
        found = torch.einsum("nck,ckv->ncv", weights, self.values)
        return self.layers(torch.cat([inputs, found.flatten(1)], dim=1))


class _GatedBlock(nn.Module):
    """Pre-norm residual block whose hidden units are products of a linear map and a gate.

    How a coefficient depends on one parameter depends on the others (arrival time, mass): products say so directly.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.into = nn.Linear(features, 2 * hidden)
        self.out = nn.Linear(hidden, features)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.into(self.norm(x)).chunk(2, dim=-1)
        return x + self.out(value * F.gelu(gate))


def _canonical(strain: Tensor) -> Tensor:
    """Real inputs (N, ...): rotated coefficients, the phases taken out and their differences."""
    first = strain[..., :1]
    phase = first / first.abs().clamp_min(1e-12)
    parts = [strain * phase.conj(), phase, phase[:, 1:] * phase[:, :-1].conj()]
    return torch.cat([torch.view_as_real(part).flatten(1) for part in parts], dim=1)


class ConvolutionalNetwork(nn.Module):
    """1D CNN on analytic time series (N, detectors, T) complex: real and imaginary parts are channels.

    Strided residual stages halve the length and widen the channels, as the U-Net encoders of Peregrine (2304.02035).
    """

    def __init__(self, x: Tensors, *, channels: tuple[int, ...] = (32, 64, 128, 128, 128), features: int = 384) -> None:
        super().__init__()
        channels_in = 2 * x["strain"].shape[1]
        stages: list[nn.Module] = []
        for before, after in zip((channels_in, *channels), channels, strict=False):
            stages += [
                nn.Conv1d(before, after, 5, stride=2, padding=2),
                nn.GroupNorm(8, after),
                nn.GELU(),
                _ResidualConvolution(after),
            ]
        self.stages = nn.Sequential(*stages)
        with torch.no_grad():
            width = self.stages(self._channels(x["strain"][:2])).flatten(1).shape[1]
        self.out = nn.Sequential(
            nn.Linear(width, features), ResidualBlock(features, 2 * features), nn.LayerNorm(features)
        )

    @staticmethod
    def _channels(strain: Tensor) -> Tensor:
        return torch.view_as_real(strain).permute(0, 1, 3, 2).flatten(1, 2)

    def forward(self, x: Tensors) -> Tensor:
        return self.out(self.stages(self._channels(x["strain"])).flatten(1))


class _ResidualConvolution(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv1d(channels, channels, 3, padding=1), nn.GroupNorm(8, channels), nn.GELU()),
            nn.Conv1d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


NETWORKS = {"compressed": (CompressedNetwork, "svd"), "cnn": (ConvolutionalNetwork, "series")}
"""Network name -> (embedding, front end of the simulator that feeds it)"""
