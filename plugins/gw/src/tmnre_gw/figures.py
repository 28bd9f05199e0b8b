"""Whitened data with the signal that fits them best among draws from the last region."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from tmnre import Box, Result
from tmnre.files import write_whole
from tmnre.inside import draw
from tmnre.simulator import as_tensors
from tmnre_gw.likelihood import Likelihood
from tmnre_gw.simulator import BinaryBlackHole

WAVEFORMS, PROPOSALS = 1000, 64
BEFORE_S, AFTER_S = 0.25, 0.1


def of(simulator: BinaryBlackHole, observation: dict[str, np.ndarray]) -> Callable[[Result, Path], None]:
    """The figure writer of an analysis."""

    def write(result: Result, folder: Path) -> None:
        figure = whitened_figure(simulator, observation, Box.from_dict(result.rounds[-1]["region"]))
        write_whole(folder / "whitened.png", lambda path: figure.savefig(path, dpi=120))

    return write


def best_fit(simulator: BinaryBlackHole, data: np.ndarray, region: Box, seed: int = 0) -> tuple[np.ndarray, float]:
    """Signal (detectors, P) of highest likelihood among draws from the region's box, and its log likelihood ratio.

    A picture of the signal, not a posterior: the best of WAVEFORMS x PROPOSALS draws, phase maximised where it is a
    factor.
    """
    rng = np.random.default_rng(seed)
    likelihood = Likelihood(simulator, data)
    u = draw(simulator, region, WAVEFORMS, rng)
    stored = as_tensors(simulator.simulate(simulator.prior.from_cube(u), rng))
    columns = simulator.prior.columns(simulator.redrawn)
    fresh = region.sample(WAVEFORMS * PROPOSALS, rng).reshape(PROPOSALS, WAVEFORMS, -1)
    best, best_signal = -np.inf, np.zeros_like(data)
    for block in fresh:
        u[:, columns] = block[:, columns]
        theta = torch.from_numpy(simulator.prior.from_cube(u))
        overlap, square = likelihood.products(stored, theta)
        turn = overlap.angle() if likelihood.marginal_phase else torch.zeros_like(square)
        log_ratio = (overlap * torch.exp(-1j * turn)).real - 0.5 * square
        i = int(log_ratio.argmax())
        if log_ratio[i] > best:
            best, found = float(log_ratio[i]), theta[i : i + 1]
            if likelihood.marginal_phase:
                found[:, simulator.prior.columns(("phase",))] = 0.5 * turn[i]
            best_signal = simulator.signal({k: v[i : i + 1] for k, v in stored.items()}, found)[0].numpy()
    return best_signal, best


def whitened_figure(simulator: BinaryBlackHole, observation: dict[str, np.ndarray], region: Box) -> Figure:
    """Whitened strain of each detector about the trigger, in units of its noise, and the best-fitting signal."""
    data = observation["strain"]
    signal, log_ratio = best_fit(simulator, data, region)
    band, whitening, network = simulator.band, simulator.whitening, simulator.network
    times = np.arange(-BEFORE_S, AFTER_S, 1 / (4 * band.f_max_hz))
    synthesis = np.exp(2j * np.pi * times[:, None] * band.frequencies_hz)
    figure = Figure(figsize=(8, 2.4 * len(network.names) + 0.6), layout="constrained")
    axes = figure.subplots(len(network.names), 1, sharex=True, squeeze=False)[:, 0]
    for d, (axis, name) in enumerate(zip(axes, network.names, strict=True)):
        series = [np.real(synthesis @ (whitening.basis[d] @ part[d])) for part in (data, signal)]
        # two real unit variances per frequency
        noise = np.sqrt(len(band.frequencies_hz))
        axis.plot(times, series[0] / noise, color="0.6", lw=0.8, label="data")
        axis.plot(times, series[1] / noise, color="#0072B2", lw=1.4, label="best-fitting signal")
        snr = np.linalg.norm(signal[d])
        axis.set_ylabel(f"{name} [$\\sigma$]")
        axis.text(0.01, 0.95, rf"{name}: $\rho = {snr:.1f}$", transform=axis.transAxes, va="top")
        axis.margins(x=0)
    axes[0].legend(loc="upper right", frameon=False, ncols=2)
    axes[-1].set_xlabel(f"time [s] from GPS {network.reference_gps_s:.3f}")
    figure.suptitle(
        f"Whitened strain, {band.f_min_hz:g}-{band.f_max_hz:g} Hz; best of {WAVEFORMS * PROPOSALS:,} draws "
        rf"($\ln \mathcal{{L}}$ ratio {log_ratio:.0f})",
        fontsize="medium",
    )
    return figure
