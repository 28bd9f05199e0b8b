"""Where batches are made: on the processor, or on the GPU that trains, with everything they are made from.

device = batches_on(settings)
there = moved(simulator, device)
x = there.observe(stored, theta, generator_on(device, generator))
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tmnre.analysis import Training

CPU = torch.device("cpu")
T = TypeVar("T")


def trains_on_cpu(settings: Training) -> bool:
    """Whether the settings mean the processor on this machine."""
    return settings.accelerator == "cpu" or (settings.accelerator == "auto" and not torch.accelerator.is_available())


def require(settings: Training) -> None:
    """ValueError where the settings ask for a GPU that this machine does not have."""
    if settings.accelerator == "gpu" and not torch.accelerator.is_available():
        raise ValueError(
            "training.accelerator is gpu, but PyTorch finds none on this machine; auto takes one where there is one, "
            "and cpu never does"
        )


def batches_on(settings: Training) -> torch.device:
    """The device that trains, if it is one of CUDA's; where several do, each process makes its batches on the
    processor."""
    if trains_on_cpu(settings) or settings.devices > 1 or not torch.cuda.is_available():
        return CPU
    return torch.device("cuda")


def moved(what: T, device: torch.device) -> T:
    """A deep copy of any object, with all tensors in it on a device."""
    return with_tensors(what, lambda tensor: tensor.to(device))


def with_tensors(what: T, changed: Callable[[Tensor], Tensor]) -> T:
    """A deep copy of any object, with others in place of all tensors in it."""
    with _Copies(changed):
        return copy.deepcopy(what)


class _Copies(TorchFunctionMode):
    """Under it, deep copies of tensors are what a function makes of them."""

    def __init__(self, changed: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.changed = changed

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not Tensor.__deepcopy__:
            return func(*args, **(kwargs or {}))
        tensor, memo = args
        memo[id(tensor)] = self.changed(tensor)
        return memo[id(tensor)]


def generator_on(device: torch.device, generator: torch.Generator) -> torch.Generator:
    """The generator itself if it is there; if not, a new one, seeded by it."""
    if device.type == generator.device.type:
        return generator
    seed = int(torch.randint(2**62, (1,), generator=generator))
    return torch.Generator(device).manual_seed(seed)
