"""Skies: transforms and their adjoints, white noise, spectra of what is drawn; flat, with margin, and the sphere."""

from __future__ import annotations

import healpy
import numpy as np
import pytest
import torch

from tmnre_fields.response import Response
from tmnre_fields.sky import Flat
from tmnre_fields.sphere import Sphere

SKIES = {"flat": Flat(12), "odd": Flat(9), "margin": Flat(8, margin=3), "sphere": Sphere(4, 10)}


@pytest.fixture(params=SKIES, scope="module")
def sky(request):
    return SKIES[request.param]


def modes(sky, shape, seed):
    """Any modes that are those of a real field."""
    return sky.white(shape, torch.Generator().manual_seed(seed), torch.float64)


@pytest.mark.parametrize("combined", [None, torch.tensor([[0.5, 0.4, 1.0], [2.0, -1.0, 0.0]])])
@pytest.mark.parametrize("beam", [False, True])
def test_adjoint(sky, beam, combined):
    """<A z, d> = <z, A^* d> for two components in three channels, or in two combinations of these."""
    mixing = torch.tensor([[1.0, 0.3], [0.5, -1.0], [0.0, 2.0]])
    transfer = torch.exp(-0.01 * sky.wavenumber**2) if beam else None
    response = Response(sky, mixing, transfer, combined)
    z = modes(sky, (2, 2), 0)
    generator = torch.Generator().manual_seed(1)
    d = torch.randn(2, response.channels, *response.grid, dtype=torch.float64, generator=generator)
    left = (response(z) * d).flatten(1).sum(1)
    torch.testing.assert_close(left, sky.inner(z, response.adjoint(d)), rtol=1e-6, atol=1e-6)


def test_white_noise_is_white_in_the_product(sky):
    """Var <v, a> = <a, a>: five sigma of the scatter of a variance from 20,000 draws."""
    a, n = modes(sky, (1, 1), 2), 20_000
    v = sky.white((n, 1), torch.Generator().manual_seed(3), torch.float64)
    found = sky.inner(v, a.expand_as(v)).var()
    assert abs(float(found / sky.inner(a, a)) - 1) < 5 * np.sqrt(2 / n)


def test_gradients_reach_modes(sky):
    """d/dz of a sum over pixels, against finite differences along a random direction."""
    z, direction = modes(sky, (1, 1), 4).requires_grad_(), modes(sky, (1, 1), 5)
    weights = torch.randn(sky.grid, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    value = (weights * sky.fields(z).sin()).sum()
    (gradient,) = torch.autograd.grad(value, z)
    step = 1e-5
    with torch.no_grad():
        up, down = ((weights * sky.fields(z + s * direction).sin()).sum() for s in (step, -step))
    expected = (up - down) / (2 * step)
    # torch's gradient of complex numbers counts every kept mode once
    found = (gradient.real * direction.real + gradient.imag * direction.imag).sum()
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_sphere_draws_have_their_spectrum():
    """anafast of draws: chi-squared with 2 l + 1 degrees each; healpy's own analysis is exact to 1e-3 here."""
    sky, n = Sphere(16, 24), 60
    ell = sky.wavenumber
    power = 1 / (1 + ell) ** 2
    z = power.sqrt() * sky.white((n,), torch.Generator().manual_seed(0), torch.float64)
    found = np.mean([healpy.anafast(m, lmax=24, iter=5) for m in sky.fields(z).numpy()], 0)
    ratio = found * (1 + np.arange(25)) ** 2
    error = np.sqrt(2 / (n * (2 * np.arange(25) + 1)))
    assert np.all(np.abs(ratio - 1) < 4.5 * error + 2e-3)
    np.testing.assert_allclose(sky.binned(z).mean(0).numpy(), found, rtol=5e-3)


@pytest.mark.parametrize(("nside", "lmax"), [(1, 2), (4, 10), (16, 64)])
def test_the_sphere_is_healpys(nside, lmax):
    """Maps of a_lm, and sums over pixels of conj(Y_lm) f, in both precisions."""
    sky = Sphere(nside, lmax)
    a = sky.white((2, 3), torch.Generator().manual_seed(0), torch.float64)
    maps = np.array([[healpy.alm2map(one, nside, lmax=lmax, pol=False) for one in row] for row in a.numpy()])
    back = np.array([[healpy.map2alm(one, lmax=lmax, iter=0, pol=False) for one in row] for row in maps])
    for kind, tolerance in ((torch.complex128, 1e-12), (torch.complex64, 1e-5)):
        found = sky.fields(a.to(kind))
        np.testing.assert_allclose(found.numpy(), maps, atol=tolerance * maps.std())
        np.testing.assert_allclose(sky.modes(found).numpy() / sky.density, back, atol=tolerance * back.std())


def test_images_of_the_sphere_come_back():
    sky = Sphere(8, 8)
    maps = torch.arange(2 * 3 * 768.0).view(2, 3, 768)
    torch.testing.assert_close(sky.from_images(sky.images(maps)), maps)
    # neighbouring pixels of an image are neighbours on the sky
    faces = sky.images(torch.arange(768.0).view(1, 1, 768))[:, 0].long().numpy()
    vectors = np.stack(healpy.pix2vec(8, faces), -1)
    apart = np.arccos(np.clip((vectors[:, 1:] * vectors[:, :-1]).sum(-1), -1, 1))
    assert apart.max() < 2 * healpy.nside2resol(8)


@pytest.mark.parametrize("combined", [None, torch.tensor([[0.5, 1.0], [1.0, -1.0]])])
@pytest.mark.parametrize("beam", [False, True])
def test_response_without_functions_is_blur_of_fields(beam, combined):
    """On a flat sky: the same whether fields are blurred or modes multiplied."""
    sky = Flat(10, margin=2)
    transfer = torch.exp(-0.05 * sky.wavenumber**2) if beam else None
    response = Response(sky, torch.tensor([[1.0], [2.0]]), transfer, combined)
    z = modes(sky, (3, 1), 7)
    torch.testing.assert_close(response.blur(sky.fields(z)), response(z))
