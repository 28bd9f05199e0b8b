"""A strong-lens image as a simulator of tmnre: a scene, its optics, noise and mask, and a prior of what is free.

In a wide region training sees whole images.  Once it is so narrow that a few principal components of the region's own
noise-free images, in units of the noise, leave out less than the noise of one pixel, it sees the coefficients c on
these, with the noise's exact covariance N, and beside them the linear estimate of the parameters that has the least
squared error over the region, W c with W = Cov(u, c) (Cov(c) + N)^-1.  And where images are linear in the parameters,
again to less than the noise of one pixel, it sees the estimate alone, made from the images' derivatives: there is
hardly more to know, and a network that sees more learns the noise of its simulations.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tmnre import Prior, Simulator
from tmnre.embedding import signal_basis
from tmnre_lensing import deflection, light
from tmnre_lensing.noise import Noise
from tmnre_lensing.optics import Optics
from tmnre_lensing.scene import Scene

RAYS_AT_ONCE = 100_000
"""rays of one batch: their arrays stay in the processor's cache"""
LEFT_OUT = 1.0
"""squared signal-to-noise ratio that components, or a linear map, may leave out of an image, in the mean"""


class LensSimulator(Simulator):
    """Images {"image": (N, ny, nx)} in e-/s per pixel, row 0 at the bottom; noise is drawn anew in `observe`.

    mask (ny, nx) : True where a pixel counts; others are zero in simulations and data
    components : at most so many principal components in training; 0: whole images
    block : pixels along the side of blocks whose means are data as well, {"blocks": (N, B)}, in units of their noise:
        what goodness of fit is tested on; 0: none
    redraw_brightness : draw the brightness of the only source anew at every use, which costs a multiplication

    Derived quantities are the axis ratio `q` and position angle `phi_deg` of the lens and, of what the scene has, those
    that images tell far better than the parameters that trade against each other in them:

    ring_shear1, ring_shear2 : gamma - e/2, the shear of mass and surroundings together at the Einstein ring.  (For
        small e the radial deflection of an isothermal lens there has the quadrupole of a shear -e/3, the tangential one
        -2e/3.)
    offset_x_arcsec, offset_y_arcsec : of the source from the lens, where the source's brightness is free
    source_log10_flux : of a Sersic source without lens, in e-/s, where its brightness is free
    """

    derive_from = ()
    any_device = True
    beside_scene: tuple[str, ...] = ()
    """parameters that are not the scene's, but of what a subclass adds to it"""

    def __init__(
        self,
        scene: Scene,
        prior: Prior,
        optics: Optics,
        noise: Noise,
        *,
        mask: np.ndarray | None = None,
        components: int = 128,
        block: int = 0,
        redraw_brightness: bool = False,
    ) -> None:
        scene.check([name for name in prior.names if name not in self.beside_scene])
        if components and not noise.additive:
            raise ValueError("noise that depends on the image is not that of any basis; set components = 0")
        self.scene, self.prior, self.optics, self.noise = scene, prior, optics, noise
        self.mask = np.ones(optics.grid.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
        if self.mask.shape != optics.grid.shape:
            raise ValueError(f"the mask has shape {self.mask.shape}, images have {optics.grid.shape}")
        self.pixels = torch.from_numpy(np.flatnonzero(self.mask))
        """that count, of the flattened image"""
        self.components, self.block = components, block
        if redraw_brightness:
            self.redrawn = (self._brightness(),)
        self.counts = _counts(self.mask, block) if block else None
        self.derived = tuple(self.derive(torch.ones(1, len(prior), dtype=torch.float64), {}))

    def _brightness(self) -> str:
        """Name of the parameter that all light is proportional to; ValueError where there is none."""
        scene = self.scene
        name = f"{scene.sources[0].name}_brightness" if len(scene.sources) == 1 and not scene.lights else ""
        if name not in self.prior:
            raise ValueError("redraw_brightness needs one source, no other light, and a prior of its brightness")
        return name

    def images(self, theta: Tensor) -> Tensor:
        """Noise-free images (N, ny, nx), in the dtype of theta (N, D), differentiable."""
        x, y = self.optics.rays(theta.dtype, theta.device)
        at_once = max(1, RAYS_AT_ONCE // len(x))
        parts = [self._some(x, y, part) for part in theta.split(at_once)]
        return torch.cat(parts) * torch.from_numpy(self.mask).to(theta.device)

    def _some(self, x: Tensor, y: Tensor, theta: Tensor) -> Tensor:
        values = self.scene.values(theta, self.prior.names)
        return self.optics.image(self.scene.brightness(x, y, values))

    def simulate(self, theta: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Noise-free images (N, ny, nx) float32, of unit brightness where that is redrawn; does not use rng."""
        return {"image": self.images(self._of_stored(theta)).numpy()}

    def _of_stored(self, theta: np.ndarray) -> Tensor:
        """theta (N, D) float32 that what is stored is made with: what is redrawn is one."""
        theta = np.array(theta, dtype=np.float32)
        theta[:, self.prior.columns(self.redrawn)] = 1.0
        return torch.from_numpy(theta)

    def bright(self, stored: Mapping[str, Tensor], theta: Tensor) -> Tensor:
        """Noise-free images (N, ny, nx) of stored ones and theta (N, D)."""
        image = stored["image"]
        if not self.redrawn:
            return image
        return image * theta[:, self.prior.columns(self.redrawn), None].to(image.dtype)

    def observe(self, stored: Mapping[str, Tensor], theta: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Images with new noise."""
        image = self.bright(stored, theta)
        return self.data(self.noise.add(image, generator) * torch.from_numpy(self.mask).to(image.device))

    def data(self, image: Tensor) -> dict[str, Tensor]:
        """What there is to see of noisy images (N, ny, nx): themselves, and their blocks."""
        if self.counts is None:
            return {"image": image}
        sums = _sums(image / torch.as_tensor(self.noise.sd).to(image), self.block)
        used = self.counts > 0
        return {"image": image, "blocks": sums[:, used] / torch.from_numpy(np.sqrt(self.counts[used])).to(image)}

    def mock(self, truth: Mapping[str, float], seed: int) -> np.ndarray:
        """A noisy image (ny, nx) with the parameters given by name, float64."""
        theta = torch.tensor([[truth[name] for name in self.prior.names]], dtype=torch.float64)
        generator = torch.Generator().manual_seed(seed)
        noisy = self.noise.add(self.images(theta), generator)[0]
        return (noisy * torch.from_numpy(self.mask)).numpy()

    def derive(self, theta: Tensor, stored: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Those named above."""
        values = {name: value[:, 0] for name, value in self.scene.values(theta, self.prior.names).items()}
        found = {}
        if "lens_e1" in values:
            e1, e2 = values["lens_e1"], values["lens_e2"]
            found |= {"q": deflection.axis_ratio(e1, e2), "phi_deg": deflection.position_angle_deg(e1, e2)}
            if "shear_gamma1" in values:
                found |= {f"ring_shear{i}": values[f"shear_gamma{i}"] - e / 2 for i, e in ((1, e1), (2, e2))}
        free = "source_brightness" in self.prior
        if free and "lens_x_arcsec" in values:
            found |= {f"offset_{c}_arcsec": values[f"source_{c}_arcsec"] - values[f"lens_{c}_arcsec"] for c in "xy"}
        if free and "source_n" in values and (not self.redrawn or stored is not None):
            of = (values[f"source_{name}"] for name in ("brightness", "r_eff_arcsec", "n"))
            found["source_log10_flux"] = light.log_total(*of) / math.log(10)
        return {name: value.expand(len(theta)) for name, value in found.items()}

    def whitened(self, image: Tensor) -> Tensor:
        """Pixels that count (N, P), over the noise's standard deviation."""
        scaled = image / torch.as_tensor(self.noise.sd, dtype=image.dtype, device=image.device)
        return scaled.flatten(1).index_select(1, self.pixels.to(image.device))

    def fit_reduction(self, stored: Mapping[str, Tensor], theta: Tensor) -> dict[str, Tensor]:
        """Mean, basis, noise in it and linear estimate, from the region's images; {}: whole images."""
        if not self.components:
            return {}
        signals = self.whitened(self.bright(stored, theta)).double()
        mean = signals.mean(0)
        u = torch.from_numpy(self.prior.to_cube(theta.numpy()))
        u = (u - u.mean(0)) / u.std(0)
        learned = slice(min(1536, 3 * len(u) // 4))
        others = slice(learned.stop, learned.stop + 512)
        tangent = torch.linalg.lstsq(u[learned], signals[learned] - mean).solution
        alone = _power(signals[others] - mean - u[others] @ tangent) < LEFT_OUT
        if alone and self.noise.kernel is None:
            basis = torch.linalg.qr(tangent.T).Q.T
        else:
            basis = signal_basis(signals[learned] - mean, most=self.components, lost=1e-7)
            left = signals[others] - mean
            if _power(left - left @ basis.T @ basis) > LEFT_OUT:
                return {}
        factor = self._noise_factor(basis)
        c = (signals - mean) @ basis.T
        covariance = c.T @ c / len(c) + factor @ factor.T + 1e-9 * torch.eye(c.shape[1], dtype=c.dtype)
        linear = torch.linalg.solve(covariance, c.T @ u / len(c))
        found = {"mean": mean, "basis": basis, "factor": factor, "linear": linear, "alone": torch.tensor(alone)}
        return {name: value.float() for name, value in found.items()}

    def _noise_factor(self, basis: Tensor) -> Tensor:
        """Cholesky factor (R, R) of the noise's covariance in a basis (R, P); zero components stay zero."""
        if self.noise.kernel is None:
            return torch.diag((basis.square().sum(1) > 0.5).to(basis.dtype))
        # the transposed convolution of each row: B K, with noise K w; the kernel is symmetric
        maps = basis.new_zeros(len(basis), *self.mask.shape)
        maps[:, torch.from_numpy(self.mask)] = basis
        spread = self.noise.correlated(maps).flatten(1)
        covariance = spread @ spread.T
        return torch.linalg.cholesky(covariance + 1e-12 * torch.eye(len(basis), dtype=basis.dtype))

    def reduced(self, reduction: Mapping[str, Tensor]) -> LensSimulator:
        """The simulator that sees images in the basis."""
        seen = copy.copy(self)
        seen.__class__ = _InBasis
        seen.reduction = reduction
        return seen


class _InBasis(LensSimulator):
    """Coefficients {"image": (N, R)} on a region's basis and {"estimate": (N, D)} from them, or that alone."""

    reduction: Mapping[str, Tensor]

    def observe(self, stored: Mapping[str, Tensor], theta: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Coefficients with new noise."""
        clean = self._coefficients({"image": self.bright(stored, theta)})
        noise = torch.randn(clean.shape, generator=generator, dtype=clean.dtype, device=clean.device)
        return self._seen(clean + noise @ self.reduction["factor"].T)

    def reduce(self, x: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Coefficients and estimate of whole images."""
        return self._seen(self._coefficients(x))

    def _coefficients(self, x: Mapping[str, Tensor]) -> Tensor:
        return (self.whitened(x["image"]).float() - self.reduction["mean"]) @ self.reduction["basis"].T

    def _seen(self, coefficients: Tensor) -> dict[str, Tensor]:
        estimate = {"estimate": coefficients @ self.reduction["linear"]}
        return estimate if self.reduction["alone"] else {"image": coefficients, **estimate}


def _power(residual: Tensor) -> float:
    """Squared signal-to-noise ratio in images (N, P), in the mean."""
    return float(residual.square().sum(1).mean())


def _sums(image: Tensor, block: int) -> Tensor:
    """Sums (N, B) of images (N, ny, nx) over blocks of pixels, those at the upper ends smaller where they must be."""
    return F.avg_pool2d(image[:, None], block, ceil_mode=True, divisor_override=1).flatten(1)


def _counts(mask: np.ndarray, block: int) -> np.ndarray:
    """Pixels (B,) that count in each block, 0 where that is less than half of a whole one."""
    counts = _sums(torch.from_numpy(mask[None].astype(np.float64)), block)[0].numpy()
    return np.where(counts >= 0.5 * block**2, counts, 0.0)


def theta_of(truth: Mapping[str, float], names: Sequence[str]) -> np.ndarray:
    """theta (1, D) of parameters by name."""
    return np.array([[truth[name] for name in names]])
