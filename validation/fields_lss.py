"""Log-normal densities behind counts with the defaults of fields/lss, against HMC with the exact Poisson likelihood.

    python validation/fields_lss.py --runs DIR [--observations 6] [--sequential 1]

The first observation is a whole run of the recipe, the others begin from its first round, and `--sequential` of them go
on through all rounds; compared as in `fields_expgrf.py`.  Asked for are g, where it was observed and where it was not,
and the density 1 + delta.  Negative test: the same means with a homogeneous spread.  Writes results/fields_lss.json.
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
from fields_expgrf import against, homogeneous, reference
from provenance import stamp
from tqdm import tqdm

from tmnre.procedure import Place
from tmnre_fields import spectrum
from tmnre_fields.posterior import Posterior
from tmnre_fields.recipes.lss import Settings, build, density_moments

RESULTS = Path(__file__).parent / "results" / "fields_lss.json"


def chosen(exact: dict[str, np.ndarray], which: int, where=np.s_[:, :, :]) -> dict[str, np.ndarray]:
    """The reference of g (0) or 1 + delta (1), in the pixels `where`."""
    shape = exact["mean"].shape
    return {name: values.reshape(shape)[:, which][where] for name, values in exact.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--observations", type=int, default=6)
    parser.add_argument("--sequential", type=int, default=1)
    parser.add_argument("--draws", type=int, default=1200)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.runs.mkdir(parents=True, exist_ok=True)
    bar = partial(tqdm, mininterval=10)
    settings = Settings()
    procedures = [build(replace(settings, observation_seed=s)) for s in range(1, args.observations + 1)]
    model = procedures[0].model
    sky, seen = model.response.sky, model.observed[0].numpy() > 0
    sigma2 = float(spectrum.variance(model.power()[0, 0]))
    began = time.process_time()
    exact = reference(
        procedures,
        args.runs,
        args.draws,
        bar,
        # of a Poisson count in the logarithm of its mean: the mean
        precision=float(model.exposure.mean()),
        maps=lambda fields: torch.cat([fields, (fields - sigma2 / 2).exp()], 1),
    )
    reference_seconds = time.process_time() - began
    first = args.runs / "obs01"
    means, sds, truths, sequential, rounds, seconds = [], [], [], [], [], []
    for number, procedure in enumerate(procedures):
        if number:
            procedure.start = first / "rounds" / "00" / "network.pt"
        if number < max(1, args.sequential):
            began = time.process_time()
            result = procedure.run(Place(args.runs / f"obs{number + 1:02d}", progress=bar))
            seconds.append(time.process_time() - began)
            sequential.append((procedure._found.mean[0], procedure._found.sd[0]))
            rounds.append(result.extra["fields"]["rounds"])
        net = procedure.network_of(first / "rounds" / "00")
        posterior = Posterior(procedure.information(net), model.power())
        draws = sky.fields(posterior.draw(800, torch.Generator().manual_seed(number)))[:, 0]
        means.append(sky.fields(posterior.mean())[0, 0].numpy())
        sds.append(draws.std(0).numpy())
        truths.append(sky.fields(procedure.truth)[0].numpy())
    means, sds, truths = (np.stack(maps) for maps in (means, sds, truths))
    s_means, s_sds = (np.stack(maps) for maps in zip(*sequential, strict=True))
    every, some = slice(None), slice(0, len(sequential))
    g, seen_, unseen = chosen(exact, 0), np.s_[:, seen], np.s_[:, ~seen]
    true_density = np.exp(truths - sigma2 / 2)
    spread = np.full_like(sds, homogeneous(procedures[0], net))
    entry = {
        **stamp(),
        "pixels": sky.pixels,
        "nbar": settings.survey.nbar,
        "rms": sigma2**0.5,
        "first_round": against(means, sds, truths, g, every),
        "first_round_observed": against(means[seen_], sds[seen_], truths[seen_], chosen(exact, 0, seen_), every),
        "first_round_hidden": against(means[unseen], sds[unseen], truths[unseen], chosen(exact, 0, unseen), every),
        "first_round_density": against(*density_moments(means, sds, sigma2), true_density, chosen(exact, 1), every),
        "homogeneous": against(means, spread, truths, g, every),
        "hmc": against(g["mean"], g["sd"], truths, g, every),
        "first_round_of_these": against(means[some], sds[some], truths[some], g, some),
        "all_rounds": against(s_means, s_sds, truths[some], g, some),
        "all_rounds_density": against(
            *density_moments(s_means, s_sds, sigma2), true_density[some], chosen(exact, 1), some
        ),
        "rounds": rounds,
        "cpu_seconds_per_run": seconds,
        "cpu_seconds_reference": reference_seconds,
    }
    RESULTS.write_text(json.dumps(entry, indent=1) + "\n")
    print(json.dumps({k: v for k, v in entry.items() if k != "rounds"}, indent=1))


if __name__ == "__main__":
    main()
