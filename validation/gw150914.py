"""GW150914 against the published samples, as they are and re-weighted to our data.

    python validation/gw150914.py [--preset quick] [--seeds 0 1 2] [--runs DIR]

Reference: the 8,400 samples of gwastro/pycbc-inference-paper under $TMNRE_DATA/gw.  They were drawn with a PSD and a
segment of their own, so they are also re-weighted: each sample's likelihood is computed with the same bilby waveform,
our PSD and our segment, marginalised over the phase, and divided by the published one.  Writes
results/gw150914-PRESET.json.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import h5py
import lalsimulation
import numpy as np
import torch
from compare import Samples, floor, jsd
from scipy.special import ive

from tmnre import run
from tmnre import settings as typed
from tmnre.plugin import find_recipe
from tmnre.result import Result
from tmnre_gw.simulator import BinaryBlackHole

RESULTS = Path(__file__).parent / "results"
HARD = {
    **dict.fromkeys(("a_1", "a_2"), (0.0, 0.99)),
    **dict.fromkeys(("tilt_1", "tilt_2", "theta_jn"), (0.0, np.pi)),
    **dict.fromkeys(("phi_12", "phi_jl"), (0.0, 2 * np.pi)),
    "psi": (0.0, np.pi),
}
PERIODIC = ("phi_12", "phi_jl", "psi")
COMPARED = (
    *("chirp_mass", "mass_ratio", "a_1", "a_2", "tilt_1", "tilt_2", "phi_12", "phi_jl", "theta_jn"),
    *("luminosity_distance", "ra", "dec", "psi", "geocent_time"),
)
"""All but the phase, which the published analysis marginalised."""
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


def log_likelihood(simulator: BinaryBlackHole, data: np.ndarray, samples: dict[str, np.ndarray]) -> np.ndarray:
    """Phase-marginalised log likelihood ratio (S,) of our data, sky and time at the geocentre."""
    from tmnre import Prior, Uniform

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
    overlap = np.abs(np.einsum("dp,ndp->n", data.conj(), signal))
    return overlap - 0.5 * (np.abs(signal) ** 2).sum((1, 2)) + np.log(ive(0, overlap))


def compare(result: Result, samples: dict[str, np.ndarray], weights: np.ndarray, gps_s: float) -> dict[str, dict]:
    """Per parameter: divergences from the published and the re-weighted samples, medians and 90% intervals."""
    table = {}
    for name in (*COMPARED, *ALSO):
        values = samples[name] - gps_s if name == "geocent_time" else samples[name]
        marginal = result[name]
        ours = Samples(marginal.samples[:, 0], marginal.weights)
        how = {"bounds": HARD.get(name), "periodic": name in PERIODIC}
        plain, reweighted = Samples(values, np.ones(len(values))), Samples(values, weights)
        table[name] = {
            "jsd_published": jsd(ours, plain, **how),
            "jsd_reweighted": jsd(ours, reweighted, **how),
            "floor_reweighted": floor(reweighted, **how),
            "ours": ours.quantiles(0.05, 0.5, 0.95).tolist(),
            "published": plain.quantiles(0.05, 0.5, 0.95).tolist(),
            "reweighted": reweighted.quantiles(0.05, 0.5, 0.95).tolist(),
        }
    return table


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/validation"))
    options = parser.parse_args()
    recipe = find_recipe("gw/gw150914")
    samples, log_ratio = published()
    found = []
    for seed in options.seeds:
        settings = typed.parse(recipe, [f"--seed={seed}"], preset=options.preset)
        analysis = recipe.build(settings)
        log_weights = log_likelihood(analysis.simulator, analysis.observation["strain"], samples) - log_ratio
        weights = np.exp(log_weights - log_weights.max())
        out = options.runs / f"gw150914-{options.preset or 'default'}-{seed}"
        started = time.time()
        result = run.execute(
            analysis, out, config=typed.dump(settings), recipe="gw/gw150914", command=[], resume=out.exists()
        )
        wall = time.time() - started
        table = compare(result, samples, weights, settings.trigger_gps_s)
        scores = {key: [table[name][f"jsd_{key}"] for name in COMPARED] for key in ("published", "reweighted")}
        found.append(
            {
                "seed": seed,
                "wall_s": round(wall),
                "waveforms": result.simulations,
                **{f"{stat}_{key}": round(float(f(v)), 5) for key, v in scores.items() for stat, f in STATISTICS},
                "floor_mean": round(float(np.mean([table[n]["floor_reweighted"] for n in COMPARED])), 5),
                "effective_reference": round(Samples(samples["psi"], weights).effective),
                "rounds": [{k: r[k] for k in ("seconds", "simulated", "reused", "kept")} for r in result.rounds],
                "parameters": table,
            }
        )
        shown = {k: v for k, v in found[-1].items() if k not in ("rounds", "parameters")}
        print(json.dumps(shown), flush=True)
        for name, row in table.items():
            ours, reference = (" ".join(f"{v:9.4g}" for v in row[k]) for k in ("ours", "reweighted"))
            print(f"{name:20s} {row['jsd_published']:.4f} {row['jsd_reweighted']:.4f}  {ours}  | {reference}")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"gw150914-{options.preset or 'default'}.json"
    before = json.loads(path.read_text()) if path.exists() else []
    kept = [entry for entry in before if entry["seed"] not in options.seeds]
    path.write_text(json.dumps(sorted(kept + found, key=lambda entry: entry["seed"]), indent=1) + "\n")


STATISTICS = (("mean", np.mean), ("max", np.max))

if __name__ == "__main__":
    main()
