"""Training that diverges starts again more slowly, says so, and gives up with a reason."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from tqdm import tqdm

import tmnre
from tmnre import Stage, Training, train
from tmnre.descent import FEWEST_VALIDATIONS, RESTARTS, SLOWER, TrainingError
from tmnre.machine import precision_on_this_machine
from tmnre.rounds import Rounds

X = {"x": np.array([0.3, -0.2, 0.1, 0.4])}


@pytest.fixture
def trained(linear_gaussian, tmp_path):
    """Called with settings of the training: the result, the curve, and what was said."""

    def run(**settings):
        training = Training(accelerator="cpu", threads=1, **settings)
        analysis = tmnre.Analysis(linear_gaussian, X, ["a"], stages=[Stage(2000, steps=100)], training=training)
        said, folder = [], tmp_path / str(len(list(tmp_path.iterdir())))
        result = Rounds(analysis, folder, progress=partial(tqdm, disable=True), say=said.append).run()
        curve = tmnre.files.read_json(folder / "rounds" / "00" / "training.json")
        return result, curve, said

    return run


def test_a_learning_rate_far_too_large_is_lowered(trained, linear_gaussian):
    result, curve, said = trained(learning_rate=10.0)
    _, _, nothing = trained(learning_rate=10.0 * SLOWER**RESTARTS)
    restarts = [line for line in said if "starts again" in line]
    assert 1 <= len(restarts) <= RESTARTS and len(said) == len(nothing) + len(restarts)
    assert curve[-1]["step"] <= 100 and np.all(np.diff([point["step"] for point in curve]) > 0)
    mean, _ = linear_gaussian.posterior(X["x"])
    low, high = result["a"].interval(0.9)[0]
    assert low < mean[0] < high


def test_a_loss_that_is_not_a_number_starts_training_again(trained, monkeypatch):
    losses, calls = train.losses, []

    def once(estimator, batch, how):
        if estimator.training:
            calls.append(how)
        return losses(estimator, batch, how=how) * (np.nan if estimator.training and len(calls) == 5 else 1.0)

    monkeypatch.setattr(train, "losses", once)
    result, _, said = trained()
    assert [line for line in said if "starts again" in line] == [
        "the loss became nan at step 4; training starts again with a peak learning rate of 0.0003"
    ]
    assert result["a"].sd < 0.8


def test_what_stays_not_a_number_is_given_up(trained, monkeypatch):
    monkeypatch.setattr(train, "losses", lambda *_, **__: torch.full((1,), torch.nan, requires_grad=True))
    with pytest.raises(TrainingError, match=r"nan at step 0, in 4 attempts.*check the simulator for extreme values"):
        trained()


def test_data_that_say_nothing_are_no_divergence(trained, linear_gaussian, monkeypatch):
    ignorant = type(linear_gaussian).simulate
    monkeypatch.setattr(
        type(linear_gaussian), "simulate", lambda self, theta, rng: ignorant(self, rng.permutation(theta), rng)
    )
    result, _, said = trained()
    assert not [line for line in said if "starts again" in line] and result["a"].sd > 0.8


def test_two_devices_train_one_network(trained, linear_gaussian):
    # slowly enough to improve on the start, which is almost exact
    how = {"batch_size": 256, "patience": 100, "learning_rate": 1e-4}
    result, curve, _ = trained(devices=2, strategy="ddp_fork", **how)
    alone, of_one, _ = trained(**how)
    # the curve and the best weights come back from the other processes, which saw other simulations
    assert curve[-1]["step"] == of_one[-1]["step"] > 100 - 100 // FEWEST_VALIDATIONS
    assert not np.array_equal(result["a"].log_ratios, alone["a"].log_ratios)
    mean, covariance = linear_gaussian.posterior(X["x"])
    assert abs(result["a"].summary()["mean"] - mean[0]) < 0.5 * covariance[0, 0] ** 0.5


class Wave(tmnre.Simulator):
    """Data that a line knows nothing of."""

    prior = tmnre.Prior(phase=tmnre.Uniform(-1, 1))

    def simulate(self, theta, rng):
        return {"mean": np.cos(np.pi * theta * np.arange(1, 4))}

    def observe(self, stored, theta, generator):
        return {"x": stored["mean"] + 0.1 * torch.randn(stored["mean"].shape, generator=generator)}


@pytest.mark.parametrize("known", [True, False])
def test_a_rough_round_goes_on_only_where_it_learns_more_than_it_began_with(
    known, linear_gaussian, tmp_path, monkeypatch
):
    """Training starts from a linear Gaussian model, which knows all of one simulator and nothing of the other."""
    for name, steps in {"FIRST_CYCLE": 40, "ROUGH_STEPS": 120, "MAX_STEPS": 120}.items():
        monkeypatch.setattr(train, name, steps)
    simulator, x, name = (linear_gaussian, X, "a") if known else (Wave(), {"x": np.zeros(3)}, "phase")
    analysis = tmnre.Analysis(
        simulator, x, [name], stages=[Stage(1000), Stage(1000)], training=Training(accelerator="cpu", threads=1)
    )
    quiet = {"progress": partial(tqdm, disable=True), "say": lambda _: None}
    rough, last = Rounds(analysis, tmp_path, **quiet).run().rounds
    assert (rough["steps"] <= 40) == known
    assert last["steps"] > 40


def test_strategies_that_run_the_program_anew_are_refused():
    with pytest.raises(ValueError, match="ddp_fork.*for 2 devices, got 'ddp'"):
        Training(devices=2, strategy="ddp")


@pytest.mark.parametrize(
    ("instructions", "asked", "taken"),
    [
        ("AVX2", "bf16-mixed", "32-true"),
        ("AVX512", "bf16-mixed", "bf16-mixed"),
        ("AVX2", "64-true", "64-true"),
    ],
)
def test_bf16_is_for_processors_that_have_it(instructions, asked, taken, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: instructions)
    assert precision_on_this_machine(Training(precision=asked, accelerator="cpu")) == taken


def test_another_precision_than_asked_is_said(trained, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    _, _, said = trained(precision="bf16-mixed")
    assert said[0] == "this processor computes nothing in bf16-mixed; training in 32-true"
