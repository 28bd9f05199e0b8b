"""Where a signal is by the likelihood of waveforms that are there, and that noise alone is found nowhere."""

from __future__ import annotations

import json
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tqdm import tqdm

from tmnre import Box, Place
from tmnre.rows import InMemory
from tmnre_gw.band import Band, Whitening
from tmnre_gw.binary import default_priors, sampled_priors
from tmnre_gw.detectors import EARTH_RADIUS_S, Network
from tmnre_gw.injection import noise
from tmnre_gw.search import SEARCHED, found_nothing, locate
from tmnre_gw.simulator import BinaryBlackHole


@pytest.mark.parametrize("distance_mpc", [120.0, 1e5])
def test_a_light_binary_is_found_and_noise_is_not(distance_mpc, tmp_path):
    """Of 10 + 7 Msun, 16 s, aligned spins; at 100 Gpc there is only noise."""
    priors = sampled_priors(
        default_priors((6.5, 50.0), (10.0, 1000.0), 0.9, 0.1, aligned=True),
        detectors=2,
        trigger_gps_s=1126259462.4,
        delay_s=EARTH_RADIUS_S,
    )
    band = Band(16.0, 20.0, 300.0, priors.free["chirp_mass"].support[0])
    psd = 1e-46 * ((band.frequencies_hz / 100) ** -4 + 2)
    simulator = BinaryBlackHole(
        *(priors.free, priors.fixed, Network.at(("H1", "L1"), 1126259462.4), band),
        Whitening.of(band, np.stack([psd, psd])),
        approximant="IMRPhenomXAS",
        reference_frequency_hz=20.0,
        constraints=priors.constraints,
    )
    rng = np.random.default_rng(0)
    truth = {name: float(d.quantile(np.array(0.5))) for name, d in simulator.prior.items()}
    truth |= {"chirp_mass": 7.24, "mass_ratio": 0.7, "luminosity_distance": distance_mpc, "theta_jn": 0.4, "time": 0.01}
    theta = torch.tensor([[truth[name] for name in simulator.prior.names]], dtype=torch.float64)
    made = {k: torch.from_numpy(v) for k, v in simulator.simulate(theta.numpy(), rng).items()}
    signal = simulator.signal(made, theta)[0].numpy()
    data = (signal + noise(signal.shape, 3)).astype(np.complex64)
    u = Box.full(simulator.prior).sample(6000, rng)
    rows = InMemory(simulator.simulate(simulator.prior.from_cube(u), rng))
    store = SimpleNamespace(shards=lambda before: [], select=lambda *_: SimpleNamespace(u=u))
    rounds = SimpleNamespace(
        simulator=simulator, analysis=SimpleNamespace(seed=0), store=store, _rows=lambda selection: rows
    )
    place = Place(tmp_path, progress=partial(tqdm, disable=True), say=lambda _: None)
    locate(rounds, data, place, tmp_path)
    box = Box.from_dict(json.loads((tmp_path / "region.json").read_text()))
    low, high = simulator.prior[SEARCHED].quantile(np.array(box.cube[SEARCHED]))
    if distance_mpc > 1e4:
        assert found_nothing(box.log_volume)
    else:
        assert low < truth["chirp_mass"] < high and high - low < 5  # of 38
