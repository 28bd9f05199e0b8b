"""Other binaries through the defaults of gw/gw150914, from strain files on: truth, and an exact sampler beside.

    python validation/gw_injections.py [--injections 1 2 3] [--preset learned] [--exact PARTICLES]

Each injection is drawn from the recipe's prior, on condition of a network signal-to-noise ratio between 15 and 30;
bilby injects it into noise of the event's PSD, and the strain is written as GWOSC does.  The exact posterior is
sampled by sequential Monte Carlo with the likelihood that tests/gw checks against bilby, phase marginalised.  Writes
results/gw_injections.json, and the exact samples beside the runs.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import bilby
import h5py
import numpy as np
import torch
from compare import Samples, floor, jsd
from gw150914 import COMPARED, HARD, PERIODIC, phases
from provenance import stamp
from scipy import optimize
from scipy.special import ive
from tqdm import tqdm

from tmnre import run
from tmnre import settings as typed
from tmnre.plugin import find_recipe
from tmnre.region import Box
from tmnre.result import Result
from tmnre_gw import binary, sources
from tmnre_gw.recipes.gw150914 import Settings
from tmnre_gw.simulator import BinaryBlackHole

RESULTS = Path(__file__).parent / "results"
STORED = RESULTS / "gw_injections.json"
RATE_HZ, LENGTH_S = 4096, 32
SNR = (15.0, 30.0)


def generator(settings: Settings) -> bilby.gw.WaveformGenerator:
    """bilby's, of signals that fill a file."""
    return bilby.gw.WaveformGenerator(
        duration=LENGTH_S,
        sampling_frequency=RATE_HZ,
        frequency_domain_source_model=bilby.gw.source.lal_binary_black_hole,
        parameter_conversion=bilby.gw.conversion.convert_to_lal_binary_black_hole_parameters,
        waveform_arguments={
            "waveform_approximant": settings.approximant,
            "reference_frequency": settings.reference_frequency_hz,
            "minimum_frequency": 10.0,
        },
    )


def write_strain(ifo, path: Path, start: float) -> None:
    """A detector's strain as GWOSC writes it."""
    with h5py.File(path, "w") as file:
        data = file.create_dataset("strain/Strain", data=ifo.strain_data.time_domain_strain)
        data.attrs["Xstart"], data.attrs["Xspacing"] = start, 1 / RATE_HZ
        file["meta/Detector"] = ifo.name


def inject(number: int, settings: Settings, folder: Path) -> tuple[dict[str, float], dict[str, Path]]:
    """Truth in bilby's parameters, and GWOSC files of H1 and L1 that hold it."""
    p = settings.prior
    priors = bilby.core.prior.PriorDict(
        binary.default_priors(p.component_mass_msun, p.luminosity_distance_mpc, p.max_spin, 0.02)
    )
    bilby.core.utils.random.seed(number)
    start = settings.trigger_gps_s - LENGTH_S / 2
    ifos = bilby.gw.detector.InterferometerList(list(settings.detectors))
    table = np.loadtxt(sources.psd_file(settings.event, settings.psd))
    for column, ifo in enumerate(ifos, start=1):
        ifo.minimum_frequency, ifo.maximum_frequency = settings.f_min_hz, settings.f_max_hz
        ifo.power_spectral_density = bilby.gw.detector.PowerSpectralDensity(
            frequency_array=table[:, 0], psd_array=table[:, column]
        )
    low, high = p.component_mass_msun
    while True:
        truth = priors.sample()
        truth["geocent_time"] += settings.trigger_gps_s
        m1, m2 = bilby.gw.conversion.chirp_mass_and_mass_ratio_to_component_masses(
            truth["chirp_mass"], truth["mass_ratio"]
        )
        if not (low <= m2 <= m1 <= high):
            continue
        ifos.set_strain_data_from_power_spectral_densities(RATE_HZ, LENGTH_S, start)
        ifos.inject_signal(truth, waveform_generator=generator(settings))
        snr = sum(ifo.meta_data["optimal_SNR"] ** 2 for ifo in ifos) ** 0.5
        if SNR[0] < snr < SNR[1]:
            break
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for ifo in ifos:
        files[ifo.name] = folder / f"{ifo.name}-{number}.hdf5"
        write_strain(ifo, files[ifo.name], start)
    truth["geocent_time"] -= settings.trigger_gps_s
    truth |= {"snr": float(snr), "mass_1": float(m1), "mass_2": float(m2)}
    return {name: float(value) for name, value in truth.items()}, files


class Exact:
    """Log posterior in the unit cube of all parameters but the phase, vectorised."""

    def __init__(self, simulator: BinaryBlackHole, data: np.ndarray) -> None:
        self.simulator, self.data = simulator, data
        self.names = [name for name in simulator.prior.names if name != "phase"]
        self.wraps = np.array([name in (*PERIODIC, "azimuth") for name in self.names])
        self.region = Box.full(simulator.prior, simulator.constraints)

    def theta(self, u: np.ndarray) -> np.ndarray:
        """Parameters (N, D) with phase 0 from u (N, D - 1)."""
        u = np.where(self.wraps, u % 1.0, u)
        full = np.zeros((len(u), len(self.simulator.prior)))
        full[:, self.simulator.prior.columns(self.names)] = u
        return self.simulator.prior.from_cube(full)

    def overlap(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """<signal, data> (N,), <signal, signal> (N,), and which rows satisfy the prior's constraints."""
        rows = torch.from_numpy(theta)
        stored = {k: torch.from_numpy(v) for k, v in self.simulator.simulate(theta, np.random.default_rng(0)).items()}
        allowed = np.broadcast_to(np.asarray(self.region.allows(self.simulator.derive(rows, stored))), len(theta))
        signal = self.simulator.signal(stored, rows).numpy()
        return np.einsum("ndp,dp->n", signal.conj(), self.data), (np.abs(signal) ** 2).sum((1, 2)), allowed

    def __call__(self, u: np.ndarray) -> np.ndarray:
        inside = ((u >= 0) & (u <= 1) | self.wraps).all(axis=1)
        value = np.full(len(u), -np.inf)
        if inside.any():
            overlap, square, allowed = self.overlap(self.theta(u[inside]))
            size = np.abs(overlap)
            found = size - 0.5 * square + np.log(ive(0, size))
            value[inside] = np.where(allowed & np.isfinite(found), found, -np.inf)
        return value

    def sample(
        self, region: Box, rng: np.random.Generator, particles: int, sweeps: int
    ) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """Posterior samples {"name": (S,)}, derived quantities included, and how the sampler fared.

        Sequential Monte Carlo: particles uniform in the run's last region (where the posterior is, by the run's own
        estimate, to 1e-4), tempered to the posterior in steps that keep half of them effective; at each temperature
        `sweeps` Metropolis steps by the difference of two other particles, of a length that adapts; four times as
        many at the end, where the last three quarters are kept.
        """
        edges = np.array([region.cube[name] for name in self.names])
        width = edges[:, 1] - edges[:, 0]
        whole = self.wraps & (width > 0.999)
        u = np.empty((0, len(width)))
        while len(u) < particles:
            proposal = edges[:, 0] + width * rng.random((particles, len(width)))
            u = np.concatenate([u, proposal[np.isfinite(self(proposal))]])
        u = u[:particles]
        log_l, beta, length, kept, stages, accepted = self(u), 0.0, 0.5, [], 0, 0.0
        calls = 2 * particles
        with tqdm(total=1.0, desc="tempering") as bar:
            while beta < 1:
                step = _tempering(log_l, 1 - beta)
                beta = 1.0 if step == 1 - beta else beta + step
                w = np.exp(step * (log_l - log_l.max()))
                chosen = rng.choice(particles, particles, p=w / w.sum())
                u, log_l = u[chosen], log_l[chosen]
                n = sweeps * (4 if beta >= 1 else 1)
                for i in range(n):
                    a, b = (rng.permutation(particles) for _ in range(2))
                    # one step in ten jumps all the way, from mode to mode
                    factor = 1.0 if i % 10 == 9 else length * rng.gamma(4, 0.25, (particles, 1))
                    proposal = u + factor * (u[a] - u[b]) + 1e-5 * width * rng.normal(size=u.shape)
                    proposal = np.where(whole, edges[:, 0] + (proposal - edges[:, 0]) % 1.0, proposal)
                    inside = ((proposal >= edges[:, 0]) & (proposal <= edges[:, 1])).all(axis=1)
                    found = np.full(particles, -np.inf)
                    found[inside] = self(proposal[inside])
                    calls += int(inside.sum())
                    taken = np.log(rng.random(particles)) < beta * (found - log_l)
                    u, log_l = np.where(taken[:, None], proposal, u), np.where(taken, found, log_l)
                    if i % 10 != 9:
                        accepted = float(taken.mean())
                        length *= np.exp(accepted - 0.234)
                    if beta >= 1 and i >= n // 4 and i % 10 == 0:
                        kept.append(u)
                stages += 1
                bar.update(step)
        theta = self.theta(np.concatenate(kept))
        parts = [self._row(part) for part in np.array_split(theta, 100)]
        samples = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        chain = np.stack([np.where(self.wraps, np.cos(2 * np.pi * part), part) for part in kept])
        early, late = np.array_split(chain, 2)
        record = {
            # halves of the final sweeps against each other, in sd: what has not settled shows
            "drift_sd": float(
                np.abs(np.diff([h.mean((0, 1)) for h in np.array_split(chain, 2)], axis=0) / chain.std((0, 1))).max()
            ),
            "temperatures": stages,
            "acceptance": accepted,
            "waveforms": calls,
        }
        return samples, record

    def _row(self, theta: np.ndarray) -> dict[str, np.ndarray]:
        rows = torch.from_numpy(theta)
        stored = {k: torch.from_numpy(v) for k, v in self.simulator.simulate(theta, np.random.default_rng(0)).items()}
        derived = {k: v.numpy() for k, v in self.simulator.derive(rows, stored).items()}
        samples = {**dict(zip(self.simulator.prior.names, theta.T, strict=True)), **derived}
        samples["phase"] = phases(self.overlap(theta)[0])
        return samples


def _tempering(log_l: np.ndarray, most: float) -> float:
    """The step in inverse temperature, at most `most`, whose weights leave half of the particles effective."""

    def excess(step: float) -> float:
        w = np.exp(step * (log_l - log_l.max()))
        return float(w.sum() ** 2 / (w**2).sum() / len(w)) - 0.5

    return most if excess(most) > 0 else float(optimize.brentq(excess, 0.0, most))


def against(result: Result, samples: dict[str, np.ndarray], independent: int) -> dict[str, dict]:
    """Per parameter: divergence, shift of the median in sd, ratio of the widths."""
    table = {}
    for name in COMPARED:
        marginal = result[name]
        ours = Samples(marginal.samples[:, 0], marginal.weights)
        reference = Samples(samples[name], np.full(len(samples[name]), 1.0))
        how = {"bounds": HARD.get(name), "periodic": name in PERIODIC}
        table[name] = {
            "jsd": jsd(ours, reference, **how),
            "floor": floor(reference, **how) * max(1.0, len(samples[name]) / independent),
            "median_shift_sd": float(ours.quantiles(0.5)[0] - reference.quantiles(0.5)[0]) / reference.sd,
            "width_ratio": ours.sd / reference.sd,
        }
    return table


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--injections", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--preset", default="learned")
    parser.add_argument("--exact", type=int, default=2000, metavar="PARTICLES")
    parser.add_argument("--sweeps", type=int, default=50)
    parser.add_argument("--runs", type=Path, default=Path("runs/validation"))
    options = parser.parse_args()
    recipe = find_recipe("gw/gw150914")
    for number in options.injections:
        truth, files = inject(number, recipe.settings(), options.runs / "injections")
        print(number, {k: round(v, 3) for k, v in truth.items()}, flush=True)
        given = [f"--strain.{name.lower()}={path}" for name, path in files.items()]
        settings = typed.parse(recipe, [*given, f"--seed={number}"], preset=options.preset)
        analysis = recipe.build(settings)
        out = options.runs / f"injection-{options.preset}-{number}"
        result = run.execute(
            analysis, out, config=typed.dump(settings), recipe="gw/gw150914", command=[], resume=out.exists()
        )
        coverage = result.rounds[-1]["coverage"]
        found = {
            **stamp(),
            "injection": number,
            "truth": truth,
            "waveforms": result.simulations,
            "steps": sum(record["steps"] for record in result.rounds),
            # of the rounds, so that it holds for a run that was resumed
            "wall_s": round(sum(sum(record["seconds"].values()) for record in result.rounds)),
            "rank_of_truth": {n: float(_rank(result, n, truth[n])) for n in COMPARED},
            "held_out_coverage_90": {n: coverage[n]["0.90"] for n in COMPARED},
            "coverage_simulations": coverage["simulations"],
        }
        if options.exact:
            samples, record = _exact(options, number, analysis, Box.from_dict(result.rounds[-1]["region"]))
            table = against(result, samples, record["particles"])
            jsds = [row["jsd"] for row in table.values()]
            record |= {"jsd_mean": float(np.mean(jsds)), "jsd_max": max(jsds)}
            found["exact"] = {**record, "parameters": table}
            print(json.dumps(record), flush=True)
            for name, row in table.items():
                print(f"{name:20s}", {k: round(v, 4) for k, v in row.items()}, flush=True)
        _store(found)


def _exact(options: argparse.Namespace, number: int, analysis, region: Box) -> tuple[dict[str, np.ndarray], dict]:
    """Samples and record of an injection; those of an earlier run, where there are, as the data are the same."""
    path = options.runs / f"exact-{number}.npz"
    known = [entry["exact"] for entry in _stored() if entry["injection"] == number and "exact" in entry]
    if path.exists() and known:
        return dict(np.load(path)), {k: v for k, v in known[0].items() if k != "parameters"}
    started = time.time()
    exact = Exact(analysis.simulator, analysis.observation["strain"])
    samples, record = exact.sample(region, np.random.default_rng(number), options.exact, options.sweeps)
    np.savez_compressed(path, **samples)
    return samples, record | {"particles": options.exact, "wall_s": round(time.time() - started)}


def _rank(result: Result, name: str, truth: float) -> float:
    marginal = result[name]
    return marginal.weights[marginal.samples[:, 0] < truth].sum()


def _stored() -> list[dict]:
    return json.loads(STORED.read_text()) if STORED.exists() else []


def _store(found: dict) -> None:
    kept = [entry for entry in _stored() if entry["injection"] != found["injection"]]
    RESULTS.mkdir(exist_ok=True)
    STORED.write_text(json.dumps(sorted([*kept, found], key=lambda e: e["injection"]), indent=1) + "\n")


if __name__ == "__main__":
    main()
