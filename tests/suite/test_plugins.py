"""Plugins that are broken, claimed twice, of another version or missing stay an error of their own."""

import json

import pytest

from tmnre.plugin import API_VERSION

BROKEN = {
    "broken": ({"module": "raise RuntimeError('no libtoy')"}, "cannot be loaded: RuntimeError: no libtoy"),
    "old": ({"api": 0}, f"plugin API 0, this tmnre speaks {API_VERSION}; pip install --upgrade tmnre-old"),
    "new": ({"api": 99}, "pip install --upgrade tmnre"),
    "wrong": ({"module": "plugin = 'text'"}, "is a str, expected a tmnre.Plugin"),
    "alias": (
        {"module": "from tmnre.plugin import Plugin\nplugin = Plugin('other', 1, '')"},
        "calls itself 'other'",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_bad_plugin_is_named_and_the_others_work(toy, name, error_line):
    how, message = BROKEN[name]
    toy.install(f"tmnre-{name}", name, **how)
    listed = toy.tmnre("plugins")
    assert listed.returncode == 1
    assert message in listed.stdout and "toy          a toy (1 recipes)" in listed.stdout
    assert "toy/line" in toy.tmnre("recipes").stdout
    assert message in error_line(toy.tmnre("show", f"{name}/line"))
    assert toy.tmnre("show", "toy/line").returncode == 0


def test_two_claims_name_both(toy, error_line):
    toy.install("tmnre-toy-copy", "toy")
    line = error_line(toy.tmnre("show", "toy/line"))
    assert "claimed by tmnre-toy and tmnre-toy-copy" in line and "uninstall all but one" in line


def test_missing_plugin_and_recipe_say_what_to_do(toy, error_line):
    assert "pip install tmnre-toi" in error_line(toy.tmnre("run", "toi/line", "--out", "x"))
    assert "did you mean 'line'?" in error_line(toy.tmnre("show", "toy/lime"))
    assert "plugin/recipe" in error_line(toy.tmnre("show", "toy"))


def test_a_recipe_that_cannot_be_imported(site, error_line):
    site.install("tmnre-toy", "toy", recipe="import no_such_library")
    assert "recipe toy/line cannot be imported: ModuleNotFoundError" in error_line(site.tmnre("show", "toy/line"))


@pytest.mark.parametrize("command", ["plugins", "recipes"])
def test_listing_imports_nothing_heavy(toy, command):
    code = f"""
import json, sys
from tmnre.cli import main
main([{command!r}])
print(json.dumps([m for m in ('torch', 'lightning', 'lal', 'bilby', 'healpy', 'astropy', 'scipy') if m in sys.modules]))
"""
    assert json.loads(toy.python(code).stdout.splitlines()[-1]) == []


def test_a_failed_check_is_told_and_counted(site):
    site.install("tmnre-toy", "toy")
    (source,) = site.folder.glob("*/recipe.py")
    source.write_text(source.read_text().replace("    '''standard deviation'''\n", ""))
    done = site.tmnre("check", "toy")
    assert done.returncode == 1 and ", 1 failed" in done.stdout, done.stdout
    assert "FAILED  toy/line" in done.stdout and "noise.sd has no docstring" in done.stdout


def test_conformance_passes_the_toy(toy):
    done = toy.tmnre("check", "toy")
    assert done.returncode == 0 and "0 failed" in done.stdout, done.stdout + done.stderr
