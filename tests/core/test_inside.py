"""Draws inside a region that bounds on derived quantities make small."""

import numpy as np
import torch
from scipy import stats

from tmnre import Box, Prior, Simulator, Uniform
from tmnre.contour import Contour
from tmnre.inside import draw, pool_of

GROUP = tuple(f"p{i}" for i in range(6))
# all p-values of a test together: a right sampler fails a test in a thousand seeds, and the seeds are fixed
P = 1e-3


class Six(Simulator):
    """Six parameters and one that is redrawn; their sum and their distance from the middle are known."""

    prior = Prior({name: Uniform(0, 1) for name in GROUP} | {"shift": Uniform(0, 1)})
    redrawn, derived = ("shift",), ("total", "radius")
    calls = 0

    def derive(self, theta, stored=None):
        self.calls += len(theta)
        return {"total": theta[:, :6].sum(1), "radius": (theta[:, :3] - 0.5).norm(dim=1)}


def ellipsoid(u):
    """Log density of a Gaussian of sd 0.03 and correlation 0.9, less its maximum."""
    white = np.linalg.inv(np.linalg.cholesky(0.03**2 * (0.1 * np.eye(6) + 0.9)))
    return -0.5 * (((u - 0.5) @ white.T) ** 2).sum(1)


def contour(rng):
    return Contour.full(6, rng).tightened(ellipsoid, -8, 0.02, rng)


def views(u):
    """The parameters, and combinations that see how they are tied."""
    return [*u.T, u[:, :6].sum(1), u[:, 0] - u[:, 1], ((u[:, :3] - 0.5) ** 2).sum(1)]


def same(u, exact):
    p = [stats.ks_2samp(a, b).pvalue for a, b in zip(views(u), views(exact), strict=True)]
    assert min(p) > P / len(p), p


def test_a_region_that_is_a_slice_of_its_contour():
    """Bounds on the sum keep one draw of the contour in 500: about a pool they come as from rejection."""
    rng, simulator = np.random.default_rng(0), Six()
    region = Box.full(Six.prior).tightened({"shift": (0.2, 0.4)}, {"total": (3.5, 3.52)}, {GROUP: contour(rng)})
    exact = draw(simulator, region, 1000, rng)
    rejected, simulator.calls = simulator.calls, 0
    u = draw(simulator, region, 1000, rng, pool=draw(Six(), region, 60, np.random.default_rng(1)))
    assert (ellipsoid(u[:, :6]) > -8).all() and (np.abs(u[:, :6].sum(1) - 3.51) <= 0.01).all()
    assert ((u[:, 6] >= 0.2) & (u[:, 6] <= 0.4)).all()
    same(u, exact)
    assert simulator.calls < rejected / 3, (simulator.calls, rejected)


def test_a_thin_shell_in_a_box():
    """Bounds keep one draw of the box in 300, in no shape that an ellipsoid holds: by slices, from its own pool."""
    rng, simulator = np.random.default_rng(0), Six()
    region = Box.full(Six.prior).tightened({}, {"radius": (0.2, 0.21), "total": (2.8, 3.2)})
    z = torch.from_numpy(rng.random((2000, 9)))
    pool = pool_of(simulator, region, (*Six.prior.names, "total", "radius"), z, seed=0)
    exact = draw(simulator, region, 1000, rng)
    same(draw(simulator, region, 1000, rng, pool=pool), exact)
    same(pool, exact)


def test_a_pool_is_made_where_it_is_needed_and_can_be():
    simulator, names = Six(), (*Six.prior.names, "total", "radius")
    z = torch.rand(2000, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def pool(derived, contours=None, targets=names):
        region = Box.full(Six.prior).tightened({}, derived, contours)
        return pool_of(simulator, region, targets, z[:, : len(targets)], seed=0)

    wide, tight = {"total": (2.2, 3.8)}, {"total": (3.0, 3.001)}
    held = contour(np.random.default_rng(0))
    assert pool({}) is None and pool({}, {GROUP: held}) is None and pool(wide) is None
    assert len(pool(tight)) >= 4 * 6
    # all of the contour is within the wide bounds
    assert len(pool(wide, {GROUP: held})) == len(held.live)
    assert pool(tight, targets=names[1:]) is None  # of one parameter nothing is known
    assert pool({"total": (3.0, 3.0 + 1e-7)}) is None  # no point is known
