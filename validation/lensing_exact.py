"""lensing/demo and lensing/mock against the exact posterior: adaptive importance sampling with the exact likelihood.

python validation/lensing_exact.py demo --runs FOLDER [--seeds 0 1] [--observations 3 4]
python validation/lensing_exact.py mock --runs FOLDER
python validation/lensing_exact.py mock --emcee      the sampler itself against emcee on the same likelihood

The simulator is differentiable: from the truth, Levenberg-Marquardt steps find the maximum and the Fisher matrix there
the first proposal, a multivariate t; three adaptations to the weighted moments follow.  What is reported rests on the
last set alone, whose effective size is stored.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from compare import Samples, jsd
from provenance import stamp
from scipy import stats
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tmnre import Result, run
from tmnre import settings as typed
from tmnre.plugin import find_recipe
from tmnre.result import load_marginals
from tmnre_lensing.simulator import LensSimulator

RESULTS = Path(__file__).parent / "results"
FREEDOM = 8
"""degrees of freedom of the proposal: tails heavier than the posterior's"""


class Exact:
    """Log posterior of a mock with additive white noise, in the prior's own coordinates (uniform quantiles)."""

    def __init__(self, simulator: LensSimulator, image: np.ndarray) -> None:
        self.simulator, self.data = simulator, simulator.whitened(torch.from_numpy(image)[None])[0]
        self.calls = 0

    def theta(self, u: np.ndarray) -> np.ndarray:
        """Parameters of quantiles u (N, D)."""
        return self.simulator.prior.from_cube(np.clip(u, 1e-12, 1 - 1e-12))

    def residual(self, u: np.ndarray) -> torch.Tensor:
        """Whitened residuals (N, P)."""
        self.calls += len(u)
        parts = torch.from_numpy(self.theta(u)).split(64)
        return torch.cat([self.simulator.whitened(self.simulator.images(part)) - self.data for part in parts])

    def log_p(self, u: np.ndarray) -> np.ndarray:
        """Log likelihood inside the cube, minus infinity outside."""
        inside = ((u > 0) & (u < 1)).all(1)
        value = np.full(len(u), -np.inf)
        if inside.any():
            value[inside] = -0.5 * self.residual(u[inside]).square().sum(1).numpy()
        return value

    def maximum(self, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """u (D,) at the maximum, and the inverse of the Fisher matrix there."""
        u, damping, step = start.copy(), 1e-3, 1e-6
        best = self.log_p(u[None])[0]
        for _ in range(40):
            shifts = np.concatenate([u + step * np.eye(len(u)), u - step * np.eye(len(u)), u[None]])
            r = self.residual(shifts).numpy()
            jacobian = (r[: len(u)] - r[len(u) : 2 * len(u)]) / (2 * step)
            fisher, gradient = jacobian @ jacobian.T, jacobian @ r[-1]
            move = np.linalg.solve(fisher + damping * np.diag(np.diag(fisher)), -gradient)
            new = np.clip(u + move, 1e-3, 1 - 1e-3)
            value = self.log_p(new[None])[0]
            if value > best:
                done = value - best < 1e-4
                u, best, damping = new, value, damping / 5
                if done:
                    break
            else:
                damping *= 5
        return u, np.linalg.inv(fisher)

    def sample(self, start: np.ndarray, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, float]:
        """u (n, D), weights (n,) that sum to one, and their effective size."""
        rng = np.random.default_rng(seed)
        mean, covariance = self.maximum(start)
        for last in (False, False, False, True):
            count = n if last else n // 3
            proposal = stats.multivariate_t(mean, covariance * (FREEDOM - 2) / FREEDOM * 1.3, df=FREEDOM)
            u = proposal.rvs(count, random_state=rng)
            log_w = self.log_p(u) - proposal.logpdf(u)
            w = np.exp(log_w - log_w.max())
            w /= w.sum()
            if not last:  # truncated weights keep the first adaptations from resting on one sample
                tame = np.minimum(w, 3 / np.sqrt(count) * w.max())
                tame /= tame.sum()
                mean = tame @ u
                covariance = (u - mean).T @ ((u - mean) * tame[:, None]) / (1 - np.square(tame).sum())
        return u, w, float(1 / np.square(w).sum())


def c2st(first: np.ndarray, second: np.ndarray, n: int = 4000) -> float:
    """Accuracy of a classifier between draws (n, D) of both, five-fold; 0.5: it cannot tell them apart."""
    x = np.concatenate([first[:n], second[:n]])
    x = (x - first.mean(0)) / first.std(0)
    y = np.repeat([0, 1], [len(first[:n]), len(second[:n])])
    network = MLPClassifier((64, 64), max_iter=300, early_stopping=True, random_state=0)
    return float(cross_val_score(make_pipeline(StandardScaler(), network), x, y, cv=5).mean())


def emcee_check(exact: Exact, start: np.ndarray, steps: int) -> dict[str, object]:
    """The importance sampler against emcee on the same likelihood: widths and shifts."""
    import emcee

    u, w, ess = exact.sample(start, 20_000)
    rng = np.random.default_rng(1)
    walkers = u[rng.choice(len(u), 64, p=w)]
    sampler = emcee.EnsembleSampler(64, u.shape[1], exact.log_p, vectorize=True)
    sampler.run_mcmc(walkers, steps)
    chain = sampler.get_chain(discard=steps // 3, flat=True)
    mean, sd = w @ u, np.sqrt(w @ (u - w @ u) ** 2)
    return {
        "effective": ess,
        "autocorrelation": float(np.median(sampler.get_autocorr_time(quiet=True))),
        "steps": steps,
        "shift_sd": ((chain.mean(0) - mean) / sd).tolist(),
        "width_ratio": (chain.std(0) / sd).tolist(),
    }


def compare(name: str, seed: int, observation: int, runs: Path, samples: int) -> dict[str, object]:
    """One run of a recipe beside the exact posterior."""
    recipe = find_recipe(f"lensing/{name}")
    settings = replace(recipe.settings(), seed=seed, observation_seed=observation)
    work = recipe.build(settings)
    analysis = getattr(work, "analysis", work)
    out = runs / f"lensing-{name}-{seed}-{observation}"
    if not (out / "summary.json").exists():
        how = {"config": typed.dump(settings), "recipe": f"lensing/{name}", "command": [], "resume": out.exists()}
        run.execute(work, out, **how)
    summary, meta = (json.loads((out / f"{part}.json").read_text()) for part in ("summary", "meta"))
    result = Result(load_marginals(out / "posterior.h5"))
    simulator = analysis.simulator
    exact = Exact(simulator, analysis.observation["image"])
    names = simulator.prior.names
    truth = np.array([[analysis.truth[n] for n in names]])
    started = time.time()
    u, w, ess = exact.sample(simulator.prior.to_cube(truth)[0], samples)
    theta = exact.theta(u)
    derived = simulator.derive(torch.from_numpy(theta))
    values = {**dict(zip(names, theta.T, strict=True)), **{n: v.numpy() for n, v in derived.items()}}
    table = {}
    for parameter in (*names, *simulator.derived):
        reference = Samples(values[parameter], w)
        ours = Samples(result[parameter].samples[:, 0], result[parameter].weights)
        table[parameter] = {
            "jsd": jsd(ours, reference),
            "median_shift_sd": float(ours.quantiles(0.5)[0] - reference.quantiles(0.5)[0]) / reference.sd,
            "width_ratio": ours.sd / reference.sd,
        }
    entry = {
        **stamp(),
        "recipe": name,
        "seed": seed,
        "observation_seed": observation,
        "simulations": summary["simulations"],
        "wall_s": round(sum(session["wall_s"] for session in meta.get("sessions", []))),
        "exact_calls": exact.calls,
        "exact_wall_s": round(time.time() - started),
        "exact_effective": ess,
        "log_volume": [record["log_volume"] for record in summary["rounds"]],
        "truncation": summary.get("truncation"),
        "parameters": table,
    }
    if names in result.marginals:
        joint = simulator.prior.to_cube(result[names].sample(4000, 0))
        reference = u[np.random.default_rng(0).choice(len(u), 4000, p=w)]
        entry["c2st"] = c2st(reference, joint)
        joint_sd, exact_sd = joint.std(0), np.sqrt(w @ (u - w @ u) ** 2)
        entry["joint_width_ratio"] = dict(zip(names, (joint_sd / exact_sd).tolist(), strict=True))
    return entry


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", choices=["demo", "mock"])
    parser.add_argument("--runs", type=Path, default=Path("runs/validation"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--observations", type=int, nargs="+")
    parser.add_argument("--samples", type=int, default=30_000)
    parser.add_argument("--emcee", type=int, default=0, metavar="STEPS")
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    recipe = find_recipe(f"lensing/{options.recipe}")
    if options.emcee:
        work = recipe.build(recipe.settings())
        analysis = getattr(work, "analysis", work)
        exact = Exact(analysis.simulator, analysis.observation["image"])
        truth = np.array([[analysis.truth[n] for n in analysis.simulator.prior.names]])
        found = {**stamp(), **emcee_check(exact, analysis.simulator.prior.to_cube(truth)[0], options.emcee)}
        (RESULTS / f"lensing_{options.recipe}_emcee.json").write_text(json.dumps(found, indent=1) + "\n")
        print(found)
        return
    entries = []
    for observation in options.observations or [recipe.settings().observation_seed]:
        for seed in options.seeds:
            entry = compare(options.recipe, seed, observation, options.runs, options.samples)
            entries.append(entry)
            ratios = [row["width_ratio"] for row in entry["parameters"].values()]
            shifts = [abs(row["median_shift_sd"]) for row in entry["parameters"].values()]
            print(
                f"seed {seed}, observation {observation}: widths {min(ratios):.3f} to {max(ratios):.3f}, mean "
                f"{np.mean(ratios):.3f}; shifts up to {max(shifts):.3f} sd; c2st {entry.get('c2st')}; effective "
                f"{entry['exact_effective']:.0f}",
                flush=True,
            )
            (RESULTS / f"lensing_{options.recipe}.json").write_text(json.dumps(entries, indent=1) + "\n")


if __name__ == "__main__":
    main()
