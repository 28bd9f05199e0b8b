"""Figures of a lens: data, model, normalised residual, and the source plane with the caustic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from tmnre import Result
from tmnre_lensing.simulator import LensSimulator

CLOSED = 0.05
"""gap of a closed curve at most, of its extent"""


def best_draw(result: Result, simulator: LensSimulator, image: np.ndarray, *, draws: int = 500) -> np.ndarray:
    """theta (1, D) of what is drawn as the model.

    Where the joint posterior of all parameters was learned, the draw of it that fits best; else the marginal medians,
    which are no joint draw: where parameters are strongly correlated and skewed they fit worse than the best.
    """
    names = simulator.prior.names
    medians = np.array([[result[name].summary()["median"] for name in names]])
    joint = next((key for key in result.marginals if set(key) == set(names)), None)
    if joint is None:
        return medians
    order = [joint.index(name) for name in names]
    theta = np.concatenate([medians, result[joint].sample(draws, 0)[:, order]])
    found = _model(simulator, theta)
    return theta[[np.argmin((((image - found) / simulator.noise.sd) ** 2 * simulator.mask).sum((1, 2)))]]


def _model(simulator: LensSimulator, theta: np.ndarray) -> np.ndarray:
    return simulator.images(torch.from_numpy(theta).float()).numpy()


def lens(result: Result, folder: Path, *, simulator: LensSimulator, image: np.ndarray, name: str = "lens") -> None:
    """Write lens.png to folder: the data, the model (`best_draw`) with its critical curve, the residual over the noise,
    and the source with the caustic and posterior draws of its position."""
    theta = best_draw(result, simulator, image)
    model = _model(simulator, theta)[0]
    sd = simulator.noise.scale(torch.from_numpy(model)[None])
    residual = ((image - model) / sd.expand(1, *model.shape)[0].numpy()) * simulator.mask
    critical, caustic = critical_curve(simulator, theta)
    radius = einstein_radius_arcsec(critical)
    figure = Figure(figsize=(15.5, 3.7), layout="constrained")
    axes = figure.subplots(1, 4)
    top = float(model.max())
    chi2 = float((residual**2).sum() / simulator.mask.sum())
    light = dict(vmin=-0.1 * top, vmax=top, cmap="magma")
    hidden = np.where(simulator.mask, 1.0, np.nan)
    panels = (
        (image * hidden, "data [e$^-$/s]", light),
        (model * hidden, "model" if radius is None else f"model, Einstein radius {radius:.3f} arcsec", light),
        (residual * hidden, f"residual / noise, mean square {chi2:.3f}", dict(vmin=-4, vmax=4, cmap="RdBu_r")),
    )
    extent = simulator.optics.grid.extent_arcsec
    for axis, (values, title, style) in zip(axes, panels, strict=False):
        axis.set_facecolor("0.85")
        shown = axis.imshow(values, origin="lower", extent=extent, **style)
        figure.colorbar(shown, ax=axis, shrink=0.85)
        axis.set_title(title, fontsize=10)
        axis.set(xlabel="x [arcsec]", ylabel="y [arcsec]")
    for line in critical:
        axes[1].plot(*line.T, color="white", lw=0.8)
    _source_plane(axes[3], result, simulator, theta, caustic)
    figure.savefig(folder / f"{name}.png", dpi=120)


def _source_plane(axis, result: Result, simulator: LensSimulator, theta: np.ndarray, caustic: list[np.ndarray]) -> None:
    """The source as it is, the caustic, and posterior draws of its position."""
    values = simulator.scene.values(torch.from_numpy(theta), simulator.prior.names)
    centre = [float(values[f"source_{c}_arcsec"]) for c in "xy"] if "source_x_arcsec" in values else [0.0, 0.0]
    reach = max([0.5, *(float(np.abs(line - centre).max()) for line in caustic)])
    half = min(1.15 * reach, simulator.optics.grid.extent_arcsec[1])
    line = torch.linspace(-half, half, 200, dtype=torch.float64)
    x, y = line.repeat(200) + centre[0], line.repeat_interleave(200) + centre[1]
    light = sum(s.brightness(x, y, {p: values[f"{s.name}_{p}"] for p in s.parameters}) for s in simulator.scene.sources)
    extent = (centre[0] - half, centre[0] + half, centre[1] - half, centre[1] + half)
    axis.imshow(np.sqrt(light.view(200, 200)), origin="lower", extent=extent, cmap="magma")
    for line in caustic:
        axis.plot(*line.T, color="white", lw=0.8)
    position = ("source_x_arcsec", "source_y_arcsec")
    if position in result.marginals:
        axis.plot(*result[position].sample(500).T, ".", ms=1, color="deepskyblue", alpha=0.5, label="posterior")
    if all(name in result.truth for name in position):
        axis.plot(*(result.truth[name] for name in position), "+", color="lime", ms=5, mew=1, label="truth")
    axis.set_title("source (square root), caustic", fontsize=10)
    axis.set(xlabel="x [arcsec]", ylabel="y [arcsec]", aspect="equal")
    axis.set(xlim=extent[:2], ylim=extent[2:])
    if axis.get_legend_handles_labels()[0]:
        axis.legend(markerscale=4, fontsize=8, loc="upper right")


def einstein_radius_arcsec(critical: list[np.ndarray]) -> float | None:
    """Radius of the circle with the area inside the outer of critical curves (P, 2) in arcsec; None if none is closed.

    That is what images measure, and what codes with other conventions agree on; theta_E of a power law with shear may
    be some percent off it.
    """
    closed = [line for line in critical if np.linalg.norm(line[0] - line[-1]) < CLOSED * np.ptp(line, axis=0).max()]
    areas = [0.5 * abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) for x, y in (line.T for line in closed)]
    return float(np.sqrt(max(areas) / np.pi)) if areas else None


def critical_curve(simulator: LensSimulator, theta: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Critical curves and their caustics for theta (1, D), lists of lines (P, 2) in arcsec.

    From the determinant of the lens map's Jacobian, by automatic differentiation on a grid of 250 points a side.  The
    point-like radial "critical curve" of a singular lens is left out.
    """
    left, right, bottom, top = simulator.optics.grid.extent_arcsec
    across, up = (torch.linspace(low, high, 250, dtype=torch.float64) for low, high in ((left, right), (bottom, top)))
    y, x = (c.flatten() for c in torch.meshgrid(up, across, indexing="ij"))
    x.requires_grad_(), y.requires_grad_()
    values = simulator.scene.values(torch.from_numpy(theta), simulator.prior.names)
    beta = simulator.scene.source_plane(x, y, values)
    (xx, xy), (yx, yy) = (torch.autograd.grad(b.sum(), (x, y), retain_graph=True) for b in beta)
    determinant = (xx * yy - xy * yx).view(len(up), len(across)).numpy()
    contour = Figure().subplots().contour(across, up, determinant, levels=[0.0])
    lines = [line for line in contour.allsegs[0] if len(line) > 20]
    caustics = []
    for line in lines:
        x, y = torch.from_numpy(np.ascontiguousarray(line.T))
        caustics.append(torch.cat(simulator.scene.source_plane(x, y, values)).T.numpy())
    return lines, caustics
