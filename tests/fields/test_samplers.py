"""Chains on fields against exact answers: a linear Gaussian model, and a hard constraint."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from tmnre_fields import spectrum
from tmnre_fields.forward import Component, FieldModel
from tmnre_fields.information import Information
from tmnre_fields.posterior import Posterior
from tmnre_fields.response import Response
from tmnre_fields.samplers import effective_samples, elliptical_slice, hamiltonian
from tmnre_fields.sky import Flat


@pytest.fixture(scope="module")
def problem():
    """Linear field of 36 pixels, its exact posterior, and the likelihood."""
    sky = Flat(6)
    power = spectrum.power(torch.tensor([1.0]), torch.tensor([2.0]), pixels=6, knee=2.0)[0]
    model = FieldModel(Response(sky), [Component("z", power)], noise=0.7)
    generator = torch.Generator().manual_seed(0)
    x = model.observe(model.signal(model.draw(1, generator)), generator)
    precision = torch.full((1, 1, 6, 6), 1 / 0.49)
    exact = Posterior(Information(model.response, precision, precision * x), model.power())
    return model, x, exact


def summaries(sky):
    return lambda z: sky.fields(z)[:, 0].flatten(1)


@pytest.mark.parametrize("sampler", ["hmc", "langevin", "ellipses"])
def test_moments(problem, sampler):
    """Means and variances of every pixel, within five standard errors by the chains' own effective sample size."""
    model, x, exact = problem
    sky = model.response.sky
    generator = torch.Generator().manual_seed(1)
    start = model.draw(20, generator)

    def log_l(z):
        return model.log_likelihood(x, z)

    keep = summaries(sky)
    if sampler == "ellipses":
        how = {"draws": 1500, "warmup": 200, "keep": keep}
        chain = elliptical_slice(log_l, sky, model.power(), start, generator, **how)
    else:
        leaps, draws = (8, 200) if sampler == "hmc" else (1, 1000)
        how = {"draws": draws, "warmup": 100, "leaps": leaps, "keep": keep}
        chain = hamiltonian(log_l, exact, start, generator, target=0.8 if leaps > 1 else 0.57, **how)
    ess = effective_samples(chain.draws)
    assert ess.min() > 200
    flat = chain.draws.flatten(0, 1)
    mean = sky.fields(exact.mean()).flatten()
    drawn = sky.fields(exact.draw(4000, generator)).flatten(1)
    # a homogeneous problem: every pixel has the same variance
    variance = float((drawn - mean).square().mean())
    assert ((flat.mean(0) - mean).abs() < 5 * (variance / ess) ** 0.5).all()
    assert float(flat.var(0).mean()) == pytest.approx(variance, rel=5 * (2 / float(ess.mean())) ** 0.5)


def test_hard_constraint(problem):
    """The prior's draws in a ball chi2(z) < c, in its own metric: chi2 is chi-squared of 36, cut at c."""
    model, _, _ = problem
    sky, power = model.response.sky, model.power()
    limit, n = 20.0, 200

    def inside(z):
        return torch.where(sky.inner(z, z / power) < limit, 0.0, -torch.inf)

    generator = torch.Generator().manual_seed(3)
    start = 0.1 * model.draw(n, generator)
    chain = elliptical_slice(
        inside, sky, power, start, generator, draws=1, warmup=150, keep=lambda z: sky.inner(z, z / power)[:, None]
    )
    found = chain.draws[-1, :, 0].numpy()
    cut = stats.chi2(36).cdf(limit)
    assert stats.kstest(found, lambda c: stats.chi2(36).cdf(c) / cut).pvalue > 1e-4
    # in 36 dimensions nearly all of it is at the boundary
    assert (found > 0.7 * limit).mean() > 0.9


def test_effective_samples_of_an_autoregression():
    """x' = a x + noise has autocorrelation time (1 + a) / (1 - a): 19 for a = 0.9; chains apart are worth nothing."""
    generator = torch.Generator().manual_seed(4)
    a, s, n = 0.9, 4000, 8
    x = torch.zeros(s, n, 1)
    x[0] = torch.randn(n, 1, generator=generator)
    for i in range(1, s):
        x[i] = a * x[i - 1] + (1 - a**2) ** 0.5 * torch.randn(n, 1, generator=generator)
    assert float(effective_samples(x)) == pytest.approx(s * n / 19, rel=0.15)
    assert float(effective_samples(x + 10 * torch.arange(n).view(1, n, 1))) < 20
