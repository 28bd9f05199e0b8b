"""gw/bbh to the end: joint draws, evidence, and files that bilby reads."""

import json

import bilby
import h5py
import numpy as np
import pytest

from tmnre import MarginalPosterior
from tmnre.cli import main
from tmnre.plugin import find_recipe
from tmnre_gw.bilby_side import FILE_OF_DETECTOR
from tmnre_gw.binary import default_priors
from tmnre_gw.products import About, bilby_result, write_bilby
from tmnre_gw.recipes.bbh import Settings

FAST = (
    "--search",
    "true",
    "--schedule.waveforms",
    "[200,200]",
    "--schedule.steps",
    "[20,20]",
    "--sampling.particles",
    "60",
)
ALIGNED = ("--approximant", "IMRPhenomXAS", "--detectors", "[H1,L1,V1]")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("gw") / "run"
    assert main(["run", "gw/bbh", "--preset", "smoke", *FAST, *ALIGNED, "--workers", "1", "--out", str(out)]) == 0
    return out


def test_a_run_leaves_joint_draws_evidence_and_a_sky_map(run):
    assert {"bilby_result.json", "bilby_result.hdf5", "skymap.fits", "learned", "exact"} <= {
        p.name for p in run.iterdir()
    }
    # rounds begin where matched filters say, and what these took is counted
    assert (run / "search" / "DONE").exists()
    searched = json.loads((run / "search" / "region.json").read_text())
    first = json.loads((run / "learned" / "rounds" / "00" / "region.json").read_text())
    assert first["region"] == searched["region"]
    # a step that is done once: `resume` finds it
    assert (run / "exact" / "DONE").exists() and (run / "learned" / "rounds" / "01" / "DONE").exists()
    assert {"triangle.png", "sky.png", "whitened.png"} <= {p.name for p in (run / "figures").iterdir()}
    summary = json.loads((run / "summary.json").read_text())
    exact = summary["exact"]
    simulated = sum(record["simulated"] for record in summary["rounds"])
    assert summary["simulations"] == simulated + searched["waveforms"] and searched["waveforms"] >= 2000
    assert np.isfinite(exact["log_bayes_factor"]) and exact["waveforms"] > 0 and exact["importance_draws"] == 400
    # sixty particles are not worth four hundred draws, however often they are kept
    assert exact["effective_samples"] <= 60
    assert "learned posterior" in summary["checked"]
    (few,) = [line for line in summary["warnings"] if "effective samples" in line]
    assert f"more: {exact['effective_samples']:.0f} effective samples, fewer than 400" in few
    with h5py.File(run / "posterior.h5") as file:
        (joint,) = [key for key in file if key.count("|") > 2]
        names = list(file[joint].attrs["names"])
        column = file[joint]["samples"][:, names.index("chirp_mass")]
        # of one set of draws, so the one-dimensional marginal is the joint's
        np.testing.assert_array_equal(column, file["chirp_mass"]["samples"][:, 0])
    assert set(names) >= {"chirp_mass", "chi_1", "ra", "dec", "luminosity_distance", "phase", "geocent_time"}


def test_bilby_reads_the_result(run):
    summary = json.loads((run / "summary.json").read_text())
    for extension in ("json", "hdf5"):
        result = bilby.read_in_result(str(run / f"bilby_result.{extension}"))
        assert result.log_bayes_factor == pytest.approx(summary["exact"]["log_bayes_factor"])
        assert result.log_evidence == pytest.approx(result.log_bayes_factor + result.log_noise_evidence)
        assert {"chirp_mass", "mass_ratio", "ra", "log_likelihood", "log_prior"} <= set(result.posterior)
        assert set(result.search_parameter_keys) <= set(result.priors)
        # GPS seconds, as bilby has it, and inside the prior
        times = result.posterior["geocent_time"]
        assert times.between(result.priors["geocent_time"].minimum, result.priors["geocent_time"].maximum).all()
        assert np.isfinite(result.posterior["log_prior"]).all()


def test_only_joint_marginals_become_bilby_results():
    about = About("X", ("H1",), 0.0)
    with pytest.raises(ValueError, match="joint"):
        bilby_result(MarginalPosterior(("ra",), np.zeros((10, 1)), np.zeros(10)), about)


def test_weighted_draws_are_resampled(tmp_path):
    rng = np.random.default_rng(0)
    samples = rng.uniform((0.3, 20), (1, 40), (5000, 2))
    joint = MarginalPosterior(("mass_ratio", "chirp_mass"), samples, -0.5 * ((samples[:, 1] - 30) / 2) ** 2)
    priors = default_priors((10, 80), (10, 1000), 0.99, 0.1)
    write_bilby(bilby_result(joint, About("X", ("H1",), 0.0, priors)), tmp_path)
    read = bilby.read_in_result(str(tmp_path / "bilby_result.json")).posterior
    # a Gaussian of sd 2, from 5000 uniform draws over 20: 1250 of them effective
    assert read["chirp_mass"].mean() == pytest.approx(30, abs=5 * 2 / 1250**0.5)
    assert read["chirp_mass"].std() == pytest.approx(2, rel=0.15)


def test_a_detector_of_ones_own(tmp_path):
    """A copy of Hanford under another name hears what Hanford hears, so that two of them have equal signals."""
    source = bilby.gw.detector.get_empty_interferometer("H1").geometry
    path = tmp_path / f"mine{FILE_OF_DETECTOR}"
    path.write_text(
        "name = 'X1'\npower_spectral_density = PowerSpectralDensity(asd_file='aLIGO_ZERO_DET_high_P_asd.txt')\n"
        f"minimum_frequency = 20\nmaximum_frequency = 2048\nlength = {source.length}\nlatitude = {source.latitude}\n"
        f"longitude = {source.longitude}\nelevation = {source.elevation}\nxarm_azimuth = {source.xarm_azimuth}\n"
        f"yarm_azimuth = {source.yarm_azimuth}\nxarm_tilt = {source.xarm_tilt}\nyarm_tilt = {source.yarm_tilt}\n"
    )
    analysis = find_recipe("gw/bbh").build(Settings(detectors=("H1", "L1", str(path)), exact=False))
    truth = analysis.truth
    assert analysis.simulator.network.names == ("H1", "L1", "X1")
    h1, x1 = (analysis.simulator.network.delays(_north())[0, i] for i in (0, 2))
    assert float(h1) == pytest.approx(float(x1), abs=1e-12)
    # design curves differ between bilby's files, the response does not
    assert truth["snr_X1"] > 0


def _north():
    import torch

    return torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
