"""The demo recipe: its mock is reproducible and its figure is drawn, for any posterior of the right form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tmnre import MarginalPosterior, Result
from tmnre_lensing.recipes.demo import recipe


def test_the_mock_follows_its_seed():
    first, again = (recipe.build(recipe.settings()) for _ in range(2))
    other = recipe.build(replace(recipe.settings(), observation_seed=99))
    np.testing.assert_array_equal(first.observation["image"], again.observation["image"])
    assert not np.array_equal(first.observation["image"], other.observation["image"])


def test_truth_lies_in_the_prior():
    analysis = recipe.build(recipe.settings())
    for name, distribution in analysis.simulator.prior.items():
        low, high = distribution.support
        assert low < analysis.truth[name] < high


def test_figure(tmp_path):
    analysis = recipe.build(recipe.settings())
    prior = analysis.simulator.prior
    theta = np.array([analysis.truth[name] for name in prior.names])
    samples = theta * (1 + 0.01 * np.random.default_rng(0).standard_normal((100, len(theta))))
    keys = [(m,) if isinstance(m, str) else m for m in analysis.marginals]
    marginals = {
        key: MarginalPosterior(key, samples[:, prior.columns(key)], np.zeros(100))
        for key in keys
        if all(name in prior for name in key)
    }
    analysis.figures(Result(marginals, truth=analysis.truth), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["lens.png"]
    # a PNG of several panels, not an empty canvas
    assert (tmp_path / "lens.png").stat().st_size > 20_000
