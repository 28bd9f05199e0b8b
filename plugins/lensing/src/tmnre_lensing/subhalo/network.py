"""The recognition network: an image to the log ratio of every bin against all, one normalised classifier.

One forward pass gives logits l_k of all bins k, "none" among them.  Trained with the cross entropy
-log softmax(l + log p)_k of the bin that is true, lens, source and noise drawn anew, l is the log ratio up to a
constant, and

    log r_k = log_softmax(l + log p)_k - log p_k

is normalised by construction: sum_k p_k r_k = 1.  It is the limit of contrastive ratio estimation that contrasts with
everything.  The Bayes factor of a subhalo is sum_{k > 0} p(k | subhalo) exp(l_k - l_0).

The linear answer (`filters`) is where the network starts; a U-Net on the cleaned image and the filters' maps learns
what it gets wrong: curvature of the region, masses and positions within a bin, perturbations that are not small.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tmnre.embedding import UNet
from tmnre_lensing.simulator import LensSimulator
from tmnre_lensing.subhalo.bins import Bins
from tmnre_lensing.subhalo.filters import Cleaning, Filters


class SubhaloNet(nn.Module):
    """Logits (N, K) of images {"image": (N, ny, nx)}."""

    outputs = 1
    """maps that the U-Net gives, for each bin of mass"""

    def __init__(
        self,
        simulator: LensSimulator,
        bins: Bins,
        cleaning: Cleaning,
        filters: Filters,
        images: Tensor,
        widths: Sequence[int] = (16, 32, 64),
    ) -> None:
        """images (N, ny, nx): a batch of noisy ones, to fit the scale of inputs to."""
        super().__init__()
        self.bins, self.cleaning, self.filters = bins, cleaning, filters
        self.whitened, self.mask = simulator.whitened, torch.from_numpy(simulator.mask)
        maps, _ = self._inputs(images)
        # one correction for each bin of mass, a gain on the linear answer, and the level of "none"
        self.unet = UNet({"maps": maps}, out_channels=self.outputs * bins.masses, widths=widths)
        nn.init.zeros_(self.unet.out.weight)
        nn.init.zeros_(self.unet.out.bias)
        self.gain = nn.Parameter(torch.zeros(bins.masses, 1, 1))
        self.none = nn.Parameter(torch.zeros(()))

    def _inputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Channels (N, 1 + masses, ny, nx) of the U-Net, and the linear log ratios (N, masses, ny, nx)."""
        residual = self.whitened(images).float() - self.cleaning.mean
        cleaned = self.image_of(residual)
        matched, power = self.filters(residual), self.filters.squared_snr
        scores = matched / torch.sqrt(power + 1)
        return torch.cat([cleaned, self.bins.maps(scores)], dim=1), self.bins.maps(matched - 0.5 * power)

    def image_of(self, residual: Tensor) -> Tensor:
        """Residuals d - mu (N, P), cleaned, in the map's pixels (N, 1, ny, nx)."""
        cleaned = residual.new_zeros(len(residual), 1, *self.mask.shape)
        cleaned[:, 0, self.mask] = self.cleaning.solve(residual)
        block = len(self.mask) // self.bins.grid.ny
        # sums over a pixel of the map, in units of their noise
        return nn.functional.avg_pool2d(cleaned, block) * block if block > 1 else cleaned

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        maps, linear = self._inputs(x["image"])
        logits = linear * torch.exp(self.gain) + self.unet({"maps": maps})
        return torch.cat([self.none.expand(len(maps), 1), logits.flatten(1)], dim=1)

    def log_ratio(self, x: dict[str, Tensor]) -> Tensor:
        """Normalised log r (N, K)."""
        return self._normalised(self(x))

    def linear_log_ratio(self, x: dict[str, Tensor]) -> Tensor:
        """The same from the filters alone."""
        linear = self._inputs(x["image"])[1].flatten(1)
        return self._normalised(torch.cat([linear.new_zeros(len(linear), 1), linear], dim=1))

    def _normalised(self, logits: Tensor) -> Tensor:
        log_prior = self.bins.log_prior.to(logits)
        return torch.log_softmax(logits + log_prior, dim=1) - log_prior


def cross_entropy(network: SubhaloNet, batch: tuple[dict[str, Tensor], Tensor]) -> Tensor:
    """Mean of -log posterior probability of the true bins (n, 1)."""
    x, number = batch
    logits = network(x)
    return nn.functional.cross_entropy(logits + network.bins.log_prior.to(logits), number[:, 0])
