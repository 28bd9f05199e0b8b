"""Typed settings of a recipe from presets, YAML files and the command line.

jsonargparse was chosen over tyro: presets, YAML and command line pass through one typed parser, so a value is
accepted or
refused the same way wherever it comes from, and it is what Lightning's own command line uses.  The help text is
ours: one line
of type and default a setting, and under it the field's docstring with unit and reason.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import textwrap
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from tmnre.plugin import nearest
from tmnre.recipe import Recipe


class SettingsError(ValueError):
    """A setting is unknown or of the wrong type; one line that names it."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """One leaf of the settings: dotted name, type as written, default and docstring."""

    name: str
    type: str
    default: Any
    doc: str


def leaves(settings_type: type, prefix: str = "") -> Iterator[Setting]:
    """All settings of a (nested) dataclass type, in order."""
    docs, hints = field_docs(settings_type), typing.get_type_hints(settings_type)
    instance = settings_type()
    for field in dataclasses.fields(settings_type):
        value, hint = getattr(instance, field.name), hints[field.name]
        name = prefix + field.name
        if dataclasses.is_dataclass(hint):
            yield from (
                dataclasses.replace(leaf, default=_dig(value, leaf.name.removeprefix(name + ".")))
                for leaf in leaves(typing.cast(type, hint), name + ".")
            )
        else:
            written = (
                getattr(hint, "__name__", str(hint)) if isinstance(hint, type) and not typing.get_args(hint) else hint
            )
            yield Setting(name, str(written), value, docs.get(field.name, ""))


def _dig(value: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        value = getattr(value, part)
    return value


def field_docs(settings_type: type) -> dict[str, str]:
    """Docstrings written under the fields of a dataclass."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(settings_type))).body
    body = typing.cast(ast.ClassDef, tree).body
    return {
        before.target.id: inspect.cleandoc(after.value.value)
        for before, after in zip(body, body[1:], strict=False)
        if isinstance(before, ast.AnnAssign)
        and isinstance(before.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
        and isinstance(after.value.value, str)
    }


def parse(
    recipe: Recipe, arguments: Sequence[str] = (), *, config: Path | None = None, preset: str | None = None
) -> Any:
    """Settings of a recipe: defaults, then the preset, then the YAML file, then the command line's `--name value`.

    Raises SettingsError.
    """
    known = {leaf.name: leaf for leaf in leaves(recipe.settings)}
    pairs: list[tuple[str, str]] = []
    if preset is not None:
        if preset not in recipe.presets:
            raise SettingsError(f"no preset {preset!r}; {nearest(preset, recipe.presets)}")
        pairs += [(name, _text(value)) for name, value in recipe.presets[preset].items()]
    if config is not None:
        pairs += _flattened(_read_yaml(config), known, str(config))
    pairs += _split(arguments)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(recipe.settings)
    checked = []
    for name, text in pairs:
        name = name.replace("-", "_")
        if name not in known:
            raise SettingsError(f"unknown setting {name!r}; {nearest(name, known)}")
        checked.append(f"--{name}={text}")
        try:
            parser.parse_args([checked[-1]])
        except ArgumentError as error:
            raise SettingsError(f"setting {name}: expected {known[name].type}, got {text!r}") from error
    values = parser.instantiate(parser.parse_args(checked))
    return recipe.settings(**vars(values))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _split(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """(name, value) pairs of `--name value` and `--name=value`."""
    pairs, rest = [], list(arguments)
    while rest:
        option = rest.pop(0)
        if not option.startswith("--"):
            raise SettingsError(f"expected --setting VALUE, got {option!r}")
        name, equals, value = option[2:].partition("=")
        if not equals:
            if not rest or re.match(r"--[a-z]", rest[0]):
                raise SettingsError(f"setting {name} has no value; write --{name} VALUE")
            value = rest.pop(0)
        pairs.append((name, value))
    return pairs


def _read_yaml(path: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise SettingsError(f"cannot read configuration {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"configuration {path} is not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"configuration {path} must hold setting: value lines, it holds a {type(content).__name__}")
    return content


def _flattened(
    content: Mapping[str, Any], known: Mapping[str, Any], source: str, prefix: str = ""
) -> list[tuple[str, str]]:
    pairs = []
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and any(leaf.startswith(name + ".") for leaf in known):
            pairs += _flattened(value, known, source, name + ".")
        elif name not in known:
            raise SettingsError(f"unknown setting {name!r} in {source}; {nearest(name, known)}")
        else:
            pairs.append((name, _text(value)))
    return pairs


def dump(settings: Any) -> str:
    """YAML of all settings, which `parse(config=...)` reads back to the same."""
    return yaml.safe_dump(json.loads(json.dumps(dataclasses.asdict(settings))), sort_keys=False)


def help_text(recipe: Recipe) -> str:
    """Every setting with type and default, and below it what it is."""
    lines = []
    for leaf in leaves(recipe.settings):
        default = "none" if leaf.default is None else _text(leaf.default)
        lines += [f"  --{leaf.name} {leaf.type}  (default: {default})", f"        {leaf.doc}"]
    if recipe.presets:
        lines += ["", f"presets (--preset NAME): {', '.join(recipe.presets)}"]
    return "\n".join(lines)
