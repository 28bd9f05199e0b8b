"""How a network's logits are read: as one classifier, for one subhalo at most; see `occupancy` for several."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tmnre_lensing.subhalo import verdict
from tmnre_lensing.subhalo.bins import Bins
from tmnre_lensing.subhalo.network import SubhaloNet, cross_entropy

CRITERION = "log10_bayes_factor > 1"


class Reading(Protocol):
    """Network, loss, log ratios, and what follows from them."""

    network: type[SubhaloNet]

    def loss(self, network: SubhaloNet, batch: tuple[dict[str, Tensor], Tensor]) -> Tensor:
        """Of images and the bins (n, most) that hold their subhaloes."""

    def log_ratio(self, network: SubhaloNet, x: dict[str, Tensor]) -> Tensor:
        """Log ratio (N, K) of every bin."""

    def maps(self, log_r: Tensor, bins: Bins) -> np.ndarray:
        """Probability (masses, ny, nx) of a subhalo in every bin, of one image's log_r (K,)."""

    def verdict(self, log_r: Tensor, bins: Bins) -> dict[str, Any]:
        """Of one image, in what JSON knows."""

    def title(self, found: dict[str, Any]) -> str:
        """The verdict in a line."""

    def draws(self, log_r: Tensor, bins: Bins, n: int, seed: int) -> list[np.ndarray]:
        """x, y in arcsec and log10 M200 (n, 3) of each subhalo that is more likely there than not."""

    def measure(self, log_r: Tensor, subhaloes: np.ndarray, bins: Bins) -> dict[str, Any]:
        """Reliability, false alarms and shares found, on mocks (N, K) with these subhaloes (N, most, 3)."""


class One:
    """All bins and "none" exclude each other."""

    network = SubhaloNet
    loss = staticmethod(cross_entropy)

    def log_ratio(self, network: SubhaloNet, x: dict[str, Tensor]) -> Tensor:
        """Normalised, (N, K)."""
        return network.log_ratio(x)

    def maps(self, log_r: Tensor, bins: Bins) -> np.ndarray:
        """Posterior probabilities."""
        return bins.maps(verdict.posterior(log_r[None], bins))[0].numpy()

    def verdict(self, log_r: Tensor, bins: Bins) -> dict[str, Any]:
        """See `verdict.verdict`."""
        return verdict.verdict(log_r, bins)

    def title(self, found: dict[str, Any]) -> str:
        """Probability and Bayes factor."""
        return f"subhalo: P = {found['p_subhalo']:.3f}, log$_{{10}}$ B = {found['log10_bayes_factor']:.1f}"

    def draws(self, log_r: Tensor, bins: Bins, n: int, seed: int) -> list[np.ndarray]:
        """Of the subhalo, if it is more likely than none."""
        there = 1 - float(verdict.posterior(log_r[None], bins)[0, 0]) > 0.5
        return [verdict.draws(log_r, bins, n, seed)] if there else []

    def measure(self, log_r: Tensor, subhaloes: np.ndarray, bins: Bins) -> dict[str, Any]:
        """By the probability of a subhalo and the Bayes factor."""
        number, mass = bins.number(subhaloes)[:, 0], subhaloes[:, 0, 2]
        there = number > 0
        p = 1 - verdict.posterior(log_r, bins)[:, 0].numpy()
        bayes = verdict.log10_bayes_factor(log_r, bins).numpy()
        log_loss = -(log_r + bins.log_prior)[torch.arange(len(log_r)), torch.from_numpy(number)].mean()
        return {
            "mocks": len(log_r),
            "log_loss": float(log_loss),
            "reliability": verdict.reliability(p, there),
            "criterion": CRITERION,
            "false_alarms": {f"log10_bayes_factor > {b}": float((bayes[~there] > b).mean()) for b in (0.5, 1, 2)},
            "found": verdict.shares(bayes > 1, mass, there, bins),
        }
