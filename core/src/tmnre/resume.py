"""What a folder must hold for a run to go on in it: this analysis's simulations, and rounds that are whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tmnre.analysis import Analysis
from tmnre.files import checksum, mismatch, read_json, write_json
from tmnre.simulator import Simulator

CLAIM, DONE = "analysis.json", "DONE"
PROJECTIONS, ALIKE = 4, 1e-6
"""random vectors that data are compared along, and what rounding on another machine may change there"""


def claim(folder: Path, analysis: Analysis, simulator: Simulator) -> None:
    """Make the folder this analysis's own; raises ValueError where its simulations or data are another's."""
    plain, prior = type(analysis.simulator), simulator.prior
    quantiles = prior.from_cube(np.array([[0.1], [0.5], [0.9]]) * np.ones(len(prior)))
    identity = {
        "simulator": f"{plain.__module__}.{plain.__qualname__}",
        "prior quantiles": dict(zip(prior.names, quantiles.T.tolist(), strict=True)),
        "constraints": {name: list(bounds) for name, bounds in simulator.constraints.items()},
        "seed": analysis.seed,
        "shard_size": analysis.shard_size,
    }
    data = {name: fingerprint(array) for name, array in analysis.observation.items()}
    path = folder / CLAIM
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {**identity, "observation": data})
        return
    there = read_json(path)
    began = there.get("observation", {})
    for name in sorted({*began, *data}):
        if not np.allclose(began.get(name, np.nan), data.get(name, np.nan), rtol=0, atol=ALIKE):
            raise ValueError(
                f"{folder} holds an analysis of other data: {name!r} of the observation is not what it began with; "
                "give it the same data files and settings, or choose another folder"
            )
    for name, value in identity.items():
        if there.get(name) != value:
            raise ValueError(
                f"{folder} holds an analysis with {name} {there.get(name)}, this one has {value}; choose another folder"
            )


def fingerprint(array: np.ndarray) -> list[float]:
    """What tells arrays apart but for rounding: log of the norm, and directions of random vectors to the array."""
    values = np.atleast_1d(np.asarray(array)).ravel()
    values = values.astype(complex).view(float) if values.dtype.kind == "c" else values.astype(float)
    norm = float(np.linalg.norm(values))
    rng = np.random.default_rng(len(values))
    along = [float(rng.choice([-1.0, 1.0], len(values)) @ values) / (norm or 1.0) for _ in range(PROJECTIONS)]
    return [float(np.log(norm or 1.0)), *along]


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
