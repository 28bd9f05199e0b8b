"""What a run records about itself before it starts: what was asked, of which data, with which software.

All of it is plain JSON: a run's page, its citations and the command that repeats it come from these files alone, on
any machine, whether or not the plugin is installed there.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import Any

import numpy as np
import torch

from tmnre.analysis import Analysis, Marginal
from tmnre.files import checksum_of
from tmnre.plugin import GROUP
from tmnre.procedure import Procedure

PACKAGES = ("tmnre", "torch", "lightning", "numpy", "scipy")


def provenance(
    work: Analysis | Procedure, recipe: str, command: list[str], about: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Content of meta.json.  about: what the recipe says of itself, "summary", "papers" and settings "changed"."""
    return {
        "recipe": recipe,
        **(about or {}),
        "command": command,
        "seed": work.seed,
        "versions": versions(recipe),
        "python": platform.python_version(),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "cpus": os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "analysis": asked(work) if isinstance(work, Analysis) else {"procedure": _class(work)},
        "data": data(work.observation),
    }


def versions(recipe: str) -> dict[str, str]:
    """Of the core, of what it rests on, and of the plugin a recipe "plugin/name" belongs to."""
    found = {name: version(name) for name in PACKAGES}
    for entry in entry_points(group=GROUP, name=recipe.partition("/")[0]):
        try:
            if entry.dist is not None:
                found[entry.dist.name] = entry.dist.version
        except PackageNotFoundError:  # an interrupted pip leaves a distribution without METADATA
            continue
    return found


def asked(analysis: Analysis) -> dict[str, Any]:
    """Parameters with their priors, marginals, what is truncated, and the rounds planned."""
    prior, training = analysis.simulator.prior, analysis.training
    known = {*prior, *getattr(analysis.simulator, "derived", ())}
    return {
        "simulator": _class(analysis.simulator),
        "parameters": {name: str(distribution) for name, distribution in prior.items()},
        "labels": {name: label for name, label in analysis.labels.items() if name in known},
        "redrawn": list(getattr(analysis.simulator, "redrawn", ())),
        "derived": list(getattr(analysis.simulator, "derived", ())),
        "marginals": [_names(marginal) for marginal in analysis.marginals],
        "truncated": None if analysis.truncated is None else [_names(marginal) for marginal in analysis.truncated],
        "rounds": len(analysis.stages),
        "loss": training.loss,
        "balance": training.balance,
        "members": training.members,
        "distortions": sorted(analysis.distortions),
    }


def data(observation: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Shape, type, range and checksum of every array of an observation."""
    found = {}
    for name, values in (observation or {}).items():
        array = np.asarray(values)
        size = np.abs(array) if array.dtype.kind == "c" else array
        found[name] = {
            "shape": list(array.shape),
            "type": str(array.dtype),
            "smallest": float(size.min()) if array.size else None,
            "largest": float(size.max()) if array.size else None,
            "crc32": checksum_of(np.ascontiguousarray(array)),
        }
    return found


def _names(marginal: Marginal) -> list[str]:
    return [marginal] if isinstance(marginal, str) else list(marginal)


def _class(thing: Any) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"
