"""What a folder must hold for a run to go on in it: this analysis's simulations, and rounds that are whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tmnre.analysis import Analysis
from tmnre.files import checksum, mismatch, read_json, write_json
from tmnre.simulator import Simulator

CLAIM, DONE = "analysis.json", "DONE"


def claim(folder: Path, analysis: Analysis, simulator: Simulator) -> None:
    """Make the folder this analysis's own; raises ValueError where its simulations are another's."""
    plain, prior = type(analysis.simulator), simulator.prior
    quantiles = prior.from_cube(np.array([[0.1], [0.5], [0.9]]) * np.ones(len(prior)))
    identity = {
        "simulator": f"{plain.__module__}.{plain.__qualname__}",
        "prior quantiles": dict(zip(prior.names, quantiles.T.tolist(), strict=True)),
        "constraints": {name: list(bounds) for name, bounds in simulator.constraints.items()},
        "seed": analysis.seed,
        "shard_size": analysis.shard_size,
    }
    path = folder / CLAIM
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, identity)
        return
    there = read_json(path)
    for name, value in identity.items():
        if there.get(name) != value:
            raise ValueError(
                f"{folder} holds an analysis with {name} {there.get(name)}, this one has {value}; choose another folder"
            )


def mark_done(folder: Path, names: tuple[str, ...]) -> None:
    """Say that a round is finished, with the checksums of its files."""
    write_json(folder / DONE, {name: checksum(folder / name) for name in names})


def is_done(folder: Path, say: Callable[[str], None]) -> bool:
    """Whether a round's folder is finished and whole; says what is damaged, and then it is not."""
    done = folder / DONE
    if not done.exists():
        return False
    try:
        damaged = mismatch(folder, read_json(done))
    except ValueError:
        damaged = DONE
    if damaged:
        say(f"{folder / damaged} is missing or does not match its checksum; the round is repeated")
        done.unlink()
    return not damaged
