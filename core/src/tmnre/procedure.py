"""A procedure: a course of work that is more than one analysis, in a run directory, with steps that are done once.

    class Subhalo(Procedure):
        def run(self, place):
            lens = place.analyse(self.lens, "lens")                     # rounds of truncation, as of any analysis
            network = place.step("network", self.train)                 # a folder, found again when resumed
            ...
            return Result(marginals, extra={"detection": ...})

A recipe's `build` returns an `Analysis` where the rounds are all there is to do, and a `Procedure` otherwise.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from tmnre.resume import is_done, mark_done

if TYPE_CHECKING:
    import numpy as np

    from tmnre.analysis import Analysis
    from tmnre.estimate import Estimate
    from tmnre.result import Result
    from tmnre.rounds import Rounds


@dataclass(frozen=True)
class Place:
    """Where a procedure works, and with what: folder, executor and budgets as for `Rounds`."""

    folder: Path
    executor: Executor | None = None
    memory_gib: float | None = None
    disk_gib: float | None = None
    progress: Callable[..., tqdm] = tqdm
    say: Callable[[str], None] = print

    def analyse(self, analysis: Analysis, name: str) -> Result:
        """The result of an analysis in a folder of this name; goes on from its last finished round."""
        return self.rounds(analysis, name).run()

    def rounds(self, analysis: Analysis, name: str = "") -> Rounds:
        """The `Rounds` of an analysis in a folder of this name: its result, its store and its last region."""
        from tmnre.rounds import Rounds

        return Rounds(
            analysis,
            self.folder / name,
            executor=self.executor,
            memory_gib=self.memory_gib,
            disk_gib=self.disk_gib,
            progress=self.progress,
            say=self.say,
        )

    def step(self, name: str, make: Callable[[Path], None]) -> Path:
        """The folder of a step; `make(folder)` fills it, unless it is there, finished and undamaged.

        A step that was stopped on the way starts again in an empty folder.  What it leaves is checksummed.
        """
        folder = self.folder / name
        if is_done(folder, self.say):
            self.say(f"{name}: finished before, read from {folder}")
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        make(folder)
        mark_done(folder, tuple(sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())))
        return folder


class Procedure:
    """Base class.  A subclass writes `run`, and `figures` where it has any.

    Attributes
    ----------
    seed : of everything random in it.
    workers : simulator processes; 1: this process; None: one per CPU.
    observation : the data by name, for their figure and for their checksums in meta.json; None: not said.
    """

    seed: int = 0
    workers: int | None = 1
    observation: Mapping[str, np.ndarray] | None = None

    def run(self, place: Place) -> Result:
        """Do the work in `place.folder`, where files of its own may be left; resumable step by step."""
        raise NotImplementedError(f"{type(self).__name__} has no run(place)")

    def figures(self, result: Result, folder: Path) -> None:
        """Write figures to folder, after the core's own."""

    def estimate(self, *, disk_gib: float | None = None) -> Estimate:
        """What a run would cost, for `tmnre run --dry-run`, from a probe of some seconds."""
        raise ValueError(f"{type(self).__name__} cannot tell what it would cost; a smaller preset shows it")


class AfterAnalysis(Procedure):
    """One analysis and what comes after it: seed, workers and data are the analysis'."""

    analysis: Analysis

    # read-only here, where the base class leaves them to be set
    @property
    def seed(self) -> int:  # type: ignore[override]
        return self.analysis.seed

    @property
    def workers(self) -> int | None:  # type: ignore[override]
        return self.analysis.workers

    @property
    def observation(self) -> Mapping[str, np.ndarray]:  # type: ignore[override]
        return self.analysis.observation

    def estimate(self, *, disk_gib: float | None = None) -> Estimate:
        """What the analysis would cost."""
        from tmnre.estimate import part_of

        return part_of(self.analysis, disk_gib)
