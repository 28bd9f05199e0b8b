"""Figures of detection as truncation: posteriors in three colours, dN/dF bands, efficiency, detections, purity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from tmnre import MarginalPosterior, Result
from tmnre_popsources import detection
from tmnre_popsources.figures import dn_dlogf, flux_band
from tmnre_popsources.patch import Sources

COLOURS = {"sub-threshold": "#0072B2", "detected": "#E69F00", "combined": "#009E73", "direct": "0.25"}
"""Okabe & Ito's blue, orange and green; grey dashes for the cross-check"""


def write(procedure, result: Result, folder: Path, *, found, network, seen, every, trials) -> None:
    """Write posteriors.png, fluxes.png, efficiency.png and detections.png to folder."""
    names = procedure.prior.names
    labels = [procedure.labels.get(name, name) for name in names]
    triangle(every, names, labels, result.truth).savefig(folder / "posteriors.png", dpi=130)
    fluxes(procedure, every, result.truth).savefig(folder / "fluxes.png", dpi=130)
    efficiency(procedure, seen, trials, every["combined"]).savefig(folder / "efficiency.png", dpi=130)
    detections(procedure, network, found).savefig(folder / "detections.png", dpi=130)


def triangle(every, names, labels, truth) -> Figure:
    """1-d and 2-d posteriors, 68% and 95% regions, of all posteriors in their colours."""
    n = len(names)
    figure = Figure(figsize=(2.6 * n, 2.6 * n), layout="constrained")
    axes = figure.subplots(n, n, squeeze=False)
    views = []
    for name in names:
        samples = [m[(name,)].interval(0.998)[0] for key, m in every.items()]
        low, high = np.min(samples, axis=0)[0], np.max(samples, axis=0)[1]
        views.append((low - 0.03 * (high - low), high + 0.03 * (high - low)))
    for i in range(n):
        for j in range(n):
            axis = axes[i, j]
            if j > i:
                axis.remove()
                continue
            for key, marginals in every.items():
                dashed = key == "direct"
                if i == j:
                    _curve(axis, marginals[(names[i],)], views[i], COLOURS[key], dashed)
                else:
                    _contours(axis, marginals[(names[j], names[i])], (views[j], views[i]), COLOURS[key], dashed)
            if names[j] in truth:
                axis.axvline(truth[names[j]], color="k", lw=0.8, ls=":")
            axis.set_xlim(views[j])
            if i != j:
                axis.set_ylim(views[i])
                if names[i] in truth:
                    axis.axhline(truth[names[i]], color="k", lw=0.8, ls=":")
            else:
                axis.set_ylim(bottom=0)
                axis.set_yticks([])
            axis.set_xlabel(labels[j] if i == n - 1 else "")
            axis.set_ylabel(labels[i] if j == 0 and i else "")
            axis.tick_params(labelbottom=i == n - 1, labelleft=j == 0 and i > 0)
    lines = [Line2D([], [], color=COLOURS[key], ls="--" if key == "direct" else "-") for key in every]
    lines.append(Line2D([], [], color="k", ls=":", lw=0.8))
    figure.legend(lines, [*every, "truth"], loc="upper right", frameon=False)
    return figure


def _curve(axis: Axes, marginal: MarginalPosterior, view, color: str, dashed: bool) -> None:
    grid = np.linspace(*view, 300)
    # few thousand weighted draws: smoothed by 0.3 standard deviations
    density = gaussian_filter1d(marginal.density(grid), 0.3 * marginal.sd / (grid[1] - grid[0]), mode="nearest")
    axis.plot(grid, density, color=color, ls="--" if dashed else "-", lw=1.5)
    if not dashed:
        axis.fill_between(grid, density, color=color, alpha=0.15, lw=0)


def _contours(axis: Axes, marginal: MarginalPosterior, views, color: str, dashed: bool, bins: int = 60) -> None:
    counts, x, y = np.histogram2d(*marginal.samples.T, bins, views, weights=marginal.weights)
    spread = [np.sqrt(np.cov(s, aweights=marginal.weights)) for s in marginal.samples.T]
    # a sixth of the posterior's own width, or a cell: what few thousand draws resolve
    sigma = [max(1.0, 0.3 * s / (v[1] - v[0]) * bins) for s, v in zip(spread, views, strict=True)]
    smooth = gaussian_filter(counts, sigma)
    falling = np.sort(smooth.ravel())[::-1]
    mass = falling.cumsum() / falling.sum()
    levels = sorted(falling[np.searchsorted(mass, share)] for share in (0.68, 0.95))
    if levels[0] >= levels[1]:
        return
    centres = [(e[1:] + e[:-1]) / 2 for e in (x, y)]
    if not dashed:
        axis.contourf(*centres, smooth.T, [*levels, smooth.max() * 1.01], colors=[color], alpha=0.2)
    axis.contour(*centres, smooth.T, levels, colors=[color], linewidths=1.1, linestyles="--" if dashed else "-")


def fluxes(procedure, every, truth) -> Figure:
    """F dN/dF of sub-threshold, detected and combined posteriors, one panel each, with the mock's sources."""
    scene, names = procedure.scene, tuple(procedure.scene.fluxes.names)
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    edge = np.log(procedure.threshold.flux)
    log_flux = np.linspace(edge - 6, edge + 4, 121)
    for axis, key in zip(axes, ("sub-threshold", "detected", "combined"), strict=True):
        flux_band(axis, log_flux, scene, every[key][names].sample(1500), color=COLOURS[key], label="posterior")
        if procedure.sources is not None:
            bins = np.linspace(edge - 6, edge + 4, 21)
            number, _ = np.histogram(procedure.sources[:, 2], bins)
            axis.stairs(number / np.diff(bins), bins, color="0.5", label="this catalogue")
        if set(names) <= set(truth):
            given = np.array([[truth[name] for name in names]])
            axis.plot(log_flux, dn_dlogf(scene, given, log_flux)[0], "k--", lw=1, label="truth")
        axis.axvline(edge, color="k", lw=0.7, ls=":")
        axis.set(title=key, xlabel=r"$\ln F$", xlim=(log_flux[0], log_flux[-1]))
    axes[0].set_ylabel(r"$F\,dN/dF$")
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def efficiency(procedure, seen, trials, combined) -> Figure:
    """S(F) at three places under the combined posterior's median, and completeness and purity over the prior."""
    names = procedure.prior.names
    theta = torch.tensor([[combined[(name,)].summary()["median"] for name in names]])
    edge = np.log(procedure.threshold.flux)
    log_flux = torch.linspace(edge - 4, edge + 5, 181)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for b_deg, shade in ((0.0, "0.1"), (10.0, "0.4"), (25.0, "0.65")):
        place = Sources(torch.zeros(181), torch.zeros(181), torch.full((181,), b_deg), log_flux)
        left.plot(log_flux.exp(), seen(place, theta), color=shade, label=f"$b$ = {b_deg:.0f} deg")
    left.set(xscale="log", xlabel="flux", ylabel="S(F)", title="efficiency, under the combined posterior's medians")
    left.title.set_fontsize(10)
    by = trials.by_flux(np.linspace(edge - 4, edge + 5, 25))
    middle = np.exp(np.convolve(by["log_flux_edges"], [0.5, 0.5], "valid"))
    for key, color in (("completeness", "#0072B2"), ("purity", "#D55E00")):
        values = np.array([np.nan if v is None else v for v in by[key]])
        right.plot(middle, values, "o-", ms=3, color=color, label=key)
    right.set(xscale="log", xlabel="flux", title="simulated maps of the whole prior", ylim=(-0.02, 1.05))
    right.title.set_fontsize(10)
    for axis in (left, right):
        axis.axvline(np.exp(edge), color="k", lw=0.7, ls=":")
        axis.legend(frameon=False, fontsize=8)
    return figure


def detections(procedure, network, found) -> Figure:
    """The counts with detections and their 95% ellipses, and log r1 at the threshold's flux."""
    half = procedure.scene.half_width_deg
    counts = torch.as_tensor(procedure.counts, dtype=torch.float32)
    with torch.no_grad():
        logits, _ = network({"counts": counts[None]})
    ratio = detection.log_r1(logits, procedure.before)[0, 1]
    figure = Figure(figsize=(11.5, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    extent = (-half, half, -half, half)
    norm = SymLogNorm(max(1.0, float(counts.max()) / 1e3), vmin=0, vmax=float(counts.max()))
    shown = left.imshow(counts, origin="lower", extent=extent, cmap="inferno", norm=norm)
    figure.colorbar(shown, ax=left, label="counts")
    top = max(5.0, float(ratio.max()))
    shown = right.imshow(ratio, origin="lower", extent=extent, cmap="RdBu_r", vmin=-top, vmax=top)
    figure.colorbar(shown, ax=right, label=rf"$\log r_1(\Omega, F \geq {procedure.threshold.flux:g};\, x)$")
    if procedure.sources is not None:
        bright = procedure.sources[procedure.sources[:, 2] >= np.log(procedure.threshold.flux)]
        for axis, color in ((left, "c"), (right, "k")):
            axis.plot(bright[:, 0], bright[:, 1], "+", ms=6, mew=1, color=color, label="sources above the threshold")
    left.plot(found.l_deg, found.b_deg, "o", ms=11, mfc="none", mec="w", mew=1, label="detections")
    right.plot(found.l_deg, found.b_deg, "o", ms=11, mfc="none", mec="0.3", mew=1, label="detections")
    right.legend(loc="upper right", fontsize=8, framealpha=0.9)
    for axis in (left, right):
        axis.set(xlim=(-half, half), ylim=(-half, half), xlabel="$l$ [deg]")
    left.set_ylabel("$b$ [deg]")
    return figure
