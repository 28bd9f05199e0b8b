"""The four posteriors of a finished popsources/detection-is-truncation, over mocks that its networks have not seen.

    tmnre run popsources/detection-is-truncation --out RUN
    python validation/popsources_calibration.py RUN [--mocks 1000]

What the run learned about one observation is asked about others:

    sub-threshold   theta of its last region, maps of unlabelled sources and one more in each of the run's regions
    detected        theta of its last region, lists of labelled sources; about every source a box as wide as one of the
                    run's, evenly anywhere around it, and of these boxes alone the posterior
    combined        theta of the run's posterior of detections, maps as for sub-threshold
    direct          theta of its last region, maps of all sources

Ranks of the truth in its marginals, and the mass of higher density than at the truth, have to be even.  Negative tests:
posteriors off by half a standard deviation, and 1.5 times too narrow.  Of every combined mock the direct posterior of
the same map stands beside: it is not told which sources are labelled, and may be a little wider.  Writes
results/popsources_calibration.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from provenance import stamp
from torch import Tensor
from tqdm import tqdm

from tmnre import Place
from tmnre import settings as typed
from tmnre.diagnostics import expected_coverage
from tmnre.diagnostics.coverage import coverage
from tmnre.plugin import find_recipe
from tmnre.simulator import Tensors
from tmnre_popsources.patch import PatchSimulator
from tmnre_popsources.pipeline import POSTERIORS, Ratios
from tmnre_popsources.posteriors import Detected, JointRatio
from tmnre_popsources.truncated import Regions

RESULTS = Path(__file__).parent / "results" / "popsources_calibration.json"
DRAWS, POOL = 400, 8000
CONTROLS = {"learned": (0.0, 1.0), "shifted": (0.5, 1.0), "too narrow": (0.0, 1.5)}
"""standard deviations that the truth is moved by, and factor of its distance from the median"""


class Answer(NamedTuple):
    """A posterior of one mock: draws u (S, d), weights (S,), ln density there (S,) and at the truth."""

    u: Tensor
    weights: Tensor
    log_p: Tensor
    truth: Tensor
    log_p_truth: Tensor

    @property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (d,)."""
        mean = self.weights @ self.u
        return mean, (self.weights @ (self.u - mean).square()).sqrt()

    def ranks(self, shift: float, factor: float) -> Tensor:
        """Posterior mass (d,) below a truth that is moved."""
        _, sd = self.moments
        order = self.u.argsort(0)
        middle = (self.weights[order].cumsum(0) < 0.5).sum(0).clamp(max=len(self.u) - 1)
        median = self.u.gather(0, order.gather(0, middle[None]))[0]
        truth = median + factor * (self.truth - median) + shift * sd
        return self.weights @ (self.u < truth).double()

    @property
    def above(self) -> float:
        """Posterior mass of higher density than the truth's."""
        return float(self.weights @ (self.log_p > self.log_p_truth).double())

    @property
    def effective(self) -> float:
        """Draws that the weights are worth."""
        return float(1 / self.weights.square().sum())


def weights(log_w: Tensor) -> Tensor:
    """Normalised."""
    return torch.softmax(log_w.double(), 0)


def evenly(ratio: JointRatio, n: int, seed: int) -> Tensor:
    """u (n, d) of the region a ratio was learned in."""
    low, high = torch.tensor([ratio.cube[name] for name in ratio.names], dtype=torch.float64).T
    return low + (high - low) * torch.rand(n, len(low), generator=torch.Generator().manual_seed(seed)).double()


def image(simulator: PatchSimulator, u: Tensor, generator: torch.Generator) -> Tensor:
    """Counts (1, n, n) of one u (d,)."""
    theta = torch.from_numpy(simulator.prior.from_cube(u[None].numpy()))
    scene = simulator.scene
    return scene.counts(scene.expected(simulator.sources(theta, generator), 1), generator)


def drawn(ratio: JointRatio, x: Tensors, truth: Tensor, generator: torch.Generator) -> Answer:
    """A ratio's posterior of x."""
    u = ratio.sample(x, DRAWS, generator)
    log_p = ratio.log_density(x, torch.cat([u, truth[None]]))[0]
    return Answer(u, torch.full((DRAWS,), 1 / DRAWS).double(), log_p[:-1], truth, log_p[-1])


def from_maps(ratio: JointRatio, n: int, seed: int) -> Iterator[Answer]:
    """Of a ratio that reads maps."""
    generator = torch.Generator().manual_seed(seed + 1)
    for truth in evenly(ratio, n, seed):
        x = ratio.simulator.summarised(image(ratio.simulator, truth, generator))
        yield drawn(ratio, x, truth, generator)


def from_regions(learned: Ratios, n: int, seed: int) -> Iterator[Answer]:
    """Of boxes about the sources of a list."""
    r4, generator = learned.detected, torch.Generator().manual_seed(seed + 1)
    half = (learned.regions.high - learned.regions.low) / 2
    for truth in evenly(r4, n, seed):
        theta = torch.from_numpy(r4.simulator.prior.from_cube(truth[None].numpy()))
        sources = r4.simulator.detected(theta, generator)
        reach = half[torch.randint(len(half), (len(sources.row),), generator=generator)]
        point = torch.stack(sources[1:], 1) + reach * (2 * torch.rand(reach.shape, generator=generator) - 1)
        regions = Regions(point - reach, point + reach)
        x = r4.simulator.padded(sources, 1)
        found = Detected.of(r4, x, r4.simulator.scene, learned.seen, regions, DRAWS, generator)
        log_p = found.log_w + r4.log_density(x, found.u)[0] - found.log_norm
        yield Answer(found.u, weights(found.log_w), log_p, truth, found.log_density(truth[None])[0])


def from_both(learned: Ratios, n: int, seed: int) -> Iterator[tuple[Answer, Answer]]:
    """Combined, of draws of the posterior of detections with weight r3; and the direct posterior of the same map."""
    r3, direct, generator = learned.sub, learned.direct, torch.Generator().manual_seed(seed)
    at = learned.x["detected"], learned.detected.simulator.scene, learned.seen, learned.regions
    found = Detected.of(learned.detected, *at, POOL, generator)
    inside = r3.inside(found.u) & torch.isfinite(found.log_w)
    u, log_w = found.u[inside], found.log_w[inside]
    log_p4 = log_w + found.r4.log_density(learned.x["detected"], u)[0] - found.log_norm
    # each may be a truth, once
    for i in torch.multinomial(weights(log_w), n, generator=generator):
        truth = u[i]
        counts = image(r3.simulator, truth, generator)
        log_p3 = r3.log_density(r3.simulator.summarised(counts), u)[0]
        log_p = log_p3 + log_p4
        rest = torch.arange(len(u)) != i
        combined = Answer(u[rest], weights((log_w + log_p3)[rest]), log_p[rest], truth, log_p[i])
        yield combined, drawn(direct, direct.simulator.summarised(counts), truth, generator)


def verdicts(answers: list[Answer], names: tuple[str, ...]) -> dict:
    """Coverage of central intervals of every parameter, controls too, and of regions of highest density."""
    found: dict = {"mocks": len(answers), "effective": float(np.median([one.effective for one in answers]))}
    for kind, moved in CONTROLS.items():
        ranks = torch.stack([one.ranks(*moved) for one in answers]).numpy()
        found[kind] = {name: coverage(column) for name, column in zip(names, ranks.T, strict=True)}
    found["joint"] = expected_coverage(np.array([one.above for one in answers])).to_dict()
    return found


def beside(pairs: list[tuple[Answer, Answer]], names: tuple[str, ...]) -> dict:
    """How far the direct means are from the combined ones, in combined standard deviations, and the ratio of widths."""
    (mean, sd), (other, wide) = (
        (torch.stack(part) for part in zip(*(one[k].moments for one in pairs), strict=True)) for k in range(2)
    )
    shift, ratio = (other - mean) / sd, wide / sd
    return {
        name: {"shift_mean": float(s.mean()), "shift_rms": float(s.square().mean().sqrt()), "width": float(r.median())}
        for name, s, r in zip(names, shift.T, ratio.T, strict=True)
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--mocks", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe = find_recipe("popsources/detection-is-truncation")
    procedure = recipe.build(typed.parse(recipe, config=options.run / "config.yaml"))
    learned = procedure.learn(Place(options.run, progress=partial(tqdm, disable=True), say=lambda _: None))
    names, n, started = procedure.prior.names, options.mocks, time.process_time()
    pairs = list(tqdm(from_both(learned, n, 30_000), total=n, desc="combined"))
    answers = {
        "sub-threshold": list(tqdm(from_maps(learned.sub, n, 31_000), total=n, desc="sub-threshold")),
        "detected": list(tqdm(from_regions(learned, n, 32_000), total=n, desc="detected")),
        "combined": [one for one, _ in pairs],
        "direct": list(tqdm(from_maps(learned.direct, n, 33_000), total=n, desc="direct")),
    }
    entry = {
        "posteriors": {name: verdicts(answers[name], names) for name in POSTERIORS},
        "direct beside combined": beside(pairs, names),
        "cpu_s": round(time.process_time() - started),
        **stamp(),
        "command": f"python validation/popsources_calibration.py RUN --mocks {n}",
    }
    RESULTS.write_text(json.dumps(entry, indent=1) + "\n")
    for name, found in entry["posteriors"].items():
        print(name, {k: [round(v["0.50"], 3), v["passed"]] for k, v in found["learned"].items()}, found["joint"])
    print(entry["direct beside combined"])


if __name__ == "__main__":
    main()
