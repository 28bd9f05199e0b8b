"""The core's figures: marginal posteriors, regions per round, training curves.

Densities are weighted histograms smoothed by a Gaussian kernel that is reflected at the edges of the region.  Only
joint marginals that were learned are drawn: two 1-d marginals do not make a joint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, ScalarFormatter
from scipy.ndimage import gaussian_filter

from tmnre.diagnostics.coverage import PERCENTILES, binomial_bands
from tmnre.files import write_whole
from tmnre.region import relative
from tmnre.result import MarginalPosterior, Result, weighted_quantile

# Okabe & Ito's blue and vermillion, with tints of the blue
LINE, INNER, OUTER, TRUTH, INK = "#0072B2", "#5BA4D1", "#C9E0F0", "#D55E00", "0.25"
DASHED = (0, (4, 2))
Pair = tuple[str, str]
View = tuple[float, float]
Curve = Sequence[Mapping[str, float]]
Panels = tuple[Figure, dict[tuple[str, ...], Axes]]


def triangle(result: Result, names: Sequence[str] | None = None) -> Figure:
    """1-d marginals with median and 90% interval, and 50% and 90% regions of the learned joint marginals of two.

    A grid of 1-d marginals and a panel per learned pair where a triangle would be nearly empty.
    """
    asked = dict.fromkeys(name for key in result.marginals for name in key) if names is None else names
    names = [name for name in asked if _learned(result, name)]
    if not names:
        raise ValueError(f"none of {list(asked)} was inferred; there are {list(result.names)}")
    pairs = [(a, b) for i, b in enumerate(names) for a in names[:i] if _learned(result, a, b)]
    views = {name: _view(*_samples(result, name), result.truth.get(name)) for name in names}
    full = len(names) <= 3 or 6 * len(pairs) >= len(names) * (len(names) - 1)
    figure, axes = (_triangle_axes if full else _grid_axes)(names, pairs)
    crowded = full and len(names) > 6
    for key, axis in axes.items():
        (_draw_one if len(key) == 1 else _draw_two)(axis, result, key, [views[name] for name in key])
        axis.title.set_fontsize(7 if crowded else 9)
        # in a triangle, numbers and names go to the lowest learned panel of a column and the leftmost of a row
        lowest = [k for k in axes if k[0] == key[0]][-1]
        leftmost = next((pair for pair in pairs if pair[1] == key[-1]), key)
        for side, name, shown in zip((axis.xaxis, axis.yaxis), key, (lowest, leftmost), strict=False):
            _ticks(side, views[name], result.labels.get(name, name) if not full or key == shown else None, crowded)
    legend = {"median": Line2D([], [], color=LINE, lw=1.2, ls=DASHED), "90% interval": Patch(color=OUTER)}
    if pairs:
        legend |= {"50% region": Patch(color=INNER, ec=LINE), "90% region": Patch(color=OUTER, ec=LINE)}
    if any(name in result.truth for name in names):
        legend["truth"] = Line2D([], [], color=TRUTH, lw=1.2)
    ncols = 1 if full and len(names) > 1 else 5
    figure.legend(legend.values(), legend, ncols=ncols, frameon=False, fontsize=9, loc="upper right", labelcolor=INK)
    return figure


def _triangle_axes(names: Sequence[str], pairs: Sequence[Pair]) -> Panels:
    n = len(names)
    cell = 3.2 if n == 1 else float(np.clip(16 / n, 1.15, 2.1))
    step, left, below, top = 1.08 * cell, 0.85, 0.85, 0.75 if n == 1 else 0.4
    figure = Figure(figsize=(left + n * step + 0.1, below + n * step + top))
    keys = [*((name, name) for name in names), *pairs]
    places = {key: (left + names.index(key[0]) * step, top + names.index(key[1]) * step, cell, cell) for key in keys}
    return figure, {key[: 1 + (key[0] != key[1])]: _place(figure, *place) for key, place in places.items()}


def _grid_axes(names: Sequence[str], pairs: Sequence[Pair]) -> Panels:
    columns, width, height, across = 5, 2.3, 1.4, 4
    side = (columns * width - across * 0.85) / across
    start = 0.8 + -(-len(names) // columns) * (height + 1.0)
    figure = Figure(figsize=(0.4 + columns * width, start + -(-len(pairs) // across) * (side + 0.8)))
    axes: dict[tuple[str, ...], Axes] = {}
    for (row, column), name in zip(np.ndindex(len(names), columns), names, strict=False):
        axes[name,] = _place(figure, 0.3 + column * width, 0.8 + row * (height + 1.0), width - 0.25, height)
    for (row, column), pair in zip(np.ndindex(len(pairs), across), pairs, strict=False):
        axes[pair] = _place(figure, 0.9 + column * (side + 0.85), start + row * (side + 0.8), side, side)
    return figure, axes


def rounds_figure(
    records: Sequence[Mapping[str, Any]], names: Sequence[str], labels: Mapping[str, str] | None = None
) -> Figure:
    """Region of each parameter in every round (in prior quantiles), log volume and simulations per round.

    records: region.json of the rounds in order.  Derived quantities, whose prior is not uniform in anything, are drawn
    relative to their first bounds, and their last bounds written in their own units.
    """
    labels = labels or {}
    regions = [record["region"] for record in records]
    names = [name for name in names if name in {*regions[-1]["cube"], *regions[-1]["derived"]}]
    figure = Figure(figsize=(11, max(3.6, 1.2 + 0.36 * len(names))), layout="constrained")
    spec = figure.add_gridspec(2, 2, width_ratios=[1.9, 1])
    bars, volume, counts = (figure.add_subplot(spec[where]) for where in ((slice(None), 0), (0, 1), (1, 1)))
    shades = colormaps["Blues"](np.linspace(0.3, 0.95, len(records)))
    thick = 0.8 / len(records)
    for y, name in enumerate(names):
        shares, gaps = relative(regions, name)
        if name in regions[-1]["cube"]:
            low, high = shares[-1]
            note = f"{high - low - sum(b - a for a, b in gaps[-1]):.2g}"
        else:
            note = "{:.3g} to {:.3g}".format(*regions[-1]["derived"][name])
        bars.text(1.02, y, note, va="center", fontsize=8, color=INK)
        for k, ((low, high), left_out) in enumerate(zip(shares, gaps, strict=True)):
            # a region too narrow to be seen keeps a visible width
            shown = max(high - low, 0.004)
            bars.barh(y - 0.4 + (k + 0.5) * thick, shown, 0.9 * thick, (low + high - shown) / 2, color=shades[k])
            for low, high in left_out:
                bars.barh(y - 0.4 + (k + 0.5) * thick, high - low, thick, low, color="white")
    bars.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6), xlabel="prior quantile", title="region, from light to dark")
    bars.set_yticks(range(len(names)), [labels.get(name, name) for name in names])
    if not set(names) <= set(records[-1]["region"]["cube"]):
        bars.set_xlabel("prior quantile; derived quantities: relative to their first bounds")
    bars.text(1.02, 1.01, "last width", va="bottom", fontsize=8, color=INK, transform=bars.transAxes)
    volumes, new, old = (np.array([record[key] for record in records]) for key in ("log_volume", "simulated", "reused"))
    rounds = np.arange(len(records))
    volume.plot(rounds, volumes, "o-", color=LINE, ms=5, lw=1.5)
    counts.bar(rounds, new, 0.6, color=LINE, label="new")
    counts.bar(rounds, old, 0.6, bottom=new, color=OUTER, label="reused")
    counts.set(xlabel="round", title="simulations", ylim=(0, 1.3 * max(1, (new + old).max())))
    counts.legend(ncols=2, frameon=False, fontsize=8, loc="upper right", labelcolor=INK)
    volume.set(title="log prior volume of the region")
    for axis in (bars, volume, counts):
        _plain(axis)
    for axis in (volume, counts):
        axis.set(xlim=(-0.6, len(records) - 0.4), xticks=rounds[:: 1 + len(rounds) // 12])
    bars.tick_params(left=False)
    return figure


def training_figure(curves: Sequence[Curve]) -> Figure:
    """Training and validation loss per round, of each network of an ensemble; points mark the weights that were kept.

    curves: training.json of the rounds in order.  The first tenth of a round may lie above its panel.
    """
    columns, rows = min(4, max(1, len(curves))), max(1, -(-len(curves) // 4))
    figure = Figure(figsize=(3.4 * columns + 0.6, 2.8 * rows + 0.3), layout="constrained")
    for number, curve in enumerate(curves):
        axis = figure.add_subplot(rows, columns, number + 1, title=f"round {number}", xlabel="optimiser step")
        _plain(axis)
        if number % columns == 0:
            axis.set_ylabel("loss, sum over marginals")
        if not curve:
            continue
        parts: list[float] = []
        for member in sorted({point["member"] for point in curve}):
            points = [point for point in curve if point["member"] == member]
            step, train, validation = (np.array([p[key] for p in points]) for key in ("step", "train", "validation"))
            best = int(validation.argmin())
            names = ("training", "validation", "kept") if member == 0 else (None,) * 3
            axis.plot(step, train, color=INNER, lw=1.2, label=names[0])
            axis.plot(step, validation, color=TRUTH, lw=1.2, label=names[1])
            axis.plot(step[best], validation[best], "o", color=TRUTH, ms=5, label=names[2])
            parts += [*train[len(step) // 10 :], *validation[len(step) // 10 :], validation[best]]
        late = np.array(parts)
        margin = 0.08 * np.ptp(late) + 1e-6
        axis.set_ylim(late.min() - margin, late.max() + margin)
        if number == 0:
            axis.legend(frameon=False, fontsize=8, labelcolor=INK)
    return figure


def percentiles_figure(record: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> Figure:
    """Percentile-percentile plot of a round: of simulations held out, how many truths lie below each posterior's
    percentiles; with the bands that 90% and 99% of right posteriors stay in at any one of them.

    record: region.json of the round.  Parameters that fail the check of their ranks are named.
    """
    labels, checks = labels or {}, record["coverage"]
    at = np.array([0.0, *PERCENTILES, 1.0])
    figure = Figure(figsize=(5.2, 5.0), layout="constrained")
    axis = figure.subplots()
    for probability, shade in ((0.99, "0.92"), (0.9, "0.84")):
        low, high = binomial_bands(checks["simulations"], PERCENTILES, probability).T
        axis.fill_between(at, [0, *low, 1], [0, *high, 1], color=shade, lw=0, label=f"{probability:.0%} of right ones")
    fine = True
    for name, below in record["percentiles"].items():
        passed = checks[name]["passed"]
        label = ("passed" if fine else None) if passed else f"{labels.get(name, name)}, failed"
        fine &= not passed
        how: dict[str, Any] = {"color": LINE, "lw": 0.8, "alpha": 0.6} if passed else {"lw": 1.6}
        axis.plot(at, [0, *below, 1], label=label, zorder=2 if passed else 3, **how)
    axis.plot([0, 1], [0, 1], color=INK, lw=0.8, ls=DASHED)
    axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="percentile of the posterior, as a share")
    axis.set(ylabel="share of truths below it", title=f"{checks['simulations']:,} simulations held out")
    axis.legend(frameon=False, fontsize=8, labelcolor=INK, loc="upper left")
    _plain(axis)
    return figure


def data_figure(observation: Mapping[str, np.ndarray]) -> Figure | None:
    """The observation as it was given, a panel an array: images, up to four in a stack, and lines of what is
    one-dimensional or has few rows.

    Of complex arrays the modulus.  None where nothing can be drawn; a single number is no picture.
    """
    drawn = {}
    for name, values in observation.items():
        array = np.squeeze(np.asarray(values))
        array = np.abs(array) if array.dtype.kind == "c" else array
        if array.dtype.kind not in "buif" or array.size < 2:
            continue
        if array.ndim in (1, 2):
            drawn[name] = array.astype(float)
        elif array.ndim == 3 and len(array) <= 4:
            drawn |= {f"{name}, {i}": plane.astype(float) for i, plane in enumerate(array)}
    if not drawn:
        return None
    columns = min(3, len(drawn))
    rows = -(-len(drawn) // columns)
    figure = Figure(figsize=(0.8 + 3.8 * columns, 3.2 * rows), layout="constrained")
    for number, (name, array) in enumerate(drawn.items()):
        axis = figure.add_subplot(rows, columns, number + 1, title=name)
        if array.ndim == 1 or len(array) < 8:
            shades = colormaps["Blues"](np.linspace(0.9, 0.45, len(np.atleast_2d(array))))
            for row, shade in zip(np.atleast_2d(array), shades, strict=True):
                few = array.shape[-1] <= 40
                axis.plot(row, "o-" if few else "-", color=shade, lw=1.0 if few else 0.8, ms=4)
            axis.set_xlabel("element")
        else:
            square = 0.2 < array.shape[0] / array.shape[1] < 5
            aspect: Literal["equal", "auto"] = "equal" if square else "auto"
            shown = axis.imshow(array, cmap="viridis", aspect=aspect, interpolation="nearest", origin="lower")
            figure.colorbar(shown, ax=axis, shrink=0.9)
        _plain(axis)
    return figure


def write_core_figures(result: Result, folder: Path) -> None:
    """Write triangle, rounds, percentiles and training .png to folder, as far as there is what they show."""
    figures = {}
    if result.marginals:
        figures["triangle"] = triangle(result, result.shown)
    if result.rounds:
        figures["rounds"] = rounds_figure(result.rounds, result.names, result.labels)
        if result.rounds[-1].get("percentiles"):
            figures["percentiles"] = percentiles_figure(result.rounds[-1], result.labels)
    if result.curves:
        figures["training"] = training_figure(result.curves)
    for name, figure in figures.items():
        write_whole(Path(folder) / f"{name}.png", partial(figure.savefig, dpi=120))


def _learned(result: Result, *names: str) -> list[MarginalPosterior]:
    """Learned marginals that hold all names, the smallest first."""
    found = [m for key, m in result.marginals.items() if set(names) <= set(key)]
    return sorted(found, key=lambda m: len(m.names))


def _samples(result: Result, *names: str) -> tuple[np.ndarray, np.ndarray]:
    """Samples (S, len(names)) and weights (S,) from the smallest learned marginal that holds all names."""
    smallest = _learned(result, *names)[0]
    return smallest.samples[:, [smallest.names.index(name) for name in names]], smallest.weights


def _view(samples: np.ndarray, weights: np.ndarray, truth: float | None) -> View:
    """Range that shows 99.8% of the posterior and the truth, inside the region unless the truth is not."""
    low, high = weighted_quantile(samples[:, 0], weights, [0.001, 0.999])
    margin = 0.12 * (high - low)
    low, high = max(low - margin, samples.min()), min(high + margin, samples.max())
    if truth is not None and not low <= truth <= high:
        low, high = min(low, truth - margin), max(high, truth + margin)
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _smooth(
    samples: np.ndarray, weights: np.ndarray, views: Sequence[View], cells: int
) -> tuple[Sequence[np.ndarray], np.ndarray]:
    """Cell edges and probability per cell (cells,) * d of samples (S, d), smoothed inside the region.

    The kernel follows Silverman's rule, with the length of the 50% region in place of the sd: several narrow modes
    stay narrow.  In 2-d it follows the width of the conditionals, so that a correlation is not washed out.
    """
    d = samples.shape[1]
    # draws that repeat a simulation count once
    _, which = np.unique(samples[:, 0], return_inverse=True)
    n = 1 / np.square(np.bincount(which, weights)).sum()
    # reflection belongs at the edge of the region, which a view stretched to the truth exceeds
    spans = [(max(view[0], c.min()), min(view[1], c.max())) for view, c in zip(views, samples.T, strict=True)]
    heights, edges = np.histogramdd(samples, cells, spans, weights=weights)
    covariance = np.atleast_2d(np.cov(samples.T, aweights=weights))
    conditional = np.sqrt(max(0.1, 1 - covariance[0, 1] ** 2 / np.prod(np.diag(covariance)))) if d == 2 else 1.0
    sigma = []
    for column, edge in zip(samples.T, edges, strict=True):
        coarse, _ = np.histogram(column, int(np.clip(np.sqrt(n), 8, 256)), (edge[0], edge[-1]), weights=weights)
        held = np.append(0, np.cumsum(np.sort(coarse)[::-1]) / coarse.sum())
        half = np.interp(0.5, held, np.linspace(0, 1, len(held)))
        sigma.append(1.06 * half / 1.349 * n ** (-1 / (4 + d)) * conditional * cells)
    smooth = gaussian_filter(heights, sigma, mode="reflect")
    return edges, smooth / smooth.sum()


def _draw_one(axis: Axes, result: Result, names: tuple[str, ...], views: Sequence[View]) -> None:
    samples, weights = _samples(result, *names)
    (edges,), height = _smooth(samples, weights, views, 512)
    # at the edges of the region the density ends
    x = np.concatenate([edges[:1], 0.5 * (edges[1:] + edges[:-1]), edges[-1:]])
    y = np.concatenate([[0], height / height.max(), [0]])
    low, median, high = weighted_quantile(samples[:, 0], weights, [0.05, 0.5, 0.95])
    axis.fill_between(x, y, where=(x >= low) & (x <= high), color=OUTER, lw=0)
    axis.plot(x, y, color=LINE, lw=1.4)
    axis.vlines(median, 0, np.interp(median, x, y), color=LINE, lw=1.2, ls=DASHED)
    if names[0] in result.truth:
        axis.axvline(result.truth[names[0]], color=TRUTH, lw=1)
    axis.set(xlim=views[0], ylim=(0, 1.1), yticks=[])
    axis.set_title(_with_errors(median, low, high), pad=4)
    _plain(axis)
    axis.spines["left"].set_visible(False)


def _draw_two(axis: Axes, result: Result, names: tuple[str, ...], views: Sequence[View]) -> None:
    edges, mass = _smooth(*_samples(result, *names), views, 128)
    ordered = np.sort(mass, axis=None)[::-1]
    levels = [ordered[np.searchsorted(np.cumsum(ordered), held)] for held in (0.9, 0.5)]
    x, y = (0.5 * (edge[1:] + edge[:-1]) for edge in edges)
    axis.contourf(x, y, mass.T, [*levels, 2 * ordered[0]], colors=[OUTER, INNER])
    axis.contour(x, y, mass.T, levels, colors=[LINE], linewidths=0.8)
    for name, line in zip(names, (axis.axvline, axis.axhline), strict=True):
        if name in result.truth:
            line(result.truth[name], color=TRUTH, lw=1)
    axis.set(xlim=views[0], ylim=views[1])
    _plain(axis)
    axis.spines[:].set_visible(True)


def _ticks(side: Axis, view: View, label: str | None, crowded: bool) -> None:
    """Few round ticks, numbered if there is a label; it takes the common offset or power of ten."""
    edge = 0.08 * (view[1] - view[0])
    found = MaxNLocator(2 if crowded else 4).tick_values(*view)
    ticks = [float(tick) for tick in found if view[0] + edge < tick < view[1] - edge]
    formatter = ScalarFormatter(useMathText=True)
    side.set_major_formatter(formatter)
    side.set_ticks(ticks)
    formatter.set_locs(ticks)
    side.offsetText.set_visible(False)
    if label is None:
        side.set_ticklabels([])
    else:
        offset = formatter.get_offset()
        side.set_label_text(f"{label}\n[{offset}]" if offset else label, fontsize=8 if crowded else 10)


def _with_errors(median: float, low: float, high: float) -> str:
    """Median with the distances to the ends of an interval, to two digits of the smaller one."""
    size, error = (max(v, 1e-300) for v in (max(abs(median), high - low), min(median - low, high - median)))
    power, place = (int(np.floor(np.log10(v))) for v in (size, max(error, 1e-12 * size)))
    # no power of ten where it would hide behind a long row of digits, as for a GPS time
    power = power if power < -3 or (power > 4 and power - place < 6) else 0
    digits = max(0, 1 - place + power)
    m, up, down = (f"{v / 10.0**power:.{digits}f}" for v in (median, high - median, median - low))
    value = f"{m}^{{+{up}}}_{{-{down}}}"
    return f"$({value})\\times10^{{{power}}}$" if power else f"${value}$"


def _place(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes of a size in inches, from the upper left corner."""
    across, down = figure.get_size_inches()
    return figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))


def _plain(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[:].set(color=INK, linewidth=0.8)
    axis.tick_params(labelsize=8, color=INK, labelcolor=INK)
    for text in (axis.title, axis.xaxis.label, axis.yaxis.label):
        text.set(fontsize=10, color=INK)
