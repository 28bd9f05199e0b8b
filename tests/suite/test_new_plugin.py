"""A plugin written by `tmnre new-plugin`, installed outside the repository: it conforms and its tests pass."""

import os
import subprocess
import sys

import pytest

from tmnre.newplugin import create


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder of the new plugin, and an environment in which it is installed."""
    pytest.importorskip("hatchling", reason="building a plugin offline needs hatchling in the environment")
    top = tmp_path_factory.mktemp("outside")
    folder, site = create("cooling_rate", top), top / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(folder)], check=True, capture_output=True)
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    return folder, {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def test_it_conforms(installed, command_line, tmp_path):
    _, environment = installed
    code = command_line.start("check", "cooling_rate", environment=environment, out=tmp_path / "said").wait()
    said = (tmp_path / "said").read_text()
    assert code == 0 and ", 0 failed" in said, said


def test_its_own_tests_pass(installed):
    folder, environment = installed
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", "tests"]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_no_trace_of_the_example_is_left(installed):
    folder, _ = installed
    texts = {path: path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert len(texts) >= 9
    for path, text in texts.items():
        assert "tmnre_example" not in text and "tmnre-example" not in text and "example/" not in text, path
    assert 'name = "tmnre-cooling-rate"' in texts[folder / "pyproject.toml"]
    assert "tmnre check cooling_rate" in texts[folder / "README.md"]


@pytest.mark.parametrize("name", ["Big", "1st", "a-b", "class", "gw", "json", "example", "", "../up", "a" * 50])
def test_names_that_are_none(name, tmp_path):
    with pytest.raises(ValueError, match="choose another name|is no name"):
        create(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_touched(tmp_path):
    (tmp_path / "tmnre-mine").mkdir()
    with pytest.raises(ValueError, match="exists already"):
        create("mine", tmp_path)
    assert not list((tmp_path / "tmnre-mine").iterdir())
