"""gw/bbh on an IMRPhenomXPHM injection against bilby with a nested sampler: same data, likelihood and prior.

    python validation/gw_nested.py --sample    run the nested sampler (hours on one core), or go on with it
    python validation/gw_nested.py             run gw/bbh (about an hour on one core) and compare

65.8 + 32.9 Msun seen at an inclination of 1 rad, where modes above (2, 2) matter; fifteen parameters are free in both.
The sampler sees the strain of the recipe through bilby's own likelihood, waveform generator and detectors; distance
is marginalised and drawn again from its conditional, time and sky are sampled as the detectors see them.  Writes
results/gw_nested.json, and the sampler's draws beside it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import bilby
import numpy as np
import torch
from gw150914 import COMPARED
from gw_exact import found

from tmnre import run
from tmnre import settings as typed
from tmnre.plugin import find_recipe
from tmnre.result import load_marginals
from tmnre_gw.exact import ExactBinary
from tmnre_gw.injection import Injection
from tmnre_gw.likelihood import Likelihood
from tmnre_gw.products import shifted
from tmnre_gw.recipes.bbh import AFTER_TRIGGER_S, PriorSettings, Settings

RESULTS = Path(__file__).parent / "results"
STORED, DRAWS = RESULTS / "gw_nested.json", RESULTS / "gw_nested_dynesty.npz"
SETTINGS = Settings(
    trigger_gps_s=1126259462.4,
    injection=Injection(chirp_mass=40.0, mass_ratio=0.5, theta_jn=1.0, luminosity_distance=1150.0),
    duration_s=4.0,
    approximant="IMRPhenomXPHM",
    prior=PriorSettings(component_mass_msun=(20.0, 100.0), luminosity_distance_mpc=(100.0, 5000.0), time_window_s=0.05),
    workers=1,
)
SAMPLER = {"nlive": 300, "sample": "acceptance-walk", "bound": "live", "naccept": 16, "walks": 50, "dlogz": 0.1}
"""naccept is a quarter of bilby's default, to save time"""
RATE_HZ = 1024
RINGDOWN_S = 0.3
"""how long the segment of the sampler's likelihood goes on after the trigger: its bands are the wider the less"""


def interferometers(analysis: ExactBinary, *, after_s: float = AFTER_TRIGGER_S):
    """bilby's detectors with the recipe's strain, put on the grid from the basis: what is orthogonal to it cannot
    change the posterior.

    after_s: where the segment ends after the trigger; it is periodic, so moving it round changes nothing.
    """
    simulator, data = analysis.analysis.simulator, analysis.analysis.observation["strain"]
    start = SETTINGS.trigger_gps_s + after_s - SETTINGS.duration_s
    ifos = bilby.gw.detector.InterferometerList(list(SETTINGS.detectors))
    for d, ifo in enumerate(ifos):
        ifo.minimum_frequency, ifo.maximum_frequency = SETTINGS.f_min_hz, SETTINGS.f_max_hz
        f = np.arange(int(SETTINGS.duration_s * RATE_HZ / 2) + 1) / SETTINGS.duration_s
        inside = (f >= SETTINGS.f_min_hz) & (f <= SETTINGS.f_max_hz)
        strain = (simulator.whitening.basis[d] @ data[d]) / simulator.whitening.factor[d]
        series = np.zeros(len(f), complex)
        series[inside] = strain * np.exp(-2j * np.pi * f[inside] * (SETTINGS.trigger_gps_s - start))
        ifo.strain_data.set_from_frequency_domain_strain(
            series, sampling_frequency=RATE_HZ, duration=SETTINGS.duration_s, start_time=start
        )
    return ifos


def generator(*, banded: bool = False) -> bilby.gw.WaveformGenerator:
    """bilby's, on the full grid; `banded`: on the frequencies of its multi-banded likelihood, which are set there."""
    source, arguments = bilby.gw.source.lal_binary_black_hole, {}
    if banded:
        source = bilby.gw.source.binary_black_hole_frequency_sequence
    else:
        arguments = {"minimum_frequency": SETTINGS.f_min_hz, "maximum_frequency": SETTINGS.f_max_hz}
    return bilby.gw.WaveformGenerator(
        duration=SETTINGS.duration_s,
        sampling_frequency=RATE_HZ,
        frequency_domain_source_model=source,
        parameter_conversion=bilby.gw.conversion.convert_to_lal_binary_black_hole_parameters,
        waveform_arguments={
            "waveform_approximant": SETTINGS.approximant,
            "reference_frequency": SETTINGS.reference_frequency_hz,
            **arguments,
        },
    )


def banded_likelihood(analysis: ExactBinary, priors, **how) -> bilby.gw.likelihood.GravitationalWaveTransient:
    """bilby's multi-banded likelihood (Morisaki 2021), twice as quick as that on the full grid."""
    lowest = analysis.analysis.simulator.band.min_chirp_mass_msun
    return bilby.gw.likelihood.MBGravitationalWaveTransient(
        interferometers(analysis, after_s=RINGDOWN_S),
        generator(banded=True),
        reference_chirp_mass=lowest,
        highest_mode=4,
        priors=priors,
        **how,
    )


def around(analysis: ExactBinary, n: int = 20) -> np.ndarray:
    """Parameters (n + 1, D) of the truth and of points about it, spins and angles anywhere in half of their range."""
    prior, truth, rng = analysis.analysis.simulator.prior, analysis.analysis.truth, np.random.default_rng(0)
    near = {"chirp_mass": 2.0, "time": 0.002, "zenith": 0.1, "luminosity_distance": 200.0}
    theta = np.array([[truth[name] for name in prior.names]] * (n + 1))
    for i, name in enumerate(prior.names):
        low, high = prior[name].support
        wide = near.get(name, (high - low) / 4)
        theta[1:, i] = np.clip(theta[1:, i] + wide * rng.uniform(-1, 1, n), low, high)
    return theta


def agreement(analysis: ExactBinary, theta: np.ndarray) -> dict[str, float]:
    """How far our log likelihood ratio and that of the sampler are from bilby's on the full grid at parameters
    theta (N, D), how far they are from each other, and what each costs.

    XPHM's own multi-banding, which lal uses on full grids and not on sequences of frequencies, is most of the former.
    """
    simulator = analysis.analysis.simulator
    ours = Likelihood(simulator, analysis.analysis.observation["strain"])
    started = time.process_time()
    stored = ours.waveforms(theta)
    log_l = {"ours": ours(stored, torch.from_numpy(theta))}
    seconds = {"ours": time.process_time() - started}
    derived = {name: values.numpy() for name, values in simulator.derive(torch.from_numpy(theta), stored).items()}
    columns = {**dict(zip(simulator.prior.names, theta.T, strict=True)), **derived}
    points = [{name: float(columns[name][i]) for name in COMPARED} for i in range(len(theta))]
    for point in points:
        point["geocent_time"] += SETTINGS.trigger_gps_s
    known = dict(SETTINGS.prior.of(SETTINGS.approximant))
    known["geocent_time"] = shifted(known["geocent_time"], SETTINGS.trigger_gps_s)
    others = {
        "full": bilby.gw.likelihood.GravitationalWaveTransient(interferometers(analysis), generator()),
        "sampled": banded_likelihood(analysis, bilby.gw.prior.BBHPriorDict(known)),
    }
    for name, likelihood in others.items():
        started = time.process_time()
        log_l[name] = np.array([likelihood.log_likelihood_ratio(point) for point in points])
        seconds[name] = time.process_time() - started
    apart = {name: np.abs(log_l[name] - log_l["full"]) for name in ("ours", "sampled")}
    apart["ours_sampled"] = np.abs(log_l["ours"] - log_l["sampled"])
    return {
        "points": len(theta),
        "log_likelihood_first": float(log_l["full"][0]),
        "log_likelihood_least": float(log_l["full"].min()),
        **{f"apart_median_{name}": float(np.median(a)) for name, a in apart.items()},
        **{f"apart_max_{name}": float(a.max()) for name, a in apart.items()},
        **{f"cpu_ms_{name}": 1e3 * s / len(theta) for name, s in seconds.items()},
    }


def nested_sampling(analysis: ExactBinary, folder: Path) -> None:
    """bilby's likelihood and dynesty, from the start or where it was interrupted."""
    gps, window = SETTINGS.trigger_gps_s, SETTINGS.prior.time_window_s
    priors = bilby.gw.prior.BBHPriorDict(dict(SETTINGS.prior.of(SETTINGS.approximant)))
    for name in ("ra", "dec", "geocent_time"):
        priors.pop(name)
    # isotropic in any frame; the arrival at H1 has the density of that at the geocentre, and all of the posterior is
    # far from the edges of both windows
    priors["zenith"] = bilby.core.prior.Sine()
    priors["azimuth"] = bilby.core.prior.Uniform(0, 2 * np.pi)
    priors["H1_time"] = bilby.core.prior.Uniform(gps - window, gps + window)
    for name in ("azimuth", "phi_12", "phi_jl", "phase", "psi"):
        priors[name].boundary = "periodic"
    folder.mkdir(parents=True, exist_ok=True)
    likelihood = banded_likelihood(
        analysis,
        priors,
        distance_marginalization=True,
        distance_marginalization_lookup_table=str(folder / "distance.npz"),
        time_reference="H1",
        reference_frame="H1L1",
    )
    bilby.core.utils.random.seed(1)
    sampled = bilby.run_sampler(
        likelihood,
        priors,
        sampler="dynesty",
        outdir=str(folder),
        label="nested",
        save=False,
        resume=True,
        npool=1,
        check_point_delta_t=300,
        check_point_plot=False,
        **SAMPLER,
    )
    drawn = bilby.gw.conversion.generate_posterior_samples_from_marginalized_likelihood(
        sampled.posterior, likelihood, npool=1
    )
    bilby.gw.conversion.generate_sky_frame_parameters(drawn, likelihood)
    samples = {name: drawn[name].to_numpy() for name in COMPARED}
    samples["geocent_time"] = samples["geocent_time"] - gps
    # the prior of a nested sampler is not normalised for the bounds of the component masses
    allowed = np.mean(priors.evaluate_constraints(priors.sample_subset(["chirp_mass", "mass_ratio"], size=200_000)))
    RESULTS.mkdir(exist_ok=True)
    np.savez_compressed(
        DRAWS,
        likelihood_calls=sampled.num_likelihood_evaluations,
        wall_s=_seconds(sampled.sampling_time),
        log_bayes_factor=sampled.log_bayes_factor - np.log(allowed),
        log_bayes_factor_sd=sampled.log_evidence_err,
        settings=json.dumps(SAMPLER),
        **{name: values.astype("f4" if name != "geocent_time" else "f8") for name, values in samples.items()},
    )


def _seconds(sampling_time) -> float:
    return float(getattr(sampling_time, "total_seconds", lambda: sampling_time)())


def comparison(analysis: ExactBinary, folder: Path) -> None:
    """gw/bbh, and its learned marginals and exact draws against the stored draws of the nested sampler."""
    result = run.execute(
        analysis, folder, config=typed.dump(SETTINGS), recipe="gw/bbh", command=[], resume=folder.exists()
    )
    stored = dict(np.load(DRAWS))
    nested = {name: float(stored[name]) for name in ("likelihood_calls", "wall_s", "log_bayes_factor")}
    nested["log_bayes_factor_sd"] = float(stored["log_bayes_factor_sd"])
    # a nested sampler's draws come in the order of their likelihood
    order = np.random.default_rng(0).permutation(len(stored["psi"]))
    samples = {name: stored[name][order].astype(float) for name in COMPARED}
    draws = dict(np.load(folder / "exact" / "draws.npz"))
    some = np.linspace(0, len(draws["psi"]) - 1, 200).astype(int)
    drawn = np.stack([draws[name][some] for name in analysis.analysis.simulator.prior.names], axis=1)
    learned = load_marginals(folder / "learned" / "posterior.h5")
    entry = {
        **found(result, learned, samples, np.ones(len(order)), len(order)),
        "truth": {name: result.truth[name] for name in (*COMPARED, "mass_1", "mass_2", "snr_H1", "snr_L1")},
        "nested": {**nested, "draws": len(order), "settings": json.loads(str(stored["settings"]))},
        "agreement": {"about the truth": agreement(analysis, around(analysis)), "draws": agreement(analysis, drawn)},
    }
    STORED.write_text(json.dumps(entry, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sample", action="store_true")
    parser.add_argument("--runs", type=Path, default=Path("runs/validation"))
    options = parser.parse_args()
    analysis = find_recipe("gw/bbh").build(SETTINGS)
    if options.sample:
        print(json.dumps(agreement(analysis, around(analysis))), flush=True)
        nested_sampling(analysis, options.runs / "nested")
    else:
        comparison(analysis, options.runs / "gw-nested")


if __name__ == "__main__":
    main()
