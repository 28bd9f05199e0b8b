"""Detection as truncation against the thinned Poisson process, and the arithmetic of combined posteriors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from tmnre_popsources import posteriors, thinned
from tmnre_popsources.patch import PRIOR, Patch, Scene, Sources
from tmnre_popsources.truncated import DetectedLists, Regions, SubThreshold, draw_in_regions

SCENE = Scene.of(Patch(pixels=16))
THETA = torch.tensor([[150.0, 1.5, 12.0]], dtype=torch.float64)
REGIONS = Regions(
    torch.tensor([[-3.0, 4.0, 3.2], [10.0, -9.0, 4.0]]), torch.tensor([[-1.0, 6.0, 3.9], [11.0, -8.0, 5.0]])
)


def seen(sources: Sources, theta: torch.Tensor) -> torch.Tensor:
    """A sensitivity that depends on the population too."""
    edge = np.log(20.0) + 0.002 * theta[..., 0].float()
    return torch.where(SCENE.inside(sources), torch.sigmoid((sources.log_flux - edge) / 0.4), 0.0)


def test_numbers_of_detected_and_undetected_sources():
    """Both Poisson, together all; the detected as many as the quadrature of the thinned process has it."""
    n = 3000
    theta = THETA.expand(n, -1)
    lists = DetectedLists(SCENE, PRIOR, seen, length=80)
    numbers = torch.bincount(lists.detected(theta, torch.Generator().manual_seed(0)).row, minlength=n).double()
    (expected,) = thinned.expected_detections(SCENE, seen, THETA).tolist()
    assert abs(numbers.mean() - expected) < 5 * (expected / n) ** 0.5
    assert abs(numbers.var() / numbers.mean() - 1) < 5 * (2 / n) ** 0.5
    none = Regions(torch.zeros(0, 3), torch.zeros(0, 3))
    others = SubThreshold(SCENE, PRIOR, seen, none).sources(theta, torch.Generator().manual_seed(1))
    assert abs(len(others.row) / n - (150 - expected)) < 5 * (150 / n) ** 0.5


def test_lists_hold_every_source_and_say_where_one_does_not_fit():
    lists = DetectedLists(SCENE, PRIOR, seen, length=4)
    row = torch.tensor([1, 0, 1, 1])
    sources = Sources(row, torch.arange(4.0), torch.arange(4.0) + 10, torch.arange(4.0) + 20)
    x = lists.padded(sources, 3)
    assert x["mask"].sum(1).tolist() == [1, 3, 0]
    assert sorted(x["sources"][1][x["mask"][1]][:, 0].tolist()) == [0.0, 2.0, 3.0]
    with pytest.raises(ValueError, match="5 detected sources do not fit into lists of 4"):
        lists.padded(Sources(torch.zeros(5, dtype=torch.long), *torch.zeros(3, 5)), 1)


def test_draws_in_a_region_follow_the_density_there():
    """Mean ln F against quadrature, in a box wide enough for the density to vary by a factor of ten."""
    wide = Regions(torch.tensor([[-3.0, 4.0, 2.5]]), torch.tensor([[-1.0, 6.0, 5.5]]))
    drawn = draw_in_regions(SCENE, seen, wide, THETA.expand(4000, -1), torch.Generator().manual_seed(0), candidates=64)
    t = torch.linspace(2.5, 5.5, 400)
    at = Sources(torch.zeros(400), torch.full((400,), -2.0), torch.full((400,), 5.0), t)
    w = SCENE.log_intensity(at, THETA[0].float()).exp() * seen(at, THETA[0])
    mean = (w * t).sum() / w.sum()
    sd = ((w * (t - mean).square()).sum() / w.sum()).sqrt()
    # 64 candidates leave a bias of the order of 1/64 of the spread
    assert abs(drawn.log_flux.mean() - mean) < sd * (5 / 4000**0.5 + 2 / 64)
    inside = (drawn.l_deg >= -3) & (drawn.l_deg <= -1) & (drawn.b_deg >= 4) & (drawn.b_deg <= 6)
    assert inside.all()


def test_likelihood_of_small_regions_is_that_of_points():
    theta = torch.from_numpy(PRIOR.sample(20, np.random.default_rng(2)))
    expected = thinned.expected_detections(SCENE, seen, theta, draws=2048)
    middle = (REGIONS.low + REGIONS.high) / 2
    small = Regions(middle - 1e-3, middle + 1e-3)
    both = (
        thinned.log_likelihood_of_regions(SCENE, seen, small, theta, expected) - small.log_volume.sum(),
        thinned.log_likelihood_of_list(SCENE, seen, middle, theta, expected),
    )
    torch.testing.assert_close(*both, rtol=0, atol=0.02)


class ExactRatio:
    """In place of the network: ln p(u | list) up to a constant of each list, from the thinned Poisson likelihood."""

    def log_density(self, lists, u):
        theta = torch.from_numpy(PRIOR.from_cube(u.numpy()))
        expected = thinned.expected_detections(SCENE, seen, theta, draws=2048)
        rows = [
            thinned.log_likelihood_of_list(SCENE, seen, one[mask], theta, expected) + 7.0 * i
            for i, (one, mask) in enumerate(zip(lists["sources"], lists["mask"], strict=True))
        ]
        return torch.stack(rows)


def test_the_monte_carlo_integral_over_lists_is_the_likelihood_of_the_regions():
    """Whatever r4 leaves open, a constant of every list, drops out."""
    u = torch.from_numpy(np.random.default_rng(3).uniform(0.1, 0.9, (15, 3)))
    reference = torch.tensor([[0.3, 0.3, 0.6]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(5)
    theta0 = torch.from_numpy(PRIOR.from_cube(reference.numpy()))
    drawn = draw_in_regions(SCENE, seen, REGIONS, theta0.expand(400, -1), generator, candidates=64)
    lists = DetectedLists(SCENE, PRIOR, seen, length=4).padded(Sources(*(c.flatten() for c in drawn)), 400)
    found = posteriors.log_detected(ExactRatio(), lists, u, reference)
    theta = torch.from_numpy(PRIOR.from_cube(u.numpy()))
    expected = thinned.expected_detections(SCENE, seen, theta, draws=2048)
    exact = thinned.log_likelihood_of_regions(SCENE, seen, REGIONS, theta, expected, draws=2000)
    difference = found - exact
    # 400 lists, whose ratios to the reference scatter by a factor below e
    assert (difference - difference.mean()).abs().max() < 5 * 1.0 / 400**0.5


def test_combined_draws_have_the_moments_of_the_product():
    """Two Gaussians in the middle of the cube: the product's mean and variance in closed form."""
    rng = np.random.default_rng(0)
    means, sds = np.array([[0.45, 0.5], [0.55, 0.48]]), np.array([[0.03, 0.08], [0.05, 0.04]])
    u = torch.from_numpy(np.concatenate([rng.normal(m, s, (20_000, 2)) for m, s in zip(means, sds, strict=True)]))
    log_p = [torch.from_numpy(stats.norm.logpdf(u, m, s).sum(1)) for m, s in zip(means, sds, strict=True)]
    found = posteriors.marginals_of(
        type(PRIOR)(a=PRIOR["flux_width"], b=PRIOR["flux_width"]), ("a", "b"), u, posteriors.combine(*log_p)
    )
    precision = 1 / sds**2
    mean, sd = (means * precision).sum(0) / precision.sum(0), precision.sum(0) ** -0.5
    for i, name in enumerate("ab"):
        marginal = found[(name,)]
        error = 2 * sd[i] / marginal.effective_sample_size**0.5
        assert abs(np.average(marginal.samples[:, 0], weights=marginal.weights) - (1 + 2 * mean[i])) < 5 * error
        assert abs(marginal.sd / (2 * sd[i]) - 1) < 5 / (2 * marginal.effective_sample_size) ** 0.5
