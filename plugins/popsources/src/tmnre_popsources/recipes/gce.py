"""Recipe `popsources/gce`: is the Galactic-centre excess smooth, or a population of point sources?

Of the inner Galaxy off the plane, a sum of isotropic emission, diffuse emission and an excess distributed as the
square of an NFW profile, of which a share is of point sources with a broken power law dN/dS and the rest is smooth.
By default a mock with known truth; a counts map and an exposure by settings.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import healpy
import numpy as np
import torch
from matplotlib.figure import Figure

from tmnre import Analysis, Prior, Recipe, Result, Stage, Training, Truncation, Uniform
from tmnre_popsources import fermi, psf, template_errors
from tmnre_popsources.excess_sky import ExcessSky, smooth_excess
from tmnre_popsources.fluxes import BrokenPowerLaw
from tmnre_popsources.histograms import ZoneHistograms, excess_edges
from tmnre_popsources.nfw import Halo, annihilation_map
from tmnre_popsources.papers import LEE_2016, LIST_2021, MISHRA_SHARMA_2022, NPTF
from tmnre_popsources.scores import FittedSummary, best_norms
from tmnre_popsources.sky import Observation, Sky, inner_mask, read_observation, read_template

FINER = 4
"""the excess is mapped on pixels finer by this along each side: at 2 degrees it changes by half within the map's own"""
COARSER = (1, 2, 3)
"""halvings of nside to the pixels whose scatter tells how far templates are off"""
RINGS, LEVELS = 4, 3
"""zones of the histograms: as many levels of the excess, and of the other templates within each"""
ISOTROPIC_FLUX, DISK_FLUX = 5e-11, 2e-10
"""fluxes at norm one, cm^-2 s^-1 per square degree, of isotropic emission and of the disk at its unit"""
MOCK_EXPOSURE_CM2_S = 9.2e10
"""that of 573 weeks of Fermi-LAT data in the inner Galaxy, 2 to 20 GeV, PSF3"""


@dataclass(frozen=True)
class PriorRanges:
    """Uniform priors; fluxes of sources are in counts at the region's mean exposure."""

    excess_share: tuple[float, float] = (0.0, 0.4)
    """photons of the excess, as shares of all photons in the region"""
    point_fraction: tuple[float, float] = (0.0, 1.0)
    """share of the excess that is of point sources"""
    n1: tuple[float, float] = (2.5, 6.0)
    """slope above the break; above 2, or a handful of sources would make all photons"""
    n2: tuple[float, float] = (-3.0, 1.95)
    """slope below the break; below 2, or sources of less than a photon, which are smooth, would"""
    log10_break1: tuple[float, float] = (0.0, 1.7)
    """log10 of the break: 1 to 50 counts; sources fainter still cannot be told from smooth emission"""
    template_scatter: float = 0.0
    """largest standard deviation over the sky of the logarithm of what templates of diffuse emission are off by; 0:
    they are right but for their norms"""


@dataclass(frozen=True)
class Truth:
    """The mock: an excess as bright as Fermi's, most of it sources just below what Fermi detects (1506.05124)."""

    gce_counts: float = 11_000.0
    """photons of the excess expected from the region"""
    point_fraction: float = 0.7
    """share of point sources"""
    n1: float = 4.0
    """slope above the break"""
    n2: float = -0.5
    """slope below the break"""
    log10_break1: float = 1.15
    """log10 of the break, counts"""
    template_norm: float = 1.0
    """norm of every other template"""
    template_scatter: float = 0.1
    """how far off templates of diffuse emission are, where the prior lets them"""


@dataclass(frozen=True)
class Settings:
    """Settings of `popsources/gce`; the defaults are the preset, a mock for two CPU cores.

    Files are FITS or .npy, HEALPix in Galactic coordinates, all at one nside; $VARIABLES in their names are filled in.
    """

    counts: str = ""
    """photon counts per pixel; none: a mock is drawn"""
    exposure: str = ""
    """exposure of the counts, cm^2 s"""
    templates: dict[str, str] = field(default_factory=dict)
    """{name: file} of diffuse emission, expected counts per pixel at norm one; none: an analytic disk, for mocks"""
    mask: str = ""
    """true where a pixel of the counts is not to be used, as bright sources that are no excess; besides the plane"""
    nside: int = 64
    """maps are degraded to this"""
    half_width_deg: float = 20.0
    """the region is |l| and |b| up to this"""
    plane_deg: float = 2.0
    """pixels with |b| below this are left out"""
    margin_deg: float = 1.0
    """sources are drawn so far outside of the region, because their photons scatter in"""
    psf_deg: float = 0.18
    """standard deviation (Gaussian) or core (King) of the point spread function, degrees; 0: none"""
    king_index: float = 0.0
    """index of King's tails; 0: a Gaussian"""
    band_gev: tuple[float, float] = (2.0, 20.0)
    """energies of the map, GeV; for the figure"""
    halo: Halo = Halo()
    """distribution of the excess"""
    prior: PriorRanges = PriorRanges()
    """priors of the excess; norms of templates are uniform from 0 to where one alone makes all photons"""
    faintest_counts: float = 0.3
    """lower end of the source counts"""
    brightest_counts: float = 1000.0
    """upper end of the source counts"""
    fluxes: tuple[float, ...] = (1, 2, 4, 8, 16, 32, 64)
    """counts at which dN/dS is inferred"""
    truth: Truth = Truth()
    """the mock"""
    simulations: tuple[int, ...] = (4000, 8000, 16000)
    """maps that train each round"""
    steps: tuple[int, ...] = (500, 800, 2000)
    """optimiser steps of each round"""
    redraw_noise: bool = False
    """draw photons of templates anew at every use of a map, instead of using the time for more maps"""
    training: Training = Training(batch_size=128)
    """optimiser"""
    truncation: Truncation = Truncation()
    """how the region shrinks"""
    observation_seed: int = 0
    """seed of the mock"""
    workers: int = 1
    """simulator processes; a map takes some 10 milliseconds"""
    seed: int = 0
    """seed of simulations and training"""


def build(settings: Settings) -> Analysis:
    """The analysis: maps, region, excess, simulator, reference fit, marginals, rounds."""
    observed = maps(settings)
    for line in observed.assumed:
        print(f"assumed of {line}")
    masked = observed.masked | inner_mask(settings.nside, settings.half_width_deg, settings.plane_deg)
    if masked.all():
        raise ValueError("no pixel is left: the mask, plane_deg and half_width_deg leave none at this nside")
    sky = Sky(masked, settings.margin_deg if settings.psf_deg else 0.0)
    profile = psf.of_settings(settings.psf_deg, settings.king_index)
    density = annihilation_map(settings.halo, FINER * settings.nside)
    smooth = smooth_excess(sky, density, observed.exposure, profile)
    templates = {name: sky.of_ring(values) for name, values in observed.templates.items()}
    every = np.stack([smooth, *templates.values()])
    uncertain = tuple(name for name in templates if name != "isotropic") if settings.prior.template_scatter else ()
    law = BrokenPowerLaw(1, faintest=settings.faintest_counts, brightest=settings.brightest_counts)
    counts = sky.of_ring(observed.counts)
    truth: dict[str, float] = {}
    if not settings.counts:
        given = {name: getattr(settings.truth, name) for name in ("gce_counts", "point_fraction", *law.names[1:])}
        truth = given | dict.fromkeys(templates, settings.truth.template_norm)
        truth |= {template_errors.NAME: settings.truth.template_scatter} if uncertain else {}
    total = float(counts.sum()) or float(sum(truth[n] * t.sum() for n, t in templates.items()) + truth["gce_counts"])
    prior = prior_of(settings.prior, law, templates, total)
    make = partial(
        ExcessSky,
        *(sky, prior),
        law=law,
        density=density,
        smooth=smooth,
        templates=templates,
        exposure=observed.exposure,
        psf=profile,
        sources_at=settings.fluxes,
        redraw_noise=settings.redraw_noise,
        uncertain=uncertain,
    )
    if truth:
        theta = np.array([truth[name] for name in prior.names])
        counts = make().draw(theta, settings.observation_seed)
        truth |= {name: float(q) for name, q in make().derive(torch.from_numpy(theta)[None]).items()}
    norms = best_norms(counts, every)
    zones = zones_of(smooth, norms[1:] @ every[1:])
    expected = np.maximum(norms @ every, 1e-3)
    histograms = ZoneHistograms(zones, sky.neighbours(), excess_edges(), torch.from_numpy(expected))
    parents = [sky.nest >> 2 * k for k in COARSER] if uncertain else []
    summary = FittedSummary(histograms, every, expected, parents=parents)
    simulator = make(summary=summary)
    x = simulator.summarised(torch.as_tensor(counts, dtype=torch.float32)[None])
    return Analysis(
        simulator=simulator,
        observation={name: array[0].numpy() for name, array in x.items()},
        marginals=[
            *(*prior.names, *simulator.derived),
            *(("gce_counts", "point_fraction"), ("point_fraction", "log10_break1"), ("gce_counts", "isotropic")),
        ],
        # of parameters alone few are cut, as many of them make the same source counts
        truncated=[*prior.names, *simulator.derived],
        stages=[Stage(n, steps) for n, steps in zip(settings.simulations, settings.steps, strict=True)],
        training=settings.training,
        truncation=settings.truncation,
        truth=truth,
        labels=LABELS,
        figures=partial(
            figures,
            simulator=simulator,
            counts=counts,
            exposure_cm2_s=float(sky.of_ring(observed.exposure).mean()),
            band_gev=settings.band_gev,
            half_width_deg=settings.half_width_deg,
        ),
        seed=settings.seed,
        workers=settings.workers,
        shard_size=200,
    )


LABELS = {
    "gce_counts": "excess [counts]",
    "point_fraction": "share of sources",
    "n1": "$n_1$",
    "n2": "$n_2$",
    "log10_break1": r"$\log_{10} F_b$",
}


def maps(settings: Settings) -> Observation:
    """Maps of the settings, at their nside, with isotropic emission first among the templates; counts of a mock are 0.

    Raises ValueError where maps do not fit together or hold what they cannot.
    """
    files = {name: _path(file) for name, file in settings.templates.items()}
    if "isotropic" in files:
        raise ValueError("templates are of diffuse emission; isotropic emission is made from the exposure")
    if settings.counts:
        if not settings.exposure:
            raise ValueError("counts come with an exposure, cm^2 s")
        mask = _path(settings.mask) if settings.mask else None
        found = read_observation(_path(settings.counts), _path(settings.exposure), files, mask)
    else:
        if settings.exposure or settings.mask:
            raise ValueError("exposure and mask go with counts; a mock has its own exposure")
        found = mock_maps(settings.nside, files)
    found = found.at(settings.nside)
    area = healpy.nside2pixarea(settings.nside, degrees=True)
    made, assumed = {"isotropic": ISOTROPIC_FLUX * area * found.exposure}, found.assumed
    if not files:
        made["diffuse"] = DISK_FLUX * area * found.exposure * disk(settings.nside)
        assumed += ("the diffuse emission: an analytic disk made here, no model of the Galaxy (no templates given)",)
    return replace(found, templates={**made, **found.templates}, assumed=assumed)


def mock_maps(nside: int, files: dict[str, Path]) -> Observation:
    """Exposure and templates of a mock, from files where there are some, and no counts yet."""
    assumed: list[str] = []
    templates = {name: read_template(path, assumed) for name, path in files.items()}
    pixels = {len(values) for values in templates.values()} or {12 * nside**2}
    if len(pixels) > 1:
        raise ValueError(f"templates have {sorted(pixels)} pixels; bring them to one nside first")
    zero = np.zeros(pixels.pop())
    return Observation(zero, zero + MOCK_EXPOSURE_CM2_S, templates, zero > 0, tuple(assumed))


def disk(nside: int) -> np.ndarray:
    """RING map of a disk-like glow: a cosecant of latitude, cut off at the plane, half of it within 30 degrees in l.

    Analytic, to have something as bright and as steep as the Galaxy's emission where no model of it is given.  It has
    none of its clouds, and nothing should be concluded from real counts with it.
    """
    l_deg, b_deg = healpy.pix2ang(nside, np.arange(12 * nside**2), lonlat=True)
    l_deg = (l_deg + 180) % 360 - 180
    return (1 + np.exp(-0.5 * (l_deg / 30) ** 2)) / 2 / np.hypot(np.sin(np.radians(b_deg)), 0.08)


def prior_of(ranges: PriorRanges, law: BrokenPowerLaw, templates: dict[str, np.ndarray], total: float) -> Prior:
    """Uniform priors of excess, sources and norms, for a region with `total` photons."""
    (low, high), scatter = ranges.excess_share, ranges.template_scatter
    return Prior(
        {
            "gce_counts": Uniform(low * total, high * total),
            **{name: Uniform(*getattr(ranges, name)) for name in ("point_fraction", *law.names[1:])},
            **{name: Uniform(0.0, total / float(t.sum())) for name, t in templates.items()},
            **({template_errors.NAME: Uniform(0.0, scatter)} if scatter else {}),
        }
    )


def zones_of(smooth: np.ndarray, others: np.ndarray) -> torch.Tensor:
    """Zones (P,): RINGS levels of the excess (P,), in each LEVELS of the other emission (P,), with as many pixels."""

    def levels(values: np.ndarray, n: int) -> np.ndarray:
        return np.digitize(values, np.quantile(values, np.arange(1, n) / n))

    ring = levels(smooth, RINGS)
    zones = np.zeros(len(ring), dtype=int)
    for i in np.unique(ring):
        zones[ring == i] = i * LEVELS + levels(others[ring == i], LEVELS)
    return torch.from_numpy(zones)


def figures(result: Result, folder: Path, *, half_width_deg: float, **how) -> None:
    """Write fraction.png, the share of sources; dnds.png, dN/dS with bands; sky.png, the counts."""
    fraction(result).savefig(folder / "fraction.png", dpi=130)
    fermi.figures(result, folder, catalogue=None, half_width_deg=half_width_deg, **how)


def fraction(result: Result) -> Figure:
    """Posterior of the share of the excess that is of point sources, with its 90% interval."""
    marginal = result["point_fraction"]
    grid = np.linspace(0, 1, 201)
    figure = Figure(figsize=(5.4, 3.6), layout="constrained")
    axis = figure.subplots()
    density = marginal.density(grid)
    axis.plot(grid, density, color="#0072B2", label="posterior")
    low, high = marginal.interval(0.9)[0]
    inside = (grid >= low) & (grid <= high)
    axis.fill_between(grid[inside], density[inside], color="#0072B2", alpha=0.3, lw=0, label="90%")
    if "point_fraction" in result.truth:
        axis.axvline(result.truth["point_fraction"], color="k", ls="--", lw=1, label="truth")
    axis.set(xlabel="share of the excess that is of point sources", ylabel="density", xlim=(0, 1), ylim=(0, None))
    axis.legend(frameon=False)
    return figure


def _path(file: str) -> Path:
    return Path(os.path.expandvars(file))


FERMI = "$TMNRE_DATA/popsources/fermi_573w_nside128"
recipe = Recipe(
    settings=Settings,
    build=build,
    papers=(LEE_2016, NPTF, MISHRA_SHARMA_2022, LIST_2021),
    presets={
        "smoke": {"nside": 16, "fluxes": (4, 16), "simulations": (300, 300), "steps": (30, 30)},
        "gpu": {
            "nside": 128,
            "simulations": (10_000, 20_000, 40_000, 40_000),
            "steps": (1000, 2000, 4000, 4000),
            "training.batch_size": 512,
            "training.accelerator": "gpu",
        },
        "fermi": {
            "counts": f"{FERMI}/fermidata_counts.npy",
            "exposure": f"{FERMI}/fermidata_exposure.npy",
            "templates": {
                name: f"{FERMI}/template_{short}.npy"
                for name, short in {"pion": "Opi", "inverse_compton": "Oic", "bubbles": "bub"}.items()
            },
            "mask": f"{FERMI}/fermidata_pscmask_4fgl.npy",
            "nside": 128,
            "prior.template_scatter": 0.5,
        },
    },
    summary="share of the Galactic-centre excess that is of point sources, with dN/dS and norms of other emission",
)
