"""Tempered proposals: their threshold, and that the correction for them is exact."""

from __future__ import annotations

import pytest
import torch

from tmnre_fields import spectrum, tempering
from tmnre_fields.forward import Component, FieldModel
from tmnre_fields.information import Information
from tmnre_fields.nll import negative_log_ratio
from tmnre_fields.posterior import Posterior
from tmnre_fields.response import Response
from tmnre_fields.simulations import simulate
from tmnre_fields.sky import Flat

NOISE = 0.4


@pytest.fixture(scope="module")
def model() -> FieldModel:
    sky = Flat(12)
    power = spectrum.power(torch.tensor([1.0]), torch.tensor([3.0]), pixels=12, knee=2.0)[0]
    mask = torch.ones(1, 12, 12, dtype=torch.bool)
    mask[:, :4, :5] = False
    return FieldModel(Response(sky), [Component("z", power)], noise=NOISE, mask=mask)


@pytest.fixture(scope="module")
def observed(model) -> Information:
    """Exact information of one observation."""
    generator = torch.Generator().manual_seed(5)
    x = model.observe(model.signal(model.draw(1, generator)), generator)
    precision = (model.observed / NOISE**2)[None]
    return Information(model.response, precision, precision * x)


@pytest.mark.parametrize("threshold", [1.0, 3.0, 10.0])
def test_threshold_is_reached(model, observed, threshold):
    """With fresh draws, within the scatter of means of chi2: the relative one of a mode is sqrt(2) at most."""
    solved = tempering.solve(observed, model.power(), threshold, torch.Generator().manual_seed(0), draws=64)
    mean = Posterior(observed, model.power()).mean()
    found = tempering.excess(observed, model.power(), solved.g, mean, torch.Generator().manual_seed(9), 400)
    error = 4 * (2 / solved.determined) ** 0.5 * (1 / 64 + 1 / 400) ** 0.5 + 0.01
    # few modes may carry most of it where the proposal is wide
    assert found / solved.determined == pytest.approx(threshold, rel=2 * error)
    assert (solved.g < 1) == (threshold > 1) or solved.g > 0.95


def test_determined_modes_are_the_trace(model, observed):
    """E_1[chi2] = tr(Q (P^-1 + Q)^-1), dense."""
    sky = model.response.sky
    eye = torch.eye(144, dtype=torch.float64).view(144, 1, 12, 12)
    prior = sky.fields(sky.modes(eye) * model.power().double()).view(144, 144)
    q = torch.diag(model.observed.flatten().double() / NOISE**2)
    trace = torch.trace(q @ torch.linalg.inv(torch.linalg.inv(prior) + q))
    solved = tempering.solve(observed, model.power(), 2.0, torch.Generator().manual_seed(1), draws=300)
    assert solved.determined == pytest.approx(float(trace), rel=5 * (2 / float(trace) / 300) ** 0.5)


@pytest.mark.parametrize("corrected", [True, False])
def test_correction_makes_the_likelihoods_own_information_optimal(model, observed, corrected):
    """At the exact information the expected gradient vanishes, under the proposal, if and only if it is accounted for.

    Directions: precision everywhere, and pull everywhere.  The gradient's error is its scatter over simulations.
    """
    n, generator = 1500, torch.Generator().manual_seed(2)
    proposal = observed * 0.5
    simulations = simulate(model, n, generator, proposal=proposal, batch=500)
    x = simulations.x(slice(None), generator)
    scale, shift = (torch.zeros(n, requires_grad=True) for _ in range(2))
    precision = (model.observed / NOISE**2)[None].expand(n, 1, 12, 12)
    along = (-1, 1, 1, 1)
    learned = Information(
        model.response,
        precision * scale.view(along).exp(),
        precision * x * (1 + shift.view(along)),
    )
    white = model.response.sky.white((n, 1), generator)
    loss = negative_log_ratio(
        learned, simulations.z, model.power(), white, proposal=proposal if corrected else None, tolerance=1e-4
    )
    gradients = torch.stack(torch.autograd.grad(loss.sum(), (scale, shift)))
    z = gradients.mean(1) / gradients.std(1) * n**0.5
    if corrected:
        assert z.abs().max() < 4, z
    else:
        assert z.abs().max() > 10, z
