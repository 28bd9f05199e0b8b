"""Where a signal is by matched filters: they are projections, nothing explains data better, and noise is nowhere."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import torch
from tqdm import tqdm

from tmnre import Box, Place
from tmnre_gw import search
from tmnre_gw.band import Band, Whitening
from tmnre_gw.binary import default_priors, sampled_priors
from tmnre_gw.detectors import EARTH_RADIUS_S, Network
from tmnre_gw.injection import noise
from tmnre_gw.likelihood import Likelihood
from tmnre_gw.search import EFFECTIVE, MASS, STEPS, found_nothing, listen, locate
from tmnre_gw.simulator import BinaryBlackHole

TRIGGER_S = 1126259462.4


def binary(
    approximant: str,
    masses: tuple[float, float],
    band: tuple[float, float, float],
    detectors: tuple[str, ...] = ("H1", "L1"),
) -> BinaryBlackHole:
    """In detectors alike; masses in Msun, a band of (s, Hz, Hz)."""
    priors = sampled_priors(
        default_priors(masses, (10.0, 1000.0), 0.9, 0.1, aligned=approximant == "IMRPhenomXAS"),
        detectors=len(detectors),
        trigger_gps_s=TRIGGER_S,
        delay_s=EARTH_RADIUS_S,
    )
    of = Band(*band, priors.free["chirp_mass"].support[0])
    psd = 1e-46 * ((of.frequencies_hz / 100) ** -4 + 2)
    return BinaryBlackHole(
        *(priors.free, priors.fixed, Network.at(detectors, TRIGGER_S), of),
        Whitening.of(of, np.stack([psd] * len(detectors))),
        approximant=approximant,
        reference_frequency_hz=20.0,
        constraints=priors.constraints,
    )


def data_of(simulator: BinaryBlackHole, **truth: float) -> tuple[np.ndarray, torch.Tensor]:
    """A signal in noise, and its parameters (1, D); those not given are the prior's medians."""
    values = {name: float(d.quantile(np.array(0.5))) for name, d in simulator.prior.items()} | truth
    theta = torch.tensor([[values[name] for name in simulator.prior.names]], dtype=torch.float64)
    signal = simulator.signal(made_of(simulator, theta), theta)[0].numpy()
    return (signal + noise(signal.shape, 3)).astype(np.complex64), theta


def located(simulator: BinaryBlackHole, data: np.ndarray, folder) -> Box:
    place = Place(folder, progress=partial(tqdm, disable=True), say=lambda _: None)
    locate(Likelihood(simulator, data), 0, place, None, folder)
    return Box.from_dict(json.loads((folder / "region.json").read_text())["region"])


def made_of(simulator: BinaryBlackHole, theta: torch.Tensor) -> dict[str, torch.Tensor]:
    return {k: torch.from_numpy(v) for k, v in simulator.simulate(theta.numpy(), np.random.default_rng(0)).items()}


def sky(simulator: BinaryBlackHole) -> list[int]:
    return simulator.prior.columns(("ra", "dec", "time"))


def holds(box: Box, simulator: BinaryBlackHole, theta: torch.Tensor) -> bool:
    """Whether parameters are inside, derived quantities included."""
    allowed = np.asarray(box.allows(simulator.derive(theta, made_of(simulator, theta))))
    return bool(box.contains(simulator.prior.to_cube(theta.numpy()))[0] and allowed.all())


@pytest.mark.parametrize("distance_mpc", [120.0, 1e5])
def test_a_light_binary_is_found_and_noise_is_not(distance_mpc, tmp_path):
    """Of 10 + 7 Msun, 16 s, aligned spins; at 100 Gpc there is only noise."""
    simulator = binary("IMRPhenomXAS", (6.5, 50.0), (16.0, 20.0, 300.0))
    data, theta = data_of(
        simulator, chirp_mass=7.24, mass_ratio=0.7, luminosity_distance=distance_mpc, theta_jn=0.4, time=0.01
    )
    box = located(simulator, data, tmp_path)
    if distance_mpc > 1e4:
        assert found_nothing(box.log_volume)
        return
    low, high = simulator.prior[MASS].quantile(np.array(box.cube[MASS]))
    assert low < 7.24 < high and high - low < 1  # of 38
    early, late = simulator.prior["time"].quantile(np.array(box.cube["time"]))
    assert early < 0.01 < late and late - early < 0.03  # of 0.24
    assert EFFECTIVE in box.derived and holds(box, simulator, theta)


def test_one_detector_has_times_of_the_geocentre(tmp_path, monkeypatch):
    """To which light may take as long either way; bounds are left after the last pass, however much that cut."""
    monkeypatch.setattr(search, "TIMES", 1)
    simulator = binary("IMRPhenomXAS", (25.0, 60.0), (4.0, 20.0, 256.0), ("H1",))
    data, theta = data_of(simulator, luminosity_distance=400.0, theta_jn=0.3, time=0.03)
    box = located(simulator, data, tmp_path)
    assert {"snr_H1", EFFECTIVE} <= set(box.derived) and holds(box, simulator, theta)
    early, late = simulator.prior["time"].quantile(np.array(box.cube["time"]))
    arrival = 0.03 + float(simulator.network.delays(simulator.network.direction(*theta[:, sky(simulator)].T))[0, 0])
    assert early < arrival - EARTH_RADIUS_S and arrival + EARTH_RADIUS_S < late and late - early < 0.08  # of 0.2


def test_times_that_the_prior_does_not_have_are_not_listened_to():
    simulator = binary("IMRPhenomXAS", (25.0, 60.0), (4.0, 20.0, 256.0), ("H1",))
    data, theta = data_of(simulator, luminosity_distance=400.0, time=0.0)
    heard = listen(Likelihood(simulator, data), made_of(simulator, theta))
    step = heard.times_s[1] - heard.times_s[0]
    outside = np.abs(heard.times_s) > 0.1 + EARTH_RADIUS_S + step
    assert outside.sum() > 10 and (heard.twice[:, outside] == 0).all() and (heard.twice[:, ~outside] > 0).any()


def test_filters_are_projections_on_both_polarisations_and_bound_the_likelihood():
    """Of precessing binaries, in one detector against orthogonal bases at single times; in both the best of ln L over
    everything that keeps a waveform stays below, but for what half a step in time loses of a power."""
    simulator = binary("IMRPhenomPv2", (25.0, 60.0), (4.0, 20.0, 256.0))
    data, theta = data_of(simulator, luminosity_distance=300.0, a_1=0.7, tilt_1=1.3, theta_jn=1.2)
    likelihood, rng = Likelihood(simulator, data), np.random.default_rng(1)
    u = np.concatenate([simulator.prior.to_cube(theta.numpy()), Box.full(simulator.prior).sample(7, rng)])
    stored = likelihood.waveforms(simulator.prior.from_cube(u))
    alone = listen(Likelihood(simulator, data * [[1], [0]]), stored)
    f, triangle, some = simulator._nodes.numpy(), simulator._triangle[0].numpy(), slice(40, -40, 40)
    both = 0
    for h, twice in zip(stored["h"].numpy(), alone.twice[:, some], strict=True):
        for t, found in zip(alone.times_s[some], twice, strict=True):
            shifted = (triangle @ (h * np.exp(-2j * np.pi * f * t)).T).astype(complex)
            basis, size = np.linalg.qr(shifted)
            squares = np.abs(basis.conj().T @ data[0]) ** 2
            apart = np.abs(size[1, 1]) ** 2 > 0.01 * (np.abs(size[:, 1]) ** 2).sum()
            both += apart
            # signals between the nodes are known to 1e-5 of their square (see `band`)
            off = 1e-5**0.5 * np.linalg.norm(data[0])
            least, most = squares[0], squares.sum()
            assert found <= most + 2 * off * most**0.5 + off**2
            assert found >= (most if apart else least) - 2 * off * most**0.5 - off**2
    assert both > 15
    heard = listen(likelihood, stored)
    many = np.repeat(u, 3000, axis=0)
    fast = simulator.prior.columns(likelihood.fast)
    many[:, fast] = rng.random((len(many), len(fast)))
    near = 0.02 * rng.normal(size=(len(many) // 2, len(fast)))
    many[::2, fast] = u[:1, fast] + near
    many = many.clip(0, 1)
    rows = torch.arange(len(u)).repeat_interleave(3000)
    log_l = likelihood({k: v[rows] for k, v in stored.items()}, torch.from_numpy(simulator.prior.from_cube(many)))
    most = log_l.reshape(len(u), -1).max(1)
    power = np.abs(stored["h"].numpy()[:, 0] * simulator._quadrature[0] ** 0.5) ** 2
    rms = np.sqrt((power * f**2).sum(1) / power.sum(1))
    kept = np.cos(2 * np.pi * rms / (2 * STEPS * f[-1])) ** 2
    assert most[0] > 50 and (2 * most * kept <= heard.twice.max(1)).all()
    assert 2 * most[0] > 0.5 * heard.twice[0].max()  # a bound that tells something
