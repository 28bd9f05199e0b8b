"""A recipe: frozen settings whose defaults are the preset, a function that composes the analysis, and its papers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tmnre.analysis import Analysis
    from tmnre.procedure import Procedure


@dataclass(frozen=True)
class Recipe:
    """A ready analysis.

    Attributes
    ----------
    settings : frozen dataclass; nested dataclasses group settings, every field has a docstring with unit and reason.
    build : settings -> Analysis, or a Procedure where there is more to do than the rounds of one; reads and checks
        every file, raises ValueError or OSError with what to do.
    papers : BibTeX entries.
    also : settings -> BibTeX entries of what only some settings use.
    presets : {name: {dotted setting: value}}, changes against the defaults; "smoke" is the one `tmnre check` runs.
    """

    settings: type
    build: Callable[[Any], Analysis | Procedure]
    papers: tuple[str, ...]
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    summary: str = ""
    also: Callable[[Any], tuple[str, ...]] = lambda settings: ()
