"""GW150914 against the published samples, as they are and re-weighted to our data.

    python validation/gw150914.py [--preset learned] [--seeds 0 1 2] [--runs DIR]

Reference: the 8,400 samples of gwastro/pycbc-inference-paper under $TMNRE_DATA/gw.  They were drawn with a PSD and a
segment of their own, so they are also re-weighted: each sample's likelihood by bilby for our PSD and our segment,
marginalised over the phase, divided by the published one.  Writes
results/gw150914-PRESET.json.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import bilby
import h5py
import lalsimulation
import numpy as np
import torch
from compare import Samples, floor, jsd, jsd_2d
from provenance import stamp
from scipy.special import ive
from tqdm import tqdm

from tmnre import Prior, Uniform, run
from tmnre import settings as typed
from tmnre.plugin import find_recipe
from tmnre.result import Result
from tmnre_gw import sources, strain
from tmnre_gw.recipes.gw150914 import Settings
from tmnre_gw.simulator import BinaryBlackHole

RESULTS = Path(__file__).parent / "results"
HARD = {
    **dict.fromkeys(("a_1", "a_2"), (0.0, 0.99)),
    **dict.fromkeys(("tilt_1", "tilt_2", "theta_jn"), (0.0, np.pi)),
    **dict.fromkeys(("phi_12", "phi_jl"), (0.0, 2 * np.pi)),
    "psi": (0.0, np.pi),
    "phase": (0.0, 2 * np.pi),
}
PERIODIC = ("phi_12", "phi_jl", "psi", "phase")
COMPARED = (
    *("chirp_mass", "mass_ratio", "a_1", "a_2", "tilt_1", "tilt_2", "phi_12", "phi_jl", "theta_jn"),
    *("luminosity_distance", "ra", "dec", "psi", "geocent_time", "phase"),
)
"""The fifteen; the published analysis marginalised the phase, which is drawn here from its conditional."""
PAIRS = (("chirp_mass", "mass_ratio"), ("luminosity_distance", "theta_jn"), ("ra", "dec"))
ALSO = ("mass_1", "mass_2", "chi_eff")
REFERENCE_HZ = 20.0


def published() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Published samples in bilby's parameters, {"name": (S,)}, and their log likelihood ratios (S,)."""
    path = Path(os.environ["TMNRE_DATA"]) / "gw" / "gw150914_posteriors_thinned.hdf"
    with h5py.File(path) as file:
        raw = {name: values[:] for name, values in file["samples"].items()}
        log_ratio = file["likelihood_stats/loglr"][:]
    swapped = raw["mass2"] > raw["mass1"]

    def pair(first: str, second: str) -> tuple[np.ndarray, np.ndarray]:
        a, b = raw[first], raw[second]
        return np.where(swapped, b, a), np.where(swapped, a, b)

    m1, m2 = pair("mass1", "mass2")
    magnitude, polar, azimuth = (pair(f"spin1_{k}", f"spin2_{k}") for k in ("a", "polar", "azimuthal"))
    spins = [
        np.stack([a * np.sin(t) * np.cos(p), a * np.sin(t) * np.sin(p), a * np.cos(t)], axis=1)
        for a, t, p in zip(magnitude, polar, azimuth, strict=True)
    ]
    names = ("theta_jn", "phi_jl", "tilt_1", "tilt_2", "phi_12", "a_1", "a_2")
    angles = np.array(
        [
            lalsimulation.SimInspiralTransformPrecessingWvf2PE(i, *s1, *s2, a, b, REFERENCE_HZ, 0.0)
            for i, s1, s2, a, b in zip(raw["inclination"], *spins, m1, m2, strict=True)
        ]
    )
    q = m2 / m1
    samples = {
        **dict(zip(names, angles.T, strict=True)),
        "chirp_mass": (m1 * m2) ** 0.6 / (m1 + m2) ** 0.2,
        "mass_ratio": q,
        "mass_1": m1,
        "mass_2": m2,
        "chi_eff": (spins[0][:, 2] + q * spins[1][:, 2]) / (1 + q),
        "luminosity_distance": raw["distance"],
        "psi": raw["polarization"] % np.pi,
        "ra": raw["ra"],
        "dec": raw["dec"],
        "geocent_time": raw["tc"],
    }
    return samples, log_ratio


def bilby_log_likelihood(settings: Settings, samples: dict[str, np.ndarray]) -> np.ndarray:
    """bilby's phase-marginalised log likelihood ratio (S,) of the samples, for the recipe's segment and PSD."""
    ifos = bilby.gw.detector.InterferometerList(list(settings.detectors))
    start = settings.trigger_gps_s + 2.0 - settings.duration_s
    path = sources.psd_file(settings.event, settings.psd)
    for ifo in ifos:
        data = strain.read_strain(sources.strain_file(settings.event, ifo.name, None, ""), ifo.name)
        ifo.minimum_frequency, ifo.maximum_frequency = settings.f_min_hz, settings.f_max_hz
        ifo.strain_data.roll_off = 0.4
        ifo.strain_data.set_from_time_domain_strain(
            data.segment(start, settings.duration_s),
            sampling_frequency=data.rate_hz,
            duration=settings.duration_s,
            start_time=start,
        )
        grid = ifo.frequency_array
        grid = grid[(grid >= settings.f_min_hz) & (grid <= settings.f_max_hz)]
        ifo.power_spectral_density = bilby.gw.detector.PowerSpectralDensity(
            frequency_array=grid, psd_array=strain.read_psd(path, [ifo.name], grid)[0]
        )
    generator = bilby.gw.WaveformGenerator(
        duration=settings.duration_s,
        sampling_frequency=data.rate_hz,
        frequency_domain_source_model=bilby.gw.source.lal_binary_black_hole,
        parameter_conversion=bilby.gw.conversion.convert_to_lal_binary_black_hole_parameters,
        waveform_arguments={
            "waveform_approximant": settings.approximant,
            "reference_frequency": settings.reference_frequency_hz,
            "minimum_frequency": settings.f_min_hz,
            "maximum_frequency": settings.f_max_hz,
        },
    )
    priors = bilby.core.prior.PriorDict({"phase": bilby.core.prior.Uniform(0, 2 * np.pi)})
    likelihood = bilby.gw.likelihood.GravitationalWaveTransient(
        ifos, generator, priors=priors, phase_marginalization=True
    )
    names = [name for name in COMPARED if name != "phase"]
    rows = tqdm(range(len(samples["psi"])), desc="bilby's likelihood", leave=False)
    return np.array(
        [likelihood.log_likelihood_ratio({**{n: samples[n][i] for n in names}, "phase": 0.0}) for i in rows]
    )


def overlaps(simulator: BinaryBlackHole, data: np.ndarray, samples: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Our <signal, data> (S,) complex and <signal, signal> (S,) at phase zero, sky and time at the geocentre."""
    at = {**samples, "time": samples["geocent_time"] - simulator.network.reference_gps_s}
    at["phase"] = np.zeros(len(at["time"]))
    names = [n for n in (*simulator.prior.names, *simulator.fixed) if n not in ("zenith", "azimuth")] + ["ra", "dec"]
    in_sky = BinaryBlackHole(
        Prior({name: Uniform(-1e9, 1e9) for name in names}),
        {},
        simulator.network,
        simulator.band,
        simulator.whitening,
        approximant=simulator.waveform.approximant,
        reference_frequency_hz=simulator.waveform.reference_frequency_hz,
    )
    theta = np.stack([at[name] for name in names], axis=1)
    stored = {k: torch.from_numpy(v) for k, v in in_sky.simulate(theta, np.random.default_rng(0)).items()}
    signal = in_sky.signal(stored, torch.from_numpy(theta)).numpy()
    return np.einsum("ndp,dp->n", signal.conj(), data), (np.abs(signal) ** 2).sum((1, 2))


def phases(overlap: np.ndarray) -> np.ndarray:
    """One draw (S,) each of the phase given the other parameters: the signal turns with exp(2 i phase)."""
    rng = np.random.default_rng(0)
    twice = rng.vonmises(np.angle(overlap), np.abs(overlap))
    return (twice / 2 + np.pi * rng.integers(0, 2, len(twice))) % (2 * np.pi)


def compare(result: Result, samples: dict[str, np.ndarray], weights: np.ndarray) -> dict[str, dict]:
    """Per parameter and pair: divergences from the published and the re-weighted samples, medians and 90% intervals."""
    table = {}
    plain = np.ones(len(weights))
    for names in [*((name,) for name in (*COMPARED, *ALSO)), *PAIRS]:
        marginal = result[names]
        references = {"published": plain, "reweighted": weights}
        if len(names) == 1:
            values, ours, divergence = samples[names[0]], marginal.samples[:, 0], jsd
            how = {"bounds": HARD.get(names[0]), "periodic": names[0] in PERIODIC}
        else:
            values, ours, divergence = np.stack([samples[n] for n in names], axis=1), marginal.samples, jsd_2d
            how = {"periodic": tuple(n in PERIODIC for n in names)}
        ours = Samples(ours, marginal.weights)
        row = {}
        for key, w in references.items():
            reference = Samples(values, w)
            row[f"jsd_{key}"] = divergence(ours, reference, **how)
            row[f"floor_{key}"] = floor(reference, divergence, **how)
            if len(names) == 1:
                row[key] = reference.quantiles(0.05, 0.5, 0.95).tolist()
        if len(names) == 1:
            row["ours"] = ours.quantiles(0.05, 0.5, 0.95).tolist()
        table[", ".join(names)] = row
    return table


def reference(recipe) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, float]]:
    """Published samples with a phase and with time relative to the trigger, weights (S,) that take them to our data
    and PSD by bilby's likelihood, and how far ours is from bilby's."""
    settings = replace(recipe.settings(), exact=False)
    samples, log_ratio = published()
    log_likelihood = bilby_log_likelihood(settings, samples)
    log_weights = log_likelihood - log_ratio
    analysis = recipe.build(settings)
    overlap, square = overlaps(analysis.simulator, analysis.observation["strain"], samples)
    ours = np.abs(overlap) - 0.5 * square + np.log(ive(0, np.abs(overlap)))
    samples["phase"] = phases(overlap)
    samples["geocent_time"] = samples["geocent_time"] - settings.trigger_gps_s
    apart = np.abs(ours - log_likelihood)
    agreement = {"log_likelihood_apart_median": float(np.median(apart)), "log_likelihood_apart_max": float(apart.max())}
    return samples, np.exp(log_weights - log_weights.max()), agreement


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", default="learned")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/validation"))
    options = parser.parse_args()
    recipe = find_recipe("gw/gw150914")
    samples, weights, agreement = reference(recipe)
    found = []
    for seed in options.seeds:
        settings = typed.parse(recipe, [f"--seed={seed}"], preset=options.preset)
        analysis = recipe.build(settings)
        out = options.runs / f"gw150914-{options.preset}-{seed}"
        started = time.time()
        result = run.execute(
            analysis, out, config=typed.dump(settings), recipe="gw/gw150914", command=[], resume=out.exists()
        )
        wall = time.time() - started
        table = compare(result, samples, weights)
        scores = {key: [table[name][f"jsd_{key}"] for name in COMPARED] for key in ("published", "reweighted")}
        found.append(
            {
                **stamp(),
                "seed": seed,
                "wall_s": round(wall),
                "waveforms": result.simulations,
                **{f"{stat}_{key}": round(float(f(v)), 5) for key, v in scores.items() for stat, f in STATISTICS},
                "pairs_reweighted": {
                    ", ".join(pair): round(table[", ".join(pair)]["jsd_reweighted"], 5) for pair in PAIRS
                },
                "floor_mean": round(float(np.mean([table[n]["floor_reweighted"] for n in COMPARED])), 5),
                "effective_reference": round(Samples(samples["psi"], weights).effective),
                **agreement,
                "rounds": [{k: r[k] for k in ("seconds", "simulated", "reused", "kept")} for r in result.rounds],
                "parameters": table,
            }
        )
        shown = {k: v for k, v in found[-1].items() if k not in ("rounds", "parameters")}
        print(json.dumps(shown), flush=True)
        for name, row in table.items():
            ours, theirs = (" ".join(f"{v:9.4g}" for v in row.get(k, ())) for k in ("ours", "reweighted"))
            print(f"{name:28s} {row['jsd_published']:.4f} {row['jsd_reweighted']:.4f}  {ours}  | {theirs}")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"gw150914-{options.preset}.json"
    before = json.loads(path.read_text()) if path.exists() else []
    kept = [entry for entry in before if entry["seed"] not in options.seeds]
    path.write_text(json.dumps(sorted(kept + found, key=lambda entry: entry["seed"]), indent=1) + "\n")


STATISTICS = (("mean", np.mean), ("max", np.max))

if __name__ == "__main__":
    main()
