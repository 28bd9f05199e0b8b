"""Amplitude and slope of a field's spectrum with the defaults of fields/demo, over many mocks of the prior.

    python validation/fields_spectrum.py --runs DIR [--mocks 1000]

What the first round learns holds for the whole prior, what the last one learns for the region that is left around the
recipe's observation.  Each is asked about mocks from there that it has not seen: ranks of the truth and coverage of
central intervals, of both parameters together of regions of highest density; for the recipe itself and for its linear
variant x = z + noise.  Of the linear one the exact posterior is known (`tmnre_fields.spectrum.whittle`) and gives the
error of the mean and the width; of the exponentiated one nothing can be narrower than what z itself would tell, without
noise.  Negative tests: ratios to the power 2.25, which makes a Gaussian 1.5 times too narrow, and a shift by half a
standard deviation.  Everything is in the unit cube.  Writes results/fields_spectrum.json.
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
from tmnre.region import Box
from tmnre.rounds import Rounds
from tmnre_fields import spectrum
from tmnre_fields.recipes.demo import Settings, build
from tmnre_fields.simulator import FieldSimulator, Grid

RESULTS = Path(__file__).parent / "results" / "fields_spectrum.json"
LEVELS = (0.5, 0.68, 0.9, 0.95)
POINTS = 4000
"""values of a parameter at which a learned marginal is known"""
SIDE = 400
"""the same of each parameter in the exact joint posterior"""
DRAWS = 100_000
"""of the region, for ranks in the joint posterior"""
CONTROLS = {"learned": (1.0, 0.0), "too narrow": (2.25, 0.0), "shifted": (1.0, 0.5)}
"""power of the ratio, and shift in standard deviations"""


def mocks(simulator: FieldSimulator, region: Box, n: int) -> tuple[np.ndarray, Tensor, Tensor]:
    """u (n, 2) of the region, fields z (n, pixels, pixels) and data x of the same shape."""
    rng = np.random.default_rng(20_000)
    u = region.sample(n, rng)
    theta = simulator.prior.from_cube(u)
    z = torch.from_numpy(simulator.simulate(theta, rng)["z"])
    x = simulator.observe({"z": z}, torch.from_numpy(theta), torch.Generator().manual_seed(20_000))["x"]
    return u, z, x


def cells(region: Box, name: str, n: int) -> np.ndarray:
    """Centres u (n,) of equal cells of what the region has of a parameter."""
    low, high = region.cube[name]
    return low + (high - low) * (np.arange(n) + 0.5) / n


def learned(estimator: RatioEstimator, x: Tensor, region: Box) -> Tensor:
    """log r (N, S, M) at POINTS values of all parameters together; joints are not to be read from it."""
    points = torch.from_numpy(np.stack([cells(region, name, POINTS) for name in estimator.targets], 1))
    return torch.cat([estimator.log_ratio({"x": part}, points) for part in x.split(100)])


def exact(fields: Tensor, simulator: FieldSimulator, region: Box, noise: float) -> dict[str, np.ndarray]:
    """Exact posterior (N, SIDE) of each parameter, for Gaussian fields (N, n, n) seen in so much white noise.

    As `spectrum.whittle`, for all fields at once: modes of equal wavenumber have equal power and are counted together.
    """
    n, knee = simulator.grid.pixels, simulator.grid.knee_cycles_per_box
    weight = spectrum.multiplicity(n).expand(n, -1).flatten()
    _, first, kind = np.unique(spectrum.wavenumbers(n).numpy().ravel(), return_index=True, return_inverse=True)
    together = torch.zeros(len(weight), len(first), dtype=torch.float64)
    together[torch.arange(len(weight)), torch.from_numpy(kind.ravel())] = weight
    found = spectrum.measured_power(fields.double()).flatten(1) @ together
    names = simulator.prior.names
    rms, slope = (torch.from_numpy(simulator.prior[name].quantile(cells(region, name, SIDE))) for name in names)
    shapes = spectrum.power(torch.ones(SIDE), slope, pixels=n, knee=knee).flatten(1)[:, first]
    marginals = []
    for part in found.split(100):
        log_l = []
        for shape in shapes:
            model = rms[:, None].square() * shape + noise**2
            log_l.append(-0.5 * (model.log() @ together.sum(0) + part @ (1 / model).T))
        p = torch.softmax(torch.stack(log_l, 2).flatten(1), 1).unflatten(1, (SIDE, SIDE))
        marginals.append((p.sum(2), p.sum(1)))
    return {name: torch.cat(each).numpy() for name, each in zip(names, zip(*marginals, strict=True), strict=True)}


def moments(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd (N,), as shares of the region, of weights p (N, S) in equal cells."""
    u = (np.arange(p.shape[1]) + 0.5) / p.shape[1]
    mean = p @ u
    return mean, np.sqrt(p @ u**2 - mean**2)


def ranks(p: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Posterior probability below truths (N,), as shares of the region, of weights p (N, S) spread over equal cells."""
    edges = np.arange(p.shape[1] + 1) / p.shape[1]
    below = np.concatenate([np.zeros((len(p), 1)), p.cumsum(1)], 1)
    return np.array([np.interp(t, edges, row) for t, row in zip(truth, below, strict=True)])


def verdict(rank: np.ndarray) -> dict:
    """Coverage of central intervals, and the histogram test of the ranks, to a thousandth."""
    inside = {f"{level:.2f}": float(np.mean(np.abs(rank - 0.5) < level / 2)) for level in LEVELS}
    p = rank_test(np.minimum((rank * 1000).astype(int), 999), 999)
    return {"inside": inside, "p": p, "passed": p > THRESHOLD}


def figures(rounds: Rounds, grid: Grid, n: int) -> dict:
    """Of what the last of these rounds has learned, over n mocks of its region."""
    estimator, simulator, region = rounds.last.estimator, rounds.simulator, rounds.region
    u, z, x = mocks(simulator, region, n)
    log_r, names = learned(estimator, x, region), simulator.prior.names
    known = exact(*((z, simulator, region, 0.0) if grid.exponentiate else (x, simulator, region, grid.noise)))
    entry: dict = {"region": {name: list(region.cube[name]) for name in names}, "parameters": {}}
    for column, name in enumerate(names):
        own = log_r[:, :, estimator.marginals.index((name,))].double()
        low, high = region.cube[name]
        truth = (u[:, column] - low) / (high - low)
        mean, sd = moments(torch.softmax(own, 1).numpy())
        e_mean, e_sd = moments(known[name])
        posteriors = {
            kind: verdict(ranks(torch.softmax(power * own, 1).numpy(), np.clip(truth - shift * sd, 0, 1)))
            for kind, (power, shift) in CONTROLS.items()
        }
        found = {"sd_over_known": float(np.median(sd / e_sd)), "narrowest_known_cells": float(e_sd.min() * SIDE)}
        if not grid.exponentiate:
            posteriors["exact"] = verdict(ranks(known[name], truth))
            found["mean_error_sd_rms"] = float(np.sqrt(np.mean(((mean - e_mean) / e_sd) ** 2)))
        entry["parameters"][name] = {**found, "posteriors": posteriors}
    generator = torch.Generator().manual_seed(20_001)
    draws = torch.from_numpy(region.sample(DRAWS, np.random.default_rng(20_001)))
    joint = density_ranks(estimator, {"x": x}, torch.from_numpy(u), draws, generator=generator)[names]
    entry["joint"] = expected_coverage(joint, name=", ".join(names), levels=LEVELS).to_dict()
    return entry


def variant(settings: Settings, folder: Path, n: int) -> dict[str, dict]:
    """All figures of the recipe with these settings, of its first round and of its last."""
    analysis, entry = build(settings), {}
    for name, stages in (("first round", analysis.stages[:1]), ("last round", analysis.stages)):
        place = Place(folder / name.replace(" ", "-"), progress=partial(tqdm, mininterval=10))
        began = time.process_time()
        rounds = place.rounds(replace(analysis, stages=stages))
        rounds.run()
        seconds = time.process_time() - began
        entry[name] = {"cpu_seconds": seconds, **figures(rounds, settings.grid, n)}
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
