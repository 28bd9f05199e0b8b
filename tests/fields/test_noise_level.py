"""A field in noise whose level is not known, seen by two channels, beside exact answers.

What the channels disagree on is noise alone, so the level's posterior is that of a variance; the field's is a Wiener
filter's, averaged over it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from tqdm import tqdm

from tmnre import Place, Training
from tmnre_fields import noise_level, spectrum
from tmnre_fields.forward import Component, FieldModel
from tmnre_fields.network import Network
from tmnre_fields.response import Response
from tmnre_fields.sequential import Course, FieldRounds
from tmnre_fields.sky import Flat

PIXELS, NOISE, TRUE = 24, 0.5, 1.4
POWER = spectrum.power(*torch.tensor([[1.0], [2.0]]).double(), pixels=PIXELS, knee=3.0)[0]
MODEL = FieldModel(Response(Flat(PIXELS), torch.ones(2, 1)), [Component("z", POWER)], noise=NOISE)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Data, and what the rounds say of them."""
    generator = torch.Generator().manual_seed(3)
    x = replace(MODEL, noise=NOISE * TRUE).observe(MODEL.signal(MODEL.draw(1, generator)), generator)[0]
    work = FieldRounds(
        replace(MODEL, prior=noise_level.PRIOR, noise_factor="noise_factor"),
        x,
        Course(simulations=(500,), steps=(80,), thresholds=(), fitted=300, held_out=30, draws=300),
        Training(batch_size=32, accelerator="cpu"),
        Network(widths=(8, 16), hidden=8),
        first=noise_level.analysis(MODEL, x, seed=0),
    )
    folder = tmp_path_factory.mktemp("noise")
    return x, work.run(Place(folder, progress=partial(tqdm, disable=True), say=lambda _: None)), work


def level(x) -> tuple[np.ndarray, np.ndarray]:
    """The exact posterior of the factor, on a grid."""
    d = (x[1] - x[0]).double() / (NOISE * 2**0.5)
    f = np.linspace(0.5, 2.0, 20_001)
    log_p = -(d.numel() + 1) * np.log(f) - 0.5 * float(d.square().sum()) / f**2
    return f, np.exp(log_p - log_p.max())


def test_the_level_is_that_of_the_variance(found):
    x, result, _ = found
    f, p = level(x)
    mean = np.average(f, weights=p)
    sd = np.average((f - mean) ** 2, weights=p) ** 0.5
    marginal = result["noise_factor"]
    at = np.average(marginal.samples[:, 0], weights=marginal.weights)
    assert abs(at - mean) < sd / 3 and 0.85 < marginal.sd / sd < 1.2
    assert abs(mean - TRUE) < 3 * sd and result.rounds[-1]["log_volume"] < -0.5


def test_the_field_is_filtered_with_the_noise_that_there_is(found):
    x, _, work = found
    f, p = level(x)
    variance = np.average(f**2, weights=p) * NOISE**2 / 2
    share = POWER / (POWER + variance)
    mean = torch.fft.irfft2(share * torch.fft.rfft2(x.mean(0).double()), s=(PIXELS, PIXELS)).numpy()
    sd = float((variance * (share * spectrum.multiplicity(PIXELS)).sum() / PIXELS**2).sqrt())
    maps = work._found
    # of 300 draws a variance is known to 8%, over all pixels far better
    assert np.sqrt(np.mean((maps.mean[0] - mean) ** 2)) < 0.15 * sd
    assert np.sqrt(np.mean(maps.sd[0] ** 2)) == pytest.approx(sd, rel=0.05)
    # as if the noise were what it was said to be, it would be too narrow
    share = POWER / (POWER + NOISE**2 / 2)
    wrong = float((NOISE**2 / 2 * (share * spectrum.multiplicity(PIXELS)).sum() / PIXELS**2).sqrt())
    assert wrong < 0.85 * sd


def test_a_factor_that_is_no_parameter():
    with pytest.raises(ValueError, match="noise_factor must be a parameter of the prior"):
        replace(MODEL, noise_factor="level")


def test_one_channel_cannot_disagree():
    alone = FieldModel(Response(Flat(PIXELS)), [Component("z", POWER)], noise=NOISE)
    with pytest.raises(ValueError, match="two channels with Gaussian noise"):
        noise_level.Disagreement(alone)
