"""Several subhaloes: the probability of every bin that it holds one, whatever the others hold.

To first order images of several subhaloes add up, so they are found one after the other: the one classifier's posterior
q_k of the linear answer says where the first is, the image that it expects is taken away, and what is left is asked for
the next.  The sum of these posteriors is where the network starts.  What the linear answer gets wrong, above all that a
strong subhalo leaves something behind that looks like another, a U-Net learns: by a factor on the log odds and a shift,
for every bin.  The loss is the sum of all bins' binary cross entropies, which is least for the true probabilities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tmnre_lensing.optics import Grid
from tmnre_lensing.subhalo import verdict
from tmnre_lensing.subhalo.bins import Bins
from tmnre_lensing.subhalo.network import SubhaloNet

LEAST, LIKELY = 0.05, 0.5
"""probabilities from which a place is a candidate, and counts as found"""
CRITERION = f"probability > {LIKELY}"
SURE = 20.0
"""log odds beyond which the start is not believed"""


class OccupancyNet(SubhaloNet):
    """Log odds (N, K - 1) of images {"image": (N, ny, nx)} that a bin holds a subhalo."""

    outputs = 2

    def _inputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Channels of the U-Net, and the log odds (N, masses, ny, nx) to start from."""
        maps, linear = super()._inputs(images)
        with torch.no_grad():
            residual, held = self.whitened(images).float() - self.cleaning.mean, torch.zeros_like(linear).flatten(1)
            log_prior = math.log(self.bins.p_each / (len(self.bins) - 1)), math.log(1 - self.bins.p_each)
            for number in range(self.bins.most):
                log_r = linear.flatten(1) if number == 0 else self.filters(residual) - 0.5 * self.filters.squared_snr
                logits = F.pad(log_r + log_prior[0], (1, 0), value=log_prior[1])
                q = torch.softmax(logits, dim=1)[:, 1:]
                held += q
                residual = residual - self.cleaning.undo(self.filters.expected(q))
            start = torch.logit(held.clamp(0, 1), eps=1e-9).clamp(-SURE, SURE)
        return torch.cat([maps, self.image_of(residual), self.bins.maps(start) / SURE], dim=1), self.bins.maps(start)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        maps, start = self._inputs(x["image"])
        shift, scale = self.unet({"maps": maps}).chunk(2, dim=1)
        return (start * torch.exp(scale) + shift).flatten(1)


@dataclass(frozen=True)
class Several:
    """A reading (`reading.Reading`) as occupancies; candidates are what lies in one window."""

    window_arcsec: float
    network = OccupancyNet

    def _side(self, bins: Bins) -> int:
        """Pixels along the window's side, odd and no more than the map holds."""
        half = round(self.window_arcsec / bins.grid.pixel_arcsec) // 2
        return 2 * min(half, (min(bins.grid.shape) - 1) // 2) + 1

    def loss(self, network: SubhaloNet, batch: tuple[dict[str, Tensor], Tensor]) -> Tensor:
        """Binary cross entropies of all bins, summed, of images and the bins (n, most) that hold subhaloes."""
        x, number = batch
        odds = network(x)
        held = odds.new_zeros(len(odds), len(network.bins)).scatter(1, number, 1.0)[:, 1:]
        return F.binary_cross_entropy_with_logits(odds, held, reduction="none").sum(1).mean()

    def log_ratio(self, network: SubhaloNet, x: dict[str, Tensor]) -> Tensor:
        """log of posterior over prior probability (N, K - 1)."""
        return F.logsigmoid(network(x)) - math.log(network.bins.p_occupied)

    def maps(self, log_r: Tensor, bins: Bins) -> np.ndarray:
        """P (masses, ny, nx)."""
        return bins.maps(log_r[None].exp() * bins.p_occupied)[0].numpy()

    def verdict(self, log_r: Tensor, bins: Bins) -> dict[str, Any]:
        """How many are expected, and candidates, the likeliest first, with position and mass of each."""
        maps = self.maps(log_r, bins)
        return {
            "expected_subhaloes": float(maps.sum()),
            "log10_m200_bins": bins.edges.tolist(),
            "candidates": [_described(candidate, bins) for candidate in self.candidates(maps, bins)],
        }

    def candidates(self, maps: np.ndarray, bins: Bins) -> list[np.ndarray]:
        """Parts (masses, ny, nx) of maps, each in one window about the likeliest place that is left."""
        left, half, found = maps.copy(), self._side(bins) // 2, []
        for _ in range(2 * bins.most):
            flat = torch.from_numpy(left.sum(0))[None, None]
            near = F.avg_pool2d(flat, 2 * half + 1, stride=1, padding=half, divisor_override=1)[0, 0]
            if float(near.max()) < LEAST:
                break
            # of places that see the same the one with the most of it
            row, column = divmod(int((near + 1e-3 * flat[0, 0]).argmax()), bins.grid.nx)
            window = np.s_[:, max(0, row - half) : row + half + 1, max(0, column - half) : column + half + 1]
            part = np.zeros_like(left)
            part[window], left[window] = left[window], 0.0
            found.append(part)
        return sorted(found, key=lambda part: -part.sum())

    def title(self, found: dict[str, Any]) -> str:
        """How many are expected, and how likely the candidates are."""
        each = ", ".join(f"{candidate['probability']:.2f}" for candidate in found["candidates"][:4])
        return f"{found['expected_subhaloes']:.1f} subhaloes expected; P = {each or 'none'}"

    def draws(self, log_r: Tensor, bins: Bins, n: int, seed: int) -> list[np.ndarray]:
        """Of every candidate more likely there than not, as many as an image may hold."""
        parts = [part for part in self.candidates(self.maps(log_r, bins), bins) if part.sum() > LIKELY]
        return [verdict.draws_of(part.ravel(), bins, n, seed + i) for i, part in enumerate(parts[: bins.most])]

    def measure(self, log_r: Tensor, subhaloes: np.ndarray, bins: Bins) -> dict[str, Any]:
        """Candidates of mocks beside what is there: each subhalo in a candidate's window is found by one of them."""
        number = bins.number(subhaloes)
        probability, right, found, expected = [], [], np.zeros(number.shape, dtype=bool), []
        for i, row in enumerate(log_r):
            maps = self.maps(row, bins)
            expected.append(maps.sum())
            for candidate in self.candidates(maps, bins):
                about = _described(candidate, bins)
                apart = np.abs(subhaloes[i, :, :2] - about["position_mean_arcsec"]).max(1)
                free = (number[i] > 0) & ~found[i] & (apart < self.window_arcsec / 2)
                probability.append(about["probability"])
                right.append(bool(free.any()))
                if about["probability"] > LIKELY and free.any():
                    found[i, np.where(free, apart, np.inf).argmin()] = True
        p, hit = np.array(probability), np.array(right, dtype=bool)
        there = number > 0
        return {
            "mocks": len(log_r),
            "subhaloes": float(there.sum(1).mean()),
            "expected_subhaloes": float(np.mean(expected)),
            "reliability": verdict.reliability(p, hit),
            "criterion": CRITERION,
            "false_alarms": {CRITERION: float((~hit & (p > LIKELY)).sum() / len(log_r))},
            "found": verdict.shares(found.ravel(), subhaloes[..., 2].ravel(), there.ravel(), bins),
        }


def _described(part: np.ndarray, bins: Bins) -> dict[str, Any]:
    """Probability of a candidate (masses, ny, nx), and mean and spread of its position and mass, given it is there."""
    p = part / part.sum()
    x, y = Grid(*bins.grid.shape, bins.grid.pixel_arcsec).axes()
    mass = p.sum((1, 2))
    moments = []
    for weight, values in ((p.sum((0, 1)), x), (p.sum((0, 2)), y), (mass, bins.centres)):
        mean = float(weight @ values)
        moments.append((mean, float(np.sqrt(weight @ (values - mean) ** 2))))
    return {
        "probability": min(1.0, float(part.sum())),
        "position_mean_arcsec": [moments[0][0], moments[1][0]],
        "position_sd_arcsec": [moments[0][1], moments[1][1]],
        "log10_m200_mean": moments[2][0],
        "log10_m200_sd": moments[2][1],
        "log10_m200_posterior": mass.tolist(),
    }
