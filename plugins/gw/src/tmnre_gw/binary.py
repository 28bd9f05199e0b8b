"""From a binary's settings to the simulator: priors in the frame of the detectors, band, network.

Sampling the sky by the angle to the first baseline and about it, and time at the first detector, makes what the data
measure (delays) single coordinates, so that a box can truncate them.  Isotropy on the sky is isotropy in that frame;
the prior of the geocentric time is kept exactly, as a constraint on that derived quantity.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from bilby.core.prior import Constraint, Cosine, DeltaFunction, PowerLaw, Sine, Uniform
from bilby.core.prior import Prior as BilbyPrior
from bilby.gw.prior import AlignedSpin, UniformInComponentsChirpMass, UniformInComponentsMassRatio

from tmnre_gw.bilby_side import Priors, split_priors
from tmnre_gw.detectors import EARTH_RADIUS_S

LABELS = {
    "chirp_mass": r"$\mathcal{M}$ [M$_\odot$]",
    "mass_ratio": "$q$",
    "a_1": "$a_1$",
    "a_2": "$a_2$",
    "chi_1": r"$\chi_1$",
    "chi_2": r"$\chi_2$",
    "tilt_1": r"$\theta_1$",
    "tilt_2": r"$\theta_2$",
    "phi_12": r"$\phi_{12}$",
    "phi_jl": r"$\phi_{JL}$",
    "theta_jn": r"$\theta_{JN}$",
    "phase": r"$\phi$",
    "luminosity_distance": "$d_L$ [Mpc]",
    "ra": r"$\alpha$",
    "dec": r"$\delta$",
    "psi": r"$\psi$",
    "time": "$t$ [s]",
    "geocent_time": "$t_c$ [s]",
    "zenith": r"$\kappa$",
    "azimuth": r"$\epsilon$",
    "mass_1": r"$m_1$ [M$_\odot$]",
    "mass_2": r"$m_2$ [M$_\odot$]",
    "chi_eff": r"$\chi_{\rm eff}$",
    "effective_chirp_mass": r"$\mathcal{M}_{\rm eff}$ [M$_\odot$]",
    "snr_H1": r"$\rho_{\rm H1}$",
    "snr_L1": r"$\rho_{\rm L1}$",
    "snr_V1": r"$\rho_{\rm V1}$",
    "snr_K1": r"$\rho_{\rm K1}$",
    "phase_difference_L1": r"$\Delta\phi_{\rm L1}$",
    "phase_difference_V1": r"$\Delta\phi_{\rm V1}$",
    "phase_difference_K1": r"$\Delta\phi_{\rm K1}$",
}
"""How parameters are written in figures; times relative to the trigger"""

UNINFORMED = ("phase", "psi", "phi_12", "phi_jl", "a_1", "a_2", "chi_1", "chi_2")
"""Parameters that the truncation leaves alone: of one event, their posteriors span the prior"""


def default_priors(
    component_mass_msun: tuple[float, float],
    luminosity_distance_mpc: tuple[float, float],
    max_spin: float,
    time_window_s: float,
    *,
    aligned: bool = False,
) -> dict[str, BilbyPrior]:
    """Priors of a precessing binary as in the discovery's analysis; `aligned`: of spins along the orbit only, with the
    same distribution of that component.

    Component masses uniform between two limits, spins uniform in magnitude and isotropic, distance uniform in volume,
    isotropic sky and orientation, time uniform within +- the window about the trigger.
    """
    low, high = component_mass_msun
    ranges = {
        "the component masses": (low, high, "Msun"),
        "luminosity_distance": (*luminosity_distance_mpc, "Mpc"),
        "geocent_time": (-time_window_s, time_window_s, "s"),
    }
    for name, (least, most, unit) in ranges.items():
        if not least < most:
            raise ValueError(f"prior of {name} is empty: {least:g} to {most:g} {unit}; give low < high")
        if least <= 0 and unit != "s":
            raise ValueError(f"prior of {name} must be positive, got {least:g} to {most:g} {unit}")
    if not 0 < max_spin < 1:
        raise ValueError(f"spin magnitudes lie between 0 and 1, got a prior up to {max_spin:g}")
    smallest, largest = (m / 2**0.2 for m in (low, high))
    magnitude = Uniform(0.0, max_spin)
    precessing = {
        "a_1": magnitude,
        "a_2": magnitude,
        "tilt_1": Sine(),
        "tilt_2": Sine(),
        "phi_12": Uniform(0.0, 2 * np.pi),
        "phi_jl": Uniform(0.0, 2 * np.pi),
    }
    along = {f"chi_{i}": AlignedSpin(magnitude, Uniform(-1.0, 1.0)) for i in (1, 2)}
    return {
        "chirp_mass": UniformInComponentsChirpMass(smallest, largest),
        "mass_ratio": UniformInComponentsMassRatio(low / high, 1.0),
        "mass_1": Constraint(low, high),
        "mass_2": Constraint(low, high),
        **(along if aligned else precessing),
        "theta_jn": Sine(),
        "phase": Uniform(0.0, 2 * np.pi),
        "luminosity_distance": PowerLaw(2.0, *luminosity_distance_mpc),
        "ra": Uniform(0.0, 2 * np.pi),
        "dec": Cosine(),
        "psi": Uniform(0.0, np.pi),
        "geocent_time": Uniform(-time_window_s, time_window_s),
    }


def sampled_priors(priors: Mapping[str, BilbyPrior], *, detectors: int, trigger_gps_s: float, delay_s: float) -> Priors:
    """The priors in the coordinates that are sampled: `time` relative to the trigger, and the detectors' sky where
    it is isotropic.

    A prior of geocent_time in GPS seconds (minimum above 1e6) is shifted to the trigger.  `delay_s`: largest delay of
    the first detector to the geocentre, by which the sampled window is wider than the prior's.
    """
    priors = dict(priors)
    time = priors.pop("geocent_time", None)
    if time is None:
        raise ValueError("the prior has no geocent_time; give it a range about the trigger time")
    shift = trigger_gps_s if time.minimum > 1e6 else 0.0
    low, high = time.minimum - shift, time.maximum - shift
    isotropic = (
        isinstance(priors.get("ra"), Uniform)
        and np.isclose(priors["ra"].maximum - priors["ra"].minimum, 2 * np.pi)
        and isinstance(priors.get("dec"), Cosine)
        and np.isclose(priors["dec"].maximum - priors["dec"].minimum, np.pi)
    )
    if isotropic and detectors > 1 and low < high:
        del priors["ra"], priors["dec"]
        priors |= {"zenith": Sine(), "azimuth": Uniform(0.0, 2 * np.pi)}
        priors |= {"geocent_time": Constraint(low, high), "time": Uniform(low - delay_s, high + delay_s)}
    else:
        priors["time"] = Uniform(low, high) if low < high else DeltaFunction(low)
    return split_priors(priors)


def targets(simulator, *, pairs: bool = True) -> tuple[list, list[str]]:
    """Marginals to learn and names to truncate, for any binary: what of the usual ones is free."""
    free, derived = simulator.prior.names, simulator.derived
    truncated = [name for name in free if name not in UNINFORMED]
    masses = ["mass_1", "mass_2"] if {"chirp_mass", "mass_ratio"} <= set(free) else []
    spin = ["chi_eff", "effective_chirp_mass"] if {"a_1", "chi_1"} & set(free) else []
    truncated += [*masses, *spin, *(name for name in derived if name.startswith(("snr_", "phase_difference_")))]
    marginals: list = [*free, *(name for name in ("ra", "dec", "geocent_time") if name in derived), *truncated]
    known = {*free, *derived}
    wanted = (("chirp_mass", "mass_ratio"), ("luminosity_distance", "theta_jn"), ("ra", "dec"))
    marginals += [pair for pair in wanted if pairs and known.issuperset(pair)]
    return list(dict.fromkeys(marginals)), truncated


def lowest_chirp_mass(priors: Priors) -> float:
    """Smallest chirp mass of the prior (Msun), which sets the length of the segment and the nodes."""
    if "chirp_mass" in priors.fixed:
        return priors.fixed["chirp_mass"]
    return priors.free["chirp_mass"].support[0]


def time_margin_s(priors: Priors) -> float:
    """How far from the trigger a signal may arrive at any detector (s)."""
    low, high = priors.free["time"].support if "time" in priors.free else (priors.fixed["time"],) * 2
    return max(abs(low), abs(high)) + 2 * EARTH_RADIUS_S
