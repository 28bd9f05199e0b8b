"""Recipe `lensing/subhalo`: is there a subhalo in this lens, where, and how heavy?

First the main lens and source, with a possible subhalo marginalised over, down to a narrow region; then a network that
recognises a subhalo in any pixel and bin of mass, trained on lenses of that region, half of them with one.  With
`--haloes.most` above one, it tells of every bin whether it holds a subhalo.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial

from tmnre import Analysis, Prior, Recipe, Training, Truncation, Uniform
from tmnre_lensing import papers
from tmnre_lensing.camera import Camera
from tmnre_lensing.cosmology import Planes
from tmnre_lensing.embedding import lens_network
from tmnre_lensing.labels import LABELS
from tmnre_lensing.optics import Grid
from tmnre_lensing.recipes import mock
from tmnre_lensing.recipes.mock import PriorSettings, Schedule
from tmnre_lensing.scene import EPL, Halo, Scene, Sersic, Shear
from tmnre_lensing.simulator import LensSimulator
from tmnre_lensing.subhalo import targeted
from tmnre_lensing.subhalo.bins import NO_MASS, Bins
from tmnre_lensing.subhalo.occupancy import Several
from tmnre_lensing.subhalo.reading import One
from tmnre_lensing.subhalo.search import Recognition, Search


@dataclass(frozen=True)
class Truth(mock.Truth):
    """The mock: the lens of `lensing/mock`, with a subhalo."""

    subhalo_x_arcsec: float = -0.95
    """subhalo position in arcsec; on the brightest arc"""
    subhalo_y_arcsec: float = 0.95
    """subhalo position in arcsec"""
    subhalo_log10_m200: float = 9.7
    """log10 of the mass M200c in Msun; below 7 there is none to speak of"""
    others: tuple[tuple[float, float, float], ...] = ()
    """x and y in arcsec and log10 M200c of further subhaloes, haloes.most - 1 of them at most"""


@dataclass(frozen=True)
class Haloes:
    """Subhaloes: NFW, at the lens's redshift."""

    z_lens: float = 0.285
    """redshift of the lens; the mean of SLACS is 0.2"""
    z_source: float = 0.575
    """redshift of the source"""
    concentration: float = 15.0
    """r200 / r_s"""
    tau: float | None = None
    """truncation radius over r_s (Baltz et al. 2009); none: not truncated.  2205.09126 takes 6"""
    log10_m200: tuple[float, float] = (8.5, 10.5)
    """masses that the network is asked for"""
    mass_bins: int = 5
    """bins of log10 mass, in every pixel"""
    map_pixels: int = 1
    """image pixels along the side of a pixel of the map; filters take 4 bytes for every pixel of the image and every
    bin, and where the point spread function is wide a finer map tells little more"""
    p_none: float = 0.5
    """prior probability of no subhalo"""
    most: int = 1
    """subhaloes that the lens may hold, each independently of the others; above one the network gives every bin's
    probability to hold one"""
    window_arcsec: float = 0.5
    """of several subhaloes, those that are nearer to each other along both axes than half of this are told as one"""
    log10_m200_nuisance: tuple[float, float] = (7.0, 10.5)
    """masses that the main lens's analysis marginalises over, uniform in log10, anywhere in the field; below 8.5 a
    subhalo does nothing that could be seen, so for two in five lenses there is none"""


@dataclass(frozen=True)
class Settings:
    """Settings of `lensing/subhalo`; the defaults are the preset."""

    camera: Camera = Camera(noise_e_per_s=0.1)
    """pixels, blur and noise of the image; a peak signal-to-noise ratio of 50"""
    truth: Truth = Truth()
    """parameters of the mock"""
    observation_seed: int = 0
    """seed of the noise in the mock image"""
    prior: PriorSettings = PriorSettings()
    """prior ranges of main lens and source"""
    haloes: Haloes = Haloes()
    """subhaloes, and the bins of mass"""
    schedule: Schedule = Schedule(boxes=6, contours=1, contour_steps=500, final_simulations=8000, final_steps=600)
    """rounds of the main lens; the last only has to give the region"""
    recognition: Recognition = Recognition()
    """the network that looks for a subhalo"""
    training: Training = Training()
    """optimiser of the rounds"""
    truncation: Truncation = Truncation()
    """how the region shrinks"""
    workers: int = 1
    """simulator processes; an image takes under a millisecond"""
    seed: int = 0
    """seed of simulations and training"""


def simulator_of(settings: Settings) -> LensSimulator:
    """Main lens, shear, subhaloes and source; subhaloes of any mass anywhere in the field."""
    haloes, grid = settings.haloes, settings.camera.grid
    planes = Planes.at(haloes.z_lens, haloes.z_source)
    each = [Halo(planes, haloes.concentration, haloes.tau, targeted.component(i)) for i in range(haloes.most)]
    scene = Scene((EPL(), Shear(), *each), (Sersic(),), fixed=mock.SCENE.fixed)
    left, right, bottom, top = grid.extent_arcsec
    anywhere = (Uniform(left, right), Uniform(bottom, top), Uniform(*haloes.log10_m200_nuisance))
    subhaloes = dict(zip(targeted.names(haloes.most), haloes.most * anywhere, strict=True))
    prior = Prior(**settings.prior.prior(), **subhaloes)
    return LensSimulator(scene, prior, settings.camera.optics, settings.camera.noise)


def lens_analysis(settings: Settings) -> Analysis:
    """The rounds of the main lens."""
    simulator = simulator_of(settings)
    truth = {field.name: getattr(settings.truth, field.name) for field in fields(settings.truth)}
    others = truth.pop("others")
    if len(others) >= settings.haloes.most:
        raise ValueError(
            f"truth.others holds {len(others)} further subhaloes, haloes.most is {settings.haloes.most}; it has to be "
            f"{len(others) + 1} at least"
        )
    none = (settings.haloes.most - 1 - len(others)) * ((0.0, 0.0, NO_MASS),)
    further = [value for subhalo in (*others, *none) for value in subhalo]
    truth |= dict(zip(targeted.names(settings.haloes.most)[3:], further, strict=True))
    main = settings.prior.prior().names
    return Analysis(
        simulator=simulator,
        observation={"image": simulator.mock(truth, settings.observation_seed)},
        marginals=[*main, main],
        truncated=[main],
        stages=settings.schedule.stages,
        training=settings.training,
        truncation=settings.truncation,
        embedding=partial(lens_network, noise=settings.camera.noise_e_per_s),
        truth=truth,
        labels=LABELS,
        seed=settings.seed,
        workers=settings.workers,
    )


def build(settings: Settings) -> Search:
    """The procedure; raises ValueError where the map's pixels do not fill the image."""
    haloes, camera = settings.haloes, settings.camera
    n, left = divmod(camera.pixels, max(1, haloes.map_pixels))
    if left or haloes.map_pixels < 1:
        raise ValueError(f"haloes.map_pixels must divide camera.pixels, {camera.pixels}, got {haloes.map_pixels}")
    grid = Grid(n, n, camera.pixel_arcsec * haloes.map_pixels)
    bins = Bins(grid, haloes.log10_m200, haloes.mass_bins, haloes.p_none, haloes.most)
    reading = One() if haloes.most == 1 else Several(haloes.window_arcsec)
    redshifts = (haloes.z_lens, haloes.z_source)
    return Search(lens_analysis(settings), bins, settings.recognition, redshifts, reading)


recipe = Recipe(
    settings=Settings,
    build=build,
    papers=(
        *(papers.COOGAN_2020, papers.ANAU_MONTEL_2022, papers.BALTZ_2009),
        *(papers.TESSORE_METCALF_2015, papers.COOLEST_2023),
    ),
    presets={
        "gpu": {
            **{"training.accelerator": "gpu", "recognition.training.accelerator": "gpu"},
            **{"recognition.simulations": 50_000, "recognition.steps": 5000, "recognition.widths": (24, 48, 96)},
        },
        "smoke": {
            "training.batch_size": 128,
            **{"schedule.boxes": 1, "schedule.contours": 0, "schedule.simulations": 500, "schedule.steps": 20},
            **{"schedule.final_simulations": 500, "schedule.final_steps": 20, "camera.pixels": 16},
            **{"camera.pixel_arcsec": 0.3, "haloes.mass_bins": 2, "recognition.simulations": 600},
            **{"recognition.steps": 20, "recognition.mocks": 100, "recognition.widths": (8, 16)},
        },
    },
    summary="mock lens with a subhalo: main lens first, then map, mass and Bayes factor of a subhalo in one pass",
)
