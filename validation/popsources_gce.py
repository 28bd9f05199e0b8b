"""popsources/gce beside the exact Poisson template likelihood, of a mock without point sources, in nat.

    python validation/popsources_gce.py [--runs FOLDER] [--observations 1]
    tmnre run popsources/gce --out RUN; python validation/popsources_gce.py --finished RUN

The share of sources is held at zero, in the mock and in the prior; what is left, photons of the excess, isotropic and
diffuse norm, has the likelihood sum_p n_p ln m_p - m_p, sampled by importance from a Student t about its maximum.  The
second line keeps what a run of the recipe found.
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
from popsources_exact import QUIET, TRAINING
from provenance import stamp
from scipy import stats

from tmnre import Analysis, Place, Stage
from tmnre_popsources.recipes import gce
from tmnre_popsources.scores import best_norms

HERE = Path(__file__).parent
NAMES = ("gce_counts", "isotropic", "diffuse")
NO_SOURCES = 1e-9
STAGES = (Stage(4000, 500), Stage(8000, 800), Stage(16_000, 2000))
DRAWS = 40_000


def analysis(seed: int) -> tuple[Analysis, np.ndarray]:
    """The recipe's, of its default mock without sources, and only the three norms asked for; and the counts (P,)."""
    settings = gce.Settings(
        prior=replace(gce.PriorRanges(), point_fraction=(0.0, NO_SOURCES)),
        truth=replace(gce.Truth(), point_fraction=NO_SOURCES / 2),
        training=TRAINING,
        observation_seed=seed,
    )
    whole = gce.build(settings)
    return replace(whole, marginals=NAMES, truncated=NAMES, stages=STAGES, figures=None), whole.figures.keywords[
        "counts"
    ]


def exactly(simulator, counts: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """theta (S, 3) and weights (S,) of the posterior under flat priors."""
    templates = simulator.templates.double().numpy()
    best = best_norms(counts, templates)
    # photons are tens of thousands, norms are one: about the best fit, in units of it
    unit = templates * best[:, None]
    cov = np.linalg.inv((unit / unit.sum(0)) @ unit.T)
    about = stats.multivariate_t(np.ones(len(best)), 1.3 * cov, df=5, seed=seed)
    v = about.rvs(DRAWS)
    theta = v * best
    low, high = np.array([simulator.prior[name].support for name in NAMES]).T
    inside = ((theta > low) & (theta < high)).all(1)
    v, theta = v[inside], theta[inside]
    mean = theta @ templates
    log_w = (counts * np.log(np.maximum(mean, 1e-300)) - mean).sum(1) - about.logpdf(v)
    return theta, np.exp(log_w - log_w.max())


def compared(seed: int, folder: Path) -> dict:
    one, counts = analysis(seed)
    shutil.rmtree(folder, ignore_errors=True)
    started = time.process_time()
    result = Place(folder, **QUIET).rounds(one, "run").run()
    cpu_s = round(time.process_time() - started, 1)
    theta, weights = exactly(one.simulator, counts, seed)
    table = {}
    for i, name in enumerate(NAMES):
        mine = Samples(result[name].samples[:, 0], result[name].weights)
        exact = Samples(theta[:, i], weights)
        table[name] = {
            "truth": one.truth[name],
            "jsd": jsd(mine, exact),
            "floor": floor(exact),
            "median_shift_sd": float((mine.quantiles(0.5)[0] - exact.quantiles(0.5)[0]) / exact.sd),
            "width_ratio": mine.sd / exact.sd,
            "exact_median": float(exact.quantiles(0.5)[0]),
            "exact_sd": exact.sd,
            "effective": exact.effective,
        }
    return {"photons": int(counts.sum()), "cpu_s": cpu_s, "parameters": table}


def finished(run: Path) -> dict:
    summary, meta = (json.loads((run / f"{name}.json").read_text()) for name in ("summary", "meta"))
    keys = ("parameters", "truth", "simulations", "warnings")
    return {**{key: summary[key] for key in keys}, "wall_s": sum(s["wall_s"] for s in meta["sessions"])}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=Path, default=HERE.parent / "runs")
    parser.add_argument("--observations", type=int, default=1)
    parser.add_argument("--finished", type=Path, help="a finished run of the recipe, to be kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = HERE / "results" / "popsources_gce.json"
    stored = json.loads(path.read_text()) if path.exists() else {}
    if options.finished:
        command = "python validation/popsources_gce.py --finished RUN"
        stored["run"] = {**finished(options.finished), **stamp(), "command": command}
        path.write_text(json.dumps(stored, indent=1) + "\n")
        return
    for seed in range(options.observations):
        entry = compared(seed, options.runs / "popsources-gce-exact")
        stored.setdefault("exact", {})[str(seed)] = {**entry, **stamp()}
        path.write_text(json.dumps(stored, indent=1) + "\n")
        print(seed, {k: {n: round(v, 4) for n, v in one.items()} for k, one in entry["parameters"].items()})


if __name__ == "__main__":
    main()
