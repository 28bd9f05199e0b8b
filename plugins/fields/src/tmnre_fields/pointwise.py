"""Functions of a field, pixel by pixel: what is observed of z is f(z).

A user's own is any callable of a tensor that returns one of the same shape, differentiable where a gradient-based
sampler is to use it.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Pointwise = Callable[[Tensor], Tensor]


def identity(z: Tensor) -> Tensor:
    """z itself: a linear model."""
    return z


def exponential(z: Tensor) -> Tensor:
    """exp(z): a log-normal field, as of densities."""
    return z.exp()


def lognormal(variance: float) -> Pointwise:
    """exp(z - variance / 2): a log-normal field of mean one, for z of that variance per pixel."""
    return lambda z: (z - variance / 2).exp()


def clipped(z: Tensor) -> Tensor:
    """max(z, 0): what is not there cannot be negative; half of a centred field's pixels say only that."""
    return z.clamp_min(0.0)


FUNCTIONS: dict[str, Pointwise] = {"identity": identity, "exponential": exponential, "clipped": clipped}
"""those that a recipe's settings can name"""
