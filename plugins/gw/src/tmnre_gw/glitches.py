"""Bursts in one detector that no binary makes: what the distortion test looks for in the data.

Sine-Gaussians of quality Q, exp(-(2 pi f0 t)^2 / 2 Q^2) cos(2 pi f0 t + phase), at every time and frequency at which a
burst overlaps with the space of whitened signals; others are orthogonal to all signals and change no posterior.  A
glitch, a wrong waveform model or a wrong power spectrum leaves residuals of this shape (see `tmnre.diagnostics`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tmnre_gw.band import chirp_time_s
from tmnre_gw.simulator import BinaryBlackHole

QUALITY = 5.0
BANDS = 6
"""frequencies, evenly spaced in the logarithm within the band"""
OVERLAP = 0.5
"""share of a burst's squared signal-to-noise ratio that lies in the space of signals, at least"""


@dataclass(frozen=True)
class Glitches:
    """A `tmnre.diagnostics.Distortion` of data (n, detectors, P, 2), real and imaginary part: bursts of random phase.

    profiles (K, detectors, P) complex64, of unit norm; detector, time_s, frequency_hz (K,) say what each is.
    """

    profiles: Tensor
    detector: np.ndarray
    time_s: np.ndarray
    frequency_hz: np.ndarray

    def __len__(self) -> int:
        return len(self.profiles)

    def __call__(self, x: Tensor, which: Tensor, amplitude: Tensor, generator: torch.Generator) -> Tensor:
        phase = 2 * torch.pi * torch.rand(len(x), generator=generator)
        turned = self.profiles[which] * torch.polar(amplitude.float().abs(), phase)[:, None, None]
        return x + torch.view_as_real(turned).to(x.dtype)


def glitches(simulator: BinaryBlackHole) -> Glitches:
    """The bursts that overlap with the signals of a simulator."""
    band, whitening = simulator.band, simulator.whitening
    grid = band.frequencies_hz
    low, high = band.f_min_hz * 1.2, band.f_max_hz / 1.2
    found: list[tuple[np.ndarray, int, float, float]] = []
    for f0 in np.geomspace(low, high, BANDS):
        width_s = QUALITY / (2 * np.pi * f0)
        # from when the slowest signal passes this frequency to the latest arrival
        first = -band.time_margin_s - float(chirp_time_s(band.min_chirp_mass_msun, np.array(f0)))
        times = np.arange(max(first, -0.8), band.time_margin_s, 1.5 * width_s)
        shape = np.exp(-0.5 * ((grid - f0) * 2 * np.pi * width_s) ** 2)
        burst = shape * np.exp(-2j * np.pi * times[:, None] * grid)
        for d, (factor, basis) in enumerate(zip(whitening.factor, whitening.basis, strict=True)):
            whitened = burst * factor
            inside = whitened @ basis
            norm = np.linalg.norm(inside, axis=1)
            for i in np.flatnonzero(norm > OVERLAP**0.5 * np.linalg.norm(whitened, axis=1)):
                profile = np.zeros((len(whitening.factor), basis.shape[1]), complex)
                profile[d] = inside[i] / norm[i]
                found.append((profile, d, float(times[i]), float(f0)))
    profiles, detector, time_s, frequency_hz = zip(*found, strict=True)
    return Glitches(
        torch.from_numpy(np.stack(profiles)).to(torch.complex64),
        np.array(detector),
        np.array(time_s),
        np.array(frequency_hz),
    )
