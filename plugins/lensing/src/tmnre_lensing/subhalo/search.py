"""The search: main lens first, then targeted simulations of its last region, the network, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tmnre import AfterAnalysis, Analysis, MarginalPosterior, Place, Prior, Result, Training
from tmnre.descent import train_network
from tmnre.files import read_json, write_json
from tmnre_lensing import coolest, figures, regions
from tmnre_lensing.scene import Halo
from tmnre_lensing.simulator import LensSimulator
from tmnre_lensing.subhalo import filters, pictures, targeted, verdict
from tmnre_lensing.subhalo.bins import Bins
from tmnre_lensing.subhalo.network import SubhaloNet
from tmnre_lensing.subhalo.reading import Reading


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


@dataclass
class Search(AfterAnalysis):
    """Main lens, targeted simulations, network, map."""

    analysis: Analysis
    bins: Bins
    recognition: Recognition
    redshifts: tuple[float, float]
    reading: Reading

    def __post_init__(self) -> None:
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
        return replace(lens, extra=extra, further_simulations=self.recognition.simulations + self.recognition.mocks)

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
        plain[:, self.simulator.prior.columns(targeted.names(self.bins.most))] = 0.0
        images = torch.from_numpy(self.simulator.simulate(plain, rng)["image"])
        cleaning, bank = filters.of_region(self.simulator, plain, self.simulator.whitened(images).float(), self.bins)
        noisy = self.simulator.noise.add(images[:256], torch.Generator().manual_seed(self.seed))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return self.reading.network(self.simulator, self.bins, cleaning, bank, noisy, self.recognition.widths)

    def train(self, folder: Path, region: np.ndarray, simulations: Path, progress, say) -> None:
        """Weights of the network, and its training curve."""
        network = self.new_network(region)
        n = self.recognition.simulations
        theta, images = (np.load(simulations / f"{name}.npy", mmap_mode="r")[:n] for name in ("theta", "images"))
        source = targeted.Targeted(self.simulator, self.bins, np.array(theta), np.array(images))
        how = {"steps": self.recognition.steps, "seed": self.seed, "progress": progress, "say": say}
        curve = train_network(network, self.reading.loss, source, self.recognition.training, **how)
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
    def measure(self, network: SubhaloNet, theta: np.ndarray, images: np.ndarray) -> dict[str, Any]:
        """What `reading` has to say of mocks that training has not seen."""
        source = targeted.Targeted(self.simulator, self.bins, theta, images)
        generator = torch.Generator().manual_seed(self.seed + 7)
        parts = [source.batch(rows, generator) for rows in torch.arange(len(theta)).split(64)]
        log_r = torch.cat([self.reading.log_ratio(network, x) for x, _ in parts])
        subhaloes = theta[:, self.simulator.prior.columns(targeted.names(self.bins.most))]
        return self.reading.measure(log_r, subhaloes.reshape(len(theta), self.bins.most, 3), self.bins)

    @torch.no_grad()
    def look(self, folder: Path, region: np.ndarray) -> None:
        """log r of every bin for the observation, the verdict and the sensitivity."""
        log_r = self.reading.log_ratio(self.network, {"image": torch.from_numpy(self.image)[None].float()})[0]
        np.save(folder / "log_r.npy", log_r.numpy())
        np.save(folder / "sensitivity.npy", verdict.sensitivity(self.network.filters, self.bins))
        found = self.reading.verdict(log_r, self.bins)
        write_json(folder / "verdict.json", {**found, "on_mocks": self.reliability})

    def export(self, folder: Path, lens: Result, found: Mapping[str, Any]) -> None:
        """coolest.json of the main lens, and of subhaloes more likely than not, where COOLEST can hold them."""
        scene, marginals = self.simulator.scene, dict(lens.marginals)
        haloes = [mass for mass in scene.masses if isinstance(mass, Halo)]
        drawn = [] if haloes[0].tau is not None else self.reading.draws(self.log_r, self.bins, 20_000, self.seed)
        for i, values in enumerate(drawn):
            names = targeted.names(len(drawn))[3 * i : 3 * i + 3]
            marginals[names] = MarginalPosterior(names, values, np.zeros(len(values)))
        left_out = haloes[len(drawn) :]
        scene = replace(scene, masses=tuple(mass for mass in scene.masses if mass not in left_out))
        meta = {"subhalo": {key: value for key, value in found.items() if isinstance(value, float)}}
        how: dict[str, Any] = {"scene": scene, "redshifts": self.redshifts, "meta": meta}
        coolest.write(folder, Result(marginals), simulator=self.simulator, image=self.image, **how)

    def figures(self, result: Result, folder: Path) -> None:
        """lens.png, truncation.png, subhalo.png and reliability.png."""
        # the model without subhalo: what it leaves is what the network looks at
        subhaloes = targeted.names(self.bins.most)
        scene = replace(self.simulator.scene, fixed={**self.simulator.scene.fixed, **dict.fromkeys(subhaloes, 0)})
        free = Prior({name: d for name, d in self.simulator.prior.items() if name not in subhaloes})
        bare = LensSimulator(scene, free, self.simulator.optics, self.simulator.noise, mask=self.simulator.mask)
        figures.lens(result, folder, simulator=bare, image=self.image)
        regions.three_panels(self.rounds, result.rounds, self.image, folder)
        sensitivity = verdict.sensitivity(self.network.filters, self.bins)
        truth = np.array([result.truth.get(name, 0.0) for name in subhaloes]).reshape(-1, 3)
        maps = {"maps": self.reading.maps(self.log_r, self.bins), "sensitivity": sensitivity}
        found = result.extra["subhalo"]
        pictures.subhalo(folder, image=self.image, bins=self.bins, **maps, title=self.reading.title(found), truth=truth)
        pictures.reliability(self.reliability, folder)
