"""What several lenses say together about a population: log ratios added up, posteriors, and their figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from tmnre import MarginalPosterior, Result
from tmnre.rounds import Rounds
from tmnre_lensing.labels import LABELS
from tmnre_lensing.massfunction import thermal_relic_kev

STEP = {"histtype": "step", "density": True}
SHOWN = {"log10_m_hm": (LABELS["log10_m_hm"], np.asarray), "f_sub": (rf"$\log_{{10}}$ {LABELS['f_sub']}", np.log10)}
"""what the figure shows of the population: labels, and functions of the values"""
Posteriors = dict[tuple[str, ...], MarginalPosterior]


def log_ratio(rounds: Rounds, names: tuple[str, ...], u: np.ndarray) -> np.ndarray:
    """Log ratio (S,) of finished rounds' observation, of a marginal they learned, at points u (S, d) of the cube."""
    if rounds.last is None:
        raise ValueError("these rounds have not run yet")
    estimator = rounds.last.estimator
    z = rounds.last.z[:1].repeat(len(u), 1)
    z[:, [estimator.targets.index(name) for name in names]] = torch.from_numpy(u)
    found = estimator.log_ratio(rounds.last.x, z)[0, :, estimator.marginals.index(names)]
    return found.double().numpy()


def posteriors(names: tuple[str, ...], points: np.ndarray, log_r: np.ndarray) -> Posteriors:
    """Of all parameters together and of each, from draws of the prior (S, d) and their log ratio (S,)."""
    each = {(name,): MarginalPosterior((name,), points[:, [i]], log_r) for i, name in enumerate(names)}
    return {**each, names: MarginalPosterior(names, points, log_r)}


def records(names: tuple[str, ...], found: Sequence[Result]) -> list[dict]:
    """Rounds of all lenses one after the other; checks of every lens are in the last, which warnings are read from.

    Of each parameter's central intervals the worst lens's are kept.
    """
    every = [record for one in found for record in one.rounds]
    last = [one.rounds[-1] for one in found]
    checks = [
        {**check, "name": f"lens-{i}: {check['name']}"}
        for i, record in enumerate(last)
        for check in record["diagnostics"]
    ]
    worst = {name: min(last, key=lambda r, name=name: r["coverage"][name]["p_uniform"]) for name in names}
    coverage = {name: r["coverage"][name] for name, r in worst.items()}
    coverage["simulations"] = min(r["coverage"]["simulations"] for r in last)
    # rounds that were finished before these were recorded have none
    percentiles = {name: r["percentiles"][name] for name, r in worst.items() if "percentiles" in r}
    return [*every[:-1], {**every[-1], "coverage": coverage, "percentiles": percentiles, "diagnostics": checks}]


def relic_limit(log10_m_hm: MarginalPosterior, mass: float = 0.95) -> float:
    """Thermal relics in keV that are heavier have so much of the posterior: its lower limit."""
    (_, high) = log10_m_hm.interval(2 * mass - 1)[0]
    return float(thermal_relic_kev(high))


def figure(result: Result, alone: Sequence[Posteriors], folder: Path) -> None:
    """Write population.png: posteriors of each parameter, from all lenses and from each, and of both together."""
    canvas = Figure(figsize=(13.5, 3.9), layout="constrained")
    axes = canvas.subplots(1, 3)
    for axis, (name, (label, scale)) in zip(axes, SHOWN.items(), strict=False):
        values = scale(result[name].samples[:, 0])
        bins = np.linspace(values.min(), values.max(), 31)
        for i, one in enumerate(alone):
            shown = {"color": "0.6", "lw": 0.9, "label": None if i else "one lens"}
            axis.hist(scale(one[name,].samples[:, 0]), bins, weights=one[name,].weights, **STEP, **shown)
        every = {"color": "C0", "lw": 1.8, "label": f"all {len(alone)} together"}
        axis.hist(values, bins, weights=result[name].weights, **STEP, **every)
        axis.set(xlabel=label, yticks=[], ylabel="density")
        axis.axvline(scale(result.truth[name]), color="red", lw=1, label="truth")
    axes[0].legend(fontsize=8)
    (first, x_scale), (second, y_scale) = SHOWN.values()
    pair = result[tuple(SHOWN)]
    x, y = x_scale(pair.samples[:, 0]), y_scale(pair.samples[:, 1])
    shown = axes[2].hist2d(x, y, bins=24, weights=pair.weights, cmap="Blues")
    canvas.colorbar(shown[3], ax=axes[2], label="probability")
    truth = [scale(result.truth[name]) for name, (_, scale) in SHOWN.items()]
    axes[2].plot(*truth, "+", color="red", ms=12, mew=1.5)
    axes[2].set(xlabel=first, ylabel=second, title="all together")
    canvas.savefig(folder / "population.png", dpi=120)
