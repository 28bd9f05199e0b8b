"""One analysis, composed: simulator, observation, what to infer, and how hard to work for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import nn

    from tmnre.diagnostics import Distortion
    from tmnre.region import Box
    from tmnre.result import Result

MOST = 10**9
"""simulations or steps; what asks for more has a typing error in it"""
PRECISIONS = (
    *("64-true", "32-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed", "transformer-engine"),
    *("transformer-engine-float16", "64", "32", "16", "bf16"),
)
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")

Marginal = str | tuple[str, ...]
LOSSES = ("nre_a", "nre_c")
STRATEGIES = ("ddp_fork", "ddp_notebook", "ddp_spawn")
"""those that start their processes from this one; the others run the whole program anew"""


@dataclass(frozen=True)
class Stage:
    """One round of the loop: how many simulations the network sees and for how many steps it is trained."""

    simulations: int
    """simulations in the training set of this round, those reused from earlier rounds included"""
    steps: int | None = None
    """optimiser steps; None: cycles of doubling length until the validation loss stops improving"""
    afresh: bool = False
    """start from random weights, with reduction and quantile tables fitted to this region, however little it shrank"""
    added: bool = False
    """`simulations` counts new ones only; all of earlier rounds that still count come beside them.  When the region has
    stopped shrinking, the next round makes all that these stages have left, and is the last"""
    together: bool = True
    """cut the groups of `Analysis.truncated` by their contours; False: each of their parameters alone, which costs far
    less and is enough while the region is much wider than the posterior.  The last stage has to be True"""


@dataclass(frozen=True)
class Training:
    """Optimiser and network settings; the defaults are meant to be left alone."""

    batch_size: int = 512
    """simulations per optimiser step"""
    learning_rate: float = 3e-3
    """peak of the one-cycle schedule of AdamW, in a round that starts from random weights"""
    warm_learning_rate: float = 1e-3
    """the same in a round that goes on from the last round's weights"""
    weight_decay: float = 1e-4
    """AdamW weight decay"""
    loss: str = "nre_c"
    """nre_c (contrastive, 2210.06170) or nre_a (binary classification, 1903.04057)"""
    candidates: int = 63
    """contrasts per simulation and marginal (K of NRE-C), taken within the batch"""
    gamma: float = 1.0
    """weight of the true pair against none, in NRE-C"""
    balance: float = 0.0
    """weight of the balance condition (2208.13624; 100 there): posteriors too wide rather than too narrow"""
    members: int = 1
    """networks trained from different random weights, whose log ratios are averaged"""
    validation_fraction: float = 0.1
    """share of the simulations kept for validation, chosen by simulation"""
    patience: int = 10
    """validations (50 a round) without improvement before training stops early, counted in the second half of the
    schedule: in the first the learning rate is still too high for the loss to tell"""
    tolerance: float = 0.01
    """nat a marginal; where a stage leaves its steps open, a cycle that improves the validation loss by less ends it"""
    precision: str = "32-true"
    """Lightning precision, for example bf16-mixed, for which a processor without bf16 takes 32-true"""
    accelerator: str = "auto"
    """Lightning accelerator: auto, cpu, gpu"""
    devices: int = 1
    """processors that train together, each on batches of its own: a step sees devices times batch_size simulations"""
    strategy: str = "auto"
    """Lightning strategy; for several devices ddp_fork or ddp_spawn, which start their processes from this one"""
    threads: int | None = None
    """CPU threads of torch while training; None leaves torch's own choice"""

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"training.loss must be one of {sorted(LOSSES)}, got {self.loss!r}")
        if not 1 <= self.devices <= MOST:
            raise ValueError(f"training.devices must be 1 or more, got {self.devices}")
        if self.devices > 1 and self.strategy not in STRATEGIES:
            raise ValueError(
                f"training.strategy must be one of {list(STRATEGIES)} for {self.devices} devices, got {self.strategy!r}"
            )
        if self.members < 1:
            raise ValueError(f"training.members must be at least 1, got {self.members}")
        if self.candidates < 1 or self.gamma <= 0 or self.balance < 0:
            raise ValueError(
                f"training needs candidates >= 1, gamma > 0 and balance >= 0, got {self.candidates}, {self.gamma} and "
                f"{self.balance}"
            )
        for name, good, wanted in (
            ("batch_size", 2 <= self.batch_size <= MOST, "2 or more"),
            ("learning_rate", 0 < self.learning_rate < 100, "between 0 and 100"),
            ("warm_learning_rate", 0 < self.warm_learning_rate < 100, "between 0 and 100"),
            ("weight_decay", 0 <= self.weight_decay < 100, "between 0 and 100"),
            ("validation_fraction", 0 < self.validation_fraction < 1, "between 0 and 1"),
            ("patience", self.patience >= 1, "1 or more"),
            ("tolerance", self.tolerance >= 0, "0 or more"),
            ("threads", self.threads is None or 1 <= self.threads <= 4096, "none, or between 1 and 4096"),
            ("precision", self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS[:6])}"),
            ("accelerator", self.accelerator in ACCELERATORS, f"one of {', '.join(ACCELERATORS)}"),
        ):
            if not good:
                raise ValueError(f"training.{name} must be {wanted}, got {getattr(self, name)!r}")


@dataclass(frozen=True)
class Truncation:
    """How the region shrinks from round to round."""

    epsilon: float = 1e-6
    """a parameter value stays while its ratio is above epsilon times the largest (2107.01214)"""
    padding: float = 0.02
    """the kept interval is widened by this fraction of its width on both sides"""
    stop_ratio: float = 0.7
    """the region has stopped shrinking when it keeps more than this fraction of its volume"""
    warm_start_ratio: float = 0.3
    """the network goes on from the last round's weights when the region kept more than this fraction; 1: never"""

    def __post_init__(self) -> None:
        for name, good, wanted in (
            ("epsilon", 0 < self.epsilon < 1, "between 0 and 1"),
            ("padding", 0 <= self.padding <= 1, "between 0 and 1"),
            ("stop_ratio", 0 <= self.stop_ratio <= 1, "between 0 and 1"),
            ("warm_start_ratio", 0 <= self.warm_start_ratio <= 1, "between 0 and 1"),
        ):
            if not good:
                raise ValueError(f"truncation.{name} must be {wanted}, got {getattr(self, name)!r}")


@dataclass(frozen=True)
class Analysis:
    """Everything `tmnre.run` needs.

    Attributes
    ----------
    simulator : a `Simulator`, or any object with `prior` and `simulate(theta, rng)`.
    observation : {"name": array}, one observation without batch axis, as `observe` would return it.
    marginals : names or tuples of names, of parameters or derived quantities; three names and more are learned by the
        chain rule, and come as draws of their joint posterior.
    stages : the rounds, at most; see `rounds` for when fewer run.
    truncated : names of parameters and derived quantities to truncate, and tuples of parameters to truncate together,
        by the contour of their joint ratio; None: all parameters, one by one.
    begin : the region that the first round draws from; None: the whole prior.
    embedding : called with a batch x {"name": (N, ...)}, returns an `nn.Module` x -> (N, F); None: the core's MLP.
    distortions : {"name": `diagnostics.Distortion`}: whether that array of the observation is better described by the
        model with something added; tested in rounds that polish, with 3998 simulations or more.  Of a complex array the
        distortion sees real and imaginary parts, in a last axis of two.
    truth : {"name": value} where known, drawn into the figures.
    figures : called with (result, folder) after the core's own figures.
    workers : simulator processes; 1: this process; None: one per CPU.
    shard_size : simulations of one task, and of one folder of the store.
    max_failed : share of simulations that may raise or return values that are not finite; they are replaced.
    """

    simulator: Any
    observation: dict[str, np.ndarray]
    marginals: Sequence[Marginal]
    stages: Sequence[Stage] = (Stage(10_000),) * 5
    training: Training = field(default_factory=Training)
    truncation: Truncation = field(default_factory=Truncation)
    truncated: Sequence[Marginal] | None = None
    begin: Box | None = None
    embedding: Callable[..., nn.Module] | None = None
    distortions: Mapping[str, Distortion] = field(default_factory=dict)
    truth: dict[str, float] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    figures: Callable[[Result, Path], None] | None = None
    seed: int = 0
    workers: int | None = 1
    shard_size: int = 500
    max_failed: float = 0.05
