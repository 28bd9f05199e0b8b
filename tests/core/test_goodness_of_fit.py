"""The distortion tests as part of an analysis."""

from functools import partial

import numpy as np
import pytest
import torch
from tqdm import tqdm

from tmnre import Analysis, Normal, Prior, Simulator, Stage, Training
from tmnre.diagnostics import Additive, windows
from tmnre.rounds import Rounds

T = np.linspace(-1, 1, 20)
AT = 13


class Line(Simulator):
    """A straight line through twenty points with unit noise."""

    prior = Prior(a=Normal(0, 3), b=Normal(0, 3))

    def simulate(self, theta, rng):
        return {"y": theta[:, :1] + theta[:, 1:] * T}

    def observe(self, stored, theta, generator):
        return {"y": stored["y"] + torch.randn(stored["y"].shape, generator=generator)}


def analysed(folder, line, simulations=8000, name="y", say=lambda _: None):
    rng = np.random.default_rng(4)
    y = 1.0 - 2.0 * T + rng.standard_normal(20) + line * (np.arange(20) == AT)
    analysis = Analysis(
        *(Line(), {"y": y.astype("f4")}, ["a", "b"]),
        stages=(Stage(simulations, steps=100),),
        training=Training(accelerator="cpu"),
        distortions={name: Additive(windows((20,)))},
    )
    return Rounds(analysis, folder, progress=partial(tqdm, disable=True), say=say).run()


@pytest.mark.parametrize("line", [0.0, 8.0])
def test_a_line_that_the_model_lacks_is_found(tmp_path, line):
    """8 sigma, far above the 6.5 that are found in 95% (see `distortions`), even less what the fit takes up."""
    result = analysed(tmp_path, line)
    (check,) = result.rounds[-1]["goodness_of_fit"]
    assert check["passed"] == (line == 0.0)
    assert any("not like the model's data" in warning for warning in result.warnings) == (line > 0)
    local = np.load(tmp_path / "rounds" / "00" / "distortions-y.npz")["p"]
    assert local.shape == (20,)
    if line:
        assert check["numbers"]["at"] == AT == local.argmin()


def test_arrays_that_are_not_there_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"here \['y'\], not of \['strain'\]"):
        analysed(tmp_path, 0.0, name="strain")


def test_too_few_simulations_say_how_many_are_needed(tmp_path):
    said = []
    result = analysed(tmp_path, 0.0, simulations=1000, say=said.append)
    assert result.rounds[-1]["goodness_of_fit"] == []
    assert any("need 3998 simulations, there are 1000" in line for line in said)
