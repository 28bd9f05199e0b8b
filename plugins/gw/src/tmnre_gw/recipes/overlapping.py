"""Two overlapping binaries in simulated data: a dozen parameters on a laptop, all thirty with a preset.

The single-signal fit of the same data, which knows nothing of the second, is made beside for comparison.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from bilby.core.prior import DeltaFunction

from tmnre import AfterAnalysis, Analysis, Place, Recipe, Result, Training, Truncation
from tmnre.result import weighted_quantile
from tmnre_gw import binary
from tmnre_gw.band import Band, Whitening
from tmnre_gw.bilby_side import ALIGNED, QUADRUPOLE, design_psd
from tmnre_gw.detectors import EARTH_RADIUS_S, Network
from tmnre_gw.embedding import CompressedNetwork
from tmnre_gw.injection import Injection, noise, sampled, whitened_signal
from tmnre_gw.overlapping import LABELS, OverlappingBinaries, targets
from tmnre_gw.papers import BILBY, OVERLAPPING, PEREGRINE, PHENOM_XAS
from tmnre_gw.recipes.schedule import stages
from tmnre_gw.simulator import BinaryBlackHole

SPINS = ("chi_1", "chi_2", "a_1", "a_2", "tilt_1", "tilt_2", "phi_12", "phi_jl")
SKY = ("ra", "dec", "psi")


@dataclass(frozen=True)
class Settings:
    """Settings of gw/overlapping."""

    first: Injection = field(
        default_factory=lambda: Injection(chirp_mass=30.0, luminosity_distance=900.0, geocent_time=0.0)
    )
    """the signal that arrives first; its geocent_time is relative to the trigger"""
    second: Injection = field(
        default_factory=lambda: Injection(
            chirp_mass=24.0,
            mass_ratio=0.7,
            theta_jn=0.9,
            phase=0.4,
            luminosity_distance=700.0,
            ra=2.6,
            dec=0.3,
            psi=1.9,
            geocent_time=0.0,
        )
    )
    """the other one; its geocent_time is relative to `separation_s` after the trigger"""
    separation_s: float = 0.2
    """s; time between the two triggers at the geocentre"""
    spins: bool = False
    """infer the spins; else they are zero"""
    sky: bool = False
    """infer sky positions and polarisations; else they are known"""
    component_mass_msun: tuple[float, float] = (15.0, 60.0)
    """Msun, detector frame; uniform, of all four masses"""
    luminosity_distance_mpc: tuple[float, float] = (200.0, 2500.0)
    """Mpc; uniform in volume"""
    max_spin: float = 0.99
    """largest spin magnitude, where spins are inferred"""
    time_window_s: float = 0.05
    """s; either time is uniform within +- this about its trigger; windows may overlap, A comes first"""
    detectors: tuple[str, ...] = ("H1", "L1", "V1")
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
    """lal waveform; precessing spins need one that has them"""
    reference_frequency_hz: float = 50.0
    """Hz; where phases and spin directions are defined"""
    single_fit: bool = True
    """fit one binary to the same data as well, about the first trigger"""
    waveforms: tuple[int, ...] = (5000, 5000, 10_000, 20_000)
    """waveforms of both binaries that train each round"""
    steps: tuple[int, ...] = (400, 400, 600, 3000)
    """optimiser steps of each round"""
    truncation: Truncation = field(default_factory=lambda: Truncation(epsilon=1e-4, warm_start_ratio=0.1))
    """how the region shrinks"""
    training: Training = field(default_factory=lambda: Training(precision="bf16-mixed"))
    """optimiser"""
    workers: int | None = None
    """waveform processes; none given: one per CPU"""
    seed: int = 0
    """seed of everything random, the injected noise included"""


@dataclass(frozen=True)
class Overlapping(AfterAnalysis):
    """The fit of two binaries and, where asked for, that of one."""

    both: Analysis
    single: Analysis | None

    @property
    def analysis(self) -> Analysis:
        return self.both

    def run(self, place: Place) -> Result:
        result = place.analyse(self.both, "both")
        if self.single is None:
            return result
        alone = place.analyse(self.single, "single")
        alone.save(place.folder / "single" / "posterior.h5")
        table = {}
        for name in alone.names:
            truth, marginal = self.both.truth.get(f"{name}_A"), alone[name]
            table[name] = {**marginal.summary()}
            if truth is not None:
                median = float(weighted_quantile(marginal.samples[:, 0], marginal.weights, 0.5))
                table[name] |= {"truth": truth, "off_sd": (median - truth) / marginal.sd}
            if f"{name}_A" in result.names:
                table[name]["width_of_both_over_single"] = result[f"{name}_A"].sd / marginal.sd
        return replace(result, extra={"single_signal_fit": table}, further_simulations=alone.simulations)


def simulators(settings: Settings) -> OverlappingBinaries:
    """The simulator of both; its `signals` are those of either alone."""
    network = Network.at(settings.detectors, settings.trigger_gps_s)
    splits = [_priors(settings, injected) for injected in (settings.first, settings.second)]
    band = Band(
        settings.duration_s,
        settings.f_min_hz,
        settings.f_max_hz,
        min(binary.lowest_chirp_mass(split) for split in splits),
        time_margin_s=max(binary.time_margin_s(split) for split in splits),
        harmonics=settings.approximant not in QUADRUPOLE,
    )
    whitening = Whitening.of(band, np.stack([design_psd(name, band.frequencies_hz) for name in settings.detectors]))
    # the Earth turns by 1e-4 rad between the two
    signals = tuple(
        BinaryBlackHole(
            split.free,
            split.fixed,
            network,
            band,
            whitening,
            approximant=settings.approximant,
            reference_frequency_hz=settings.reference_frequency_hz,
            constraints=split.constraints,
        )
        for split in splits
    )
    return OverlappingBinaries(signals, settings.separation_s)


def _priors(settings: Settings, injected: Injection) -> binary.Priors:
    priors = binary.default_priors(
        settings.component_mass_msun,
        settings.luminosity_distance_mpc,
        settings.max_spin,
        settings.time_window_s,
        aligned=settings.approximant in ALIGNED,
    )
    if not settings.spins:
        priors |= {name: DeltaFunction(0.0) for name in SPINS if name in priors}
    if not settings.sky:
        priors |= {name: DeltaFunction(getattr(injected, name)) for name in SKY}
    return binary.sampled_priors(
        priors,
        detectors=len(settings.detectors),
        trigger_gps_s=0.0,
        delay_s=EARTH_RADIUS_S if settings.sky else 0.0,
    )


def truths(settings: Settings, simulator: OverlappingBinaries) -> list[dict[str, float]]:
    """True parameters of either signal, in bilby's coordinates and those that are sampled.

    Raises ValueError where one is outside its prior, or B arrives before A.
    """
    found = []
    for label, signal, injected in zip(LABELS, simulator.signals, (settings.first, settings.second), strict=True):
        truth = injected.truth(settings.approximant)
        if not settings.spins:
            truth |= {name: 0.0 for name in SPINS if name in truth}
        known = sampled(truth, simulator.network)
        if not settings.sky:
            known["time"] = truth["geocent_time"]
        outside = [
            f"{name} {known[name]:.4g} ({low:.4g} to {high:.4g})"
            for name, (low, high) in ((name, prior.support) for name, prior in signal.prior.items())
            if not low <= known[name] <= high
        ]
        if outside:
            raise ValueError(f"signal {label} is outside the prior: {', '.join(outside)}; widen the prior")
        found.append(known)
    if settings.separation_s + found[1]["time"] < found[0]["time"]:
        raise ValueError("the second signal arrives before the first; exchange them")
    return found


def spectra(settings: Settings, simulator: OverlappingBinaries, known: list[dict[str, float]]) -> list[np.ndarray]:
    """Whitened spectrum (detectors, F) of either signal."""
    how = {"approximant": settings.approximant, "reference_frequency_hz": settings.reference_frequency_hz}
    parts = (simulator.network, simulator.band, simulator.whitening)
    offsets = (0.0, settings.separation_s)
    return [
        whitened_signal(truth, *parts, **how, offset_s=offset) for truth, offset in zip(known, offsets, strict=True)
    ]


def build(settings: Settings) -> Overlapping:
    """Inject both signals into Gaussian noise; the analyses of that."""
    simulator = simulators(settings)
    known = truths(settings, simulator)
    data = sum(spectra(settings, simulator, known))
    data = data + noise(data.shape, settings.seed)
    truth = {f"{name}_{k}": v for k, one in zip(LABELS, known, strict=True) for name, v in one.items()}
    truth["delay"] = settings.separation_s + known[1]["time"] - known[0]["time"]
    marginals, truncated = targets(simulator, binary.targets)
    labels = {f"{n}_{k}": _labelled(text, k) for n, text in binary.LABELS.items() for k in LABELS}
    both = _analysis(settings, simulator, simulator.project(data), marginals, truncated)
    both = replace(both, truth=truth, labels={**labels, "delay": r"$\Delta t$ [s]"})
    return Overlapping(both, alone(settings, simulator.signals[0], data) if settings.single_fit else None)


def alone(settings: Settings, signal: BinaryBlackHole, spectrum: np.ndarray) -> Analysis:
    """The fit of one binary to a whitened spectrum (detectors, F)."""
    data = np.einsum("dfp,df->dp", signal.whitening.basis, spectrum)
    marginals, truncated = binary.targets(signal)
    analysis = _analysis(settings, signal, data, marginals, truncated)
    return replace(analysis, labels=binary.LABELS)


def _analysis(settings: Settings, simulator, strain: np.ndarray, marginals, truncated) -> Analysis:
    return Analysis(
        simulator,
        {"strain": strain},
        marginals,
        stages=stages(settings.waveforms, settings.steps),
        training=settings.training,
        truncation=settings.truncation,
        truncated=truncated,
        embedding=CompressedNetwork,
        seed=settings.seed,
        workers=settings.workers,
    )


def _labelled(text: str, label: str) -> str:
    """A LaTeX label with the signal's letter as a superscript of what stands before the unit."""
    symbol, _, unit = text.partition(" [")
    return f"{symbol} ({label})" + (f" [{unit}" if unit else "")


THIRTY = {
    "spins": True,
    "sky": True,
    "approximant": "IMRPhenomPv2",
    "reference_frequency_hz": 20.0,
    "waveforms": (20_000, 20_000, 40_000, 80_000, 120_000, 200_000),
    "steps": (1000, 800, 1000, 2000, 4000, 9000),
}
recipe = Recipe(
    settings=Settings,
    build=build,
    papers=(OVERLAPPING, PEREGRINE, PHENOM_XAS, BILBY),
    presets={
        "thirty": THIRTY,
        "gpu": {**THIRTY, "training.accelerator": "gpu"},
        "reduced": {
            "detectors": ("H1", "L1"),
            "f_max_hz": 256.0,
            "waveforms": (4000, 4000, 8000),
            "steps": (300, 300, 1200),
            "training.batch_size": 256,
        },
        "smoke": {"waveforms": (300, 300), "steps": (20, 20), "training.batch_size": 128},
    },
    summary="two overlapping binaries and, for comparison, the fit of one; truth known",
)
