"""GW150914: all fifteen parameters from the public strain of Hanford and Livingston."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tmnre import Analysis, Recipe, Training, Truncation
from tmnre_gw import binary, figures, sources, strain
from tmnre_gw.band import Band, Whitening
from tmnre_gw.bilby_side import QUADRUPOLE, read_priors
from tmnre_gw.detectors import EARTH_RADIUS_S, Network
from tmnre_gw.embedding import NETWORKS
from tmnre_gw.papers import BILBY, GW150914, GWOSC, PEREGRINE, PHENOM_PV2
from tmnre_gw.recipes.schedule import stages
from tmnre_gw.simulator import BinaryBlackHole


@dataclass(frozen=True)
class StrainFiles:
    """GWOSC HDF5 files, 4096 Hz; where not given: $TMNRE_DATA/gw, then the download."""

    h1: str | None = None
    """strain of Hanford"""
    l1: str | None = None
    """strain of Livingston"""
    v1: str | None = None
    """strain of Virgo, where `detectors` names it"""


@dataclass(frozen=True)
class PriorSettings:
    """Prior of the published analysis; a bilby .prior file replaces all of it."""

    file: str | None = None
    """bilby .prior file; geocent_time in GPS seconds or relative to the trigger"""
    component_mass_msun: tuple[float, float] = (10.0, 80.0)
    """Msun, detector frame; both masses uniform in this range"""
    luminosity_distance_mpc: tuple[float, float] = (10.0, 1000.0)
    """Mpc; uniform in volume"""
    max_spin: float = 0.99
    """largest spin magnitude; isotropic directions"""
    time_window_s: float = 0.1
    """s; geocentric time uniform within +- this about the trigger"""


@dataclass(frozen=True)
class Schedule:
    """Rounds: waveforms that train each, and optimiser steps."""

    waveforms: tuple[int, ...] = (10_000, 10_000, 20_000, 40_000, 60_000, 100_000)
    """few while the region is wide and only to be cut; at least 50,000 in the last, fewer over-fit"""
    steps: tuple[int, ...] = (600, 400, 500, 1000, 2000, 4500)
    """optimiser steps of each round, batches of training.batch_size"""


@dataclass(frozen=True)
class Settings:
    """Settings of gw/gw150914; nothing here is tuned to the event but its time."""

    strain: StrainFiles = field(default_factory=StrainFiles)
    """strain files"""
    psd: str | None = None
    """PSD table (Hz, 1/Hz per detector); none given: the catalogue's under $TMNRE_DATA/gw, else median-Welch
    off-source"""
    event: str = "GW150914"
    """event name, for the files"""
    trigger_gps_s: float = 1126259462.4
    """GPS s of the trigger; the segment ends 2 s after it"""
    detectors: tuple[str, ...] = ("H1", "L1")
    """detectors, first the one whose arrival time is sampled"""
    duration_s: float = 8.0
    """s; long enough for 10 + 10 Msun from 20 Hz"""
    f_min_hz: float = 20.0
    """Hz; lower edge of the band, as published"""
    f_max_hz: float = 512.0
    """Hz; above it the signal has no power"""
    approximant: str = "IMRPhenomPv2"
    """lal waveform, as published: precessing spins"""
    reference_frequency_hz: float = 20.0
    """Hz; where spin directions are defined"""
    prior: PriorSettings = field(default_factory=PriorSettings)
    """prior"""
    network: str = "compressed"
    """compressed: SVD coefficients with canonical phase, best per step on CPUs; cnn: 1D CNN on time series, for GPUs"""
    schedule: Schedule = field(default_factory=Schedule)
    """rounds"""
    truncation: Truncation = field(default_factory=lambda: Truncation(epsilon=1e-4, warm_start_ratio=0.1))
    """a wider cut than the core's 1e-6: network error, not epsilon, sets what is lost"""
    training: Training = field(default_factory=lambda: Training(precision="bf16-mixed"))
    """bf16 doubles the speed on CPUs that have it, at no measured loss"""
    workers: int | None = None
    """waveform processes; none given: one per CPU"""
    seed: int = 0
    """seed of everything random"""


def build(settings: Settings) -> Analysis:
    """The analysis of the event; every file is read and checked here, before anything is computed."""
    network = Network.at(settings.detectors, settings.trigger_gps_s)
    data = {
        name: strain.read_strain(
            sources.strain_file(
                settings.event, name, getattr(settings.strain, name.lower(), None), f"--strain.{name.lower()}"
            ),
            name,
        )
        for name in settings.detectors
    }
    if settings.network not in NETWORKS:
        raise ValueError(f"network must be one of {sorted(NETWORKS)}, got {settings.network!r}")
    prior = settings.prior
    priors = binary.sampled_priors(
        read_priors(Path(prior.file))
        if prior.file
        else binary.default_priors(
            prior.component_mass_msun, prior.luminosity_distance_mpc, prior.max_spin, prior.time_window_s
        ),
        detectors=len(settings.detectors),
        trigger_gps_s=settings.trigger_gps_s,
        delay_s=EARTH_RADIUS_S,
    )
    band = Band(
        settings.duration_s,
        settings.f_min_hz,
        settings.f_max_hz,
        binary.lowest_chirp_mass(priors),
        time_margin_s=binary.time_margin_s(priors),
        harmonics=settings.approximant not in QUADRUPOLE,
    )
    start = settings.trigger_gps_s + 2.0 - settings.duration_s
    psds = _psds(settings, data, band, (start, start + settings.duration_s))
    whitening = Whitening.of(band, psds)
    embedding, front_end = NETWORKS[settings.network]
    simulator = BinaryBlackHole(
        priors.free,
        priors.fixed,
        network,
        band,
        whitening,
        approximant=settings.approximant,
        reference_frequency_hz=settings.reference_frequency_hz,
        front_end=front_end,
        constraints=priors.constraints,
    )
    observed = [
        strain.whitened(data[name], band, whitening, i, start, settings.trigger_gps_s)
        for i, name in enumerate(settings.detectors)
    ]
    marginals, truncated = binary.targets(simulator)
    observation = {"strain": np.stack(observed)}
    return Analysis(
        simulator,
        observation,
        marginals,
        stages=stages(settings.schedule.waveforms, settings.schedule.steps, afresh=-2),
        training=settings.training,
        truncation=settings.truncation,
        truncated=truncated,
        embedding=embedding,
        labels=binary.LABELS,
        figures=figures.of(simulator, observation),
        seed=settings.seed,
        workers=settings.workers,
    )


def _psds(settings: Settings, data: dict, band: Band, segment: tuple[float, float]) -> np.ndarray:
    path = sources.psd_file(settings.event, settings.psd)
    if path is not None:
        return strain.read_psd(path, settings.detectors, band.frequencies_hz)
    return np.stack([strain.welch_psd(data[name], band, segment) for name in settings.detectors])


recipe = Recipe(
    settings=Settings,
    build=build,
    papers=(GW150914, PEREGRINE, PHENOM_PV2, BILBY, GWOSC),
    presets={
        "quick": {
            "schedule.waveforms": (10_000, 10_000, 20_000, 40_000, 80_000),
            "schedule.steps": (600, 400, 500, 1000, 2500),
        },
        "smoke": {
            "schedule.waveforms": (400, 400),
            "schedule.steps": (20, 20),
            "training.batch_size": 128,
        },
    },
    summary="GW150914: marginal posteriors of all fifteen parameters from the public strain of Hanford and Livingston",
)
