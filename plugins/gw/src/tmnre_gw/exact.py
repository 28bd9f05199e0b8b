"""Truncated inference of a binary, and then exactly: joint draws and evidence, from what its rounds leave behind.

Each step is a folder of the run, done once:

    search/      where in the prior the signal is, by matched filters
    learned/     the rounds of truncation that begin there; posterior.h5 holds the learned marginals
    exact/       draws of the exact posterior inside the last region (see `tempering`), which go on from
                 exact-unfinished.pt where they were stopped

The result's marginals are those of the exact draws, its joint marginal is all of bilby's parameters; how far the
learned ones are from them is in summary.json.  Products: bilby_result.json and .hdf5, skymap.fits.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from tmnre import AfterAnalysis, Analysis, Box, MarginalPosterior, Place, Result
from tmnre.files import read_json, write_json, write_whole
from tmnre.inside import in_region
from tmnre.result import weighted_quantile
from tmnre.rounds import Rounds
from tmnre.workers import processes
from tmnre_gw.harmonics import HarmonicLikelihood
from tmnre_gw.likelihood import Likelihood
from tmnre_gw.products import About, bilby_result, sky_map_of, write_bilby
from tmnre_gw.search import found_nothing, locate
from tmnre_gw.simulator import BinaryBlackHole
from tmnre_gw.skyfigure import sky_figure
from tmnre_gw.tempering import Sampler, Sampling

BILBY = (
    *("chirp_mass", "mass_ratio", "chi_1", "chi_2", "a_1", "a_2", "tilt_1", "tilt_2", "phi_12", "phi_jl"),
    *("luminosity_distance", "theta_jn", "ra", "dec", "psi", "phase", "geocent_time"),
)
"""bilby's parameters, in the order of a triangle"""
STATE = 4
"""number of what the sampler's state holds; one of another number is not gone on with"""
CUT = 0.01
"""share of the posterior next to an edge of the region that is told to the reader"""
EVERY_S = 60
"""seconds from one saved state of the sampler to the next"""


class Unfinished:
    """What there is of exact draws that take an hour: a file beside their folder, written again every minute.

    of : what the draws are of; a state of anything else is not gone on with.
    """

    def __init__(self, path: Path, of: str) -> None:
        self.path, self.of, self.written = path, of, time.monotonic()

    def found(self, say: Callable[[str], None]) -> dict[str, Any] | None:
        """The state that was kept last, if any."""
        if not self.path.is_file():
            return None
        try:
            kept = torch.load(self.path, weights_only=True)
            state = kept["state"] if kept["of"] == self.of else None
        except (OSError, EOFError, KeyError, RuntimeError, TypeError, ValueError, UnpicklingError):
            state = None
        say(f"exact: {'goes on from' if state else 'begins anew, as there is nothing to go on from in'} {self.path}")
        return state

    def keep(self, state: Callable[[], dict[str, Any]]) -> None:
        """Write the state, unless it was written less than a minute ago."""
        if time.monotonic() - self.written > EVERY_S:
            write_whole(self.path, partial(torch.save, {"of": self.of, "state": state()}))
            self.written = time.monotonic()

    def remove(self) -> None:
        """Once the draws are there."""
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class ExactBinary(AfterAnalysis):
    """An analysis of a `BinaryBlackHole` followed by exact draws.

    analysis : of an observation {"strain": ...}; its figures are drawn as well.
    search : begin the rounds where matched filters find the signal.
    """

    analysis: Analysis
    about: About
    sampling: Sampling = field(default_factory=Sampling)
    search: bool = True

    def run(self, place: Place) -> Result:
        analysis, searched = self.analysis, 0
        if self.search:
            found = read_json(place.step("search", partial(self._search, place)) / "region.json")
            analysis, searched = replace(analysis, begin=Box.from_dict(found["region"])), found["waveforms"]
        rounds = place.rounds(analysis, "learned")
        learned = replace(rounds.run(), further_simulations=searched)
        learned.save(place.folder / "learned" / "posterior.h5")
        folder = place.step("exact", partial(self._sample, rounds, learned, place))
        result = self._result(learned, folder)
        self._write_products(result, folder, place)
        return result

    def figures(self, result: Result, folder: Path) -> None:
        """Whitened data with the best draw's signal, and the sky."""
        if self.analysis.figures is not None:
            self.analysis.figures(result, folder)
        joint = next(marginal for names, marginal in result.marginals.items() if len(names) > 2)
        sky = sky_map_of(joint, result.extra["exact"]["effective_samples"])
        if sky is not None:
            figure: Figure = sky_figure(sky, joint, truth=result.truth)
            write_whole(folder / "sky.png", lambda path: figure.savefig(path, dpi=120))

    def _search(self, place: Place, folder: Path) -> None:
        likelihood = Likelihood(self.analysis.simulator, self.analysis.observation["strain"])
        with self._pool(place, likelihood) as pool:
            locate(likelihood, self.seed, place, pool, folder)

    def _sample(self, rounds: Rounds, learned: Result, place: Place, folder: Path) -> None:
        started = time.monotonic()
        region = Box.from_dict(learned.rounds[-1]["region"])
        simulator = rounds.simulator
        keep = partial(in_region, simulator, region)
        selection = rounds.store.select(rounds.store.shards(before_round=len(learned.rounds)), keep, sys.maxsize)
        if not len(selection.u):
            raise ValueError("the exact step starts from the last round's simulations, which the disk budget discarded")
        strain = self.analysis.observation["strain"]
        times = arrival_times(simulator, region)
        likelihood = Likelihood(simulator, strain, times)
        harmonic = HarmonicLikelihood(simulator, strain, times) if HarmonicLikelihood.serves(simulator) else None
        single = {names[0]: marginal for names, marginal in learned.marginals.items() if len(names) == 1}
        rng = np.random.default_rng([self.seed, len(learned.rounds)])
        of = json.dumps([STATE, learned.rounds[-1]["region"]], sort_keys=True)
        unfinished = Unfinished(folder.with_name(f"{folder.name}-unfinished.pt"), of)
        with self._pool(place, harmonic or likelihood) as pool:
            sampler = Sampler(likelihood, region, single, self.sampling, rng, pool, harmonic)
            begun = unfinished.found(place.say)
            draws = sampler.run(
                *(selection.u, rounds._rows(selection), place.progress), begun=begun, save=unfinished.keep
            )
        columns = {**dict(zip(simulator.prior.names, draws.theta.T, strict=True)), **draws.derived}
        arrays = {**columns, "log_likelihood": draws.log_l}
        write_whole(folder / "draws.npz", lambda path: np.savez_compressed(path, **arrays))
        record = {
            "log_bayes_factor": draws.log_evidence,
            **draws.record,
            "wall_s": round(time.monotonic() - started, 1),
        }
        write_json(folder / "record.json", record)
        unfinished.remove()
        place.say(
            f"exact: {record['effective_samples']:.0f} effective draws from {record['waveforms']} new waveforms, "
            f"log Bayes factor {record['log_bayes_factor']:.2f} +- {record['log_evidence_sd']:.2f}"
        )

    def _pool(self, place: Place, likelihood: Likelihood):
        if place.executor is not None:
            return nullcontext(place.executor)
        if self.workers == 1:
            return nullcontext(None)
        from os import cpu_count

        return processes(self.workers or cpu_count() or 1, likelihood.polarisations)

    def _result(self, learned: Result, folder: Path) -> Result:
        draws, record = dict(np.load(folder / "draws.npz")), read_json(folder / "record.json")
        log_l = draws.pop("log_likelihood")
        unknown = np.full(len(log_l), np.nan)

        def marginal(names: Sequence[str], log_ratios: np.ndarray = unknown) -> MarginalPosterior:
            samples = np.stack([draws[name] for name in names], axis=1)
            equal, worth = np.zeros(len(log_l)), record["effective_samples"]
            return MarginalPosterior(tuple(names), samples, log_ratios, log_weights=equal, independent=worth)

        joint = tuple(name for name in BILBY if name in draws)
        also = tuple(name for name in ("mass_1", "mass_2", "chi_eff") if name in draws)
        marginals = {names: marginal(names) for names in learned.marginals}
        # its ratio is the likelihood over the evidence
        whole = replace(marginal((*joint, *also), log_l - record["log_bayes_factor"]), log_evidence=0.0)
        extra: dict[str, Any] = {"exact": record, "learned_against_exact": _apart(learned, marginals)}
        return replace(
            learned,
            marginals={**marginals, whole.names: whole},
            extra=extra,
            shown=joint,
            checked="the learned posterior, from which exact draws only begin",
            notes=[*nothing_cut(learned.rounds[-1]["log_volume"]), *at_edges(record["at_walls"])],
        )

    def _write_products(self, result: Result, folder: Path, place: Place) -> None:
        record = result.extra["exact"]
        joint = next(marginal for names, marginal in result.marginals.items() if len(names) > 2)
        written = bilby_result(
            joint,
            self.about,
            log_likelihood=joint.log_ratios + record["log_bayes_factor"],
            log_bayes_factor=record["log_bayes_factor"],
            log_bayes_factor_sd=record["log_evidence_sd"],
            evaluations=record["waveforms"] + result.simulations,
        )
        write_bilby(written, place.folder)
        sky = sky_map_of(joint, record["effective_samples"])
        if sky is not None:
            about = self.about
            sky.write(
                place.folder / "skymap.fits",
                event=about.event,
                detectors=about.detectors,
                gps_s=about.trigger_gps_s,
            )


def arrival_times(simulator: BinaryBlackHole, region: Box) -> tuple[float, float]:
    """The times (s) that a region leaves to the simulator's `time`."""
    if "time" not in simulator.prior.names:
        return simulator.fixed["time"], simulator.fixed["time"]
    low, high = simulator.prior["time"].quantile(np.array(region.cube["time"]))
    return float(low), float(high)


def nothing_cut(log_volume: float) -> list[str]:
    """A warning where the rounds did not find the signal, by the share of the prior in which the last one drew."""
    if not found_nothing(log_volume):
        return []
    return [
        f"the rounds have cut next to nothing ({np.exp(log_volume):.0%} of the prior is left): exact draws rest on the "
        f"few of their waveforms that happen to fit, and are worth less; a narrower prior of the masses may help"
    ]


def at_edges(shares: Mapping[str, float]) -> list[str]:
    """Warnings of parameters whose posterior is cut off by the region, by their shares next to its edges."""
    return [
        f"{name}: {share:.0%} of the exact posterior lies next to an edge of the last region, which may have cut some "
        f"of it off; more simulations or steps in the rounds would place the edge better"
        for name, share in shares.items()
        if share > CUT
    ]


def _apart(learned: Result, exact: dict[tuple[str, ...], MarginalPosterior]) -> dict[str, dict[str, float]]:
    """Per parameter: how far the learned median is from the exact one, in sd, and the ratio of the widths."""
    table = {}
    for name in learned.names:
        ours, theirs = learned[name], exact[name,]
        medians = [float(weighted_quantile(m.samples[:, 0], m.weights, 0.5)) for m in (ours, theirs)]
        table[name] = {"median_shift_sd": (medians[0] - medians[1]) / theirs.sd, "width_ratio": ours.sd / theirs.sd}
    return table
