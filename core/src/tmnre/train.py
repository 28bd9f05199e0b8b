"""Training: a Lightning module around the ratio estimator, one-cycle schedule, early stopping, best weights kept."""

from __future__ import annotations

import copy
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm

from tmnre.analysis import Training
from tmnre.draws import Draws
from tmnre.losses import contrasts, nre_c
from tmnre.ratio import RatioEstimator

VALIDATIONS = 50


class TrainingError(RuntimeError):
    """Training could not start or went astray; the message says what to do."""


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
                    # the last batch of a pass may be small: contrasts would be few and noisy
                    if len(rows) == min(self.batch_size, len(self.rows)) or not self.endless:
                        yield self.draws.batch(rows, generator, redraw=self.endless)
                    elif len(rows) >= self.batch_size // 2:
                        yield self.draws.batch(rows, generator)
            if not self.endless:
                return


class _Module(lightning.LightningModule):
    def __init__(self, estimator: RatioEstimator, settings: Training, steps: int) -> None:
        super().__init__()
        self.estimator, self.settings, self.steps = estimator, settings, steps

    def _losses(self, batch) -> Tensor:
        """Loss of each marginal (M,): all pairings within groups of K + 1 simulations."""
        x, z = batch
        a, b = self.estimator.of_x(x), self.estimator.of_z(z)
        with torch.autocast(a.device.type, enabled=False):
            group = min(self.settings.candidates + 1, len(a))
            whole = len(a) // group * group
            a, b = (v[:whole].unflatten(0, (-1, group)).permute(0, 2, 1, 3).float() for v in (a, b))
            logits = (a @ b.transpose(-1, -2)).permute(0, 2, 3, 1)  # (groups, K+1 of x, K+1 of z, M)
            joint, marginal = contrasts(logits)
            return nre_c(joint, marginal)

    def training_step(self, batch, _) -> Tensor:
        loss = self._losses(batch).sum()
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss.item()} at step {self.global_step}; "
                f"check the simulator for extreme values or lower training.learning_rate"
            )
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
            lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
            fused=True,
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.settings.learning_rate, self.steps, pct_start=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Progress(Callback):
    def __init__(self, steps: int, progress: Callable[..., tqdm]) -> None:
        self.bar = progress(total=steps, desc="training", unit="step")

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.bar.update()

    def on_validation_end(self, trainer, module) -> None:
        self.bar.set_postfix(val_loss=f"{trainer.callback_metrics['val_loss']:.4f}")

    def teardown(self, trainer, module, stage) -> None:
        self.bar.close()


class _Curve(Callback):
    """Records losses at every validation and keeps the best weights."""

    def __init__(self) -> None:
        self.best, self.best_state, self.points = math.inf, None, []
        self._sum, self._count = 0.0, 0

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self._sum += float(outputs["loss"].detach())
        self._count += 1

    def on_validation_end(self, trainer, module) -> None:
        if trainer.sanity_checking:
            return
        value = float(trainer.callback_metrics["val_loss"])
        self.points.append({"step": trainer.global_step, "train": self._sum / max(1, self._count), "validation": value})
        self._sum, self._count = 0.0, 0
        if value < self.best:
            self.best, self.best_state = value, copy.deepcopy(module.estimator.state_dict())


def split(n: int, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Training and validation rows: a simulation is in one or the other, whatever is redrawn of it."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    held = max(1, round(fraction * n))
    return order[held:], order[:held]


def fit(
    estimator: RatioEstimator,
    draws: Draws,
    settings: Training,
    *,
    steps: int | None,
    seed: int,
    progress: Callable[..., tqdm] = tqdm,
) -> list[dict[str, float]]:
    """Train the estimator in place and return the curve, [{"step", "train", "validation"}]; the best weights are kept.

    Raises TrainingError when there are too few simulations or the loss is not finite.
    """
    if len(draws) < 32 or draws.effective_size < 16:
        raise TrainingError(
            f"{len(draws)} simulations worth {draws.effective_size:.0f} are too few to train on; "
            f"give this stage more simulations"
        )
    train_rows, validation_rows = split(len(draws), settings.validation_fraction, seed)
    batch_size = min(settings.batch_size, len(train_rows))
    per_epoch = max(1, len(train_rows) // batch_size)
    steps = steps or min(20_000, 40 * per_epoch)
    curve = _Curve()
    module = _Module(estimator, settings, steps)
    loaders = (
        DataLoader(_Batches(draws, rows, batch_size, seed + i, endless=i == 0), batch_size=None)
        for i, rows in enumerate((train_rows, validation_rows))
    )
    with _quiet_lightning():
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
            callbacks=[_Progress(steps, progress), curve, EarlyStopping("val_loss", patience=settings.patience)],
        )
        trainer.fit(module, *loaders)
    if curve.best_state is not None:
        estimator.load_state_dict(curve.best_state)
    estimator.eval().cpu()
    return curve.points


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
