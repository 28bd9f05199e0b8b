"""Errors of templates: the field's variance and correlation, what it multiplies, and that the data tell its scatter."""

from __future__ import annotations

import healpy
import numpy as np
import pytest
import torch

from tmnre import Prior, Uniform
from tmnre_popsources import template_errors
from tmnre_popsources.fluxes import BrokenPowerLaw
from tmnre_popsources.sky import Sky, latitude_mask
from tmnre_popsources.sky_simulator import SkySimulator
from tmnre_popsources.template_errors import MOST, TemplateErrors

NSIDE = 32


@pytest.fixture(scope="module")
def fields():
    sky = Sky(np.zeros(12 * NSIDE**2, dtype=bool))
    errors = TemplateErrors(sky)
    return sky, errors, errors.fields(200, torch.Generator().manual_seed(0)).double().numpy()


def test_variance_is_one_and_spectrum_the_one_asked_for(fields):
    sky, errors, g = fields
    power = np.mean([healpy.anafast(sky.to_ring(row), lmax=20, iter=3) for row in g], axis=0)
    degree = np.arange(2, 21)
    # the scatter of 200 realisations of 2 l + 1 modes, and what the analysis of a pixelised map is good for
    error = np.sqrt(2 / (200 * (2 * degree + 1)))
    assert (np.abs(power[2:] / errors.c_l[2:21] - 1) < 5 * error + 0.01).all()
    assert np.mean(g**2) == pytest.approx(
        1.0, abs=5 * np.sqrt(2 / 200) * np.sqrt((errors.c_l**2).sum() / errors.c_l.sum() ** 2) + 0.01
    )
    assert errors.c_l[0] == 0 and len(errors.c_l) == MOST + 1


def test_factors_have_mean_one(fields):
    _, errors, _ = fields
    factors = errors.factors(torch.full((400,), 0.4), torch.Generator().manual_seed(1))
    each = factors.mean(1)
    assert abs(float(each.mean()) - 1) < 5 * float(each.std()) / 20
    assert float(factors.log().std()) == pytest.approx(0.4, rel=0.05)
    assert (errors.factors(torch.zeros(3), torch.Generator().manual_seed(1)) == 1).all()


def sky_of(uncertain: tuple[str, ...]) -> SkySimulator:
    sky = Sky(latitude_mask(16, 30.0))
    law = BrokenPowerLaw(1, pivot=10.0, faintest=1.0)
    own = {name: Uniform(1.0, 4.0) for name in law.names}
    norms = {"even": Uniform(0, 2), "galactic": Uniform(0, 2)}
    last = {template_errors.NAME: Uniform(0, 1)} if uncertain else {}
    templates = {"even": np.full(len(sky), 200.0), "galactic": np.full(len(sky), 300.0)}
    how = {"law": law, "exposure": np.ones(12 * 16**2), "templates": templates, "psf": None, "uncertain": uncertain}
    return SkySimulator(sky, Prior({**own, **norms, **last}), **how)


def test_only_uncertain_templates_scatter():
    simulator = sky_of(("galactic",))
    theta = torch.tensor([[*(2.0,) * len(simulator.law.names), 1.0, 1.0, 0.3]]).double().repeat(300, 1)
    counts = simulator.diffuse(theta, torch.Generator().manual_seed(2))
    # Poisson, and the variance of a log-normal factor of 300 counts; pixels are alike, so skies tell
    expected = 500 + (np.exp(0.3**2) - 1) * 300**2
    assert float(counts.var(0).mean()) == pytest.approx(expected, rel=0.1)
    assert float(counts.mean()) == pytest.approx(500, rel=0.02)
    theta[:, -1] = 0
    assert float(simulator.diffuse(theta, torch.Generator().manual_seed(2)).var(0).mean()) == pytest.approx(
        500, rel=0.05
    )


def test_the_scatter_is_a_parameter_only_where_templates_are_uncertain():
    assert sky_of(()).prior.names[-1] == "galactic"
    with pytest.raises(ValueError, match="template_scatter"):
        SkySimulator(
            *(sky_of(()).sky, sky_of(()).prior),
            law=sky_of(()).law,
            exposure=np.ones(12 * 16**2),
            templates={name: np.ones(len(sky_of(()).sky)) for name in ("even", "galactic")},
            psf=None,
            uncertain=("galactic",),
        )
