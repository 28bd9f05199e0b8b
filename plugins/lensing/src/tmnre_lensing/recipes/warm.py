"""Recipe `lensing/warm`: how warm is dark matter?  From the perturbers of one or several lenses together.

Each lens is analysed by itself: main lens and source are truncated, and in the region that is left the ratio of the
population's parameters is learned, with main lens, source and every single halo marginalised.  Lenses are independent
given the population, so their log ratios add up (Anau Montel et al. 2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from tmnre import (
    Analysis,
    LogUniform,
    Place,
    Prior,
    Procedure,
    Recipe,
    Result,
    Training,
    Truncation,
    Uniform,
)
from tmnre.estimate import Estimate, part_of
from tmnre_lensing import census, figures, papers
from tmnre_lensing.camera import Camera
from tmnre_lensing.labels import LABELS
from tmnre_lensing.perturbed import POPULATION, MapBins, PerturbedLens, perturbed_network
from tmnre_lensing.population import Population
from tmnre_lensing.recipes import mock
from tmnre_lensing.recipes.mock import PriorSettings, Schedule
from tmnre_lensing.simulator import LensSimulator

POINTS = 20_000
"""of the population's prior, at which log ratios of all lenses are added"""


@dataclass(frozen=True)
class Truth:
    """The population that the mocks are drawn from."""

    log10_m_hm: float = 8.0
    """log10 of the half-mode mass in Msun; 8 is a thermal relic of 4.9 keV, 7 and less is as good as cold"""
    f_sub: float = 0.01
    """share of the lens's mass near the Einstein radius that subhaloes would have, were dark matter cold"""


@dataclass(frozen=True)
class Haloes:
    """Perturbers: subhaloes and haloes along the line of sight, and the priors of what is asked about them."""

    z_lens: float = 0.285
    """redshift of the lenses; the mean of SLACS is 0.2"""
    z_source: float = 0.575
    """redshift of the sources"""
    log10_m200: tuple[float, float] = (8.0, 10.3)
    """masses M200c in Msun that are drawn; what is lighter is not seen at this signal-to-noise ratio"""
    line_of_sight: float = 1.0
    """haloes outside the lens, as a share of the number expected; 0: subhaloes only"""
    tau: float = 6.0
    """truncation radius over scale radius (Baltz et al. 2009); as 2205.09126 has it"""
    log10_m_hm: tuple[float, float] = (7.0, 10.0)
    """prior of the half-mode mass, uniform in log10"""
    f_sub: tuple[float, float] = (0.001, 0.03)
    """prior of the subhaloes' share, log-uniform"""


@dataclass(frozen=True)
class Settings:
    """Settings of `lensing/warm`; the defaults are the preset."""

    lenses: int = 3
    """how many mock lenses are analysed together; they differ in all parameters"""
    camera: Camera = Camera(noise_e_per_s=0.05)
    """pixels, blur and noise of the images"""
    truth: Truth = Truth()
    """the population that is to be found"""
    observation_seed: int = 0
    """seed of the lenses, their haloes and the noise"""
    prior: PriorSettings = PriorSettings()
    """prior ranges of main lens and source"""
    haloes: Haloes = Haloes()
    """perturbers"""
    maps: MapBins = MapBins()
    """the matched filters that the network sees, once the region is narrow"""
    schedule: Schedule = Schedule(
        boxes=6, contours=1, simulations=4000, contour_steps=500, final_simulations=20_000, final_steps=600
    )
    """rounds of each lens"""
    training: Training = Training()
    """optimiser"""
    truncation: Truncation = Truncation()
    """how regions shrink"""
    workers: int | None = None
    """simulator processes; an image takes ten milliseconds.  None: one for every processor"""
    seed: int = 0
    """seed of simulations and training"""


def truth_of(settings: Settings, number: int) -> dict[str, float]:
    """Main lens and source of a mock: drawn from the middle half of every prior range, as bright as `lensing/mock`."""
    prior = settings.prior.prior()
    rng = np.random.default_rng([settings.observation_seed, number])
    u = rng.uniform(0.25, 0.75, (1, len(prior)))
    truth = dict(zip(prior.names, prior.from_cube(u)[0].tolist(), strict=True))
    usual = mock.Truth()
    return truth | {name: getattr(usual, name) for name in ("source_brightness", "source_r_eff_arcsec")}


def analysis_of(settings: Settings, number: int) -> Analysis:
    """The rounds of one lens."""
    haloes, main = settings.haloes, settings.prior.prior()
    prior = Prior(**main, log10_m_hm=Uniform(*haloes.log10_m_hm), f_sub=LogUniform(*haloes.f_sub))
    population = Population(
        *(haloes.z_lens, haloes.z_source, haloes.log10_m200),
        line_of_sight=haloes.line_of_sight,
        tau=haloes.tau,
    )
    camera = settings.camera
    simulator = PerturbedLens(
        *(mock.SCENE, prior, camera.optics, camera.noise), population=population, maps=settings.maps
    )
    truth = truth_of(settings, number) | {name: getattr(settings.truth, name) for name in POPULATION}
    return Analysis(
        simulator=simulator,
        observation={"image": simulator.mock(truth, 1000 * settings.observation_seed + number)},
        marginals=[*prior.names, POPULATION, main.names],
        truncated=[main.names],
        stages=settings.schedule.stages,
        training=settings.training,
        truncation=settings.truncation,
        embedding=partial(perturbed_network, noise=camera.noise_e_per_s),
        truth=truth,
        labels=LABELS,
        seed=settings.seed + number,
        workers=settings.workers,
    )


@dataclass
class Warm(Procedure):
    """Lens after lens, and what they say together."""

    analyses: list[Analysis]
    seed: int
    workers: int | None

    @property
    def truth(self) -> dict[str, float]:
        """Of the population."""
        return {name: self.analyses[0].truth[name] for name in POPULATION}

    def run(self, place: Place) -> Result:
        """Analyses `lens-0`, `lens-1`, ..., and the sum of their log ratios."""
        self.each = [place.rounds(analysis, f"lens-{i}") for i, analysis in enumerate(self.analyses)]
        self.found = [rounds.run() for rounds in self.each]
        u = np.random.default_rng(self.seed).random((POINTS, 2))
        prior = self.analyses[0].simulator.prior
        points = np.stack([prior[name].quantile(u[:, i]) for i, name in enumerate(POPULATION)], axis=1)
        self.log_r = np.stack([census.log_ratio(rounds, POPULATION, u) for rounds in self.each])
        together = census.posteriors(POPULATION, points, self.log_r.sum(0))
        self.alone = [census.posteriors(POPULATION, points, log_r) for log_r in self.log_r]
        extra = {
            "lenses": [
                {"warnings": found.warnings, **{name: one[name,].summary() for name in POPULATION}}
                for one, found in zip(self.alone, self.found, strict=True)
            ],
            "thermal_relic_kev_95": census.relic_limit(together[POPULATION[0],]),
        }
        curves = [curve for found in self.found for curve in found.curves]
        return Result(together, census.records(POPULATION, self.found), self.truth, LABELS, curves, extra)

    def estimate(self, *, disk_gib: float | None = None) -> Estimate:
        """What the first lens would cost."""
        return part_of(self.analyses[0], disk_gib)

    def figures(self, result: Result, folder: Path) -> None:
        """population.png, and lens-0.png, lens-1.png, ..."""
        census.figure(result, self.alone, folder)
        for i, (analysis, found) in enumerate(zip(self.analyses, self.found, strict=True)):
            simulator = analysis.simulator
            free = Prior({name: d for name, d in simulator.prior.items() if name not in POPULATION})
            bare = LensSimulator(simulator.scene, free, simulator.optics, simulator.noise)
            image = analysis.observation["image"]
            figures.lens(found, folder, simulator=bare, image=image, name=f"lens-{i}")


def build(settings: Settings) -> Warm:
    """The procedure; raises ValueError for no lens at all."""
    if settings.lenses < 1:
        raise ValueError(f"lenses must be at least 1, got {settings.lenses}")
    analyses = [analysis_of(settings, number) for number in range(settings.lenses)]
    return Warm(analyses, settings.seed, settings.workers)


recipe = Recipe(
    settings=Settings,
    build=build,
    papers=(
        *(papers.ANAU_MONTEL_2022, papers.LOVELL_2020, papers.SHETH_TORMEN_1999, papers.EISENSTEIN_HU_1998),
        *(papers.DUFFY_2008, papers.BOSE_2016, papers.BALTZ_2009, papers.TESSORE_METCALF_2015),
    ),
    presets={
        "smoke": {
            **{"lenses": 1, "training.batch_size": 128, "haloes.log10_m200": (9.0, 10.3), "workers": 1},
            **{"schedule.boxes": 1, "schedule.contours": 0, "schedule.simulations": 300, "schedule.steps": 20},
            **{"schedule.final_simulations": 300, "schedule.final_steps": 20, "camera.pixels": 16},
            **{"camera.pixel_arcsec": 0.3, "maps.masses": 2, "camera.oversampling": 1},
        }
    },
    summary="warm dark matter: half-mode mass and subhalo fraction from the perturbers of several mock lenses",
)
