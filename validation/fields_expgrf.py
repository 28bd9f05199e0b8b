"""Exponentiated Gaussian fields with the defaults of fields/expgrf, against HMC with the exact likelihood.

    python validation/fields_expgrf.py --runs DIR [--pixels 32] [--observations 12] [--sequential 3]

The first round does not depend on the observation: it is trained once, and all observations begin from it.
`--sequential` of them go on through all rounds, the rest stay with what the first round says of them.
Negative test: the same posterior means with a homogeneous spread, which is what an estimator without x-dependent
precision can learn at best.  Writes its part, by pixels, of results/fields_expgrf.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from provenance import stamp
from torch import Tensor
from tqdm import tqdm

from tmnre.procedure import Place
from tmnre.resume import is_done
from tmnre_fields.checks import by_brightness
from tmnre_fields.information import Information
from tmnre_fields.posterior import Posterior
from tmnre_fields.recipes.expgrf import Patch, Settings, build
from tmnre_fields.samplers import effective_samples, hamiltonian
from tmnre_fields.sequential import Course

RESULTS = Path(__file__).parent / "results" / "fields_expgrf.json"
QUANTILES = 4


def reference(
    procedures: list,
    folder: Path,
    draws: int,
    progress,
    *,
    precision: float = 300.0,
    maps: Callable[[Tensor], Tensor] = lambda fields: fields[:, 0],
) -> dict[str, np.ndarray]:
    """Posterior mean and sd (observations, n, n) by HMC, a chain each, from the truth; with effective sample sizes.

    precision : what data say of a pixel, roughly, on which the speed depends and nothing else.
    maps : what is asked for, of fields (observations, 1, n, n).
    """
    path = folder / f"hmc_{len(procedures)}_{draws}.npz"
    if path.exists():
        return dict(np.load(path))
    model = procedures[0].model
    x = torch.stack([p.x for p in procedures])
    pixel = torch.full((1, 1, *model.response.grid), precision)
    metric = Posterior(Information(model.response, pixel, 0 * pixel), model.power())
    chain = hamiltonian(
        partial(model.log_likelihood, x),
        metric,
        torch.stack([p.truth for p in procedures]),
        torch.Generator().manual_seed(0),
        draws=draws,
        warmup=250,
        leaps=20,
        keep=lambda z: maps(model.response.sky.fields(z)),
        progress=progress,
    )
    ess = torch.stack([effective_samples(chain.draws[:, i : i + 1].flatten(2)) for i in range(len(x))])
    found = {"mean": chain.draws.mean(0).numpy(), "sd": chain.draws.std(0).numpy(), "ess": ess.numpy()}
    np.savez(path, **found)
    return found


def against(mean: np.ndarray, sd: np.ndarray, truth: np.ndarray, exact: dict[str, np.ndarray], rows) -> dict:
    """What was asked for, over observations `rows`: maps (observations, n, n)."""
    e_mean, e_sd = exact["mean"][rows], exact["sd"][rows]
    # the reference's own error of the mean, in sd, is 1 / sqrt(ess)
    floor = float(np.sqrt(np.mean(1 / exact["ess"][rows])))
    rms, bias = by_brightness(mean, sd, truth, QUANTILES)
    return {
        "observations": len(mean),
        "mean_error_sd_rms": float(np.sqrt(np.mean(((mean - e_mean) / e_sd) ** 2))),
        "reference_error_sd_rms": floor,
        "variance_ratio_mean": float(np.mean(sd**2 / e_sd**2)),
        "log_variance_ratio_rms": float(np.std(np.log(sd**2 / e_sd**2))),
        "variance_ratio_by_brightness": _by(e_mean, sd**2 / e_sd**2),
        "z_score_rms": float(np.sqrt(np.mean(((mean - truth) / sd) ** 2))),
        "z_score_rms_by_brightness": rms.tolist(),
        "z_score_mean_by_brightness": bias.tolist(),
    }


def _by(order: np.ndarray, values: np.ndarray) -> list[float]:
    groups = np.array_split(np.argsort(order.ravel()), QUANTILES)
    return [float(values.ravel()[g].mean()) for g in groups]


def homogeneous(procedure, net, fields: int = 200) -> np.ndarray:
    """The sd of a homogeneous posterior with the same means: the rms error of the means over simulations."""
    model, generator = procedure.model, torch.Generator().manual_seed(99)
    z = model.draw(fields, generator)
    x = model.observe(model.signal(z), generator)
    with torch.no_grad():
        mean = Posterior(net({"x": x}), model.power()).mean()
    return float(model.response.sky.fields(mean - z).square().mean().sqrt())


def first_only(course: Course) -> Course:
    """The course of a run that ends with its first round."""
    return replace(course, simulations=course.simulations[:1], steps=course.steps[:1], thresholds=())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--pixels", type=int, default=32)
    parser.add_argument("--observations", type=int, default=12)
    parser.add_argument("--sequential", type=int, default=3)
    parser.add_argument("--draws", type=int, default=2400)
    args = parser.parse_args()
    torch.set_num_threads(1)
    runs = args.runs / str(args.pixels)
    runs.mkdir(parents=True, exist_ok=True)
    bar = partial(tqdm, mininterval=10)
    settings = Settings(patch=Patch(pixels=args.pixels))
    procedures = [build(replace(settings, observation_seed=s)) for s in range(1, args.observations + 1)]
    began = time.process_time()
    exact = reference(procedures, runs, args.draws, bar)
    reference_seconds = time.process_time() - began
    alone = build(replace(settings, observation_seed=1, course=first_only(settings.course)))
    first = runs / "first" / "rounds" / "00"
    trained, began = is_done(first, print), time.process_time()
    alone.run(Place(runs / "first", progress=bar))
    first_seconds = None if trained else time.process_time() - began
    means, sds, truths, sequential, rounds, seconds = [], [], [], [], [], []
    for number, procedure in enumerate(procedures):
        if number < args.sequential:
            procedure.start = first / "network.pt"
            began = time.process_time()
            result = procedure.run(Place(runs / f"obs{number + 1:02d}", progress=bar))
            seconds.append(time.process_time() - began)
            found = procedure._found
            sequential.append((found.mean[0], found.sd[0]))
            rounds.append(result.extra["fields"]["rounds"])
        net = procedure.network_of(first)
        posterior = Posterior(procedure.information(net), procedure.model.power())
        sky = procedure.model.response.sky
        draws = sky.fields(posterior.draw(800, torch.Generator().manual_seed(number)))[:, 0]
        means.append(sky.fields(posterior.mean())[0, 0].numpy())
        sds.append(draws.std(0).numpy())
        truths.append(sky.fields(procedure.truth)[0].numpy())
    means, sds, truths = (np.stack(maps) for maps in (means, sds, truths))
    every, some = slice(None), slice(0, len(sequential))
    spread = homogeneous(procedures[0], net)
    entry = {
        **stamp(),
        "pixels": args.pixels,
        "first_round": against(means, sds, truths, exact, every),
        "homogeneous": against(means, np.full_like(sds, spread), truths, exact, every),
        "hmc": against(exact["mean"], exact["sd"], truths, exact, every),
        "rounds": rounds,
        "cpu_seconds_first_round": first_seconds,
        "cpu_seconds_later_rounds": seconds,
        "cpu_seconds_reference": reference_seconds,
    }
    if sequential:
        s_means, s_sds = (np.stack(maps) for maps in zip(*sequential, strict=True))
        entry["first_round_of_these"] = against(means[some], sds[some], truths[some], exact, some)
        entry["all_rounds"] = against(s_means, s_sds, truths[some], exact, some)
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept[str(args.pixels)] = entry
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    print(json.dumps({k: v for k, v in entry.items() if k not in ("rounds",)}, indent=1))


if __name__ == "__main__":
    main()
