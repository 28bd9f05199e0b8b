"""The counts, with the decay curve of the posterior's medians."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tmnre import Result
from tmnre_example.simulator import DecaySimulator


def decay(result: Result, folder: Path, *, simulator: DecaySimulator, counts: np.ndarray) -> None:
    """Write decay.png: counts (B,) with their Poisson errors, and what the medians make expect."""
    medians = np.array([[result[name].summary()["median"] for name in simulator.prior.names]])
    middle = 0.5 * (simulator.edges_s[1:] + simulator.edges_s[:-1])
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axis = figure.add_subplot(xlabel="time [s]", ylabel="counts an interval", yscale="symlog")
    axis.errorbar(middle, counts, np.sqrt(np.maximum(counts, 1)), fmt="o", ms=3, color="0.25", lw=1, label="counts")
    axis.stairs(simulator.expected(medians)[0], simulator.edges_s, color="#0072B2", lw=1.8, label="medians")
    if result.truth:
        truth = np.array([[result.truth[name] for name in simulator.prior.names]])
        axis.stairs(simulator.expected(truth)[0], simulator.edges_s, color="#D55E00", lw=1.2, ls="--", label="truth")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(folder / "decay.png", dpi=120)
