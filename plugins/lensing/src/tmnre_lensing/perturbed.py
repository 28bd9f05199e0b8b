"""Images of lenses with a population of perturbing haloes, and the maps that tell about the population.

In a region so narrow that a few principal components span the images without perturbers, training sees, beside their
coefficients and the linear estimate of main lens and source, what is left: the image with these components marginalised
(`subhalo.filters`), and the matched filters of a subhalo in every pixel of a map and every bin of mass.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmnre import Prior, ResidualMLP, Uniform
from tmnre.embedding import UNetFeatures
from tmnre_lensing.cosmology import Planes
from tmnre_lensing.embedding import lens_network
from tmnre_lensing.optics import Grid
from tmnre_lensing.population import Population
from tmnre_lensing.scene import Halo, Scene
from tmnre_lensing.simulator import LEFT_OUT, LensSimulator, theta_of
from tmnre_lensing.subhalo import filters
from tmnre_lensing.subhalo.bins import NO_MASS, Bins
from tmnre_lensing.subhalo.targeted import SUBHALO

POPULATION = ("log10_m_hm", "f_sub")
"""half-mode mass in Msun, and fraction of the lens's mass that cold subhaloes would have"""
PLAIN = 2048
"""images without perturbers that components are learned from, and a third more to test them on"""


@dataclass(frozen=True)
class MapBins:
    """Where and for which masses there are matched filters."""

    masses: int = 4
    """bins of log10 mass"""
    map_pixels: int = 2
    """image pixels along the side of a pixel of the map"""
    concentration: float = 10.0
    """r200 / r_s of the haloes that filters look for"""


class PerturbedLens(LensSimulator):
    """Images {"image": (N, ny, nx)} as `LensSimulator`'s, with haloes of a `Population` drawn in `simulate`.

    Prior: what is free of the scene, and the parameters POPULATION.
    """

    beside_scene = POPULATION

    def __init__(self, scene: Scene, prior: Prior, *args, population: Population, maps: MapBins, **how) -> None:
        super().__init__(scene, prior, *args, **how)
        self.population, self.maps = population, maps
        grid = self.optics.grid
        n, left = divmod(grid.nx, max(1, maps.map_pixels))
        if left or grid.nx != grid.ny or maps.map_pixels < 1:
            raise ValueError(
                f"maps.map_pixels must divide the pixels along the side of a square image, {grid.shape}, "
                f"got {maps.map_pixels}"
            )
        pixel = grid.pixel_arcsec * maps.map_pixels
        self.bins = Bins(Grid(n, n, pixel), population.log10_m200, maps.masses)

    def simulate(self, theta: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Noise-free images (N, ny, nx) float32, each with haloes of its own."""
        m_hm, f_sub = theta[:, self.prior.columns(POPULATION)].T
        x, y = self.optics.rays(torch.float32)
        half = self.optics.grid.pixel_arcsec / self.optics.grid.oversampling / 2
        extent = (float(x[0]) - half, float(x[-1]) + half, float(y[0]) - half, float(y[-1]) + half)
        perturbers = self.population.perturbers(self.population.draw(m_hm, f_sub, extent, rng), torch.float32)
        images = []
        for i, row in enumerate(self._of_stored(theta).split(1)):
            values = self.scene.values(row, self.prior.names)
            at = perturbers.of_image(i).bend(x, y, partial(self.scene.deflection, values=values))
            images.append(self.optics.image(self.scene.brightness(x, y, values, at)))
        return {"image": (torch.cat(images) * torch.from_numpy(self.mask)).numpy()}

    def mock(self, truth: Mapping[str, float], seed: int) -> np.ndarray:
        """A noisy image (ny, nx) float32 with the parameters given by name, and haloes drawn with the seed."""
        theta = theta_of(truth, self.prior.names)
        stored = self.simulate(theta, np.random.default_rng(seed))
        image = self.bright({"image": torch.from_numpy(stored["image"])}, torch.from_numpy(theta))
        return (self.noise.add(image, torch.Generator().manual_seed(seed))[0] * torch.from_numpy(self.mask)).numpy()

    def fit_reduction(self, stored: Mapping[str, Tensor], theta: Tensor) -> dict[str, Tensor]:
        """What marginalises main lens and source, their linear estimate, and filters for the middle of the region."""
        plain = self.whitened(self.images(theta[: 4 * PLAIN // 3].float()))
        learned = 3 * len(plain) // 4
        cleaning = filters.Cleaning(plain[:learned])
        left = plain[learned:] - cleaning.mean
        if float((left - left @ cleaning.basis.T @ cleaning.basis).square().sum(1).mean()) > LEFT_OUT:
            return {}
        bank = filters.Filters(self._signals(theta), cleaning)
        c = (self.whitened(self.bright(stored, theta)) - cleaning.mean) @ cleaning.basis.T
        u = torch.from_numpy(self.prior.to_cube(theta.numpy())).float()
        u = (u - u.mean(0)) / u.std(0)
        linear = torch.linalg.solve(c.T @ c / len(c) + torch.eye(c.shape[1]), c.T @ u / len(c))
        return {"linear": linear, **dict(cleaning.named_buffers()), **dict(bank.named_buffers())}

    def _signals(self, theta: Tensor) -> Tensor:
        """Whitened changes (K - 1, P) of the image of the middle of theta (N, D) by a subhalo in each bin."""
        population = self.population
        halo = Halo(Planes.at(population.z_lens, population.z_source), self.maps.concentration, population.tau)
        names = [name for name in self.prior.names if name not in POPULATION]
        free = Prior({n: self.prior[n] for n in names} | dict.fromkeys(SUBHALO, Uniform(-1.0, 1.0)))
        scene = replace(self.scene, masses=(*self.scene.masses, halo))
        one = LensSimulator(scene, free, self.optics, self.noise, mask=self.mask)
        middle = np.append(theta.numpy()[:, self.prior.columns(names)].mean(0), [0.0, 0.0, NO_MASS])
        return filters.signals(one, middle[None], self.bins.at_centres())

    def reduced(self, reduction: Mapping[str, Tensor]) -> LensSimulator:
        """The simulator that sees maps."""
        seen = copy.copy(self)
        seen.__class__ = _InMaps
        seen.reduction = reduction
        return seen


class _InMaps(PerturbedLens):
    """Coefficients {"image": (N, R)}, linear estimate {"estimate": (N, D)} and {"maps": (N, 1 + masses, n, n)}."""

    reduction: Mapping[str, Tensor]

    def data(self, image: Tensor) -> dict[str, Tensor]:
        """Of noisy images (N, ny, nx)."""
        return self.reduce({"image": image})

    def reduce(self, x: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of whole images: cleaned image summed over pixels of the map, and signal-to-noise ratios of all filters."""
        is_ = self.reduction
        residual = self.whitened(x["image"]).float() - is_["mean"]
        c = residual @ is_["basis"].T
        cleaned = residual.new_zeros(len(residual), *self.mask.shape)
        cleaned[:, torch.from_numpy(self.mask).to(residual.device)] = residual - (c * is_["share"]) @ is_["basis"]
        block = self.maps.map_pixels
        scores = residual @ is_["filters"].T / torch.sqrt(is_["squared_snr"] + 1)
        maps = [F.avg_pool2d(cleaned[:, None], block) * block, self.bins.maps(scores)]
        return {"image": c, "estimate": c @ is_["linear"], "maps": torch.cat(maps, dim=1)}


def perturbed_network(x: dict[str, Tensor], *, noise: float) -> nn.Module:
    """The network for what the simulator shows of this region; noise: typical standard deviation of a pixel."""
    return MapsNet(x) if "maps" in x else lens_network(x, noise=noise)


class MapsNet(nn.Module):
    """Features (N, F): of coefficients and estimate by a perceptron, of maps by convolutions, pooled over the field."""

    def __init__(self, x: dict[str, Tensor], widths: Sequence[int] = (16, 32, 64)) -> None:
        super().__init__()
        self.lens = ResidualMLP({name: array for name, array in x.items() if name != "maps"})
        self.haloes = UNetFeatures(x, widths=widths, names=["maps"])

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        lens = self.lens({name: array for name, array in x.items() if name != "maps"})
        return torch.cat([lens, self.haloes(x)], dim=1)
