"""The README's own lines, run as they stand, against the exact posterior of their model."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    scope: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("readme"))
        exec(compile(code, "README.md", "exec"), scope)
        assert Path("line.png").stat().st_size > 10_000
    return scope


def _jsd_of_normal(samples, weights, mean, sd, cells=16):
    """JSD (nat) between weighted samples and a normal, over equally probable cells."""
    found = np.histogram(stats.norm.cdf(samples, mean, sd), cells, (0, 1), weights=weights)[0]
    exact = np.full(cells, 1 / cells)
    middle = 0.5 * (found + exact)
    return 0.5 * (stats.entropy(found, middle) + stats.entropy(exact, middle))


def test_posterior_is_the_exact_one(names):
    line, result, y = names["Line"], names["result"], names["observed"]["y"]
    design = np.stack([np.ones_like(line.t), line.t], axis=1)
    covariance = np.linalg.inv(np.eye(2) + design.T @ design / 0.1**2)
    mean = covariance @ design.T @ y / 0.1**2
    for i, name in enumerate(("intercept", "slope")):
        marginal = result[name]
        assert _jsd_of_normal(marginal.samples[:, 0], marginal.weights, mean[i], covariance[i, i] ** 0.5) < 0.01
    pair = result["intercept", "slope"]
    # squared radius in the whitened plane is exponential
    white = np.linalg.solve(np.linalg.cholesky(covariance), (pair.samples - mean).T)
    radius = stats.norm.ppf(stats.chi2.cdf((white**2).sum(0), 2))
    assert _jsd_of_normal(radius, pair.weights, 0.0, 1.0) < 0.01
