"""Detections beside 4FGL: which of its sources were found, which detections it knows, and what was to be expected.

A source's flux in 1 to 100 GeV says little of a map of another band unless its spectrum is the reference's.  Whether a
source can be found, and the flux that a detection's is compared with, therefore is its flux in the map's band, with its
own index, as a source of the reference index would have it in 1 to 100 GeV: `seen`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tmnre_popsources import crossmatch
from tmnre_popsources.crossmatch import Listed
from tmnre_popsources.detection import Detections
from tmnre_popsources.fermi import Catalogued


@dataclass(frozen=True)
class Matches:
    """Detections with fluxes in 1 to 100 GeV, the catalogue, ln of its `seen` fluxes (S,), the index of the source each
    detection stands for (D,), -1 where there is none, and the shares that match by chance."""

    found: Detections
    catalogue: Catalogued
    seen: np.ndarray
    index: np.ndarray
    chance: dict[str, float]

    @classmethod
    def of(
        cls, found: Detections, catalogue: Catalogued, *, band_ratio: float, faintest: float, least_deg: float
    ) -> Matches:
        """faintest : flux, 1 to 100 GeV, from which on a source can be what a detection stands for."""
        seen = np.log(catalogue.flux_band / band_ratio)
        bright = np.flatnonzero(seen >= np.log(faintest))
        listed = Listed(catalogue.l_deg[bright], catalogue.b_deg[bright], catalogue.sd_deg[bright], seen[bright])
        index = crossmatch.match(found, listed, least_deg=least_deg)
        index = np.where(index >= 0, bright[index], -1)
        return cls(found, catalogue, seen, index, crossmatch.by_chance(found, listed, least_deg=least_deg))

    @property
    def real(self) -> np.ndarray:
        """Whether each detection (D,) is matched."""
        return self.index >= 0

    @property
    def names(self) -> list[str]:
        """Of the detections' sources (D,), "" where there is none."""
        return [str(self.catalogue.names[i]) if i >= 0 else "" for i in self.index]

    @property
    def recovered(self) -> np.ndarray:
        """Whether each source (S,) of the catalogue is found."""
        hit = np.zeros(len(self.seen), dtype=bool)
        hit[self.index[self.real]] = True
        return hit

    def record(self, edges: np.ndarray, mocks: dict[str, Any]) -> dict[str, Any]:
        """What summary.json holds; edges in ln F; mocks: the record of `sky_trials`, in the same bins."""
        flux, measured = np.log(self.catalogue.flux_1_100), self.found.log_flux.numpy().astype(float)
        expected = _at(mocks["completeness"], self.seen), _at(mocks["purity"], measured)
        apart = measured[self.real] - self.seen[self.index[self.real]]
        low, middle, high = np.quantile(apart, [0.16, 0.5, 0.84]).tolist() if len(apart) else 3 * [0.0]
        return {
            "sources": len(flux),
            "completeness": _beside(flux, self.recovered, edges, expected[0]),
            "purity": _beside(measured, self.real, edges, expected[1]),
            "purity_of_all": float(self.real.mean()) if len(self.real) else None,
            "by_chance": self.chance,
            "log_flux_difference": {"median": middle, "sd_68": (high - low) / 2, "matches": len(apart)},
        }


def _at(bins: list[dict[str, Any]], log_flux: np.ndarray) -> np.ndarray:
    """Shares of a record in bins, linear in ln F between the bins' middles, at ln F (S,); zero below all bins."""
    some = [b for b in bins if b["share"] is not None]
    middles = [np.log(b["low"] * b["high"]) / 2 for b in some]
    if not some:
        return np.full(len(log_flux), np.nan)
    share = np.interp(log_flux, middles, [b["share"] for b in some])
    return np.where(log_flux >= np.log(some[0]["low"]), share, 0.0)


def _beside(log_flux: np.ndarray, hits: np.ndarray, edges: np.ndarray, expected: np.ndarray) -> list[dict[str, Any]]:
    """Shares in bins, with the mean of what was expected of those in them."""
    bins = np.digitize(log_flux, edges) - 1
    return [
        {**one, "expected": float(expected[bins == k].mean()) if one["number"] else None}
        for k, one in enumerate(crossmatch.shares(log_flux, hits, edges))
    ]
