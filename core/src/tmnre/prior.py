"""Named one-dimensional distributions and their product over the unit cube.

Each distribution is a pair of monotone maps: `quantile(u)` from [0, 1] to the parameter, `cdf(theta)` back.
Everything else in the core works with u, in which the prior is uniform: truncating to [a, b] means u in [cdf(a),
cdf(b)], exactly, for every distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import overload

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import special
from torch import Tensor


class Distribution:
    """A one-dimensional prior given by its quantile function and cumulative distribution, both vectorised."""

    def quantile(self, u: np.ndarray) -> np.ndarray:
        """Parameter value at cumulative probability u in [0, 1]."""
        raise NotImplementedError

    def cdf(self, theta: np.ndarray) -> np.ndarray:
        """Cumulative probability of theta; 0 below and 1 above the support."""
        raise NotImplementedError

    @property
    def support(self) -> tuple[float, float]:
        """Quantiles at 0 and 1."""
        low, high = self.quantile(np.array([0.0, 1.0]))
        return float(low), float(high)


def _require(condition: bool | np.bool_, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True)
class Uniform(Distribution):
    """Flat between `low` and `high`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _require(
            np.isfinite([self.low, self.high]).all() and self.low < self.high,
            f"Uniform needs finite low < high, got low={self.low}, high={self.high}",
        )

    def quantile(self, u: np.ndarray) -> np.ndarray:
        return self.low + (self.high - self.low) * u

    def cdf(self, theta: np.ndarray) -> np.ndarray:
        return np.clip((theta - self.low) / (self.high - self.low), 0.0, 1.0)


@dataclass(frozen=True)
class PowerLaw(Distribution):
    """Density proportional to theta**alpha between `low` > 0 and `high`; alpha = -1 is log-uniform."""

    alpha: float
    low: float
    high: float

    def __post_init__(self) -> None:
        _require(0 <= self.low < self.high, f"PowerLaw needs 0 <= low < high, got low={self.low}, high={self.high}")
        _require(
            self.low > 0 or self.alpha > -1,
            f"PowerLaw with alpha={self.alpha} <= -1 cannot be normalised down to low=0; give low > 0",
        )

    def quantile(self, u: np.ndarray) -> np.ndarray:
        n = self.alpha + 1
        if n == 0:
            return self.low * (self.high / self.low) ** u
        return (self.low**n + (self.high**n - self.low**n) * u) ** (1 / n)

    def cdf(self, theta: np.ndarray) -> np.ndarray:
        theta = np.clip(theta, self.low, self.high)
        n = self.alpha + 1
        if n == 0:
            return np.log(theta / self.low) / np.log(self.high / self.low)
        return (theta**n - self.low**n) / (self.high**n - self.low**n)


def LogUniform(low: float, high: float) -> PowerLaw:  # noqa: N802 - reads as a distribution
    """Flat in the logarithm between `low` > 0 and `high`."""
    return PowerLaw(-1.0, low, high)


@dataclass(frozen=True)
class Normal(Distribution):
    """Gaussian with mean `loc` and standard deviation `scale`.

    The unit cube is closed, so u is kept within [1e-16, 1 - 1e-16], or 8.2 standard deviations.
    """

    loc: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        _require(
            np.isfinite([self.loc, self.scale]).all() and self.scale > 0,
            f"Normal needs a finite loc and scale > 0, got loc={self.loc}, scale={self.scale}",
        )

    def quantile(self, u: np.ndarray) -> np.ndarray:
        return self.loc + self.scale * special.ndtri(np.clip(u, 1e-16, 1 - 1.2e-16))

    def cdf(self, theta: np.ndarray) -> np.ndarray:
        return special.ndtr((theta - self.loc) / self.scale)


@dataclass(frozen=True)
class Truncated(Distribution):
    """`base` restricted to [low, high], renormalised exactly through its cumulative distribution."""

    base: Distribution
    low: float = -np.inf
    high: float = np.inf

    def __post_init__(self) -> None:
        a, b = self._edges
        _require(a < b, f"Truncated({self.base}) is empty between low={self.low} and high={self.high}")

    @property
    def _edges(self) -> tuple[float, float]:
        a, b = self.base.cdf(np.array([self.low, self.high]))
        return float(a), float(b)

    def quantile(self, u: np.ndarray) -> np.ndarray:
        a, b = self._edges
        return np.clip(self.base.quantile(a + (b - a) * u), self.low, self.high)

    def cdf(self, theta: np.ndarray) -> np.ndarray:
        a, b = self._edges
        return np.clip((self.base.cdf(theta) - a) / (b - a), 0.0, 1.0)


@dataclass(frozen=True)
class Sine(Distribution):
    """Density proportional to sin(theta): a polar angle of an isotropic direction, by default over [0, pi]."""

    low: float = 0.0
    high: float = np.pi

    def __post_init__(self) -> None:
        _require(0 <= self.low < self.high <= np.pi, f"Sine needs 0 <= low < high <= pi, got {self.low}, {self.high}")

    def quantile(self, u: np.ndarray) -> np.ndarray:
        a, b = np.cos(self.low), np.cos(self.high)
        return np.arccos(np.clip(a + (b - a) * u, -1.0, 1.0))

    def cdf(self, theta: np.ndarray) -> np.ndarray:
        a, b = np.cos(self.low), np.cos(self.high)
        return (np.cos(np.clip(theta, self.low, self.high)) - a) / (b - a)


@dataclass(frozen=True)
class Cosine(Distribution):
    """Density proportional to cos(theta): a latitude of an isotropic direction, by default over [-pi/2, pi/2]."""

    low: float = -np.pi / 2
    high: float = np.pi / 2

    def __post_init__(self) -> None:
        _require(
            -np.pi / 2 <= self.low < self.high <= np.pi / 2,
            f"Cosine needs -pi/2 <= low < high <= pi/2, got {self.low}, {self.high}",
        )

    def quantile(self, u: np.ndarray) -> np.ndarray:
        a, b = np.sin(self.low), np.sin(self.high)
        return np.arcsin(np.clip(a + (b - a) * u, -1.0, 1.0))

    def cdf(self, theta: np.ndarray) -> np.ndarray:
        a, b = np.sin(self.low), np.sin(self.high)
        return (np.sin(np.clip(theta, self.low, self.high)) - a) / (b - a)


@dataclass(frozen=True)
class Quantile(Distribution):
    """Any distribution, from its vectorised quantile function and cumulative distribution.

    Checked on construction: the two must invert each other at 33 points to 1e-6 in u.
    """

    quantile_function: Callable[[np.ndarray], np.ndarray]
    cdf_function: Callable[[np.ndarray], np.ndarray]

    def __post_init__(self) -> None:
        u = np.linspace(0.01, 0.99, 33)
        error = np.max(np.abs(self.cdf(self.quantile(u)) - u))
        _require(
            bool(error < 1e-6),
            f"cdf(quantile(u)) differs from u by up to {error:.2g}: the two functions are not each other's inverse",
        )

    def quantile(self, u: np.ndarray) -> np.ndarray:
        return np.asarray(self.quantile_function(u), dtype=float)

    def cdf(self, theta: np.ndarray) -> np.ndarray:
        return np.asarray(self.cdf_function(theta), dtype=float)


class Prior(Mapping[str, Distribution]):
    """Product of named distributions; maps the unit cube [0, 1]^D to parameters and back.

    >>> prior = Prior(a=Uniform(-1, 1), b=Normal(0, 1))
    >>> prior.names
    ('a', 'b')
    >>> prior.from_cube([[0.25, 0.5]])
    array([[-0.5,  0. ]])
    """

    def __init__(self, distributions: Mapping[str, Distribution] | None = None, /, **named: Distribution) -> None:
        self._distributions = {**(distributions or {}), **named}
        if not self._distributions:
            raise ValueError("Prior needs at least one named distribution, for example Prior(a=Uniform(0, 1))")
        for name, distribution in self._distributions.items():
            if not isinstance(distribution, Distribution):
                raise TypeError(f"prior of {name!r} must be a tmnre distribution, got {type(distribution).__name__}")

    def __getitem__(self, name: str) -> Distribution:
        return self._distributions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._distributions)

    def __len__(self) -> int:
        return len(self._distributions)

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names, in the order of the columns of theta and u."""
        return tuple(self._distributions)

    def columns(self, names: Iterable[str]) -> list[int]:
        """Column of each name."""
        return [self.names.index(name) for name in names]

    def _checked(self, values: np.ndarray) -> np.ndarray:
        if values.ndim == 0 or values.shape[-1] != len(self):
            raise ValueError(f"expected shape (..., {len(self)}) for {self.names}, got {values.shape}")
        return values

    @overload
    def from_cube(self, u: Tensor) -> Tensor: ...
    @overload
    def from_cube(self, u: ArrayLike) -> np.ndarray: ...
    def from_cube(self, u: ArrayLike | Tensor) -> np.ndarray | Tensor:
        """theta (..., D) float64 from u (..., D); torch in, torch out (on the same device)."""
        if isinstance(u, Tensor):
            return torch.from_numpy(self.from_cube(u.detach().cpu().double().numpy())).to(u.device)
        u = self._checked(np.asarray(u, dtype=float))
        return np.stack([d.quantile(u[..., i]) for i, d in enumerate(self.values())], axis=-1)

    @overload
    def to_cube(self, theta: Tensor) -> Tensor: ...
    @overload
    def to_cube(self, theta: ArrayLike) -> np.ndarray: ...
    def to_cube(self, theta: ArrayLike | Tensor) -> np.ndarray | Tensor:
        """u (..., D) float64 from theta (..., D); torch in, torch out (on the same device)."""
        if isinstance(theta, Tensor):
            return torch.from_numpy(self.to_cube(theta.detach().cpu().double().numpy())).to(theta.device)
        theta = self._checked(np.asarray(theta, dtype=float))
        return np.stack([d.cdf(theta[..., i]) for i, d in enumerate(self.values())], axis=-1)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """theta (n, D) drawn from the prior."""
        return self.from_cube(rng.random((n, len(self))))
