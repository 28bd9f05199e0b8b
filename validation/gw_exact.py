"""The exact step of gw/bbh and gw/gw150914: joint draws against independent answers, learned marginals beside.

    python validation/gw_exact.py [--event] [--injections 1] [--runs DIR]

--event: GW150914 against the published samples, re-weighted by bilby's likelihood to our data (see gw150914.py).
--injections: those of gw_injections.py, against its sampler, which starts from the whole last region and
knows nothing of what was learned.  Writes results/gw_exact.json.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from compare import Samples, floor, jsd
from gw150914 import COMPARED, HARD, PERIODIC, reference
from gw_injections import Exact, inject
from provenance import stamp

from tmnre import run
from tmnre import settings as typed
from tmnre.plugin import find_recipe
from tmnre.region import Box
from tmnre.result import MarginalPosterior, Result, load_marginals

RESULTS = Path(__file__).parent / "results"
STORED = RESULTS / "gw_exact.json"


def table(marginals, samples: dict[str, np.ndarray], weights: np.ndarray, independent: float) -> dict[str, dict]:
    """Per parameter: divergence and its floor, shift of the median in sd, ratio of the widths."""
    rows = {}
    for name in COMPARED:
        marginal: MarginalPosterior = marginals[name,]
        ours, theirs = Samples(marginal.samples[:, 0], marginal.weights), Samples(samples[name], weights)
        how = {"bounds": HARD.get(name), "periodic": name in PERIODIC}
        rows[name] = {
            "jsd": jsd(ours, theirs, **how),
            "floor": floor(theirs, **how) * max(1.0, theirs.effective / independent),
            "median_shift_sd": float(ours.quantiles(0.5)[0] - theirs.quantiles(0.5)[0]) / theirs.sd,
            "width_ratio": ours.sd / theirs.sd,
        }
    return rows


def analysed(name: str, settings, out: Path) -> tuple[Result, dict]:
    """The result of a recipe's run, done or to be done, and the learned marginals it began with."""
    work = find_recipe(name).build(settings)
    result = run.execute(work, out, config=typed.dump(settings), recipe=name, command=[], resume=out.exists())
    return result, load_marginals(out / "learned" / "posterior.h5")


def found(result: Result, learned: dict, samples: dict, weights: np.ndarray, independent: float) -> dict:
    """What is stored of one comparison."""
    tables = {
        "exact": table(result.marginals, samples, weights, independent),
        "learned": table(learned, samples, weights, independent),
    }
    jsds = {how: [row["jsd"] for row in rows.values()] for how, rows in tables.items()}
    entry = {
        **stamp(),
        "waveforms_learned": result.simulations,
        "wall_s_learned": round(sum(sum(record["seconds"].values()) for record in result.rounds)),
        "exact": result.extra["exact"],
        **{f"jsd_mean_{how}": float(np.mean(values)) for how, values in jsds.items()},
        **{f"jsd_max_{how}": max(values) for how, values in jsds.items()},
        "floor_mean": float(np.mean([row["floor"] for row in tables["exact"].values()])),
        "parameters": tables,
    }
    shown = {k: v for k, v in entry.items() if k != "parameters"}
    print(json.dumps(shown), flush=True)
    for name in COMPARED:
        rows = ({k: round(v, 4) for k, v in tables[how][name].items()} for how in ("learned", "exact"))
        print(f"{name:20s}", *rows, sep="\n    ", flush=True)
    return entry


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--event", action="store_true")
    parser.add_argument("--injections", type=int, nargs="*", default=[])
    parser.add_argument("--particles", type=int, default=2000, help="of the independent sampler")
    parser.add_argument("--sweeps", type=int, default=50, help="of the independent sampler")
    parser.add_argument("--runs", type=Path, default=Path("runs/validation"))
    options = parser.parse_args()
    recipe = find_recipe("gw/gw150914")
    if options.event:
        samples, weights, agreement = reference(recipe)
        settings = recipe.settings()
        result, learned = analysed("gw/gw150914", settings, options.runs / "exact-gw150914")
        entry = found(result, learned, samples, weights, Samples(samples["psi"], weights).effective)
        kept("GW150914", {**entry, **agreement})
    for number in options.injections:
        truth, files = inject(number, recipe.settings(), options.runs / "injections")
        given = [f"--strain.{name.lower()}={path}" for name, path in files.items()]
        settings = typed.parse(recipe, [*given, f"--seed={number}"])
        result, learned = analysed("gw/gw150914", settings, options.runs / f"exact-{number}")
        samples, record = independent(
            *(options.runs / f"independent-{number}.npz", recipe.build(settings).analysis, result),
            *(number, options.particles, options.sweeps),
        )
        entry = found(result, learned, samples, np.ones(len(samples["psi"])), options.particles)
        kept(f"injection {number}", {**entry, "truth": truth, "independent": record})


def independent(path: Path, analysis, result: Result, seed: int, particles: int, sweeps: int):
    """Samples of the independent sampler and how it fared; those of an earlier run, where there are."""
    if not path.exists():
        started = time.time()
        exact = Exact(analysis.simulator, analysis.observation["strain"])
        region = Box.from_dict(result.rounds[-1]["region"])
        samples, record = exact.sample(region, np.random.default_rng(seed), particles, sweeps)
        record["wall_s"] = round(time.time() - started)
        np.savez_compressed(path, record=json.dumps(record), **samples)
    stored = dict(np.load(path))
    return stored, json.loads(str(stored.pop("record")))


def kept(name: str, entry: dict) -> None:
    """Store one comparison beside those that are there."""
    RESULTS.mkdir(exist_ok=True)
    others = json.loads(STORED.read_text()) if STORED.exists() else {}
    STORED.write_text(json.dumps({**others, name: entry}, indent=1) + "\n")


if __name__ == "__main__":
    main()
