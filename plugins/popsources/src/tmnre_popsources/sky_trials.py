"""What detections on a sky are worth, from skies held out: completeness, purity, calibration, pulls.

A detection is real that matches a source above the ladder's lowest flux (see `crossmatch`), and a source is found that
some detection stands for: the very rules by which the observation's detections meet a catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tmnre_popsources import crossmatch
from tmnre_popsources.crossmatch import Listed
from tmnre_popsources.detection import Detections, Threshold
from tmnre_popsources.sky_detection import SKIES_AT_ONCE, Skies, SkySources, find, read

SAID = (0.0, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97, 1.0)
"""edges of bins of probabilities"""
MEASURED = ("b", "l", "log_flux")


@dataclass(frozen=True)
class SkyTrials:
    """Of sources their ln F (S,) and whether found (S,); of detections their measured ln F (D,), whether real (D,) and
    pulls (D, 3) of b, l and ln F, NaN where not; of pixels in bins of probability number, mean probability and share of
    those that hold a source above the threshold (B, 3)."""

    log_flux: Tensor
    found: Tensor
    measured: Tensor
    real: Tensor
    pulls: Tensor
    reliability: Tensor
    skies: int

    def record(self, edges: np.ndarray, log_unit: float) -> dict[str, Any]:
        """What a summary holds; edges in ln F, in a unit of flux that is exp(log_unit) counts."""
        pulls = self.pulls[self.real].double()
        true, measured = (q.numpy().astype(float) - log_unit for q in (self.log_flux, self.measured))
        return {
            "skies": self.skies,
            "completeness": crossmatch.shares(true, self.found.numpy(), edges),
            "purity": crossmatch.shares(measured, self.real.numpy(), edges),
            "purity_of_all": float(self.real.double().mean()) if len(self.real) else None,
            "detections_per_sky": len(self.measured) / self.skies,
            "pulls": {
                name: {"mean": float(q.mean()), "sd": float(q.std()), "beyond_3": float((q.abs() > 3).double().mean())}
                for name, q in zip(MEASURED, pulls.T, strict=True)
                if len(q) > 1
            },
            "reliability": [
                {"pixels": int(n), "said": said, "found": share} for n, said, share in self.reliability.tolist() if n
            ],
        }


def trials(
    network: nn.Module, skies: Skies, before: Tensor, threshold: Threshold, *, least_deg: float, seed: int
) -> SkyTrials:
    """`find` on all of these skies."""
    generator = torch.Generator().manual_seed(seed)
    parts: list[tuple[Tensor, ...]] = []
    pixels = torch.zeros(len(SAID) - 1, 3, dtype=torch.float64)
    for rows in torch.arange(len(skies)).split(SKIES_AT_ONCE):
        counts, sources = skies.draw(rows, generator)
        ratio, chance, maps = read(network, counts, before)
        detections = find(ratio, chance, maps, skies.near, threshold)
        said = chance[:, 1].double().flatten()
        there = skies.truth(sources, len(rows)).present[:, 1].double().flatten()
        bins = torch.bucketize(said, said.new_tensor(SAID[1:-1]), right=True)
        pixels.index_add_(0, bins, torch.stack([torch.ones_like(said), said, there], dim=1))
        for row in range(len(rows)):
            parts.append(
                _of_one(detections.of(detections.row == row), sources.of(sources.row == row), skies, least_deg)
            )
    number, *sums = pixels.T
    reliability = torch.stack([number, *(s / number.clamp(min=1) for s in sums)], dim=1)
    return SkyTrials(*(torch.cat(q) for q in zip(*parts, strict=True)), reliability, len(skies))


def _of_one(found: Detections, sources: SkySources, skies: Skies, least_deg: float) -> tuple[Tensor, ...]:
    """Columns of `SkyTrials` of one sky."""
    of = torch.from_numpy(crossmatch.match(found, listed(sources), least_deg=least_deg))
    real = of >= 0
    seen = torch.zeros(len(sources.row), dtype=torch.bool)
    seen[of[real]] = True
    pulls = torch.full((len(of), 3), torch.nan)
    if real.any():
        there = sources.of(of[real])
        measured = found.of(real)
        own = torch.from_numpy(crossmatch.unit_vectors(measured.l_deg.numpy(), measured.b_deg.numpy()))
        apart = skies.near.offsets(measured.peak, there.vector) - skies.near.offsets(measured.peak, own)
        apart = torch.cat([apart * skies.near.pixel_deg, (there.log_flux - measured.log_flux)[:, None]], dim=1)
        pulls[real] = (apart / measured.sd[:, [1, 0, 2]]).float()
    return sources.log_flux, seen, found.log_flux, real, pulls


def listed(sources: SkySources) -> Listed:
    """Sources of one sky as a list without errors of position."""
    x, y, z = sources.vector.numpy().T
    l_deg, b_deg = np.degrees(np.arctan2(y, x)) % 360, np.degrees(np.arcsin(z))
    return Listed(l_deg, b_deg, np.zeros(len(z)), sources.log_flux.numpy())
