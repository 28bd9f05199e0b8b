"""Every pixel of an exponentiated Gaussian field beside NIFTy: accuracy, time until ready, time a draw, by pixels.

    python benchmarks/fields_nifty.py --runs DIR [--pixels 16 32 64 128] [--trained 64] [--python nifty=PATH]

Both have the same observations of `fields/expgrf` at its defaults (no beam, no mask) with spectrum and noise known, one
thread each, and take turns, observation by observation: ours one network for all observations of a size, the first
round of the recipe (2,000 simulations, 600 steps), then independent draws by conjugate gradients; NIFTy's MGVI and
geoVI as peers/nifty_expgrf.py has them, optimised for every observation.  At 32 x 32 both are compared with HMC that
has the exact likelihood.  Beyond `--trained` pixels a side nothing is trained or optimised, and both draw about the
truth, ours from the information that it has.  Networks and chains are kept in DIR.  Writes results/fields_nifty.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from environments import environment
from stored import load, stamp, store
from torch import Tensor

from tmnre_fields.information import Information
from tmnre_fields.network import InformationNet
from tmnre_fields.posterior import Posterior
from tmnre_fields.recipes.expgrf import Patch, Settings, build
from tmnre_fields.sequential import FieldRounds
from tmnre_fields.simulations import simulate, train

HERE = Path(__file__).parent
METHODS = ("mgvi", "geovi")
EXACT = 32
"""pixels a side at which HMC is the reference"""


def count(pixels: int) -> int:
    """How many draws are timed."""
    return 256 if pixels <= EXACT else 64


def timed(run: Callable[[], object]) -> tuple[object, dict[str, float]]:
    """Result, and seconds of wall clock and processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = run()
    return found, {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def trained(procedure: FieldRounds, folder: Path) -> tuple[InformationNet, dict[str, float]]:
    """The network of the recipe's first round, and the seconds that simulations and training took."""
    model, course, settings = procedure.model, procedure.course, procedure.training
    path = folder / f"network_{model.response.sky.pixels}.pt"

    def make() -> dict[str, object]:
        generator = torch.Generator().manual_seed(0)
        simulations = simulate(model, course.simulations[0], generator)
        rows = slice(0, course.fitted)
        torch.manual_seed(0)
        net = InformationNet(model, simulations.z[rows], simulations.x(rows, generator), procedure.network)
        train(net, simulations, settings, steps=course.steps[0], seed=0)
        # two simulations are enough for the shapes
        return {"state": net.state_dict(), "z": simulations.z[:2].clone(), "x": simulations.x(slice(0, 2), generator)}

    if not path.exists():
        made, seconds = timed(make)
        torch.save({**made, "seconds": seconds}, path)
    saved = torch.load(path, weights_only=True)
    net = InformationNet(model, saved["z"], saved["x"], procedure.network)
    net.load_state_dict(saved["state"])
    return net.eval(), saved["seconds"]


class Peer:
    """NIFTy in an environment of its own, which answers one request at a time."""

    def __init__(self, python: Path) -> None:
        command = [str(python), str(HERE.resolve() / "peers" / "nifty_expgrf.py")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **what: object) -> dict:
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer ended with code {self.process.wait()} when asked to {what['do']}")
        return json.loads(line)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def full(power: Tensor) -> np.ndarray:
    """Power of all modes (n, n) from those of the half-plane (n, n // 2 + 1)."""
    n = len(power)
    rows = -np.arange(n) % n
    return np.concatenate([power, power[rows, 1 : (n + 1) // 2].flip(1)], 1).astype("f8")


def posed(procedure: FieldRounds, path: Path) -> Path:
    """The problem as the peer reads it."""
    model = procedure.model
    field = model.response.sky.fields(procedure.truth)[0]
    np.savez(path, x=procedure.x[0], power=full(model.power()[0, 0]), noise=model.noise, field=field)
    return path


def drawn(procedure: FieldRounds, net: InformationNet | None, draws: int, seed: int) -> dict:
    """Seconds to a posterior and of its draws; maps of mean and sd where there is a network."""
    model, sky = procedure.model, procedure.model.response.sky

    def ready() -> Posterior:
        if net is not None:
            return Posterior(procedure.information(net), model.power())
        field = model.response(procedure.truth[None])
        precision = (field.exp() / model.noise).square()
        return Posterior(Information(model.response, precision, precision * field), model.power())

    posterior, seconds = timed(lambda: (found := ready(), found.mean())[0])
    generator = torch.Generator().manual_seed(seed)
    posterior.draw(2, generator)
    modes, drawing = timed(lambda: posterior.draw(draws, generator))
    if net is None:
        return {"draw": _each(drawing, draws)}
    mean, fields = sky.fields(posterior.mean())[0, 0], sky.fields(modes)[:, 0]
    return {
        "ready": seconds,
        "draw": _each(drawing, draws),
        "mean": mean.numpy(),
        "sd": (fields - mean).square().mean(0).sqrt().numpy(),
    }


def _each(seconds: dict[str, float], draws: int) -> dict[str, float]:
    return {name: value / draws for name, value in seconds.items()}


def side_by_side(procedures: list[FieldRounds], net: InformationNet | None, peer: Peer, folder: Path) -> dict:
    """Seconds of both, in turns, and maps where something was learned, in lists of one entry an observation.

    {"tmnre" | method: {"ready", "draw", "mean", "sd"}}; and "compiled", the first optimisation with its compilation.
    """
    pixels = procedures[0].model.response.sky.pixels
    found: dict[str, dict[str, list]] = {}

    def keep(name: str, **entry: object) -> None:
        for key, value in entry.items():
            found.setdefault(name, {}).setdefault(key, []).append(value)

    for number, procedure in enumerate(procedures, 1):
        problem = str(posed(procedure, folder / f"problem_{pixels}_{number}.npz"))
        if number == 1 and net is not None:
            for method in METHODS:
                keep(method, compiled=peer.ask(do="optimise", method=method, problem=problem))
        keep("tmnre", **drawn(procedure, net, count(pixels), number))
        for method in METHODS:
            maps = folder / f"maps_{pixels}_{method}_{number}.npz" if net is not None else None
            if maps:
                keep(method, ready=peer.ask(do="optimise", method=method, problem=problem))
            else:
                peer.ask(do="place", method=method, problem=problem)
            seconds = peer.ask(do="draw", count=count(pixels), save=maps and str(maps))
            keep(method, draw=_each(seconds, count(pixels)))
            if maps:
                with np.load(maps) as saved:
                    keep(method, mean=saved["mean"], sd=saved["sd"])
        print(pixels, number, {name: entry["draw"][-1]["cpu_s"] for name, entry in found.items()}, flush=True)
    return found


def summary(found: dict, pixels: int) -> dict:
    """What is stored of `side_by_side`: seconds, iterations, ratios of seconds per draw."""
    out = {"pixels": pixels**2, "draws": count(pixels)}
    for name, entry in found.items():
        out[name] = {key: entry[key] for key in ("ready", "draw") if key in entry}
        if "compiled" in entry:
            (out[name]["compiled"],) = entry["compiled"]
        if name != "tmnre":
            ratios = [
                theirs["cpu_s"] / ours["cpu_s"]
                for theirs, ours in zip(entry["draw"], found["tmnre"]["draw"], strict=True)
            ]
            out[name]["ratio_median"] = statistics.median(ratios)
            out[name]["ratio_range"] = [min(ratios), max(ratios)]
    return out


def apart(found: dict) -> dict[str, dict[str, float]]:
    """Means and variances beside those of geoVI, where there are any."""
    if "mean" not in found["geovi"]:
        return {}
    mean, sd = (np.stack(found["geovi"][key]) for key in ("mean", "sd"))
    return {
        name: {
            "mean_error_sd_rms": float(np.sqrt(np.mean(((np.stack(found[name]["mean"]) - mean) / sd) ** 2))),
            "variance_ratio_mean": float(np.mean(np.stack(found[name]["sd"]) ** 2 / sd**2)),
        }
        for name in ("tmnre", "mgvi")
    }


def main() -> None:
    # of validation/, which `stored` has brought within reach
    from fields_expgrf import against, reference

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/fields_nifty"))
    parser.add_argument("--pixels", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--trained", type=int, default=64)
    parser.add_argument("--observations", type=int, default=5)
    parser.add_argument("--hmc-draws", type=int, default=2400)
    parser.add_argument("--python", default="", metavar="nifty=PATH")
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    python = Path(options.python.partition("=")[2]) if options.python else environment("nifty")
    entries = load("fields_nifty")
    for pixels in options.pixels:
        settings = Settings(patch=Patch(pixels=pixels))
        seeds = range(1, options.observations + 1)
        procedures = [build(replace(settings, observation_seed=seed)) for seed in seeds]
        net, spent = trained(procedures[0], options.runs) if pixels <= options.trained else (None, None)
        peer = Peer(python)
        found = side_by_side(procedures, net, peer, options.runs)
        peer.close()
        entry = {**stamp(), **summary(found, pixels), "training": spent, "apart_from_geovi": apart(found)}
        if pixels == EXACT:
            exact = reference(procedures, options.runs, options.hmc_draws, None)
            truth = np.stack([p.model.response.sky.fields(p.truth)[0].numpy() for p in procedures])
            maps = {name: [np.stack(each[key]) for key in ("mean", "sd")] for name, each in found.items()}
            maps["hmc"] = [exact["mean"], exact["sd"]]
            entry["against_hmc"] = {name: against(*each, truth, exact, slice(None)) for name, each in maps.items()}
        entries[str(pixels)] = entry
        store("fields_nifty", entries)


if __name__ == "__main__":
    main()
