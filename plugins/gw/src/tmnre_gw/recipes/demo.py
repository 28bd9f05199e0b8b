"""A simulated binary black hole in two detectors: six free parameters, truth known, minutes on a laptop."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from bilby.core.prior import DeltaFunction, PowerLaw, Sine, Uniform

from tmnre import Analysis, Recipe, Training, Truncation
from tmnre_gw import binary, figures
from tmnre_gw.band import Band, Whitening
from tmnre_gw.bilby_side import QUADRUPOLE, design_psd
from tmnre_gw.detectors import Network
from tmnre_gw.embedding import NETWORKS
from tmnre_gw.papers import BILBY, PEREGRINE, PHENOM_XAS
from tmnre_gw.recipes.schedule import stages
from tmnre_gw.simulator import BinaryBlackHole

FEATURES = 192
"""width of the network, half of its default: a step takes two thirds of the time, at some cost in accuracy"""


@dataclass(frozen=True)
class Injection:
    """The simulated signal."""

    chirp_mass: float = 30.0
    """Msun, detector frame"""
    mass_ratio: float = 0.8
    """m2 / m1"""
    luminosity_distance: float = 1000.0
    """Mpc; signal-to-noise ratio about 27 in two detectors"""
    theta_jn: float = 0.6
    """rad; inclination"""
    phase: float = 1.3
    """rad; at the reference frequency"""
    time_s: float = 0.01
    """s after the trigger, at the geocentre"""
    ra: float = 1.4
    """rad; known, not inferred"""
    dec: float = -1.2
    """rad; known, not inferred"""
    psi: float = 0.7
    """rad; known, not inferred"""


@dataclass(frozen=True)
class Settings:
    """Settings of gw/demo."""

    injection: Injection = field(default_factory=Injection)
    """true parameters"""
    chirp_mass_msun: tuple[float, float] = (25.0, 35.0)
    """Msun; uniform"""
    mass_ratio: tuple[float, float] = (0.25, 1.0)
    """uniform"""
    luminosity_distance_mpc: tuple[float, float] = (200.0, 2000.0)
    """Mpc; uniform in volume"""
    time_window_s: float = 0.05
    """s; uniform within +- this about the trigger"""
    detectors: tuple[str, ...] = ("H1", "L1")
    """detectors, at their design sensitivity"""
    trigger_gps_s: float = 1126259462.4
    """GPS s; sets the orientation of the Earth"""
    duration_s: float = 4.0
    """s"""
    f_min_hz: float = 20.0
    """Hz"""
    f_max_hz: float = 400.0
    """Hz"""
    approximant: str = "IMRPhenomXAS"
    """lal waveform; spins are zero"""
    network: str = "compressed"
    """compressed (SVD coefficients, measured best) or cnn (1D CNN on time series)"""
    waveforms: tuple[int, ...] = (4000, 4000, 4000, 11_000)
    """waveforms that train each round; with mass the only thing to simulate, few are enough"""
    steps: tuple[int, ...] = (400, 400, 600, 4000)
    """optimiser steps of each round"""
    truncation: Truncation = field(default_factory=lambda: Truncation(epsilon=1e-4, warm_start_ratio=0.1))
    """how the region shrinks"""
    training: Training = field(default_factory=lambda: Training(precision="bf16-mixed"))
    """optimiser"""
    workers: int | None = None
    """waveform processes; none given: one per CPU"""
    seed: int = 0
    """seed of everything random, the injected noise included"""


def simulator_of(settings: Settings) -> BinaryBlackHole:
    """The recipe's simulator, with its prior."""
    injection = settings.injection
    priors = {
        "chirp_mass": Uniform(*settings.chirp_mass_msun),
        "mass_ratio": Uniform(*settings.mass_ratio),
        "luminosity_distance": PowerLaw(2.0, *settings.luminosity_distance_mpc),
        "theta_jn": Sine(),
        "phase": Uniform(0.0, 2 * np.pi),
        "geocent_time": Uniform(-settings.time_window_s, settings.time_window_s),
        **{name: DeltaFunction(0.0) for name in ("chi_1", "chi_2")},
        **{name: DeltaFunction(getattr(injection, name)) for name in ("ra", "dec", "psi")},
    }
    split = binary.sampled_priors(priors, detectors=len(settings.detectors), trigger_gps_s=0.0, delay_s=0.0)
    band = Band(
        settings.duration_s,
        settings.f_min_hz,
        settings.f_max_hz,
        binary.lowest_chirp_mass(split),
        time_margin_s=binary.time_margin_s(split),
        harmonics=settings.approximant not in QUADRUPOLE,
    )
    return BinaryBlackHole(
        split.free,
        split.fixed,
        Network.at(settings.detectors, settings.trigger_gps_s),
        band,
        Whitening.of(band, np.stack([design_psd(name, band.frequencies_hz) for name in settings.detectors])),
        approximant=settings.approximant,
        reference_frequency_hz=50.0,
        front_end=NETWORKS[settings.network][1],
    )


def build(settings: Settings) -> Analysis:
    """Inject the signal into Gaussian noise, and the analysis of that."""
    if settings.network not in NETWORKS:
        raise ValueError(f"network must be one of {sorted(NETWORKS)}, got {settings.network!r}")
    simulator = simulator_of(settings)
    truth = {name: getattr(settings.injection, "time_s" if name == "time" else name) for name in simulator.prior.names}
    theta = np.array([[truth[name] for name in simulator.prior.names]])
    rng = np.random.default_rng(settings.seed)
    stored = {k: torch.from_numpy(v) for k, v in simulator.simulate(theta, rng).items()}
    noise = torch.Generator().manual_seed(settings.seed)
    observation = {k: v[0].numpy() for k, v in simulator.observe(stored, torch.from_numpy(theta), noise).items()}
    derived = simulator.derive(torch.from_numpy(theta), stored)
    marginals, truncated = binary.targets(simulator)
    return Analysis(
        simulator,
        observation,
        marginals,
        stages=stages(settings.waveforms, settings.steps),
        training=settings.training,
        truncation=settings.truncation,
        truncated=truncated,
        embedding=partial(NETWORKS[settings.network][0], features=FEATURES),
        truth={**truth, **{name: float(value[0]) for name, value in derived.items()}},
        labels=binary.LABELS,
        figures=figures.of(simulator, observation),
        seed=settings.seed,
        workers=settings.workers,
    )


recipe = Recipe(
    settings=Settings,
    build=build,
    papers=(PEREGRINE, PHENOM_XAS, BILBY),
    presets={"smoke": {"waveforms": (300, 300), "steps": (20, 20), "training.batch_size": 128}},
    summary="a simulated binary black hole in two detectors, six free parameters, truth known",
)
