"""The frequency band, and the few nodes on which a waveform needs to be known.

A signal in the band is its spline through the nodes; whitened, it lives in a space of as many dimensions as there are
nodes.  With T = diag(whitening) @ spline = Q R (one QR per detector) whitened data are Q^T d, whitened signals R
h(nodes), and
white noise stays white because the columns of Q are orthonormal.  Nothing else in the plugin touches full spectra.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import make_interp_spline

GEOMETRIC_MSUN_S = 4.925491025543576e-6
NODES_PER_CYCLE = 2.5
"""of the quintic spline; relative squared error below 1e-5 for precessing signals, checked in the tests"""


def chirp_time_s(chirp_mass_msun: float, frequency_hz: np.ndarray) -> np.ndarray:
    """Newtonian time to merger from a gravitational-wave frequency (Peters 1964)."""
    mass_s = chirp_mass_msun * GEOMETRIC_MSUN_S
    return 5 / 256 * mass_s ** (-5 / 3) * (np.pi * np.asarray(frequency_hz)) ** (-8 / 3)


@dataclass(frozen=True)
class Band:
    """Frequencies of a data segment between two limits.

    Raises ValueError when the segment, or what of it precedes the trigger, is too short for the lowest chirp mass, or
    the limits do not make a band.
    """

    duration_s: float
    f_min_hz: float
    f_max_hz: float
    min_chirp_mass_msun: float
    time_margin_s: float = 0.15
    """signals are resolved within +- this of the reference time, delays between detectors included"""
    harmonics: bool = False
    """resolve modes above (2, 2), which last longer at the same frequency"""
    before_s: float | None = None
    """from the segment's beginning to the trigger, of measured strain; None: signals may begin before the segment and
    come in at its end, as those of models do that the data are simulated with as well"""

    def __post_init__(self) -> None:
        if not 0 < self.f_min_hz < self.f_max_hz:
            raise ValueError(f"expected 0 < f_min < f_max, got {self.f_min_hz} and {self.f_max_hz} Hz")
        needed = float(chirp_time_s(self.min_chirp_mass_msun, np.array(self.f_min_hz)))
        room, after = 0.9 * self.duration_s, 0.0
        if self.before_s is not None:
            room, after = self.before_s, self.duration_s - self.before_s
        if needed > room:
            least = needed + after if after else needed / 0.9
            raise ValueError(
                f"a segment of {self.duration_s:g} s is too short: chirp mass {self.min_chirp_mass_msun:.3g} Msun "
                f"takes {needed:.1f} s from {self.f_min_hz:g} Hz to merger, and {room:.2g} s are there for it; take "
                f"duration >= {2 ** np.ceil(np.log2(least)):g} s, or raise f_min or the lowest chirp mass"
            )

    @property
    def frequencies_hz(self) -> np.ndarray:
        """Grid (F,) of the segment's frequencies within the band."""
        return (
            np.arange(np.ceil(self.f_min_hz * self.duration_s), self.f_max_hz * self.duration_s + 1e-9)
            / self.duration_s
        )

    @property
    def nodes_hz(self) -> np.ndarray:
        """Node frequencies (P,), denser where the slowest signal's phase turns faster."""
        f = np.linspace(self.f_min_hz, self.f_max_hz, 20_000)
        # a mode m at frequency f has the orbit of the (2, 2) mode at 2 f / m
        lasting = chirp_time_s(self.min_chirp_mass_msun, f / 2 if self.harmonics else f)
        density = NODES_PER_CYCLE * (lasting + self.time_margin_s) + 24 / f
        count = np.concatenate([[0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(f))])
        return np.interp(np.linspace(0, count[-1], int(np.ceil(count[-1])) + 6), count, f)

    def spline(self) -> np.ndarray:
        """Matrix (F, P) from values on the nodes to values on the grid."""
        nodes = self.nodes_hz
        return make_interp_spline(nodes, np.eye(len(nodes)), k=5)(self.frequencies_hz)


@dataclass(frozen=True)
class Whitening:
    """Per detector: orthonormal basis Q (F, P) of whitened signals, and R (P, P) that takes node values into it.

    Whitened means times sqrt(4 / (duration S)): real and imaginary part of the noise have unit variance.
    """

    factor: np.ndarray
    basis: np.ndarray
    triangle: np.ndarray

    @classmethod
    def of(cls, band: Band, psds: np.ndarray) -> Whitening:
        """psds (n, F) in 1/Hz on the band's grid; raises ValueError where they are not positive and finite."""
        grid = band.frequencies_hz
        if psds.shape[1:] != grid.shape:
            raise ValueError(f"expected PSDs of shape (n, {len(grid)}) on the band's grid, got {psds.shape}")
        if not (np.isfinite(psds) & (psds > 0)).all():
            raise ValueError("the PSD must be positive and finite in the whole band; narrow f_min to f_max")
        factor = np.sqrt(4 / (band.duration_s * psds))
        spline = band.spline()
        pairs = [np.linalg.qr(f[:, None] * spline) for f in factor]
        return cls(factor, *(np.array(part) for part in zip(*pairs, strict=True)))
