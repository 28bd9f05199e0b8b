import numpy as np
import pytest
import torch
from scipy import stats

from tmnre.joint import GRID, Joint
from tmnre.start import Coordinates, Start

FEATURES = 10


def start(d):
    """The last 2 d features are means and widths of targets that are correlated."""
    place = Coordinates.between(torch.arange(d) % 2 == 0, torch.zeros(d), torch.ones(d))
    covariance = 0.3 * torch.eye(d) + 0.1
    return Start(torch.zeros(1, d), torch.zeros(d), place, covariance, torch.arange(d) == 0)


def joint(d, *, learned, scale=2.0, begun=False):
    """Random weights, large enough that no term is flat, but for the first where it begins with one of a start."""
    torch.manual_seed(d)
    made = Joint.new(torch.arange(d), FEATURES, learned=learned, start=start(d) if begun else None).eval()
    with torch.no_grad():
        for name, weight in made.named_parameters():
            weight.mul_(scale if name.endswith("in.weight") else 1.0)
    return made


@pytest.fixture
def features():
    some = torch.randn(1, FEATURES, generator=torch.Generator().manual_seed(0))
    some[:, FEATURES // 2 :] = some[:, FEATURES // 2 :].exp()  # widths are above zero
    return some


def test_a_term_sees_only_the_targets_before_it(features):
    made = joint(4, learned=True)
    s = torch.rand(1, 4, requires_grad=True)
    for chain in (made.posterior, made.prior):
        for i in range(4):
            (gradient,) = torch.autograd.grad(chain.of_given(features, s)[0, i].sum(), s)
            assert (gradient[0, :i] != 0).all() and (gradient[0, i:] == 0).all()


@pytest.mark.parametrize("learned", [False, True])
def test_logit_is_the_sum_of_the_factors(features, learned):
    made, s = joint(3, learned=learned), torch.rand(50, 3)
    a, b = made.factors(features.expand(50, -1), s)
    assert a.shape == b.shape == (50, made.terms, 32)
    # the posterior's three terms, less the last two of the prior
    signs = torch.tensor([1, 1, 1, -1, -1] if learned else [1, 1, 1])
    expected = ((a * b).sum(2) * signs).sum(1)
    torch.testing.assert_close(made.logit(features, s).float(), expected)
    if not learned:
        assert made.prior is None


def test_the_normalised_ratio_integrates_to_one(features):
    made = joint(2, learned=False)
    middle = (torch.arange(GRID) + 0.5) / GRID
    s = torch.cartesian_prod(middle, middle)
    log_r = made.log_ratio(features, s)
    # both sums are over the cells of the grid
    assert float(log_r.exp().mean()) == pytest.approx(1, rel=1e-4)
    assert float(log_r.exp().std()) > 0.3


@pytest.mark.parametrize(("learned", "begun"), [(False, False), (True, False), (False, True)])
def test_draws_carry_their_own_ratio(features, learned, begun):
    made = joint(4, learned=learned, begun=begun)
    s, log_r, log_integral = made.sample(features.expand(5000, -1), torch.Generator().manual_seed(1))
    assert s.shape == (5000, 4) and 0 <= s.min() and s.max() <= 1
    direct = made.log_ratio(features, s)
    # a draw has the density of the middle of its cell, half a cell away at most
    slope = sum((made.log_ratio(features, s + step) - direct).abs() for step in torch.eye(4) / GRID)
    assert ((log_r - direct).abs() < slope + 1e-3).double().mean() > 0.99
    if not learned:
        difference = made.logit(features, s).detach() - direct
        # two ways, each with the rounding of single precision; how large that is, double precision says
        made, features, s = made.double(), features.double(), s.double()
        precise = made.logit(features, s).detach() - made.log_ratio(features, s)
        rounding = max(1e-5, float((precise - difference).abs().max()))
        np.testing.assert_allclose(difference, log_integral, atol=2 * rounding)
        assert rounding < 1e-3


def test_draws_follow_the_density(features):
    made = joint(2, learned=False)
    s, *_ = made.sample(features.expand(40_000, -1), torch.Generator().manual_seed(2))
    middle = (torch.arange(GRID) + 0.5) / GRID
    density = made.log_ratio(features, torch.cartesian_prod(middle, middle)).exp()
    # 16 x 16 cells of the grid's
    expected = density.reshape(16, GRID // 16, 16, GRID // 16).sum((1, 3)).flatten().numpy()
    found = np.histogram2d(*s.T.numpy(), bins=16, range=[(0, 1)] * 2)[0].ravel()
    assert stats.chisquare(found, expected / expected.sum() * len(s)).pvalue > 1e-3
    # the same test refuses draws that are not of this density
    swapped = np.histogram2d(*s.T.numpy()[::-1], bins=16, range=[(0, 1)] * 2)[0].ravel()
    assert stats.chisquare(swapped, expected / expected.sum() * len(s)).pvalue < 1e-3
