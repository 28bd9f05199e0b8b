"""The catalogue of detections as a FITS table, in the column names of the Fermi-LAT catalogues.

Source_Name                            PATCH lll.l+bb.b, after the position
RAJ2000, DEJ2000, GLON, GLAT           degrees
Conf_95_SemiMajor, _SemiMinor, _PosAng 95% ellipse of the position, degrees
Signif_Avg                             sqrt(2 ln r1), what a likelihood ratio test would call its significance
Flux, Unc_Flux                         in the units of flux of the header's FLUXUNIT; 68%; Flux1000 if in 1 to 100 GeV
Flux_Lo95, Flux_Hi95                   the 95% interval
Prob                                   probability that there is a source above the threshold
Surv_k                                 P(F >= F_k | there is one); F_k in the header
ASSOC1                                 name of the catalogued source it stands for, where it was matched; else empty
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.table import Table

from tmnre.files import write_whole
from tmnre_popsources.detection import Detections

ELLIPSE_95 = np.sqrt(-2 * np.log(0.05))
"""semi-axis of a two-dimensional Gaussian's 95% ellipse in standard deviations"""


def table(
    found: Detections,
    *,
    flux_unit: str,
    log_fluxes: Sequence[float],
    prefix: str = "PATCH",
    flux_name: str = "Flux",
    associated: Sequence[str] | None = None,
) -> Table:
    """The catalogue, brightest first; l and b of the detections are taken for Galactic coordinates."""
    order = found.log_flux.argsort(descending=True)
    found = found.of(order)
    l_deg, b_deg, log_flux = found.point.double().numpy().T
    sd_l, sd_b, sd_flux = found.sd.double().numpy().T
    ratio = found.log_r1.double().numpy()
    sky = SkyCoord(l=l_deg * units.deg, b=b_deg * units.deg, frame="galactic")
    flux = np.exp(log_flux)
    columns: dict[str, object] = {
        "Source_Name": [f"{prefix} {one.l.deg:05.1f}{one.b.deg:+05.1f}" for one in sky],
        "RAJ2000": sky.icrs.ra.to(units.deg),
        "DEJ2000": sky.icrs.dec.to(units.deg),
        "GLON": sky.l.to(units.deg),
        "GLAT": sky.b.to(units.deg),
        "Conf_95_SemiMajor": ELLIPSE_95 * np.maximum(sd_l, sd_b) * units.deg,
        "Conf_95_SemiMinor": ELLIPSE_95 * np.minimum(sd_l, sd_b) * units.deg,
        "Conf_95_PosAng": np.where(sd_b >= sd_l, 0.0, 90.0) * units.deg,
        "Signif_Avg": np.sqrt(2 * np.maximum(ratio, 0)),
        flux_name: flux,
        f"Unc_{flux_name}": flux * sd_flux,
        f"{flux_name}_Lo95": flux * np.exp(-1.96 * sd_flux),
        f"{flux_name}_Hi95": flux * np.exp(1.96 * sd_flux),
        "Prob": np.minimum(found.probability.double().numpy(), 1.0),
    }
    for k in range(len(log_fluxes)):
        columns[f"Surv_{k + 1}"] = found.survival[:, k].double().numpy()
    if associated is not None:
        columns["ASSOC1"] = np.array(associated, dtype=str)[order.numpy()]
    made = Table(columns)
    made.meta["FLUXUNIT"] = flux_unit
    made.meta["POSANG"] = "from Galactic north"
    for k, log_f in enumerate(log_fluxes):
        made.meta[f"F_{k + 1}"] = float(np.exp(log_f))
    return made


def write(path: Path, made: Table) -> None:
    """Write a catalogue to a FITS file, whole or not at all."""
    write_whole(path, lambda temporary: made.write(temporary, format="fits", overwrite=True))
