"""What ArviZ and GetDist say of an exported Gaussian."""

import numpy as np
import pytest

from tmnre import MarginalPosterior

MEAN, SD, RHO = np.array([0.3, -0.2]), np.array([0.3, 0.2]), 0.6


@pytest.fixture(scope="module")
def marginal():
    rng = np.random.default_rng(0)
    z = rng.uniform(-1.5, 1.5, (200_000, 2))
    t = (z - MEAN) / SD
    return MarginalPosterior(("a", "b_x"), z, -0.5 * (t[:, 0] ** 2 - 2 * RHO * t.prod(1) + t[:, 1] ** 2) / (1 - RHO**2))


def test_arviz(marginal):
    arviz = pytest.importorskip("arviz")
    table = arviz.summary(marginal.to_arviz(), round_to="none")
    # independent draws: the mean of 4000 to sd / 63; five of these
    np.testing.assert_allclose(table["mean"], MEAN, rtol=0, atol=5 * SD.max() / 4000**0.5)
    np.testing.assert_allclose(table["sd"], SD, rtol=5 / (2 * 4000) ** 0.5)
    assert list(table.index) == ["a", "b_x"] and (table["ess_bulk"] > 3000).all()


def test_getdist(marginal):
    pytest.importorskip("getdist")
    samples = marginal.to_getdist({"a": "\\alpha"})
    # 200,000 prior draws are worth 20,000 of this posterior
    error = 5 / marginal.effective_sample_size**0.5
    np.testing.assert_allclose(samples.getMeans(), MEAN, rtol=0, atol=error * SD.max())
    np.testing.assert_allclose(np.sqrt(samples.getVars()), SD, rtol=error)
    assert samples.getCorrelationMatrix()[0, 1] == pytest.approx(RHO, abs=error)
    assert samples.getParamNames().labels() == ["\\alpha", r"b\_x"]
