"""How much of the training images' variety each kind of truncation leaves: the rounds' own simulations, compared.

A round's new simulations are draws of its region.  Their variance, pixel by pixel over that of the noise and summed, is
what a network has to see through: the expected squared distance between two training images is twice that.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tmnre.inside import in_region
from tmnre.rounds import Rounds
from tmnre_lensing.simulator import LensSimulator

AT_MOST, FEWEST = 2000, 100


def of_round(rounds: Rounds, number: int, limit: int = AT_MOST) -> np.ndarray:
    """Noise-free images (N, ny, nx) newly simulated in a round."""
    shards = rounds.store.shards(before_round=number + 1, from_round=number)
    return rounds.store.select(shards, lambda u: np.ones(len(u), dtype=bool), limit).load()["image"]


def of_last(rounds: Rounds) -> np.ndarray:
    """theta (N, D) of all simulations of all rounds that lie in the last region: draws of its prior."""
    keep = partial(in_region, rounds.simulator, rounds.region)
    chosen = rounds.store.select(rounds.store.shards(before_round=100), keep, 1_000_000)
    return rounds.simulator.prior.from_cube(chosen.u)


def kinds_of(records: list[dict]) -> dict[str, int]:
    """{"prior", "box", "contour": round}: the whole prior, the last box of single parameters, the last contour.

    Of the rounds that simulated enough anew to be compared.
    """
    kinds = {"prior": 0}
    for record in records[1:]:
        if record["simulated"] >= FEWEST:
            kinds["contour" if "contours" in record["region"] else "box"] = record["round"]
    return kinds


def compare(rounds: Rounds, records: list[dict]) -> dict[str, dict[str, float]]:
    """Of each kind of region: its log prior volume, and the images' variance over the noise's, summed over pixels."""
    found = {}
    for kind, number in kinds_of(records).items():
        images = of_round(rounds, number)
        variance = float((images.var(0, ddof=1) / np.square(rounds.simulator.noise.sd)).sum())
        found[kind] = {"log_volume": records[number]["log_volume"], "image_variance": variance, "round": number}
    return found


def three_panels(rounds: Rounds, records: list[dict], image: np.ndarray, folder: Path) -> None:
    """Write truncation.png: the standard deviation of training images over the noise's, region by region."""
    simulator: LensSimulator = rounds.simulator
    kinds = kinds_of(records)
    titles = {"prior": "prior, untruncated", "box": "box of single parameters", "contour": "contour of the joint ratio"}
    compared = compare(rounds, records)
    figure = Figure(figsize=(4.1 * (1 + len(kinds)), 3.9), layout="constrained")
    axes = figure.subplots(1, 1 + len(kinds))
    extent = simulator.optics.grid.extent_arcsec
    axes[0].imshow(image, origin="lower", extent=extent, cmap="magma")
    axes[0].set(title="data", xlabel="x [arcsec]", ylabel="y [arcsec]")
    for axis, (kind, number) in zip(axes[1:], kinds.items(), strict=True):
        spread = of_round(rounds, number).std(0, ddof=1) / simulator.noise.sd
        shown = axis.imshow(
            np.log10(np.maximum(spread, 1e-2)), origin="lower", extent=extent, cmap="viridis", vmin=-1, vmax=1.5
        )
        about = compared[kind]
        axis.set(title=f"{titles[kind]}\nsum of variances {about['image_variance']:,.0f}", xlabel="x [arcsec]")
        axis.text(
            *(0.03, 0.04, f"log volume {about['log_volume']:.1f}"), transform=axis.transAxes, color="white", fontsize=9
        )
    bar = figure.colorbar(shown, ax=axes[1:], shrink=0.85, ticks=[-1, -0.5, 0, 0.5, 1, 1.5])
    bar.set_ticklabels(["0.1", "0.3", "1", "3", "10", "30"])
    bar.set_label("sd of training images / noise")
    figure.savefig(folder / "truncation.png", dpi=120)
