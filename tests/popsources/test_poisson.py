"""The quick Poisson numbers against the exact distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from tmnre_popsources.poisson import SPLIT, poisson

DRAWS = 400_000


@pytest.mark.parametrize("mean", [0.003, 0.12, 0.5, 3.07, 17.2, SPLIT - 0.01, SPLIT + 0.01, 130.0, 5000.0])
@pytest.mark.parametrize("beside", [3.0, 0.0], ids=["bright", "empty"])
def test_against_the_exact_distribution(mean, beside):
    """Chi-squared over all outcomes that are expected ten times; fails by chance once in 10^5.

    Every other pixel has another mean, which decides how numbers are drawn.
    """
    means = torch.tensor([mean, beside]).repeat(DRAWS)
    found = poisson(means, torch.Generator().manual_seed(7))[::2].numpy().astype(int)
    exact = stats.poisson(np.float32(mean))
    low, high = exact.ppf(10 / DRAWS), exact.isf(10 / DRAWS)
    k = np.arange(low, high + 1)
    expected = DRAWS * np.concatenate([[exact.cdf(low - 1)], exact.pmf(k), [exact.sf(high)]])
    observed = np.array(
        [(found < low).sum(), *np.bincount(found, minlength=int(high) + 2)[k.astype(int)], (found > high).sum()]
    )
    some = expected > 5
    assert ((observed - expected)[some] ** 2 / expected[some]).sum() < stats.chi2.isf(1e-5, some.sum())


def test_mixed_means_keep_their_places():
    """Empty, faint and bright pixels in one map: every one gets a number of its own mean."""
    mean = torch.tensor([0.0, 0.2, 5.0, 40.0, 0.0, 900.0]).repeat(50_000, 1)
    found = poisson(mean, torch.Generator().manual_seed(0))
    assert found.shape == mean.shape and found[:, [0, 4]].sum() == 0
    pull = (found.mean(0) - mean[0]) / (mean[0] / len(mean)).sqrt().clamp(min=1e-9)
    assert pull.abs().max() < 5
    variance = found[:, [1, 2, 3, 5]].var(0) / mean[0, [1, 2, 3, 5]]
    torch.testing.assert_close(variance, torch.ones(4), atol=5 * np.sqrt(2 / 5e4 + 1 / (0.2 * 5e4)), rtol=0)
