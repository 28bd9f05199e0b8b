"""A folder of a run belongs to one analysis of one observation."""

from dataclasses import replace

import numpy as np
import pytest

from tmnre import Analysis
from tmnre.resume import claim
from tmnre.simulator import adopt

X = np.random.default_rng(0).normal(size=(3, 40)) * 1e-21


@pytest.fixture
def begun(linear_gaussian, tmp_path):
    """Called with changes: claims the folder that was claimed for an observation of a real and a complex array."""
    analysis = Analysis(linear_gaussian, {"x": X, "strain": X[0] + 1j * X[1]}, ["a"])
    simulator = adopt(linear_gaussian)
    claim(tmp_path, analysis, simulator)
    return lambda **changes: claim(tmp_path, replace(analysis, **changes), simulator)


def test_the_same_analysis_goes_on_whatever_rounding_does_to_its_data(begun):
    begun()
    begun(observation={"x": X * (1 + 1e-12), "strain": X[0] + 1j * X[1]})


@pytest.mark.parametrize(
    "other",
    [
        {"x": X * 1.001, "strain": X[0] + 1j * X[1]},
        {"x": X[:, ::-1], "strain": X[0] + 1j * X[1]},
        {"x": X[:2], "strain": X[0] + 1j * X[1]},
        {"x": X, "strain": X[0] - 1j * X[1]},
        {"x": X},
        {"x": X, "strain": X[0] + 1j * X[1], "more": X},
    ],
    ids=["scaled", "reversed", "shorter", "conjugate", "less", "more"],
)
def test_other_data_are_refused(begun, other):
    with pytest.raises(ValueError, match="holds an analysis of other data: '(x|strain|more)'.*choose another folder"):
        begun(observation=other)


def test_another_seed_is_refused(begun):
    with pytest.raises(ValueError, match="with seed 0, this one has 1; choose another folder"):
        begun(seed=1)
