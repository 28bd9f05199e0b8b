"""The tutorials: a plugin built and installed outside the repository, and toy models beside their exact posteriors.

They take half a minute and more each and run where TMNRE_SLOW is set, as in make validate; make docs runs them as well
and prints the exact answers beside theirs.
"""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
slow = pytest.mark.skipif(
    "TMNRE_SLOW" not in os.environ, reason="half a minute and more each; set TMNRE_SLOW to run them"
)


def jsd(cells: np.ndarray, exact: np.ndarray) -> float:
    """Jensen-Shannon divergence (nat) of two distributions over the same cells."""
    cells, exact = cells / cells.sum(), exact / exact.sum()
    middle = 0.5 * (cells + exact)
    return 0.5 * float(stats.entropy(cells, middle) + stats.entropy(exact, middle))


def in_cells(marginal, cdf, cells: int = 16) -> np.ndarray:
    """Posterior mass in cells that are equally probable under the exact distribution."""
    return np.histogram(cdf(marginal.samples[:, 0]), cells, (0, 1), weights=marginal.weights)[0]


@slow
def test_a_plugin_from_the_tutorial_outside_the_repository(tmp_path):
    pytest.importorskip("hatchling", reason="building a plugin offline needs hatchling in the environment")
    environment = {**os.environ, "TMNRE_EXAMPLES": str(tmp_path), "TMNRE_PRESET": "smoke", "OMP_NUM_THREADS": "1"}
    script = ROOT / "examples" / "supernova_plugin.py"
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "supernova/hubble" in done.stdout and ", 0 failed" in done.stdout and "2209.06733" in done.stdout
    assert (tmp_path / "run" / "report.html").is_file() and (tmp_path / "run" / "figures" / "hubble.png").is_file()
    path = os.pathsep.join([str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "distances", "tests"]
    own = subprocess.run(
        tests, cwd=tmp_path / "tmnre-supernova", env={**environment, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert own.returncode == 0 and "1 passed" in own.stdout, own.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])
def test_every_tutorial_is_told_and_run_in_order(script):
    build = runpy.run_path(str(ROOT / "docs" / "build.py"))
    page = "\n".join(build["_page"](script.read_text()))
    assert page.startswith("# ") and page.count("```python") >= 3 and page.count("\n## ") >= 3
    code = "\n".join(block.partition("```")[0] for block in page.split("```python\n")[1:])
    compile(code, script.name, "exec")


@slow
def test_galton_board():
    found = runpy.run_path(str(ROOT / "examples" / "galton_board.py"))
    assert jsd(in_cells(found["result"]["p"], found["exact"].cdf), np.ones(16)) < 0.01


@slow
def test_noise_parabola():
    found = runpy.run_path(str(ROOT / "examples" / "noise_parabola.py"))
    for name, grid, density in (("v", found["v"], found["exact"].sum(1)), ("z", found["z"], found["exact"].sum(0))):
        marginal = found["result"][name]
        edges = np.linspace(grid[0], grid[-1], 21)
        cells = np.histogram(marginal.samples[:, 0], edges, weights=marginal.weights)[0]
        exact = np.histogram(grid, edges, weights=density)[0]
        assert jsd(cells, exact) < 0.02, name


@slow
def test_fields_spectrum():
    found = runpy.run_path(str(ROOT / "examples" / "fields_spectrum.py"))
    for i, name in enumerate(found["prior"]):
        marginal = found["result"][name]
        cells = np.histogram(found["prior"][name].cdf(marginal.samples[:, 0]), 50, (0, 1), weights=marginal.weights)[0]
        # 0.02 is a shift by 0.4 sd
        assert jsd(cells, found["exact"].sum(1 - i).reshape(50, -1).sum(1)) < 0.02, name


@slow
def test_popsources_patch():
    found = runpy.run_path(str(ROOT / "examples" / "popsources_patch.py"))
    for name, (mean, sd) in found["perfect"].items():
        marginal = found["result"][name]
        assert marginal.sd > 0.9 * sd, name
        middle = marginal.weights @ marginal.samples[:, 0]
        assert abs(middle - mean) < 3 * marginal.sd and abs(middle - found["truth"][name]) < 3 * marginal.sd, name


@slow
def test_lensing_forecast():
    found = runpy.run_path(str(ROOT / "examples" / "lensing_forecast.py"))
    for name, sd in found["forecast"].items():
        marginal = found["result"][name]
        assert 0.8 < marginal.sd / sd < 1.5, name
        assert abs(marginal.weights @ marginal.samples[:, 0] - found["truth"][name]) < 4 * sd, name


@slow
def test_gw_signal(tmp_path, monkeypatch):
    monkeypatch.setenv("TMNRE_EXAMPLES", str(tmp_path))
    found = runpy.run_path(str(ROOT / "examples" / "gw_signal.py"))
    for name in ("chirp_mass", "mass_ratio", "luminosity_distance", "theta_jn", "time"):
        low, high = found["posterior"][name,].interval(0.997)[0]
        assert low < found["summary"]["truth"][name] < high, name


@slow
def test_one_in_the_crowd():
    found = runpy.run_path(str(ROOT / "examples" / "one_in_the_crowd.py"))
    exact = stats.norm(found["mean"], found["sd"])
    # 0.02 is a shift by 0.4 sd
    assert jsd(in_cells(found["result"]["voice_17"], exact.cdf), np.ones(16)) < 0.02
