"""How to draw a field where the data allow it: effective samples per CPU second, from 256 to 16,384 pixels.

    python benchmarks/fields_samplers.py [--seconds 5] [--pixels 16 32 64 128]

An exponentiated Gaussian field in noise, and information about it as the estimator would learn: precision
d = (e^z / s)^2 in every pixel, pseudo-data about the truth.  Three targets:

    proposal, hard       the prior where chi2(z) < 10 E_1[chi2]: elliptical slices
    proposal, tempered   the Gaussian with the same mean chi2: conjugate gradients, independent draws
    posterior            learned, Gaussian: conjugate gradients; exact likelihood: HMC, Langevin, elliptical slices

Effective samples are the median and the smallest over 64 pixels and 8 low modes, of 4 chains at once.  Writes
results/fields_samplers.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from tmnre_fields import tempering
from tmnre_fields.forward import FieldModel
from tmnre_fields.information import Information
from tmnre_fields.posterior import Posterior
from tmnre_fields.recipes.expgrf import Patch, patch_model
from tmnre_fields.samplers import Chain, effective_samples, elliptical_slice, hamiltonian

RESULTS = Path(__file__).parent / "results" / "fields_samplers.json"
CHAINS, THRESHOLD = 4, 10.0


def problem(pixels: int) -> tuple[FieldModel, Tensor, Tensor, Information]:
    """Model, data, true modes, information of the observation."""
    model = patch_model(Patch(pixels=pixels))
    generator = torch.Generator().manual_seed(1)
    z = model.draw(1, generator)
    x = model.observe(model.signal(z), generator)
    fields = model.response(z)
    precision = (fields.exp() / 0.1).square()
    pseudo = fields + precision.rsqrt() * torch.randn(fields.shape, generator=generator)
    return model, x, z, Information(model.response, precision, precision * pseudo)


def quantities(model: FieldModel) -> Callable[[Tensor], Tensor]:
    """64 pixels and the real parts of 8 low modes (N, 72)."""
    n = model.response.sky.pixels
    step = n // 8

    def keep(z: Tensor) -> Tensor:
        fields = model.response.sky.fields(z)[:, 0, ::step, ::step].flatten(1)
        return torch.cat([fields, z[:, 0, :2, 1:5].real.flatten(1)], 1)

    return keep


def timed(run: Callable[[int], Chain], seconds: float) -> dict[str, float]:
    """Rates of a sampler given so many steps, that many that it takes about `seconds`; warm-up is not counted."""
    began = time.process_time()
    run(10)
    per_step = (time.process_time() - began) / 10
    steps = max(100, min(20_000, int(seconds / per_step)))
    began = time.process_time()
    chain = run(steps)
    spent = time.process_time() - began
    ess = effective_samples(chain.draws)
    return {
        "median_per_s": float(ess.median()) / spent,
        "smallest_per_s": float(ess.min()) / spent,
        "autocorrelation_steps": float(CHAINS * steps / ess.median()),
        "slowest_autocorrelation_steps": float(CHAINS * steps / ess.min()),
        "acceptance": float(chain.acceptance.mean()),
        "steps": steps,
    }


def independent(posterior: Posterior, seconds: float) -> dict[str, float]:
    """Rate of draws by conjugate gradients, at the default tolerance of 1e-5."""
    generator = torch.Generator().manual_seed(3)
    began, done = time.process_time(), 0
    while time.process_time() - began < seconds:
        posterior.draw(16, generator)
        done += 16
    rate = done / (time.process_time() - began)
    iterations = posterior.solve(posterior.information.b())[1].iterations
    return {"median_per_s": rate, "smallest_per_s": rate, "iterations": iterations}


def measure(pixels: int, seconds: float) -> dict[str, dict[str, float]]:
    """All samplers at one size."""
    model, x, truth, information = problem(pixels)
    sky, power, keep = model.response.sky, model.power(), quantities(model)
    generator = torch.Generator().manual_seed(2)
    posterior = Posterior(information, power)
    solved = tempering.solve(information, power, THRESHOLD, generator)
    mean, limit = posterior.mean(), THRESHOLD * solved.determined

    def inside(z: Tensor) -> Tensor:
        apart = z - mean
        response = information.response(apart)
        return torch.where(information.product(apart, apart, response, response) < limit, 0.0, -torch.inf)

    start = posterior.draw(CHAINS, generator)
    # the constraint's boundary, where its mass is, is reached in a few hundred steps from inside
    boundary = elliptical_slice(inside, sky, power, start, generator, draws=1, warmup=300, keep=keep).last
    log_l = partial(model.log_likelihood, x)

    def hmc(steps: int, leaps: int, warmup: int, begin: Tensor, step: float) -> Chain:
        how = {"leaps": leaps, "keep": keep, "step": step, "target": 0.8 if leaps > 1 else 0.57}
        return hamiltonian(log_l, posterior, begin, generator, draws=steps, warmup=warmup, **how)

    out: dict[str, dict[str, float]] = {
        "proposal, hard: elliptical slices": timed(
            lambda steps: elliptical_slice(inside, sky, power, boundary, generator, draws=steps, keep=keep), seconds
        ),
        "proposal, tempered: conjugate gradients": independent(Posterior(information * solved.g, power), seconds),
        "posterior, learned: conjugate gradients": independent(posterior, seconds),
    }
    for name, leaps in (("HMC, 20 leapfrog steps", 20), ("Langevin", 1)):
        tuned = hmc(1, leaps, 200, start, 0.1)
        step = float(tuned.step.mean())

        def run(steps: int, leaps=leaps, tuned=tuned, step=step) -> Chain:
            return hmc(steps, leaps, 0, tuned.last, step)

        out[f"posterior, exact: {name}"] = timed(run, seconds)
    out["posterior, exact: elliptical slices"] = timed(
        lambda steps: elliptical_slice(log_l, sky, power, start, generator, draws=steps, keep=keep), seconds
    )
    out["proposal"] = {"g": solved.g, "determined": solved.determined}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--pixels", type=int, nargs="+", default=[16, 32, 64, 128])
    args = parser.parse_args()
    torch.set_num_threads(1)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for pixels in args.pixels:
        at = measure(pixels, args.seconds)
        found[str(pixels**2)] = {**at, "commit": commit, "date": datetime.date.today().isoformat()}
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
        print(pixels**2, {k: {n: round(v, 4) for n, v in r.items()} for k, r in at.items()}, flush=True)


if __name__ == "__main__":
    main()
