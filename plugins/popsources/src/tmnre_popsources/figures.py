"""Figures of a patch: the counts, the sources behind them, and the flux distribution with its posterior band."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from scipy import stats

from tmnre import Result
from tmnre_popsources.simulator import Catalogue, PatchSimulator


def patch(
    result: Result,
    folder: Path,
    *,
    simulator: PatchSimulator,
    sources: Catalogue,
    expected: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Write patch.png to folder: expected counts (n, n) with the mock's sources, counts (n, n), and dN/d ln F."""
    half = simulator.patch.half_width_deg
    figure = Figure(figsize=(14, 4), layout="constrained")
    axes = figure.subplots(1, 3)
    norm = SymLogNorm(1.0, vmin=0, vmax=float(counts.max()))
    background = simulator.patch.background_counts
    for axis, values, title in (
        (axes[0], expected + background, "expected counts and sources"),
        (axes[1], counts, "data: counts"),
    ):
        shown = axis.imshow(values, origin="lower", extent=(-half, half, -half, half), norm=norm, cmap="inferno")
        axis.set(title=title, xlabel="$l$ [deg]", ylabel="$b$ [deg]")
    figure.colorbar(shown, ax=axes[:2])
    area = 10 * np.log1p(sources.flux_counts)
    axes[0].scatter(sources.l_deg, sources.b_deg, area, facecolors="none", edgecolors="c", linewidths=0.5)
    axes[0].set(xlim=(-half, half), ylim=(-half, half))
    log_flux = np.linspace(-4, 8, 121)
    number, width = result["expected_sources", "flux_width"].sample(2000).T[..., None]
    draws = number * stats.norm.pdf(log_flux, simulator.patch.mean_log_flux, width)
    for mass, alpha in ((0.95, 0.25), (0.68, 0.5)):
        band = np.quantile(draws, [(1 - mass) / 2, (1 + mass) / 2], axis=0)
        axes[2].fill_between(log_flux, *band, color="C0", alpha=alpha, lw=0, label=f"posterior {mass:.0%}")
    bins = np.linspace(-4, 8, 25)
    found, _ = np.histogram(np.log(sources.flux_counts), bins)
    axes[2].stairs(found / np.diff(bins), bins, color="0.5", label="this catalogue")
    if {"expected_sources", "flux_width"} <= set(result.truth):
        density = stats.norm.pdf(log_flux, simulator.patch.mean_log_flux, result.truth["flux_width"])
        axes[2].plot(log_flux, result.truth["expected_sources"] * density, "k--", lw=1, label="truth")
    axes[2].set(xlabel="ln(flux / counts)", ylabel="dN / d ln F", title="flux distribution")
    axes[2].legend()
    figure.savefig(folder / "patch.png", dpi=120)
