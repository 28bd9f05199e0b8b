"""Figures of a patch: the counts, the sources behind them, and the flux distribution with its posterior band."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure

from tmnre import Result
from tmnre_popsources.patch import Scene, Sources


def patch(result: Result, folder: Path, *, scene: Scene, sources: Sources, expected, counts) -> None:
    """Write patch.png to folder: expected counts (n, n) with the mock's sources, counts (n, n), and dN/d ln F."""
    half = scene.half_width_deg
    figure = Figure(figsize=(14, 4), layout="constrained")
    axes = figure.subplots(1, 3)
    norm = SymLogNorm(1.0, vmin=0, vmax=float(counts.max()))
    for axis, values, title in (
        (axes[0], expected + scene.diffuse, "expected counts and sources"),
        (axes[1], counts, "data: counts"),
    ):
        shown = axis.imshow(values, origin="lower", extent=(-half, half, -half, half), norm=norm, cmap="inferno")
        axis.set(title=title, xlabel="$l$ [deg]", ylabel="$b$ [deg]")
    figure.colorbar(shown, ax=axes[:2])
    area = 10 * np.log1p(sources.log_flux.exp())
    axes[0].scatter(sources.l_deg, sources.b_deg, area, facecolors="none", edgecolors="c", linewidths=0.5)
    axes[0].set(xlim=(-half, half), ylim=(-half, half))
    names = tuple(scene.fluxes.names)
    log_flux = np.linspace(-4, 8, 121)
    flux_band(axes[2], log_flux, scene, result[names].sample(2000), color="C0", label="posterior")
    bins = np.linspace(-4, 8, 25)
    found, _ = np.histogram(sources.log_flux, bins)
    axes[2].stairs(found / np.diff(bins), bins, color="0.5", label="this catalogue")
    if set(names) <= set(result.truth):
        truth = [result.truth[name] for name in names]
        axes[2].plot(log_flux, dn_dlogf(scene, np.array([truth]), log_flux)[0], "k--", lw=1, label="truth")
    axes[2].set(xlabel="ln(flux)", ylabel="dN / d ln F", title="flux distribution")
    axes[2].legend()
    figure.savefig(folder / "patch.png", dpi=120)


def dn_dlogf(scene: Scene, p: np.ndarray, log_flux: np.ndarray) -> np.ndarray:
    """dN/d ln F (S, K) of flux parameters p (S, k) at ln F (K,)."""
    given = torch.as_tensor(p, dtype=torch.float64)[:, None]
    density = scene.fluxes.log_density(torch.as_tensor(log_flux), given).exp()
    return (scene.fluxes.number(given) * density).numpy()


def flux_band(axis: Axes, log_flux: np.ndarray, scene: Scene, p: np.ndarray, *, color: str, label: str) -> None:
    """Quantile bands of dN/d ln F, 68% and 95%."""
    draws = dn_dlogf(scene, p, log_flux)
    for mass, alpha in ((0.95, 0.2), (0.68, 0.45)):
        band = np.quantile(draws, [(1 - mass) / 2, (1 + mass) / 2], axis=0)
        axis.fill_between(log_flux, *band, color=color, alpha=alpha, lw=0, label=label if mass < 0.9 else None)
