"""The four plugins together: conformance, every recipe's smoke preset from settings to page included."""

import pytest

from tmnre.conformance import check
from tmnre.plugin import discover

pytestmark = pytest.mark.long
PLUGINS, PROBLEMS = discover()
SUITE = ("fields", "gw", "lensing", "popsources")


def test_the_suite_is_installed():
    assert set(SUITE) <= set(PLUGINS) and not PROBLEMS


@pytest.mark.parametrize("name", SUITE)
def test_plugins_conform(name):
    findings = list(check(name))
    assert findings and not [str(finding) for finding in findings if finding.state == "FAILED"]
    run = [finding.recipe for finding in findings if finding.check == "smoke preset runs"]
    skipped = [finding.recipe for finding in findings if finding.state == "skipped"]
    assert sorted(run + skipped) == sorted(f"{name}/{recipe}" for recipe in PLUGINS[name].recipes)
