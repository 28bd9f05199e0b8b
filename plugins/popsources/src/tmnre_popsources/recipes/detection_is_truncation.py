"""Recipe `popsources/detection-is-truncation`: the analysis of 2211.04291 on its own observation, or on a mock."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tmnre import Recipe
from tmnre_popsources import arrays_only, products
from tmnre_popsources.detection import Threshold
from tmnre_popsources.papers import ANAU_MONTEL_2022
from tmnre_popsources.patch import LABELS, PRIOR, Patch, Scene
from tmnre_popsources.pipeline import DetectionIsTruncation, Effort
from tmnre_popsources.recipes.demo import Truth

PUBLISHED = Patch(pixels=128, psf_deg=0.9375, exposure=400.0, background_counts=0.0, as_published=True)
"""what the public code draws: a blur of 1.5 px times 4, and Poisson counts of 100 times the map, over 100"""
COUNTS_PER_UNIT = 100
"""the observation is counts over this"""


@dataclass(frozen=True)
class Settings:
    """Settings of `popsources/detection-is-truncation`; the defaults are those of the paper."""

    observation: str = ""
    """file with the published observation; none given: $TMNRE_DATA/popsources, and without that a mock of `truth`"""
    mock: bool = False
    """draw a mock of `truth` even where there is an observation"""
    patch: Patch = PUBLISHED
    """pixels, blur, exposure, background and what is fixed of the population"""
    truth: Truth = Truth()
    """the mock population"""
    observation_seed: int = 0
    """seed of the mock's sources and counts"""
    threshold: Threshold = Threshold(flux=10.0)
    """what counts as a detection; the paper's flux"""
    effort: Effort = Effort()
    """how hard to work for each step"""
    workers: int = 1
    """simulator processes"""
    seed: int = 0
    """seed of simulations and training"""


def build(settings: Settings) -> DetectionIsTruncation:
    """The procedure on the published observation or a mock."""
    scene = Scene.of(settings.patch)
    path = None if settings.mock else _observation(settings)
    if path is not None:
        counts, truth, sources = read_published(path)
        if counts.shape != (scene.pixels,) * 2:
            raise ValueError(f"{path} has a map of {counts.shape} pixels, the patch has {scene.pixels}; set mock=true")
    else:
        truth = {name: getattr(settings.truth, name) for name in PRIOR.names}
        generator = torch.Generator().manual_seed(settings.observation_seed)
        drawn = scene.draw(torch.tensor([list(truth.values())], dtype=torch.float64), generator)
        counts = scene.counts(scene.expected(drawn, 1), generator)[0].numpy()
        sources = torch.stack(drawn[1:], dim=1).numpy()
    return DetectionIsTruncation(
        scene=scene,
        prior=PRIOR,
        counts=counts,
        threshold=settings.threshold,
        effort=settings.effort,
        truth=truth,
        sources=sources,
        labels=LABELS,
        flux_unit="map units, 400 counts each"
        if settings.patch == PUBLISHED
        else f"{settings.patch.exposure:g} counts",
        draw=products.write,
        seed=settings.seed,
        workers=settings.workers,
    )


def read_published(path: Path) -> tuple[np.ndarray, dict[str, float], np.ndarray]:
    """Counts (n, n), truth, and the sources' l, b and ln F (S, 3) of the pickled observation of 2211.04291.

    Raises ValueError where its parameters are not N, Sigma and h in this order, which the number of sources tells.
    """
    content = arrays_only.read(path).item()
    counts = np.round(COUNTS_PER_UNIT * content["data"].astype(float)).astype(np.float32)
    listed = content["pdc"][np.isfinite(content["pdc"]).all(1)].astype(float)
    truth = dict(zip(PRIOR.names, (float(v) for v in content["pdp"]), strict=True))
    if int(truth["expected_sources"]) != len(listed):
        raise ValueError(
            f"{path} lists {len(listed)} sources, its parameters say {truth}: not the file this was written for"
        )
    return counts, truth, np.stack([listed[:, 1], listed[:, 0], np.log(listed[:, 2])], axis=1)


def _observation(settings: Settings) -> Path | None:
    if settings.observation:
        return Path(settings.observation)
    if settings.patch != PUBLISHED or "TMNRE_DATA" not in os.environ:
        return None
    path = Path(os.environ["TMNRE_DATA"]) / "popsources" / "anaumontel2022_obs.npy"
    return path if path.exists() else None


SMALL = {
    "patch.pixels": 64,
    "patch.psf_deg": 0.94,
    "patch.exposure": 1.0,
    "patch.background_counts": 1.0,
    "patch.as_published": False,
    "threshold.flux": 20.0,
}
SMOKE = {
    **SMALL,
    "patch.pixels": 32,
    "patch.psf_deg": 1.9,
    "effort.detection_steps": 60,
    "effort.trial_maps": 40,
    "effort.sensitivity_steps": 50,
    "effort.lists": (400,),
    "effort.list_steps": (30,),
    "effort.maps": (400,),
    "effort.map_steps": (30,),
    "effort.points": 500,
}

recipe = Recipe(
    settings=Settings,
    build=build,
    papers=(ANAU_MONTEL_2022,),
    presets={
        "small": SMALL,
        "smoke": SMOKE,
    },
    summary="population from detected and sub-threshold sources together, on the observation of 2211.04291",
)
