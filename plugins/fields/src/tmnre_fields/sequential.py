"""Rounds for one observation: simulate, learn, weaken what was learned to the next proposal; then draw.

    prior -> simulations -> network -> Q, b of the observation -> tempered proposal -> simulations -> ...

What every round brought is measured on the same simulations, held out, of the last proposal: the mean log ratio of each
round's network there.  With a truth known, the error of each round's mean and its z-scores stand beside it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tmnre import Analysis, Training
from tmnre.device import CPU, batches_on, moved, require, trains_on_cpu
from tmnre.estimate import Estimate
from tmnre.files import read_json, write_json
from tmnre.procedure import Place, Procedure
from tmnre.result import MarginalPosterior, Result
from tmnre_fields import cost
from tmnre_fields.forward import FieldModel
from tmnre_fields.information import Information
from tmnre_fields.network import InformationNet, Network
from tmnre_fields.nll import negative_log_ratio
from tmnre_fields.posterior import Posterior
from tmnre_fields.simulations import Simulations, simulate, train
from tmnre_fields.tempering import solve

SCALARS = ("mean", "rms")
"""what marginals there are of a component: its mean and standard deviation over pixels"""
TRAINING = Training(batch_size=32, validation_fraction=0.05, warm_learning_rate=3e-4)


@dataclass(frozen=True)
class Course:
    """How many rounds, and how hard each works."""

    simulations: tuple[int, ...] = (2000, 1000, 1000)
    """new simulations of every round; noise is drawn anew at every use, the fields are not"""
    steps: tuple[int, ...] = (600, 300, 300)
    """optimiser steps of every round"""
    thresholds: tuple[float, ...] = (10.0, 10.0)
    """chi2 of every later round's proposal, in units of the posterior's own: 10 holds errors of three sd in all"""
    fitted: int = 500
    """simulations that the starting line and the normalisation are fitted to"""
    held_out: int = 200
    """simulations of the last proposal on which all rounds are compared"""
    draws: int = 400
    """posterior draws at the end; the standard deviation per pixel is known to 1 / sqrt(2 draws)"""
    kept: int = 100
    """how many of the draws are written"""

    def __post_init__(self) -> None:
        if not len(self.simulations) == len(self.steps) == len(self.thresholds) + 1:
            raise ValueError(
                f"a course of {len(self.simulations)} rounds needs as many steps and one threshold fewer, got "
                f"{len(self.steps)} and {len(self.thresholds)}"
            )


@dataclass(frozen=True)
class Found:
    """What figures and files are made of; fields (C, *sky.grid) float32 arrays."""

    mean: np.ndarray
    sd: np.ndarray
    draws: np.ndarray
    """(S, C, *sky.grid)"""
    mean_modes: np.ndarray
    draw_modes: np.ndarray
    """(S, C, *mode_shape)"""
    scalars: np.ndarray
    """mean and standard deviation over pixels (all draws, C, 2)"""
    rounds: tuple[tuple[np.ndarray, np.ndarray], ...]
    """(mean, sd) of every round"""


@dataclass
class FieldRounds(Procedure):
    """The whole course for one observation; leaves rounds/NN/, draws/ and, if asked, FITS files in the run's folder.

    Where training uses a GPU of CUDA's kind, fields are simulated and drawn there as well.

    first : an `Analysis` of the prior's parameters, run first, in the folder `parameters`; fields are then inferred
        given draws of them.  On a spectrum's p(x|z) does not depend, and over the noise's level it is averaged.
    truth : modes z (C, *mode_shape), where known.
    start : network.pt of another run's first round, which does not depend on the observation; None: it is trained.
    draw_figures : called with (procedure, found, record, folder).
    write_maps : called with (found, folder), for FITS files.
    """

    model: FieldModel
    x: Tensor
    course: Course = field(default_factory=Course)
    training: Training = TRAINING
    network: Network = field(default_factory=Network)
    first: Analysis | None = None
    truth: Tensor | None = None
    start: Path | None = None
    draw_figures: Callable[..., None] | None = None
    write_maps: Callable[[Found, Path], None] | None = None
    seed: int = 0
    workers: int | None = 1

    def __post_init__(self) -> None:
        self.x = self.model.checked(self.x)
        require(self.training)
        if batches_on(self.training) == CPU and not trains_on_cpu(self.training):
            if self.training.accelerator != "auto" or self.training.devices > 1:
                raise ValueError(
                    f"fields are inferred on the processor or on one GPU of CUDA's kind, got training.accelerator "
                    f"{self.training.accelerator} and training.devices {self.training.devices}; take cpu, or one device"
                )
            self.training = replace(self.training, accelerator="cpu")

    @property
    def device(self) -> torch.device:
        """Where all of it is done."""
        return batches_on(self.training)

    def there(self) -> FieldModel:
        """The model on that device."""
        return moved(self.model, self.device)

    def generator(self, salt: int) -> torch.Generator:
        """Random numbers on that device, of their own for every part of the course."""
        return torch.Generator(self.device).manual_seed(1000 * self.seed + salt)

    @property
    def observation(self) -> dict[str, np.ndarray]:
        """The data {"x": (K, *sky.grid)}."""
        return {"x": self.x.numpy()}

    def run(self, place: Place) -> Result:
        first = place.analyse(self.first, "parameters") if self.first is not None else None
        thetas = None if first is None else first[tuple(self.model.prior.names)]
        folders = []
        for number in range(len(self.course.steps)):

            def make(folder: Path, number=number) -> None:
                self._round(number, list(folders), folder, thetas, place)

            folders.append(place.step(f"rounds/{number:02d}", make))
        compared = place.step("compared", lambda folder: self._compare(folders, folder, thetas))
        drawn = place.step("draws", lambda folder: self._draw(folders[-1], folder, thetas, place))
        record = read_json(compared / "record.json")
        self._found, self._record = self._load(folders, drawn), record
        if self.write_maps is not None:
            self.write_maps(self._found, place.folder)
        curves = [curve for folder in folders if (curve := read_json(folder / "curve.json"))]
        found = Result(
            *(self._scalars(self._found), [], self._true_scalars()),
            curves=curves,
            extra={"fields": record},
            further_simulations=sum(entry["simulations"] for entry in record["rounds"]) + self.course.held_out,
        )
        if first is None:
            return found
        return replace(
            found,
            marginals={**first.marginals, **found.marginals},
            rounds=first.rounds,
            truth={**first.truth, **found.truth},
            labels=first.labels,
            curves=[*first.curves, *curves],
        )

    def figures(self, result: Result, folder: Path) -> None:
        if self.draw_figures is not None:
            self.draw_figures(self, self._found, self._record, folder)

    def estimate(self, *, disk_gib: float | None = None) -> Estimate:
        return cost.estimate(self)

    def network_of(self, folder: Path) -> InformationNet:
        """A round's network."""
        return self._loaded(folder / "network.pt")

    def _loaded(self, path: Path) -> InformationNet:
        saved = torch.load(path, weights_only=True)
        net = self.blank(saved["z"], saved["x"])
        net.load_state_dict(saved["state"])
        return net.to(self.device).eval()

    def information(self, net: InformationNet) -> Information:
        """What a network has learned of the observation, a batch of one."""
        with torch.no_grad():
            return net({"x": self.x[None].to(self.device)})

    def blank(self, z: Tensor, x: Tensor) -> InformationNet:
        """A network with random weights, on the processor, fitted to modes z and data x of some simulations."""
        with torch.random.fork_rng(devices=[]):
            # initial weights follow the seed, whatever ran before
            torch.manual_seed(self.seed)
            return InformationNet(self.model, z.cpu(), x.cpu(), self.network)

    def parameters(self, thetas: MarginalPosterior | None, n: int, salt: int) -> Tensor | None:
        """Draws (n, D) of their posterior, or of their prior where there is none yet; None: spectra are fixed."""
        if self.model.prior is None:
            return None
        rng = np.random.default_rng((self.seed, salt))
        if thetas is None:
            return self.model.parameters(n, rng)
        return torch.from_numpy(thetas.sample(n, rng))

    def power(self, thetas: MarginalPosterior | None) -> Tensor:
        """One power for the observation: the model's, or the mean over draws of its parameters."""
        if self.model.fixed:
            return self.model.power().to(self.device)
        return self.model.power(self.parameters(thetas, 200, 7)).mean(0, keepdim=True).to(self.device)

    def _proposal(self, before: list[Path], threshold: float, thetas, generator) -> tuple[Information | None, dict]:
        if not before:
            return None, {"g": 0.0}
        information = self.information(self.network_of(before[-1]))
        solved = solve(information, self.power(thetas), threshold, generator)
        return information * solved.g, {**vars(solved), "threshold": threshold}

    def _round(self, number: int, before: list[Path], folder: Path, thetas, place: Place) -> None:
        course, generator = self.course, self.generator(number)
        if number == 0 and self.start is not None:
            net = self._loaded(self.start)
            shutil.copy(self.start, folder / "network.pt")
            write_json(folder / "curve.json", [])
            write_json(folder / "record.json", {"g": 0.0, "simulations": 0})
        else:
            threshold = course.thresholds[number - 1] if number else 0.0
            proposal, record = self._proposal(before, threshold, thetas, generator)
            n = course.simulations[number]
            theta = self.parameters(thetas, n, number)
            simulations = simulate(self.there(), n, generator, proposal=proposal, theta=theta, progress=place.progress)
            net = self._trained(number, before, folder, simulations, generator, place)
            write_json(folder / "record.json", {**record, "simulations": n})
        information = self.information(net)
        power = self.power(thetas)
        posterior = Posterior(information, power)
        sky = self.model.response.sky
        draws = sky.fields(posterior.draw(min(course.draws, 64), generator, tolerance=1e-4))
        mean = sky.fields(posterior.mean())
        np.savez(folder / "maps.npz", mean=mean[0].numpy(force=True), sd=draws.std(0).numpy(force=True))

    def _trained(self, number: int, before: list[Path], folder: Path, simulations, generator, place) -> InformationNet:
        """The round's network, trained and saved."""
        if before:
            net, peak = self.network_of(before[-1]), self.training.warm_learning_rate
        else:
            rows = slice(0, self.course.fitted)
            net, peak = self.blank(simulations.z[rows], simulations.x(rows, generator)), None
        curve = train(
            net,
            simulations,
            self.training,
            steps=self.course.steps[number],
            seed=self.seed + number,
            peak=peak,
            progress=place.progress,
            say=place.say,
        )
        # two simulations are enough for the shapes; statistics are buffers
        z, x = simulations.z[:2].cpu().clone(), simulations.x(slice(0, 2), generator).cpu()
        torch.save({"state": net.state_dict(), "z": z, "x": x}, folder / "network.pt")
        write_json(folder / "curve.json", [{**point, "member": 0} for point in curve])
        return net.to(self.device)

    def _compare(self, folders: list[Path], folder: Path, thetas) -> None:
        """Every round's network on the same simulations of the last proposal, and on the truth."""
        generator = self.generator(500)
        last = self.course.thresholds[-1] if self.course.thresholds else 0.0
        proposal, _ = self._proposal(folders[:-1], last, thetas, generator)
        n = self.course.held_out
        held = simulate(self.there(), n, generator, proposal=proposal, theta=self.parameters(thetas, n, 501))
        x = held.x(slice(None), generator)
        white = self.model.response.sky.white((n, held.z.shape[1]), generator)
        rounds: list[dict[str, Any]] = []
        first = None
        for each in folders:
            net = self.network_of(each)
            log_r = -_in_parts(net, held, x, white)
            first = log_r if first is None else first
            gain = log_r - first
            entry = {**read_json(each / "record.json"), "log_ratio": float(log_r.mean())}
            # the same simulations and probes for all rounds: differences are far better known than values
            entry |= {"gain_nat": float(gain.mean()), "gain_error_nat": float(gain.std() / n**0.5)}
            if self.truth is not None:
                entry |= self._against_truth(each, net, thetas, white[:32])
            rounds.append(entry)
        write_json(folder / "record.json", {"rounds": rounds})

    def _against_truth(self, folder: Path, net: InformationNet, thetas, white: Tensor) -> dict[str, float]:
        with np.load(folder / "maps.npz") as maps:
            mean, sd = maps["mean"], maps["sd"]
        truth = self.model.response.sky.fields(self.truth).numpy()
        # one probe for the log determinant is a rough one; 32 are not
        many = self.information(net).each(lambda part: part.expand(len(white), *part.shape[1:]))
        truths = self.truth.to(self.device).expand(len(white), *self.truth.shape)
        log_r = -negative_log_ratio(many, truths, self.power(thetas), white).detach()
        return {
            "rms_error": float(np.sqrt(np.mean((mean - truth) ** 2))),
            "z_score_rms": float(np.sqrt(np.mean(((mean - truth) / sd) ** 2))),
            "mean_sd": float(sd.mean()),
            "log_ratio_of_truth": float(log_r.mean()),
        }

    def _draw(self, last: Path, folder: Path, thetas, place: Place) -> None:
        course, generator = self.course, self.generator(600)
        information = self.information(self.network_of(last))
        sky = self.model.response.sky
        if self.model.fixed:
            mean = Posterior(information, self.power(None)).mean()[0]
            posterior = Posterior(information, self.power(None))
        else:
            power = self.model.power(self.parameters(thetas, course.draws, 601)).to(self.device)
            posterior = Posterior(information.each(lambda p: p.expand(course.draws, *p.shape[1:])), power)
            mean = None
        modes = torch.cat(list(posterior.draws(course.draws, generator, progress=place.progress)))
        mean = modes.mean(0) if mean is None else mean
        fields = sky.fields(modes)
        np.savez(
            folder / "draws.npz",
            mean=sky.fields(mean).numpy(force=True),
            sd=fields.std(0).numpy(force=True),
            draws=fields[: course.kept].numpy(force=True),
            mean_modes=mean.numpy(force=True),
            draw_modes=modes[: course.kept].numpy(force=True),
            scalars=_scalars(fields).numpy(force=True),
        )

    @staticmethod
    def _load(folders: list[Path], drawn: Path) -> Found:
        rounds = []
        for folder in folders:
            with np.load(folder / "maps.npz") as maps:
                rounds.append((maps["mean"], maps["sd"]))
        with np.load(drawn / "draws.npz") as saved:
            return Found(**{name: saved[name] for name in saved.files}, rounds=tuple(rounds))

    def _scalars(self, found: Found) -> dict[tuple[str, ...], MarginalPosterior]:
        """Posterior of every component's mean and standard deviation over pixels, from the draws."""
        equal = np.zeros(len(found.scalars))
        return {
            (f"{component.name}_{what}",): MarginalPosterior(
                (f"{component.name}_{what}",), found.scalars[:, i, j, None].astype(float), equal, equal
            )
            for i, component in enumerate(self.model.components)
            for j, what in enumerate(SCALARS)
        }

    def _true_scalars(self) -> dict[str, float]:
        if self.truth is None:
            return {}
        (values,) = _scalars(self.model.response.sky.fields(self.truth)[None]).tolist()
        return {
            f"{component.name}_{what}": value
            for component, both in zip(self.model.components, values, strict=True)
            for what, value in zip(SCALARS, both, strict=True)
        }


def _scalars(fields: Tensor) -> Tensor:
    """SCALARS (S, C, 2) of fields (S, C, *grid)."""
    pixels = fields.flatten(2)
    return torch.stack([pixels.mean(2), pixels.std(2, correction=0)], dim=2)


def _in_parts(net: InformationNet, held: Simulations, x: Tensor, white: Tensor, size: int = 50) -> Tensor:
    """-log r (N,) of simulations under a network, as posterior under their proposal."""
    parts = []
    with torch.no_grad():
        for rows in torch.arange(len(held)).split(size):
            power = held.power if len(held.power) == 1 else held.power[rows]
            information = net({"x": x[rows]})
            parts.append(negative_log_ratio(information, held.z[rows], power, white[rows], proposal=held.proposal))
    return torch.cat(parts)
