"""The smoke preset, run as a user would: results, bounds, figures, page; then computed again from what it left."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tmnre.analysis import Analysis
from tmnre.procedure import Place, Procedure
from tmnre.recipe import Recipe
from tmnre.result import Result
from tmnre.run import execute, steps
from tmnre.simulator import adopt
from tmnre.store import Store


def smoke_runs(subject: tuple[str, Recipe, Analysis | Procedure]) -> Iterator[str]:
    """Run it in a folder that is removed afterwards, and compute the result once more from the finished rounds."""
    name, recipe, work = subject
    said: list[str] = []
    how: dict[str, Any] = {"progress": partial(tqdm, disable=True), "say": said.append}
    about = {"summary": recipe.summary, "papers": list(recipe.papers)}
    with tempfile.TemporaryDirectory(prefix="tmnre-") as folder:
        out = Path(folder) / "run"
        try:
            result = execute(work, out, config="", recipe=name, command=["tmnre", "check"], about=about, **how)
        except TypeError as error:
            if "JSON" not in str(error):
                raise
            yield f"the result's extra goes to summary.json, which cannot hold it: {error}; use numbers, strings, lists"
            return
        if not result.marginals and not result.extra:
            yield "the result holds neither marginals nor anything else"
        if not result.simulations:
            yield "the result counts no simulations; give a procedure's Result its rounds or further_simulations"
        if isinstance(work, Analysis):
            yield from _bounds_are_respected(work, result, out)
        json.loads((out / "summary.json").read_text(), parse_constant=_no_constant)
        for figure in (out / "figures").iterdir():
            if figure.suffix == ".png" and figure.read_bytes()[:8] != b"\x89PNG\r\n\x1a\n":
                yield f"figures/{figure.name} is not a PNG; write it with savefig"
        if not (out / "report.html").is_file():
            yield f"there is no report.html: {[line for line in said if 'report.html' in line][-1:]}"
        again = steps(work, Place(out, **how))()
        for key, marginal in result.marginals.items():
            if not np.array_equal(marginal.samples, again.marginals[key].samples):
                yield f"resumed, a finished run gives other samples of {key}; all randomness must follow from the seed"


def _no_constant(name: str) -> float:
    raise ValueError(f"summary.json holds {name}, which is no JSON; leave what is not finite out of the result's extra")


def _bounds_are_respected(analysis: Analysis, result: Result, out: Path) -> Iterator[str]:
    simulator = adopt(analysis.simulator)
    bounds = {name: d.support for name, d in simulator.prior.items()} | dict(simulator.constraints)
    for key, marginal in result.marginals.items():
        for name, column in zip(key, marginal.samples.T, strict=True):
            low, high = bounds.get(name, (-np.inf, np.inf))
            margin = 1e-6 * max(abs(low), abs(high), 1e-300) if np.isfinite([low, high]).all() else 0.0
            if column.min() < low - margin or column.max() > high + margin:
                found = f"{column.min():.6g} to {column.max():.6g}"
                yield f"samples of {name} reach from {found}, outside its prior {low:.6g} to {high:.6g}"
    store = Store(out / "store")
    for record in result.rounds:
        number, cube = record["round"], record["region"]["cube"]
        for shard in store.shards(number + 1, from_round=number):
            u = np.load(shard / "u.npy", allow_pickle=False)
            edges = np.array([cube[name] for name in simulator.prior.names])
            if (u < edges[:, 0] - 1e-9).any() or (u > edges[:, 1] + 1e-9).any():
                yield f"simulations of round {number} lie outside the truncated region"
