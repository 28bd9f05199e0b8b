"""Linear compression: data projected on the components that hold nearly all power of noise-free signals.

With white noise n and a signal s = B^T a in the span of orthonormal rows B (R, P), the likelihood of data d = s + n
depends on d through B d alone: the R coefficients lose nothing, and their noise is white again.  Signals of a narrow
region span few components; where, say, an arrival time is wide they span many, and what is left out is lost.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmnre.embedding.mlp import ResidualMLP
from tmnre.embedding.standardise import flat
from tmnre.simulator import Tensors


def signal_basis(signals: Tensor, *, most: int, lost: float = 1e-4) -> Tensor:
    """Orthonormal rows (R, P), R = min(most, P), of the dtype of the signals (S, P), real or complex.

    The leading right singular vectors, by subspace iteration (Halko et al. 2011, 0909.4061): as few as leave out no
    more than the fraction `lost` of the summed power, at most `most`.  Rows beyond these are zero, so that the shape
    does not depend on the signals.  Signals are not centred: their power, in whitened units the squared
    signal-to-noise ratio, is what counts.
    """
    precise = signals.to(torch.complex128 if signals.is_complex() else torch.float64)
    rows = min(most, signals.shape[1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # a few more than asked for, so that the last ones asked for converge too
        _, singular, vectors = torch.svd_lowrank(precise, q=min(rows + 16, *signals.shape), niter=2)
    # below the rounding of single-precision signals, 6e-8 in amplitude, there is no signal
    total = precise.abs().square().sum()
    allowed = max(lost, 1e-13) * total
    left_out = total - F.pad(singular.square().cumsum(0), (1, 0))  # by all but k components
    kept = min(rows, int((left_out > allowed).sum()))
    basis = signals.new_zeros(rows, signals.shape[1])
    basis[:kept] = vectors.mH[:kept].to(signals.dtype)
    return basis


class LinearCompression(nn.Module):
    """Coefficients (N, R) of data on the `signal_basis` of noise-free signals; complex values enter as pairs.

    No parameters.  Data and signals are first divided by the noise's standard deviation; independent noise then has
    unit variance in the coefficients as well.

    `left_out` is the fraction of the signals' power that was lost.  Raises ValueError where signals or sd do not fit x.

    Parameters
    ----------
    x : data {"name": (N, ...)}
    signals : noise-free signals of the same form, {"name": (S, ...)}
    sd : {"name": array that broadcasts to (...)}, of each part where data are complex; None: the same everywhere
    most, lost : at most so many components, fewer if they leave out the fraction `lost` of the power or less; the
        coefficients of others are zero, R = min(most, P)
    """

    sd: Tensor
    basis: Tensor
    left_out: Tensor

    def __init__(
        self, x: Tensors, signals: Tensors, *, sd: Tensors | None = None, most: int = 64, lost: float = 1e-4
    ) -> None:
        super().__init__()
        form, given = (
            {
                name: (tuple(array.shape[1:]), "complex" if array.is_complex() else "real")
                for name, array in part.items()
            }
            for part in (x, signals)
        )
        if form != given:
            raise ValueError(f"signals must have the form of x behind the batch axis, {form}, got {given}")
        self.register_buffer("sd", _flat_sd(x, sd))
        white = flat(signals) / self.sd
        self.register_buffer("basis", signal_basis(white, most=most, lost=lost))
        remainder = white - white @ self.basis.T @ self.basis
        self.register_buffer("left_out", remainder.square().sum() / white.square().sum().clamp_min(1e-30))

    def compress(self, data: Tensor) -> Tensor:
        """Coefficients (N, R) of data (N, P), `flat` arrays."""
        # half precision would be noise of its own where the signal-to-noise ratio is above a hundred
        with torch.autocast(data.device.type, enabled=False):
            return (data / self.sd) @ self.basis.T

    def expand(self, coefficients: Tensor) -> Tensor:
        """Data (N, P) with coefficients (N, R): what compression has kept of them."""
        with torch.autocast(coefficients.device.type, enabled=False):
            return coefficients @ self.basis * self.sd

    def forward(self, x: Tensors) -> Tensor:
        return self.compress(flat(x))


class CompressedMLP(nn.Module):
    """Features (N, F) of the coefficients of a `LinearCompression` through a `ResidualMLP`."""

    def __init__(
        self,
        x: Tensors,
        signals: Tensors,
        *,
        sd: Tensors | None = None,
        most: int = 64,
        lost: float = 1e-4,
        features: int = 128,
        blocks: int = 2,
    ) -> None:
        super().__init__()
        self.compression = LinearCompression(x, signals, sd=sd, most=most, lost=lost)
        self.network = ResidualMLP({"coefficients": self.compression(x)}, features, blocks)

    def forward(self, x: Tensors) -> Tensor:
        return self.network({"coefficients": self.compression(x)})


def _flat_sd(x: Tensors, sd: Tensors | None) -> Tensor:
    """The noise's standard deviation (1, P) in the order of `flat`."""
    if sd is None:
        return torch.ones_like(flat(x)[:1])
    if sd.keys() != x.keys():
        raise ValueError(f"sd must name the arrays of x, {sorted(x)}, got {sorted(sd)}")
    parts = {}
    for name, array in x.items():
        each = torch.as_tensor(sd[name], dtype=torch.float32, device=array.device).expand(1, *array.shape[1:])
        parts[name] = torch.complex(each, each) if array.is_complex() else each
    scale = flat(parts)
    if not (scale > 0).all():
        raise ValueError("sd must be positive everywhere; leave data without a signal's information out of x")
    return scale
