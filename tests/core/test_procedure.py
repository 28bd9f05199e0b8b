"""A procedure: steps are done once and found again; a run of it leaves what a run of an analysis does."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
import torch
from tqdm import tqdm

from tmnre import AfterAnalysis, Analysis, MarginalPosterior, Place, Procedure, Result, Stage, Training, run
from tmnre.descent import train_network
from tmnre.estimate import _probes, estimate

X = {"x": np.array([0.3, -0.2, 0.1, 0.4])}
QUIET = {"progress": partial(tqdm, disable=True), "say": lambda _: None}


@dataclass
class TwoSteps(Procedure):
    """An analysis, a step that needs it, and an interruption on request."""

    simulator: object
    stop: bool = False
    calls: int = 0

    def run(self, place):
        training = Training(accelerator="cpu", threads=1)
        analysis = Analysis(self.simulator, X, ["a"], stages=[Stage(500, steps=40)], training=training)
        first = place.analyse(analysis, "first")
        folder = place.step("second", partial(self.second, median=first["a"].summary()["median"]))
        return Result(first.marginals, first.rounds, extra={"double": float(np.load(folder / "double.npy"))})

    def second(self, folder, median):
        self.calls += 1
        np.save(folder / "half.npy", median / 2)
        if self.stop:
            raise KeyboardInterrupt
        assert [path.name for path in folder.iterdir()] == ["half.npy"]
        np.save(folder / "double.npy", 2 * median)

    def figures(self, result, folder):
        (folder / "own.txt").write_text("drawn")


def test_a_stopped_step_starts_again_and_a_finished_one_does_not(linear_gaussian, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        TwoSteps(linear_gaussian, stop=True).run(Place(tmp_path, **QUIET))
    again = TwoSteps(linear_gaussian)
    result = again.run(Place(tmp_path, **QUIET))
    assert again.calls == 1 and result.extra["double"] == pytest.approx(2 * result["a"].summary()["median"])
    assert again.run(Place(tmp_path, **QUIET)).extra == result.extra and again.calls == 1


def test_a_damaged_step_is_made_again(linear_gaussian, tmp_path):
    procedure = TwoSteps(linear_gaussian)
    result = procedure.run(Place(tmp_path, **QUIET))
    np.save(tmp_path / "second" / "double.npy", 0.0)
    said = []
    place = Place(tmp_path, progress=QUIET["progress"], say=said.append)
    assert procedure.run(place).extra == result.extra and procedure.calls == 2
    assert any("double.npy is missing or does not match its checksum" in line for line in said)


def test_a_run_of_a_procedure_leaves_results_and_figures(linear_gaussian, tmp_path):
    out = tmp_path / "run"
    result = run.execute(TwoSteps(linear_gaussian), out, config="", recipe="none", command=[])
    summary = json.loads((out / "summary.json").read_text())
    assert summary["double"] == result.extra["double"] and summary["simulations"] == 500
    own = {"triangle.png", "rounds.png", "percentiles.png", "own.txt"}
    assert {path.name for path in (out / "figures").iterdir()} == own
    assert (out / "posterior.h5").exists()


def test_a_result_without_rounds_has_a_summary():
    draws = MarginalPosterior(("a",), np.random.default_rng(0).normal(size=(1000, 1)), np.zeros(1000))
    assert run.summary(Result({("a",): draws}))["parameters"]["a"]["sd"] == pytest.approx(1, abs=0.1)


class Pairs:
    """y = 2 t + noise drawn anew at every use."""

    def __init__(self, n):
        self.t = torch.linspace(-1, 1, n)[:, None]

    def __len__(self):
        return len(self.t)

    def split(self, fraction, seed):
        order = torch.randperm(len(self.t), generator=torch.Generator().manual_seed(seed))
        held = round(fraction * len(order))
        return order[held:], order[:held]

    def epoch(self, rows, batch_size, generator):
        return iter(rows[torch.randperm(len(rows), generator=generator)].split(batch_size))

    def batch(self, rows, generator, *, redraw=True):
        return self.t[rows], 2 * self.t[rows] + 0.1 * torch.randn(len(rows), 1, generator=generator)


def test_any_network_learns_any_loss():
    torch.manual_seed(0)
    network = torch.nn.Linear(1, 1)
    settings = Training(batch_size=100, accelerator="cpu", learning_rate=0.05)
    loss = lambda net, batch: (net(batch[0]) - batch[1]).square().mean()  # noqa: E731
    for few in (2, 10):
        assert train_network(network, loss, Pairs(1000), settings, steps=few, seed=0, **QUIET)[-1]["step"] <= few
    curve = train_network(network, loss, Pairs(1000), settings, steps=400, seed=0, **QUIET)
    # the slope's error is 0.1 / sqrt(sum t^2) for one pass, 0.0055; the noise's variance is what remains
    assert float(network.weight) == pytest.approx(2, abs=0.03)
    assert min(point["validation"] for point in curve) == pytest.approx(0.01, rel=0.4)


def test_rounds_keep_their_last_estimator_for_further_questions(linear_gaussian, tmp_path):
    """Trained or read from disk, it gives the very ratios that the result holds."""
    training = Training(accelerator="cpu", threads=1)
    analysis = Analysis(linear_gaussian, X, ["a"], stages=[Stage(500, steps=40)], training=training)
    for _ in range(2):
        rounds = Place(tmp_path, **QUIET).rounds(analysis, "first")
        assert rounds.last is None
        result = rounds.run()
        last = rounds.last
        assert last.record["region"] == result.rounds[-1]["region"]
        log_r = last.estimator.log_ratio(last.x, last.z)[0]
        column = last.estimator.marginals.index(("a",))
        np.testing.assert_allclose(log_r[:, column].numpy(), result["a"].log_ratios, rtol=1e-6)


@dataclass(frozen=True)
class After(AfterAnalysis):
    """An analysis and nothing else; run would fail."""

    analysis: Analysis


def test_rounds_of_boxes_are_estimated_without_the_joint(linear_gaussian):
    """What a stage does not learn is not timed with it, nor is any contour."""
    stages = [Stage(300, steps=20, together=False), Stage(500, steps=40)]
    names = linear_gaussian.prior.names[:2]
    analysis = Analysis(linear_gaussian, X, ["a", names], stages=stages, truncated=[names])
    probes = _probes(analysis)
    assert probes[True].marginals == [("a",), names, names] and probes[False].marginals == [("a",)]
    assert probes[True].truncated == probes[False].truncated == list(names)
    together = replace(analysis, stages=stages[1:])
    assert list(_probes(together)) == [True]
    assert list(_probes(replace(analysis, truncated=None))) == [True]


def test_an_estimate_runs_nothing_of_a_procedure(linear_gaussian):
    with pytest.raises(ValueError, match="TwoSteps cannot tell what it would cost"):
        estimate(TwoSteps(linear_gaussian))
    stages = [Stage(300, steps=20), Stage(500, steps=40)]
    work = After(Analysis(linear_gaussian, X, ["a"], stages=stages, seed=3, workers=2))
    assert (work.seed, work.workers, work.observation) == (3, 2, X)
    found = estimate(work)
    assert not found.whole and found.simulations == 800 and found.steps == (60, 60)
    both = replace(found, whole=True) + found
    assert not both.whole and both.simulations == 1600 and both.steps == (120, 120) and both.rounds == 4
    assert both.total_s[0] > found.total_s[0] > 0
