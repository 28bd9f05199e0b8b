"""Figures of a flat field's posterior: maps, spectra with bands, checks against the truth, rounds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tmnre_fields.checks import Spectra, by_brightness, spectra
from tmnre_fields.sequential import FieldRounds, Found

# Okabe & Ito
BLUE, VERMILLION, INK = "#0072B2", "#D55E00", "0.25"


def draw_all(procedure: FieldRounds, found: Found, record: Mapping[str, Any], folder: Path) -> None:
    """maps, spectra, checks and field_rounds .png for every component."""
    sky, truth = procedure.model.response.sky, procedure.truth
    for i, component in enumerate(procedure.model.components):
        suffix = f"_{component.name}" if len(procedure.model.components) > 1 else ""
        mean, draws = (torch.from_numpy(m[..., i, :, :]) for m in (found.mean_modes, found.draw_modes))
        truth_modes = None if truth is None else truth[i]
        prior = None if procedure.model.prior else procedure.model.power()[0, i]
        shown = None if truth is None else sky.fields(truth_modes).numpy()
        found_spectra = spectra(sky, mean, draws, truth_modes)
        figures = {
            "maps": maps(found, i, shown, data(procedure), component.name),
            "spectra": spectra_figure(found_spectra, prior, sky),
            "field_rounds": rounds_figure(found, i, shown, record),
        }
        if shown is not None:
            figures["checks"] = checks_figure(found, i, shown, found_spectra, sky)
        for name, figure in figures.items():
            figure.savefig(folder / f"{name}{suffix}.png", dpi=120)


def data(procedure: FieldRounds) -> np.ndarray:
    """The data (V, *grid), not a number where there are none: a zero would look like one."""
    return np.where(procedure.model.observed.numpy() > 0, procedure.x.numpy(), np.nan)


def maps(found: Found, i: int, truth: np.ndarray | None, x: np.ndarray, name: str) -> Figure:
    """Truth, data, mean, standard deviation, and two draws."""
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    reference = found.mean[i] if truth is None else truth
    low, high = np.quantile(reference, [0.002, 0.998])
    same = {"vmin": low, "vmax": high, "cmap": "viridis"}
    symbol = rf"${name}$" if len(name) == 1 else name
    panels = [("data, first channel", x[0], {"cmap": "magma", "vmax": np.nanquantile(x[0], 0.995)})]
    if truth is not None:
        panels.insert(0, (f"truth, {symbol}", truth, same))
    panels += [("posterior mean", found.mean[i], same), ("posterior sd", found.sd[i], {"cmap": "cividis"})]
    panels += [(f"draw {s + 1}", found.draws[s, i], same) for s in range(6 - len(panels))]
    for axis, (title, values, how) in zip(axes, panels, strict=True):
        _image(figure, axis, values, title, **how)
    return figure


def spectra_figure(s: Spectra, power: torch.Tensor | None, sky) -> Figure:
    """P(k) with posterior bands; transfer and coherence of the mean."""
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    axes = figure.subplots(1, 3)
    _bands(axes[0], s.k, s.draws, "draws")
    axes[0].plot(s.k, s.mean, color=BLUE, lw=1, ls="--", label="posterior mean")
    if s.truth is not None:
        axes[0].plot(s.k, s.truth, ".", color=VERMILLION, ms=4, label="truth")
    if power is not None:
        axes[0].plot(s.k, power.flatten().double() @ sky.bins, color=INK, lw=0.8, label="prior")
    axes[0].set(yscale="log", ylabel="P(k) per pixel", title="power spectrum")
    for axis, values, draws, title in (
        (axes[1], s.transfer, s.transfer_draws, r"transfer of the mean, $\sqrt{P_{\rm mean} / P}$"),
        (axes[2], s.coherence, s.coherence_draws, "coherence of the mean"),
    ):
        _bands(axis, s.k, draws, "expected of the truth")
        if values is not None:
            axis.plot(s.k, values, ".", color=VERMILLION, ms=4, label="truth")
        axis.axhline(1, color=INK, lw=0.8)
        axis.set(title=title, ylim=(0, 1.25))
    for axis in axes:
        axis.set(xlabel="k [cycles per box]", xlim=(0, s.k[-1]))
        axis.legend(frameon=False, fontsize=8)
    return figure


def checks_figure(found: Found, i: int, truth: np.ndarray, s: Spectra, sky) -> Figure:
    """chi2 per k-bin, z-scores by brightness, one-point distribution."""
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    # power of an annulus of m real modes scatters by sqrt(2 / m)
    modes = 1 / (sky.bins**2 / sky.multiplicity.flatten()[:, None]).sum(0).numpy()
    error = np.sqrt(2 / modes)
    left.fill_between(s.k, 1 - error, 1 + error, color=BLUE, alpha=0.25, lw=0, label="expected scatter")
    left.plot(s.k, s.chi2, ".", color=VERMILLION, ms=4, label="truth")
    left.axhline(1, color=INK, lw=0.8)
    left.set(xlabel="k [cycles per box]", title=r"$\chi^2$ per mode of truth $-$ mean")
    left.set_ylim(0, max(2.5, 1.1 * s.chi2.max()))
    sd, mean = found.sd[i], found.mean[i]
    quantiles = 8
    rms, _ = by_brightness(mean, sd, truth, quantiles)
    expected = np.array([by_brightness(mean, sd, draw, quantiles)[0] for draw in found.draws[:, i]])
    centres = np.arange(quantiles) + 0.5
    low, high = np.quantile(expected, [0.16, 0.84], axis=0)
    middle.bar(centres, high - low, 0.9, bottom=low, color=BLUE, alpha=0.25, label="draws, 68%")
    middle.plot(centres, rms, "o", color=VERMILLION, ms=4, label="truth")
    middle.axhline(1, color=INK, lw=0.8)
    middle.set(xlabel="eighths of the pixels by posterior mean, faint to bright", title="z-score rms by brightness")
    middle.set_ylim(0, 1.8)
    low, high = np.quantile(truth, [0, 1]) + np.array([-0.2, 0.2]) * truth.std()
    edges = np.linspace(low, high, 40)
    histograms = np.array([np.histogram(draw, edges, density=True)[0] for draw in found.draws[:, i]])
    _bands(right, 0.5 * (edges[1:] + edges[:-1]), histograms, "draws")
    right.stairs(np.histogram(truth, edges, density=True)[0], edges, color=VERMILLION, lw=1, label="truth")
    right.stairs(np.histogram(mean, edges, density=True)[0], edges, color=BLUE, lw=1, ls="--", label="posterior mean")
    right.set(xlabel="value of a pixel", title="one-point distribution")
    for axis in (left, middle, right):
        axis.legend(frameon=False, fontsize=8)
    return figure


def rounds_figure(found: Found, i: int, truth: np.ndarray | None, record: Mapping[str, Any]) -> Figure:
    """Mean, standard deviation and error of every round, a row each."""
    rows = len(found.rounds)
    columns = 2 if truth is None else 3
    figure = Figure(figsize=(3.6 * columns, 3.1 * rows + 0.2), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    low, high = np.quantile(found.mean[i], [0.002, 0.998])
    widest = max(np.quantile(sd[i], 0.998) for _, sd in found.rounds)
    for row, (mean, sd), entry in zip(axes, found.rounds, record["rounds"], strict=True):
        where = f"g = {entry['g']:.2g}" if entry["g"] else "prior"
        title = f"simulations from: {where}"
        _image(figure, row[0], mean[i], f"mean   ({title})", vmin=low, vmax=high, cmap="viridis")
        gain = f"gain {entry['gain_nat']:+.1f} nat" if entry["gain_nat"] else ""
        _image(figure, row[1], sd[i], f"sd   {gain}", vmin=0, vmax=widest, cmap="cividis")
        if truth is not None:
            z = (mean[i] - truth) / sd[i]
            label = f"(mean $-$ truth) / sd, rms {np.sqrt(np.mean(z**2)):.2f}"
            _image(figure, row[2], z, label, vmin=-3, vmax=3, cmap="RdBu_r")
    return figure


def _image(figure: Figure, axis: Axes, values: np.ndarray, title: str, **how) -> None:
    shown = axis.imshow(values, origin="lower", **how)
    axis.set_facecolor("0.85")
    figure.colorbar(shown, ax=axis, shrink=0.9)
    axis.set_title(title, fontsize=10)
    axis.set(xticks=[], yticks=[])


def _bands(axis: Axes, k: np.ndarray, draws: np.ndarray, label: str) -> None:
    for mass, alpha in ((0.95, 0.2), (0.68, 0.4)):
        low, high = np.quantile(draws, [(1 - mass) / 2, (1 + mass) / 2], axis=0)
        axis.fill_between(k, low, high, color=BLUE, alpha=alpha, lw=0, label=f"{label}, {mass:.0%}")
