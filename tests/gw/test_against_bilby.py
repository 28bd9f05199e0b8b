"""The simulator's signal chain against bilby's own detector response, on the full frequency grid."""

import bilby
import numpy as np
import pytest
import torch
from bilby.core.prior import Cosine, PowerLaw, Sine, Uniform

from tmnre_gw.band import Band, Whitening
from tmnre_gw.bilby_side import FromBilby, split_priors
from tmnre_gw.detectors import Network
from tmnre_gw.simulator import BinaryBlackHole

GPS = 1126259462.4
DETECTORS = ("H1", "L1", "V1")
PRECESSING = {
    "chirp_mass": Uniform(15, 40),
    "mass_ratio": Uniform(0.2, 1),
    "a_1": Uniform(0, 0.9),
    "a_2": Uniform(0, 0.9),
    "tilt_1": Sine(),
    "tilt_2": Sine(),
    "phi_12": Uniform(0, 2 * np.pi),
    "phi_jl": Uniform(0, 2 * np.pi),
}
ALIGNED = {
    "chirp_mass": Uniform(15, 40),
    "mass_ratio": Uniform(0.2, 1),
    "chi_1": Uniform(-0.8, 0.8),
    "chi_2": Uniform(-0.8, 0.8),
}
EXTRINSIC = {
    "theta_jn": Sine(),
    "phase": Uniform(0, 2 * np.pi),
    "luminosity_distance": PowerLaw(2, 100, 1000),
    "ra": Uniform(0, 2 * np.pi),
    "dec": Cosine(),
    "psi": Uniform(0, np.pi),
    "time": Uniform(-0.1, 0.1),
}


def _simulator(approximant, priors, band=None):
    band = band or Band(4.0, 20.0, 400.0, 15.0, harmonics=approximant == "IMRPhenomXPHM")
    f = band.frequencies_hz
    # a smooth PSD with a bucket, the same for bilby and us
    psd = 1e-46 * ((f / 100) ** -4 + 2 * (1 + (f / 150) ** 2))
    split = split_priors(priors)
    return BinaryBlackHole(
        split.free,
        split.fixed,
        Network.at(DETECTORS, GPS),
        band,
        Whitening.of(band, np.stack([psd, 2 * psd, 3 * psd])),
        approximant=approximant,
        reference_frequency_hz=20.0,
    )


def _bilby_signal(simulator, approximant, parameters):
    """Whitened signal (detectors, P) from bilby's waveform generator and interferometers."""
    band = simulator.band
    generator = bilby.gw.WaveformGenerator(
        duration=band.duration_s,
        sampling_frequency=1024,
        frequency_domain_source_model=bilby.gw.source.lal_binary_black_hole,
        waveform_arguments={
            "waveform_approximant": approximant,
            "reference_frequency": 20.0,
            "minimum_frequency": band.f_min_hz,
            "maximum_frequency": 512.0,
            # lal's interpolation in XPHM is coarser than what is tested here
            **({"PhenomXHMThresholdMband": 0.0, "PhenomXPHMThresholdMband": 0.0} if "XPHM" in approximant else {}),
        },
    )
    start = GPS - band.duration_s / 2
    at = {**parameters, "geocent_time": GPS + parameters["time"]}
    del at["time"]
    polarisations = generator.frequency_domain_strain(at)
    rows = []
    for d, name in enumerate(DETECTORS):
        ifo = bilby.gw.detector.get_empty_interferometer(name)
        ifo.minimum_frequency, ifo.maximum_frequency = band.f_min_hz, band.f_max_hz
        ifo.set_strain_data_from_zero_noise(sampling_frequency=1024, duration=band.duration_s, start_time=start)
        h = ifo.get_detector_response(polarisations, at)
        f = ifo.frequency_array
        keep = (f >= band.f_min_hz) & (f <= band.f_max_hz)
        h = h[keep] * np.exp(2j * np.pi * f[keep] * (GPS - start))
        rows.append((h * simulator.whitening.factor[d], simulator.whitening.basis[d]))
    return rows


@pytest.mark.parametrize(
    ("approximant", "priors", "tolerance"),
    [
        # squared relative error of the node interpolation, stated in `band`
        ("IMRPhenomPv2", PRECESSING, 1e-5),
        ("IMRPhenomXPHM", PRECESSING, 1e-5),
        ("IMRPhenomXAS", ALIGNED, 1e-5),
    ],
)
def test_whitened_signal_is_bilbys(approximant, priors, tolerance):
    simulator = _simulator(approximant, {**priors, **EXTRINSIC})
    theta = simulator.prior.sample(12, np.random.default_rng(1))
    stored = {k: torch.from_numpy(v) for k, v in simulator.simulate(theta, np.random.default_rng(0)).items()}
    ours = simulator.signal(stored, torch.from_numpy(theta)).numpy()
    derived = simulator.derive(torch.from_numpy(theta), stored)
    f, f_mean = simulator.band.frequencies_hz, simulator._mean_frequency_hz
    for i, row in enumerate(theta):
        parameters = {**simulator.fixed, **dict(zip(simulator.prior.names, row, strict=True))}
        aligned = []
        for d, (full, basis) in enumerate(_bilby_signal(simulator, approximant, parameters)):
            error = np.linalg.norm(full - basis @ ours[i, d]) ** 2 / np.linalg.norm(full) ** 2
            assert error < tolerance, (i, DETECTORS[d], error)
            snr = float(derived[f"snr_{DETECTORS[d]}"][i])
            # |h|^2 in whitened units is the squared optimal signal-to-noise ratio
            assert snr == pytest.approx(np.linalg.norm(full), rel=3e-3)
            # at the geocentre's time but for a turn by what the delay makes at the mean frequency
            ifo = bilby.gw.detector.get_empty_interferometer(DETECTORS[d])
            delay = ifo.time_delay_from_geocenter(parameters["ra"], parameters["dec"], GPS + parameters["time"])
            aligned.append(full * np.exp(2j * np.pi * (f - f_mean) * delay))
        for name, other in zip(DETECTORS[1:], aligned[1:], strict=True):
            exact = np.angle(np.vdot(aligned[0], other))
            off = float(derived[f"phase_difference_{name}"][i]) - exact
            # of a sum that may nearly cancel, by the nodes' quadrature: 1e-3 of it where it does not
            sharp = np.linalg.norm(aligned[0]) * np.linalg.norm(other) / abs(np.vdot(aligned[0], other))
            assert abs((off + np.pi) % (2 * np.pi) - np.pi) < 3e-3 * sharp


def test_response_and_delays_are_bilbys():
    network = Network.at(DETECTORS, GPS)
    rng = np.random.default_rng(2)
    ra, dec, psi = rng.uniform(0, 2 * np.pi, 50), np.arcsin(rng.uniform(-1, 1, 50)), rng.uniform(0, np.pi, 50)
    time = rng.uniform(-0.1, 0.1, 50)
    tensors = [torch.from_numpy(v) for v in (ra, dec, psi, time)]
    direction = network.direction(tensors[0], tensors[1], tensors[3])
    response = network.response(direction, tensors[2]).numpy()
    delays = network.delays(direction).numpy()
    for d, name in enumerate(DETECTORS):
        ifo = bilby.gw.detector.get_empty_interferometer(name)
        for i in range(50):
            at = (ra[i], dec[i], GPS + time[i])
            for mode, polarisation in enumerate(("plus", "cross")):
                expected = ifo.antenna_response(*at, psi[i], polarisation)
                assert response[i, d, mode] == pytest.approx(expected, abs=1e-6)
            # 1e-6 of the light travel time through the Earth
            assert delays[i, d] == pytest.approx(ifo.time_delay_from_geocenter(*at), abs=2e-8)


def test_baseline_frame_is_bilbys():
    network = Network.at(("H1", "L1"), GPS)
    ifos = [bilby.gw.detector.get_empty_interferometer(name) for name in ("H1", "L1")]
    rng = np.random.default_rng(3)
    zenith, azimuth = np.arccos(rng.uniform(-1, 1, 20)), rng.uniform(0, 2 * np.pi, 20)
    direction = network.direction_in_frame(torch.from_numpy(zenith), torch.from_numpy(azimuth))
    ra, dec = network.sky(direction, torch.zeros(20, dtype=torch.float64))
    for i in range(20):
        expected = bilby.gw.utils.zenith_azimuth_to_ra_dec(zenith[i], azimuth[i], GPS, ifos)
        assert (float(ra[i]), float(dec[i])) == pytest.approx(expected, abs=1e-6)


def test_too_short_a_segment_says_what_is_needed():
    with pytest.raises(ValueError, match="take duration >= 8 s"):
        Band(4.0, 20.0, 512.0, 8.7)


def test_a_prior_is_shown_in_few_words():
    assert repr(FromBilby(bilby.core.prior.Uniform(10.0, 80.0, name=None))) == "Uniform(minimum=10.0, maximum=80.0)"
    named = FromBilby(bilby.core.prior.Sine(name="theta_jn", boundary="reflective"))
    assert "name='theta_jn'" in repr(named) and "boundary='reflective'" in repr(named) and "None" not in repr(named)
