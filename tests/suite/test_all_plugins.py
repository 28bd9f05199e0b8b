"""The four plugins together: conformance, recipes' smoke presets from settings to page included."""

import os

import pytest

from tmnre.conformance import check
from tmnre.plugin import discover

pytestmark = pytest.mark.long
PLUGINS, PROBLEMS = discover()
SUITE = ("fields", "gw", "lensing", "popsources")
TWINS = {"gw/gw150914", "lensing/b1938"}
"""other recipes with other defaults, whose smoke presets `make validate` runs"""
RECIPES = [f"{name}/{recipe}" for name in SUITE if name in PLUGINS for recipe in PLUGINS[name].recipes]
SMOKED = [name for name in RECIPES if name not in TWINS or os.environ.get("TMNRE_SLOW")]


def test_the_suite_is_installed():
    assert set(SUITE) <= set(PLUGINS) and not PROBLEMS


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_conform(name):
    findings = list(check(name, smoke=name in SMOKED))
    assert findings and not [str(finding) for finding in findings if finding.state == "FAILED"]
    run = [finding.check for finding in findings if finding.check == "smoke preset runs"]
    skipped = [finding.check for finding in findings if finding.state == "skipped"]
    assert skipped or len(run) == (name in SMOKED)


@pytest.mark.parametrize("name", SUITE)
def test_plugins_are_light_to_discover(name):
    assert next(check(name)).state == "passed"
