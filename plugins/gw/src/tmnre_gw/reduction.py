"""Linear front ends: whitened strain in the band's basis (P complex numbers a detector) to what a network reads.

    svd     coefficients on the region's leading principal components; noise stays N(0, 1).  Beside them the moduli of
            matched filters, random signals of the region: while arrival times are wide, linear coefficients alone
            average to nothing
    series  analytic time series about the reference time, for a convolutional network
    none    no reduction

All are matrices, so signals go from the nodes to the network's input in one product per detector, and the noise is
drawn in the reduced space with its exact covariance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tmnre.simulator import Tensors

if TYPE_CHECKING:
    from tmnre_gw.simulator import BinaryBlackHole

FRONT_ENDS = ("svd", "series", "none")
LOST_SNR_SQUARED = 0.01
"""mean squared signal-to-noise ratio that the left-out components may hold"""
FILTERS = 512
"""matched filters beside the svd coefficients"""


def reduction_of(simulator: BinaryBlackHole, signals: Tensor) -> Tensors:
    """Arrays {"project", "matrix", and "filters" or "noise"} of the simulator's front end, from whitened signals (N,
    detectors, P)."""
    if simulator.front_end == "svd":
        project = principal_components(signals, simulator.components)
        filters = torch.einsum("ndp,dbp->ndb", signals[:FILTERS], project)
        filters = filters / torch.linalg.vector_norm(filters, dim=(1, 2), keepdim=True)
        extra = {"filters": filters.conj().resolve_conj()}
    elif simulator.front_end == "series":
        project, noise = time_series(simulator)
        extra = {"noise": noise}
    else:
        raise ValueError(f"front_end must be one of {FRONT_ENDS}, got {simulator.front_end!r}")
    return {"project": project, "matrix": torch.einsum("dbp,dpk->dbk", project, simulator._triangle), **extra}


def principal_components(signals: Tensor, most: int) -> Tensor:
    """Projection (detectors, B, P) on the leading components of each detector's signals; B the same for all.

    As many as leave less than LOST_SNR_SQUARED out on average, at most `most`.
    """
    vectors, needed = [], 1
    for detector in range(signals.shape[1]):
        y = signals[:, detector]
        covariance = (y.T @ y.conj()).to(torch.complex128) / len(y)
        values, basis = torch.linalg.eigh(covariance)
        left_out = torch.cumsum(values.clamp_min(0), 0).flip(0)  # by components k, k + 1, ...
        needed = max(needed, int((left_out > LOST_SNR_SQUARED).sum()))
        vectors.append(basis.flip(1).mH.to(torch.complex64))
    return torch.stack([v[: min(most, needed)] for v in vectors])


def time_series(simulator: BinaryBlackHole, before_s: float = 0.4, after_s: float = 0.1) -> tuple[Tensor, Tensor]:
    """Analytic series at a rate equal to the bandwidth, (detectors, T, P), and the Cholesky factor of its noise."""
    band = simulator.band
    f = band.frequencies_hz
    rate = 2 ** np.ceil(np.log2(f[-1] - f[0]))
    times = np.arange(-np.round(before_s * rate), np.round(after_s * rate)) / rate
    synthesis = np.exp(2j * np.pi * times[:, None] * f) / np.sqrt(len(f))
    project, noise = [], []
    for basis in simulator.whitening.basis:
        a = synthesis @ basis
        project.append(a)
        # what lies outside the basis is noise only; a ridge far below it keeps the factor positive definite
        noise.append(np.linalg.cholesky(a @ a.conj().T + 1e-6 * np.eye(len(a))))
    return tuple(torch.from_numpy(np.stack(part)).to(torch.complex64) for part in (project, noise))


def reduced_noise(signal: Tensor, reduction: Tensors, generator: torch.Generator) -> Tensor:
    """Noise complex64 beside a signal (N, detectors, B) of whitened data, through the reduction if it has a noise
    factor."""
    white = torch.view_as_complex(torch.randn(*signal.shape, 2, generator=generator, device=signal.device))
    if "noise" not in reduction:
        return white
    return torch.einsum("ndb,dcb->ndc", white, reduction["noise"])


def matched_filters(strain: Tensor, filters: Tensor) -> Tensor:
    """Moduli (N, detectors + 1, K) of the filters (K, detectors, B) on coefficients (N, detectors, B): each alone,
    and coherent."""
    each = torch.einsum("ndb,kdb->ndk", strain, filters)
    each = torch.cat([each, each.sum(1, keepdim=True)], dim=1)
    return (each.real**2 + each.imag**2).sqrt()  # abs() minds overflow and takes three times as long
