"""Summary of count maps over templates: histograms, of counts or of excesses over a fit, and the fit's norms.

Where templates change over a region by factors, histograms of counts show the templates; those of excesses over a fit
show what the fit lacks, sources.  What histograms blur, how photons are shared among templates, is added as one
weighted least-squares fit of the norms about the reference: to first order sufficient for them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tmnre_popsources.histograms import ZoneHistograms

CLIP = 2.0
"""standard deviations above the reference beyond which photons are taken as a source's"""
STEPS, CHANGE = 5000, 1e-7
"""most steps of a fit, and the change of the expected counts, relative, at which it stops"""


def best_norms(counts: np.ndarray, templates: np.ndarray) -> np.ndarray:
    """Norms (T,) >= 0 of templates (T, P) that are likeliest for Poisson counts (P,), by expectation maximisation."""
    norms = np.full(len(templates), counts.sum() / templates.sum())
    sums = templates.sum(1)
    for _ in range(STEPS):
        expected = norms @ templates
        better = norms * (templates @ (counts / expected)) / sums
        done = np.abs((better - norms) * sums).max() < CHANGE * counts.sum()
        norms = better
        if done:
            break
    return norms


class FittedSummary:
    """{"histograms": as of `ZoneHistograms`, "norms": (N, 2 T)} of counts (N, P).

    Norms of counts as they are, and of counts that reach no higher than `CLIP` standard deviations above the reference:
    few bright sources then do not pass for diffuse emission.

    templates (T, P); expected (P,) counts of a reference, all above zero
    """

    def __init__(self, histograms: ZoneHistograms, templates: np.ndarray, expected: np.ndarray) -> None:
        self.histograms = histograms
        weighted = templates / expected
        # equal templates share what is theirs, instead of failing
        self.weights = torch.from_numpy(np.linalg.pinv(weighted @ templates.T) @ weighted).float().T
        self.most = torch.from_numpy(expected + CLIP * np.sqrt(expected)).float()

    def __call__(self, counts: Tensor) -> dict[str, Tensor]:
        pixels = counts.flatten(1).float()
        norms = [pixels @ self.weights, torch.minimum(pixels, self.most) @ self.weights]
        return {**self.histograms(counts), "norms": torch.cat(norms, dim=1)}
