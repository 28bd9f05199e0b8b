"""The trained estimator of a linear Gaussian field with a mask against the dense Wiener filter, flat and on the sphere.

It is trained from simulations and never told the likelihood.  Asked for: means within 0.05 posterior standard
deviations rms, variances within 5%, inside and outside the mask.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from tmnre import Training
from tmnre_fields import spectrum
from tmnre_fields.forward import Component, FieldModel
from tmnre_fields.information import Information
from tmnre_fields.network import InformationNet, Network
from tmnre_fields.posterior import Posterior
from tmnre_fields.response import Response
from tmnre_fields.simulations import simulate, train
from tmnre_fields.sky import Flat
from tmnre_fields.sphere import Sphere

sys.path.insert(0, str(Path(__file__).parent))
from dense import matrices, real_basis  # noqa: E402

NOISE = 0.3


def flat() -> FieldModel:
    sky = Flat(16)
    power = spectrum.power(torch.tensor([0.8]), torch.tensor([3.0]), pixels=16, knee=3.0)[0]
    mask = torch.ones(1, 16, 16, dtype=torch.bool)
    mask[:, 4:9, 5:12] = False
    return FieldModel(Response(sky), [Component("z", power)], noise=NOISE, mask=mask)


def sphere() -> FieldModel:
    sky = Sphere(4, 8)
    mask = torch.ones(1, 192, dtype=torch.bool)
    mask[:, 70:122] = False
    return FieldModel(Response(sky), [Component("z", 1 / (1 + sky.wavenumber) ** 2)], noise=NOISE, mask=mask)


@pytest.mark.parametrize("make", [flat, sphere])
def test_mean_and_variance_are_those_of_the_wiener_filter(make):
    model, generator = make(), torch.Generator().manual_seed(0)
    sky = model.response.sky
    simulations = simulate(model, 1000, generator)
    x = simulations.x(slice(None), generator)
    net = InformationNet(model, simulations.z, x, Network(widths=(8, 16), hidden=8))
    settings = Training(batch_size=32, validation_fraction=0.03, learning_rate=1e-3, threads=1)
    train(net, simulations, settings, steps=60, seed=0, progress=_no_bar)
    net.eval()
    with torch.no_grad():
        found = net({"x": x[:40]})
    basis = real_basis(model.response)
    fields = sky.fields(basis)[:, 0].flatten(1)
    precision = (model.observed / NOISE**2)[None].double()
    power = model.power().double()

    def moments(information: Information) -> tuple[torch.Tensor, torch.Tensor]:
        inverse, q = matrices(information.to(torch.float64), power, basis)
        covariance = torch.linalg.inv(inverse + q)
        variance = torch.einsum("kp,kl,lp->p", fields, covariance, fields)
        return Posterior(information.to(torch.float64), power).mean(tolerance=1e-9), variance

    masked = model.observed.flatten() == 0
    errors, ratios = [], []
    for row in range(3):
        mean, variance = moments(found[row : row + 1])
        exact_mean, exact_variance = moments(Information(model.response, precision, precision * x[row : row + 1]))
        z = (sky.fields(mean - exact_mean).flatten() / exact_variance.sqrt()).square()
        errors.append(torch.stack([z[masked].mean(), z[~masked].mean()]))
        ratio = variance / exact_variance
        ratios.append(torch.stack([ratio[masked].mean(), ratio[~masked].mean()]))
    assert (torch.stack(errors).mean(0).sqrt() < 0.05).all(), errors
    assert ((torch.stack(ratios) - 1).abs() < 0.05).all(), ratios


@pytest.mark.parametrize("spots", [False, True])
def test_the_line_begins_with_the_noise_of_every_pixel(spots):
    """Known to better than a third of sqrt(2 / n) where it is a line in the model's, and to that where it is not.

    Two numbers, of noise and of what else scatters alike everywhere, are fitted to n times 256 pixels.
    """
    n, rest, more = 300, 0.2, torch.zeros(256)
    more[::5] = 1.0 if spots else 0.0
    noise = NOISE * torch.linspace(0.6, 1.7, 256)

    def nuisance(count: int, generator: torch.Generator) -> torch.Tensor:
        white = torch.randn(count, 256, generator=generator) * (rest**2 + more**2).sqrt()
        return white.view(count, 1, 16, 16)

    model = FieldModel(Response(Flat(16)), flat().components, noise=noise.view(1, 16, 16), nuisance=nuisance)
    generator = torch.Generator().manual_seed(0)
    simulations = simulate(model, n, generator)
    net = InformationNet(model, simulations.z, simulations.x(slice(None), generator), Network(widths=(8,), hidden=8))
    ratio = net.precision.flatten() * (noise**2 + rest**2 + more**2)
    error = (ratio - 1).square().mean().sqrt()
    # of the rms of 256 errors themselves, five sigma
    bound = (2 / n) ** 0.5 * (1 + 5 / 512**0.5) if spots else (2 / n) ** 0.5 / 3
    assert error < bound, error


def _no_bar(*args, **kwargs):
    from tqdm import tqdm

    return tqdm(*args, **kwargs, disable=True)
