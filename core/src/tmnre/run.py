"""A directory per analysis: configuration, provenance, rounds, results, figures and its page; resumable."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tmnre import report
from tmnre.analysis import Analysis
from tmnre.files import read_json, write_json, write_text, write_whole
from tmnre.procedure import AfterAnalysis, Place, Procedure
from tmnre.provenance import provenance
from tmnre.result import Result


class RunError(RuntimeError):
    """A run directory cannot be used; the message says why and what to do."""


def execute(
    work: Analysis | Procedure,
    out: Path,
    *,
    config: str,
    recipe: str,
    command: list[str],
    about: Mapping[str, Any] | None = None,
    resume: bool = False,
    executor: Executor | None = None,
    memory_gib: float | None = None,
    disk_gib: float | None = None,
    progress: Callable[..., tqdm] | None = None,
    say: Callable[[str], None] = print,
) -> Result:
    """Run an analysis or a procedure in a directory of its own and write its results there.

    Leaves config.yaml, meta.json, store/, rounds/NN/, posterior.h5, summary.json, figures/ and report.html, which is
    written again after every round.  With `resume` the finished rounds and simulations of the directory are kept;
    `executor` and budgets as for `Rounds`.  about: what the recipe says of itself, as for `provenance`.  Raises
    RunError when the directory is in use or cannot be written, before anything is computed.
    """
    out = Path(out)
    started = time.time()
    if progress is None:  # in a log, a line now and then
        progress = partial(tqdm, mininterval=0.1 if sys.stderr.isatty() else 10.0)
    live = _Live(out, say)
    how: dict[str, Any] = {"executor": executor, "memory_gib": memory_gib, "disk_gib": disk_gib}
    how |= {"progress": progress, "say": live.say}
    go = steps(work, Place(out, **how))
    if not resume:
        _create(out)
        write_text(out / "config.yaml", config)
        write_json(out / "meta.json", provenance(work, recipe, command, about))
        _draw_data(work, out)
    _update(out, state="running")
    live.write()
    try:
        result = go()
        if not isinstance(result, Result):
            raise TypeError(f"{type(work).__name__}.run must return a tmnre.Result, got {type(result).__name__}")
        for key, marginal in result.marginals.items():
            if not np.isfinite(marginal.samples).all():
                raise ValueError(f"samples of {key} are not finite; check the prior's quantile function and derive")
        result.save(out / "posterior.h5")
        write_json(out / "summary.json", summary(result))
        _figures(work, result, out)
    except BaseException as error:
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
        with suppress(OSError, ValueError):  # a full disk must not hide why the run ended
            _update(out, state="stopped", reason=" ".join(reason.split()))
            live.write(running=False)
        raise
    sessions = read_json(out / "meta.json").get("sessions", [])
    _update(
        out,
        state="finished",
        reason=None,
        sessions=[*sessions, {"command": command, "wall_s": round(time.time() - started, 1)}],
        stages=[{**record["seconds"], "simulated": record["simulated"]} for record in result.rounds],
    )
    live.write(running=False)
    return result


def steps(work: Analysis | Procedure, place: Place) -> Callable[[], Result]:
    """What computes the result of an analysis or a procedure in a folder, from the last finished round or step on.

    Raises TypeError or ValueError, before anything is written, when the analysis does not fit together.
    """
    if isinstance(work, AfterAnalysis):
        place.rounds(work.analysis)
    return partial(work.run, place) if isinstance(work, Procedure) else place.rounds(work).run


class _Live:
    """The page of a run, written again whenever a round has been finished; it never stops the run."""

    def __init__(self, out: Path, say: Callable[[str], None]) -> None:
        self.out, self._say, self._done = out, say, -1

    def say(self, line: str) -> None:
        """Pass a message on; whatever is said last of a round comes after its files are written."""
        self._say(line)
        done = sum(1 for _ in self.out.glob("**/rounds/*/DONE"))
        if done != self._done:
            self._done = done
            self.write()

    def write(self, *, running: bool = True) -> None:
        """Write the page."""
        try:
            report.write(self.out, live=running)
        except Exception as error:  # a page is not worth a run
            self._say(f"no report.html this time ({type(error).__name__}: {error})")


def recorded(out: Path) -> tuple[str, Path]:
    """Recipe name and configuration file of a run directory.

    Raises RunError if it is none, is damaged, or holds a link that leads out of it: what goes on in a directory mends
    and removes files there, and must not reach others'.
    """
    out = Path(out)
    if not (out / "meta.json").is_file() or not (out / "config.yaml").is_file():
        raise RunError(f"{out} is not a run directory: it needs meta.json and config.yaml; start one with tmnre run")
    for path in (out, *out.rglob("*")):
        if path is not out and path.is_symlink() and not path.resolve().is_relative_to(out.resolve()):
            raise RunError(f"{path} is a link that leads out of the run; move the whole run instead of linking parts")
    try:
        recipe = read_json(out / "meta.json")["recipe"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"{out / 'meta.json'} is damaged ({reason}); start again with tmnre run") from error
    if not isinstance(recipe, str):
        raise RunError(f"{out / 'meta.json'} is damaged (the recipe is {recipe!r}); start again with tmnre run")
    return recipe, out / "config.yaml"


def _create(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        what = "tmnre resume goes on with it" if (out / "meta.json").is_file() else "it is not empty"
        raise RunError(f"{out} is in use ({what}); choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RunError(f"cannot write to {out}: {error.strerror}; choose another --out") from error


def _update(out: Path, **changes: Any) -> None:
    """Change meta.json; None removes a key."""
    meta = {**read_json(out / "meta.json"), **changes}
    write_json(out / "meta.json", {key: value for key, value in meta.items() if value is not None})


def summary(result: Result) -> dict[str, Any]:
    """What summary.json holds: parameters, marginals' effective samples, rounds, simulations, calibration."""
    last = result.rounds[-1] if result.rounds else {}
    keys = (
        *("round", "simulations", "simulated", "reused", "failed", "failures", "steps", "kept", "log_volume"),
        *("next_log_volume", "best_validation_loss", "lost_mass", "seconds"),
    )
    return {
        "parameters": result.summary(),
        "truth": dict(result.truth),
        "effective_samples": {" , ".join(k): m.effective_sample_size for k, m in result.marginals.items()},
        "simulations": result.simulations,
        "rounds": [{key: record[key] for key in keys} for record in result.rounds],
        "coverage": last.get("coverage", {}),
        "diagnostics": last.get("diagnostics", []),
        "goodness_of_fit": last.get("goodness_of_fit", []),
        "warnings": result.warnings,
        **({"checked": result.checked} if result.checked else {}),
        **result.extra,
    }


def _draw_data(work: Analysis | Procedure, out: Path) -> None:
    from tmnre.figures import data_figure

    figure = data_figure(work.observation or {})
    if figure is not None:
        (out / "figures").mkdir(exist_ok=True)
        write_whole(out / "figures" / "data.png", lambda path: figure.savefig(path, dpi=110))


def _figures(work: Analysis | Procedure, result: Result, out: Path) -> None:
    from tmnre.figures import write_core_figures

    folder = out / "figures"
    folder.mkdir(exist_ok=True)
    write_core_figures(result, folder)
    if work.figures is not None:
        work.figures(result, folder)
