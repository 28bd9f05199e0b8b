"""Training: a Lightning module around the ratio estimator, one-cycle schedule, early stopping, best weights kept."""

from __future__ import annotations

import copy
import logging
import math
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm

from tmnre.analysis import Training
from tmnre.draws import Draws
from tmnre.losses import contrasts, imbalance, nre_a, nre_c
from tmnre.ratio import RatioEstimator

VALIDATIONS = 50
CYCLES = 100
"""more than any training has, so that no two cycles of an ensemble see the same order of simulations"""
FIRST_CYCLE, ROUGH_STEPS, MAX_STEPS, CYCLE_DECAY = 200, 600, 6200, 0.7
"""steps of the first cycle, of all cycles without and with `polish`; factor on the peak learning rate between cycles"""


RESTARTS, SLOWER = 3, 0.1
"""how often a cycle that diverged starts again, and the factor on its peak learning rate"""
WORSE = 1.0
"""nat a ratio above the loss of a ratio of one everywhere, from which on a cycle counts as diverged"""


class TrainingError(RuntimeError):
    """Training could not start or went astray; the message says what to do."""


class _DivergedError(RuntimeError):
    """The loss is not finite, or no weights are any good."""


class _Batches(IterableDataset):
    """Endless training batches, or one fixed validation pass, of whole (x, z) batches."""

    def __init__(self, draws: Draws, rows: Tensor, batch_size: int, seed: int, *, endless: bool) -> None:
        self.draws, self.rows, self.batch_size, self.endless = draws, rows, batch_size, endless
        self.seed = seed

    def __iter__(self) -> Iterator:
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            with torch.autocast("cpu", enabled=False):
                for rows in self.draws.epoch(self.rows, self.batch_size, generator):
                    if len(rows) > 1:  # a single simulation has nothing to be contrasted with
                        yield self.draws.batch(rows, generator, redraw=self.endless)
            if not self.endless:
                return


class _Module(lightning.LightningModule):
    def __init__(self, estimator: RatioEstimator, settings: Training, learning_rate: float, steps: int) -> None:
        super().__init__()
        self.estimator, self.settings, self.learning_rate, self.steps = estimator, settings, learning_rate, steps

    def _losses(self, batch) -> Tensor:
        """Loss of each marginal (M,): all pairings within groups of K + 1 simulations."""
        x, z = batch
        return self.of_factors(*self.estimator.factors(x, z))

    def of_factors(self, a: Tensor, b: Tensor) -> Tensor:
        """The same from a and b (N, L, rank)."""
        with torch.autocast(a.device.type, enabled=False):
            group = min(self.settings.candidates + 1, len(a))
            whole = len(a) // group * group
            a, b = (v[:whole].unflatten(0, (-1, group)).permute(0, 2, 1, 3).float() for v in (a, b))
            logits = (a @ b.transpose(-1, -2)).permute(0, 2, 3, 1)  # (groups, K+1 of x, K+1 of z, M)
            joint, marginal = contrasts(logits)
            how = self.settings
            loss = nre_a(joint, marginal) if how.loss == "nre_a" else nre_c(joint, marginal, how.gamma)
            return loss + how.balance * imbalance(joint, marginal) if how.balance else loss

    def training_step(self, batch, _) -> Tensor:
        loss = self._losses(batch).sum()
        if not torch.isfinite(loss):
            raise _DivergedError(f"the loss became {loss.item()} at step {self.global_step}")
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, _) -> None:
        self.log("val_loss", self._losses(batch).sum(), batch_size=len(batch[1]))

    def on_before_optimizer_step(self, optimizer) -> None:
        # not the trainer's own clipping, which refuses fused optimisers
        torch.nn.utils.clip_grad_norm_(self.estimator.parameters(), 1.0)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(
            self.estimator.parameters(),
            lr=self.learning_rate,
            weight_decay=self.settings.weight_decay,
            fused=True,
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, self.steps, pct_start=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Patience(EarlyStopping):
    """Early stopping that waits for the second half of the schedule."""

    def on_validation_end(self, trainer, module) -> None:
        if trainer.global_step >= module.steps // 2:
            super().on_validation_end(trainer, module)


class _Progress(Callback):
    def __init__(self, bar: tqdm) -> None:
        self.bar = bar

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.bar.update()

    def on_validation_end(self, trainer, module) -> None:
        self.bar.set_postfix(val_loss=f"{trainer.callback_metrics['val_loss']:.4f}", refresh=False)


class _Curve(Callback):
    """Records losses at every validation and keeps the best weights."""

    def __init__(self) -> None:
        self.best, self.best_state, self.points = math.inf, None, []
        self.step = 0
        self._sum, self._count = 0.0, 0

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self._sum += float(outputs["loss"].detach())
        self._count += 1

    def on_validation_end(self, trainer, module) -> None:
        if trainer.sanity_checking:
            return
        value = float(trainer.callback_metrics["val_loss"])
        step = self.step + trainer.global_step
        self.points.append({"step": step, "train": self._sum / max(1, self._count), "validation": value})
        self._sum, self._count = 0.0, 0
        if value < self.best:
            self.best, self.best_state = value, copy.deepcopy(module.estimator.state_dict())


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
    `polish`, two cycles at most.

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
    rows = draws.stored.split(settings.validation_fraction, seed)
    batch_size = min(settings.batch_size, len(rows[0]))

    def cycle(number: int, estimator: RatioEstimator, curve: _Curve, peak: float, length: int) -> float:
        batches = [
            _Batches(draws, part, batch_size, seed + 2 * (number + CYCLES * order) * i + 1 - i, endless=bool(i))
            for i, part in ((1, rows[0]), (0, rows[1]))
        ]
        run = partial(_cycle, estimator, batches, settings, steps=length, curve=curve, progress=progress)
        return _converging(run, peak, estimator, curve, say)

    peak = settings.warm_learning_rate if warm else settings.learning_rate
    number, length = 0, steps or FIRST_CYCLE
    curves = [_Curve() for _ in candidates]
    if len(candidates) > 1:
        peaks = [
            cycle(0, estimator, curve, peak, min(length, FIRST_CYCLE))
            for estimator, curve in zip(candidates, curves, strict=True)
        ]
        best = min(range(len(curves)), key=lambda i: curves[i].best)
        estimator, curve, number = candidates[best], curves[best], 1
        if steps is None:
            peak, length = peaks[best] * CYCLE_DECAY, 2 * FIRST_CYCLE
    else:
        (estimator,), (curve,) = candidates, curves
    while True:
        before = curve.best
        peak = cycle(number, estimator, curve, peak, length)
        settled = before - curve.best < settings.tolerance * estimator.terms
        if steps or settled or curve.step + 2 * length > (MAX_STEPS if polish else ROUGH_STEPS):
            break
        number, length, peak = number + 1, 2 * length, peak * CYCLE_DECAY
    return estimator.eval().cpu(), curve.points


def _converging(
    cycle: Callable[[float], None],
    peak: float,
    estimator: RatioEstimator,
    curve: _Curve,
    say: Callable[[str], None],
) -> float:
    """Calls cycle(peak), again with a lower peak learning rate if it diverges; returns the peak that went well."""
    began, restarts = copy.deepcopy(estimator.state_dict()), 0
    best, points = (curve.best, curve.best_state), len(curve.points)
    while True:
        try:
            cycle(peak)
            return peak
        except _DivergedError as diverged:
            estimator.load_state_dict(began)
            curve.best, curve.best_state = best
            del curve.points[points:]
            if restarts == RESTARTS:
                raise TrainingError(
                    f"{diverged}, in {restarts + 1} attempts, the last with a peak learning rate of {peak:.1g}; "
                    f"check the simulator for extreme values"
                ) from None
            restarts, peak = restarts + 1, peak * SLOWER
            say(f"{diverged}; training starts again with a peak learning rate of {peak:.1g}")


def _cycle(
    estimator: RatioEstimator,
    batches: list[_Batches],
    settings: Training,
    peak: float,
    steps: int,
    curve: _Curve,
    progress: Callable[..., tqdm],
) -> None:
    """One cycle of the schedule; leaves the best weights of all cycles so far in the estimator."""
    module = _Module(estimator.train(), settings, peak, steps)
    with _quiet_lightning(), progress(total=steps, desc="training", unit="step") as bar:
        trainer = lightning.Trainer(
            max_steps=steps,
            max_epochs=-1,
            val_check_interval=max(1, steps // VALIDATIONS),
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            precision=settings.precision,
            accelerator=settings.accelerator,
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            # set last: each reads what the one before it has seen
            callbacks=[_Progress(bar), curve, _Patience("val_loss", patience=settings.patience)],
        )
        try:
            trainer.fit(module, *(DataLoader(part, batch_size=None) for part in batches))
        except SystemExit as stop:
            if not isinstance(stop.__context__, KeyboardInterrupt):
                raise
            # Lightning turns Ctrl-C into an exit of its own, deaf to the next one
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt from stop
    none = torch.zeros(settings.candidates + 1, estimator.terms, 1)
    if curve.best > (acceptable := float(module.of_factors(none, none).sum()) + WORSE * estimator.terms):
        raise _DivergedError(f"the validation loss never was below {acceptable:.3g}, where a useless ratio has it")
    curve.step += trainer.global_step
    estimator.load_state_dict(curve.best_state)


@contextmanager
def _quiet_lightning():
    """Lightning's banners and its advice on loader workers say nothing to a scientist; batches are made in place."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
