"""Figures of a field: truth, data, and the power spectrum with its posterior band."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from tmnre import Result
from tmnre_fields import spectrum
from tmnre_fields.simulator import FieldSimulator


def field(result: Result, folder: Path, *, simulator: FieldSimulator, z: np.ndarray, x: np.ndarray) -> None:
    """Write field.png to folder: the mock's z (n, n), the data x (n, n), and P(k) of z with posterior bands.

    The power of this z scatters about the model by its own cosmic variance, drawn as the width of the points.
    """
    grid = simulator.grid
    figure = Figure(figsize=(14, 3.8), layout="constrained")
    axes = figure.subplots(1, 3)
    for axis, values, title in (
        (axes[0], z, "truth $z$"),
        (axes[1], x, "data $x = e^z + $ noise" if grid.exponentiate else "data $x = z + $ noise"),
    ):
        low, high = np.quantile(values, [0.002, 0.998])
        shown = axis.imshow(values, origin="lower", vmin=low, vmax=high, cmap="viridis")
        figure.colorbar(shown, ax=axis)
        axis.set(title=title, xlabel="pixel", ylabel="pixel")
    k, matrix = spectrum.annuli(grid.pixels)
    rms, slope = torch.from_numpy(result["rms", "slope"].sample(500)).T

    def model(rms: torch.Tensor, slope: torch.Tensor) -> np.ndarray:
        power = spectrum.power(rms, slope, pixels=grid.pixels, knee=grid.knee_cycles_per_box)
        return (power.flatten(1) @ matrix).numpy()

    draws = model(rms, slope)
    for mass, alpha in ((0.95, 0.25), (0.68, 0.5)):
        band = np.quantile(draws, [(1 - mass) / 2, (1 + mass) / 2], axis=0)
        axes[2].fill_between(k, *band, color="C0", alpha=alpha, lw=0, label=f"posterior {mass:.0%}")
    found = (spectrum.measured_power(torch.from_numpy(z).double()[None]).flatten(1) @ matrix)[0].numpy()
    # each mode of a Gaussian field has as much scatter as power; a real field's modes come in equal pairs
    modes = 1 / (matrix**2 / spectrum.multiplicity(grid.pixels).repeat(grid.pixels)[:, None]).sum(0).numpy()
    axes[2].errorbar(k, found, found * np.sqrt(2 / modes), fmt=".", color="0.4", ms=4, lw=0.8, label="this $z$")
    if {"rms", "slope"} <= set(result.truth):
        truth = model(*(torch.tensor([result.truth[name]]) for name in ("rms", "slope")))[0]
        axes[2].plot(k, truth, "k--", lw=1, label="truth")
    axes[2].set(xlabel="k [cycles per box]", ylabel="P(k) per pixel", yscale="log", title="power spectrum of $z$")
    # linear below 1, so that k = 0 is on the page
    axes[2].set_xscale("symlog", linthresh=1)
    axes[2].set_xlim(-0.1, float(k[-1]) * 1.1)
    axes[2].set_ylim(0.5 * float(draws.min()), 5 * float(draws.max()))
    axes[2].legend()
    figure.savefig(folder / "field.png", dpi=120)
