"""Figures of the search for a subhalo: probability map over the image, mass, sensitivity; reliability on mocks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tmnre_lensing.optics import Grid
from tmnre_lensing.subhalo.bins import Bins


def subhalo(
    folder: Path,
    *,
    image: np.ndarray,
    bins: Bins,
    maps: np.ndarray,
    sensitivity: np.ndarray,
    title: str,
    truth: np.ndarray,
) -> None:
    """Write subhalo.png: the image with contours of the position's posterior, the map itself, the mass, sensitivity.

    maps (masses, ny, nx): probability of a subhalo in every bin; truth (S, 3): x, y in arcsec and log10 M200
    """
    where, masses = maps.sum(0), maps.sum((1, 2))
    figure = Figure(figsize=(16, 3.9), layout="constrained")
    axes = figure.subplots(1, 4)
    extent = bins.grid.extent_arcsec
    axes[0].imshow(image, origin="lower", extent=extent, cmap="gray")
    levels = _levels(where / where.sum(), (0.95, 0.68))
    x, y = Grid(*bins.grid.shape, bins.grid.pixel_arcsec).axes()
    axes[0].contour(x, y, where / where.sum(), levels=levels, colors=["deepskyblue", "yellow"], linewidths=1.2)
    axes[0].set_title("data, 68% and 95% of the position")
    shown = axes[1].imshow(np.log10(where + 1e-12), origin="lower", extent=extent, cmap="inferno", vmin=-6, vmax=0)
    figure.colorbar(shown, ax=axes[1], shrink=0.85, label="log$_{10}$ probability per pixel")
    axes[1].set_title(title)
    axes[2].stairs(masses / masses.sum() / np.diff(bins.edges), bins.edges, fill=True, alpha=0.6)
    axes[2].set(xlabel=r"$\log_{10} M_{200}/M_\odot$", ylabel="posterior density", title="mass, if there is one")
    shown = axes[3].imshow(sensitivity, origin="lower", extent=extent, cmap="viridis_r")
    axes[3].set_facecolor("0.85")
    figure.colorbar(shown, ax=axes[3], shrink=0.85, label=r"$\log_{10} M_{200}/M_\odot$")
    axes[3].set_title(r"lightest subhalo expected at 5$\sigma$")
    for x_true, y_true, mass in truth[truth[:, 2] >= bins.edges[0]]:
        for axis in (axes[0], axes[1], axes[3]):
            axis.plot(x_true, y_true, "+", color="red", ms=12, mew=1.5)
        axes[2].axvline(mass, color="red", lw=1.2)
    for axis in (axes[0], axes[1], axes[3]):
        axis.set(xlabel="x [arcsec]", ylabel="y [arcsec]")
    figure.savefig(folder / "subhalo.png", dpi=120)


def _levels(share: np.ndarray, masses: tuple[float, ...]) -> list[float]:
    """Densities above which so much of the probability lies, ascending and distinct."""
    falling = np.sort(share.ravel())[::-1]
    found = [float(falling[np.searchsorted(np.cumsum(falling), mass)]) for mass in masses]
    return [level * (1 + 1e-6 * i) for i, level in enumerate(found)]


def reliability(on_mocks: Mapping, folder: Path) -> None:
    """Write reliability.png: how often there is a subhalo where the network says so."""
    figure = Figure(figsize=(8.5, 3.8), layout="constrained")
    axes = figure.subplots(1, 2)
    rows = on_mocks["reliability"]
    p, share, mocks = (np.array([row[key] for row in rows]) for key in ("probability", "share", "mocks"))
    error = np.sqrt(np.maximum(p * (1 - p), 1e-4) / mocks)
    axes[0].plot([0, 1], [0, 1], color="0.6", lw=1)
    axes[0].errorbar(p, share, yerr=error, fmt="o", ms=4, capsize=2)
    axes[0].set(
        xlabel="probability of a subhalo, as said", ylabel="share that holds one", xlim=(0, 1), ylim=(-0.02, 1.02)
    )
    axes[0].set_title(f"reliability, {on_mocks['mocks']} mocks held aside")
    names = list(on_mocks["found"])
    axes[1].bar(range(len(names)), [on_mocks["found"][name] for name in names], color="C0", alpha=0.7)
    axes[1].set_xticks(range(len(names)), [name.replace(" < log10 M < ", "-") for name in names])
    criterion = on_mocks["criterion"]
    alarms = on_mocks["false_alarms"][criterion]
    axes[1].axhline(alarms, color="red", lw=1, label=f"false alarms: {alarms:.3f}")
    said = criterion.replace("log10_bayes_factor", r"$\log_{10} B$")
    axes[1].set(xlabel=r"$\log_{10} M_{200}/M_\odot$", ylabel=f"share with {said}", ylim=(0, 1))
    axes[1].set_title("found, anywhere in the field")
    axes[1].legend()
    figure.savefig(folder / "reliability.png", dpi=120)
