"""The mean of several estimators is one estimator, and goes through a whole analysis as one."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from tqdm import tqdm

import tmnre
from tmnre import ResidualMLP, Stage, Training
from tmnre.ensemble import mean
from tmnre.ratio import Quantiles, RatioEstimator
from tmnre.rounds import Rounds
from tmnre.train import losses

NAMES = ("a", "b", "c")
MARGINALS = [("a",), ("a", "b"), ("c",)]
X = {"x": np.array([0.3, -0.2, 0.1, 0.4])}


def estimator(seed, quantiles, x):
    torch.manual_seed(seed)
    joints = {NAMES: {"learned": True}}
    return RatioEstimator.new(ResidualMLP(x, 8, 1), 8, quantiles, NAMES, MARGINALS, joints).eval()


@pytest.fixture(scope="module")
def members():
    generator = torch.Generator().manual_seed(0)
    quantiles = Quantiles.of(torch.rand(5000, 3, dtype=torch.float64, generator=generator))
    x = {"x": torch.randn(100, 4, generator=generator)}
    return [estimator(seed, quantiles, x) for seed in range(3)]


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(1)
    return {"x": torch.randn(5, 4, generator=generator)}, torch.rand(40, 3, dtype=torch.float64, generator=generator)


def test_the_log_ratio_is_the_mean_of_the_members(members, data):
    x, z = data
    each = torch.stack([member.log_ratio(x, z) for member in members])
    torch.testing.assert_close(mean(members).log_ratio(x, z), each.mean(0))
    grid = torch.linspace(0, 1, 50, dtype=torch.float64)
    each = torch.stack([member.log_ratio_grid(x, 2, grid) for member in members])
    torch.testing.assert_close(mean(members).log_ratio_grid(x, 2, grid), each.mean(0))


def test_so_is_that_of_a_joint_and_its_draws_carry_it(members, data):
    x = {"x": data[0]["x"][:1]}
    whole, u = mean(members), data[1].numpy()
    each = [member.surface(NAMES, x)(u) for member in members]
    np.testing.assert_allclose(whole.surface(NAMES, x)(u), np.mean(each, axis=0), atol=1e-5)
    z, log_r, _ = whole.sample(NAMES, x, 2000, torch.Generator().manual_seed(0))
    with torch.no_grad():
        again = whole.joints[NAMES].log_ratio(whole.embedding(x), whole.quantiles(z))
    # a draw is anywhere within its cell, 1 / 512 of the prior wide
    assert (log_r - again).abs().median() < 0.02


def test_a_single_member_is_its_own_mean(members):
    assert mean(members[:1]) is members[0]


def test_its_loss_is_below_the_mean_of_the_members(members, data):
    """As for every loss that is convex in the logits (Jensen): the gain for certain, whatever was learned."""
    x = {"x": torch.randn(40, 4, generator=torch.Generator().manual_seed(2))}
    for loss in ("nre_c", "nre_a"):
        training = Training(loss=loss, candidates=7)
        whole, *each = (losses(one, (x, data[1]), how=training) for one in (mean(members), *members))
        assert (whole < torch.stack(each).mean(0)).all()


def test_an_ensemble_goes_through_an_analysis_and_resumes(linear_gaussian, tmp_path):
    training = Training(accelerator="cpu", threads=1, members=2, batch_size=128)
    stages = [Stage(500, steps=20), Stage(500, steps=20)]
    analysis = tmnre.Analysis(linear_gaussian, X, [*NAMES, NAMES], stages=stages, training=training)
    rounds = partial(Rounds, analysis, tmp_path, progress=partial(tqdm, disable=True), say=lambda _: None)
    result = rounds().run()
    # the last round again, from the first one's weights on disk
    last = tmp_path / "rounds" / "01"
    (last / "DONE").unlink()
    again = rounds().run()
    for names, marginal in result.marginals.items():
        np.testing.assert_array_equal(marginal.log_ratios, again[names].log_ratios)
    curve = tmnre.files.read_json(last / "training.json")
    assert {point["member"] for point in curve} == {0, 1}
    weights = torch.load(last / "checkpoint.pt", weights_only=True)["estimator"]
    one, two = (weights[f"heads.0.{i}.x_in.weight"] for i in range(2))
    assert one.shape == two.shape and (one != two).any()
