"""Ratios t_i(x) = -2 ln p(x | H0) / p(x | H_i) of many localised distortions at once, learned by classification.

Three steps, all of which see simulations of H0 only:

1. Matched filters.  Differences between distorted and plain data span a few directions D_i per distortion, and with
   the covariance C of the data, shrunk towards its diagonal (Schaefer & Strimmer 2005, target D), the whitened scores

       s_i = (D_i C^-1 D_i^T)^-1/2 D_i C^-1 (x - mean)

   hold all that Gaussian data have to say about a small distortion of that shape; correlated foregrounds, such as the
   scatter of a fitted signal, are projected out on the way.
2. Amplitudes.  a_i ~ N(0, a^2) with a such that the root mean square signal-to-noise ratio of each distortion is `snr`:
   the paper's self-calibration, in closed form.  Far smaller ones teach nothing, far larger ones are never mistaken.
3. A classifier on the scores.  One small network for all K distortions,

       t_i / 2 = f(s_i, s_i^2, q_i, q_i^2, level) + b_i + c_i |s_i|^2,

   where q_i = D_i (x - mean), unfiltered, tells of the level of the data around i, and `level`, the log mean square of
   the scores, of that of the noise.  It learns what the Gaussian form gets wrong.  Every step draws new distortions
   of one x each, of which only their own score is needed: the cost does not grow with K^2.

Filters and classifier learn from different simulations, since scores of the former's own are too small.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

DIRECTIONS, DIFFERENCES = 8, 16
"""most directions kept of one distortion, and distorted simulations from which they come"""
KEPT = 0.99
"""share of every distortion's power in the directions kept: one for a fixed profile, w for noise in w bins"""
STEPS, PAIRS, HIDDEN, RATE = 300, 2048, 32, 0.01
PROBES = 256
"""scores, at most, of which the noise level is the mean"""
PROBE_AMPLITUDE = 1e-3
AT_ONCE = 2**23
"""numbers in one intermediate array, which bounds the memory"""


class Distortion(Protocol):
    """K alternatives to the model; their effect is proportional to a small amplitude."""

    def __len__(self) -> int:
        """K."""

    def __call__(self, x: Tensor, which: Tensor, amplitude: Tensor, generator: torch.Generator) -> Tensor:
        """x (n, ...), every row distorted by one alternative, which (n,) of 0 ... K - 1, with amplitudes (n,)."""


class Ratios(nn.Module):
    """t (n, K) of data (n, ...), as a numpy array when called."""

    mean: Tensor
    sd: Tensor
    filters: Tensor

    def __init__(self, mean: Tensor, sd: Tensor, filters: Tensor, scale: float) -> None:
        """mean, sd (B,) of the data; filters (K, R + 1, B) of standardised data, those of q_i last."""
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("sd", sd)
        self.register_buffer("filters", filters)
        count, rows, _ = filters.shape
        self.scale = scale
        self.probes = torch.linspace(0, count - 1, min(count, PROBES)).round().long()
        self.bias, self.slope = (nn.Parameter(torch.zeros(count)) for _ in range(2))
        inputs = 2 * rows + 1
        self.hidden, self.direct, self.out = nn.Linear(inputs, HIDDEN), nn.Linear(inputs, 1), nn.Linear(HIDDEN, 1)

    def standardised(self, x: Tensor) -> Tensor:
        """(n, B), single precision, from x (n, ...)."""
        return ((x.flatten(1) - self.mean) / self.sd).float()

    def level(self, z: Tensor) -> Tensor:
        """Log mean square (n,) of the scores."""
        return (z @ self.filters[self.probes, 0].T).square().mean(1).add(1e-6).log()

    def logits(self, scores: Tensor, level: Tensor, which: Tensor) -> Tensor:
        """t / 2 (...) from scores (..., R + 1), noise level (...) and distortion (...)."""
        squares = scores.square() / self.scale
        features = torch.cat([scores, squares, level[..., None]], dim=-1)
        shared = self.direct(features) + self.out(F.relu(self.hidden(features)))
        return shared[..., 0] + self.bias[which] + self.slope[which] * squares[..., :-1].sum(-1)

    @torch.no_grad()
    def forward(self, x: ArrayLike) -> np.ndarray:
        rows = max(1, AT_ONCE // (self.filters.shape[0] * HIDDEN))
        every = torch.arange(len(self.filters))
        found = []
        for part in torch.as_tensor(np.asarray(x, dtype=np.float64)).split(rows):
            z = self.standardised(part)
            scores = torch.einsum("nb,krb->nkr", z, self.filters)
            found.append(2 * self.logits(scores, self.level(z)[:, None].expand(-1, len(every)), every))
        return torch.cat(found).double().numpy()


def learn_ratios(x: ArrayLike, distort: Distortion, *, seed: int, snr: float = 3.0) -> Ratios:
    """t of the K distortions, from simulations x (N, ...) of the model."""
    x = torch.as_tensor(np.asarray(x, dtype=np.float64))
    generator = torch.Generator().manual_seed(seed)
    for_filters, for_classifier = x.split([2 * len(x) // 3, len(x) - 2 * len(x) // 3])
    mean, sd = for_filters.flatten(1).mean(0), for_filters.flatten(1).std(0)
    sd = torch.where(sd > 0, sd, 1.0)
    covariance = shrunk_correlation((for_filters.flatten(1) - mean) / sd)
    directions, power = spanned(for_filters, distort, sd, generator)
    filters, unit_snr = matched_filters(directions, power, covariance)
    if not (unit_snr > 0).all():
        raise ValueError(f"distortion {int(unit_snr.argmin())} does not change the data")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        ratios = Ratios(mean, sd, filters, snr)
    train(ratios, for_classifier, distort, snr / unit_snr.double(), generator)
    return ratios


def shrunk_correlation(z: Tensor) -> Tensor:
    """(B, B) from standardised z (N, B): correlations shrunk by the factor of least expected squared error."""
    n = len(z)
    r = z.T @ z / n
    scatter = (z.square().T @ z.square() / n - r.square()) / n
    off = ~torch.eye(len(r), dtype=torch.bool)
    shrink = (scatter[off].sum() / r[off].square().sum().clamp_min(1e-300)).clamp(0, 1) if len(r) > 1 else 0.0
    return torch.where(off, (1 - shrink) * r, 1.0)


def spanned(x: Tensor, distort: Distortion, sd: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Orthonormal directions (K, R, B) of the standardised data, zero where not needed, and the power (K, R) in each.

    Power is the mean square of the coordinates for unit amplitude.
    """
    found = []
    for which in torch.arange(len(distort)).split(max(1, AT_ONCE // (DIFFERENCES * len(sd)))):
        each = which.repeat_interleave(DIFFERENCES)
        plain = x[torch.randint(len(x), each.shape, generator=generator)]
        amplitude = torch.full(each.shape, PROBE_AMPLITUDE, dtype=x.dtype)
        change = (distort(plain, each, amplitude, generator) - plain).flatten(1) / (PROBE_AMPLITUDE * sd)
        change = change.view(len(which), DIFFERENCES, -1)
        power, basis = torch.linalg.eigh(change @ change.mT)
        power, basis = power.flip(1)[:, :DIRECTIONS], basis.flip(2)[:, :, :DIRECTIONS]
        before = power.cumsum(1) - power
        power = torch.where(before < KEPT * power.sum(1, keepdim=True), power, 0.0)
        weights = torch.where(power > 0, power, torch.inf).rsqrt()
        found.append(((weights[:, :, None] * (basis.mT @ change)).float(), power / DIFFERENCES))
    directions, power = (torch.cat(parts) for parts in zip(*found, strict=True))
    most = int((power > 0).sum(1).max().clamp_min(1))
    return directions[:, :most].contiguous(), power[:, :most].float()


def matched_filters(directions: Tensor, power: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Filters (K, R + 1, B): the whitened ones, and the first direction unfiltered; signal-to-noise ratios (K,)."""
    precise = directions @ torch.linalg.inv(covariance).float()
    fisher = precise @ directions.mT
    values, vectors = torch.linalg.eigh(fisher)
    roots = torch.where(values > 1e-6 * values[:, -1:], values, torch.inf).rsqrt()
    whitened = vectors @ (roots[:, :, None] * (vectors.mT @ precise))
    plain = directions[:, :1]
    plain = plain / ((plain @ covariance.float()) * plain).sum(2, keepdim=True).clamp_min(1e-30).sqrt()
    return torch.cat([whitened, plain], dim=1), (fisher.diagonal(dim1=1, dim2=2) * power).sum(1).sqrt()


def train(
    ratios: Ratios, x: Tensor, distort: Distortion, amplitudes: Tensor, generator: torch.Generator, steps: int = STEPS
) -> None:
    """Fit the classifier on x (N, ...), distorted with amplitudes of standard deviation (K,)."""
    optimiser = torch.optim.Adam(ratios.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        rows, which = (torch.randint(n, (PAIRS,), generator=generator) for n in (len(x), len(ratios.filters)))
        amplitude = amplitudes[which] * torch.randn(PAIRS, generator=generator, dtype=x.dtype)
        filters = ratios.filters[which]
        plain, distorted = (
            ratios.logits(torch.einsum("nb,nrb->nr", z, filters), ratios.level(z), which)
            for z in map(ratios.standardised, (x[rows], distort(x[rows], which, amplitude, generator)))
        )
        loss = (F.softplus(plain) + F.softplus(-distorted)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
