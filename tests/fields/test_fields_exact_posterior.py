"""The learned posterior of the spectrum against the exact one, where it is known: the linear field x = z + noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tmnre
from tmnre.inference import infer
from tmnre_fields import spectrum
from tmnre_fields.embedding import SpectrumNet
from tmnre_fields.simulator import FieldSimulator, Grid

GRID = Grid(pixels=16, noise=0.3, exponentiate=False)
PRIOR = tmnre.Prior(rms=tmnre.LogUniform(0.4, 1.6), slope=tmnre.Uniform(1.5, 4.5))


@pytest.fixture(scope="module")
def observation() -> np.ndarray:
    simulator = FieldSimulator(GRID, PRIOR)
    theta = np.array([[0.8, 3.0]])
    z = torch.from_numpy(simulator.simulate(theta, np.random.default_rng(4))["z"])
    return simulator.observe({"z": z}, torch.from_numpy(theta), torch.Generator().manual_seed(4))["x"][0].numpy()


@pytest.fixture(scope="module")
def result(observation) -> tmnre.Result:
    return infer(
        FieldSimulator(GRID, PRIOR),
        {"x": observation},
        ["rms", "slope"],
        simulations=40_000,
        rounds=1,
        embedding=SpectrumNet,
        training=tmnre.Training(threads=1),
        quiet=True,
    )


def exact_cdf(observation: np.ndarray, points: int = 100) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Marginal cumulative distributions on a grid of prior quantiles, from the Whittle likelihood."""
    u = (np.arange(points) + 0.5) / points
    theta = torch.from_numpy(PRIOR.from_cube(np.stack(np.meshgrid(u, u, indexing="ij"), -1).reshape(-1, 2)))
    x = torch.from_numpy(observation)
    log_l = torch.cat(
        [
            spectrum.whittle(x, *part.T, pixels=GRID.pixels, knee=GRID.knee_cycles_per_box, noise=GRID.noise)
            for part in theta.split(500)
        ]
    )
    p = torch.softmax(log_l, 0).view(points, points).numpy()
    # at the right edges of the cells
    return u + 0.5 / points, {"rms": p.sum(1).cumsum(), "slope": p.sum(0).cumsum()}


@pytest.mark.parametrize("name", ["rms", "slope"])
def test_learned_marginal_is_the_exact_one(result, observation, name):
    """A median off by 0.2 standard deviations moves a Gaussian's cumulative distribution by 0.2 / sqrt(2 pi) = 0.08."""
    edges, exact = exact_cdf(observation)
    marginal = result[name]
    u = PRIOR[name].cdf(marginal.samples[:, 0])
    learned = np.histogram(u, np.concatenate([[0.0], edges]), weights=marginal.weights)[0].cumsum()
    tolerance = 0.2 / np.sqrt(2 * np.pi)
    assert np.abs(learned - exact[name]).max() < tolerance
    # the test has power: it rejects the prior, a straight line in u
    assert np.abs(edges - exact[name]).max() > 3 * tolerance
