"""The sky in a Mollweide projection, and the distance."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from tmnre.figures import INK, INNER, LINE, OUTER, TRUTH
from tmnre.result import MarginalPosterior
from tmnre_gw.skymap import SkyMap

CELLS = 720
BLUES = LinearSegmentedColormap.from_list("sky", ["white", OUTER, INNER, LINE, "#00324f"])


def sky_figure(sky: SkyMap, joint: MarginalPosterior, truth: Mapping[str, float]) -> Figure:
    """Probability density on the sky with the 50% and 90% credible regions, and the distance's marginal."""
    figure = Figure(figsize=(9.6, 5.2), layout="constrained")
    axis = figure.add_subplot(projection="mollweide")
    # right ascension grows to the left, 12 h at the edges
    x = np.linspace(-np.pi, np.pi, 2 * CELLS + 1)
    y = np.linspace(-np.pi / 2, np.pi / 2, CELLS + 1)
    at_x, at_y = np.meshgrid(0.5 * (x[1:] + x[:-1]), 0.5 * (y[1:] + y[:-1]))
    density = sky.at((np.pi - at_x) % (2 * np.pi), at_y)
    axis.pcolormesh(x, y, density, cmap=BLUES, rasterized=True, vmin=0)
    levels = [_level(sky, mass) for mass in (0.9, 0.5)]
    axis.contour(at_x, at_y, density, levels, colors=[LINE], linewidths=0.9)
    if {"ra", "dec"} <= set(truth):
        axis.plot(np.pi - truth["ra"], truth["dec"], "+", color=TRUTH, ms=12, mew=1.6, label="truth")
        axis.legend(frameon=False, loc="lower right", labelcolor=INK)
    axis.grid(color="0.85", lw=0.6)
    axis.set_axisbelow(False)
    hours = np.arange(2, 24, 2)
    axis.set_xticks(np.pi - hours * np.pi / 12, [f"{hour}$^h$" for hour in hours])
    axis.tick_params(labelsize=8, colors=INK)
    areas = [sky.credible_area_deg2(mass) for mass in (0.5, 0.9)]
    column = joint.samples[:, joint.names.index("luminosity_distance")]
    low, median, high = np.quantile(column, [0.05, 0.5, 0.95])
    figure.suptitle(
        rf"50% in {areas[0]:.0f} deg$^2$, 90% in {areas[1]:.0f} deg$^2$; distance "
        rf"${median:.0f}^{{+{high - median:.0f}}}_{{-{median - low:.0f}}}$ Mpc",
        fontsize="medium",
        color=INK,
    )
    return figure


def _level(sky: SkyMap, mass: float) -> float:
    """The density above which so much probability lies."""
    order = np.argsort(-sky.density)
    held = np.cumsum((sky.density * sky.area)[order])
    return float(sky.density[order][np.searchsorted(held, mass)])
