"""The matrix-free posterior against dense matrices, for every kind of information, on flat skies and the sphere."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from tmnre_fields import spectrum
from tmnre_fields.forward import Component, FieldModel
from tmnre_fields.information import Information
from tmnre_fields.nll import negative_log_ratio
from tmnre_fields.pointwise import exponential
from tmnre_fields.posterior import Posterior
from tmnre_fields.response import Response
from tmnre_fields.simulations import simulate
from tmnre_fields.sky import Flat
from tmnre_fields.sphere import Sphere

sys.path.insert(0, str(Path(__file__).parent))
from dense import coefficients, matrices, real_basis  # noqa: E402

FLAT, MIXED, COMBINED, SPHERE = (
    Response(Flat(7, margin=1), beam=torch.exp(-0.02 * Flat(7, margin=1).wavenumber ** 2)),
    Response(Flat(6), torch.tensor([[1.0, 0.5], [0.3, 1.0], [1.0, 1.0]])),
    Response(
        Flat(6),
        torch.tensor([[1.0, 0.5], [0.3, 1.0]]),
        torch.exp(torch.tensor([-0.02, -0.05]).view(2, 1, 1) * Flat(6).wavenumber ** 2),
        torch.tensor([[0.5, 0.4], [2.0, -1.0]]),
    ),
    Response(Sphere(2, 5)),
)
RESPONSES = {
    "argnames": "response",
    "argvalues": [FLAT, MIXED, COMBINED, SPHERE],
    "ids": ["flat", "mixed", "combined", "sphere"],
}


def problem(response: Response, parts: str, seed: int = 0) -> tuple[Information, torch.Tensor]:
    """Information of one observation with a mask, a steep prior, and the parts asked for."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1, response.channels, *response.grid)
    pixel = torch.rand(shape, generator=generator, dtype=torch.float64) * 20
    pixel[..., : shape[-1] // 3] = 0
    pull = torch.randn(shape, generator=generator, dtype=torch.float64) * pixel.sqrt()
    k = response.sky.wavenumber
    power = (3 / (1 + k) ** 2).expand(1, response.components, *k.shape)
    mode = (0.5 * power).clone() if "mode" in parts else None
    low_rank = None
    if "rank" in parts:
        low_rank = torch.randn((1, 2, *shape[1:]), generator=generator, dtype=torch.float64)
    return Information(response, pixel, pull, mode, low_rank), power


@pytest.mark.parametrize("parts", ["pixel", "pixel mode rank"])
@pytest.mark.parametrize(**RESPONSES)
def test_mean_draws_and_log_determinant(response, parts):
    information, power = problem(response, parts)
    sky, basis = response.sky, real_basis(response)
    inverse, q = matrices(information, power, basis)
    whole = inverse + q
    torch.testing.assert_close(whole, whole.T, rtol=1e-6, atol=1e-6)
    b = coefficients(information.b(), basis, sky)[0]
    posterior = Posterior(information, power)
    mean = coefficients(posterior.mean(tolerance=1e-10), basis, sky)[0]
    torch.testing.assert_close(mean, torch.linalg.solve(whole, b), rtol=1e-6, atol=1e-7)

    # draws: whitened by the exact factor they have unit covariance; each entry scatters by 1 / sqrt(n) or sqrt(2 / n)
    n = 400 if response is SPHERE else 1200
    generator = torch.Generator().manual_seed(1)
    drawn = torch.cat(list(posterior.draws(n, generator, tolerance=1e-6, batch=1000)))
    t = (coefficients(drawn, basis, sky) - mean) @ torch.linalg.cholesky(whole)
    covariance = t.T @ t / n
    assert (covariance - torch.eye(len(b))).abs().max() < 5.5 * (2 / n) ** 0.5

    # log det(P Q): each white vector is an unbiased estimate
    white = sky.white((n, response.components), generator, torch.float64)
    solution = posterior.solve_white(white, tolerance=1e-6, iterations=200)
    found = posterior.log_det(white, solution)
    exact = torch.logdet(whole) - torch.logdet(inverse)
    assert abs(float(found.mean() - exact)) < 4 * float(found.std()) / n**0.5 + 1e-6


@pytest.mark.parametrize(**RESPONSES)
def test_loss_and_gradient_are_those_of_the_dense_density(response):
    """-log r and its derivative along a change of every part of the information, within the scatter of the traces."""
    information, power = problem(response, "pixel mode rank")
    proposal, _ = problem(response, "pixel", seed=1)
    proposal = proposal * 0.3
    sky, basis, n = response.sky, real_basis(response), 300 if response is SPHERE else 1000
    generator = torch.Generator().manual_seed(2)
    z = power.sqrt() * sky.white((1, response.components), generator, torch.float64)
    white = sky.white((n, response.components), generator, torch.float64)
    changed, _ = problem(response, "pixel mode rank", seed=3)

    # dense, by central differences in s
    def dense(s: float) -> torch.Tensor:
        whole = (information + changed * s if s else information) + proposal
        inverse, q = matrices(whole, power, basis)
        total, b = inverse + q, coefficients(whole.b(), basis, sky)[0]
        mean = torch.linalg.solve(total, b)
        c = coefficients(z, basis, sky)[0]
        log_q = 0.5 * torch.logdet(total) - 0.5 * (c - mean) @ total @ (c - mean)
        return -(log_q - 0.5 * torch.logdet(inverse) + 0.5 * c @ inverse @ c)

    many = information.each(lambda p: p.expand(n, *p.shape[1:]))
    s = torch.full((n,), 0.1, dtype=torch.float64, requires_grad=True)

    def scaled(part: torch.Tensor) -> torch.Tensor:
        return part.expand(n, *part.shape[1:]) * s.view(-1, *(1,) * (part.ndim - 1))

    # the low-rank part enters as u u^T, so the change s u u^T is sqrt(s) u
    rank = s.sqrt().view(-1, 1, *(1,) * (changed.low_rank.ndim - 2)) * changed.low_rank
    extra = Information(response, scaled(changed.pixel), scaled(changed.pull), scaled(changed.mode), rank)
    whole = many + extra
    loss = negative_log_ratio(
        whole, z.expand(n, *z.shape[1:]), power, white, proposal=proposal, tolerance=1e-6, iterations=200
    )
    error = float(loss.std()) / n**0.5
    assert abs(float(loss.detach().mean()) - float(dense(0.1))) < 4 * error
    (gradient,) = torch.autograd.grad(loss.sum(), s)
    exact = (dense(0.1 + 1e-4) - dense(0.1 - 1e-4)) / 2e-4
    error = float(gradient.std()) / n**0.5
    assert abs(float(gradient.mean() - exact)) < 4 * error + 1e-3 * abs(float(exact))


@pytest.mark.parametrize("g", [0.0, 0.08])
def test_the_solver_goes_on_until_the_gradient_is_right(g):
    """Of precisions as under an exponential, along their common scale, within a nat; 1e-3 leaves several."""
    power = spectrum.power(*torch.tensor([[0.8], [3.0]]).double(), pixels=16, knee=3.0)[0]
    model = FieldModel(Response(Flat(16)), [Component("z", power, exponential)], noise=0.1)
    generator = torch.Generator().manual_seed(0)

    def ideal(z: torch.Tensor) -> Information:
        f = model.response.sky.fields(z)
        precision = (f.exp() / model.noise).square()
        noise = torch.randn(f.shape, generator=generator) * precision.rsqrt()
        return Information(model.response, precision, precision * (f + noise))

    proposal = ideal(model.draw(1, generator)) * g if g else None
    simulations = simulate(model, 32, generator, proposal=proposal)
    information, white = ideal(simulations.z), model.response.sky.white((32, 1), generator)

    def slope(**how) -> float:
        scale = torch.ones((), requires_grad=True)
        scaled = information.each(lambda part: part * scale)
        loss = negative_log_ratio(scaled, simulations.z, simulations.power, white, proposal=proposal, **how).mean()
        return float(torch.autograd.grad(loss, scale)[0])

    exact = slope(tolerance=1e-6, iterations=2000)
    assert abs(slope() - exact) < 1 < 3 < abs(slope(tolerance=1e-3) - exact)


def test_information_adds_and_weakens():
    """g Q + (1 - g) Q = Q in all parts, and rows of a batch are independent."""
    information, power = problem(MIXED, "pixel mode rank")
    z = MIXED.sky.white((1, 2), torch.Generator().manual_seed(4), torch.float64)
    both = information * 0.3 + information * 0.7
    torch.testing.assert_close(both.apply(z), information.apply(z))
    torch.testing.assert_close(both.b(), information.b())
    other, _ = problem(MIXED, "pixel mode rank", seed=5)
    batch = Information(
        MIXED,
        *(
            torch.cat([getattr(information, part), getattr(other, part)])
            for part in ("pixel", "pull", "mode", "low_rank")
        ),
    )
    means = Posterior(batch, power).mean(tolerance=1e-10)
    for row, each in enumerate((information, other)):
        torch.testing.assert_close(means[row], Posterior(each, power).mean(tolerance=1e-10)[0], rtol=1e-6, atol=1e-7)
