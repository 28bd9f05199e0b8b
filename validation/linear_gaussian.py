"""Linear Gaussian models of 5 and 15 parameters: every 1-d and 2-d marginal against the exact posterior.

    python validation/linear_gaussian.py [--parameters 5 15] [--seeds 0]

Data are 2 D linear combinations of D parameters with a standard normal prior, plus noise that leaves posterior widths
of 0.05 to 0.2 of the prior's.  Divergences need no binning: both densities are known at every prior draw of the
result.  The evidence is the mean over draws of the learned joint of all parameters, of density q, of log p(x|theta) +
log p(theta) - log q(theta): it is short of log p(x) by the divergence of q from the exact posterior.  Writes
results/linear_gaussian.json.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from provenance import stamp
from scipy import stats

import tmnre
from tmnre.result import MarginalPosterior, Result

RESULTS = Path(__file__).parent / "results"
SIMULATIONS = {5: 20_000, 15: 50_000}
LEVELS = (0.5, 0.68, 0.9)


class Linear(tmnre.Simulator):
    """x = A theta + noise, A of standard normal entries."""

    def __init__(self, parameters: int) -> None:
        self.prior = tmnre.Prior({f"t{i:02d}": tmnre.Normal(0, 1) for i in range(parameters)})
        self.matrix = np.random.default_rng(1).normal(size=(2 * parameters, parameters))
        self.noise = 0.1 * parameters**0.5

    def simulate(self, theta: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"mean": theta @ self.matrix.T}

    def observe(self, stored, theta, generator):
        noise = torch.randn(stored["mean"].shape, generator=generator)
        return {"x": stored["mean"] + self.noise * noise}

    def posterior(self, x: np.ndarray) -> stats._multivariate.multivariate_normal_frozen:
        """Exact posterior for data x (2 D,)."""
        d = self.matrix.shape[1]
        covariance = np.linalg.inv(np.eye(d) + self.matrix.T @ self.matrix / self.noise**2)
        return stats.multivariate_normal(covariance @ self.matrix.T @ x / self.noise**2, covariance)


def exact_weights(marginal: MarginalPosterior, exact, columns: list[int]) -> np.ndarray:
    """Normalised weights (S,) that turn the marginal's prior draws into exact posterior draws."""
    density = stats.multivariate_normal(exact.mean[columns], exact.cov[np.ix_(columns, columns)])
    log_w = density.logpdf(marginal.samples) - stats.norm.logpdf(marginal.samples).sum(1)
    w = np.exp(log_w - log_w.max())
    return w / w.sum()


def jsd(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon divergence (nat) of two sets of weights on the same draws."""
    # ratios before the half, which would round the smallest weights to nothing
    return float(0.5 * sum(np.sum(w[w > 0] * np.log(2 * (w[w > 0] / (p + q)[w > 0]))) for w in (p, q)))


def divergences(result: Result, simulator: Linear, exact) -> dict[tuple[str, ...], float]:
    """Of every learned marginal from the exact one."""
    names = simulator.prior.names
    return {
        key: jsd(marginal.weights, exact_weights(marginal, exact, [names.index(name) for name in key]))
        for key, marginal in result.marginals.items()
        if len(key) < 3
    }


def evidence(result: Result, simulator: Linear, x: np.ndarray) -> dict[str, float]:
    """How far the log evidence of the learned joint is from the exact one, and what its draws are worth as weighted by
    the exact posterior."""
    joint, d = result[simulator.prior.names], len(simulator.prior)
    log_likelihood = stats.norm.logpdf(x, joint.samples @ simulator.matrix.T, simulator.noise).sum(1)
    each = log_likelihood - joint.log_ratios + result.rounds[-1]["log_volume"]
    covariance = simulator.matrix @ simulator.matrix.T + simulator.noise**2 * np.eye(2 * d)
    weights = np.exp(each - each.max())
    return {
        "error": float(each.mean() - stats.multivariate_normal(np.zeros(2 * d), covariance).logpdf(x)),
        "efficiency": float(weights.sum() ** 2 / np.square(weights).sum() / len(weights)),
    }


def coverage(result: Result) -> dict[str, float]:
    """Largest departure of the held-out coverage from nominal, in binomial sd, over parameters and levels."""
    found = result.rounds[-1]["coverage"]
    n = found["simulations"]
    sigma = [
        abs(found[name][f"{level:.2f}"] - level) / np.sqrt(level * (1 - level) / n)
        for name in result.names
        for level in LEVELS
    ]
    # two-sided, so many comparisons: the band that a calibrated analysis stays in with 95% probability
    return {
        "worst_sigma": float(max(sigma)),
        "band_sigma": float(stats.norm.ppf(1 - 0.025 / len(sigma))),
        "simulations": n,
    }


def validate(parameters: int, seed: int) -> None:
    """One observation: truncated rounds, and a single round on the whole prior, against the exact posterior."""
    simulator = Linear(parameters)
    rng = np.random.default_rng([seed, parameters])
    theta = simulator.prior.sample(1, rng)
    mean = simulator.simulate(theta, rng)["mean"][0]
    x = mean + simulator.noise * rng.normal(size=mean.shape)
    exact = simulator.posterior(x)
    names = simulator.prior.names
    marginals = [*names, *combinations(names, 2), names]
    for how, rounds in (("truncated", 6), ("untruncated", 1)):
        started = time.time()
        n = SIMULATIONS[parameters]
        result = tmnre.infer(simulator, {"x": x}, marginals, simulations=n, rounds=rounds, seed=seed)
        rows = divergences(result, simulator, exact)
        by_size = {d: [v for key, v in rows.items() if len(key) == d] for d in (1, 2)}
        found = {
            **stamp(),
            "simulations": result.simulations,
            "rounds": len(result.rounds),
            "steps": [record["steps"] for record in result.rounds],
            "wall_s": round(time.time() - started),
            **{f"jsd_{d}d": {"mean": float(np.mean(v)), "max": float(np.max(v))} for d, v in by_size.items()},
            "width_ratio": [
                float(result[n].summary()["sd"] / exact.cov[i, i] ** 0.5) for i, n in enumerate(result.names)
            ],
            "coverage": coverage(result),
            "evidence": evidence(result, simulator, x),
        }
        print(parameters, seed, how, json.dumps(found), flush=True)
        keep(f"{parameters} parameters", f"seed {seed}", how, found)


def keep(model: str, seed: str, how: str, found: dict) -> None:
    """Put one run into the results, in the place of an earlier one."""
    path = RESULTS / "linear_gaussian.json"
    table = json.loads(path.read_text()) if path.exists() else {}
    table.setdefault(model, {}).setdefault(seed, {})[how] = found
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(table, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parameters", type=int, nargs="+", default=[5, 15])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    for parameters in options.parameters:
        for seed in options.seeds:
            validate(parameters, seed)


if __name__ == "__main__":
    main()
