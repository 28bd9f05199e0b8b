"""Amplitude and slope of a field's spectrum with the defaults of fields/demo, over many mocks of the prior.

    python validation/fields_spectrum.py --runs DIR [--mocks 1000]

What the recipe's first round learns holds for the whole prior.  It is asked about mocks that it has not seen: ranks of
the truth and coverage of central intervals, for the recipe itself and for its linear variant x = z + noise.  Of the
linear one the exact posterior is known (`tmnre_fields.spectrum.whittle`) and gives the error of the mean and the width;
of the exponentiated one nothing can be narrower than what z itself would tell, without noise.  Negative tests: ratios
to the power 2.25, which makes a Gaussian 1.5 times too narrow, and a shift by half a standard deviation.  Everything is
in the unit cube.  Writes results/fields_spectrum.json.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from provenance import stamp
from torch import Tensor
from tqdm import tqdm

from tmnre.diagnostics import density_ranks, expected_coverage
from tmnre.diagnostics.check import THRESHOLD
from tmnre.diagnostics.coverage import binomial_bands
from tmnre.diagnostics.uniform import rank_test
from tmnre.procedure import Place
from tmnre.ratio import RatioEstimator
from tmnre_fields import spectrum
from tmnre_fields.recipes.demo import Settings, build
from tmnre_fields.simulator import FieldSimulator

RESULTS = Path(__file__).parent / "results" / "fields_spectrum.json"
LEVELS = (0.5, 0.68, 0.9, 0.95)
POINTS = 4000
"""quantiles of the prior that a learned marginal is known at"""
SIDE = 400
"""the same of each parameter in the exact joint posterior"""
DRAWS = 100_000
"""of the prior, for ranks in the joint posterior"""
CONTROLS = {"learned": (1.0, 0.0), "too narrow": (2.25, 0.0), "shifted": (1.0, 0.5)}
"""power of the ratio, and shift in standard deviations"""


def mocks(simulator: FieldSimulator, n: int) -> tuple[np.ndarray, Tensor, Tensor]:
    """u (n, 2) of the prior, fields z (n, pixels, pixels) and data x of the same shape."""
    rng = np.random.default_rng(20_000)
    u = rng.random((n, 2))
    theta = simulator.prior.from_cube(u)
    z = torch.from_numpy(simulator.simulate(theta, rng)["z"])
    x = simulator.observe({"z": z}, torch.from_numpy(theta), torch.Generator().manual_seed(20_000))["x"]
    return u, z, x


def learned(estimator: RatioEstimator, x: Tensor) -> Tensor:
    """log r (N, S, M) at POINTS quantiles of all parameters together; joints are not to be read from it."""
    points = ((torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS)[:, None].expand(-1, len(estimator.targets))
    return torch.cat([estimator.log_ratio({"x": part}, points) for part in x.split(100)])


def exact(fields: Tensor, simulator: FieldSimulator, noise: float) -> dict[str, np.ndarray]:
    """Exact posterior (N, SIDE) of each parameter, for Gaussian fields (N, n, n) seen in so much white noise.

    As `spectrum.whittle`, for all fields at once: modes of equal wavenumber have equal power and are counted together.
    """
    n, knee = simulator.grid.pixels, simulator.grid.knee_cycles_per_box
    weight = spectrum.multiplicity(n).expand(n, -1).flatten()
    _, first, kind = np.unique(spectrum.wavenumbers(n).numpy().ravel(), return_index=True, return_inverse=True)
    together = torch.zeros(len(weight), len(first), dtype=torch.float64)
    together[torch.arange(len(weight)), torch.from_numpy(kind.ravel())] = weight
    found = spectrum.measured_power(fields.double()).flatten(1) @ together
    u = (np.arange(SIDE) + 0.5) / SIDE
    rms, slope = (torch.from_numpy(simulator.prior[name].quantile(u)) for name in ("rms", "slope"))
    shapes = spectrum.power(torch.ones(SIDE), slope, pixels=n, knee=knee).flatten(1)[:, first]
    marginals = []
    for part in found.split(100):
        log_l = []
        for shape in shapes:
            model = rms[:, None].square() * shape + noise**2
            log_l.append(-0.5 * (model.log() @ together.sum(0) + part @ (1 / model).T))
        p = torch.softmax(torch.stack(log_l, 2).flatten(1), 1).unflatten(1, (SIDE, SIDE))
        marginals.append((p.sum(2), p.sum(1)))
    return {
        name: torch.cat(each).numpy() for name, each in zip(("rms", "slope"), zip(*marginals, strict=True), strict=True)
    }


def moments(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd (N,) in the unit cube of weights p (N, S) at evenly spaced quantiles."""
    u = (np.arange(p.shape[1]) + 0.5) / p.shape[1]
    mean = p @ u
    return mean, np.sqrt(p @ u**2 - mean**2)


def ranks(p: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Posterior probability below the truth (N,), of weights p (N, S) each spread evenly over its cell."""
    edges = np.arange(p.shape[1] + 1) / p.shape[1]
    below = np.concatenate([np.zeros((len(p), 1)), p.cumsum(1)], 1)
    return np.array([np.interp(t, edges, row) for t, row in zip(truth, below, strict=True)])


def verdict(rank: np.ndarray) -> dict:
    """Coverage of central intervals, and the histogram test of the ranks, to a thousandth."""
    inside = {f"{level:.2f}": float(np.mean(np.abs(rank - 0.5) < level / 2)) for level in LEVELS}
    p = rank_test(np.minimum((rank * 1000).astype(int), 999), 999)
    return {"inside": inside, "p": p, "passed": p > THRESHOLD}


def variant(settings: Settings, folder: Path, n: int) -> dict:
    """All figures of the recipe with these settings."""
    analysis = build(settings)
    first = replace(analysis, stages=analysis.stages[:1])
    began = time.process_time()
    rounds = Place(folder, progress=partial(tqdm, mininterval=10)).rounds(first)
    rounds.run()
    seconds = time.process_time() - began
    estimator, simulator = rounds.last.estimator, rounds.simulator
    u, z, x = mocks(simulator, n)
    log_r, names = learned(estimator, x), simulator.prior.names
    exponentiated = settings.grid.exponentiate
    known = exact(z, simulator, 0.0) if exponentiated else exact(x, simulator, settings.grid.noise)
    entry: dict = {"cpu_seconds": seconds, "parameters": {}}
    for column, name in enumerate(names):
        own, truth = log_r[:, :, estimator.marginals.index((name,))], u[:, column]
        found: dict = {"posteriors": {}}
        mean, sd = moments(torch.softmax(own.double(), 1).numpy())
        for kind, (power, shift) in CONTROLS.items():
            p = torch.softmax(power * own.double(), 1).numpy()
            found["posteriors"][kind] = verdict(ranks(p, np.clip(truth - shift * sd, 0, 1)))
        e_mean, e_sd = moments(known[name])
        found["sd_over_known"] = float(np.median(sd / e_sd))
        found["narrowest_cells"] = float(e_sd.min() * SIDE)
        if not exponentiated:
            found["posteriors"]["exact"] = verdict(ranks(known[name], truth))
            found["mean_error_sd_rms"] = float(np.sqrt(np.mean(((mean - e_mean) / e_sd) ** 2)))
        entry["parameters"][name] = found
    # the same of the joint, by the ratio itself
    generator = torch.Generator().manual_seed(20_001)
    prior = torch.rand(DRAWS, len(names), generator=generator, dtype=torch.float64)
    joint = density_ranks(estimator, {"x": x}, torch.from_numpy(u), prior, generator=generator)[names]
    entry["joint"] = expected_coverage(joint, name=", ".join(names), levels=LEVELS).to_dict()
    return entry


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--mocks", type=int, default=1000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = Settings()
    linear = replace(settings, grid=replace(settings.grid, exponentiate=False))
    entry = {
        **stamp(),
        "mocks": args.mocks,
        "simulations": settings.simulations,
        "bands_99": {f"{v:.2f}": b.tolist() for v, b in zip(LEVELS, binomial_bands(args.mocks, LEVELS), strict=True)},
        "exponentiated": variant(settings, args.runs / "exponentiated", args.mocks),
        "linear": variant(linear, args.runs / "linear", args.mocks),
    }
    RESULTS.write_text(json.dumps(entry, indent=1) + "\n")
    print(json.dumps(entry, indent=1))


if __name__ == "__main__":
    main()
