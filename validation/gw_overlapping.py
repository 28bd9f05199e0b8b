"""Two overlapping binaries: truth inside the 90% intervals, and what the overlap costs in precision.

    python validation/gw_overlapping.py [--separations 0.05 0.2 0.5] [--injections 20] [--preset reduced] [--runs DIR]

Truths are drawn from the recipe's prior, on condition that either signal has a network signal-to-noise ratio of 10 to
40.  Each is analysed twice with the same effort and the same noise: both signals in the data and in the model; and the
first alone in both, which is what the second costs in width.  Beside the runs' own truths stands the coverage over
simulations held out, 800 to 1000 injections inside each last region.  Goes on where it stopped; writes
results/gw_overlapping.json.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from provenance import stamp

from tmnre import settings as typed
from tmnre.plugin import find_recipe
from tmnre.rounds import Rounds
from tmnre_gw.injection import noise
from tmnre_gw.recipes.overlapping import LABELS, Settings, alone, build, simulators, spectra, truths

STORED = Path(__file__).parent / "results" / "gw_overlapping.json"
SNR = (10.0, 40.0)


def drawn(settings: Settings, seed: int) -> Settings:
    """Settings with two injections from the prior, the second after the first."""
    simulator, rng = simulators(settings), np.random.default_rng(seed)
    names = simulator.prior.names
    while True:
        theta = simulator.prior.sample(1, rng)
        stored = {k: torch.from_numpy(v) for k, v in simulator.simulate(theta, rng).items()}
        derived = {k: float(v[0]) for k, v in simulator.derive(torch.from_numpy(theta), stored).items()}
        snr = [sum(derived[f"snr_{d}_{k}"] ** 2 for d in simulator.network.names) ** 0.5 for k in LABELS]
        low, high = settings.component_mass_msun
        masses = [derived[f"mass_{i}_{k}"] for i in (1, 2) for k in LABELS]
        if derived["delay"] > 0 and all(SNR[0] < s < SNR[1] for s in snr) and low < min(masses) <= max(masses) < high:
            break
    redrawn = dict(zip(names, theta[0].tolist(), strict=True))
    found = []
    for label, injected in zip(LABELS, (settings.first, settings.second), strict=True):
        values = {n.removesuffix(f"_{label}"): v for n, v in redrawn.items() if n.endswith(f"_{label}")}
        values["geocent_time"] = values.pop("time")
        found.append(replace(injected, **values))
    return replace(settings, first=found[0], second=found[1], seed=seed, single_fit=False)


def one(settings: Settings, folder: Path) -> dict:
    """Ranks of the truths, widths and calibration of one injection."""
    started = time.monotonic()
    both = build(settings).both
    result = Rounds(both, folder / "both").run()
    simulator = simulators(settings)
    first = spectra(settings, simulator, truths(settings, simulator))[0]
    single = alone(settings, simulator.signals[0], first + noise(first.shape, settings.seed))
    without = Rounds(single, folder / "alone").run()
    ranks = {
        name: float(result[name].weights[result[name].samples[:, 0] < both.truth[name]].sum())
        for name in result.names
        if name in both.truth
    }
    coverage = result.rounds[-1]["coverage"]
    return {
        "ranks": ranks,
        "width_over_alone": {name: result[f"{name}_A"].sd / without[name].sd for name in without.names},
        "held_out_90": {name: coverage[name]["0.90"] for name in result.names},
        "held_out": coverage["simulations"],
        "waveforms": 2 * result.simulations,
        "wall_s": round(time.monotonic() - started),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--separations", type=float, nargs="+", default=[0.05, 0.2, 0.5])
    parser.add_argument("--injections", type=int, default=20)
    parser.add_argument("--preset", default="reduced")
    parser.add_argument("--runs", type=Path, default=Path("runs/validation"))
    options = parser.parse_args()
    recipe = find_recipe("gw/overlapping")
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    for i in range(options.injections):
        for separation in options.separations:
            key = f"{separation:g} s"
            done = stored.setdefault(key, {})
            if str(i) in done:
                continue
            settings = typed.parse(recipe, [f"--separation_s={separation}"], preset=options.preset)
            settings = drawn(settings, seed=1000 + i)
            done[str(i)] = {**stamp(), **one(settings, options.runs / f"overlapping-{separation:g}-{i:03d}")}
            inside = {n: 0.05 <= r <= 0.95 for n, r in done[str(i)]["ranks"].items()}
            print(key, i, f"{sum(inside.values())} of {len(inside)} inside", done[str(i)]["wall_s"], "s", flush=True)
            STORED.parent.mkdir(exist_ok=True)
            STORED.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
