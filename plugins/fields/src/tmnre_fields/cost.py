"""What the rounds of a field would cost, for `tmnre run --dry-run`: every part of them is tried for some seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from tmnre.estimate import Estimate
from tmnre.estimate import estimate as of_analysis
from tmnre_fields.posterior import Posterior
from tmnre_fields.simulations import simulate, train

if TYPE_CHECKING:
    from tmnre_fields.sequential import FieldRounds

FIELDS, DRAWS = 64, 16
"""of the probe"""
SHORT, LONG = 5, 25
"""steps of its two trainings"""


def estimate(work: FieldRounds) -> Estimate:
    """Costs of all rounds, and of the parameters' analysis where there is one.

    Draws of a posterior, which make the simulations of later rounds too, are tried with a network that has barely been
    trained; with a better one conjugate gradients may need more iterations.
    """
    course, model, generator = work.course, work.there(), work.generator(0)
    theta = work.parameters(None, FIELDS, 0)
    simulations, fields_s = _timed(lambda: simulate(model, FIELDS, generator, theta=theta))
    net, blank_s = _timed(lambda: work.blank(simulations.z, simulations.x(slice(None), generator)))

    silent = partial(tqdm, disable=True)

    def steps(n: int) -> None:
        train(net, simulations, work.training, steps=n, seed=work.seed, progress=silent, say=lambda _: None)

    steps(1)
    short_s, long_s = (_timed(lambda n=n: steps(n))[1] for n in (SHORT, LONG))
    step_s = max((long_s - short_s) / (LONG - SHORT), 1e-6)
    posterior = Posterior(work.information(net.to(work.device).eval()), work.power(None))
    modes, draws_s = _timed(lambda: posterior.draw(DRAWS, generator))
    each_s, draw_s = fields_s / FIELDS, draws_s / DRAWS
    first, *later = course.simulations
    parameters = None if work.first is None else of_analysis(work.first)
    train_s, total = sum(course.steps) * step_s, sum(course.steps)
    kept = course.kept * (modes[0].nbytes + model.response.sky.fields(modes[:1]).nbytes)
    own = Estimate(
        rounds=len(course.steps),
        simulations=sum(course.simulations) + course.held_out,
        bytes_each=0,
        disk_gib=kept / 2**30,
        simulate_s=first * each_s + (sum(later) + course.held_out) * draw_s,
        seconds_each=each_s,
        workers=1,
        steps=(total, total),
        step_s=step_s,
        train_s=(train_s, train_s),
        rest_s=blank_s + (course.draws + len(course.steps) * min(course.draws, 64)) * draw_s,
    )
    return own if parameters is None else parameters + own


def _timed(what: Callable):
    """What it gives, and the seconds it took."""
    started = time.perf_counter()
    made = what()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return made, time.perf_counter() - started
