"""The sphere in HEALPix pixels: spherical harmonics by healpy, differentiable because they are linear.

Modes are healpy's a_lm, m >= 0, up to lmax, which may exceed what the pixels could tell (3 nside): only values at the
pixel centres and the adjoint of that map are used, never the inversion of a map, so no quadrature enters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import healpy
import numpy as np
import torch
from torch import Tensor

from tmnre_fields.sky import Sky


@dataclass(frozen=True)
class Sphere(Sky):
    """HEALPix maps, RING order, of harmonics up to lmax."""

    nside: int = 32
    """HEALPix resolution; 12 nside^2 pixels"""
    lmax: int = 64
    """largest multipole of the field"""

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return 12 * self.nside**2

    @property
    def grid(self) -> tuple[int, ...]:
        return (self.pixels,)

    @property
    def mode_shape(self) -> tuple[int, ...]:
        return (healpy.Alm.getsize(self.lmax),)

    @property
    def density(self) -> float:
        return self.pixels / (4 * math.pi)

    @cached_property
    def _lm(self) -> tuple[np.ndarray, np.ndarray]:
        return healpy.Alm.getlm(self.lmax)

    @cached_property
    def wavenumber(self) -> Tensor:
        return torch.from_numpy(self._lm[0].astype(float))

    @cached_property
    def multiplicity(self) -> Tensor:
        return torch.from_numpy(np.where(self._lm[1] == 0, 1.0, 2.0))

    @cached_property
    def bins(self) -> Tensor:
        """(modes, lmax + 1): the mean over the 2 l + 1 real modes of every l."""
        matrix = torch.zeros(*self.mode_shape, self.lmax + 1, dtype=torch.float64)
        ell = self.wavenumber.long()
        matrix[torch.arange(len(ell)), ell] = self.multiplicity / (2 * ell + 1)
        return matrix

    @property
    def bin_centres(self) -> Tensor:
        return torch.arange(self.lmax + 1, dtype=torch.float64)

    def fields(self, modes: Tensor) -> Tensor:
        return _Synthesis.apply(modes, self)

    def modes(self, fields: Tensor) -> Tensor:
        return _Adjoint.apply(fields, self)

    def white(self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
        parts = torch.randn(*shape, *self.mode_shape, 2, generator=generator, dtype=dtype)
        # a_l0 is real, of unit variance; real and imaginary parts of the others have half of it each
        scale = torch.where(self.multiplicity == 1, 1.0, math.sqrt(0.5)).to(dtype)
        imaginary = torch.where(self.multiplicity == 1, 0.0, 1.0).to(dtype)
        return torch.complex(parts[..., 0] * scale, parts[..., 1] * scale * imaginary)

    @cached_property
    def _faces(self) -> Tensor:
        """RING number of every pixel of the twelve faces (12, nside, nside)."""
        y, x = np.meshgrid(np.arange(self.nside), np.arange(self.nside), indexing="ij")
        return torch.from_numpy(np.stack([healpy.xyf2pix(self.nside, x, y, face) for face in range(12)]))

    def images(self, fields: Tensor) -> Tensor:
        faces = fields[..., self._faces]
        return faces.movedim(2, 1).flatten(0, 1)

    def from_images(self, images: Tensor) -> Tensor:
        faces = images.unflatten(0, (-1, 12)).movedim(1, 2)
        out = faces.new_empty(*faces.shape[:2], self.pixels)
        out[..., self._faces] = faces
        return out

    def synthesis(self, modes: np.ndarray) -> np.ndarray:
        """Maps (M, pixels) of a_lm (M, K), both float64."""
        return np.stack([healpy.alm2map(a, self.nside, lmax=self.lmax, pol=False) for a in modes])

    def adjoint(self, fields: np.ndarray) -> np.ndarray:
        """sum over pixels of conj(Y_lm) f: what map2alm does without iterations and weights, but for its pixel area."""
        return np.stack([healpy.map2alm(f, lmax=self.lmax, iter=0, pol=False) * self.density for f in fields])


class _Synthesis(torch.autograd.Function):
    """a_lm to maps.  Torch's gradient of a complex a is dL/dRe a + i dL/dIm a: w times the adjoint."""

    @staticmethod
    def forward(ctx, modes: Tensor, sky: Sphere) -> Tensor:
        ctx.sky = sky
        flat = modes.detach().reshape(-1, *sky.mode_shape).to(torch.complex128).numpy()
        return torch.from_numpy(sky.synthesis(flat)).to(modes.real.dtype).reshape(*modes.shape[:-1], *sky.grid)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return _Adjoint.apply(gradient, ctx.sky) * ctx.sky.multiplicity.to(gradient.dtype), None


class _Adjoint(torch.autograd.Function):
    """Maps to a_lm, the adjoint of `_Synthesis` in the weighted product."""

    @staticmethod
    def forward(ctx, fields: Tensor, sky: Sphere) -> Tensor:
        ctx.sky = sky
        flat = fields.detach().reshape(-1, *sky.grid).double().numpy()
        kind = torch.complex128 if fields.dtype == torch.float64 else torch.complex64
        return torch.from_numpy(sky.adjoint(flat)).to(kind).reshape(*fields.shape[:-1], *sky.mode_shape)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return _Synthesis.apply(gradient / ctx.sky.multiplicity.to(gradient.real.dtype), ctx.sky), None
