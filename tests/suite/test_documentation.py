"""What the documentation says is so: commands, exit codes, checks, settings and links are those of the code."""

import re
import runpy
from pathlib import Path

import pytest
import yaml

from tmnre.cli import make_parser, options_of
from tmnre.conformance.embeddings import EMBEDDING_CHECKS
from tmnre.conformance.recipes import RECIPE_CHECKS
from tmnre.conformance.simulators import SIMULATOR_CHECKS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def test_every_command_and_option_is_documented():
    page = (DOCS / "command-line.md").read_text()
    options = options_of(make_parser())
    assert all(command in page for command in options)
    for option in set(options["run"]) - {"--debug", "--help", "--executor", "--memory-gib", "--disk-gib"}:
        assert option in page, option


def test_exit_codes_are_the_ones_documented():
    import tmnre.cli

    codes = set(re.findall(r"^    (\d+) ", tmnre.cli.__doc__, re.MULTILINE))
    assert codes == set(re.findall(r"^\| (\d+) \|", (DOCS / "command-line.md").read_text(), re.MULTILINE))


def test_every_kind_of_check_is_documented():
    page = (DOCS / "own-plugin.md").read_text()
    count = len([line for line in page.splitlines() if line.startswith("| ") and "---" not in line]) - 1
    assert count >= 12 and len(RECIPE_CHECKS) + len(SIMULATOR_CHECKS) + len(EMBEDDING_CHECKS) == 15


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(DOCS)) for page in PAGES])
def test_links_lead_somewhere(page):
    made = {f"plugins/{name}.md" for name in ("gw", "lensing", "popsources", "fields")} | {
        "benchmarks.md",
        "changes.md",
    }
    made |= {f"tutorials/{script.stem}.md" for script in (ROOT / "examples").glob("*.py")}
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        path = (page.parent / target).resolve()
        assert path.exists() or str(path.relative_to(DOCS)) in made, target


def test_every_page_is_in_the_navigation():
    listed = re.findall(r"[\w\-/]+\.md", (ROOT / "mkdocs.yml").read_text())
    assert len(listed) == len(set(listed))
    assert {str(page.relative_to(DOCS)) for page in PAGES} <= set(listed)
    assert yaml.safe_load((ROOT / "mkdocs.yml").read_text())["docs_dir"] == "build/docs"


def test_formulas_become_mathml():
    pytest.importorskip("latex2mathml", reason="installed by make docs")
    with_mathml = runpy.run_path(str(DOCS / "build.py"))["with_mathml"]
    made = with_mathml("a $x_i$ and `$5` and\n\n$$\\frac{1}{2}$$\n")
    assert made.count("<math") == 2 and "`$5`" in made and 'display="block"' in made
    for page in PAGES:  # what it cannot read raises, or is left as it was
        assert "\\frac" not in re.sub(r"`[^`]*`", "", with_mathml(page.read_text())), page
