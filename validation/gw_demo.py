"""gw/demo against bilby with a nested sampler on the same data, and its coverage over injections.

python validation/gw_demo.py            compare with the stored nested-sampling result
python validation/gw_demo.py --sample   run the nested sampler again (under an hour on one core) and store it
python validation/gw_demo.py --coverage 20
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import bilby
import numpy as np
from compare import Samples, floor, jsd
from provenance import stamp

from tmnre import run
from tmnre import settings as typed
from tmnre.plugin import find_recipe
from tmnre_gw.recipes.demo import Settings, recipe, simulator_of

RESULTS = Path(__file__).parent / "results"
STORED = RESULTS / "gw_demo_dynesty.npz"
HARD = {"theta_jn": (0.0, np.pi), "mass_ratio": (0.25, 1.0)}


def nested_sampling(settings: Settings, folder: Path) -> None:
    """Sample the demo's posterior with bilby's own likelihood, waveform and detectors, and dynesty."""
    analysis = recipe.build(settings)
    simulator, data = analysis.simulator, analysis.observation["strain"]
    start = settings.trigger_gps_s - settings.duration_s / 2
    ifos = bilby.gw.detector.InterferometerList(list(settings.detectors))
    for d, ifo in enumerate(ifos):
        ifo.minimum_frequency, ifo.maximum_frequency = settings.f_min_hz, settings.f_max_hz
        ifo.strain_data.set_from_frequency_domain_strain(
            np.zeros(int(settings.duration_s * 512) + 1, complex),
            sampling_frequency=1024,
            duration=settings.duration_s,
            start_time=start,
        )
        f = ifo.frequency_array
        inside = (f >= settings.f_min_hz) & (f <= settings.f_max_hz)
        # data on the grid from the whitened basis; what is orthogonal to it cannot change the posterior
        strain = (simulator.whitening.basis[d] @ data[d]) / simulator.whitening.factor[d]
        series = np.zeros(len(f), complex)
        series[inside] = strain * np.exp(-2j * np.pi * f[inside] * (settings.trigger_gps_s - start))
        ifo.strain_data.frequency_domain_strain = series
    generator = bilby.gw.WaveformGenerator(
        duration=settings.duration_s,
        sampling_frequency=1024,
        frequency_domain_source_model=bilby.gw.source.lal_binary_black_hole,
        parameter_conversion=bilby.gw.conversion.convert_to_lal_binary_black_hole_parameters,
        waveform_arguments={
            "waveform_approximant": settings.approximant,
            "reference_frequency": 50.0,
            "minimum_frequency": settings.f_min_hz,
            "maximum_frequency": settings.f_max_hz,
        },
    )
    injection, gps = settings.injection, settings.trigger_gps_s
    window = settings.time_window_s
    priors = bilby.core.prior.PriorDict(
        {
            "chirp_mass": bilby.core.prior.Uniform(*settings.chirp_mass_msun),
            "mass_ratio": bilby.core.prior.Uniform(*settings.mass_ratio),
            "luminosity_distance": bilby.core.prior.PowerLaw(2.0, *settings.luminosity_distance_mpc),
            "theta_jn": bilby.core.prior.Sine(),
            "phase": bilby.core.prior.Uniform(0, 2 * np.pi, boundary="periodic"),
            "geocent_time": bilby.core.prior.Uniform(gps - window, gps + window),
            **{name: 0.0 for name in ("chi_1", "chi_2")},
            **{name: getattr(injection, name) for name in ("ra", "dec", "psi")},
        }
    )
    likelihood = bilby.gw.likelihood.GravitationalWaveTransient(ifos, generator, priors=priors)
    started = time.time()
    found = bilby.run_sampler(
        likelihood, priors, sampler="dynesty", nlive=500, outdir=str(folder), label="demo", save=False, npool=1
    )
    posterior = found.posterior
    samples = {name: posterior[name].to_numpy() for name in simulator.prior.names if name != "time"}
    samples["time"] = posterior["geocent_time"].to_numpy() - gps
    RESULTS.mkdir(exist_ok=True)
    np.savez_compressed(
        STORED,
        likelihood_calls=found.num_likelihood_evaluations,
        wall_s=time.time() - started,
        **{name: values.astype("f8") for name, values in samples.items()},
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sample", action="store_true")
    parser.add_argument("--coverage", type=int, default=0, metavar="INJECTIONS")
    parser.add_argument("--first", type=int, default=0, help="injection to begin with, where several share the work")
    parser.add_argument("--runs", type=Path, default=Path("runs/validation"))
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    if options.sample:
        nested_sampling(Settings(), options.runs / "dynesty")
    elif options.coverage:
        coverage(options.coverage, options.first, options.runs)
    else:
        comparison(options.runs)


def _run(settings: Settings, out: Path):
    analysis = find_recipe("gw/demo").build(settings)
    return run.execute(analysis, out, config=typed.dump(settings), recipe="gw/demo", command=[], resume=out.exists())


def comparison(runs: Path) -> None:
    """Divergence and shift of the median per parameter, against the stored nested-sampling result."""
    stored = np.load(STORED)
    result = _run(Settings(), runs / "gw-demo")
    table = {}
    for name in simulator_of(Settings()).prior.names:
        reference = Samples(stored[name], np.ones(len(stored[name])))
        ours = Samples(result[name].samples[:, 0], result[name].weights)
        if name == "phase":
            # the (2, 2) mode cannot tell phi from phi + pi: a median of both modes would lie between them
            centre = np.angle(np.mean(np.exp(2j * reference.values))) / 2
            ours, reference = (
                Samples((s.values - centre + np.pi / 2) % np.pi - np.pi / 2, s.weights) for s in (ours, reference)
            )
        how = {"bounds": HARD.get(name)}
        table[name] = {
            "jsd": jsd(ours, reference, **how),
            "floor": floor(reference, **how),
            "median_shift_sd": float(ours.quantiles(0.5)[0] - reference.quantiles(0.5)[0]) / reference.sd,
            "width_ratio": ours.sd / reference.sd,
        }
        print(name, {k: round(v, 4) for k, v in table[name].items()}, flush=True)
    summary = {
        **stamp(),
        "waveforms": result.simulations,
        "nested_sampling_calls": int(stored["likelihood_calls"]),
        # of the rounds, so that it holds for a run that was resumed
        "wall_s": round(sum(sum(record["seconds"].values()) for record in result.rounds)),
        "parameters": table,
    }
    (RESULTS / "gw_demo.json").write_text(json.dumps(summary, indent=1) + "\n")


def coverage(n: int, first: int, runs: Path) -> None:
    """Truths drawn from the prior, one analysis each: fraction inside the 90% intervals.

    Finished analyses are only read, so two processes can share the work and a third one gather it.
    """
    inside: dict[str, list[bool]] = {}
    ranks: dict[str, list[float]] = {}
    settings = Settings()
    prior = simulator_of(settings).prior
    draws = prior.sample(n, np.random.default_rng(123))
    for i, row in enumerate(draws[first:], first):
        truth = dict(zip(prior.names, row.tolist(), strict=True))
        truth["time_s"] = truth.pop("time")
        injected = replace(settings, seed=i + 1, injection=replace(settings.injection, **truth))
        result = _run(injected, runs / f"gw-demo-{i:03d}")
        for name in prior.names:
            low, high = result[name].interval(0.9)[0]
            inside.setdefault(name, []).append(bool(low <= result.truth[name] <= high))
            below = result[name].samples[:, 0] < result.truth[name]
            ranks.setdefault(name, []).append(float(result[name].weights[below].sum()))
        print(i, {name: round(values[-1], 3) for name, values in ranks.items()}, flush=True)
        table = {name: {"inside_90": sum(v), "of": len(v), "ranks": ranks[name]} for name, v in inside.items()}
        (RESULTS / "gw_demo_coverage.json").write_text(json.dumps({**stamp(), "parameters": table}, indent=1) + "\n")
    print({name: f"{row['inside_90']}/{row['of']}" for name, row in table.items()})


if __name__ == "__main__":
    main()
