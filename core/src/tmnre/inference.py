"""`tmnre.infer`: the whole method on a user's own simulator, in one call."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tmnre.analysis import Analysis, Marginal, Stage
from tmnre.result import Result
from tmnre.rounds import Rounds


def infer(
    simulator: Any,
    observation: dict[str, np.ndarray],
    marginals: Sequence[Marginal],
    *,
    simulations: int = 10_000,
    budget: int | None = None,
    rounds: int = 6,
    seed: int = 0,
    folder: Path | str | None = None,
    executor: Executor | None = None,
    memory_gib: float | None = None,
    disk_gib: float | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Result:
    """Marginal posteriors for one observation.

    Parameters
    ----------
    simulator : object with `prior` and `simulate(theta, rng)`; see `tmnre.Simulator` for what else it may have.
    observation : {"name": array} as the simulator returns it, without the batch axis.
    marginals : parameter names, or tuples of names for joint marginals.
    simulations : size of each round's training set; simulations of earlier rounds that still count are reused.
    budget : at most so many runs of the simulator in all rounds together, in place of `simulations`.
    rounds : at most this many; fewer when the region stops shrinking.
    folder : keep simulations and rounds here, and go on from what is there; None: a temporary folder.
    executor : runs the simulations, for example of Dask; None: `workers` processes of this machine.
    memory_gib : a larger training set is read from disk while training; None: half of the machine's memory.
    disk_gib : simulations take no more disk than this; a round that needs more goes in windows.  None: no bound.
    settings : other fields of `tmnre.Analysis`.

    Raises ValueError or TypeError when the pieces do not fit, SimulationError or TrainingError when a stage fails.
    """
    stage = Stage(simulations) if budget is None else Stage(budget // rounds, added=True)
    analysis = Analysis(simulator, observation, marginals, stages=(stage,) * rounds, seed=seed, **settings)
    how: dict[str, Any] = {"executor": executor, "memory_gib": memory_gib, "disk_gib": disk_gib}
    how["progress"] = partial(tqdm, disable=quiet, leave=False)
    if quiet:
        how["say"] = lambda _: None
    if folder is not None:
        return Rounds(analysis, Path(folder), **how).run()
    with tempfile.TemporaryDirectory(prefix="tmnre-") as temporary:
        return Rounds(analysis, Path(temporary), **how).run()
