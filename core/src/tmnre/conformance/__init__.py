"""The conformance kit that plugin authors run: `tmnre check PLUGIN`, or `tmnre check PLUGIN/RECIPE`.

Every finding that failed says what to do.  A recipe whose files are not there is reported as skipped, with the reason.
Checks yield what is wrong, in the order in which it should be mended; the first is reported.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tmnre import settings as typed
from tmnre.analysis import Analysis
from tmnre.conformance.embeddings import EMBEDDING_CHECKS
from tmnre.conformance.recipes import RECIPE_CHECKS
from tmnre.conformance.simulators import SIMULATOR_CHECKS
from tmnre.conformance.smoke import smoke_runs
from tmnre.plugin import PluginError, find_plugin, find_recipe
from tmnre.procedure import Procedure

SMOKE = "smoke"


@dataclass(frozen=True)
class Finding:
    """One check: where, what, and how it ended ("passed", "FAILED", "skipped") with the reason."""

    recipe: str
    check: str
    state: str
    message: str = ""

    def __str__(self) -> str:
        return f"{self.state:8s}{self.recipe:24s}{self.check}" + (f": {self.message}" if self.message else "")


def check(name: str, *, smoke: bool = True) -> Iterator[Finding]:
    """All findings for a plugin, or for one recipe "plugin/recipe", as they are made; if asked, without smoke runs.

    Raises PluginError when it is not installed or cannot be loaded.
    """
    plugin_name, slash, _ = name.partition("/")
    plugin = find_plugin(plugin_name)
    if slash:
        find_recipe(name)
        yield from _recipe(name, smoke)
        return
    yield _run(plugin_name, "discovery is light", _discovery_is_light, plugin_name)
    if not plugin.recipes:
        yield Finding(plugin_name, "has recipes", "FAILED", "name at least one RecipeEntry in Plugin(recipes=...)")
    for recipe in plugin.recipes:
        yield from _recipe(f"{plugin_name}/{recipe}", smoke)


def _recipe(name: str, smoke: bool) -> Iterator[Finding]:
    try:
        recipe = find_recipe(name)
    except PluginError as error:
        yield Finding(name, "imports", "FAILED", str(error))
        return
    yield Finding(name, "imports", "passed")
    for title, test in RECIPE_CHECKS:
        yield _run(name, title, test, recipe)
    if SMOKE not in recipe.presets:
        advice = f'add presets={{"{SMOKE}": {{...}}}} to the Recipe: small settings with which it runs in seconds'
        yield Finding(name, "smoke preset runs", "FAILED", advice)
    try:
        work = recipe.build(typed.parse(recipe, preset=SMOKE if SMOKE in recipe.presets else None))
    except FileNotFoundError as error:
        yield Finding(name, "builds", "skipped", str(error))
        return
    except Exception as error:  # an author's build can raise anything
        yield Finding(name, "builds", "FAILED", f"{type(error).__name__}: {error}")
        return
    if not isinstance(work, Analysis | Procedure):
        wrong = f"build must return a tmnre.Analysis or a tmnre.Procedure, got {type(work).__name__}"
        yield Finding(name, "builds", "FAILED", wrong)
        return
    yield Finding(name, "builds", "passed")
    if isinstance(work, Analysis):
        for title, of_analysis in (*SIMULATOR_CHECKS, *EMBEDDING_CHECKS):
            yield _run(name, title, of_analysis, work)
    if smoke and SMOKE in recipe.presets:
        yield _run(name, "smoke preset runs", smoke_runs, (name, recipe, work))


def _run(recipe: str, title: str, test: Callable[[Any], Iterator[str]], subject: Any) -> Finding:
    try:
        problem = next(test(subject), None)
    except Exception as error:  # a check that cannot even run has found something
        problem = f"raised {type(error).__name__}: {error}"
    return Finding(recipe, title, "FAILED" if problem else "passed", problem or "")


def _discovery_is_light(plugin_name: str) -> Iterator[str]:
    # in a fresh interpreter: this one has everything loaded already
    script = (
        "import sys; from tmnre.plugin import GROUP, entry_points\n"
        f"[entry.load() for entry in entry_points(group=GROUP, name={plugin_name!r})]\n"
        "sys.exit('numpy' in sys.modules)"
    )
    if subprocess.run([sys.executable, "-c", script], capture_output=True).returncode:
        yield "the entry point's module imports numpy or something that does; import it in the recipe's module only"


__all__ = ["Finding", "check"]
