"""Laws of flux: draws, densities, numbers and tails are views of one function."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import integrate

from tmnre_popsources.fluxes import BrokenPowerLaw

LAW = BrokenPowerLaw(breaks=2, pivot=10.0, faintest=0.1, brightest=1e4)
# levels, slopes from bright to faint, breaks; among them slopes of exactly 1 and 2, where integrals change form
CASES = [(0.5, 2.6, 1.9, 0.7, 1.7, 0.3), (0.0, 3.0, 2.0, 1.0, 1.5, 0.0), (-1.0, 2.2, 1.0, -1.5, 1.9, 0.4)]


def density(flux: np.ndarray, p: tuple[float, ...]) -> np.ndarray:
    """dN/dF written out, piece by piece."""
    level, n1, n2, n3, high, low = p
    high, low = 10.0**high, 10.0**low
    shape = np.where(
        flux > high,
        (flux / high) ** -n1,
        np.where(flux > low, (flux / high) ** -n2, (low / high) ** -n2 * (flux / low) ** -n3),
    )
    pivot = (LAW.pivot / high) ** -n2 if low < LAW.pivot < high else np.nan
    return 10**level / LAW.pivot**2 * shape / pivot


@pytest.mark.parametrize("p", CASES)
def test_broken_power_law_against_quadrature(p):
    given = torch.tensor(p, dtype=torch.float64)
    edges = [LAW.faintest, 10 ** p[5], 10 ** p[4], LAW.brightest]

    def integral(power: float, low: float) -> float:
        cuts = [low, *(e for e in edges if e > low)]
        pieces = zip(cuts, cuts[1:], strict=False)
        # in ln F, where the integrand is an exponential
        return sum(
            integrate.quad(lambda t: np.exp(t * (1 + power)) * density(np.exp(t), p), *np.log(ab))[0] for ab in pieces
        )

    assert float(LAW.number(given)) == pytest.approx(integral(0, 0.1), rel=1e-8)
    assert float(LAW.expected_flux(given)) == pytest.approx(integral(1, 0.1), rel=1e-8)
    for flux in (0.5, 4.0, 70.0):
        t = torch.tensor(np.log(flux))
        assert float(LAW.survival(t, given)) == pytest.approx(integral(0, flux) / integral(0, 0.1), rel=1e-7)
        assert float(LAW.log_dn_dlogf(t, given).exp()) == pytest.approx(flux * density(np.array(flux), p), rel=1e-9)
    # the inverse of the tail
    v = torch.linspace(0.001, 0.999, 41, dtype=torch.float64)
    torch.testing.assert_close(1 - LAW.survival(LAW.log_flux(v, given), given), v, rtol=0, atol=1e-7)


def test_batches_agree_with_single_populations():
    p = torch.tensor(CASES, dtype=torch.float64)
    v = torch.rand(3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    alone = torch.stack([LAW.log_flux(a, b) for a, b in zip(v, p, strict=True)])
    torch.testing.assert_close(LAW.log_flux(v, p), alone)
    table = LAW.log_dn_dlogf(torch.linspace(-1, 5, 7, dtype=torch.float64), p[:, None])
    assert table.shape == (3, 7)
    torch.testing.assert_close(table[1, 2], LAW.log_dn_dlogf(torch.tensor(1.0, dtype=torch.float64), p[1]))
