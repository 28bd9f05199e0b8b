"""Docstrings of this project as mkdocstrings reads them.

In ours "name : text" under Parameters or Attributes describes the name, whose type stands in the annotation, where
numpy's convention expects the type; paragraphs may follow such a section; and doctests stand in the text.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ITEM = re.compile(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*) : (.*)$")


class Docstrings(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by griffe for everything it has found."""
        if obj.docstring is not None:
            obj.docstring.value = rewritten(obj.docstring.value)


def rewritten(text: str) -> str:
    """Sections in numpy's form and last, doctests fenced."""
    sections: list[str] = []
    rest: list[str] = []
    lines = text.splitlines()
    i = 0
    while i < len(lines):
        titled = lines[i] in ("Parameters", "Attributes") and i + 1 < len(lines) and set(lines[i + 1]) == {"-"}
        if not titled:
            rest.append(lines[i])
            i += 1
            continue
        sections += ["", *lines[i : i + 2]]
        i += 2
        while i < len(lines) and (not lines[i].strip() or lines[i].startswith(" ") or ITEM.match(lines[i])):
            item = ITEM.match(lines[i])
            sections += [item[1], f"    {item[2]}"] if item else [lines[i]]
            i += 1
        while sections and not sections[-1].strip():
            sections.pop()
    return "\n".join([*_fenced(rest), *sections])


def _fenced(lines: list[str]) -> list[str]:
    found: list[str] = []
    inside = False
    for line in lines:
        if line.startswith(">>>") and not inside:
            found += ["", "```pycon"]
            inside = True
        elif inside and not line.strip():
            found.append("```")
            inside = False
        found.append(line.replace("  # doctest: +SKIP", "").rstrip() if inside else line)
    return [*found, "```"] if inside else found
