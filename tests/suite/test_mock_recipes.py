"""Recipes that make their own data: the mock follows its seed, and the figure is drawn for any posterior."""

from dataclasses import replace

import numpy as np
import pytest

from tmnre import MarginalPosterior, Result
from tmnre.plugin import find_recipe

FIGURES = {"fields/demo": "field.png", "lensing/demo": "lens.png", "popsources/demo": "patch.png"}


@pytest.fixture(params=FIGURES, scope="module")
def name(request):
    return request.param


def test_the_mock_follows_its_seed(name):
    recipe = find_recipe(name)
    first, again = (recipe.build(recipe.settings()).observation for _ in range(2))
    other = recipe.build(replace(recipe.settings(), observation_seed=99)).observation
    for key in first:
        np.testing.assert_array_equal(first[key], again[key])
        assert not np.array_equal(first[key], other[key])


def test_truth_lies_in_the_prior(name):
    recipe = find_recipe(name)
    analysis = recipe.build(recipe.settings())
    for parameter, distribution in analysis.simulator.prior.items():
        low, high = distribution.support
        assert low < analysis.truth[parameter] < high


def test_figure(name, tmp_path):
    recipe = find_recipe(name)
    analysis = recipe.build(recipe.settings())
    prior = analysis.simulator.prior
    theta = np.array([analysis.truth[parameter] for parameter in prior.names])
    samples = theta * (1 + 0.01 * np.random.default_rng(0).standard_normal((100, len(theta))))
    keys = [(m,) if isinstance(m, str) else m for m in analysis.marginals]
    marginals = {
        key: MarginalPosterior(key, samples[:, prior.columns(key)], np.zeros(100))
        for key in keys
        if all(parameter in prior for parameter in key)
    }
    analysis.figures(Result(marginals, truth=analysis.truth), tmp_path)
    (figure,) = tmp_path.iterdir()
    # a PNG of several panels, not an empty canvas
    assert figure.name == FIGURES[name] and figure.stat().st_size > 20_000
