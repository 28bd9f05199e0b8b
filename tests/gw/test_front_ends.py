"""Front ends: what they do to signal and noise is exact; and a network of either kind learns from them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tmnre import Stage, Training
from tmnre.rounds import Rounds
from tmnre_gw.embedding import NETWORKS, _canonical
from tmnre_gw.recipes.demo import Settings, build, simulator_of
from tmnre_gw.reduction import LOST_SNR_SQUARED, reduced_noise


@pytest.fixture(scope="module", params=["compressed", "cnn"])
def front_end(request):
    """Simulator, its reduced form, and simulations of it."""
    simulator = simulator_of(Settings(network=request.param))
    theta = simulator.prior.sample(600, np.random.default_rng(1))
    stored = {k: torch.from_numpy(v) for k, v in simulator.simulate(theta, np.random.default_rng(0)).items()}
    theta = torch.from_numpy(theta)
    return simulator, simulator.reduced(simulator.fit_reduction(stored, theta)), stored, theta


def test_signals_are_the_reduced_full_signals(front_end):
    full, reduced, stored, theta = front_end
    direct = reduced.signal(stored, theta)
    through = reduced.reduce({"strain": full.signal(stored, theta)})["strain"]
    assert float((direct - through).abs().max() / direct.abs().max()) < 1e-4  # single precision, sums of 400


def test_noise_is_the_reduced_white_noise(front_end):
    _, reduced, _, _ = front_end
    reduction = reduced.reduction
    size = reduction["project"].shape[1]
    # what one unit of white noise in each dimension becomes: covariances are products of these
    factor = reduction.get("noise", torch.eye(size, dtype=torch.complex64).expand(2, -1, -1))
    exact = torch.einsum("dbp,dcp->dbc", reduction["project"], reduction["project"].conj())
    drawn = torch.einsum("dbk,dck->dbc", factor, factor.conj())
    assert float((exact - drawn).abs().max()) < 1e-4 * float(exact.abs().max())
    noise = reduced_noise(torch.empty(20_000, 2, size), {**reduction}, torch.Generator().manual_seed(0))
    power = noise.abs().square().mean(0)
    expected = 2 * torch.diagonal(drawn, dim1=1, dim2=2).real
    # exponential distribution: relative scatter 1 / sqrt(20,000); five sigma
    assert float((power / expected - 1).abs().max()) < 5 / 20_000**0.5


def test_components_keep_the_signal(front_end):
    full, reduced, stored, theta = front_end
    if "filters" not in reduced.reduction:
        pytest.skip("for principal components only")
    lost = full.signal(stored, theta).abs().square().sum(2) - reduced.signal(stored, theta).abs().square().sum(2)
    assert float(lost.mean(0).max()) < LOST_SNR_SQUARED


def test_a_common_phase_only_turns_the_phases():
    strain = torch.randn(4, 2, 6, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    turned = strain * torch.polar(torch.ones(4, 1, 1), torch.linspace(0.3, 6, 4)[:, None, None])
    before, after = _canonical(strain), _canonical(turned)
    coefficients, phases = 2 * 2 * 6, 2 * 2
    torch.testing.assert_close(before[:, :coefficients], after[:, :coefficients])
    assert float((before - after)[:, coefficients : coefficients + phases].abs().min(0).values.max()) > 0
    torch.testing.assert_close(before[:, coefficients + phases :], after[:, coefficients + phases :])


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_of_either_kind_finds_the_arrival_time(network, tmp_path):
    analysis = build(Settings(network=network, workers=1))
    steps = {"compressed": 120, "cnn": 150}[network]
    short = replace(analysis, stages=[Stage(1500, steps)], training=Training(batch_size=64))
    result = Rounds(short, tmp_path).run()
    low, high = result["time"].interval(0.9)[0]
    # the prior's 90% span 0.09 s
    assert low < result.truth["time"] < high and high - low < 0.02
