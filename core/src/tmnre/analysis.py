"""One analysis, composed: simulator, observation, what to infer, and how hard to work for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import nn

    from tmnre.result import Result

Marginal = str | tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """One round of the loop: how many simulations the network sees and for how many steps it is trained."""

    simulations: int
    """simulations in the training set of this round, those reused from earlier rounds included"""
    steps: int | None = None
    """optimiser steps; None: cycles of doubling length until the validation loss stops improving"""


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
    candidates: int = 63
    """contrasts per simulation and marginal (K of NRE-C), taken within the batch"""
    validation_fraction: float = 0.1
    """share of the simulations kept for validation, chosen by simulation"""
    patience: int = 10
    """validations (50 a round) without improvement before training stops early, counted in the second half of the
    schedule: in the first the learning rate is still too high for the loss to tell"""
    tolerance: float = 0.01
    """nat a marginal; where a stage leaves its steps open, a cycle that improves the validation loss by less ends it"""
    precision: str = "32-true"
    """Lightning precision, for example bf16-mixed"""
    accelerator: str = "auto"
    """Lightning accelerator: auto, cpu, gpu"""
    threads: int | None = None
    """CPU threads of torch while training; None leaves torch's own choice"""


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


@dataclass(frozen=True)
class Analysis:
    """Everything `tmnre.run` needs.

    Attributes
    ----------
    simulator : a `Simulator`, or any object with `prior` and `simulate(theta, rng)`.
    observation : {"name": array}, one observation without batch axis, as `observe` would return it.
    marginals : names or tuples of names, of parameters or derived quantities.
    stages : the rounds, at most; see `rounds` for when fewer run.
    truncated : names of parameters and derived quantities to truncate; None: all parameters.
    embedding : called with a batch x {"name": (N, ...)}, returns an `nn.Module` x -> (N, F); None: the core's MLP.
    truth : {"name": value} where known, drawn into the figures.
    figures : called with (result, folder) after the core's own figures.
    workers : simulator processes; 1: this process; None: one per CPU.
    """

    simulator: Any
    observation: dict[str, np.ndarray]
    marginals: Sequence[Marginal]
    stages: Sequence[Stage] = (Stage(10_000),) * 5
    training: Training = field(default_factory=Training)
    truncation: Truncation = field(default_factory=Truncation)
    truncated: Sequence[str] | None = None
    embedding: Callable[..., nn.Module] | None = None
    truth: dict[str, float] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    figures: Callable[[Result, Path], None] | None = None
    seed: int = 0
    workers: int | None = 1
    chunk_size: int = 500
