"""The four plugins together: conformance, and every recipe's smoke preset from command to figures."""

import json

import pytest

from tmnre.cli import main
from tmnre.conformance import check
from tmnre.plugin import discover

PLUGINS, PROBLEMS = discover()
SUITE = ("fields", "gw", "lensing", "popsources")
RECIPES = [f"{name}/{recipe}" for name in SUITE if name in PLUGINS for recipe in PLUGINS[name].recipes]


def test_the_suite_is_installed():
    assert set(SUITE) <= set(PLUGINS) and not PROBLEMS


@pytest.mark.parametrize("name", SUITE)
def test_plugins_conform(name):
    findings = check(name)
    assert findings and not [str(finding) for finding in findings if finding.state == "FAILED"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_smoke_preset_runs(recipe, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    code = main(["run", recipe, "--preset", "smoke", "--out", str(out)])
    if code == 2 and "no strain of" in capsys.readouterr().err:
        pytest.skip("needs strain files: set TMNRE_DATA")
    assert code == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["simulations"] > 0 and summary["parameters"]
    assert {"triangle.png", "rounds.png", "training.png"} <= {path.name for path in (out / "figures").iterdir()}
    assert all((path / "DONE").exists() for path in (out / "rounds").iterdir())
