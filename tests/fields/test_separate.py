"""One component with the others averaged over, against dense matrices."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from tmnre_fields.information import Information
from tmnre_fields.response import Response
from tmnre_fields.separate import Averaged
from tmnre_fields.sky import Flat

sys.path.insert(0, str(Path(__file__).parent))
from dense import coefficients, matrices, real_basis  # noqa: E402

RESPONSE = Response(Flat(5), torch.tensor([[1.0, 0.5], [0.3, 1.0], [1.0, 1.0]]))


@pytest.fixture(scope="module", params=["pixel", "pixel mode rank"])
def problem(request):
    """Information with every part, the prior's power; and the exact mean and covariance of all components."""
    generator = torch.Generator().manual_seed(4)
    shape = (1, RESPONSE.channels, *RESPONSE.grid)
    pixel = 5 * torch.rand(shape, generator=generator, dtype=torch.float64)
    pixel[..., :2] = 0
    pull = torch.randn(shape, generator=generator, dtype=torch.float64) * pixel.sqrt()
    k = RESPONSE.sky.wavenumber
    power = torch.stack([3 / (1 + k) ** 2, 1 / (1 + k)])[None]
    every = "rank" in request.param
    low_rank = torch.randn((1, 2, *shape[1:]), generator=generator, dtype=torch.float64) if every else None
    information = Information(RESPONSE, pixel, pull, 0.5 / power if every else None, low_rank)
    basis = real_basis(RESPONSE)
    inverse, q = matrices(information, power, basis)
    covariance = torch.linalg.inv(inverse + q)
    mean = covariance @ coefficients(information.b(), basis, RESPONSE.sky)[0]
    return information, power, basis, mean, covariance, torch.linalg.inv(inverse)


def alone(which: int, basis, n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Modes z (n, 1, *mode_shape) of a component, their coefficients in a basis of it (n, K'), and its rows (K', K)."""
    single = real_basis(Response(RESPONSE.sky))
    embedded = torch.zeros(len(single), 2, *single.shape[2:], dtype=single.dtype)
    embedded[:, which] = single[:, 0]
    z = RESPONSE.sky.white((n, 1), torch.Generator().manual_seed(seed), torch.float64)
    return z, coefficients(z, single, RESPONSE.sky), coefficients(embedded, basis, RESPONSE.sky)


@pytest.mark.parametrize("which", [0, 1])
def test_likelihood_of_one_component_is_that_of_the_dense_marginal(problem, which):
    information, power, basis, mean, covariance, prior = problem
    z, c, rows = alone(which, basis, 8, 5)
    made = Averaged(information, power, (which,))
    posterior = torch.distributions.MultivariateNormal(rows @ mean, rows @ covariance @ rows.T)
    before = torch.distributions.MultivariateNormal(torch.zeros(len(rows)).double(), rows @ prior @ rows.T)
    exact = posterior.log_prob(c) - before.log_prob(c)
    at_zero = posterior.log_prob(0 * c[0]) - before.log_prob(0 * c[0])
    found = made.log_likelihood(z)
    torch.testing.assert_close(found, exact - at_zero, rtol=1e-5, atol=1e-5)
    # another component's likelihood is another one
    assert (Averaged(information, power, (1 - which,)).log_likelihood(z) - found).abs().min() > 1e-3
    white = RESPONSE.sky.white((400, 2), torch.Generator().manual_seed(6), torch.float64)
    value, error = made.log_evidence(white)
    assert abs(value - float(at_zero)) < 5 * error and error < 0.2


def test_the_rest_given_one_component_is_the_dense_conditional(problem):
    information, power, basis, mean, covariance, _ = problem
    z, c, rows = alone(0, basis, 3, 7)
    _, _, theirs = alone(1, basis, 1, 7)
    cross = theirs @ covariance @ rows.T @ torch.linalg.inv(rows @ covariance @ rows.T)
    exact = theirs @ mean + (c - rows @ mean) @ cross.T
    given = Averaged(information, power, (0,)).rest(z)
    found = coefficients(given.mean(tolerance=1e-10), real_basis(Response(RESPONSE.sky)), RESPONSE.sky)
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-6)


def test_all_or_none_of_the_components_are_refused(problem):
    information, power, *_ = problem
    for of in ((), (0, 1), (2,), (0, 0)):
        with pytest.raises(ValueError, match="some of the components"):
            Averaged(information, power, of)
