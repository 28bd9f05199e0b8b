"""Two signals in the same data: their sum, however far apart, and which is which."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tmnre_gw.recipes.overlapping import Settings, build, simulators, spectra, truths

PAIR = ("H1", "L1")


@pytest.mark.parametrize("separation_s", [0.0, 0.5])
def test_the_signal_is_the_sum_of_two_full_ones(separation_s):
    settings = Settings(separation_s=separation_s, detectors=PAIR)
    simulator = simulators(settings)
    known = truths(settings, simulator)
    each = spectra(settings, simulator, known)
    pairs = zip(known, simulator.signals, strict=True)
    theta = np.array([[truth[name] for truth, signal in pairs for name in signal.prior.names]])
    stored = {k: torch.from_numpy(v) for k, v in simulator.simulate(theta, np.random.default_rng(0)).items()}
    ours = simulator.signal(stored, torch.from_numpy(theta))[0].numpy()
    full = sum(each)
    rebuilt = np.einsum("dfp,dp->df", simulator.basis, ours)
    for d in range(len(full)):
        # the nodes' interpolation, as of one signal
        assert np.linalg.norm(rebuilt[d] - full[d]) ** 2 < 1e-5 * np.linalg.norm(full[d]) ** 2
    np.testing.assert_allclose(simulator.basis[0].conj().T @ simulator.basis[0], np.eye(ours.shape[1]), atol=1e-9)


@pytest.fixture(scope="module")
def simulator():
    return simulators(Settings(separation_s=0.02, detectors=PAIR))


def test_reduced_data_are_those_of_reduced_signals(simulator):
    theta = simulator.prior.sample(300, np.random.default_rng(1))
    stored = {k: torch.from_numpy(v) for k, v in simulator.simulate(theta, np.random.default_rng(0)).items()}
    theta = torch.from_numpy(theta)
    reduced = simulator.reduced(simulator.fit_reduction(stored, theta))
    direct, full = reduced.signal(stored, theta), simulator.signal(stored, theta)
    through = reduced.reduce({"strain": full})
    assert float((direct - through["strain"]).abs().max() / direct.abs().max()) < 1e-4  # single precision
    lost = full.abs().square().sum((1, 2)) - direct.abs().square().sum((1, 2))
    assert float(lost.mean() / full.abs().square().sum((1, 2)).mean()) < 1e-2


def test_which_is_which_is_told_by_arrival(simulator):
    theta = torch.from_numpy(simulator.prior.sample(200, np.random.default_rng(0)))
    inner = {f"inner_{k}": torch.zeros(200, 2, 1) for k in "AB"}
    delay = simulator.derive(theta, inner)["delay"]
    a, b = (theta[:, simulator.prior.names.index(f"time_{k}")] for k in "AB")
    torch.testing.assert_close(delay, 0.02 + b - a)
    assert (delay < 0).any() and simulator.constraints["delay"] == (0.0, np.inf)
    with pytest.raises(ValueError, match="exchange"):
        settings = Settings(separation_s=0.0, detectors=PAIR)
        truths(replace(settings, first=replace(settings.first, geocent_time=0.01)), simulator)


def test_thirty_parameters_build():
    names = build(
        Settings(spins=True, sky=True, approximant="IMRPhenomPv2", component_mass_msun=(20.0, 60.0), detectors=PAIR)
    ).both.simulator.prior.names
    assert len(names) == 30
