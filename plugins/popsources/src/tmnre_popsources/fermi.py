"""Fermi-LAT conventions: energy bands, the 4FGL catalogue as counts of sources, dN/dS with bands beside it.

A power law of photon index G has, in a band a to b, a flux proportional to a^(1-G) - b^(1-G); fluxes of 4FGL, 1 to 100
GeV, are converted to the map's band source by source with the catalogue's own index.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import healpy
import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.table import Table
from matplotlib.figure import Figure

from tmnre import Result
from tmnre_popsources import template_errors
from tmnre_popsources.catalogue import ELLIPSE_95
from tmnre_popsources.sky import Sky
from tmnre_popsources.sky_simulator import SkySimulator, derived_name

CATALOGUE_GEV = (1.0, 100.0)
"""band of 4FGL's integral flux"""


def band_ratio(index: np.ndarray | float, band_gev: tuple[float, float]) -> np.ndarray | float:
    """Photon flux in a band over that in 1 to 100 GeV, for power laws of photon index > 1."""

    def flux(low: float, high: float):
        return low ** (1 - index) - high ** (1 - index)

    return flux(*band_gev) / flux(*CATALOGUE_GEV)


@dataclass(frozen=True)
class Catalogued:
    """4FGL sources in a region: fluxes in 1 to 100 GeV and in the map's band, cm^-2 s^-1; names, Galactic positions and
    their standard deviations."""

    flux_1_100: np.ndarray
    flux_band: np.ndarray
    names: np.ndarray
    l_deg: np.ndarray
    b_deg: np.ndarray
    sd_deg: np.ndarray


def read_4fgl(path: Path, sky: Sky, band_gev: tuple[float, float]) -> Catalogued:
    """Sources of a 4FGL table in a region.

    Columns RA or RAJ2000, Dec or DEJ2000, Flux or Flux1000, PL_Index, Source_Name, SemiMajor or Conf_95_SemiMajor.
    """
    table = Table.read(path)
    ra, dec, flux, index, major = (
        np.asarray(np.ma.filled(table[next(name for name in names if name in table.colnames)], np.nan), dtype=float)
        for names in (
            *(("RAJ2000", "RA"), ("DEJ2000", "Dec"), ("Flux1000", "Flux"), ("PL_Index",)),
            ("Conf_95_SemiMajor", "SemiMajor"),
        )
    )
    index = np.where(np.isfinite(index), index, np.nanmedian(index))
    where = SkyCoord(ra * units.deg, dec * units.deg).galactic
    pixel = healpy.ang2pix(sky.nside, where.l.deg, where.b.deg, nest=True, lonlat=True)
    inside = sky.place[pixel] >= 0
    columns = (
        *(flux, flux * band_ratio(index, band_gev), np.asarray(table["Source_Name"]).astype(str)),
        *(where.l.deg, where.b.deg, np.nan_to_num(major) / ELLIPSE_95),  # extended sources have no ellipse
    )
    return Catalogued(*(np.asarray(column)[inside] for column in columns))


def number_name(flux_1_100: float) -> str:
    """Name of the derived quantity log10 of the number of sources per steradian above a flux in 1 to 100 GeV."""
    return f"log10_n_above_{flux_1_100:g}"


LABELS = {
    "log10_level": r"$\log_{10} F^2 dN/dF$ at 10 counts",
    **{f"n{i}": f"$n_{i}$" for i in (1, 2, 3)},
    template_errors.NAME: "scatter of templates",
    **{f"log10_break{i}": rf"$\log_{{10}} F_{{b{i}}}$" for i in (1, 2)},
}


class FermiSky(SkySimulator):
    """A sky whose number of sources above fluxes in 1 to 100 GeV is derived as well, log10 per steradian.

    thresholds : {flux in 1 to 100 GeV [cm^-2 s^-1]: the same in counts at the mean exposure}
    """

    def __init__(self, *args, thresholds: dict[float, float], **how) -> None:
        super().__init__(*args, **how)
        self.thresholds = thresholds
        self.derived = (*self.derived, *(number_name(flux) for flux in thresholds))

    @property
    def labels(self) -> dict[str, str]:
        """Of parameters and derived quantities, for figures."""
        level = {derived_name(s): rf"$\log_{{10}} F^2 dN/dF$ at {s:g}" for s in self.sources_at}
        return LABELS | level | {number_name(f): rf"$\log_{{10}} N(>$ {f:g}$)$ / sr" for f in self.thresholds}

    def derive(self, theta, stored=None):
        p, _ = self.split(theta)
        number = self.law.number(p)
        above = {
            number_name(flux): (number * self.law.survival(p.new_tensor(counts).log(), p)).log10()
            for flux, counts in self.thresholds.items()
        }
        return {**super().derive(theta, stored), **above}


def figures(
    result: Result,
    folder: Path,
    *,
    simulator: SkySimulator,
    counts: np.ndarray,
    exposure_cm2_s: float,
    band_gev: tuple[float, float],
    catalogue: Catalogued | None,
    half_width_deg: float | None = None,
) -> None:
    """Write dnds.png, dN/dS with bands beside the catalogue's, and sky.png, the counts; see `sky_map`."""
    source_counts(result, simulator, exposure_cm2_s, band_gev, catalogue).savefig(folder / "dnds.png", dpi=130)
    sky_map(simulator.sky, counts, half_width_deg).savefig(folder / "sky.png", dpi=130)


def source_counts(result: Result, simulator: SkySimulator, exposure_cm2_s: float, band_gev, catalogue) -> Figure:
    """F^2 dN/dF in cm^-2 s^-1 sr^-1: 68% and 95% bands from the marginals of its values at several fluxes."""
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axis = figure.subplots()
    flux = np.array(simulator.sources_at) / exposure_cm2_s
    marginals = [result[derived_name(s)] for s in simulator.sources_at]
    for mass, alpha in ((0.95, 0.25), (0.68, 0.5)):
        low, high = (10 ** np.array([m.interval(mass)[0] for m in marginals]) / exposure_cm2_s).T
        axis.fill_between(flux, low, high, color="#0072B2", alpha=alpha, lw=0, label=f"posterior {mass:.0%}")
    if catalogue is not None:
        area = len(simulator.sky) * simulator.sky.pixel_sr
        edges = np.logspace(-11, -7, 17)
        number, _ = np.histogram(catalogue.flux_band, edges)
        middle, width = np.sqrt(edges[1:] * edges[:-1]), np.diff(edges)
        value = middle**2 * number / width / area
        some = number > 0
        error = value[some] / np.sqrt(number[some])
        axis.errorbar(middle[some], value[some], error, fmt="o", color="k", ms=4, label="4FGL-DR3 in this region")
    if {derived_name(s) for s in simulator.sources_at} <= set(result.truth):
        truth = [10 ** result.truth[derived_name(s)] / exposure_cm2_s for s in simulator.sources_at]
        axis.plot(flux, truth, "k--", lw=1, label="truth")
    axis.axvline(1 / exposure_cm2_s, color="0.5", ls=":", lw=1)
    axis.text(1.05 / exposure_cm2_s, 0.03, "one count", transform=axis.get_xaxis_transform(), fontsize=8, color="0.4")
    axis.set(
        xscale="log", yscale="log", xlabel=rf"$F$, {band_gev[0]:g} to {band_gev[1]:g} GeV [cm$^{{-2}}$ s$^{{-1}}$]"
    )
    axis.set_ylabel(r"$F^2\,dN/dF$ [cm$^{-2}$ s$^{-1}$ sr$^{-1}$]")
    axis.legend(frameon=False)
    return figure


def sky_map(sky: Sky, counts: np.ndarray, half_width_deg: float | None = None) -> Figure:
    """The region's counts in Mollweide projection; or in l and b, so far from the Galactic centre."""
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    if half_width_deg is None:
        axis = figure.add_subplot(projection="mollweide")
        l_deg, b_deg = np.meshgrid(np.linspace(-180, 180, 721), np.linspace(-90, 90, 361))
        unit = np.pi / 180
    else:
        axis = figure.add_subplot(aspect="equal", xlabel="$l$ [deg]", ylabel="$b$ [deg]")
        l_deg, b_deg = np.meshgrid(*2 * [np.linspace(-half_width_deg, half_width_deg, 401)])
        unit = 1.0
    place = sky.place[healpy.ang2pix(sky.nside, l_deg, b_deg, nest=True, lonlat=True)]
    values = np.where(place >= 0, np.log10(np.maximum(counts[place], 0.5)), np.nan)
    # longitude grows to the left, as seen from inside
    sign = -1 if half_width_deg is None else 1
    shown = axis.pcolormesh(
        sign * unit * l_deg, unit * b_deg, values, cmap="inferno", shading="nearest", rasterized=True
    )
    if half_width_deg is None:
        axis.set_xticklabels([])
    else:
        axis.invert_xaxis()
    axis.grid(alpha=0.25)
    figure.colorbar(shown, ax=axis, label="log10 counts per pixel", shrink=0.8)
    return figure
