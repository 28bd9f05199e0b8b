"""Everything taken from bilby and lal, behind one module: priors, waveforms, detector geometry.

bilby's names, units and conventions hold throughout: masses in Msun (detector frame), distances in Mpc, angles in
rad, times in GPS seconds.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import bilby
import lal
import numpy as np
from bilby.core.prior import Constraint, DeltaFunction, PriorDict
from bilby.core.prior import Prior as BilbyPrior
from bilby.gw.conversion import chirp_mass_and_mass_ratio_to_component_masses
from bilby.gw.detector import Interferometer, get_empty_interferometer, load_interferometer
from bilby.gw.source import binary_black_hole_frequency_sequence
from bilby_cython.geometry import rotation_matrix_from_delta

from tmnre.prior import Distribution, Prior

logging.getLogger("bilby").setLevel(logging.WARNING)

ALIGNED = ("IMRPhenomXAS", "IMRPhenomD")
"""Approximants with the (2, 2) mode of aligned spins only: inclination and phase factor out of the waveform."""
QUADRUPOLE = (*ALIGNED, "IMRPhenomPv2", "IMRPhenomXP")
"""Approximants built of the (2, 2) mode in the frame of the orbit: the phase is a factor exp(2 i phase), exactly."""
FILE_OF_DETECTOR = ".interferometer"


@dataclass(frozen=True)
class FromBilby(Distribution):
    """A one-dimensional bilby prior, used only through `rescale` and `cdf`, which hold for every bilby prior.

    Truncating it to [a, b] is u in [cdf(a), cdf(b)]; setting `minimum` and `maximum` instead is ignored or left
    unnormalised by several bilby priors.
    """

    prior: BilbyPrior

    def __repr__(self) -> str:
        return re.sub(r", \w+=None", "", repr(self.prior))

    def quantile(self, u: np.ndarray) -> np.ndarray:
        return np.asarray(self.prior.rescale(np.asarray(u, dtype=float)), dtype=float)

    def cdf(self, theta: np.ndarray) -> np.ndarray:
        theta = np.clip(np.asarray(theta, dtype=float), self.prior.minimum, self.prior.maximum)
        return np.clip(np.asarray(self.prior.cdf(theta), dtype=float), 0.0, 1.0)


@dataclass(frozen=True)
class Priors:
    """A bilby PriorDict taken apart: free parameters, fixed values, and constraints on derived quantities."""

    free: Prior
    fixed: dict[str, float] = field(default_factory=dict)
    constraints: dict[str, tuple[float, float]] = field(default_factory=dict)


def split_priors(priors: PriorDict | dict[str, BilbyPrior]) -> Priors:
    """Free, fixed and constrained parts of a bilby PriorDict.

    Raises ValueError when nothing is free, or when a free prior has an empty or infinite range.
    """
    free: dict[str, Distribution] = {}
    fixed, constraints = {}, {}
    for name, prior in priors.items():
        if isinstance(prior, Constraint):
            constraints[name] = (float(prior.minimum), float(prior.maximum))
        elif isinstance(prior, DeltaFunction):
            fixed[name] = float(prior.peak)
        elif not prior.minimum < prior.maximum:
            raise ValueError(f"prior of {name} is empty: minimum {prior.minimum} is not below maximum {prior.maximum}")
        else:
            free[name] = FromBilby(prior)
    if not free:
        raise ValueError("the prior leaves no parameter free; give at least one a range")
    return Priors(Prior(free), fixed, constraints)


def read_priors(path: Path) -> PriorDict:
    """PriorDict of a bilby `.prior` file."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no prior file {path}; expected a bilby .prior file")
    priors = bilby.gw.prior.BBHPriorDict(filename=str(path))
    if "geocent_time" not in priors:
        raise ValueError(
            f"{path} gives no prior of geocent_time (of {sorted(priors) or 'nothing'}); expected a bilby .prior file "
            f"with a range about the trigger time"
        )
    return priors


class Waveform:
    """h+ and hx at the given frequencies (Hz), at 1 Mpc, in units of 1e-21 per Hz.

    Merger is at time zero of lal's convention, so that the phase of the result varies no faster than the inspiral.
    """

    UNIT = 1e-21
    ORDERS = {"IMRPhenomXPHM": {1: ((2, 1),), 2: ((2, 2), (3, 2)), 3: ((3, 3),), 4: ((4, 4),)}}
    """lal's modes of an approximant by their order m, where they can be had one by one"""

    def __init__(self, approximant: str, frequencies: np.ndarray, reference_frequency_hz: float) -> None:
        lal_sim = lalsimulation()
        known = getattr(lal_sim, approximant, None)
        if not isinstance(known, int) or not lal_sim.SimInspiralImplementedFDApproximants(known):
            raise ValueError(
                f"lal has no approximant {approximant!r} in the frequency domain; for example IMRPhenomPv2"
            )
        self.approximant, self.reference_frequency_hz = approximant, reference_frequency_hz
        self.frequencies = np.asarray(frequencies, dtype=float)
        self.orders = self.ORDERS.get(approximant, {})

    def __call__(self, parameters: dict[str, float], modes: Sequence[tuple[int, int]] = ()) -> np.ndarray:
        """(2, nodes) complex: plus and cross polarisation for chirp_mass, mass_ratio, spins, theta_jn and phase.

        modes : (l, m) with m > 0, of which those of -m come along; none: all.
        """
        only = {"mode_array": [[ell, sign * m] for ell, m in modes for sign in (1, -1)]} if modes else {}
        nodes = lal.CreateREAL8Vector(len(self.frequencies))
        nodes.data = self.frequencies
        mass_1, mass_2 = chirp_mass_and_mass_ratio_to_component_masses(
            parameters["chirp_mass"], parameters["mass_ratio"]
        )
        if self.approximant in ALIGNED:
            spins = {"a_1": abs(parameters["chi_1"]), "a_2": abs(parameters["chi_2"]), "phi_12": 0.0, "phi_jl": 0.0}
            spins |= {f"tilt_{i}": 0.0 if parameters[f"chi_{i}"] >= 0 else np.pi for i in (1, 2)}
        else:
            spins = {name: parameters[name] for name in ("a_1", "a_2", "tilt_1", "tilt_2", "phi_12", "phi_jl")}
        try:
            polarisations = binary_black_hole_frequency_sequence(
                self.frequencies,
                mass_1,
                mass_2,
                1.0,
                **spins,
                theta_jn=parameters["theta_jn"],
                phase=parameters["phase"],
                waveform_approximant=self.approximant,
                reference_frequency=self.reference_frequency_hz,
                frequencies=nodes,
                **only,
                catch_waveform_errors=False,
            )
        except RuntimeError:
            # outside the approximant's domain: the core counts and replaces such draws
            return np.full((2, len(self.frequencies)), np.nan, dtype=complex)
        return np.stack([polarisations["plus"], polarisations["cross"]]) / self.UNIT

    def many(self, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
        """(N, 2, nodes) complex of parameters (N,), one by one."""
        rows = zip(*parameters.values(), strict=True)
        return np.stack([self(dict(zip(parameters, row, strict=True))) for row in rows])

    def harmonics(self, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
        """(N, orders, 2, nodes) complex of parameters (N,): the same from modes of one order each."""
        rows = [dict(zip(parameters, row, strict=True)) for row in zip(*parameters.values(), strict=True)]
        return np.array([[self(row, modes) for modes in self.orders.values()] for row in rows])


def lalsimulation():
    """The lalsimulation module, imported late: it is slow to load."""
    import lalsimulation as module

    return module


def interferometer(name: str) -> Interferometer:
    """bilby's detector of a name, or of a bilby .interferometer file.

    Raises ValueError for a detector bilby does not know, FileNotFoundError for a file that is not there.
    """
    if name.endswith(FILE_OF_DETECTOR):
        if not Path(name).is_file():
            raise FileNotFoundError(f"no detector file {name}; expected a bilby {FILE_OF_DETECTOR} file")
        try:
            return load_interferometer(name)
        except Exception as error:  # the file is executed line by line, anything can go wrong
            raise ValueError(f"{name} is not a bilby {FILE_OF_DETECTOR} file: {error}") from error
    try:
        return get_empty_interferometer(name)
    except ValueError as error:
        raise ValueError(
            f"unknown detector {name!r}; bilby knows H1, L1, V1, K1, and others; another one is given as a bilby "
            f"{FILE_OF_DETECTOR} file"
        ) from error


def detector_label(name: str) -> str:
    """How a detector is called: its name, or the name in its .interferometer file."""
    return str(interferometer(name).name) if name.endswith(FILE_OF_DETECTOR) else name


def detector_geometry(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Response tensor (3, 3) and vertex position (3,) in metres, Earth-fixed frame."""
    geometry = interferometer(name).geometry
    return np.array(geometry.detector_tensor), np.array(geometry.vertex)


def design_psd(name: str, frequencies_hz: np.ndarray) -> np.ndarray:
    """bilby's PSD (F,) of a detector's design in 1/Hz; not finite beyond its table."""
    psd = interferometer(name).power_spectral_density
    return np.interp(frequencies_hz, psd.frequency_array, psd.psd_array, left=np.inf, right=np.inf)


def sidereal_angle(gps_s: float) -> float:
    """Greenwich mean sidereal angle in rad at a GPS time."""
    return float(lal.GreenwichMeanSiderealTime(lal.LIGOTimeGPS(gps_s)))


def baseline_frame(baseline_m: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) from the frame with z along a baseline to the Earth-fixed frame, as bilby's zenith and
    azimuth."""
    return np.array(rotation_matrix_from_delta(np.asarray(baseline_m, dtype=float)))
