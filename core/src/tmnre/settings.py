"""Typed settings of a recipe from presets, YAML files and the command line.

jsonargparse was chosen over tyro: presets, YAML and command line pass through one typed parser, so a value is
accepted or refused the same way wherever it comes from, and it is what Lightning's own command line uses.  The help
text is ours: one line of type and default a setting, and under it the field's docstring with unit and reason.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
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

# YAML has its own null, numbers and dates, which a parser of text would take for words
TEXT: dict[str, tuple[type, ...]] = {"str": (str,), "str | None": (str, type(None))}


LARGEST = 1 << 20
"""bytes of a configuration"""


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
            plain = isinstance(hint, type) and not typing.get_args(hint)
            written = hint.__name__ if plain else re.sub(r"\b(typing|pathlib)\.", "", str(hint))
            yield Setting(name, written, value, docs.get(field.name, ""))


def _dig(value: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        value = getattr(value, part)
    return value


def field_docs(settings_type: type) -> dict[str, str]:
    """Docstrings written under the fields of a dataclass and of those it inherits from."""
    docs: dict[str, str] = {}
    for base in reversed(settings_type.__mro__):
        if dataclasses.is_dataclass(base):
            docs.update(_own_field_docs(base))
    return docs


def _own_field_docs(settings_type: type) -> dict[str, str]:
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(settings_type))).body
    except (OSError, TypeError):  # a class typed into a console has no source
        return {}
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
    given: list[tuple[str, Any, str]] = []
    if preset is not None:
        if preset not in recipe.presets:
            raise SettingsError(f"no preset {preset!r}; {nearest(preset, recipe.presets)}")
        given += [(name, value, f" (in preset {preset})") for name, value in recipe.presets[preset].items()]
    if config is not None:
        given += [(name, value, f" (in {config})") for name, value in _flattened(_read_yaml(config), known)]
    given += [(name.replace("-", "_"), text, "") for name, text in _split(arguments)]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(recipe.settings)
    options = []
    for name, value, source in given:
        if name not in known:
            raise SettingsError(_unknown(name, known, source))
        if not isinstance(value, TEXT.get(known[name].type, object)):
            raise SettingsError(_of_wrong_type(known[name], value, source))
        options.append(f"--{name}={_text(value)}")
    try:
        values = parser.parse_args(options)
    except ArgumentError as error:
        # the parser takes as long over one option as over all
        for option, (name, value, source) in zip(options, given, strict=True):
            if not _accepts(parser, option):
                raise SettingsError(_of_wrong_type(known[name], value, source)) from None
        raise SettingsError(str(error)) from error
    return recipe.settings(**vars(parser.instantiate(values)))


def _accepts(parser: ArgumentParser, option: str) -> bool:
    try:
        parser.parse_args([option])
    except ArgumentError:
        return False
    return True


def _of_wrong_type(setting: Setting, value: Any, source: str) -> str:
    return f"setting {setting.name}: expected {setting.type}, got {value!r}{source}"


def _unknown(name: str, known: Mapping[str, Setting], source: str) -> str:
    members = [other for other in known if other.startswith(name + ".")]
    if members:
        return f"unknown setting {name!r}, which is a group: set {', '.join(members)}{source}"
    return f"unknown setting {name!r}; {nearest(name, known)}{source}"


def _text(value: Any) -> str:
    """The value as YAML on one line, which is what the typed parser reads; strings as they are."""
    if isinstance(value, str | Path):
        return str(value)
    written: str = yaml.safe_dump(_plain(value), default_flow_style=True, width=float("inf"))
    return written.removesuffix("\n").removesuffix("\n...")


def _plain(value: Any) -> Any:
    """Lists, dicts, strings and numbers in place of tuples and paths, which safe YAML does not know."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _split(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """(name, value) pairs of `--name value` and `--name=value`."""
    pairs, rest = [], list(arguments)
    while rest:
        option = rest.pop(0)
        if not option.startswith("--"):
            raise SettingsError(f"expected --setting VALUE, got {option!r}")
        name, equals, value = option[2:].partition("=")
        if not equals:
            if not rest or re.match(r"--[A-Za-z_]", rest[0]):
                raise SettingsError(f"setting {name} has no value; write --{name} VALUE")
            value = rest.pop(0)
        pairs.append((name, value))
    return pairs


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases, which can unfold to more than memory holds, and without keys given twice."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed, write the value again")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.YAMLError(f"{twice[0]} is set twice")
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> Mapping[str, Any]:
    try:
        if path.exists() and not path.is_file():
            raise SettingsError(f"cannot read configuration {path}: it is no file")
        if path.stat().st_size > LARGEST:
            raise SettingsError(
                f"configuration {path} has {path.stat().st_size} bytes; settings take no more than {LARGEST}"
            )
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a safe loader
    except OSError as error:
        raise SettingsError(f"cannot read configuration {path}: {error.strerror}") from error
    except SettingsError:
        raise
    # what is no date or number raises ValueError in PyYAML's constructors; too many brackets are too deep for it
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise SettingsError(f"configuration {path} is not YAML of settings: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"configuration {path} must hold setting: value lines, it holds a {type(content).__name__}")
    return content


def _flattened(content: Mapping[str, Any], known: Mapping[str, Setting], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        name = f"{prefix}{key}"
        # a mapping that is neither a setting nor empty is a group, known or not; its members are checked by name
        if isinstance(value, dict) and value and name not in known:
            yield from _flattened(value, known, name + ".")
        else:
            yield name, value


def dump(settings: Any) -> str:
    """YAML of all settings, which `parse(config=...)` reads back to the same."""
    written: str = yaml.safe_dump(_plain(dataclasses.asdict(settings)), sort_keys=False, allow_unicode=True)
    return written


def changed(recipe: Recipe, settings: Any) -> dict[str, Any]:
    """{dotted name: value} of the settings that differ from the recipe's defaults, in what YAML knows."""
    return {
        leaf.name: _plain(value)
        for leaf in leaves(recipe.settings)
        if (value := _dig(settings, leaf.name)) != leaf.default
    }


def help_text(recipe: Recipe) -> str:
    """Every setting with type and default, and below it what it is."""
    lines = []
    for leaf in leaves(recipe.settings):
        default = "none" if leaf.default is None else _text(leaf.default)
        lines += [f"  --{leaf.name} {leaf.type}  (default: {default})", textwrap.indent(leaf.doc, " " * 8)]
    if recipe.presets:
        lines += ["", f"presets (--preset NAME): {', '.join(recipe.presets)}"]
    return "\n".join(lines)
