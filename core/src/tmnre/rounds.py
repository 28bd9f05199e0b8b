"""The loop: simulate in the region, train, tighten the region, again; until it stops shrinking.

While the region still shrinks, training is kept short: a rough ratio is wide and loses nothing.  Once it keeps more
than `stop_ratio` of its volume the next round trains, from random weights, until the validation loss settles; if the
region then still does not shrink, that round is the last.  Stages that say how many steps to train all run, as they
say.

Each finished round leaves a folder with its region, its training curve, its weights and a DONE file.  A run that was
stopped goes on from the last finished round; seeds depend on the round's number only, so it ends the same.

Where the disk may hold only so much, the simulations of the earliest rounds are discarded first.  A round that needs
more than it may keep goes in windows: simulate one, train on it, discard it, and go on training on the next.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from tmnre.analysis import Analysis, Stage, Training
from tmnre.asked import Asked
from tmnre.contour import Contour
from tmnre.device import require
from tmnre.draws import Draws
from tmnre.ensemble import mean
from tmnre.evaluate import calibration, goodness_of_fit
from tmnre.files import read_json, write_json, write_whole
from tmnre.inside import in_region, pool_of
from tmnre.machine import half_of_memory, precision_on_this_machine, torch_threads
from tmnre.members import new_members
from tmnre.posterior import of_heads, of_joints
from tmnre.ratio import RatioEstimator
from tmnre.region import Box
from tmnre.result import Result
from tmnre.resume import claim, is_done, mark_done
from tmnre.room import Room, capacity
from tmnre.rows import InMemory, OnDisk
from tmnre.simulate import few, simulate, trial
from tmnre.simulator import Arrays, Simulator, Tensors, adopt, as_tensors
from tmnre.store import Selection, Store
from tmnre.train import fit
from tmnre.truncate import tighten

POSTERIOR_SAMPLES = 100_000
FAILURES_KEPT = 20
FEW = 64
"""simulations to tell shapes from where all of a round have been discarded"""
Progress = Callable[..., tqdm]
Say = Callable[[str], None]


@dataclass
class Trained:
    """What a round hands to the next: its estimators, the reduction its data went through, and draws of its prior."""

    members: list[RatioEstimator]
    reduction: Tensors
    record: dict[str, Any]
    next_region: Box
    x: Tensors | None = None
    z: torch.Tensor | None = None
    pool: np.ndarray | None = None
    """u (P, D) spread over the next region, where it is hard to draw from"""

    @cached_property
    def estimator(self) -> RatioEstimator:
        return mean(self.members)


class Rounds:
    """The rounds of one analysis in one folder.

    Simulations run on `executor` where one is given.  A training set larger than `memory_gib` (None: half of what the
    machine has) is read from disk while training; the store never takes more than `disk_gib` (None: no bound).

    After `run`, `region` is that of the last round, the posterior's; `last` the round as it was trained, its estimator
    to be asked more; and `store` has the simulations.

    Raises TypeError or ValueError when the analysis does not fit together (unknown marginals, wrong shapes).
    """

    last: Trained | None = None

    def __init__(
        self,
        analysis: Analysis,
        folder: Path,
        *,
        executor: Executor | None = None,
        memory_gib: float | None = None,
        disk_gib: float | None = None,
        progress: Progress = tqdm,
        say: Say = print,
    ) -> None:
        require(analysis.training)
        self.analysis, self.folder, self.progress, self.say = analysis, Path(folder), progress, say
        self.executor = executor
        self.memory = half_of_memory() if memory_gib is None else memory_gib * 2**30
        self.simulator: Simulator = adopt(analysis.simulator)
        self.asked = Asked.of(analysis, self.simulator)
        self.observation = as_tensors(analysis.observation, batched=True)
        for name, array in self.observation.items():
            if not torch.isfinite(torch.view_as_real(array) if array.is_complex() else array).all():
                raise ValueError(f"the observation {name!r} holds NaN or infinite values; mask or fill them first")
        odd = sorted(n for n in analysis.distortions if n not in self.observation)
        if odd:
            raise ValueError(f"distortions are of arrays of the data, here {list(self.observation)}, not of {odd}")
        self.store = Store(self.folder / "store")
        self.room = Room(self.store, analysis.shard_size, None if disk_gib is None else self._fit_on_disk(disk_gib))
        if not self.store.shards(before_round=1):
            self._check_observation()

    def _check_observation(self) -> None:
        """One simulation tells whether the observation has the right form, before many are made."""
        theta, stored = trial(self.simulator, self.analysis.seed, self.analysis.max_failed)
        x = self.simulator.observe(as_tensors(stored), torch.from_numpy(theta), torch.Generator().manual_seed(0))
        found, expected = ({k: tuple(v.shape[1:]) for k, v in data.items()} for data in (self.observation, x))
        if found != expected:
            raise ValueError(f"the observation has arrays {found}, the simulator returns {expected}")

    def _fit_on_disk(self, gib: float) -> int:
        """Simulations, in whole shards, that take no more than so much of the disk."""
        _, stored = trial(self.simulator, self.analysis.seed, self.analysis.max_failed)
        each = 8 * len(self.simulator.prior) + sum(array.nbytes for array in stored.values())
        return capacity(gib, each, self.analysis.shard_size)

    def run(self) -> Result:
        """Run (or go on with) all rounds and return the posteriors of the last."""
        claim(self.folder, self.analysis, self.simulator)
        for problem in self.store.mend():
            self.say(f"simulations {problem}; they are made again")
        if (precision := precision_on_this_machine(self.analysis.training)) != self.analysis.training.precision:
            self.say(f"this processor computes nothing in {self.analysis.training.precision}; training in {precision}")
        region = self.analysis.begin or Box.full(self.simulator.prior, self.simulator.constraints)
        last: Trained | None = None
        records: list[dict[str, Any]] = []
        settled = ended = False
        for number, stage in enumerate(self.analysis.stages):
            whole = ended  # what is left in one
            if whole:
                stage = replace(stage, simulations=sum(left.simulations for left in self.analysis.stages[number:]))
            polish = settled or number == len(self.analysis.stages) - 1
            region = last.next_region if last else region
            last = self._round(number, region, stage, last, polish=polish)
            records.append(last.record)
            settled = stage.together and last.record["kept"] > self.analysis.truncation.stop_ratio
            ended = settled and polish
            if whole or (ended and stage.steps is None and not stage.added):
                break
        assert last is not None
        self.last = last
        self.region = region
        return self._result(last, region, records)

    def _round(self, number: int, region: Box, stage: Stage, last: Trained | None, *, polish: bool) -> Trained:
        folder = self.folder / "rounds" / f"{number:02d}"
        if is_done(folder, self.say):
            return self._finished(folder, number, region, last)
        folder.mkdir(parents=True, exist_ok=True)
        watch = _Stopwatch()
        keep = partial(in_region, self.simulator, region)
        total, reused = self.room.make(number, stage, keep)
        windows = self.room.windows(total - reused)
        self.say(
            f"round {number}: log prior volume {self._log_volume(number):.2f}, "
            f"{total - reused} new simulations, {reused} reused"
            + (f", in {len(windows)} windows, as the disk may hold {self.room.capacity}" if len(windows) > 1 else "")
        )
        self.store.remove_discarded(number)
        seed = int(np.random.SeedSequence([self.analysis.seed, number, 2]).generate_state(1)[0])
        afresh = stage.afresh or (polish and stage.steps is None)
        warm = last is not None and not afresh and last.record["kept"] > self.analysis.truncation.warm_start_ratio
        warm = warm and not self.asked.joints_of(stage)  # whose draws need the quantiles of this very region
        members, reduction, curves = (last.members, last.reduction, []) if warm else ([], {}, [])
        for window, n in enumerate(windows):
            if window:
                self.store.discard(self.store.shards(number + 1, from_round=number))
            first = sum(windows[:window]) // self.analysis.shard_size
            self._simulate(number, region, n, first, last)
            watch.lap("simulate")
            selection = self.store.select(self.store.shards(before_round=number + 1), keep, total)
            draws = Draws(self.simulator, region, selection.u, self._rows(selection), self.asked.targets, seed=seed)
            if not members:
                reduction = self._fit_reduction(draws, seed)
            draws.simulator = self.simulator.reduced(reduction) if reduction else self.simulator
            new = [[member] for member in members] if members else self._new_members(number, draws, seed)
            watch.lap("prepare")
            training = self.analysis.training
            if window:  # the more has been learned, the less the next may change
                training = replace(training, warm_learning_rate=training.warm_learning_rate / window)
            members, found = self._fit(new, draws, stage, training, seed, warm=bool(members), polish=polish)
            curves = found if not curves else [_joined(*both) for both in zip(curves, found, strict=True)]
            watch.lap("train")
        estimator = mean(members)
        x_o = draws.simulator.reduce(self.observation)
        generator = torch.Generator().manual_seed(seed + 1)
        z = draws.sample_targets(POSTERIOR_SAMPLES, generator)
        _, held = draws.split(self.analysis.training.validation_fraction, seed)
        findings, depths = calibration(estimator, draws, held, x_o if polish else None, seed)
        findings["goodness_of_fit"] = []
        if polish and self.analysis.distortions:
            whole = copy.copy(draws)
            whole.simulator = self.simulator
            how = self.analysis.distortions, folder, seed, self.say
            findings["goodness_of_fit"] = goodness_of_fit(whole, self.observation, *how)
        tightened = tighten(
            *(region, self.simulator.prior, estimator, x_o, z),
            *((*self.asked.truncated, *(() if stage.together else self.asked.apart)), self.analysis.truncation),
            groups=self.asked.groups if stage.together else (),
            whole=self.asked.apart,
            depths=depths,
            simulations=draws.effective_size,
            seed=seed,
        )
        record = {
            "round": number,
            "simulations": total,
            "simulated": total - reused,
            "reused": reused,
            "windows": len(windows),
            "failed": len(failures := self.store.failures(number)),
            "failures": failures[:FAILURES_KEPT],
            "effective_simulations": draws.effective_size,
            "acceptance": float(draws.weight.mean()),
            "steps": max(curve[-1]["step"] for curve in curves),
            "best_validation_loss": float(np.mean([min(p["validation"] for p in curve) for curve in found])),
            "warm_start": warm,
            "region": region.to_dict(),
            "next_region": tightened.region.to_dict(),
            "kept": tightened.kept,
            "log_volume": self._log_volume(number),
            "next_log_volume": self._log_volume(number) + float(np.log(tightened.kept)),
            "lost_mass": tightened.lost_mass,
            **findings,
        }
        watch.lap("evaluate")
        record["seconds"] = {part: round(seconds, 2) for part, seconds in watch.seconds.items()}
        pool = pool_of(self.simulator, tightened.region, self.asked.targets, z, seed)
        trained = Trained(members, reduction, record, tightened.region, x_o, z, pool)
        self._write(folder, trained, [point for curve in curves for point in curve])
        self.say(
            f"round {number}: region kept {tightened.kept:.3g} of its volume, "
            f"estimated posterior mass lost {max(tightened.lost_mass.values(), default=0):.1e} (worst marginal)"
        )
        return trained

    def _fit(
        self,
        new: list[list[RatioEstimator]],
        draws: Draws,
        stage: Stage,
        training: Training,
        seed: int,
        *,
        warm: bool,
        polish: bool,
    ) -> tuple[list[RatioEstimator], list[list[dict[str, float]]]]:
        """Members of the ensemble, each the best of its candidates, and their training curves."""
        members, curves = [], []
        with torch_threads(self.analysis.training.threads):
            for order, candidates in enumerate(new):
                member, curve = fit(
                    candidates,
                    draws,
                    training,
                    steps=stage.steps,
                    seed=seed,
                    order=order,
                    warm=warm,
                    polish=polish,
                    progress=self.progress,
                    say=self.say,
                )
                members.append(member)
                curves.append([{**point, "member": order} for point in curve])
        return members, curves

    def _simulate(self, number: int, region: Box, n: int, first: int, last: Trained | None) -> None:
        of = self.analysis
        where = {"executor": self.executor, "workers": of.workers, "progress": self.progress}
        how = {"first": first, "shard_size": of.shard_size, **self._how(number, last), **where}
        simulate(self.simulator, self.store, region, n, **how)

    def _how(self, number: int, last: Trained | None) -> dict[str, Any]:
        of = self.analysis
        pool = last and last.pool
        return {"round_number": number, "seed": of.seed, "pool": pool, "max_failed": of.max_failed}

    def _rows(self, selection: Selection) -> InMemory | OnDisk:
        if selection.nbytes <= self.memory:
            return InMemory(selection.load())
        self.say(
            f"{selection.nbytes / 2**30:.1f} GiB of simulations are more than the {self.memory / 2**30:.1f} GiB "
            f"allowed in memory; training reads them from disk"
        )
        return OnDisk(selection, self.memory)

    def _log_volume(self, number: int) -> float:
        if number == 0:
            return self.analysis.begin.log_volume if self.analysis.begin else 0.0
        return read_json(self.folder / "rounds" / f"{number - 1:02d}" / "region.json")["next_log_volume"]

    def _fit_reduction(self, draws: Draws, seed: int) -> Tensors:
        rows = torch.multinomial(
            draws.weight, min(4096, len(draws)), replacement=True, generator=torch.Generator().manual_seed(seed)
        )
        return self.simulator.fit_reduction(draws.stored.take(rows), draws.theta[rows])

    def _write(self, folder: Path, trained: Trained, curve: list[dict[str, float]]) -> None:
        state = {
            "estimator": trained.estimator.state_dict(),
            "reduction": trained.reduction,
            "x": trained.x,
            "z": trained.z,
            "pool": None if trained.pool is None else torch.from_numpy(trained.pool),
            "live": {" , ".join(k): torch.from_numpy(c.live) for k, c in trained.next_region.contours.items()},
        }
        write_whole(folder / "checkpoint.pt", lambda path: torch.save(state, path))
        write_json(folder / "training.json", curve)
        write_json(folder / "region.json", trained.record)
        mark_done(folder, ("checkpoint.pt", "training.json", "region.json"))

    def _finished(self, folder: Path, number: int, region: Box, last: Trained | None) -> Trained:
        """A finished round from its folder; the network's shape follows from the data, the weights from the file."""
        record = read_json(folder / "region.json")
        state = torch.load(folder / "checkpoint.pt", weights_only=True)
        self._simulate(number, region, record["simulated"], 0, last)  # only what has been damaged
        keep = partial(in_region, self.simulator, region)
        selection = self.store.select(self.store.shards(before_round=number + 1), keep, 256)
        u, stored = (selection.u, selection.load()) if len(selection.u) else self._few(number, region, last)
        draws = Draws(self.simulator, region, u, InMemory(stored), self.asked.targets, seed=0)
        reduction = state["reduction"]
        draws.simulator = self.simulator.reduced(reduction) if reduction else self.simulator
        draws.weight.clamp_(min=1e-9)
        members = [candidates[0] for candidates in self._new_members(number, draws, seed=0, prior_draws=FEW)]
        estimator = mean(members).eval()
        estimator.load_state_dict(state["estimator"])
        self.say(f"round {number}: finished before, read from {folder}")
        next_region = self._next_region(region, estimator, state, record["next_region"])
        pool = None if state.get("pool") is None else state["pool"].numpy()
        return Trained(members, reduction, record, next_region, state["x"], state["z"], pool)

    def _new_members(self, number: int, draws: Draws, seed: int, **how: int) -> list[list[RatioEstimator]]:
        joints = self.asked.joints_of(self.analysis.stages[number])
        return new_members(self.analysis, draws, self.asked.alone, joints, seed, **how)

    def _few(self, number: int, region: Box, last: Trained | None) -> tuple[np.ndarray, Arrays]:
        return few(self.simulator, region, FEW, **self._how(number, last))

    def _next_region(self, region: Box, estimator: RatioEstimator, state: dict, plain: dict) -> Box:
        contours = {}
        for kept in plain.get("contours", ()):
            names = tuple(kept["names"])
            before = region.contours[names].constraints if names in region.contours else ()
            contours[names] = Contour(
                (*before, (estimator.surface(names, state["x"]), kept["threshold"])),
                state["live"][" , ".join(names)].numpy(),
                np.array([plain["cube"][name] for name in names]),
                kept["log_volume"],
            )
        return Box.from_dict(plain, contours)

    def _result(self, last: Trained, region: Box, records: list[dict[str, Any]]) -> Result:
        prior, seed = self.simulator.prior, self.analysis.seed
        found = {
            **of_heads(last.estimator, last.x, last.z, prior),
            **of_joints(self.asked.joints, last.estimator, last.x, prior, region, seed),
        }
        curves = [read_json(self.folder / "rounds" / f"{r['round']:02d}" / "training.json") for r in records]
        ordered = {names: found[names] for names in self.asked.marginals}
        return Result(ordered, records, dict(self.analysis.truth), dict(self.analysis.labels), curves)


class _Stopwatch:
    """Seconds by part of the work."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, part: str) -> None:
        now = time.monotonic()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._last
        self._last = now


def _joined(before: list[dict[str, float]], after: list[dict[str, float]]) -> list[dict[str, float]]:
    """Two training curves, one after the other."""
    return [*before, *({**point, "step": before[-1]["step"] + point["step"]} for point in after)]
