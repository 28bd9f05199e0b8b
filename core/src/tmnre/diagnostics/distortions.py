"""Localised distortions: is the observation better described by the model with something added here (2412.15100)?

Against data x of the model, H0, stand K alternatives H_i, the same data distorted at one place, with an amplitude
drawn from N(0, a_i^2).  Each gives

    t_i(x) = -2 ln p(x | H0) / p(x | H_i)                   learned, see distortion_ratio
    p_i, one-sided, from the rank of t_i(x_o) among held-out x        local
    p_any, of the smallest p_i, by the ranks of the held-out x's own smallest    look-elsewhere effect included
    p_sum, from the rank of t_sum = sum_i t_i               many weak distortions, for which no place stands out

and the verdict is that of the smaller of p_any and p_sum, calibrated once more.  All are exact for any t whatsoever:
a badly learned ratio costs power, never validity.  Exact means: as often below any level as the level says, provided
that x_o and the x are exchangeable under H0 (prior predictive, or simulations of a region that is held to be true).
For replicates fitted to the observation p-values are conservative, as in `predictive`.

With Gaussian noise of covariance C, known up to its estimate from n simulations of B data, and distortions that add a
profile d_i, t_i is a function of the matched filter's signal-to-noise ratio d_i C^-1 x / sqrt(d_i C^-1 d_i), and for
single bins of white noise t_sum is the chi^2.  The estimate costs a fraction B / n of the squared ratio (Reed, Mallett
& Brennan 1974).  A line is therefore refused where it exceeds the largest of the K noise peaks: about 4.6 sigma for
K = 100 at the threshold, so that one of 5 sigma fails in two of three observations and one of 6.5 in 95%.

One-sided: data that are *less* noisy than the model pass here, but not `predictive`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import stats
from torch import Tensor

from tmnre.diagnostics.check import THRESHOLD, Check
from tmnre.diagnostics.distortion_ratio import Distortion, learn_ratios
from tmnre.diagnostics.shapes import shaped
from tmnre.diagnostics.smallest import calibrated, distance

FEWEST = math.ceil(2 / THRESHOLD) - 1
"""With fewer held-out simulations the smaller of two p-values, at least 2 / (n + 1) where both tie, could not fail."""
SIMULATIONS = 2 * FEWEST
"""as many again teach the ratios"""


def windows(shape: Sequence[int], width: int = 1) -> np.ndarray:
    """Top hats (K, *shape) of an odd width in bins, one about every bin, cut at the edges; K in C order."""
    if width < 1 or width % 2 == 0:
        raise ValueError(f"the width of a window about a bin must be odd and positive, got {width}")
    profiles = np.ones((1, 1))
    for length in shape:
        apart = np.abs(np.subtract.outer(np.arange(length), np.arange(length)))
        profiles = np.kron(profiles, apart <= width // 2)
    return profiles.reshape(math.prod(shape), *shape)


@dataclass(frozen=True)
class Additive:
    """One of the profiles (K, ...) added to x (n, ...): lines, bumps, any bank of templates."""

    profiles: ArrayLike

    def __len__(self) -> int:
        return len(self.profiles)

    def __call__(self, x: Tensor, which: Tensor, amplitude: Tensor, generator: torch.Generator) -> Tensor:
        return x + amplitude.view(-1, *[1] * (x.ndim - 1)) * torch.as_tensor(self.profiles, dtype=x.dtype)[which]


@dataclass(frozen=True)
class ExtraNoise:
    """White noise added to x (n, ...), its standard deviation one of the profiles (K, ...)."""

    profiles: ArrayLike

    def __len__(self) -> int:
        return len(self.profiles)

    def __call__(self, x: Tensor, which: Tensor, amplitude: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        return (
            x + amplitude.view(-1, *[1] * (x.ndim - 1)) * torch.as_tensor(self.profiles, dtype=x.dtype)[which] * noise
        )


@dataclass(frozen=True)
class Distorted:
    """The verdict; t (K,) and local p-values (K,) of every distortion at the observation, for a figure."""

    check: Check
    t: np.ndarray
    p: np.ndarray


def distortions(
    x: ArrayLike, x_o: ArrayLike, distort: Distortion, *, seed: int, name: str = "", snr: float = 3.0
) -> Distorted:
    """Whether one of K distortions, or many weak ones, describe x_o (...) better than the model of x (N, ...) does.

    Half of the simulations x teach the ratios and the other half, in an order drawn with the seed, calibrates them.
    For many observations, `learn_ratios` once and `judge` each.

    Raises ValueError for fewer than 3998 simulations.
    """
    x = np.asarray(x, dtype=np.float64)
    if len(x) < SIMULATIONS:
        raise ValueError(f"distortion tests need at least {SIMULATIONS} simulations to be able to fail, got {len(x)}")
    flat, flat_o = shaped(x=(x.reshape(len(x), -1), "N B"), x_o=(np.ravel(x_o), "B"))
    order = np.random.default_rng(seed).permutation(len(x))
    learn, held_out = np.split(order, [len(x) // 2])
    ratios = learn_ratios(flat.reshape(x.shape)[learn], distort, seed=seed, snr=snr)
    return judge(ratios(flat.reshape(x.shape)[held_out]), ratios(flat_o.reshape(1, *x.shape[1:]))[0], name=name)


def judge(t: ArrayLike, t_o: ArrayLike, *, name: str = "") -> Distorted:
    """The verdict on t_o (K,), any statistics of K distortions, among those t (n, K) of held-out simulations.

    numbers: the distortion `at` which p is smallest, its `t` and `p`, `p_any` and `p_sum`.

    Raises ValueError for fewer than 1999 simulations.
    """
    t, t_o = shaped(t=(t, "n K"), t_o=(t_o, "K"))
    if len(t) < FEWEST:
        raise ValueError(f"distortion tests need at least {FEWEST} held-out simulations, got {len(t)}")
    pool = np.column_stack([t.T, t_o])
    p, away = at_least(pool), distance(pool)
    p_any, p_sum = calibrated(p, away), at_least(pool.sum(0))
    verdict = stats.rankdata(np.minimum(p_any, p_sum), method="max") / len(p_sum)
    at = np.lexsort((-away[:, -1], p[:, -1]))[0]
    numbers = {"at": at, "t": t_o[at], "p": p[at, -1], "p_any": p_any[-1], "p_sum": p_sum[-1]}
    return Distorted(Check.of(f"distortions {name}".strip(), verdict[-1], numbers), t_o, p[:, -1])


def at_least(pool: np.ndarray) -> np.ndarray:
    """Share of values along the last axis of (..., n) that are as large as each of them."""
    return stats.rankdata(-pool, method="max", axis=-1) / pool.shape[-1]
