"""Detection is truncation (2211.04291): a population from its detected and its sub-threshold sources, step by step.

    detection      r1(pixel, F >= F_th; x), a U-Net on maps of the whole prior, and the detections in the observation
    sensitivity    S(F, l, b | theta), how often that very detection rule finds a source
    detected       r4(s_det; theta) from lists of labelled sources; r(theta; I = 1), its integral over the regions
    sub-threshold  r3(theta; x) from maps of unlabelled sources, with one more in every region
    direct         r(theta; x) from maps of all sources in one network: the cross-check
    combined       p(theta) r3 r(theta; I = 1)

One rule (`detection.find` with one `Threshold`) decides in all of them what is detected.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tmnre import Analysis, DeepSet, MarginalPosterior, Place, Prior, Procedure, Result, Stage, Training
from tmnre.descent import train_network
from tmnre.estimate import Estimate, part_of
from tmnre.files import write_whole
from tmnre.machine import torch_threads
from tmnre_popsources import catalogue, detection, posteriors, sensitivity
from tmnre_popsources.detection import DetectionNet, Detections, Threshold
from tmnre_popsources.histograms import ZoneHistograms, bin_edges, patch_neighbours, patch_zones
from tmnre_popsources.patch import PatchSimulator, Scene
from tmnre_popsources.posteriors import JointRatio
from tmnre_popsources.truncated import DetectedLists, Regions, SubThreshold

LOST = 2e-3
"""share of detected sources that may lie outside of their region, along each axis, in simulated maps"""
POSTERIORS = ("sub-threshold", "detected", "combined", "direct")


def reach_of(pulls: Tensor) -> Tensor:
    """Half-widths (3,) of regions in standard deviations, such that `LOST` of the pulls (D, 3) are beyond.

    Four, with fewer pulls than tell.
    """
    return pulls.abs().quantile(1 - LOST, dim=0) if len(pulls) * LOST > 1 else torch.full((3,), 4.0)


@dataclass(frozen=True)
class Effort:
    """How hard to work for each step."""

    detection_steps: int = 1500
    """optimiser steps of the detection network, on new maps each"""
    detection_batch: int = 16
    """maps per step of the detection network"""
    trial_maps: int = 1500
    """simulated maps the sensitivity is learned from"""
    sensitivity_steps: int = 800
    """optimiser steps of the sensitivity, on batches of 4096 sources"""
    lists: tuple[int, ...] = (10_000, 40_000)
    """lists of detected sources for each round of r4; they cost little"""
    list_steps: tuple[int, ...] = (400, 2000)
    """optimiser steps of each round of r4"""
    maps: tuple[int, ...] = (6000, 40_000)
    """simulated maps for each round of r3 and of the direct ratio"""
    map_steps: tuple[int, ...] = (500, 1500)
    """optimiser steps of each round of r3 and of the direct ratio"""
    redraw_noise: bool = False
    """draw Poisson noise anew at every use of a map, instead of using the time for more maps"""
    points: int = 4000
    """draws of each ratio's posterior, at which the others are evaluated"""
    training: Training = Training(batch_size=128)
    """optimiser and machine, for all networks"""


@dataclass(frozen=True)
class Ratios:
    """What the steps before the posteriors leave.

    x : {"detected", "sub-threshold", "direct": the observation as each ratio sees it}; "detected" lists point estimates
    """

    network: DetectionNet
    found: Detections
    trials: sensitivity.Trials
    seen: sensitivity.Sensitivity
    regions: Regions
    detected: JointRatio
    sub: JointRatio
    direct: JointRatio
    x: dict[str, dict[str, Tensor]]


@dataclass
class DetectionIsTruncation(Procedure):
    """The procedure; see the module.

    counts (n, n) : the observation.  sources : the mock's, where known, for the figures: l, b [deg], ln F (S, 3).
    """

    scene: Scene
    prior: Prior
    counts: np.ndarray
    threshold: Threshold = Threshold()
    effort: Effort = Effort()
    truth: dict[str, float] = field(default_factory=dict)
    sources: np.ndarray | None = None
    labels: dict[str, str] = field(default_factory=dict)
    flux_unit: str = ""
    draw: Callable[..., None] | None = None
    seed: int = 0
    workers: int | None = 1

    @property
    def observation(self) -> dict[str, np.ndarray]:
        return {"counts": self.counts}

    def learn(self, place: Place) -> Ratios:
        """All steps but the posteriors; those that are finished are read."""
        observed = torch.as_tensor(self.counts, dtype=torch.float32)[None]
        with torch_threads(self.effort.training.threads):
            network = self._detection(place)
            found = detection.find(network, self.scene, observed, self.before, self.threshold)
            place.say(f"{len(found.row)} detections")
            trials, seen = self._sensitivity(place, network)
            regions = Regions.about(found, reach_of(trials.pulls))
            detected, x_detected = self._detected(place, seen, found)
            sub, x_sub = self._maps(place, "sub-threshold", seen, regions)
            direct, x_direct = self._maps(place, "direct")
        x = {"detected": x_detected, "sub-threshold": x_sub, "direct": x_direct}
        return Ratios(network, found, trials, seen, regions, detected, sub, direct, x)

    def run(self, place: Place) -> Result:
        learned = self.learn(place)
        with torch_threads(self.effort.training.threads):
            every = self._posteriors(learned)
        found, trials, sub = learned.found, learned.trials, learned.sub
        made = catalogue.table(found, flux_unit=self.flux_unit, log_fluxes=self.threshold.log_fluxes)
        catalogue.write(place.folder / "catalogue.fits", made)
        self._write(place.folder / "posteriors.npz", every)
        extra = {
            "detections": len(found.row),
            "threshold": {"flux": self.threshold.flux, "log_r1": self.threshold.log_r1},
            "purity": trials.purity,
            "by_flux": trials.by_flux(np.log(self.threshold.flux) + np.linspace(-3, 5, 33)),
            "region_reach_sd": dict(zip(("l", "b", "log_flux"), reach_of(trials.pulls).tolist(), strict=True)),
            "posteriors": {
                name: {key[0]: m.summary() for key, m in marginals.items() if len(key) == 1}
                for name, marginals in every.items()
            },
        }
        self._shown = {
            **{"found": found, "network": learned.network, "seen": learned.seen},
            **{"every": every, "trials": trials},
        }
        effort = self.effort
        further = effort.detection_batch * effort.detection_steps + effort.trial_maps
        further += sum(record["simulated"] for ratio in (learned.detected, learned.direct) for record in ratio.rounds)
        return Result(
            *(every["combined"], list(sub.rounds), self.truth, self.labels), extra=extra, further_simulations=further
        )

    def estimate(self, *, disk_gib: float | None = None) -> Estimate:
        """What the direct ratio would cost."""
        return part_of(self._of_maps()[0], disk_gib)

    def figures(self, result: Result, folder: Path) -> None:
        if self.draw is not None:
            self.draw(self, result, folder, **self._shown)

    @cached_property
    def before(self) -> Tensor:
        """Prior probability (K, n, n) of a source above each F_k."""
        return detection.prior_probability(self.scene, self.prior, self.threshold.log_fluxes)

    def _train(self, folder: Path, network: nn.Module, loss, source, place: Place, *, steps: int, batch: int) -> None:
        training = Training(
            batch_size=batch, threads=self.effort.training.threads, accelerator=self.effort.training.accelerator
        )
        how = {"steps": steps, "seed": self.seed, "progress": place.progress, "say": place.say}
        train_network(network, loss, source, training, **how)
        write_whole(folder / "network.pt", lambda path: torch.save(network.state_dict(), path))

    def _detection(self, place: Place) -> DetectionNet:
        effort = self.effort
        maps = detection.MapsWithTruth(self.scene, self.prior, self.threshold.log_fluxes, rows=640, seed=self.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            x, _ = maps.batch(torch.arange(64), torch.Generator().manual_seed(self.seed))
            network = DetectionNet(x, self.before)
        train = partial(self._train, place=place, steps=effort.detection_steps, batch=effort.detection_batch)
        folder = place.step("detection", lambda to: train(to, network, detection.detection_loss, maps))
        network.load_state_dict(torch.load(folder / "network.pt", weights_only=True))
        return network.eval()

    def _sensitivity(self, place: Place, network: DetectionNet) -> tuple[sensitivity.Trials, sensitivity.Sensitivity]:
        def simulate(folder: Path) -> None:
            made = sensitivity.trials(
                *(network, self.scene, self.prior, self.before, self.threshold),
                maps=self.effort.trial_maps,
                seed=self.seed + 1,
            )
            write_whole(folder / "trials.pt", lambda path: torch.save(vars(made), path))

        folder = place.step("trials", simulate)
        trials = sensitivity.Trials(**torch.load(folder / "trials.pt", weights_only=True))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            seen = sensitivity.SensitivityNet(trials.inputs)
        train = partial(self._train, place=place, steps=self.effort.sensitivity_steps, batch=4096)
        folder = place.step("sensitivity", lambda to: train(to, seen, sensitivity.sensitivity_loss, trials))
        seen.load_state_dict(torch.load(folder / "network.pt", weights_only=True))
        return trials, sensitivity.Sensitivity(seen.eval(), self.scene)

    def _analysis(self, simulator: Any, x: dict[str, Tensor], counts, steps, embedding=None) -> Analysis:
        return Analysis(
            simulator=simulator,
            observation={name: array[0].numpy() for name, array in x.items()},
            marginals=[self.prior.names],
            stages=[Stage(n, s) for n, s in zip(counts, steps, strict=True)],
            training=self.effort.training,
            embedding=embedding,
            seed=self.seed,
            workers=self.workers,
        )

    def _detected(
        self, place: Place, seen: sensitivity.Sensitivity, found: Detections
    ) -> tuple[JointRatio, dict[str, Tensor]]:
        """r4, and the list of point estimates."""
        simulator = DetectedLists(self.scene, self.prior, seen)
        x = simulator.padded(found.sources(), 1)
        embedding = partial(DeepSet, features=96, hidden=32)
        analysis = self._analysis(simulator, x, self.effort.lists, self.effort.list_steps, embedding)
        return JointRatio.of(place.rounds(analysis, "detected"), self.prior.names), x

    def _maps(
        self, place: Place, name: str, seen: sensitivity.Sensitivity | None = None, regions: Regions | None = None
    ) -> tuple[JointRatio, dict[str, Tensor]]:
        """r3 where regions are given, the direct ratio where not; and the observation as they see it."""
        analysis, x = self._of_maps(seen, regions)
        return JointRatio.of(place.rounds(analysis, name), self.prior.names), x

    def _of_maps(
        self, seen: sensitivity.Sensitivity | None = None, regions: Regions | None = None
    ) -> tuple[Analysis, dict[str, Tensor]]:
        near = None if regions is None else self._near(regions)
        most = float(self.scene.exposure.max()) * np.exp(8.0)
        zones = patch_zones(self.scene.pixels, near=near)
        summary = ZoneHistograms(zones, patch_neighbours(self.scene.pixels), bin_edges(24, most))
        how = {"summary": summary, "redraw_noise": self.effort.redraw_noise}
        if regions is None:
            simulator = PatchSimulator(self.scene, self.prior, **how)
        else:
            simulator = SubThreshold(self.scene, self.prior, seen, regions, **how)
        x = simulator.summarised(torch.as_tensor(self.counts, dtype=torch.float32)[None])
        return self._analysis(simulator, x, self.effort.maps, self.effort.map_steps), x

    def _near(self, regions: Regions) -> np.ndarray:
        """Pixels (n, n) within two standard deviations of the blur of the middle of a region."""
        centre = ((self.scene.edges[1:] + self.scene.edges[:-1]) / 2).numpy()
        middle = ((regions.low + regions.high) / 2).numpy()
        near = np.zeros((self.scene.pixels,) * 2, dtype=bool)
        for l_deg, b_deg, _ in middle:
            near |= np.hypot(centre - l_deg, centre[:, None] - b_deg) < 2 * self.scene.psf.sigma_deg
        return near

    def _posteriors(self, learned: Ratios) -> dict[str, dict[tuple[str, ...], MarginalPosterior]]:
        generator, points = torch.Generator().manual_seed(self.seed), self.effort.points
        detected = posteriors.Detected.of(
            learned.detected, learned.x["detected"], self.scene, learned.seen, learned.regions, points, generator
        )
        flat = torch.zeros(points, dtype=torch.float64)
        found = {
            "sub-threshold": (learned.sub.sample(learned.x["sub-threshold"], points, generator), flat),
            "detected": (detected.u, detected.log_w),
            "direct": (learned.direct.sample(learned.x["direct"], points, generator), flat),
        }
        found["combined"] = detected.with_maps(learned.sub, learned.x["sub-threshold"], points, generator)
        return {name: posteriors.marginals_of(self.prior, self.prior.names, *found[name]) for name in POSTERIORS}

    def _write(self, path: Path, every: dict[str, dict[tuple[str, ...], MarginalPosterior]]) -> None:
        joint = {name: marginals[self.prior.names] for name, marginals in every.items()}
        arrays = {f"{name} {what}": q for name, m in joint.items() for what, q in
                  (("samples", m.samples), ("weights", m.weights))}  # fmt: skip
        write_whole(path, lambda temporary: np.savez(temporary, names=list(self.prior.names), **arrays))
