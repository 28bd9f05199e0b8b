"""The pages that are handed to Zensical: run the tutorials, bring in READMEs, and write formulas as MathML.

    python docs/build.py        writes build/docs; scripts of examples/ are run unless their page is newer than they are

MathML is drawn by browsers themselves: no script, and no font from elsewhere.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import runpy
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "build" / "docs"
TUTORIALS = ROOT / "build" / "tutorials"
TITLES = {
    "gw": "Gravitational waves",
    "lensing": "Strong lensing",
    "popsources": "Populations of point sources",
    "fields": "Random fields",
}


def main() -> None:
    """Write all pages."""
    run_tutorials()
    shutil.rmtree(PAGES, ignore_errors=True)
    for source in (ROOT / "docs").rglob("*.md"):
        write(PAGES / source.relative_to(ROOT / "docs"), source.read_text())
    for name, title in TITLES.items():
        text = (ROOT / "plugins" / name / "README.md").read_text()
        write(PAGES / "plugins" / f"{name}.md", re.sub(r"^# .*", f"# {title}", _unlinked(text), count=1))
    write(PAGES / "benchmarks.md", _unlinked((ROOT / "benchmarks" / "README.md").read_text()))
    write(PAGES / "changes.md", (ROOT / "CHANGELOG.md").read_text())
    for source in TUTORIALS.glob("*.md"):
        write(PAGES / "tutorials" / source.name, source.read_text())
    for picture in TUTORIALS.glob("*.png"):
        shutil.copy(picture, PAGES / "tutorials")


def run_tutorials() -> None:
    """Run every script that has changed since its page was written."""
    TUTORIALS.mkdir(parents=True, exist_ok=True)
    for script in sorted((ROOT / "examples").glob("*.py")):
        page = TUTORIALS / f"{script.stem}.md"
        sources = [script, *(ROOT / "examples" / script.stem.partition("_")[0]).glob("*.py"), Path(__file__)]
        if not page.exists() or page.stat().st_mtime < max(path.stat().st_mtime for path in sources):
            print(f"running {script.relative_to(ROOT)}", flush=True)
            page.write_text(tutorial(script))


def tutorial(script: Path) -> str:
    """Markdown of a script, with what it printed and drew."""
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(said):
        os.environ["TMNRE_EXAMPLES"] = folder
        found = runpy.run_path(str(script))
        pictures = sorted((Path(folder) / "run" / "figures").glob("*.png"))
        figures = [path.name for path in pictures if path.stem not in ("rounds", "training", "data")]
        for path in pictures:
            shutil.copy(path, TUTORIALS / f"{script.stem}-{path.name}")
    if "figure" in found:
        found["figure"].savefig(TUTORIALS / f"{script.stem}-figure.png", dpi=110)
        figures = ["figure.png"]
    lines = [*_page(script.read_text()), "## What it printed", "", "```text", said.getvalue().rstrip(), "```", ""]
    lines += ["## What it drew", ""]
    lines += [f"![{Path(name).stem} of this tutorial]({script.stem}-{name})" for name in figures]
    return "\n".join([*lines, "", f"The script is `examples/{script.name}`.", ""])


def _page(source: str) -> list[str]:
    """Docstring and comments as text, code as blocks; a line `# %% Title` begins a section."""
    tree = ast.parse(source)
    head = tree.body[0].end_lineno or 0
    lines = [ast.get_docstring(tree) or "", ""]
    code: list[str] = []

    def flush() -> None:
        text = "\n".join(code).strip("\n")
        if text:
            lines.extend(["```python", text, "```", ""])
        code.clear()

    told = False
    for line in source.splitlines()[head:]:
        if line.startswith("# %% "):
            flush()
            lines.extend([f"## {line[5:]}", ""])
            told = True
        elif told and line.startswith("# "):
            lines.append(line[2:])
        else:
            if told:
                lines.append("")
            told = False
            code.append(line)
    flush()
    return lines


def write(path: Path, text: str) -> None:
    """A page, its formulas as MathML."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(with_mathml(text))


def _unlinked(text: str) -> str:
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#)[^)]*\)", r"\1", text)


FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\\$\w])\$([^$\n]+?)\$(?![\w$])", re.DOTALL)
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)


def with_mathml(markdown: str) -> str:
    """Formulas between dollars, outside of code, as MathML."""
    parts = CODE.split(markdown)
    return "".join(part if i % 2 else FORMULA.sub(_mathml, part) for i, part in enumerate(parts))


def _mathml(found: re.Match) -> str:
    from latex2mathml.converter import convert

    block, inline = found.groups()
    if block:
        # a block of its own, which Markdown leaves alone
        return f'\n<div class="formula">{convert(" ".join(block.split()), display="block")}</div>\n'
    # in a span, as Markdown takes a line that begins with an element it does not know for a block
    return f"<span>{convert(inline)}</span>"


if __name__ == "__main__":
    sys.exit(main())
