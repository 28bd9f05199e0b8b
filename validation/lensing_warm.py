"""The population's posterior of lensing/warm beside a brute-force one, of small images, in nat.

    python validation/lensing_warm.py [--runs FOLDER] [--observations 0 1 2] [--draws 40000]

Brute force: populations are drawn from their prior, haloes from each population, and every draw is weighted by the
likelihood of the image, main lens and source marginalised to first order.  It says something only where the effective
number of draws, which is stored beside, is large; hence small, noisy images.  Main lens and source have a narrow prior
about the truth, three standard deviations to either side of what the image tells of each alone, in place of the rounds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from compare import Samples, floor, jsd
from provenance import stamp

from tmnre import Analysis, Place, Prior, Stage, Uniform
from tmnre_lensing import census
from tmnre_lensing.camera import Camera
from tmnre_lensing.perturbed import POPULATION, PerturbedLens
from tmnre_lensing.recipes import warm
from tmnre_lensing.simulator import theta_of
from tmnre_lensing.subhalo import filters

PATH = Path(__file__).parent / "results" / "lensing_warm.json"
QUIET = {"say": lambda _: None}
AT_ONCE, NOISE = 500, 0.3


def analysis_of(observation: int) -> Analysis:
    """One lens of 20 x 20 pixels and plenty of haloes, main lens and source almost known; one round."""
    settings = replace(
        warm.Settings(),
        camera=Camera(pixels=20, pixel_arcsec=0.25, oversampling=1, noise_e_per_s=NOISE),
        haloes=replace(warm.Haloes(), log10_m200=(8.5, 10.3)),
        truth=warm.Truth(log10_m_hm=7.5, f_sub=0.015),
        observation_seed=observation,
    )
    whole = warm.analysis_of(settings, 0)
    wide: PerturbedLens = whole.simulator
    main = settings.prior.prior().names
    theta = theta_of(whole.truth, wide.prior.names)
    step = 1e-4 * np.diff([wide.prior[name].support for name in main])[:, 0]
    shifted = np.repeat(theta, len(main) + 1, axis=0)
    shifted[1:, wide.prior.columns(main)] += np.diag(step)
    images = wide.whitened(wide.images(torch.from_numpy(shifted))).numpy()
    sd = step / np.linalg.norm(images[1:] - images[0], axis=1)
    near = {
        name: Uniform(whole.truth[name] - 3 * s, whole.truth[name] + 3 * s) for name, s in zip(main, sd, strict=True)
    }
    prior = Prior({**near, **{name: wide.prior[name] for name in POPULATION}})
    simulator = PerturbedLens(
        *(wide.scene, prior, wide.optics, wide.noise), population=wide.population, maps=settings.maps
    )
    return replace(
        whole,
        simulator=simulator,
        marginals=[*prior.names, POPULATION],
        truncated=[],
        stages=(Stage(20_000, 500),),
        workers=1,
        training=replace(settings.training, threads=1),
    )


def brute_force(
    simulator: PerturbedLens, region: np.ndarray, image: np.ndarray, n: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws (n, 2) of the population's prior and the log likelihood (n,) of haloes drawn from each."""
    rng = np.random.default_rng(seed)
    some = region[rng.permutation(len(region))[:2000]]
    cleaning = filters.Cleaning(simulator.whitened(simulator.images(torch.from_numpy(some).float())))
    middle = some.mean(0)
    bare = simulator.whitened(simulator.images(torch.from_numpy(middle[None]).float()))
    residual = simulator.whitened(torch.from_numpy(image)[None]).float() - cleaning.mean
    solved = cleaning.solve(residual)[0]
    columns = simulator.prior.columns(POPULATION)
    theta, log_l = np.tile(middle, (n, 1)), []
    theta[:, columns] = simulator.prior.sample(n, rng)[:, columns]
    for rows in np.array_split(np.arange(n), -(-n // AT_ONCE)):
        made = torch.from_numpy(simulator.simulate(theta[rows], rng)["image"])
        s = simulator.whitened(made) - bare
        log_l.append((s @ solved - 0.5 * (s * cleaning.solve(s)).sum(1)).double().numpy())
    return theta[:, columns], np.concatenate(log_l)


def compared(observation: int, folder: Path, draws: int) -> dict:
    analysis = analysis_of(observation)
    shutil.rmtree(folder, ignore_errors=True)
    started = time.monotonic()
    rounds = Place(folder, **QUIET).rounds(analysis, "lens")
    learned = rounds.run()
    wall = time.monotonic() - started
    simulator, image = analysis.simulator, analysis.observation["image"]
    u = np.random.default_rng(observation).random((20_000, 2))
    at = np.stack([simulator.prior[name].quantile(u[:, i]) for i, name in enumerate(POPULATION)], axis=1)
    result = census.posteriors(POPULATION, at, census.log_ratio(rounds, POPULATION, u))
    region = simulator.prior.sample(4000, np.random.default_rng(observation))
    points, log_l = brute_force(simulator, region, image, draws, observation)
    weights = np.exp(log_l - log_l.max())
    table = {}
    for i, name in enumerate(POPULATION):
        scale = np.log10 if name == "f_sub" else np.asarray
        mine = Samples(scale(result[name,].samples[:, 0]), result[name,].weights)
        exact = Samples(scale(points[:, i]), weights)
        flat = Samples(scale(points[:, i]), np.ones(len(points)))
        table[name] = {
            "jsd": jsd(mine, exact),
            "floor": floor(exact),
            "prior_jsd": jsd(flat, exact),
            "median_shift_sd": float((mine.quantiles(0.5)[0] - exact.quantiles(0.5)[0]) / exact.sd),
            "width_ratio": mine.sd / exact.sd,
        }
    last = learned.rounds[-1]
    return {
        "parameters": table,
        "effective": float(weights.sum() ** 2 / (weights**2).sum()),
        "simulations": learned.simulations,
        "wall_s": round(wall),
        "coverage": {name: last["coverage"][name] for name in POPULATION},
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=Path, default=Path("runs/validation"))
    parser.add_argument("--observations", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--draws", type=int, default=40_000)
    options = parser.parse_args()
    stored = json.loads(PATH.read_text()) if PATH.exists() else {}
    for observation in options.observations:
        entry = compared(observation, options.runs / f"lensing-warm-{observation}", options.draws)
        stored[str(observation)] = {**entry, **stamp()}
        PATH.write_text(json.dumps(stored, indent=1) + "\n")
        print(observation, entry["effective"], entry["parameters"], flush=True)


if __name__ == "__main__":
    main()
