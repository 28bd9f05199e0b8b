"""The high-latitude sky's population, and then its single sources: detected, and cross-matched with 4FGL.

After the rounds of the analysis, each step a folder of the run, done once:

    detection/     r1(pixel, F >= F_k; x), a network on skies of the posterior
    trials/        what its detections are worth, on skies held out (see `sky_trials`)

Skies are of the joint posterior of all parameters: with each drawn from its own marginal, the numbers of sources above
the threshold would scatter by a factor of 27, where their own marginal allows one of three (90%, real sky, two rounds).

Products: catalogue.fits, detections.png, completeness.png, and the numbers "detections" of summary.json.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tmnre import AfterAnalysis, Analysis, Place, Result, Training
from tmnre.descent import train_network
from tmnre.files import write_whole
from tmnre.machine import torch_threads
from tmnre_popsources import catalogue, sky_figures
from tmnre_popsources.crossmatch import radius_deg
from tmnre_popsources.detection import Detections, Threshold, detection_loss
from tmnre_popsources.fermi import Catalogued
from tmnre_popsources.fermi_matches import Matches
from tmnre_popsources.sky_detection import HELD, Skies, SkyDetectionNet, find, prior_probability, read
from tmnre_popsources.sky_simulator import SkySimulator
from tmnre_popsources.sky_trials import SkyTrials, trials
from tmnre_popsources.surroundings import Surroundings

SKIES_PER_STEP, PEAK = 2, 1e-2
"""of the detection network's training; with the usual peak of the learning rate, 3e-3, it takes twice the steps"""
EDGES = np.log(2.0) * np.array([-1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 8])
"""of bins of flux, ln F over the threshold's; the lowest is the ladder's lowest flux"""


@dataclass(frozen=True)
class Effort:
    """What counts as a detection, and how hard to work for it."""

    flux: float = 3e-10
    """flux in 1 to 100 GeV, cm^-2 s^-1, from which on a source is looked for"""
    log_r1: float = 1.5
    """a pixel is part of a detection where log r1 is above this"""
    probability: float = 0.5
    """the expected number of sources above the flux in a detection's pixels, at least"""
    steps: int = 400
    """optimiser steps of the detection network, on two new skies each; 0: no detections"""
    skies: int = 60
    """skies held out, which tell completeness, purity and calibration"""


@dataclass
class FermiDetections(AfterAnalysis):
    """The procedure; see the module.

    analysis : of the population; its simulator is a `SkySimulator`, its figures are drawn as well
    counts (P,) : the observation's
    exposure_cm2_s : the region's mean; band_ratio : flux in the map's band over that in 1 to 100 GeV
    """

    analysis: Analysis
    counts: np.ndarray
    exposure_cm2_s: float
    band_ratio: float
    effort: Effort = Effort()
    catalogue: Catalogued | None = None

    @property
    def simulator(self) -> SkySimulator:
        return self.analysis.simulator

    @cached_property
    def threshold(self) -> Threshold:
        """Its fluxes are in counts at the mean exposure, as in the flux law."""
        flux = self.effort.flux * np.exp(self.log_unit)
        return Threshold(flux=float(flux), log_r1=self.effort.log_r1, probability=self.effort.probability)

    @property
    def edges(self) -> np.ndarray:
        """Of bins of flux, ln F in 1 to 100 GeV."""
        return np.log(self.effort.flux) + EDGES

    @property
    def log_unit(self) -> float:
        """ln of the counts of a source of unit flux in 1 to 100 GeV, at the mean exposure."""
        return float(np.log(self.band_ratio * self.exposure_cm2_s))

    @cached_property
    def near(self) -> Surroundings:
        return Surroundings(self.simulator.sky)

    @property
    def least_deg(self) -> float:
        """Least radius of a match: half a pixel, within which errors of position are no Gaussians."""
        return self.near.pixel_deg / 2

    def run(self, place: Place) -> Result:
        result = place.rounds(self.analysis).run()
        posterior = result[self.simulator.prior.names]
        theta = posterior.sample(HELD + SKIES_PER_STEP * self.effort.steps, self.seed)
        before = prior_probability(self.simulator, theta, self.threshold.log_fluxes)
        with torch_threads(self.analysis.training.threads):
            network = self._network(place, theta, before)
            tried = self._trials(place, network, posterior.sample(self.effort.skies, self.seed + 1), before)
            ratio, chance, maps = read(network, torch.as_tensor(self.counts, dtype=torch.float32)[None], before)
        found = find(ratio, chance, maps, self.near, self.threshold)
        found = found._replace(log_flux=found.log_flux - self.log_unit)
        place.say(f"{len(found.row)} detections")
        matches = self._matches(found)
        self._write_catalogue(place.folder / "catalogue.fits", found, matches)
        mocks = tried.record(self.edges, self.log_unit)
        extra = {
            "detections": {
                "number": len(found.row),
                "flux": self.effort.flux,
                "counts": self.threshold.flux,
                "radius_deg": dict(zip(("median", "largest"), _middle_and_most(found, self.least_deg), strict=True)),
                "sources_per_sr": self._above(theta),
                "mocks": mocks,
                **({} if matches is None else {"4fgl": matches.record(self.edges, mocks)}),
            }
        }
        self._shown = {"ratio": ratio[0, 1].numpy(), "found": found, "matches": matches}
        drawn = {"further_simulations": len(theta) + self.effort.skies}
        return replace(result, extra={**result.extra, **extra}, shown=self.simulator.prior.names, **drawn)

    def figures(self, result: Result, folder: Path) -> None:
        """Those of the analysis, detections.png and completeness.png."""
        if self.analysis.figures is not None:
            self.analysis.figures(result, folder)
        sky_figures.write(self.simulator.sky, result, folder, **self._shown)

    def _network(self, place: Place, theta: np.ndarray, before: Tensor) -> SkyDetectionNet:
        simulator = self.simulator
        norms = simulator.split(torch.from_numpy(theta))[1].float().mean(0)
        inside = torch.from_numpy(np.isin(simulator.sky.wide, simulator.sky.nest))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = SkyDetectionNet(
                *(self.near, before),
                diffuse=(norms @ simulator.templates).clamp(min=1e-3),
                exposure=torch.from_numpy(simulator.relative_exposure)[inside],
            )

        def train(folder: Path) -> None:
            own = self.analysis.training
            how = {"threads": own.threads, "accelerator": own.accelerator}
            training = Training(batch_size=SKIES_PER_STEP, learning_rate=PEAK, **how)
            skies = Skies(simulator, theta, self.threshold.log_fluxes)
            how = {"steps": self.effort.steps, "seed": self.seed, "progress": place.progress, "say": place.say}
            train_network(network, detection_loss, skies, training, **how)
            write_whole(folder / "network.pt", lambda path: torch.save(network.state_dict(), path))

        folder = place.step("detection", train)
        network.load_state_dict(torch.load(folder / "network.pt", weights_only=True))
        return network.eval()

    def _trials(self, place: Place, network: SkyDetectionNet, theta: np.ndarray, before: Tensor) -> SkyTrials:
        def simulate(folder: Path) -> None:
            skies = Skies(self.simulator, theta, self.threshold.log_fluxes)
            how = {"least_deg": self.least_deg, "seed": self.seed + 1}
            made = trials(network, skies, before, self.threshold, **how)
            write_whole(folder / "trials.pt", lambda path: torch.save(vars(made), path))

        return SkyTrials(**torch.load(place.step("trials", simulate) / "trials.pt", weights_only=True))

    def _matches(self, found: Detections) -> Matches | None:
        if self.catalogue is None:
            return None
        faintest = float(np.exp(self.edges[0]))
        how = {"band_ratio": self.band_ratio, "faintest": faintest, "least_deg": self.least_deg}
        return Matches.of(found, self.catalogue, **how)

    def _write_catalogue(self, path: Path, found: Detections, matches: Matches | None) -> None:
        made = catalogue.table(
            found,
            flux_unit="cm-2 s-1, 1 to 100 GeV",
            log_fluxes=self.threshold.log_fluxes - self.log_unit,
            prefix="TMNRE",
            flux_name="Flux1000",
            associated=None if matches is None else matches.names,
        )
        catalogue.write(path, made)

    def _above(self, theta: np.ndarray) -> list[float]:
        """5, 50 and 95% quantiles of the number of sources per steradian above the threshold, of theta (S, D)."""
        p, _ = self.simulator.split(torch.from_numpy(theta))
        law, log_flux = self.simulator.law, torch.tensor(np.log(self.threshold.flux))
        return np.quantile(law.number(p) * law.survival(log_flux, p), [0.05, 0.5, 0.95]).tolist()


def _middle_and_most(found: Detections, least_deg: float) -> list[float]:
    reach = radius_deg(found, least_deg=least_deg)
    return [float(np.median(reach)), float(reach.max())] if len(reach) else [least_deg, least_deg]
