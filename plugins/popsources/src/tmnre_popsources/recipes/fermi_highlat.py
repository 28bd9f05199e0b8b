"""Recipe `popsources/fermi-highlat`: source counts dN/dS of the high-latitude gamma-ray sky from one counts map."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch

from tmnre import Analysis, Prior, Recipe, Stage, Training, Truncation, Uniform
from tmnre_popsources import fermi, psf, template_errors
from tmnre_popsources.fermi_detections import Effort, FermiDetections
from tmnre_popsources.fluxes import BrokenPowerLaw
from tmnre_popsources.histograms import ZoneHistograms, bin_edges
from tmnre_popsources.papers import FERMI_4FGL_DR3, LIST_2021, NPTF
from tmnre_popsources.scores import FittedSummary, best_norms
from tmnre_popsources.sky import Observation, Sky, latitude_mask, read_observation

BINS_OF_LEVEL = 5
CLIP = 2.0
"""standard deviations above a fit of the templates beyond which photons are taken as a source's"""


COARSER = (2, 3, 4)
"""halvings of nside to the pixels whose scatter tells how far templates are off: 4, 7 and 15 degrees at 64"""


@dataclass(frozen=True)
class Maps:
    """Files, FITS or .npy, HEALPix in Galactic coordinates, all at one nside; not given: $TMNRE_DATA/popsources."""

    counts: str = ""
    """photon counts per pixel"""
    exposure: str = ""
    """exposure, cm^2 s"""
    templates: dict[str, str] = field(default_factory=dict)
    """{name: file} of expected counts per pixel at norm one; the first is the isotropic emission"""
    mask: str = ""
    """true where a pixel is not to be used, besides low latitudes; none by default: sources are what is looked for"""
    catalogue: str = ""
    """4FGL table (FITS), drawn beside the posterior"""


@dataclass(frozen=True)
class PriorRanges:
    """Uniform priors of the source counts: those of NPTFit's high-latitude example with one break less, and with room
    for the higher one, which holds bright sources to the slope of faint ones where it cannot be above 80 counts.

    Fluxes are in counts at the region's mean exposure.
    """

    log10_level: tuple[float, float] = (2.0, 4.0)
    """log10 of F^2 dN/dF at ten counts, counts per steradian"""
    n1: tuple[float, float] = (2.05, 5.0)
    """slope above the higher break"""
    n2: tuple[float, float] = (1.0, 3.5)
    """slope between the breaks"""
    n3: tuple[float, float] = (-1.99, 1.99)
    """slope below the lower break"""
    log10_break1: tuple[float, float] = (1.4771, 2.6021)
    """log10 of the higher break: 30 to 400 counts"""
    log10_break2: tuple[float, float] = (0.0, 1.4771)
    """log10 of the lower break: 1 to 30 counts"""
    template_scatter: tuple[float, float] = (0.0, 0.6)
    """standard deviation over the sky of the logarithm of what Galactic templates are off by"""


@dataclass(frozen=True)
class Settings:
    """Settings of `popsources/fermi-highlat`; the defaults are the preset, and nothing in them is of one map."""

    maps: Maps = Maps()
    """the observation"""
    mock: bool = False
    """draw a mock, of an isotropic and a 1 / sin|b| template, instead of reading maps"""
    nside: int = 64
    """maps are degraded to this; 128 asks for a GPU or for patience"""
    least_latitude_deg: float = 30.0
    """pixels with |b| below this are left out"""
    margin_deg: float = 1.0
    """sources are drawn so far outside of the region, because their photons scatter in"""
    psf_deg: float = 0.18
    """standard deviation (Gaussian) or core (King) of the point spread function, degrees; 0: none"""
    king_index: float = 0.0
    """index of King's tails; 0: a Gaussian"""
    band_gev: tuple[float, float] = (2.0, 20.0)
    """energies of the map, GeV; fluxes of the catalogue are converted to it"""
    reference_index: float = 2.2
    """photon index for thresholds in flux: the median of 4FGL at |b| > 30"""
    thresholds: tuple[float, ...] = (1e-10, 3e-10, 1e-9)
    """fluxes, 1 to 100 GeV, cm^-2 s^-1, above which sources are counted"""
    prior: PriorRanges = PriorRanges()
    """priors of the source counts; norms of templates are uniform from 0 to where one alone makes all photons"""
    faintest_counts: float = 0.3
    """lower end of the source counts; fainter sources are isotropic emission"""
    fluxes: tuple[float, ...] = (0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256)
    """counts at which dN/dS is inferred"""
    simulations: tuple[int, ...] = (4000, 4000, 6000, 8000, 12_000)
    """maps that train each round"""
    steps: tuple[int, ...] = (500, 500, 800, 800, 2000)
    """optimiser steps of each round"""
    redraw_noise: bool = False
    """draw photons of templates anew at every use of a map, instead of using the time for more maps"""
    training: Training = Training(batch_size=128)
    """optimiser"""
    truncation: Truncation = Truncation()
    """how the region shrinks"""
    detections: Effort = Effort()
    """detection of single sources, after the last round"""
    observation_seed: int = 0
    """seed of the mock"""
    workers: int = 1
    """simulator processes; a map takes 10 to 30 milliseconds"""
    seed: int = 0
    """seed of simulations and training"""


def build(settings: Settings) -> Analysis | FermiDetections:
    """The analysis: maps, region, simulator, marginals, rounds; and then the detections."""
    observed = (mock_maps(settings.nside) if settings.mock else read(settings.maps)).at(settings.nside)
    for line in observed.assumed:
        print(f"assumed of {line}")
    masked = observed.masked | latitude_mask(settings.nside, settings.least_latitude_deg)
    sky = Sky(masked, settings.margin_deg if settings.psf_deg else 0.0)
    exposure = float(sky.of_ring(observed.exposure).mean())
    templates = {name: sky.of_ring(values) for name, values in observed.templates.items()}
    law = BrokenPowerLaw(2, pivot=10.0, faintest=settings.faintest_counts)
    counts = sky.of_ring(observed.counts)
    most = {name: Uniform(0.0, max(counts.mean(), 1.0) / t.mean()) for name, t in templates.items()}
    own = {name: Uniform(*getattr(settings.prior, name)) for name in (*law.names, template_errors.NAME)}
    prior = Prior({**{name: own[name] for name in law.names}, **most, template_errors.NAME: own[template_errors.NAME]})
    ratio = fermi.band_ratio(settings.reference_index, settings.band_gev)
    simulator = fermi.FermiSky(
        *(sky, prior),
        law=law,
        exposure=observed.exposure,
        templates=templates,
        psf=psf.of_settings(settings.psf_deg, settings.king_index),
        summary=summary_of(counts, templates, sky),
        sources_at=settings.fluxes,
        redraw_noise=settings.redraw_noise,
        thresholds={flux: flux * ratio * exposure for flux in settings.thresholds},
        # isotropic emission is even by definition
        uncertain=tuple(templates)[1:],
    )
    truth: dict[str, float] = {}
    if settings.mock:
        truth = MOCK | dict(zip(templates, (1.0, 1.0), strict=True))
        theta = torch.tensor([[truth[name] for name in prior.names]], dtype=torch.float64)
        photons = simulator.photons(theta[0].numpy(), np.random.default_rng(settings.observation_seed))
        generator = torch.Generator().manual_seed(settings.observation_seed + 1)
        counts = photons + simulator.diffuse(theta, generator)[0].numpy()
        truth |= {name: float(q) for name, q in simulator.derive(theta).items()}
    x = simulator.summarised(torch.as_tensor(counts, dtype=torch.float32)[None])
    path = _catalogue(settings)
    catalogue = None if path is None else fermi.read_4fgl(path, sky, settings.band_gev)
    # skies of detections are drawn from the posterior of all parameters together
    joint = [prior.names] if settings.detections.steps else []
    pairs = [("log10_level", "n2"), ("log10_level", next(iter(templates)))]
    analysis = Analysis(
        simulator=simulator,
        observation={name: array[0].numpy() for name, array in x.items()},
        marginals=[*prior.names, *simulator.derived, *pairs, *joint],
        # of parameters alone few are cut, as many of them make the same source counts
        truncated=[*prior.names, *simulator.derived],
        stages=[Stage(n, steps) for n, steps in zip(settings.simulations, settings.steps, strict=True)],
        training=settings.training,
        truncation=settings.truncation,
        truth=truth,
        labels=simulator.labels,
        figures=partial(
            fermi.figures,
            simulator=simulator,
            counts=counts,
            exposure_cm2_s=exposure,
            band_gev=settings.band_gev,
            catalogue=catalogue,
        ),
        seed=settings.seed,
        workers=settings.workers,
        shard_size=200,
    )
    if not settings.detections.steps:
        return analysis
    return FermiDetections(
        *(analysis, counts),
        exposure_cm2_s=exposure,
        band_ratio=float(ratio),
        effort=settings.detections,
        catalogue=catalogue,
    )


MOCK = {
    **{"log10_level": 3.2, "n1": 2.5, "n2": 2.0, "n3": 1.6, "log10_break1": 1.7, "log10_break2": 0.5},
    template_errors.NAME: 0.2,
}
"""source counts of a mock, close to what Fermi sees, and how far templates are off"""


def mock_maps(nside: int) -> Observation:
    """Exposure and templates of a mock, and no counts yet: 4.3 counts per square degree, half of them isotropic."""
    import healpy

    _, b_deg = healpy.pix2ang(nside, np.arange(12 * nside**2), lonlat=True)
    area = healpy.nside2pixarea(nside, degrees=True)
    disk = 1 / np.maximum(np.abs(np.sin(np.radians(b_deg))), 0.05)
    templates = {"isotropic": np.full(len(b_deg), 7.0 * area), "diffuse": 4.0 * area * disk}
    counts = templates["isotropic"] + templates["diffuse"]
    return Observation(counts, np.full(len(b_deg), 8.6e10), templates, np.zeros(len(b_deg), dtype=bool), ())


def read(maps: Maps) -> Observation:
    """Maps of the settings, or those under $TMNRE_DATA."""
    if maps.counts:
        if not (maps.exposure and maps.templates):
            raise ValueError("maps.counts comes with maps.exposure and maps.templates, {name: file}, isotropic first")
        files = {name: Path(path) for name, path in maps.templates.items()}
        return read_observation(Path(maps.counts), Path(maps.exposure), files, Path(maps.mask) if maps.mask else None)
    folder = Path(os.environ.get("TMNRE_DATA", "")) / "popsources" / "fermi_573w_nside128"
    if not folder.exists():
        raise ValueError("give maps.counts, maps.exposure and maps.templates, or set TMNRE_DATA, or --mock true")
    names = {"isotropic": "iso", "pion": "Opi", "inverse_compton": "Oic", "bubbles": "bub"}
    files = {name: folder / f"template_{short}.npy" for name, short in names.items()}
    mask = Path(maps.mask) if maps.mask else None
    return read_observation(folder / "fermidata_counts.npy", folder / "fermidata_exposure.npy", files, mask)


def summary_of(counts: np.ndarray, templates: dict[str, np.ndarray], sky: Sky) -> FittedSummary:
    """Histograms zone by zone, and norms of the templates, fitted about their fit to counts (P,)."""
    every = np.stack(list(templates.values()))
    expected = np.maximum(best_norms(counts, every) @ every, 1e-3)
    histograms = ZoneHistograms(zones_of(templates), sky.neighbours(), bin_edges(24, 3e4))
    return FittedSummary(histograms, every, expected, clip=CLIP, parents=[sky.nest >> 2 * k for k in COARSER])


def zones_of(templates: dict[str, np.ndarray]) -> torch.Tensor:
    """Zones (P,): levels of the brightest template that is not the isotropic one, with as many pixels each."""
    others = list(templates.values())[1:] or list(templates.values())
    level = max(others, key=lambda t: t.std())
    inner = np.quantile(level, np.linspace(0, 1, BINS_OF_LEVEL + 1)[1:-1])
    return torch.from_numpy(np.digitize(level, inner))


def _catalogue(settings: Settings) -> Path | None:
    if settings.maps.catalogue:
        return Path(settings.maps.catalogue)
    path = Path(os.environ.get("TMNRE_DATA", "")) / "popsources" / "4fgl_dr3_reduced.fits"
    return path if path.exists() and not settings.mock else None


recipe = Recipe(
    settings=Settings,
    build=build,
    papers=(NPTF, LIST_2021, FERMI_4FGL_DR3),
    presets={
        "smoke": {
            **{"mock": True, "nside": 16, "least_latitude_deg": 60.0, "simulations": (300, 300), "steps": (30, 30)},
            **{"detections.steps": 10, "detections.skies": 4},
        },
        "mock": {"mock": True},
        "gpu": {
            **{"nside": 128, "training.accelerator": "gpu", "training.batch_size": 512},
            **{"simulations": (10_000, 10_000, 20_000, 20_000, 40_000), "steps": (500, 500, 800, 800, 3000)},
        },
    },
    summary="dN/dS of high-latitude gamma-ray sources, isotropic and diffuse emission, from a Fermi-LAT counts map",
)
