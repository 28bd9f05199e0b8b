"""Kill -9 at random moments of a small run: resumed, it ends bit by bit as if nothing had happened.

    python validation/kills.py [--kills 20] [--seed 0]

Each kill takes the whole process group, simulator workers included, at a moment drawn uniformly from what a run that is
left alone takes once Python has started; every fourth run is killed a second time while it resumes.  What the run was
doing is what it had said last.  Writes results/kills.json; exit code 1 if any posterior, ratio or region differs.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import torch
from provenance import stamp
from tqdm import tqdm

from tmnre import Analysis, Normal, Prior, Simulator, Stage, Training
from tmnre import rounds as loop
from tmnre.result import load_marginals

RESULTS = Path(__file__).parent / "results"
DESIGN = np.array([[1.0, 0.5], [0.2, 1.0], [0.7, -0.7]])


class Slow(Simulator):
    """Linear Gaussian data; slow, and with large arrays to write, so that kills fall into simulating as well."""

    prior = Prior(a=Normal(0, 1), b=Normal(0, 1))

    def simulate(self, theta: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        time.sleep(0.05)
        return {"mu": theta @ DESIGN.T, "waste": rng.standard_normal((len(theta), 5000))}

    def observe(self, stored, theta, generator):
        mu = stored["mu"]
        return {"x": mu + 0.1 * torch.randn(mu.shape, generator=generator) + 0 * stored["waste"][:, :3]}


def child(folder: Path) -> None:
    """Run or go on with the analysis, and say on every step what begins."""
    torch.set_num_threads(1)
    say = partial(print, file=log_of(folder).open("a"), flush=True)
    say("beginning")
    for module, name, doing in (
        (loop, "simulate", "simulating"),
        (loop, "fit", "training"),
        (loop, "tighten", "tightening"),
        (loop, "mark_done", "writing"),
    ):
        setattr(module, name, _announced(getattr(module, name), doing, say))
    stages = tuple(Stage(n, steps=steps) for n, steps in ((1000, 60), (1500, 60), (2000, 80)))
    analysis = Analysis(
        *(Slow(), {"x": np.array([0.3, 0.1, 0.4])}, ["a", "b", ("a", "b")], stages),
        training=Training(batch_size=128, accelerator="cpu"),
        truncated=[("a", "b")],
        workers=2,
        shard_size=100,
    )
    result = loop.Rounds(analysis, folder, progress=partial(tqdm, disable=True), say=lambda _: None).run()
    say("finishing")
    result.save(folder / "posterior.h5")


def _announced(function, doing, say):
    def call(*arguments, **settings):
        say(doing)
        found = function(*arguments, **settings)
        say("between")
        return found

    return call


def log_of(folder: Path) -> Path:
    return folder.with_suffix(".log")


def started(folder: Path) -> subprocess.Popen:
    """The analysis in a process group of its own, at the moment it begins or goes on."""
    log = log_of(folder)
    length = log.stat().st_size if log.exists() else 0
    process = subprocess.Popen([sys.executable, __file__, "--child", str(folder)], start_new_session=True)
    while process.poll() is None and not (log.exists() and log.stat().st_size > length):
        time.sleep(0.01)
    return process


def outcome(folder: Path) -> list[np.ndarray]:
    """Everything a run has found, as arrays."""
    regions = [json.loads(path.read_text()) for path in sorted(folder.glob("rounds/*/region.json"))]
    for record in regions:
        record.pop("seconds")
    posterior = load_marginals(folder / "posterior.h5")
    arrays = [array for m in posterior.values() for array in (m.samples, m.log_ratios, m.weights)]
    return [*arrays, np.array(json.dumps(regions))]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path)
    options = parser.parse_args()
    if options.child:
        return child(options.child)
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        process = started(base / "whole")
        began = time.monotonic()
        if process.wait():
            sys.exit("the run that is left alone failed")
        length = time.monotonic() - began
        expected = outcome(base / "whole")
        moments, different, run = Counter(), 0, 0
        while moments.total() < options.kills:
            folder = base / f"{run:02d}"
            for _ in range(1 + (run % 4 == 3)):
                process = started(folder)
                try:
                    process.wait(rng.uniform(0, length))
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    said = log_of(folder).read_text().split()
                    moments[said[-1]] += 1
            if started(folder).wait():
                sys.exit(f"{folder.name} did not resume; it had said {log_of(folder).read_text().split()}")
            same = all(np.array_equal(a, b) for a, b in zip(outcome(folder), expected, strict=True))
            different += not same
            run += 1
            print(f"run {run}: {dict(moments)}, {'same' if same else 'DIFFERENT'}", flush=True)
    summary = {**stamp(), "kills": dict(moments), "runs": run, "different": different, "length_s": round(length, 1)}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "kills.json").write_text(json.dumps(summary, indent=1) + "\n")
    sys.exit(different > 0)


if __name__ == "__main__":
    main()
