import numpy as np
import pytest
from scipy import special, stats

from tmnre.ellipsoid import Ellipsoid
from tmnre.nested import nested_sampling, slice_sample, uniform

CENTRES = np.array([[0.3, 0.5], [0.75, 0.5]])


def cube(u):
    return ((u >= 0) & (u <= 1)).all(axis=1)


def gaussian(d, sd=0.02, rho=0.95):
    """Log density of a normalised Gaussian inside the cube, its covariance, and its information in nat."""
    covariance = sd**2 * ((1 - rho) * np.eye(d) + rho)
    density = stats.multivariate_normal(np.full(d, 0.45), covariance)
    return density.logpdf, covariance, -density.entropy()


@pytest.mark.parametrize("d", [1, 2, 6])
def test_integral_moments_and_volume_of_a_correlated_gaussian(d):
    log_f, covariance, information = gaussian(d)
    live, rng = 2000, np.random.default_rng(d)
    found = nested_sampling(log_f, rng.random((live, d)), rng, allowed=cube)
    # Skilling 2006: the volume's log is known to sqrt(information / live)
    assert abs(found.log_evidence) < 4 * np.sqrt(information / live)
    weights = np.exp(found.log_weights - found.log_evidence)
    mean = weights @ found.samples
    effective = 1 / np.sum(weights**2)
    shift = (mean - 0.45) / np.sqrt(np.diag(covariance))
    assert np.abs(shift).max() < 4 / np.sqrt(effective)
    sd = np.sqrt(weights @ (found.samples - mean) ** 2 / np.diag(covariance))
    assert np.abs(sd - 1).max() < 4 / np.sqrt(2 * effective) + 4 * np.sqrt(information / live) / np.sqrt(effective)


@pytest.mark.parametrize("d", [2, 6])
def test_volume_above_a_level_is_the_ellipsoid(d):
    log_f, covariance, _ = gaussian(d)
    radius = 3.0
    level = log_f(np.full(d, 0.45)) - radius**2 / 2
    live, rng = 1000, np.random.default_rng(d)
    found = nested_sampling(log_f, rng.random((live, d)), rng, allowed=cube, level=level)
    assert (log_f(found.live) > level).all() and found.live.shape == (live, d)
    ball = d / 2 * np.log(np.pi) - special.gammaln(d / 2 + 1) + d * np.log(radius)
    exact = ball + np.linalg.slogdet(covariance)[1] / 2
    assert abs(found.log_volume - exact) < 4 * np.sqrt(-exact / live)
    # uniform inside: the d-th power of the radius is uniform
    white = np.linalg.solve(np.linalg.cholesky(covariance), (found.live - 0.45).T)
    assert stats.kstest((np.linalg.norm(white, axis=0) / radius) ** d, "uniform").pvalue > 1e-3


def test_two_rings_keep_their_shares():
    """Curved and separated: rings about two centres, of which the second has twice the density."""

    def log_f(u):
        r = np.linalg.norm(u[:, None] - CENTRES, axis=2)
        return np.logaddexp.reduce(np.log([1.0, 2.0]) - 0.5 * ((r - 0.15) / 0.01) ** 2, axis=1)

    live, rng = 4000, np.random.default_rng(0)
    found = nested_sampling(log_f, rng.random((live, 2)), rng, allowed=cube)
    # circumference times width, both symmetric about r = 0.15
    exact = np.log(3 * 2 * np.pi * 0.15 * 0.01 * np.sqrt(2 * np.pi))
    information = np.log(1 / np.exp(exact)) + np.log(2)
    assert abs(found.log_evidence - exact) < 4 * np.sqrt(information / live)
    weights = np.exp(found.log_weights - found.log_evidence)
    second = weights[found.samples[:, 0] > 0.525].sum()
    # which ring a live point belongs to is seldom renewed: as many independent points as live ones
    assert abs(second - 2 / 3) < 4 * np.sqrt(2 / 9 / live)


def test_slices_find_the_whole_of_a_set_from_a_corner():
    corner = np.random.default_rng(0).random((500, 3)) * 0.05
    pool = np.random.default_rng(1).random((500, 3))
    points = slice_sample(cube, corner, pool, 30, np.random.default_rng(2))
    assert cube(points).all()
    for column in points.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3


def test_points_that_are_all_the_same_still_move():
    start = np.full((200, 2), 0.5)
    points = slice_sample(cube, start, start, 20, np.random.default_rng(0))
    assert stats.kstest(points[:, 0], "uniform").pvalue > 1e-3


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match="in 5 dimensions needs 20 points, got 8"):
        nested_sampling(lambda u: u.sum(1), np.random.default_rng(0).random((8, 5)), None, allowed=cube)


def test_a_ring_is_filled_from_its_box_or_by_slices():
    """Half of a ring, as wide as it is large or thin: uniform in angle and in squared radius."""
    for inner in (0.2, 0.399):

        def half_ring(u, inner=inner):
            x, y = (u - 0.5).T
            return (x > 0) & (np.abs(np.hypot(x, y) - (inner + 0.4) / 2) < (0.4 - inner) / 2)

        rng = np.random.default_rng(3)
        angle = rng.uniform(-np.pi / 2, np.pi / 2, 1000)
        radius = np.sqrt(rng.uniform(inner**2, 0.4**2, 1000))
        pool = 0.5 + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        calls = []
        points = uniform(lambda u: calls.append(len(u)) or half_ring(u), pool, 2000, rng)  # noqa: B023 - called here
        assert half_ring(points).all() and points.shape == (2000, 2)
        x, y = (points - 0.5).T
        share = (x**2 + y**2 - inner**2) / (0.4**2 - inner**2)
        assert stats.kstest(share, "uniform").pvalue > 1e-3
        # a slice of the thin ring goes not far along it, so 2000 angles are as good as 1000 drawn twice on average
        angles = stats.kstest(np.arctan2(y, x) / np.pi + 0.5, "uniform").statistic
        assert angles < stats.kstwo.isf(1e-3, round(1 / (1 / 2000 + 1 / 1000)))
        # the box of the wide ring is more than half full; slices take as many calls as FILLED allows proposals
        assert (sum(calls) < 4 * 2000) == (inner == 0.2)


def test_ellipsoid_holds_its_points_and_fills_evenly():
    rng = np.random.default_rng(4)
    points = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 3)) + [1.0, 2.0, 3.0]
    ellipsoid = Ellipsoid.about(points, reach=1.0001)
    assert ellipsoid.contains(points).all() and not Ellipsoid.about(points, reach=0.999).contains(points).all()
    u = ellipsoid.sample(4000, rng)
    assert ellipsoid.contains(u).all()
    radius = np.linalg.norm(np.linalg.solve(ellipsoid.axes, (u - ellipsoid.centre).T), axis=0)
    assert stats.kstest(radius**3, "uniform").pvalue > 1e-3
    exact = np.log(4 / 3 * np.pi) + np.linalg.slogdet(ellipsoid.axes)[1]
    assert ellipsoid.log_volume == pytest.approx(exact)
