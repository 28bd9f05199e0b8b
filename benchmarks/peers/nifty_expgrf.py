"""NIFTy's posterior of an exponentiated Gaussian field, as its README would do it; run by its own environment.

    python peers/nifty_expgrf.py

Serves requests, a line of JSON each, so that runs can alternate with another's and are compiled once:

    {"do": "optimise", "method": "mgvi" | "geovi", "problem": FILE.npz}     x (n, n), power (n, n), noise
    {"do": "place", "method": ..., "problem": ...}                           about the field (n, n) in FILE.npz
    {"do": "draw", "count": N, "save": FILE.npz or null}                    from what was optimised or placed last

and answers with seconds of wall clock and of the processor.  Tolerances are those of NIFTy's README, where conjugate
gradients may take 300 iterations in place of 100, as ours may.  Against it, steps are compiled whole, which spares
seconds of compilation in every iteration, and there are as many samples from the first iteration on as at the end: two
programs in place of six.  After the first iterations samples keep their random numbers, so that the mean converges; it
has when it moves by less than a hundredth of a posterior standard deviation, rms over pixels.
"""

import json
import logging
import os
import sys
import time
from functools import partial

# one thread: XLA makes as many as there are cores when it starts
cores = os.sched_getaffinity(0)
os.sched_setaffinity(0, {min(cores)})
import jax  # noqa: E402
import numpy as np  # noqa: E402
from jax import numpy as jnp  # noqa: E402
from jax import random  # noqa: E402
from nifty8 import re as jft  # noqa: E402

# as all of NIFTy's demonstrations
jax.config.update("jax_enable_x64", True)
jft.logger.setLevel(logging.CRITICAL)

DELTA, PAIRS, AT_ONCE = 1e-4, 25, 64
RESAMPLED = {"mgvi": 4, "geovi": 3}
MODES = {"mgvi": ("linear_resample", "linear_sample"), "geovi": ("nonlinear_resample", "nonlinear_update")}
MOST, STILL = 25, 0.01


class Field(jft.Model):
    """z (n, n) of white noise xi (n, n)."""

    def __init__(self, amplitude):
        self.amplitude = amplitude
        super().__init__(domain=jax.ShapeDtypeStruct(amplitude.shape, amplitude.dtype), white_init=True)

    def __call__(self, xi):
        return jft.correlated_field.hartley(self.amplitude * xi)


class Signal(Field):
    """exp z (n, n)."""

    def __call__(self, xi):
        return jnp.exp(super().__call__(xi))


def likelihood(data):
    """Of data {"x", "amplitude", "noise"}."""
    noise = data["noise"]
    gauss = jft.Gaussian(data["x"], noise_cov_inv=lambda v: v / noise**2, noise_std_inv=lambda v: v / noise)
    return gauss.amend(Signal(data["amplitude"]))


def settings(size):
    """Arguments of `draw_samples`: conjugate gradients, and Newton's method for geoVI."""
    linear = {"cg_name": None, "cg_kwargs": {"absdelta": DELTA * size / 10, "maxiter": 300}}
    curved = {"minimize_kwargs": {"name": None, "xtol": DELTA, "cg_kwargs": {"name": None}, "maxiter": 5}}
    return {"draw_linear_kwargs": linear, "nonlinearly_update_kwargs": curved}


@partial(jax.jit, static_argnames="mode")
def iteration(data, samples, key, *, mode):
    """Samples about the mean, and the mean that suits them."""
    # not lmap, which cannot be compiled whole
    vi = jft.OptimizeVI(likelihood(data), MOST, residual_map="smap")
    how = settings(data["x"].size)
    samples, _ = vi.draw_samples(samples, key=key, sample_mode=mode, n_samples=PAIRS, point_estimates=(), **how)
    found = vi.kl_minimize(samples, minimize_kwargs={"name": None, "xtol": DELTA, "maxiter": 35})
    samples = samples.at(found.x)
    fields = jax.vmap(Field(data["amplitude"]))(samples.samples)
    return samples, fields.mean(0), fields.var(0)


def optimise(method, data):
    """Converged samples, how far the mean moved in every iteration, and its field."""
    start, key = random.split(random.PRNGKey(1))
    pos = 0.1 * random.normal(start, data["x"].shape)
    samples, before, moved = jft.Samples(pos=pos, samples=None, keys=None), None, []
    first, then = MODES[method]
    for number in range(MOST):
        key, now = random.split(key)
        samples, mean, variance = iteration(data, samples, now, mode=first if number < RESAMPLED[method] else then)
        if before is not None:
            moved.append(float(jnp.sqrt(jnp.mean((mean - before) ** 2) / jnp.mean(variance))))
        before = mean
        if number > RESAMPLED[method] and moved[-1] < STILL:
            break
    return samples, moved, np.asarray(mean)


@partial(jax.jit, static_argnames="method")
def draws(data, pos, keys, sign, *, method):
    """Independent fields (len(keys), n, n) about pos, one after the other, which a CPU does sooner than all at once."""
    lh, field, how = likelihood(data), Field(data["amplitude"]), settings(data["x"].size)

    def one(key):
        residual, _ = jft.draw_linear_residual(lh, pos, key, **how["draw_linear_kwargs"])
        residual = sign * residual
        if method == "geovi":
            curved = how["nonlinearly_update_kwargs"]
            residual, _ = jft.nonlinearly_update_residual(lh, pos, residual, key, sign, **curved)
        return field(pos + residual)

    return jax.lax.map(one, keys)


def timed(run):
    """Result, and seconds of wall clock and processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = jax.block_until_ready(run())
    return found, {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def read(path):
    """The problem, and the white noise of its field where there is one."""
    with np.load(path) as problem:
        amplitude = jnp.sqrt(jnp.asarray(problem["power"], float)) / len(problem["power"])
        data = {"x": jnp.asarray(problem["x"], float), "amplitude": amplitude, "noise": float(problem["noise"])}
        # Hartley's transform is its own inverse, but for the number of pixels
        xi = jft.correlated_field.hartley(jnp.asarray(problem["field"], float)) / amplitude.size / amplitude
    return data, xi


def main():
    method = data = pos = mean = None
    for line in sys.stdin:
        asked = json.loads(line)
        answer = {}
        if asked["do"] != "draw":
            method = asked["method"]
            data, pos = read(asked["problem"])
        if asked["do"] == "optimise":
            (samples, moved, mean), answer = timed(lambda m=method, d=data: optimise(m, d))
            pos = samples.pos
            answer |= {"iterations": len(moved) + 1, "moved_sd": moved}
        elif asked["do"] == "draw":
            keys = random.split(random.PRNGKey(2), asked["count"])
            batches = keys.reshape(-1, AT_ONCE, *keys.shape[1:])
            draw = partial(draws, data, pos, method=method)
            jax.block_until_ready(draw(batches[0], 1.0))
            fields, answer = timed(lambda d=draw, b=batches: [d(keys, 1.0) for keys in b])
            if asked["save"]:
                # the mirror images too: they take the noise of the mean away
                fields = np.concatenate(fields + [draw(keys, -1.0) for keys in batches])
                centre = fields.mean(0) if method == "geovi" else mean
                np.savez(asked["save"], mean=centre, sd=np.sqrt(np.mean((fields - centre) ** 2, 0)))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
