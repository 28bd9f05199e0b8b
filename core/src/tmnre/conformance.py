"""The conformance kit that plugin authors run: `tmnre check PLUGIN`.

Every finding that failed says what to do.  A recipe whose files are not there is reported as skipped, with the reason.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from tmnre import settings as typed
from tmnre.analysis import Analysis
from tmnre.plugin import PluginError, find_plugin, find_recipe
from tmnre.procedure import Place, Procedure
from tmnre.recipe import Recipe
from tmnre.result import Result
from tmnre.simulate import finite_rows
from tmnre.simulator import Simulator, Tensors, adopt, as_tensors

ROWS = 5
# settings of these names would be taken for options of `tmnre run`
RESERVED = {"out", "config", "preset", "debug", "help"}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One check: where, what, and how it ended ("passed", "FAILED", "skipped") with the reason."""

    recipe: str
    check: str
    state: str
    message: str = ""

    def __str__(self) -> str:
        return f"{self.state:8s}{self.recipe:24s}{self.check}" + (f": {self.message}" if self.message else "")


def check(plugin_name: str) -> list[Finding]:
    """All findings for a plugin; raises PluginError when it is not installed or cannot be loaded."""
    plugin = find_plugin(plugin_name)
    findings = [_run(plugin_name, "discovery is light", _discovery_is_light, plugin_name)]
    for name in plugin.recipes:
        full = f"{plugin_name}/{name}"
        try:
            recipe = find_recipe(full)
        except PluginError as error:
            findings.append(Finding(full, "imports", "FAILED", str(error)))
            continue
        findings.append(Finding(full, "imports", "passed"))
        findings += [_run(full, title, test, recipe) for title, test in RECIPE_CHECKS]
        try:
            preset = "smoke" if "smoke" in recipe.presets else None
            analysis = recipe.build(typed.parse(recipe, preset=preset))
        except FileNotFoundError as error:
            findings.append(Finding(full, "builds", "skipped", str(error)))
            continue
        except Exception as error:  # an author's build can raise anything
            findings.append(Finding(full, "builds", "FAILED", f"{type(error).__name__}: {error}"))
            continue
        if isinstance(analysis, Procedure):
            findings.append(Finding(full, "builds", "passed"))
            findings.append(_run(full, "runs", _procedure_runs, analysis))
            continue
        if not isinstance(analysis, Analysis):
            wrong = f"build must return a tmnre.Analysis or a tmnre.Procedure, got {type(analysis).__name__}"
            findings.append(Finding(full, "builds", "FAILED", wrong))
            continue
        findings.append(Finding(full, "builds", "passed"))
        findings += [_run(full, title, test, analysis) for title, test in ANALYSIS_CHECKS]
    return findings


def _run(recipe: str, title: str, test: Callable[[Any], Iterator[str]], subject: Any) -> Finding:
    try:
        problem = next(test(subject), None)
    except Exception as error:  # a check that cannot even run has found something
        problem = f"raised {type(error).__name__}: {error}"
    return Finding(recipe, title, "FAILED" if problem else "passed", problem or "")


# each check yields what is wrong


def _discovery_is_light(plugin_name: str) -> Iterator[str]:
    # in a fresh interpreter: this one has everything loaded already
    script = (
        "import sys; from tmnre.plugin import GROUP, entry_points\n"
        f"[entry.load() for entry in entry_points(group=GROUP, name={plugin_name!r})]\n"
        "sys.exit('numpy' in sys.modules)"
    )
    if subprocess.run([sys.executable, "-c", script], capture_output=True).returncode:
        yield "the entry point's module imports numpy or something that does; import it in the recipe's module only"


def _settings_are_documented(recipe: Recipe) -> Iterator[str]:
    parameters = getattr(recipe.settings, "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        yield f"{recipe.settings.__name__} must be a frozen dataclass: @dataclass(frozen=True)"
    for leaf in typed.leaves(recipe.settings):
        if leaf.name in RESERVED:
            yield f"setting {leaf.name} has the name of an option of `tmnre run`; rename it"
        if not leaf.doc:
            yield f"setting {leaf.name} has no docstring; write one under the field, with unit and reason"


def _presets_parse(recipe: Recipe) -> Iterator[str]:
    for preset in (None, *recipe.presets):
        settings = typed.parse(recipe, preset=preset)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "config.yaml"
            path.write_text(typed.dump(settings))
            if typed.parse(recipe, config=path) != settings:
                yield f"preset {preset} does not survive YAML; use plain numbers, strings, tuples and dataclasses"


def _papers_are_there(recipe: Recipe) -> Iterator[str]:
    if not recipe.papers or not all(paper.lstrip().startswith("@") for paper in recipe.papers):
        yield "papers must hold at least one BibTeX entry"


def _simulated(simulator: Simulator, n: int, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    theta = simulator.prior.sample(n, np.random.default_rng(0))
    return theta, {k: np.asarray(v) for k, v in simulator.simulate(theta, np.random.default_rng(seed)).items()}


def _simulate_is_sound(analysis: Analysis) -> Iterator[str]:
    simulator = adopt(analysis.simulator)
    theta = simulator.prior.sample(ROWS, np.random.default_rng(0))
    plain = simulator.simulate(theta, np.random.default_rng(1))
    if not isinstance(plain, dict) or not plain:
        yield f'simulate must return a dict of arrays, for example {{"x": x}}, got {type(plain).__name__}'
    stored = {name: np.asarray(array) for name, array in plain.items()}
    for name, array in stored.items():
        if array.shape[:1] != (ROWS,):
            yield f"simulate must return {name!r} with {ROWS} rows, one per row of theta, got shape {array.shape}"
    if not finite_rows(stored).all():
        yield "simulate returned NaN or infinite values within the prior; mend it or narrow the prior"
    again = _simulated(simulator, ROWS, 1)[1]
    if any(not np.array_equal(stored[k], again[k]) for k in stored):
        yield "simulate gives different results for the same seed; draw all randomness from the rng it is given"
    _simulated(simulator, ROWS, 2)
    try:
        one = simulator.simulate(theta[:1], np.random.default_rng(1))
    except Exception as error:  # typically an axis squeezed away
        yield f"simulate fails for a single row of theta ({type(error).__name__}: {error}); keep the batch axis"
        return
    if any(np.shape(one[k]) != (1, *stored[k].shape[1:]) for k in stored):
        yield "simulate changes shape for a single row of theta; keep the batch axis"


def _redrawn_are_not_simulated(analysis: Analysis) -> Iterator[str]:
    simulator = adopt(analysis.simulator)
    theta, stored = _simulated(simulator, ROWS, 1)
    other = simulator.prior.sample(ROWS, np.random.default_rng(5))
    columns = simulator.prior.columns(simulator.redrawn)
    moved = theta.copy()
    moved[:, columns] = other[:, columns]
    again = simulator.simulate(moved, np.random.default_rng(1))
    if any(not np.array_equal(stored[k], again[k]) for k in stored):
        yield f"simulate depends on {simulator.redrawn}, which are declared redrawn; use them in observe only"


def _observed(simulator: Simulator, seed: int) -> tuple[torch.Tensor, Tensors, Tensors]:
    theta, stored = _simulated(simulator, ROWS, 1)
    tensors = as_tensors(stored)
    at = torch.from_numpy(theta)
    return at, tensors, simulator.observe(tensors, at, torch.Generator().manual_seed(seed))


def _observe_is_sound(analysis: Analysis) -> Iterator[str]:
    simulator = adopt(analysis.simulator)
    _, _, x = _observed(simulator, 1)
    observation = as_tensors(analysis.observation)
    if set(observation) != set(x):
        yield f"the observation has arrays {sorted(observation)}, observe returns {sorted(x)}; give the same names"
    for name, array in observation.items():
        if not _finite(array):
            yield f"the observation {name!r} holds NaN or infinite values; mask or fill them in build"
    for name, array in x.items():
        if len(array) != ROWS or array.dtype not in (torch.float32, torch.complex64, torch.int64, torch.int32):
            found = f"{array.dtype} {tuple(array.shape)}"
            yield f"observe must return {name!r} as float32 or complex64 with {ROWS} rows, got {found}"
        if observation[name].shape != array.shape[1:]:
            shapes = f"{tuple(observation[name].shape)}, not {tuple(array.shape[1:])}"
            yield f"the observation {name!r} has shape {shapes}; it must look like one row of observe, no batch axis"
        if not _finite(array):
            yield f"observe returned NaN or infinite values in {name!r}"
    same, other = _observed(simulator, 1)[2], _observed(simulator, 2)[2]
    if any(not torch.equal(x[k], same[k]) for k in x):
        yield "observe gives different data for the same generator; draw all noise from it"
    if simulator.redraws_noise and all(torch.equal(x[k], other[k]) for k in x):
        yield "observe gives the same data for two generators; it must add the noise"


def _finite(array: torch.Tensor) -> bool:
    return bool(torch.isfinite(torch.view_as_real(array) if array.is_complex() else array).all())


def _derived_are_sound(analysis: Analysis) -> Iterator[str]:
    simulator = adopt(analysis.simulator)
    at, stored, _ = _observed(simulator, 1)
    derived = simulator.derive(at, stored)
    if set(derived) != set(simulator.derived):
        yield f"derive returns {sorted(derived)}, but `derived` declares {sorted(simulator.derived)}"
    if not derived:
        return
    single = simulator.derive(at[2:3], {k: v[2:3] for k, v in stored.items()})
    for name, values in derived.items():
        if values.shape != (ROWS,) or not torch.isfinite(values).all():
            yield f"derived {name!r} must be finite with shape ({ROWS},), got {tuple(values.shape)}"
        elif not torch.allclose(values[2:3], single[name], rtol=1e-5):
            yield f"derived {name!r} of one row changes with the other rows of the batch"


def _marginals_exist(analysis: Analysis) -> Iterator[str]:
    simulator = adopt(analysis.simulator)
    known = {*simulator.prior.names, *simulator.derived}
    for marginal in (*analysis.marginals, *(analysis.truncated or ())):
        unknown = {marginal} - known if isinstance(marginal, str) else set(marginal) - known
        if unknown:
            yield f"marginal {marginal} names {sorted(unknown)}, but the simulator has {sorted(known)}"


def _procedure_runs(procedure: Procedure) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        quiet = partial(tqdm, disable=True)
        result = procedure.run(Place(Path(folder), progress=quiet, say=lambda _: None))
    if not isinstance(result, Result):
        yield f"run must return a tmnre.Result, got {type(result).__name__}"
    try:
        json.dumps(dict(result.extra))
    except TypeError as error:
        yield f"the result's extra goes to summary.json, which cannot hold it: {error}; use numbers, strings and lists"


RECIPE_CHECKS = (
    ("settings are frozen and documented", _settings_are_documented),
    ("presets parse and survive YAML", _presets_parse),
    ("papers are given", _papers_are_there),
)
ANALYSIS_CHECKS = (
    ("simulate is sound", _simulate_is_sound),
    ("redrawn parameters are not simulated", _redrawn_are_not_simulated),
    ("observe is sound", _observe_is_sound),
    ("derived quantities are sound", _derived_are_sound),
    ("marginals exist", _marginals_exist),
)
