"""A directory per analysis: configuration, provenance, rounds, results, figures; resumable."""

from __future__ import annotations

import os
import platform
import sys
import time
from concurrent.futures import Executor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from tmnre.analysis import Analysis
from tmnre.files import read_json, write_json, write_text
from tmnre.procedure import Place, Procedure
from tmnre.result import Result
from tmnre.rounds import Rounds

PACKAGES = ("tmnre", "torch", "lightning", "numpy", "scipy")


class RunError(RuntimeError):
    """A run directory cannot be used; the message says why and what to do."""


def execute(
    work: Analysis | Procedure,
    out: Path,
    *,
    config: str,
    recipe: str,
    command: list[str],
    resume: bool = False,
    executor: Executor | None = None,
    memory_gib: float | None = None,
    disk_gib: float | None = None,
) -> Result:
    """Run an analysis or a procedure in a directory of its own and write its results there.

    Leaves config.yaml, meta.json, store/, rounds/NN/, posterior.h5, summary.json and figures/.  With `resume` the
    finished rounds and simulations of the directory are kept; `executor` and budgets as for `Rounds`.  Raises
    RunError when the directory is in use or cannot be written, before anything is computed.
    """
    out = Path(out)
    started = time.time()
    # in a log, a line now and then
    progress = partial(tqdm, mininterval=0.1 if sys.stderr.isatty() else 10.0)
    how: dict[str, Any] = {"executor": executor, "memory_gib": memory_gib, "disk_gib": disk_gib, "progress": progress}
    go = partial(work.run, Place(out, **how)) if isinstance(work, Procedure) else Rounds(work, out, **how).run
    if not resume:
        _create(out)
        write_text(out / "config.yaml", config)
        write_json(out / "meta.json", _provenance(work, recipe, command))
    result = go()
    result.save(out / "posterior.h5")
    write_json(out / "summary.json", summary(result))
    _figures(work, result, out)
    meta = read_json(out / "meta.json")
    meta["sessions"] = [*meta.get("sessions", []), {"command": command, "wall_s": round(time.time() - started, 1)}]
    meta["stages"] = [{**record["seconds"], "simulated": record["simulated"]} for record in result.rounds]
    write_json(out / "meta.json", meta)
    return result


def recorded(out: Path) -> tuple[str, Path]:
    """Recipe name and configuration file of a run directory; raises RunError if it is none."""
    out = Path(out)
    if not (out / "meta.json").is_file() or not (out / "config.yaml").is_file():
        raise RunError(f"{out} is not a run directory: it needs meta.json and config.yaml; start one with tmnre run")
    try:
        return read_json(out / "meta.json")["recipe"], out / "config.yaml"
    except (ValueError, KeyError) as error:
        raise RunError(f"{out / 'meta.json'} is damaged ({error}); start again with tmnre run") from error


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


def _provenance(work: Analysis | Procedure, recipe: str, command: list[str]) -> dict[str, Any]:
    return {
        "recipe": recipe,
        "command": command,
        "seed": work.seed,
        "versions": {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "cpus": os.cpu_count(),
    }


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
        **result.extra,
    }


def _figures(work: Analysis | Procedure, result: Result, out: Path) -> None:
    from tmnre.figures import write_core_figures

    folder = out / "figures"
    folder.mkdir(exist_ok=True)
    write_core_figures(result, folder)
    if work.figures is not None:
        work.figures(result, folder)
