"""`tmnre new-plugin NAME`: an installable plugin to start from, a real one that measures a radioactive half-life.

The template is itself a working package, named `tmnre_example`; names are replaced, nothing else.
"""

from __future__ import annotations

import keyword
import re
import shutil
import sys
import tempfile
from importlib.resources import as_file, files
from pathlib import Path

from tmnre.plugin import discover

EXAMPLE = "example"
TEXT = {".py", ".toml", ".md"}


def create(name: str, into: Path) -> Path:
    """Write the folder tmnre-NAME below `into` and return it.

    Raises ValueError when the name is no name for a plugin, is taken, or the folder is there already.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) or keyword.iskeyword(name):
        raise ValueError(f"{name!r} is no name for a plugin; use small letters, digits and _, beginning with a letter")
    plugins, problems = discover()
    if name in plugins or name in problems or name in sys.stdlib_module_names or name == EXAMPLE:
        raise ValueError(f"a plugin or module {name!r} exists already; choose another name")
    target = Path(into) / f"tmnre-{name.replace('_', '-')}"
    if target.exists():
        raise ValueError(f"{target} exists already; choose another name or folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix=".tmnre-", dir=target.parent) as temporary,
        as_file(files("tmnre") / "template") as template,
    ):
        made = Path(temporary) / target.name
        shutil.copytree(template, made, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        for path in sorted(made.rglob("*"), reverse=True):  # children before their folders
            if path.is_file() and path.suffix in TEXT:
                path.write_text(_renamed(path.read_text(), name))
            if EXAMPLE in path.name:
                path.rename(path.with_name(path.name.replace(EXAMPLE, name)))
        made.rename(target)
    return target


def _renamed(text: str, name: str) -> str:
    """The template's text with the plugin's name in place of the example's: module, distribution, recipe."""
    text = text.replace(f"tmnre_{EXAMPLE}", f"tmnre_{name}").replace(
        f"tmnre-{EXAMPLE}", f"tmnre-{name.replace('_', '-')}"
    )
    return re.sub(
        rf"(?<=check ){EXAMPLE}|\b{EXAMPLE}(?=/)|(?<=\"){EXAMPLE}(?=\")|^{EXAMPLE}(?= = )",
        name,
        text,
        flags=re.MULTILINE,
    )
