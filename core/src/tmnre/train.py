"""Training of a ratio estimator: candidates, cycles of doubling length, and the loss of all its marginals at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

from tmnre.analysis import Training
from tmnre.descent import Curve, TrainingError, descend, training_and_validation
from tmnre.draws import Draws
from tmnre.losses import contrasts, imbalance, nre_a, nre_c
from tmnre.ratio import RatioEstimator
from tmnre.simulator import Tensors

CYCLES = 100
"""more than any training has, so that no two cycles of an ensemble see the same order of simulations"""
FIRST_CYCLE, ROUGH_STEPS, MAX_STEPS, CYCLE_DECAY = 200, 600, 6200, 0.7
"""steps of the first cycle, of all cycles without and with `polish`; factor on the peak learning rate between cycles"""
WORSE = 1.0
"""nat a ratio above the loss of a ratio of one everywhere, from which on a cycle counts as diverged"""


def losses(estimator: RatioEstimator, batch: tuple[Tensors, Tensor], *, how: Training) -> Tensor:
    """Loss of each ratio (L,): all pairings within groups of K + 1 simulations."""
    return losses_of_factors(*estimator.factors(*batch), how)


def losses_of_factors(a: Tensor, b: Tensor, how: Training) -> Tensor:
    """The same from a and b (N, L, rank)."""
    with torch.autocast(a.device.type, enabled=False):
        group = min(how.candidates + 1, len(a))
        whole = len(a) // group * group
        a, b = (v[:whole].unflatten(0, (-1, group)).permute(2, 0, 1, 3).float() for v in (a, b))
        joint, marginal = contrasts(a @ b.transpose(-1, -2))  # of (L, groups, K + 1 of x, K + 1 of z)
        loss = nre_a(joint, marginal) if how.loss == "nre_a" else nre_c(joint, marginal, how.gamma)
        return loss + how.balance * imbalance(joint, marginal) if how.balance else loss


def fit(
    candidates: Sequence[RatioEstimator],
    draws: Draws,
    settings: Training,
    *,
    steps: int | None,
    seed: int,
    order: int = 0,
    warm: bool = False,
    polish: bool = True,
    progress: Callable[..., tqdm] = tqdm,
    say: Callable[[str], None] = print,
) -> tuple[RatioEstimator, list[dict[str, float]]]:
    """The trained estimator, with its best weights, and the curve, [{"step", "train", "validation"}].

    Of several candidates the one goes on whose validation loss is the lowest after a first, short cycle.

    With `steps`, one cycle of the schedule.  With None, cycles of doubling length, each from the best weights so far
    and with a lower peak, until one no longer improves the validation loss by `settings.tolerance` a marginal: how
    long training has to be depends on the data, and weights are only worth comparing at the end of a cycle.  Without
    `polish`, two cycles at most, and one where it learns no more than the weights it began with know.

    A cycle that diverges starts again from where it began, with a lower peak, and says so.

    `seed` decides which simulations are for validation; with another `order` the others come in another order.
    `warm`: the estimator has been trained before, on a region that holds this one.

    Raises TrainingError when there are too few simulations or training still diverges.
    """
    if len(draws) < 32 or draws.effective_size < 16:
        raise TrainingError(
            f"{len(draws)} simulations worth {draws.effective_size:.0f} are too few to train on; "
            f"give this stage more simulations"
        )
    loss = partial(losses, how=settings)

    def cycle(number: int, estimator: RatioEstimator, curve: Curve, peak: float, length: int) -> float:
        batches = training_and_validation(draws, settings, seed, number + CYCLES * order)
        none = torch.zeros(settings.candidates + 1, estimator.terms, 1)
        return descend(
            *(estimator, loss, batches, settings, length, peak, curve),
            acceptable=float(losses_of_factors(none, none, settings).sum()) + WORSE * estimator.terms,
            progress=progress,
            say=say,
        )

    def settled(curve: Curve, before: float) -> bool:
        return before - curve.best < settings.tolerance * candidates[0].terms

    peak = settings.warm_learning_rate if warm else settings.learning_rate
    number, length = 0, steps or FIRST_CYCLE
    curves = [Curve() for _ in candidates]
    if len(candidates) > 1:
        peaks = [
            cycle(0, estimator, curve, peak, min(length, FIRST_CYCLE))
            for estimator, curve in zip(candidates, curves, strict=True)
        ]
        best = min(range(len(curves)), key=lambda i: curves[i].best)
        estimator, curve, number = candidates[best], curves[best], 1
        if steps is None:
            if not polish and settled(curve, curve.began):
                return estimator.eval().cpu(), curve.points
            peak, length = peaks[best] * CYCLE_DECAY, 2 * FIRST_CYCLE
    else:
        (estimator,), (curve,) = candidates, curves
    while True:
        before = curve.best
        peak = cycle(number, estimator, curve, peak, length)
        if number == 0 and not polish:
            before = curve.began
        if steps or settled(curve, before) or curve.step + 2 * length > (MAX_STEPS if polish else ROUGH_STEPS):
            break
        number, length, peak = number + 1, 2 * length, peak * CYCLE_DECAY
    return estimator.eval().cpu(), curve.points
