"""Checks of a recipe that need no data: settings, presets, papers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tmnre import citations
from tmnre import settings as typed
from tmnre.recipe import Recipe

# settings of these names would be taken for options of `tmnre run`
RESERVED = {"out", "config", "preset", "debug", "help", "executor", "memory_gib", "disk_gib"} | {
    *("quiet", "json", "strict", "log_file", "dry_run")
}


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
    for found in citations.entries(recipe.papers):
        missing = [what for what in ("title", "year") if not found[what]]
        if missing or not found["who"]:
            entry = " ".join(found["bibtex"].split())[:60]
            yield f"the BibTeX entry {entry!r} lacks {', '.join(missing or ['author'])}; complete it"


RECIPE_CHECKS: tuple[tuple[str, Callable[[Recipe], Iterator[str]]], ...] = (
    ("settings are frozen and documented", _settings_are_documented),
    ("presets parse and survive YAML", _presets_parse),
    ("papers are given", _papers_are_there),
)
