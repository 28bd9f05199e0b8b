"""Figures of detections on a sky: where they are, how complete and how pure, and whether their probabilities hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import healpy
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tmnre import Result
from tmnre_popsources.detection import Detections
from tmnre_popsources.fermi_matches import Matches
from tmnre_popsources.sky import Sky

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
"""Okabe & Ito's"""
FLUX = r"$F$, 1 to 100 GeV [cm$^{-2}$ s$^{-1}$]"


def write(sky: Sky, result: Result, folder: Path, *, ratio, found: Detections, matches: Matches | None) -> None:
    """Write detections.png and completeness.png to folder; ratio (P,) is log r1 at the threshold."""
    record = result.extra["detections"]
    detections(sky, ratio, found, matches, record["flux"]).savefig(folder / "detections.png", dpi=130)
    completeness(record).savefig(folder / "completeness.png", dpi=130)


def detections(sky: Sky, ratio: np.ndarray, found: Detections, matches: Matches | None, flux: float) -> Figure:
    """log r1 about both poles, detections, and the catalogue's sources above twice the threshold that were missed.

    Lambert's projection keeps areas; longitudes run as seen from inside, from the Galactic centre's at the top.
    """
    figure = Figure(figsize=(14, 7.4), layout="constrained")
    if matches is None:
        kinds = [(np.ones(len(found.row), dtype=bool), BLUE, "detections")]
    else:
        kinds = [(matches.real, BLUE, "detections in 4FGL"), (~matches.real, ORANGE, "detections not in 4FGL")]
    l_deg, b_deg = found.l_deg.numpy(), found.b_deg.numpy()
    size = 22 + 35 * np.clip(found.log_flux.numpy() - np.log(flux), 0, 4)
    rim = _radius(np.abs(sky.galactic()[1]).min())
    for axis, sign, name in zip(figure.subplots(1, 2), (1, -1), ("north", "south"), strict=True):
        shown = axis.imshow(
            _cap(sky, ratio, sign, rim), extent=(-rim, rim, -rim, rim), origin="lower", cmap="Greys", vmin=-3, vmax=3
        )
        for which, color, label in kinds:
            of = which & (b_deg * sign > 0)
            at = _in_cap(l_deg[of], b_deg[of], sign)
            axis.scatter(*at, s=size[of], facecolors="none", edgecolors=color, linewidths=1.2, label=label)
        if matches is not None:
            listed = matches.catalogue
            of = ~matches.recovered & (listed.flux_1_100 >= 2 * flux) & (listed.b_deg * sign > 0)
            at = _in_cap(listed.l_deg[of], listed.b_deg[of], sign)
            axis.scatter(*at, s=26, marker="x", color=GREEN, linewidths=1.2, label=f"4FGL above {2 * flux:.0e}, missed")
        _graticule(axis, sign, rim)
        axis.set_title(f"Galactic {name}", fontsize=11)
    figure.colorbar(
        shown, ax=figure.axes, shrink=0.75, extend="both", label=rf"$\log r_1(\Omega, F \geq$ {flux:g}$;\, x)$"
    )
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _radius(b_deg: np.ndarray | float) -> np.ndarray | float:
    """Distance from the pole in Lambert's azimuthal projection, of |b|."""
    return 2 * np.sin(np.radians(90 - np.abs(b_deg)) / 2)


def _in_cap(l_deg: np.ndarray, b_deg: np.ndarray, sign: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y in a pole's cap."""
    return sign * _radius(b_deg) * np.sin(np.radians(l_deg)), _radius(b_deg) * np.cos(np.radians(l_deg))


def _cap(sky: Sky, values: np.ndarray, sign: int, rim: float, pixels: int = 700) -> np.ndarray:
    """Image of a map (P,), NaN outside of the region."""
    x, y = np.meshgrid(*2 * [(np.arange(pixels) + 0.5) / pixels * 2 * rim - rim])
    rho = np.hypot(x, y)
    b_deg = sign * (90 - np.degrees(2 * np.arcsin(np.minimum(rho / 2, 1))))
    l_deg = np.degrees(np.arctan2(sign * x, y))
    place = sky.place[healpy.ang2pix(sky.nside, l_deg, b_deg, nest=True, lonlat=True)]
    return np.where((place >= 0) & (rho <= rim), values[place], np.nan)


def _graticule(axis: Axes, sign: int, rim: float) -> None:
    """Circles of latitude and lines of longitude, named."""
    turn = np.linspace(0, 360, 361)
    for b_deg in (0, 15, 30, 45, 60, 75):
        if _radius(b_deg) <= rim * 1.001:
            axis.plot(*_in_cap(turn, np.full(361, b_deg), sign), color="0.3", lw=0.5, alpha=0.5)
            axis.annotate(f"${sign * b_deg}°$", (0, -_radius(b_deg)), fontsize=8, color="0.3", ha="center", va="bottom")
    for l_deg in range(0, 360, 45):
        x, y = _in_cap(np.array([l_deg]), np.array([0.0]), sign)
        x, y = float(x[0]) / np.sqrt(2) * rim, float(y[0]) / np.sqrt(2) * rim
        axis.plot([0, x], [0, y], color="0.3", lw=0.5, alpha=0.5)
        axis.annotate(f"$l={l_deg}°$" if l_deg == 0 else f"${l_deg}°$", (1.05 * x, 1.05 * y), fontsize=9, ha="center",
                      va="center")  # fmt: skip
    axis.set_axis_off()
    axis.set(xlim=(-1.1 * rim, 1.1 * rim), ylim=(-1.1 * rim, 1.1 * rim))


def completeness(record: dict[str, Any]) -> Figure:
    """S(F) and completeness, purity, and reliability of the probabilities; 68% errors, binomial."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for axis, key, flux in ((left, "completeness", FLUX), (middle, "purity", f"measured {FLUX}")):
        what = {"completeness": "sources", "purity": "detections"}[key]
        mocks, catalogued = record["mocks"][key], record.get("4fgl", {}).get(key)
        _points(axis, mocks, "share", color=BLUE, fmt="o-", ms=3.5, label=f"{record['mocks']['skies']} mock skies")
        if catalogued:
            _points(
                axis,
                catalogued,
                "share",
                color=ORANGE,
                fmt="s",
                ms=4.5,
                label="4FGL-DR3" if axis is left else "beside 4FGL-DR3",
            )
            _points(axis, catalogued, "expected", color=ORANGE, fmt="_", ms=14, label=f"expected of these {what}")
        axis.axvline(record["flux"], color="k", lw=0.7, ls=":")
        axis.set(xscale="log", xlabel=flux, ylabel=key, ylim=(-0.02, 1.05))
        axis.legend(frameon=False, fontsize=9, loc="lower right")
    left.set_ylabel("completeness, on mocks the efficiency $S(F)$")
    said, found, n = np.array([[b["said"], b["found"], b["pixels"]] for b in record["mocks"]["reliability"]]).T
    right.plot([0, 1], [0, 1], color="0.6", lw=1)
    right.errorbar(said, found, np.sqrt(said * (1 - said) / n), fmt="o", ms=3.5, color=BLUE)
    right.set(xlabel="probability of a source above the threshold", ylabel="share of pixels, mock skies")
    right.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return figure


def _points(axis: Axes, bins: list[dict[str, Any]], key: str, **how) -> None:
    some = [b for b in bins if b[key] is not None]
    middle = [np.sqrt(b["low"] * b["high"]) for b in some]
    error = None if key == "expected" else [b["error"] for b in some]
    axis.errorbar(middle, [b[key] for b in some], error, **how)
