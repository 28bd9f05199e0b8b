"""Summary of count maps over templates: histograms, of counts or of excesses over a fit, and the fit's norms.

Where templates change over a region by factors, histograms of counts show the templates; those of excesses over a fit
show what the fit lacks, sources.  What histograms blur, how photons are shared among templates, is added as one
weighted least-squares fit of the norms about the reference: to first order sufficient for them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tmnre_popsources.histograms import ZoneHistograms

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
    """{"histograms": as of `ZoneHistograms`, "norms": (N, T)} of counts (N, P).

    templates (T, P); expected (P,) counts of a reference, all above zero

    clip : counts enter the fit as if they reached no higher than so many standard deviations above the reference: where
        sources are a thousand times as bright as a pixel's diffuse emission, the fit would follow them, by amounts so
        large that a network learns nothing from it.  None: counts as they are
    parents : groupings (P,) of pixels into coarser ones; {"coarse": (N, len(parents))}, ln of the standard deviation of
        their counts over the fit's, tell how far templates are off
    """

    def __init__(
        self,
        histograms: ZoneHistograms,
        templates: np.ndarray,
        expected: np.ndarray,
        clip: float | None = None,
        parents: Sequence[np.ndarray] = (),
    ) -> None:
        self.histograms = histograms
        self.templates = torch.from_numpy(templates).float()
        self.parents = [torch.from_numpy(np.unique(parent, return_inverse=True)[1]) for parent in parents]
        weighted = templates / expected
        # equal templates share what is theirs, instead of failing
        self.weights = torch.from_numpy(np.linalg.pinv(weighted @ templates.T) @ weighted).float().T
        self.most = None if clip is None else torch.from_numpy(expected + clip * np.sqrt(expected)).float()

    def __call__(self, counts: Tensor) -> dict[str, Tensor]:
        pixels = counts.flatten(1).float()
        fitted = pixels if self.most is None else torch.minimum(pixels, self.most)
        norms = fitted @ self.weights
        found = {**self.histograms(counts), "norms": norms}
        if self.parents:
            model = (norms @ self.templates).clamp(min=1e-3)
            found["coarse"] = torch.stack([_scatter(fitted, model, parent) for parent in self.parents], dim=1)
        return found


def _scatter(counts: Tensor, model: Tensor, parent: Tensor) -> Tensor:
    """ln of the standard deviation (N,) of counts over a model in coarse pixels, weighted by the model."""
    n, m = (q.new_zeros(len(q), int(parent.max()) + 1).index_add_(1, parent, q) for q in (counts, model))
    ratio = n / m
    mean = (m * ratio).sum(1, keepdim=True) / m.sum(1, keepdim=True)
    return ((m * (ratio - mean).square()).sum(1) / m.sum(1)).clamp(min=1e-8).log() / 2
