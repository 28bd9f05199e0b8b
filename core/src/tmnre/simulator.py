"""What a simulator is to the core: a costly part that is stored and a cheap part that is drawn anew.

    simulate(theta, rng) -> stored            costly, numpy, runs in worker processes, once per simulation
    observe(stored, theta, generator) -> x    cheap, batched torch, runs at every use while training

`observe` adds the noise.  Parameters named in `redrawn` do not enter `simulate`; they are drawn anew from the
region at every use, so that one costly simulation serves many (distance, sky position, ...).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tmnre.prior import Prior

Arrays = dict[str, np.ndarray]
Tensors = dict[str, Tensor]


class Simulator:
    """Base class of simulators.  A subclass sets `prior` and writes `simulate`; the rest is optional.

    Attributes
    ----------
    prior : the `Prior` of all D parameters; columns of every `theta` follow `prior.names`.
    redrawn : names of parameters that only `observe` (and `derive`) use.
    derived : names of the quantities `derive` returns; they can be targets and can be truncated.
    derive_from : names of the stored arrays that `derive` reads, where that spares copies of large ones; None: all.
    constraints : bounds on derived quantities that belong to the prior, {name: (low, high)}.
    any_device : whether `observe` and `derive` also work on a GPU: torch throughout, new tensors on `theta.device`.
        Where not, training on a GPU gets its batches from the processor.
    """

    prior: Prior
    redrawn: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()
    derive_from: tuple[str, ...] | None = None
    constraints: dict[str, tuple[float, float]] = {}
    any_device: bool = False

    @property
    def redraws_noise(self) -> bool:
        """Whether `observe` is the simulator's own, so that data differ from use to use."""
        return getattr(self.observe, "__func__", None) is not Simulator.observe

    def simulate(self, theta: np.ndarray, rng: np.random.Generator) -> Arrays:
        """Costly part: theta (N, D) float64 -> {"name": (N, ...)}; row i depends on row i of theta only."""
        raise NotImplementedError(f"{type(self).__name__} has no simulate(theta, rng)")

    def observe(self, stored: Tensors, theta: Tensor, generator: torch.Generator) -> Tensors:
        """Data x from stored simulations (N, ...) and theta (N, D) float64; here: the stored arrays as they are."""
        return stored

    def derive(self, theta: Tensor, stored: Tensors | None = None) -> Tensors:
        """Derived quantities {"name": (N,)} for theta (N, D), float64.

        With stored=None only those that follow from the simulated (not redrawn) parameters alone; they are
        used to turn proposals down before anything is simulated.
        """
        return {}

    def fit_reduction(self, stored: Tensors, theta: Tensor) -> Tensors:
        """Arrays of a smaller form of the data fitted to this region's simulations; here: none.

        For example a basis that spans the region's signals: with it, signals and noise are drawn in the basis.
        """
        return {}

    def reduced(self, reduction: Tensors) -> Simulator:
        """The simulator whose `observe` returns the smaller form; here: itself."""
        return self

    def reduce(self, x: Tensors) -> Tensors:
        """Full data in the smaller form that `observe` of this (reduced) simulator returns; here: as it is."""
        return x


class _Adopted(Simulator):
    """A user's plain object with `prior` and `simulate`, and any of the optional methods."""

    def __init__(self, plain: Any) -> None:
        self._plain = plain
        for name in (
            *("prior", "simulate", "observe", "derive", "fit_reduction", "reduced", "reduce"),
            *("redrawn", "derived", "derive_from", "constraints", "any_device"),
        ):
            if hasattr(plain, name):
                setattr(self, name, getattr(plain, name))


def adopt(simulator: Any) -> Simulator:
    """A `Simulator` from anything that has `prior` and `simulate(theta, rng)`.

    Raises TypeError if one of the two is missing or of the wrong kind.
    """
    if isinstance(simulator, Simulator):
        adopted: Simulator = simulator
    elif callable(getattr(simulator, "simulate", None)):
        adopted = _Adopted(simulator)
    else:
        raise TypeError(
            f"a simulator needs a method simulate(theta, rng) -> dict of arrays; {type(simulator).__name__} has none"
        )
    if not isinstance(getattr(adopted, "prior", None), Prior):
        raise TypeError(
            f"a simulator needs an attribute `prior` that is a tmnre.Prior, "
            f"{type(simulator).__name__} has {type(getattr(adopted, 'prior', None)).__name__}"
        )
    unknown = [name for name in adopted.redrawn if name not in adopted.prior.names]
    if unknown:
        raise TypeError(f"redrawn names {unknown} are not parameters of the prior {list(adopted.prior.names)}")
    missing = [name for name in adopted.constraints if name not in adopted.derived]
    if missing:
        raise TypeError(f"constraints on {missing}, but `derived` names only {list(adopted.derived)}")
    return adopted


def as_tensors(arrays: Arrays | Tensors, *, batched: bool = False) -> Tensors:
    """Arrays as float32, complex64 or integer tensors; `batched` adds a leading axis of length one."""
    tensors = {}
    for name, array in arrays.items():
        tensor = torch.as_tensor(array)
        if tensor.dtype == torch.float64:
            tensor = tensor.float()
        elif tensor.dtype == torch.complex128:
            tensor = tensor.to(torch.complex64)
        tensors[name] = tensor[None] if batched else tensor
    return tensors
