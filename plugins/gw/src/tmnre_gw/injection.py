"""A simulated signal in simulated noise, as an observation: the waveform on every frequency of the grid.

Independent of the simulator's nodes: the full waveform, each detector's response and delay, whitening, white noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch

from tmnre_gw.band import Band, Whitening
from tmnre_gw.bilby_side import ALIGNED, Waveform
from tmnre_gw.detectors import Network


@dataclass(frozen=True)
class Injection:
    """Parameters of a simulated binary, bilby's names and units, detector frame."""

    chirp_mass: float = 28.0
    """Msun"""
    mass_ratio: float = 0.8
    """m2 / m1"""
    a_1: float = 0.5
    """spin magnitude of the heavier"""
    a_2: float = 0.3
    """spin magnitude of the lighter"""
    tilt_1: float = 1.0
    """rad; angle of the spin to the orbit; for aligned approximants only a cos(tilt) counts"""
    tilt_2: float = 1.5
    """rad"""
    phi_12: float = 1.7
    """rad"""
    phi_jl: float = 0.3
    """rad"""
    theta_jn: float = 0.6
    """rad; inclination"""
    phase: float = 1.3
    """rad; at the reference frequency"""
    luminosity_distance: float = 1000.0
    """Mpc"""
    ra: float = 1.4
    """rad"""
    dec: float = -0.9
    """rad"""
    psi: float = 0.7
    """rad"""
    geocent_time: float = 0.01
    """s from the trigger"""

    def truth(self, approximant: str) -> dict[str, float]:
        """All parameters, with the aligned spins in place of six where the approximant has no others."""
        values = asdict(self)
        if approximant not in ALIGNED:
            return values
        chi = {f"chi_{i}": values[f"a_{i}"] * np.cos(values[f"tilt_{i}"]) for i in (1, 2)}
        gone = ("a_1", "a_2", "tilt_1", "tilt_2", "phi_12", "phi_jl")
        return {**{name: value for name, value in values.items() if name not in gone}, **chi}


def whitened_signal(
    truth: Mapping[str, float],
    network: Network,
    band: Band,
    whitening: Whitening,
    *,
    approximant: str,
    reference_frequency_hz: float,
    offset_s: float = 0.0,
) -> np.ndarray:
    """Whitened signal (detectors, F) on the band's grid, of parameters with geocent_time relative to the trigger, or to
    `offset_s` after it."""
    grid = band.frequencies_hz
    h = Waveform(approximant, grid, reference_frequency_hz)(dict(truth)) * Waveform.UNIT / truth["luminosity_distance"]
    if not np.isfinite(h).all():
        raise ValueError(f"lal gives no {approximant} waveform for the injection {dict(truth)}; change its parameters")
    ra, dec, psi, time = (torch.tensor([float(truth[n])]).double() for n in ("ra", "dec", "psi", "geocent_time"))
    direction = network.direction(ra, dec, time)
    response = network.response(direction, psi)[0].numpy()
    arrival = offset_s + truth["geocent_time"] + network.delays(direction)[0].numpy()
    return (response @ h) * np.exp(-2j * np.pi * arrival[:, None] * grid) * whitening.factor


def noise(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """White noise of unit variance in real and imaginary part."""
    real, imaginary = np.random.default_rng(seed).standard_normal((2, *shape))
    return real + 1j * imaginary


def sampled(truth: Mapping[str, float], network: Network) -> dict[str, float]:
    """Truth with the coordinates that are sampled beside bilby's: zenith, azimuth and time at the first detector."""
    ra, dec, time = (torch.tensor([float(truth[n])]).double() for n in ("ra", "dec", "geocent_time"))
    direction = network.direction(ra, dec, time)
    local = (direction @ network.frame)[0]
    return {
        **truth,
        "zenith": float(torch.arccos(local[2].clamp(-1, 1))),
        "azimuth": float(torch.atan2(local[1], local[0]) % (2 * torch.pi)),
        "time": float(truth["geocent_time"] + network.delays(direction)[0, 0]),
    }
