"""The plugin contract, and discovery through entry points of the group `tmnre.plugins`.

A plugin is one light object that names its recipes as import strings.  Whatever is wrong with one plugin is an error
of that plugin alone; the others go on working.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tmnre.recipe import Recipe

API_VERSION = 1
GROUP = "tmnre.plugins"


class PluginError(Exception):
    """A plugin is missing, broken, claimed twice or built for another version; the message says what to do."""


@dataclass(frozen=True)
class RecipeEntry:
    """Where a recipe is, as "module:object", and what it does in one line."""

    target: str
    summary: str


@dataclass(frozen=True)
class Plugin:
    """What an entry point returns.  Its module must not import anything heavy.

    Attributes
    ----------
    name : as in `tmnre run name/recipe`; the entry point has the same name.
    api : the `API_VERSION` it was written for.
    """

    name: str
    api: int
    summary: str
    recipes: Mapping[str, RecipeEntry] = field(default_factory=dict)


def discover() -> tuple[dict[str, Plugin], dict[str, PluginError]]:
    """Installed plugins that work, and what is wrong with those that do not, both by name."""
    by_name: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=GROUP):
        claims = by_name.setdefault(entry.name, [])
        # an editable install may list the same distribution twice
        if all(_owner(entry) != _owner(other) for other in claims):
            claims.append(entry)
    plugins: dict[str, Plugin] = {}
    problems: dict[str, PluginError] = {}
    for name, entries in sorted(by_name.items()):
        try:
            plugins[name] = _load(name, entries)
        except PluginError as error:
            problems[name] = error
    return plugins, problems


def _owner(entry: EntryPoint) -> str:
    try:
        return str(entry.dist.name) if entry.dist is not None else entry.value
    except Exception:  # an interrupted pip leaves a distribution without METADATA
        return entry.value


def _load(name: str, entries: list[EntryPoint]) -> Plugin:
    if len(entries) > 1:
        owners = " and ".join(sorted(_owner(entry) for entry in entries))
        raise PluginError(f"plugin {name!r} is claimed by {owners}; uninstall all but one")
    (entry,) = entries
    try:
        plugin = entry.load()
    except (Exception, SystemExit) as error:  # whatever an import can raise is the plugin's problem, not ours
        raise PluginError(
            f"plugin {name!r} ({_owner(entry)}) cannot be loaded: {_reason(error)}; "
            f"try pip install --force-reinstall {_owner(entry)}"
        ) from error
    if not isinstance(plugin, Plugin):
        raise PluginError(
            f"plugin {name!r} ({_owner(entry)}): {entry.value} is a {type(plugin).__name__}, expected a tmnre.Plugin"
        )
    if plugin.api != API_VERSION:
        newer = "tmnre" if isinstance(plugin.api, int) and plugin.api > API_VERSION else _owner(entry)
        raise PluginError(
            f"plugin {name!r} ({_owner(entry)}) is written for plugin API {plugin.api!r}, this tmnre "
            f"speaks {API_VERSION}; pip install --upgrade {newer}"
        )
    if plugin.name != name:
        raise PluginError(f"plugin {name!r} ({_owner(entry)}) calls itself {plugin.name!r}; the two names must agree")
    if not isinstance(plugin.recipes, Mapping) or not all(isinstance(r, RecipeEntry) for r in plugin.recipes.values()):
        raise PluginError(f"plugin {name!r} ({_owner(entry)}): recipes must map names to RecipeEntry(target, summary)")
    return plugin


def _reason(error: BaseException) -> str:
    """Kind and message of an exception, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def nearest(name: str, known: Iterable[str]) -> str:
    """ "did you mean X?" for the closest known name; where none is close, all names, or the three least far of many.

    Dotted names are close when they end alike: `h1` for `strain.h1`.
    """
    known = sorted(known)
    same_end = [other for other in known if other.rpartition(".")[2] == name.rpartition(".")[2]]
    close = difflib.get_close_matches(name, same_end or known, 1, 0.0 if same_end else 0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    if len(known) > 8:
        return f"the nearest are: {', '.join(difflib.get_close_matches(name, known, 3, 0.0))}"
    return f"there are: {', '.join(known) or 'none'}"


def find_plugin(name: str) -> Plugin:
    """An installed plugin by name; raises its PluginError, or one that says how to install it."""
    plugins, problems = discover()
    if name in problems:
        raise problems[name]
    if name not in plugins:
        installed = ", ".join(sorted({*plugins, *problems})) or "none"
        close = difflib.get_close_matches(name, plugins, 1, 0.5)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise PluginError(f"no plugin {name!r}; pip install tmnre-{name} (installed: {installed}{hint})")
    return plugins[name]


def find_recipe(name: str) -> Recipe:
    """The recipe "plugin/recipe", its module imported now.

    Raises PluginError when there is none, or when it cannot be imported.
    """
    plugin_name, slash, recipe_name = name.partition("/")
    if not (plugin_name and slash and recipe_name) or plugin_name.startswith("."):
        raise PluginError(f"a recipe is named plugin/recipe, for example gw/demo; got {name!r}")
    plugin = find_plugin(plugin_name)
    if recipe_name not in plugin.recipes:
        raise PluginError(
            f"plugin {plugin_name!r} has no recipe {recipe_name!r}; {nearest(recipe_name, plugin.recipes)}"
        )
    from tmnre.recipe import Recipe

    module, _, attribute = plugin.recipes[recipe_name].target.partition(":")
    try:
        recipe = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:  # as above: an import can raise anything
        raise PluginError(f"recipe {name} cannot be imported: {_reason(error)}") from error
    if not isinstance(recipe, Recipe):
        raise PluginError(f"recipe {name}: {module}:{attribute} is a {type(recipe).__name__}, expected a tmnre.Recipe")
    return recipe
