"""Recipe `lensing/subhalo`: is there a subhalo in this lens, where, and how heavy?

First the main lens and source, with a possible subhalo marginalised over, down to a narrow region; then a network that
recognises a subhalo in any pixel and bin of mass, trained on lenses of that region, half of them with one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tmnre import Analysis, MarginalPosterior, Place, Prior, Procedure, Recipe, Result, Training, Truncation, Uniform
from tmnre.descent import train_network
from tmnre.files import read_json, write_json
from tmnre_lensing import coolest, figures, papers, regions
from tmnre_lensing.camera import Camera
from tmnre_lensing.cosmology import Planes
from tmnre_lensing.embedding import lens_network
from tmnre_lensing.labels import LABELS
from tmnre_lensing.optics import Grid
from tmnre_lensing.recipes import mock
from tmnre_lensing.recipes.mock import PriorSettings, Schedule
from tmnre_lensing.scene import EPL, Halo, Scene, Sersic, Shear
from tmnre_lensing.simulator import LensSimulator
from tmnre_lensing.subhalo import filters, pictures, targeted, verdict
from tmnre_lensing.subhalo.bins import Bins
from tmnre_lensing.subhalo.network import SubhaloNet, cross_entropy


@dataclass(frozen=True)
class Truth(mock.Truth):
    """The mock: the lens of `lensing/mock`, with a subhalo."""

    subhalo_x_arcsec: float = -0.95
    """subhalo position in arcsec; on the brightest arc"""
    subhalo_y_arcsec: float = 0.95
    """subhalo position in arcsec"""
    subhalo_log10_m200: float = 9.7
    """log10 of the mass M200c in Msun; below 7 there is none to speak of"""


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
    log10_m200_nuisance: tuple[float, float] = (7.0, 10.5)
    """masses that the main lens's analysis marginalises over, uniform in log10, anywhere in the field; below 8.5 a
    subhalo does nothing that could be seen, so for two in five lenses there is none"""


@dataclass(frozen=True)
class Recognition:
    """The recognition network and its training."""

    simulations: int = 16_000
    """targeted simulations"""
    steps: int = 1200
    """optimiser steps"""
    widths: tuple[int, ...] = (16, 32, 64)
    """channels of the U-Net, finest level first"""
    training: Training = Training(batch_size=64, learning_rate=1e-3)
    """optimiser; small batches, as every image gives one pixel of the map to learn from and the maps cost memory"""
    mocks: int = 1000
    """simulations held aside, on which reliability and false alarms are measured"""


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
    """Main lens, shear, subhalo and source; a subhalo of any mass anywhere in the field."""
    haloes, grid = settings.haloes, settings.camera.grid
    halo = Halo(Planes.at(haloes.z_lens, haloes.z_source), haloes.concentration, haloes.tau)
    scene = Scene((EPL(), Shear(), halo), (Sersic(),), fixed=mock.SCENE.fixed)
    left, right, bottom, top = grid.extent_arcsec
    prior = Prior(
        **settings.prior.prior(),
        subhalo_x_arcsec=Uniform(left, right),
        subhalo_y_arcsec=Uniform(bottom, top),
        subhalo_log10_m200=Uniform(*haloes.log10_m200_nuisance),
    )
    return LensSimulator(scene, prior, settings.camera.optics, settings.camera.noise)


def lens_analysis(settings: Settings) -> Analysis:
    """The rounds of the main lens."""
    simulator = simulator_of(settings)
    truth = {field.name: getattr(settings.truth, field.name) for field in fields(settings.truth)}
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


@dataclass
class Subhalo(Procedure):
    """Main lens, targeted simulations, network, map."""

    analysis: Analysis
    bins: Bins
    recognition: Recognition
    redshifts: tuple[float, float]

    def __post_init__(self) -> None:
        self.seed, self.workers = self.analysis.seed, self.analysis.workers
        self.simulator: LensSimulator = self.analysis.simulator

    @cached_property
    def image(self) -> np.ndarray:
        """The observation."""
        return self.analysis.observation["image"]

    def run(self, place: Place) -> Result:
        """Steps `lens`, `targeted`, `network` and `map`, each a folder of its own; coolest.json of what they found."""
        self.rounds = place.rounds(self.analysis, "lens")
        lens = self.rounds.run()
        region = regions.of_last(self.rounds)
        simulations = place.step("targeted", partial(self.simulate, region=region))
        weights = place.step(
            "network",
            partial(self.train, region=region, simulations=simulations, progress=place.progress, say=place.say),
        )
        self.network = self.load(weights, region)
        found = place.step("map", partial(self.look, region=region))
        self.log_r = torch.from_numpy(np.load(found / "log_r.npy"))
        extra = {"subhalo": read_json(found / "verdict.json")}
        self.export(place.folder, lens, extra["subhalo"])
        return Result(lens.marginals, lens.rounds, lens.truth, lens.labels, lens.curves, extra)

    def simulate(self, folder: Path, region: np.ndarray) -> None:
        """Targeted simulations; those held aside last."""
        rng = np.random.default_rng([self.seed, 101])
        n = self.recognition.simulations + self.recognition.mocks
        theta, images = targeted.simulate(self.simulator, region, self.bins, n, rng)
        np.save(folder / "theta.npy", theta)
        np.save(folder / "images.npy", images)

    def new_network(self, region: np.ndarray) -> SubhaloNet:
        """Filters of the region and a U-Net with random weights; the same whenever it is called."""
        rng = np.random.default_rng([self.seed, 102])
        plain = region[rng.permutation(len(region))[:4000]]
        plain[:, self.simulator.prior.columns(targeted.SUBHALO)] = [0.0, 0.0, 0.0]
        images = torch.from_numpy(self.simulator.simulate(plain, rng)["image"])
        cleaning, bank = filters.of_region(self.simulator, plain, self.simulator.whitened(images).float(), self.bins)
        noisy = self.simulator.noise.add(images[:256], torch.Generator().manual_seed(self.seed))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return SubhaloNet(self.simulator, self.bins, cleaning, bank, noisy, self.recognition.widths)

    def train(self, folder: Path, region: np.ndarray, simulations: Path, progress, say) -> None:
        """Weights of the network, and its training curve."""
        network = self.new_network(region)
        n = self.recognition.simulations
        theta, images = (np.load(simulations / f"{name}.npy", mmap_mode="r")[:n] for name in ("theta", "images"))
        source = targeted.Targeted(self.simulator, self.bins, np.array(theta), np.array(images))
        how = {"steps": self.recognition.steps, "seed": self.seed, "progress": progress, "say": say}
        curve = train_network(network, cross_entropy, source, self.recognition.training, **how)
        torch.save(network.state_dict(), folder / "weights.pt")
        write_json(folder / "training.json", curve)
        aside = (np.load(simulations / f"{name}.npy", mmap_mode="r")[n:] for name in ("theta", "images"))
        write_json(folder / "reliability.json", self.measure(network, *(np.array(a) for a in aside)))

    def load(self, folder: Path, region: np.ndarray) -> SubhaloNet:
        """The trained network."""
        network = self.new_network(region)
        network.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
        self.reliability = read_json(folder / "reliability.json")
        return network.eval()

    @torch.no_grad()
    def measure(self, network: SubhaloNet, theta: np.ndarray, images: np.ndarray) -> dict[str, object]:
        """Reliability of the probability of a subhalo, and false alarms, on mocks that training has not seen."""
        source = targeted.Targeted(self.simulator, self.bins, theta, images)
        generator = torch.Generator().manual_seed(self.seed + 7)
        parts = [source.batch(rows, generator) for rows in torch.arange(len(theta)).split(64)]
        log_r = torch.cat([network.log_ratio(x) for x, _ in parts])
        there = source.number.numpy() > 0
        p = 1 - verdict.posterior(log_r, self.bins)[:, 0].numpy()
        bayes = verdict.log10_bayes_factor(log_r, self.bins).numpy()
        heavy = self.simulator.prior.columns(targeted.SUBHALO)[2]
        log_loss = -(log_r + self.bins.log_prior)[torch.arange(len(theta)), source.number].mean()
        return {
            "mocks": len(theta),
            "log_loss": float(log_loss),
            "reliability": verdict.reliability(p, there),
            "false_alarms": {f"log10_bayes_factor > {b}": float((bayes[~there] > b).mean()) for b in (0.5, 1, 2)},
            "found": {
                f"{low:.1f} < log10 M < {high:.1f}": float((bayes[inside] > 1).mean())
                for low, high in zip(self.bins.edges, self.bins.edges[1:], strict=False)
                if (inside := there & (theta[:, heavy] >= low) & (theta[:, heavy] < high)).any()
            },
        }

    @torch.no_grad()
    def look(self, folder: Path, region: np.ndarray) -> None:
        """log r of every bin for the observation, the verdict and the sensitivity."""
        log_r = self.network.log_ratio({"image": torch.from_numpy(self.image)[None].float()})[0]
        np.save(folder / "log_r.npy", log_r.numpy())
        np.save(folder / "sensitivity.npy", verdict.sensitivity(self.network.filters, self.bins))
        found = verdict.verdict(log_r, self.bins)
        write_json(folder / "verdict.json", {**found, "on_mocks": self.reliability})

    def export(self, folder: Path, lens: Result, found: Mapping[str, Any]) -> None:
        """coolest.json of the main lens, and of a subhalo where it is more likely than none and COOLEST can hold it."""
        scene, marginals = self.simulator.scene, dict(lens.marginals)
        meta = {"subhalo": {key: found[key] for key in ("p_subhalo", "log10_bayes_factor")}}
        if found["p_subhalo"] > 0.5 and not any(isinstance(m, Halo) and m.tau is not None for m in scene.masses):
            drawn = verdict.draws(self.log_r, self.bins, 20_000, self.seed)
            marginals[targeted.SUBHALO] = MarginalPosterior(targeted.SUBHALO, drawn, np.zeros(len(drawn)))
        else:
            scene = replace(scene, masses=tuple(m for m in scene.masses if not isinstance(m, Halo)))
        how: dict[str, Any] = {"scene": scene, "redshifts": self.redshifts, "meta": meta}
        coolest.write(folder, Result(marginals), simulator=self.simulator, image=self.image, **how)

    def figures(self, result: Result, folder: Path) -> None:
        """lens.png, truncation.png, subhalo.png and reliability.png."""
        # the model without subhalo: what it leaves is what the network looks at
        scene = replace(
            self.simulator.scene, fixed={**self.simulator.scene.fixed, **dict.fromkeys(targeted.SUBHALO, 0)}
        )
        free = Prior({name: d for name, d in self.simulator.prior.items() if name not in targeted.SUBHALO})
        bare = LensSimulator(scene, free, self.simulator.optics, self.simulator.noise, mask=self.simulator.mask)
        figures.lens(result, folder, simulator=bare, image=self.image)
        regions.three_panels(self.rounds, result.rounds, self.image, folder)
        sensitivity = verdict.sensitivity(self.network.filters, self.bins)
        pictures.subhalo(result, folder, image=self.image, log_r=self.log_r, bins=self.bins, sensitivity=sensitivity)
        pictures.reliability(self.reliability, folder)


def build(settings: Settings) -> Subhalo:
    """The procedure; raises ValueError where the map's pixels do not fill the image."""
    haloes, camera = settings.haloes, settings.camera
    n, left = divmod(camera.pixels, max(1, haloes.map_pixels))
    if left or haloes.map_pixels < 1:
        raise ValueError(f"haloes.map_pixels must divide camera.pixels, {camera.pixels}, got {haloes.map_pixels}")
    grid = Grid(n, n, camera.pixel_arcsec * haloes.map_pixels)
    bins = Bins(grid, haloes.log10_m200, haloes.mass_bins, haloes.p_none)
    return Subhalo(lens_analysis(settings), bins, settings.recognition, (haloes.z_lens, haloes.z_source))


recipe = Recipe(
    settings=Settings,
    build=build,
    papers=(
        *(papers.COOGAN_2020, papers.ANAU_MONTEL_2022, papers.BALTZ_2009),
        *(papers.TESSORE_METCALF_2015, papers.COOLEST_2023),
    ),
    presets={
        "smoke": {
            "training.batch_size": 128,
            **{"schedule.boxes": 1, "schedule.contours": 0, "schedule.simulations": 500, "schedule.steps": 20},
            **{"schedule.final_simulations": 500, "schedule.final_steps": 20, "camera.pixels": 16},
            **{"camera.pixel_arcsec": 0.3, "haloes.mass_bins": 2, "recognition.simulations": 600},
            **{"recognition.steps": 20, "recognition.mocks": 100, "recognition.widths": (8, 16)},
        }
    },
    summary="mock lens with a subhalo: main lens first, then map, mass and Bayes factor of a subhalo in one pass",
)
