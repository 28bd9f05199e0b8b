"""A binary black hole, all of its parameters: a simulated signal, an event by name, or strain files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from bilby.core.prior import Prior as BilbyPrior

from tmnre import Analysis, Procedure, Recipe, Training, Truncation
from tmnre_gw import binary, figures, injection, sources, strain
from tmnre_gw.band import Band, Whitening
from tmnre_gw.bilby_side import ALIGNED, QUADRUPOLE, Priors, design_psd, detector_label, read_priors
from tmnre_gw.detectors import EARTH_RADIUS_S, Network
from tmnre_gw.embedding import NETWORKS
from tmnre_gw.exact import ExactBinary
from tmnre_gw.papers import BILBY, GWOSC, PEREGRINE, PHENOM_PV2, PHENOM_XPHM, RIPPLE
from tmnre_gw.products import About
from tmnre_gw.recipes.schedule import stages
from tmnre_gw.simulator import BACKENDS, BinaryBlackHole
from tmnre_gw.tempering import Sampling

AFTER_TRIGGER_S = 2.0
"""how long the segment goes on after the trigger, as is usual"""


@dataclass(frozen=True)
class StrainFiles:
    """GWOSC HDF5 files, GWF frames or plain text; where not given: $TMNRE_DATA/gw, then the download."""

    h1: str | None = None
    """strain of Hanford"""
    l1: str | None = None
    """strain of Livingston"""
    v1: str | None = None
    """strain of Virgo, where `detectors` names it"""
    k1: str | None = None
    """strain of KAGRA, where `detectors` names it"""
    other: dict[str, str] = field(default_factory=dict)
    """strain of other detectors, by name"""
    channel: str | None = None
    """channel of GWF frames, with {detector} for its name; none given: GWOSC's"""

    def of(self, detector: str) -> str | None:
        """The file given for a detector."""
        return getattr(self, detector.lower(), None) if detector in strain.SITES else self.other.get(detector)

    @property
    def given(self) -> bool:
        """Whether any file is named."""
        return bool(self.h1 or self.l1 or self.v1 or self.k1 or self.other)


@dataclass(frozen=True)
class PriorSettings:
    """Prior of a binary; a bilby .prior file replaces all of it."""

    file: str | None = None
    """bilby .prior file; geocent_time in GPS seconds or relative to the trigger"""
    component_mass_msun: tuple[float, float] = (10.0, 80.0)
    """Msun, detector frame; both masses uniform in this range"""
    luminosity_distance_mpc: tuple[float, float] = (10.0, 2000.0)
    """Mpc; uniform in volume"""
    max_spin: float = 0.99
    """largest spin magnitude; isotropic directions"""
    time_window_s: float = 0.1
    """s; geocentric time uniform within +- this about the trigger"""

    def of(self, approximant: str) -> Mapping[str, BilbyPrior]:
        """bilby's priors of all parameters of an approximant."""
        if self.file:
            return read_priors(Path(self.file))
        return binary.default_priors(
            self.component_mass_msun,
            self.luminosity_distance_mpc,
            self.max_spin,
            self.time_window_s,
            aligned=approximant in ALIGNED,
        )


@dataclass(frozen=True)
class Schedule:
    """Rounds: waveforms that train each, and optimiser steps."""

    waveforms: tuple[int, ...] = (10_000, 10_000, 20_000, 40_000, 60_000)
    """few while the region is wide and only to be cut; at least 50,000 in the last, fewer over-fit"""
    steps: tuple[int, ...] = (250, 150, 200, 400, 850)
    """optimiser steps of each round, batches of training.batch_size"""
    afresh: tuple[int, ...] = (-2,)
    """rounds, -1 the last, that start from random weights; the others only where the region shrank to less than
    truncation.warm_start_ratio.  So few steps in the last are too few to learn all anew"""


@dataclass(frozen=True)
class Settings:
    """Settings of gw/bbh; without an event and strain files the signal is simulated."""

    event: str | None = None
    """event by its name in GWOSC's catalogues; local files first, then the download"""
    trigger_gps_s: float | None = None
    """GPS s of the trigger; the segment ends 2 s after it; none given: the catalogue's, of an injection 1126259462.4"""
    strain: StrainFiles = field(default_factory=StrainFiles)
    """strain files"""
    injection: injection.Injection = field(default_factory=injection.Injection)
    """the simulated signal, where there is neither event nor strain"""
    noise: bool = True
    """add noise to a simulated signal; without, the posterior is centred on the truth but for priors"""
    psd: str | None = None
    """PSD table (Hz, 1/Hz per detector); none given: the catalogue's under $TMNRE_DATA/gw, else median-Welch
    off-source; of an injection: the detectors' design"""
    detectors: tuple[str, ...] = ("H1", "L1")
    """detectors, first the one whose arrival time is sampled; names that bilby knows or bilby .interferometer files"""
    duration_s: float = 8.0
    """s; long enough for 10 + 10 Msun from 20 Hz"""
    f_min_hz: float = 20.0
    """Hz; lower edge of the band"""
    f_max_hz: float = 512.0
    """Hz; upper edge; above it binaries of more than 20 Msun have no power"""
    approximant: str = "IMRPhenomPv2"
    """lal waveform in the frequency domain: precessing IMRPhenomPv2, IMRPhenomXP, IMRPhenomXPHM; aligned IMRPhenomXAS,
    IMRPhenomD; any other that takes spins in any direction"""
    backend: str = "lal"
    """what makes waveforms: lal; ripple: its models in JAX, for a GPU (pip install 'tmnre-gw[ripple]'), and then in
    one process"""
    reference_frequency_hz: float = 20.0
    """Hz; where spin directions are defined"""
    prior: PriorSettings = field(default_factory=PriorSettings)
    """prior"""
    network: str = "compressed"
    """compressed: SVD coefficients with canonical phase, measured best on CPUs and GPUs; cnn: 1D CNN on time series"""
    exact: bool = True
    """after the last round draw from the exact posterior in its region: joint draws, evidence, sky map, bilby result"""
    sampling: Sampling = field(default_factory=Sampling)
    """effort of the exact draws"""
    search: bool = True
    """before exact draws: begin the rounds at the masses, times and loudness that matched filters leave"""
    schedule: Schedule = field(default_factory=Schedule)
    """rounds"""
    truncation: Truncation = field(default_factory=lambda: Truncation(epsilon=1e-4, warm_start_ratio=0.1))
    """a wider cut than the core's 1e-6: network error, not epsilon, sets what is lost"""
    training: Training = field(default_factory=lambda: Training(precision="bf16-mixed"))
    """bf16 doubles the speed on CPUs that have it, at no measured loss; others train in single precision"""
    workers: int | None = None
    """waveform processes; none given: one per CPU"""
    seed: int = 0
    """seed of everything random, the noise of an injection included"""

    @property
    def real(self) -> bool:
        """Whether the data are measured."""
        return self.event is not None or self.strain.given


@dataclass(frozen=True)
class Observed:
    """Whitened data {"strain": (detectors, P)}, with what they were whitened by, and the truth where it is known."""

    network: Network
    band: Band
    whitening: Whitening
    strain: np.ndarray
    log_noise_evidence: float
    truth: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, network: Network, band: Band, whitening: Whitening, spectra: np.ndarray, truth=None) -> Observed:
        """From whitened spectra (detectors, F)."""
        projected = np.einsum("dfp,df->dp", whitening.basis, spectra)
        return cls(network, band, whitening, projected, -0.5 * float((np.abs(spectra) ** 2).sum()), truth or {})


def build(settings: Settings) -> Analysis | Procedure:
    """The analysis; every file is read and checked here, before anything is computed."""
    for name, options in (("network", NETWORKS), ("backend", BACKENDS)):
        if getattr(settings, name) not in options:
            raise ValueError(f"{name} must be one of {sorted(options)}, got {getattr(settings, name)!r}")
    if settings.backend == "ripple" and (settings.workers or 1) > 1:
        raise ValueError(f"backend ripple makes many waveforms at once in one process, got {settings.workers} workers")
    labels = tuple(detector_label(name) for name in settings.detectors)
    gps = sources.trigger(settings.event, settings.trigger_gps_s, injected=not settings.real)
    network = Network.at(settings.detectors, gps)
    start = gps + AFTER_TRIGGER_S - settings.duration_s
    data = _data(settings, labels, gps, start) if settings.real else {}
    given = settings.prior.of(settings.approximant)
    priors = binary.sampled_priors(given, detectors=len(labels), trigger_gps_s=gps, delay_s=EARTH_RADIUS_S)
    band = Band(
        settings.duration_s,
        settings.f_min_hz,
        settings.f_max_hz,
        binary.lowest_chirp_mass(priors),
        time_margin_s=binary.time_margin_s(priors),
        harmonics=settings.approximant not in QUADRUPOLE,
        before_s=settings.duration_s - AFTER_TRIGGER_S if settings.real else None,
    )
    whitening = Whitening.of(band, _psds(settings, labels, data, band, (start, start + settings.duration_s)))
    simulator = BinaryBlackHole(
        priors.free,
        priors.fixed,
        network,
        band,
        whitening,
        approximant=settings.approximant,
        reference_frequency_hz=settings.reference_frequency_hz,
        front_end=NETWORKS[settings.network][1],
        constraints=priors.constraints,
        backend=settings.backend,
    )
    if settings.real:
        observed = _measured(labels, data, network, band, whitening, start)
    else:
        observed = _injected(settings, network, band, whitening, simulator, priors)
    marginals, truncated = binary.targets(simulator)
    observation = {"strain": observed.strain}
    analysis = Analysis(
        simulator,
        observation,
        marginals,
        stages=stages(settings.schedule.waveforms, settings.schedule.steps, afresh=settings.schedule.afresh),
        training=settings.training,
        truncation=settings.truncation,
        truncated=truncated,
        embedding=NETWORKS[settings.network][0],
        truth=dict(observed.truth),
        labels=binary.LABELS,
        figures=figures.of(simulator, observation),
        seed=settings.seed,
        workers=1 if settings.backend == "ripple" else settings.workers,
    )
    if not settings.exact:
        return analysis
    about = About(
        event=settings.event or ("strain" if settings.real else "injection"),
        detectors=labels,
        trigger_gps_s=gps,
        priors=given,
        fixed=_fixed(priors, gps),
        log_noise_evidence=observed.log_noise_evidence,
        waveform={
            "waveform_approximant": settings.approximant,
            "reference_frequency": settings.reference_frequency_hz,
            "minimum_frequency": settings.f_min_hz,
            "maximum_frequency": settings.f_max_hz,
        },
    )
    return ExactBinary(analysis, about, settings.sampling, settings.search)


def _data(settings: Settings, labels: tuple[str, ...], gps: float, start: float) -> dict[str, strain.Strain]:
    """Strain of every detector."""
    span = (start, start + settings.duration_s)
    psd = sources.psd_file(settings.event, settings.psd)
    found = {}
    for name in labels:
        option = f"--strain.{name.lower() if name in strain.SITES else 'other'}"
        path = sources.strain_file(settings.event, name, settings.strain.of(name), option, span=span, long=psd is None)
        found[name] = strain.read_strain(path, name, channel=settings.strain.channel, near_gps_s=gps)
    return found


def _psds(settings: Settings, labels: tuple[str, ...], data: dict, band: Band, segment: tuple[float, float]):
    """PSDs (detectors, F)."""
    path = sources.psd_file(settings.event, settings.psd) if settings.real or settings.psd else None
    if path is not None:
        return strain.read_psd(path, labels, band.frequencies_hz)
    if settings.real:
        return np.stack([strain.welch_psd(data[name], band, segment) for name in labels])
    return np.stack([design_psd(name, band.frequencies_hz) for name in settings.detectors])


def _measured(labels, data, network: Network, band: Band, whitening: Whitening, start: float) -> Observed:
    spectra = np.stack(
        [
            strain.whitened_spectrum(data[name], band, whitening.factor[i], start, network.reference_gps_s)
            for i, name in enumerate(labels)
        ]
    )
    return Observed.of(network, band, whitening, spectra)


def _injected(
    settings: Settings, network: Network, band: Band, whitening: Whitening, simulator: BinaryBlackHole, priors: Priors
) -> Observed:
    truth = settings.injection.truth(settings.approximant)
    how = {"approximant": settings.approximant, "reference_frequency_hz": settings.reference_frequency_hz}
    spectra = injection.whitened_signal(truth, network, band, whitening, **how)
    if settings.noise:
        spectra = spectra + injection.noise(spectra.shape, settings.seed)
    known = injection.sampled(truth, network)
    theta = np.array([[known[name] for name in simulator.prior.names]])
    outside = [
        f"{name} {known[name]:.4g} ({low:.4g} to {high:.4g})"
        for name, (low, high) in ((name, d.support) for name, d in simulator.prior.items())
        if not low <= known[name] <= high
    ]
    if outside:
        raise ValueError(f"the injection is outside the prior: {', '.join(outside)}; widen the prior or change it")
    stored = {k: torch.from_numpy(v) for k, v in simulator.simulate(theta, np.random.default_rng(0)).items()}
    derived = {k: float(v[0]) for k, v in simulator.derive(torch.from_numpy(theta), stored).items()}
    free = {name: known[name] for name in simulator.prior.names}
    return Observed.of(network, band, whitening, spectra, {**free, **derived})


def _fixed(priors: Priors, gps: float) -> dict[str, float]:
    fixed = {name: value for name, value in priors.fixed.items() if name != "time"}
    return {**fixed, **({"geocent_time": gps + priors.fixed["time"]} if "time" in priors.fixed else {})}


def also(settings: Settings) -> tuple[str, ...]:
    """Papers of what only some settings use."""
    return (RIPPLE,) if settings.backend == "ripple" else ()


SMOKE = {
    "search": False,
    "schedule.waveforms": (400, 400),
    "schedule.steps": (20, 20),
    "training.batch_size": 128,
    "sampling.particles": 100,
    "sampling.draws_per_waveform": 2,
    "sampling.sweeps": 1,
    "sampling.final_sweeps": 12,
}
GPU = {"training.accelerator": "gpu"}
"""the defaults are for both: 5 minutes on an H200 that five analyses shared"""
LEARNED = {
    "exact": False,
    "schedule.waveforms": (10_000, 10_000, 20_000, 40_000, 60_000, 100_000),
    "schedule.steps": (350, 200, 250, 450, 850, 3000),
    "schedule.afresh": (-2, -1),
}
"""without the exact step: long enough for marginals that are trusted as they are"""

recipe = Recipe(
    settings=Settings,
    build=build,
    papers=(PEREGRINE, PHENOM_PV2, PHENOM_XPHM, BILBY, GWOSC),
    also=also,
    presets={
        "learned": LEARNED,
        "xphm": {
            "approximant": "IMRPhenomXPHM",
            "schedule.waveforms": (5_000, 5_000, 10_000, 20_000, 40_000),
            "schedule.steps": (600, 400, 500, 1000, 3000),
        },
        "gpu": GPU,
        "smoke": SMOKE,
    },
    summary="a binary black hole, all parameters: a simulated signal, an event by name, or strain files",
)
