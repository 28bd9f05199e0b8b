"""The project's own papers: types hold, versions agree, metadata is readable, the template is in the wheel's reach."""

import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

import tmnre

ROOT = Path(__file__).parents[2]
PLUGINS = ("fields", "gw", "lensing", "popsources")
PROJECTS = ("pyproject.toml", "core/pyproject.toml", *(f"plugins/{name}/pyproject.toml" for name in PLUGINS))


@pytest.mark.long
def test_types_hold():
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", PROJECTS)
def test_every_distribution_has_licence_python_and_version(path):
    project = tomllib.loads((ROOT / path).read_text())["project"]
    assert project["license"] == "BSD-3-Clause" and project["requires-python"] == ">=3.11"
    assert project["version"] == tmnre.__version__


def test_citation_file():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and citation["license"] == "BSD-3-Clause"
    assert citation["version"] == tmnre.__version__ and citation["authors"] and citation["title"]


def test_changelog_names_this_version():
    assert f"## {tmnre.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_pinned_version_is_pinned_once():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    names = [line.partition("==")[0].lower() for line in lines]
    assert all("==" in line for line in lines) and len(set(names)) == len(names)


def test_pre_commit_hooks_are_local():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repo["repo"] for repo in hooks["repos"]] == ["local"]


def test_package_data_is_there():
    for path in ("template/pyproject.toml", "report/page.html", "report/page.css"):
        assert (files("tmnre") / path).is_file(), path
