"""The Hubble diagram, and the distances that the posterior leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tmnre import Result
from tmnre_supernova.simulator import SCATTER_MAG, HubbleDiagram


def hubble(result: Result, folder: Path, *, simulator: HubbleDiagram, magnitude: np.ndarray) -> None:
    """Write hubble.png: residuals (n,) from Omega_m = 0.3, w = -1, with 40 posterior draws."""
    z, standard = simulator.redshifts, simulator.moduli(0.3, -1.0)
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axis = figure.add_subplot(xlabel="redshift", ylabel="magnitude - standard cosmology")
    axis.errorbar(z, magnitude - standard, SCATTER_MAG, fmt="o", ms=2, lw=0.5, color="0.75", label="supernovae")
    for row in result["omega_m", "w"].sample(40):
        curve = simulator.moduli(*row) - standard
        # the zero point is free: each draw is shown with the one that fits it best
        curve = curve + np.mean(magnitude - standard - curve)
        axis.plot(z, curve, color="#0072B2", lw=0.6, alpha=0.4)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(folder / "hubble.png", dpi=120)
