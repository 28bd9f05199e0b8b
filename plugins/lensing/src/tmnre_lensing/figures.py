"""Figures of a lens: data, model, normalised residual, and the source plane."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from tmnre import Result
from tmnre_lensing.simulator import LensSimulator


def lens(result: Result, folder: Path, *, simulator: LensSimulator, image: np.ndarray) -> None:
    """Write lens.png to folder: the data, the model at the marginal medians with its critical curve, the residual over
    the noise, and the caustic with posterior draws of the source position.

    The marginal medians are not a joint draw: where parameters are strongly correlated and skewed the residual may be
    larger than that of the best fit.
    """
    names = simulator.prior.names
    medians = np.array([[result[name].summary()["median"] for name in names]])
    model = simulator.simulate(medians, np.random.default_rng(0))["image"][0]
    residual = (image - model) / simulator.camera.noise_e_per_s
    critical, caustic = critical_curve(simulator, medians)
    figure = Figure(figsize=(15, 3.6), layout="constrained")
    axes = figure.subplots(1, 4)
    top = float(model.max())
    chi2 = float(np.mean(residual**2))
    panels = (
        (image, "data [e$^-$/s]", dict(vmin=-0.1 * top, vmax=top, cmap="magma")),
        (model, "model at the marginal medians", dict(vmin=-0.1 * top, vmax=top, cmap="magma")),
        (residual, f"residual / noise, mean square {chi2:.3f}", dict(vmin=-4, vmax=4, cmap="RdBu_r")),
    )
    for axis, (values, title, style) in zip(axes, panels, strict=False):
        shown = axis.imshow(values, origin="lower", extent=simulator.extent_arcsec, **style)
        figure.colorbar(shown, ax=axis)
        axis.set(title=title, xlabel="x [arcsec]", ylabel="y [arcsec]")
    for line in critical:
        axes[1].plot(*line.T, color="white", lw=0.8)
    for line in caustic:
        axes[3].plot(*line.T, color="0.4", lw=0.8)
    position = ("source_x_arcsec", "source_y_arcsec")
    if position in result.marginals:
        axes[3].plot(*result[position].sample(2000).T, ".", ms=1, alpha=0.4, label="posterior")
    if all(name in result.truth for name in position):
        axes[3].plot(*(result.truth[name] for name in position), "r+", ms=3, mew=0.8, label="truth")
    axes[3].set(title="source plane and caustic", xlabel="x [arcsec]", ylabel="y [arcsec]", aspect="equal")
    axes[3].legend(markerscale=5)
    figure.savefig(folder / "lens.png", dpi=120)


def critical_curve(simulator: LensSimulator, theta: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Tangential critical curve and its caustic for theta (1, D), lists of lines (P, 2) in arcsec.

    From the determinant of the lens map's Jacobian, by automatic differentiation on a grid of a third of a pixel.  The
    point-like radial "critical curve" of a singular lens is left out.
    """
    half = simulator.extent_arcsec[1]
    axis = torch.linspace(-half, half, 3 * simulator.camera.pixels, dtype=torch.float64)
    y, x = (c.flatten() for c in torch.meshgrid(axis, axis, indexing="ij"))
    x.requires_grad_(), y.requires_grad_()
    parameters = torch.from_numpy(theta)
    beta = simulator.source_plane(x, y, parameters)
    (xx, xy), (yx, yy) = (torch.autograd.grad(b.sum(), (x, y), retain_graph=True) for b in beta)
    determinant = (xx * yy - xy * yx).view(len(axis), len(axis)).numpy()
    contour = Figure().subplots().contour(axis, axis, determinant, levels=[0.0])
    lines = [line for line in contour.allsegs[0] if len(line) > 20]
    caustics = []
    for line in lines:
        x, y = torch.from_numpy(np.ascontiguousarray(line.T))
        caustics.append(torch.cat(simulator.source_plane(x, y, parameters)).T.numpy())
    return lines, caustics
