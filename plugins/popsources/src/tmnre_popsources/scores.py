"""Summary of count maps over bright templates: excesses over a fit of these, and the fit's norms.

Where templates change over a region by factors, histograms of counts show the templates; those of excesses over a fit
show what the fit lacks, sources.  What they blur, how photons are shared among templates, is added as one weighted
least-squares fit of the norms about the reference: to first order sufficient for them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tmnre_popsources.histograms import ZoneHistograms, excess_edges

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


class ExcessSummary:
    """{"histograms": as of `ZoneHistograms` of excesses, "norms": (N, T)} of counts (N, P).

    zones (P,); neighbours (P, 9); templates (T, P); expected (P,) counts of a reference, all above zero
    """

    def __init__(self, zones: Tensor, neighbours: Tensor, templates: np.ndarray, expected: np.ndarray) -> None:
        self.histograms = ZoneHistograms(zones, neighbours, excess_edges(), torch.from_numpy(expected))
        weighted = templates / expected
        # equal templates share what is theirs, instead of failing
        self.weights = torch.from_numpy(np.linalg.pinv(weighted @ templates.T) @ weighted).float().T

    def __call__(self, counts: Tensor) -> dict[str, Tensor]:
        return {**self.histograms(counts), "norms": counts.flatten(1).float() @ self.weights}
