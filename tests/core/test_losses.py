from functools import partial

import numpy as np
import pytest
import torch

from tmnre.losses import contrasts, imbalance, nre_a, nre_c

# counts of (x, z): a joint distribution with zero-free margins (5, 7) and (3, 4, 5)
COUNTS = np.array([[2, 2, 1], [1, 2, 4]])


def test_nre_c_with_one_contrast_is_half_of_nre_a():
    generator = torch.Generator().manual_seed(0)
    joint, marginal = (3 * torch.randn(4, *shape, generator=generator) for shape in ((50,), (50, 1)))
    torch.testing.assert_close(nre_c(joint, marginal, gamma=1.0), nre_a(joint, marginal) / 2)


def test_nre_c_is_equation_11():
    generator = torch.Generator().manual_seed(1)
    joint, marginal = (torch.randn(1, *shape, generator=generator, dtype=torch.float64) for shape in ((20,), (20, 5)))
    k, gamma = 5, 0.7
    given = torch.exp(torch.cat([joint[..., None], marginal[..., 1:]], -1)).sum(-1)
    none = torch.exp(marginal).sum(-1)
    neither = torch.log(k / (k + gamma * none))
    among = torch.log(gamma * torch.exp(joint) / (k + gamma * given))
    expected = -(neither.mean(1) + gamma * among.mean(1)) / (1 + gamma)
    torch.testing.assert_close(nre_c(joint, marginal, gamma), expected)


@pytest.mark.parametrize(
    ("loss", "k"),
    [(nre_a, 1), (nre_a, 2), (nre_c, 1), (nre_c, 2), (partial(nre_c, gamma=0.3), 2), (partial(nre_c, gamma=5.0), 2)],
)
def test_optimum_is_the_log_ratio(loss, k):
    # every combination (x, z, contrasts) as often as its probability says: the mean over rows is the expectation
    of_z = COUNTS.sum(0)
    draws = [(x, z, *np.unravel_index(i, (3,) * k)) for x in range(2) for z in range(3) for i in range(3**k)]
    repeats = [COUNTS[x, z] * np.prod(of_z[list(others)]) for x, z, *others in draws]
    rows = torch.from_numpy(np.repeat(draws, repeats, axis=0))
    table = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    settings = {"max_iter": 500, "tolerance_grad": 1e-12, "tolerance_change": 0, "line_search_fn": "strong_wolfe"}
    optimiser = torch.optim.LBFGS([table], **settings)

    def evaluate():
        optimiser.zero_grad()
        logits = table[rows[:, :1], rows[:, 1:]]
        value = loss(logits[None, :, 0], logits[None, :, 1:]).sum()
        value.backward()
        return value

    optimiser.step(evaluate)
    p = COUNTS / COUNTS.sum()
    exact = np.log(p / np.outer(p.sum(1), p.sum(0)))
    np.testing.assert_allclose(table.detach().numpy(), exact, rtol=0, atol=1e-6)


def test_the_true_ratio_is_balanced_and_a_narrower_one_is_not():
    p = COUNTS / COUNTS.sum()
    independent = np.outer(p.sum(1), p.sum(0))
    log_r = np.log(p / independent)

    def penalty(table):
        # the expectations, exactly: every (x, z) as often as its probability in 1e6 says
        joint, marginal = (
            torch.from_numpy(np.repeat(table.ravel(), np.rint(1e6 * weights.ravel()).astype(int)))[None]
            for weights in (p, independent)
        )
        return float(imbalance(joint, marginal[..., None]))

    # sigma(log r) = p / (p + q): over both distributions it sums to one
    assert penalty(log_r) < 1e-10
    assert penalty(3 * log_r + 0.5) > 1e-3


def test_extreme_logits_stay_finite():
    joint, marginal = torch.full((1, 4), -300.0), torch.full((1, 4, 3), 300.0)
    for loss in (nre_a, nre_c):
        assert torch.isfinite(loss(joint, marginal)).all()
        assert loss(joint, marginal) > loss(-joint, -marginal)


def test_contrasts_pairs_every_x_with_its_own_z_and_all_others_of_its_group():
    marginals, groups, size = 3, 2, 4
    m, b, i, j = np.indices((marginals, groups, size, size))
    joint, marginal = contrasts(torch.from_numpy(1000 * m + 100 * b + 10 * i + j))
    assert joint.shape == (marginals, groups, size) and marginal.shape == (marginals, groups, size, size - 1)
    for m, b, x in np.ndindex(marginals, groups, size):
        assert joint[m, b, x] == 1000 * m + 100 * b + 11 * x
        expected = {1000 * m + 100 * b + 10 * x + z for z in range(size) if z != x}
        assert set(marginal[m, b, x].tolist()) == expected
