"""Posteriors of popsources beside exact likelihoods, one-dimensional marginals, in nat.

    lists   r4 of sets of detected sources, beside the thinned Poisson likelihood of the very same lists
    maps    whole maps without point spread function, beside the non-Poissonian template likelihood

    python validation/popsources_exact.py [--runs FOLDER] [--observations 3] [--only lists|maps]

Exact posteriors are importance weights of draws fitted to them, in the region of the last round.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from compare import Samples, floor, jsd
from provenance import stamp
from scipy import stats
from tqdm import tqdm

from tmnre import Analysis, DeepSet, Place, Stage, Training
from tmnre.rounds import Rounds
from tmnre_popsources import counts, thinned
from tmnre_popsources.histograms import ZoneHistograms, bin_edges, patch_neighbours, patch_zones
from tmnre_popsources.patch import PRIOR, Patch, PatchSimulator, Scene, Sources
from tmnre_popsources.truncated import DetectedLists

HERE = Path(__file__).parent
TRAINING = Training(batch_size=128, threads=1, accelerator="cpu")
POINTS = 3000
QUIET = {"progress": partial(tqdm, disable=True), "say": lambda _: None}


class Logistic:
    """A sensitivity in closed form: a logistic function of ln F about ln 20, half a unit wide, zero off the patch."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def __call__(self, sources: Sources, theta) -> torch.Tensor:
        seen = torch.sigmoid((sources.log_flux - np.log(20.0)) / 0.5)
        return torch.where(self.scene.inside(sources), seen, 0.0)


def analyse(simulator, x, stages, folder: Path, embedding=None) -> tuple[Rounds, dict]:
    analysis = Analysis(
        simulator=simulator,
        observation={name: array[0].numpy() for name, array in x.items()},
        marginals=list(PRIOR.names),
        stages=stages,
        training=TRAINING,
        embedding=embedding,
    )
    shutil.rmtree(folder, ignore_errors=True)
    rounds = Place(folder, **QUIET).rounds(analysis, "run")
    started = time.process_time()
    result = rounds.run()
    return rounds, {"result": result, "cpu_s": round(time.process_time() - started, 1)}


def exactly(rounds: Rounds, log_likelihood, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """theta (POINTS, D) and ln weights (POINTS,) of the exact posterior in the last region.

    First points that fill the region evenly, then draws of a Student t of their weighted mean and covariance.
    """
    cube = np.array([rounds.last.record["region"]["cube"][name] for name in PRIOR.names])
    v = torch.quasirandom.SobolEngine(len(cube), scramble=True, seed=seed).draw(POINTS).double().numpy()
    u = cube[:, 0] + v * (cube[:, 1] - cube[:, 0])
    log_l = log_likelihood(torch.from_numpy(PRIOR.from_cube(u))).numpy()
    w = np.exp(log_l - log_l.max())
    mean, cov = np.average(u, axis=0, weights=w), np.cov(u.T, aweights=w)
    about = stats.multivariate_t(mean, 1.3 * cov, df=5, seed=seed)
    u = about.rvs(3 * POINTS)
    u = u[((u > cube[:, 0]) & (u < cube[:, 1])).all(1)][:POINTS]
    theta = torch.from_numpy(PRIOR.from_cube(u))
    return theta, log_likelihood(theta) - torch.from_numpy(about.logpdf(u))


def compared(found: dict, theta: torch.Tensor, log_l: torch.Tensor, truth) -> dict:
    weights = (log_l - log_l.max()).exp().numpy()
    table = {}
    for i, name in enumerate(PRIOR.names):
        ours = found["result"][name]
        mine = Samples(ours.samples[:, 0], ours.weights)
        exact = Samples(theta[:, i].numpy(), weights)
        table[name] = {
            "jsd": jsd(mine, exact),
            "floor": floor(exact),
            "median_shift_sd": float((mine.quantiles(0.5)[0] - exact.quantiles(0.5)[0]) / exact.sd),
            "width_ratio": mine.sd / exact.sd,
            "truth": float(truth[i]),
            "effective": exact.effective,
        }
    return {"parameters": table, "cpu_s": found["cpu_s"], "jsd_max": max(t["jsd"] for t in table.values())}


def lists(truth: np.ndarray, seed: int, folder: Path) -> dict:
    scene = Scene.of(Patch())
    seen = Logistic(scene)
    simulator = DetectedLists(scene, PRIOR, seen)
    sources = simulator.detected(torch.from_numpy(truth)[None], torch.Generator().manual_seed(seed))
    x = simulator.padded(sources, 1)
    stages = [Stage(10_000, 400), Stage(40_000, 2000)]
    rounds, found = analyse(simulator, x, stages, folder, partial(DeepSet, features=96, hidden=32))
    point = torch.stack(sources[1:], dim=1)

    def log_likelihood(theta):
        expected = thinned.expected_detections(scene, seen, theta, draws=4096)
        return thinned.log_likelihood_of_list(scene, seen, point, theta, expected)

    theta, log_l = exactly(rounds, log_likelihood, seed)
    return {"detected": len(point), **compared(found, theta, log_l, truth)}


def maps(truth: np.ndarray, seed: int, folder: Path, pixels: int = 24) -> dict:
    patch = Patch(pixels=pixels, psf_deg=1e-6)
    scene = Scene.of(patch)
    zones = patch_zones(pixels, bands=6, columns=3)
    summary = ZoneHistograms(zones, patch_neighbours(pixels), bin_edges(24, 3e3))
    simulator = PatchSimulator(scene, summary=summary, redraw_noise=False)
    generator = torch.Generator().manual_seed(seed)
    drawn = simulator.sources(torch.from_numpy(truth)[None], generator)
    image = scene.counts(scene.expected(drawn, 1), generator)
    stages = [Stage(10_000, 500), Stage(40_000, 2500)]
    rounds, found = analyse(simulator, simulator.summarised(image), stages, folder)
    whole = image[0].numpy().astype(int)
    theta, log_l = exactly(rounds, lambda theta: template_likelihood(scene, patch, whole, theta), seed)
    return {"counts": int(image.sum()), **compared(found, theta, log_l, truth)}


def template_likelihood(scene: Scene, patch: Patch, image: np.ndarray, theta: torch.Tensor) -> torch.Tensor:
    """ln L (T,) of a map without blur; pixels that mirror one another expect the same."""
    half = patch.pixels // 2
    folded = np.stack([image[half:, half:], image[half:, half - 1 :: -1], image[half - 1 :: -1, half:],
                       image[half - 1 :: -1, half - 1 :: -1]])  # fmt: skip
    k = folded.reshape(4, -1)
    share = scene.places.pixels(scene.edges, scene.split(theta)[1])[:, half:, half:].flatten(1).numpy()
    found = []
    for one, rates in zip(theta.numpy(), share, strict=True):
        photons = counts.photons_per_source(one[1], patch.mean_log_flux, k.max())
        p = counts.pixel_counts(one[0] * rates, photons, patch.background_counts)
        found.append(np.log(np.maximum(p[np.arange(len(rates)), k], 1e-300)).sum())
    return torch.tensor(found)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=Path, default=HERE.parent / "runs")
    parser.add_argument("--observations", type=int, default=3)
    parser.add_argument("--only", choices=("lists", "maps"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = HERE / "results" / "popsources_exact.json"
    stored = json.loads(path.read_text()) if path.exists() else {}
    # truths away from the prior's edges, and the published one first
    truths = np.vstack([[147.6, 1.522, 16.41], PRIOR.from_cube(0.1 + 0.8 * np.random.default_rng(11).random((9, 3)))])
    for name, run in (("lists", lists), ("maps", maps)):
        if options.only in (None, name):
            for seed in range(options.observations):
                entry = run(truths[seed], seed, options.runs / f"popsources-exact-{name}")
                stored.setdefault(name, {})[str(seed)] = {**entry, **stamp()}
                path.write_text(json.dumps(stored, indent=1) + "\n")
                print(name, seed, entry["jsd_max"], {k: round(v["jsd"], 4) for k, v in entry["parameters"].items()})


if __name__ == "__main__":
    main()
