"""Training any network on any loss: one-cycle AdamW by Lightning, early stopping, best weights, restart on divergence.

    curve = train_network(network, loss, source, settings, steps=2000, seed=0)

A source hands out whole batches of rows: `epoch(rows, batch_size, generator)` yields row numbers (n,) and
`batch(rows, generator, redraw=...)` what they hold, any tuple of tensors and dicts of tensors, which the loss gets.
"""

from __future__ import annotations

import copy
import logging
import math
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, runtime_checkable

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm

from tmnre.analysis import Training
from tmnre.device import batches_on, require
from tmnre.machine import precision_on_this_machine

FEWEST_VALIDATIONS, MOST_VALIDATIONS, PER_PASS = 10, 50, 4
"""in a cycle, and steps to each validated batch, which costs a third of one: about a tenth of the time validates"""
RESTARTS, SLOWER = 3, 0.1
"""how often a cycle that diverged starts again, and the factor on its peak learning rate"""

PER_DEVICE = 15_485_863
"""between the seeds of the devices; a prime, and less than the 32 bits that torch keeps of a seed"""

Loss = Callable[[nn.Module, Any], Tensor]
"""(network, batch) -> scalar loss, or losses that are summed"""


class TrainingError(RuntimeError):
    """Training could not start or went astray; the message says what to do."""


class _DivergedError(RuntimeError):
    """The loss is not finite, or no weights are any good."""


class Source(Protocol):
    """Where batches come from; see `tmnre.draws.Draws`."""

    def __len__(self) -> int:
        """Number of rows."""

    def split(self, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        """Training and validation rows: a simulation is in one or the other, whatever is redrawn of it."""

    def epoch(self, rows: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Row numbers (n,) of the batches of one pass."""

    def batch(self, rows: Tensor, generator: torch.Generator, *, redraw: bool = True) -> tuple[Any, ...]:
        """What rows hold, noise (and, if asked, redrawn parameters) drawn anew."""


@runtime_checkable
class Portable(Source, Protocol):
    """A source whose batches can be made where training is."""

    def on(self, device: torch.device) -> Source:
        """This source with batches made on a device."""


class Batches(IterableDataset):
    """Endless training batches, or one fixed validation pass, which is made once and kept."""

    def __init__(self, source: Source, rows: Tensor, batch_size: int, seed: int, *, endless: bool) -> None:
        self.source, self.rows, self.batch_size, self.endless = source, rows, batch_size, endless
        self.seed = seed
        self._kept: list[tuple[int, Any]] = []

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        if self.endless:
            yield from self._made()
        else:
            self._kept = self._kept or list(self._made())
            yield from self._kept

    def _made(self) -> Iterator[tuple[int, Any]]:
        # of several devices each has its own training batches
        generator = torch.Generator().manual_seed(self.seed + (PER_DEVICE * _rank() if self.endless else 0))
        while True:
            with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
                for rows in self.source.epoch(self.rows, self.batch_size, generator):
                    if len(rows) > 1:  # a single simulation has nothing to be contrasted with
                        yield len(rows), self.source.batch(rows, generator, redraw=self.endless)
            if not self.endless:
                return


def _rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


class Curve(Callback):
    """Records losses at every validation and keeps the best weights, over all cycles it is handed to.

    The weights that training begins with are among them, though not in the record; `began` is their loss.
    """

    def __init__(self) -> None:
        self.best, self.best_state, self.points = math.inf, None, []
        self.began = math.inf
        self.step = 0
        self._sum, self._count = 0.0, 0

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self._sum += float(outputs["loss"].detach())
        self._count += 1

    def on_train_end(self, trainer, module) -> None:
        self.step += trainer.global_step

    def on_validation_end(self, trainer, module) -> None:
        value = float(trainer.callback_metrics["val_loss"])
        if trainer.sanity_checking:
            self.began = value
        else:
            step = self.step + trainer.global_step
            self.points.append({"step": step, "train": self._sum / max(1, self._count), "validation": value})
            self._sum, self._count = 0.0, 0
        if value < self.best:
            self.best, self.best_state = value, copy.deepcopy(module.network.state_dict())


def train_network(
    network: nn.Module,
    loss: Loss,
    source: Source,
    settings: Training,
    *,
    steps: int,
    seed: int,
    peak: float | None = None,
    progress: Callable[..., tqdm] = tqdm,
    say: Callable[[str], None] = print,
) -> list[dict[str, float]]:
    """Train for one cycle of `steps` and leave the best weights; returns [{"step", "train", "validation"}].

    The loss is the mean over a batch.  peak: largest learning rate; None: `settings.learning_rate`.

    Raises TrainingError when training still diverges after three restarts.
    """
    require(settings)
    curve = Curve()
    batches = training_and_validation(source, settings, seed)
    descend(network, loss, batches, settings, steps, peak or settings.learning_rate, curve, progress=progress, say=say)
    network.eval().cpu()
    return curve.points


def training_and_validation(source: Source, settings: Training, seed: int, order: int = 0) -> tuple[Batches, Batches]:
    """Endless training batches, in another order for every `order`, and a validation pass that is always the same."""
    rows, held = source.split(settings.validation_fraction, seed)
    if isinstance(source, Portable):
        source = source.on(batches_on(settings))
    batch_size = min(settings.batch_size, len(rows))
    return (
        Batches(source, rows, batch_size, seed + 2 * order, endless=True),
        Batches(source, held, batch_size, seed + 1, endless=False),
    )


def descend(
    network: nn.Module,
    loss: Loss,
    batches: tuple[Batches, Batches],
    settings: Training,
    steps: int,
    peak: float,
    curve: Curve,
    *,
    acceptable: float = math.inf,
    progress: Callable[..., tqdm] = tqdm,
    say: Callable[[str], None] = print,
) -> float:
    """One cycle of the schedule; leaves the best weights of all cycles of this curve in the network.

    A cycle that diverges (a loss that is not finite, or at its best above `acceptable`) starts again from the weights
    it began with, its peak a tenth as high.  Returns the peak learning rate that went well.
    """
    began, restarts = copy.deepcopy(network.state_dict()), 0
    kept, points = (curve.best, curve.best_state, curve.step), len(curve.points)
    while True:
        try:
            _cycle(_Module(network.train(), loss, settings, peak, steps, curve), batches, acceptable, progress)
            return peak
        except _DivergedError as diverged:
            network.load_state_dict(began)
            curve.best, curve.best_state, curve.step = kept
            del curve.points[points:]
            if restarts == RESTARTS:
                raise TrainingError(
                    f"{diverged}, in {restarts + 1} attempts, the last with a peak learning rate of {peak:.1g}; "
                    f"check the simulator for extreme values"
                ) from None
            restarts, peak = restarts + 1, peak * SLOWER
            say(f"{diverged}; training starts again with a peak learning rate of {peak:.1g}")


class _Module(lightning.LightningModule):
    def __init__(
        self, network: nn.Module, loss: Loss, settings: Training, peak: float, steps: int, curve: Curve
    ) -> None:
        super().__init__()
        self.network, self.loss, self.settings, self.peak, self.steps = network, loss, settings, peak, steps
        self.curve = curve

    def get_extra_state(self) -> dict[str, Any]:
        """The curve goes with the weights, which is what comes back from processes of other devices."""
        return {name: getattr(self.curve, name) for name in ("began", "best", "best_state", "points", "step")}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self.curve, name, value)

    def training_step(self, batch, _) -> Tensor:
        loss = self.loss(self.network, batch[1]).sum()
        if not torch.isfinite(loss):
            raise _DivergedError(f"the loss became {loss.item()} at step {self.global_step}")
        return loss

    def validation_step(self, batch, _) -> None:
        self.log("val_loss", self.loss(self.network, batch[1]).sum(), batch_size=batch[0], sync_dist=True)

    def on_before_optimizer_step(self, optimizer) -> None:
        # not the trainer's own clipping, which refuses fused optimisers
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)

    def configure_optimizers(self):
        decay = self.settings.weight_decay
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=self.peak, weight_decay=decay, fused=True)
        # a rise of a tenth, and of a step and a half at least, which the schedule's formula needs
        rise = min(max(0.1, 1.5 / self.steps), 0.75)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.peak, self.steps, pct_start=rise)
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


def _cycle(module: _Module, batches: tuple[Batches, Batches], acceptable: float, progress: Callable[..., tqdm]) -> None:
    settings, steps, curve = module.settings, module.steps, module.curve
    passes = len(batches[1].rows) / batches[1].batch_size
    with _quiet_lightning(), progress(total=steps, desc="training", unit="step") as bar:
        trainer = lightning.Trainer(
            max_steps=steps,
            max_epochs=-1,
            val_check_interval=steps_between(steps, passes),
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0 if curve.points else -1,
            precision=precision_on_this_machine(settings),
            accelerator=settings.accelerator,
            devices=settings.devices,
            strategy=settings.strategy,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            # set last: each reads what the one before it has seen
            callbacks=[_Progress(bar), curve, _Patience("val_loss", patience=settings.patience)],
        )
        try:
            trainer.fit(module, *map(partial(DataLoader, batch_size=None), batches))
        except SystemExit as stop:
            if not isinstance(stop.__context__, KeyboardInterrupt):
                raise
            # Lightning turns Ctrl-C into an exit of its own, deaf to the next one
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt from stop
    if not any(point["validation"] <= acceptable for point in curve.points):
        raise _DivergedError(f"the validation loss never was below {acceptable:.3g}, where a useless ratio has it")
    module.network.load_state_dict(curve.best_state)


def steps_between(steps: int, passes: float) -> int:
    """Steps from one validation, of so many batches, to the next in a cycle."""
    return max(1, min(steps // FEWEST_VALIDATIONS, max(steps // MOST_VALIDATIONS, round(PER_PASS * passes))))


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
