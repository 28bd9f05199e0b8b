"""A field whose spectrum is not known, x = z + noise on a periodic patch, beside its exact posterior.

Modes are independent given rms and slope, so the posterior of z is a mixture of Wiener filters over the exact posterior
of the two, which Whittle's likelihood gives on a grid.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from tqdm import tqdm

from tmnre import Place
from tmnre import settings as typed
from tmnre.plugin import find_recipe
from tmnre_fields import spectrum
from tmnre_fields.simulator import PRIOR

SIDE = 60


@pytest.fixture(scope="module")
def work():
    recipe = find_recipe("fields/expgrf")
    small = {
        **{"patch.pixels": 16, "patch.function": "identity", "patch.noise": 0.5, "spectrum.simulations": 4000},
        **{"spectrum.rounds": 2, "spectrum.steps": 150, "spectrum.free": "true", "course.simulations": "[500]"},
        **{"course.steps": "[60]", "course.thresholds": "[]", "course.draws": 400, "course.held_out": 50},
    }
    return recipe.build(typed.parse(recipe, [f"--{name}={value}" for name, value in small.items()]))


def exact(work) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean and sd (n, n) of z, mean and sd (2,) of rms and slope."""
    x, n, noise = work.x[0], work.x.shape[-1], float(work.model.noise)
    u = (np.arange(SIDE) + 0.5) / SIDE
    theta = torch.from_numpy(PRIOR.from_cube(np.stack([a.ravel() for a in np.meshgrid(u, u)], axis=1)))
    log_l = spectrum.whittle(x, *theta.T, pixels=n, knee=3.0, noise=noise)
    w = torch.softmax(log_l, 0)
    power = spectrum.power(*theta.T, pixels=n, knee=3.0)
    share = power / (power + noise**2)
    each = torch.fft.irfft2(share * torch.fft.rfft2(x.double()), s=(n, n))
    within = noise**2 * (share * spectrum.multiplicity(n)).sum((1, 2)) / n**2
    mean = torch.einsum("t,tij->ij", w, each)
    variance = w @ within + torch.einsum("t,tij->ij", w, (each - mean).square())
    centre = w @ theta
    return mean.numpy(), variance.sqrt().numpy(), centre.numpy(), (w @ (theta - centre).square()).sqrt().numpy()


def test_fields_are_drawn_over_the_spectra_that_fit(work, tmp_path):
    result = work.run(Place(tmp_path, progress=partial(tqdm, disable=True), say=lambda _: None))
    mean, sd, centre, width = exact(work)
    for name, at, wide in zip(("rms", "slope"), centre, width, strict=True):
        own = result[name]
        middle = np.average(own.samples[:, 0], weights=own.weights)
        # a third of a sd: 4000 fields and 150 steps
        assert abs(middle - at) < wide / 3 and 0.8 < own.sd / wide < 1.25
    with np.load(tmp_path / "draws" / "draws.npz") as saved:
        found, scatter = saved["mean"][0], saved["sd"][0]
    # 400 draws know the mean to a twentieth of a sd, and the sd of a pixel to 3.5%, of all 256 together far better
    assert np.sqrt(np.mean(((found - mean) / sd) ** 2)) < 0.1
    assert abs(np.mean(scatter / sd) - 1) < 0.03
    # the test has power: with the wrong end of the prior instead of its posterior it fails
    steep = spectrum.power(*torch.tensor([[2.0], [1.5]]), pixels=16, knee=3.0)[0]
    share = steep / (steep + float(work.model.noise) ** 2)
    other = torch.fft.irfft2(share * torch.fft.rfft2(work.x[0].double()), s=(16, 16)).numpy()
    assert np.sqrt(np.mean(((other - mean) / sd) ** 2)) > 0.2
    # marginals of the spectrum and of what the draws average to, and the truth of both
    assert {"rms", "slope", "z_mean", "z_rms"} <= set(result.names) and result.truth["slope"] == 3.0
    assert result.simulations == sum(r["simulated"] for r in result.rounds) + 550


def test_what_cannot_be_inferred_is_refused():
    recipe = find_recipe("fields/expgrf")
    with pytest.raises(ValueError, match=r"spectrum\.free needs a field seen as it is or exponentiated, not clipped"):
        recipe.build(typed.parse(recipe, ["--spectrum.free=true", "--patch.function=clipped"]))
