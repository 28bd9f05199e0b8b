"""How a field's posterior holds against a known truth: by wavenumber, by brightness, and in its one-point distribution.

transfer T(k) = sqrt(P_mean / P_truth),  coherence C(k) = P_cross / sqrt(P_mean P_truth)
chi2(k) = power of truth - mean over the expected power of draw - mean, 1 where the width is right
z-score rms in quantiles of the posterior mean: not of the truth, in which even an exact posterior is off, because a
pixel whose truth is faint is one that was more often scattered down
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from tmnre_fields.sky import Sky


@dataclass(frozen=True)
class Spectra:
    """Binned spectra (B,) of one component, and of its draws (S, B)."""

    k: np.ndarray
    mean: np.ndarray
    draws: np.ndarray
    truth: np.ndarray | None
    chi2: np.ndarray | None
    transfer: np.ndarray | None
    coherence: np.ndarray | None
    transfer_draws: np.ndarray
    """(S, B): each draw in the truth's place"""
    coherence_draws: np.ndarray


def spectra(sky: Sky, mean: Tensor, draws: Tensor, truth: Tensor | None = None) -> Spectra:
    """Of modes mean (*mode_shape), draws (S, *mode_shape) and truth (*mode_shape)."""
    p_mean, p_draws = sky.binned(mean), sky.binned(draws)
    crossed = sky.binned(draws, mean.expand_as(draws))
    spread = sky.binned(draws - mean).mean(0)
    parts = dict(truth=None, chi2=None, transfer=None, coherence=None)
    if truth is not None:
        p_truth = sky.binned(truth)
        parts = {
            "truth": p_truth.numpy(),
            "chi2": (sky.binned(truth - mean) / spread).numpy(),
            "transfer": (p_mean / p_truth).sqrt().numpy(),
            "coherence": (sky.binned(truth, mean) / (p_mean * p_truth).sqrt()).numpy(),
        }
    return Spectra(
        k=sky.bin_centres.numpy(),
        mean=p_mean.numpy(),
        draws=p_draws.numpy(),
        transfer_draws=(p_mean / p_draws).sqrt().numpy(),
        coherence_draws=(crossed / (p_mean * p_draws).sqrt()).numpy(),
        **parts,
    )


def by_brightness(
    mean: np.ndarray, sd: np.ndarray, truth: np.ndarray, quantiles: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """z-score rms and mean z-score (quantiles,) in equal groups of pixels by posterior mean; any shape of maps."""
    z = ((truth - mean) / sd).ravel()
    groups = np.array_split(np.argsort(mean.ravel()), quantiles)
    return np.array([np.sqrt(np.mean(z[g] ** 2)) for g in groups]), np.array([z[g].mean() for g in groups])
