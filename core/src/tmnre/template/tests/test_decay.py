"""The simulator against an integral, the learned posterior against the exact one, and the way in of data."""

import numpy as np
import pytest
from scipy import integrate, stats

import tmnre
from tmnre_example.embedding import CountsNet
from tmnre_example.recipes.decay import Settings, build, read_counts
from tmnre_example.simulator import DecaySimulator


def test_expected_counts_are_the_integral_of_the_rate():
    simulator = DecaySimulator(60.0, 12)
    activity, half_life, background = 200.0, 17.0, 3.0
    for low, high, found in zip(
        simulator.edges_s[:-1],
        simulator.edges_s[1:],
        simulator.expected(np.array([[activity, half_life, background]]))[0],
        strict=True,
    ):
        exact, _ = integrate.quad(lambda t: activity * 2 ** (-t / half_life) + background, low, high)
        assert found == pytest.approx(exact, rel=1e-9)


def test_posterior_is_the_exact_one():
    simulator = DecaySimulator(60.0, 20)
    truth = np.array([[150.0, 15.0, 3.0]])
    counts = np.random.default_rng(1).poisson(simulator.expected(truth))[0].astype(float)
    # the exact posterior, on a grid over the cube, in which the prior is flat; wide enough to hold all of it
    u_truth = simulator.prior.to_cube(truth)[0]
    axes = [np.linspace(max(u - w, 0), min(u + w, 1), 81) for u, w in zip(u_truth, (0.12, 0.12, 0.4), strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    log_p = simulator.log_likelihood(simulator.prior.from_cube(grid), counts).reshape(81, 81, 81)
    p = np.exp(log_p - log_p.max())
    result = tmnre.infer(
        simulator,
        {"counts": counts.astype("f4")},
        list(simulator.prior.names),
        simulations=4000,
        rounds=2,
        embedding=CountsNet,
        training=tmnre.Training(batch_size=256, threads=1),
        quiet=True,
    )
    for i, name in enumerate(simulator.prior.names):
        exact = p.sum(axis=tuple(k for k in range(3) if k != i))
        exact /= exact.sum()
        learned = result[name]
        u = simulator.prior[name].cdf(learned.samples[:, 0])
        edges = np.interp(np.linspace(0, 1, 17), np.append(0, np.cumsum(exact)), np.append(axes[i], axes[i][-1]))
        edges[[0, -1]] = 0, 1
        cells, _ = np.histogram(u, edges, weights=learned.weights)
        even = np.full(16, 1 / 16)
        middle = 0.5 * (cells + even)
        jsd = 0.5 * (stats.entropy(cells, middle) + stats.entropy(even, middle))
        assert jsd < 0.02, (name, jsd)  # a shift of a third of a standard deviation gives 0.014


def test_counts_of_ones_own(tmp_path):
    path = tmp_path / "counts.txt"
    path.write_text("30\n21\n16\n9\n")
    np.testing.assert_array_equal(read_counts(str(path)), [30, 21, 16, 9])
    analysis = build(Settings(counts=str(path), duration_s=40.0))
    assert analysis.observation["counts"].shape == (4,) and not analysis.truth
    path.write_text("30\n-1\n2\n")
    with pytest.raises(ValueError, match="none negative"):
        read_counts(str(path))
