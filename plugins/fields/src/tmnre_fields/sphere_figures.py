"""Figures of a field on the sphere: Mollweide maps, D_l of the draws beside a model, residuals of the data."""

from __future__ import annotations

from pathlib import Path

import healpy
import numpy as np
import torch
from healpy.projector import MollweideProj
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tmnre_fields.sequential import FieldRounds, Found

BLUE, VERMILLION, INK = "#0072B2", "#D55E00", "0.25"


def mollweide(figure: Figure, axis: Axes, values: np.ndarray, title: str, *, unit: str, low=None, high=None, cmap=None):
    """A map in RING order, masked where it is not finite."""
    nside = healpy.get_nside(values)
    projection = MollweideProj(xsize=800)
    image = projection.projmap(
        np.where(np.isfinite(values), values, healpy.UNSEEN), lambda x, y, z: healpy.vec2pix(nside, x, y, z)
    )
    outside = ~np.isfinite(image)
    image = np.ma.masked_where(outside | (image < -1e30), image)
    colours = colormaps[cmap or "RdYlBu_r"].with_extremes(bad="0.85")
    shown = axis.imshow(image, origin="lower", extent=(-2, 2, -1, 1), vmin=low, vmax=high, cmap=colours)
    # the frame of the projection, white where there is no sky
    x, y = np.meshgrid(np.linspace(-2, 2, image.shape[1]), np.linspace(-1, 1, image.shape[0]))
    axis.contourf(x, y, (x / 2) ** 2 + y**2, levels=[1, 9], colors="white", zorder=2)
    angle = np.linspace(0, 2 * np.pi, 400)
    axis.plot(2 * np.cos(angle), np.sin(angle), color=INK, lw=0.8, zorder=3)
    axis.set_title(title, fontsize=10)
    axis.axis("off")
    figure.colorbar(shown, ax=axis, orientation="horizontal", shrink=0.6, pad=0.02, aspect=30).set_label(unit)


def maps(found: Found, i: int, x: np.ndarray, mask: np.ndarray, band: str, unit: str) -> Figure:
    """Data, mean, standard deviation and three draws of component i."""
    figure = Figure(figsize=(14, 7.6), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    widest = float(np.quantile(np.abs(found.mean[i]), 0.998))
    same = {"unit": unit, "low": -widest, "high": widest}
    mollweide(figure, axes[0], np.where(mask, x, np.nan), f"data, {band}", **same)
    mollweide(figure, axes[1], found.mean[i], "posterior mean", **same)
    mollweide(figure, axes[2], found.sd[i], "posterior standard deviation", unit=unit, cmap="cividis")
    for s, axis in enumerate(axes[3:]):
        mollweide(figure, axis, found.draws[s, i], f"draw {s + 1}", **same)
    return figure


def residuals(procedure: FieldRounds, found: Found, bands: tuple[str, ...], unit: str) -> tuple[Figure, list[float]]:
    """Data minus the response to the posterior mean, where there are data, per band; and a predictive check.

    The check is the rms of data minus response to draws over that of noise and nuisance: 1 where the model holds.
    """
    model = procedure.model
    predicted = model.response(torch.from_numpy(found.mean_modes)[None])[0].numpy()
    of_draws = procedure.x.numpy() - model.response(torch.from_numpy(found.draw_modes)).numpy()
    variance = np.broadcast_to(np.asarray(model.noise), predicted.shape) ** 2
    if model.nuisance is not None:
        variance = variance + model.nuisance(200, torch.Generator().manual_seed(0)).var(0).numpy()
    figure = Figure(figsize=(5.2 * len(bands), 3.6), layout="constrained")
    axes, rms = np.atleast_1d(figure.subplots(1, len(bands))), []
    for v, (axis, band) in enumerate(zip(axes, bands, strict=True)):
        mask = model.observed[v].numpy() > 0
        left = np.where(mask, procedure.x[v].numpy() - predicted[v], np.nan)
        rms.append(float(np.sqrt(np.mean((of_draws[:, v] ** 2 / variance[v])[:, mask]))))
        title = f"{band} $-$ mean, rms {np.sqrt(np.nanmean(left**2)):.1f} {unit}"
        widest = float(np.nanquantile(np.abs(left), 0.998))
        mollweide(figure, axis, left, title, unit=unit, low=-widest, high=widest)
    return figure, rms


def d_ell(ell: np.ndarray, c: np.ndarray) -> np.ndarray:
    """l (l + 1) C_l / 2 pi."""
    return ell * (ell + 1) * c / (2 * np.pi)


def spectrum(procedure: FieldRounds, found: Found, i: int, model_c: np.ndarray, label: str, largest: int) -> Figure:
    """D_l of the draws with 68% and 95% bands, and the model with its cosmic variance."""
    sky = procedure.model.response.sky
    c = sky.binned(torch.from_numpy(found.draw_modes[:, i])).numpy()
    ell = np.arange(2, largest + 1)
    draws = d_ell(ell, c[:, 2 : largest + 1])
    figure = Figure(figsize=(8.5, 4.6), layout="constrained")
    axis = figure.subplots()
    expected = d_ell(ell, model_c[2 : largest + 1])
    scatter = expected * np.sqrt(2 / (2 * ell + 1))
    axis.fill_between(ell, expected - scatter, expected + scatter, color="0.88", lw=0, label="its cosmic variance")
    axis.plot(ell, expected, color=INK, lw=1.2, label=label)
    for mass, width in ((0.95, 1.2), (0.68, 3.5)):
        low, high = np.quantile(draws, [(1 - mass) / 2, (1 + mass) / 2], axis=0)
        axis.vlines(ell, low, high, color=BLUE, lw=width, alpha=0.45 if mass > 0.9 else 0.9, label=f"draws, {mass:.0%}")
    axis.set(xlabel=r"multipole $\ell$", ylabel=r"$\ell (\ell + 1) C_\ell / 2\pi$ [$\mu$K$^2$]", xlim=(1, largest + 1))
    axis.set_ylim(0, 1.15 * float(np.quantile(draws, 0.99)))
    axis.legend(frameon=False, loc="upper left", fontsize=9)
    return figure


def save(figures: dict[str, Figure], folder: Path) -> None:
    """NAME.png each."""
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=120)
