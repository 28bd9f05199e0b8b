"""The sphere in HEALPix pixels: spherical harmonics in torch, on any device, in batches and differentiable.

Modes are healpy's a_lm, m >= 0, up to lmax, which may exceed what the pixels could tell (3 nside): only values at the
pixel centres and the adjoint of that map are used, never the inversion of a map, so no quadrature enters.

The pixels of a ring have one colatitude, so a map is two products of matrices: Legendre functions for every m, then
sines and cosines for every ring.

    f(theta, phi) = sum_m w_m Re(F_m(theta) e^(i m phi)),    F_m(theta) = sum_l a_lm Lambda_lm(theta)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import healpy
import numpy as np
import torch
from scipy import special
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
        tables = _tables(self, modes.real.dtype, modes.device)
        (orders, rings, degrees), count = tables.legendre.shape, modes.shape[:-1].numel()
        weighted = modes.reshape(count, -1) * self.weights(modes.real)
        parts = torch.view_as_real(weighted).movedim(1, 0).flatten(1)
        a = parts.new_zeros(orders * degrees, 2 * count).index_copy(0, tables.place, parts)
        f = (tables.legendre @ a.view(orders, degrees, -1)).view(orders, rings, count, 2)
        of_rings = f.movedim((1, 3), (0, 2)).reshape(rings, 2 * orders, count)
        return (tables.phases @ of_rings).flatten(0, 1)[tables.slots].T.reshape(*modes.shape[:-1], *self.grid)

    def modes(self, fields: Tensor) -> Tensor:
        tables = _tables(self, fields.dtype, fields.device)
        (orders, rings, degrees), count = tables.legendre.shape, fields.shape[:-1].numel()
        padded = fields.new_zeros(rings * tables.phases.shape[1], count)
        padded = padded.index_copy(0, tables.slots, fields.reshape(count, -1).T)
        f = (tables.phases.mT @ padded.view(rings, -1, count)).view(rings, orders, 2, count)
        a = tables.legendre.mT @ f.movedim((1, 3), (0, 2)).reshape(orders, rings, 2 * count)
        parts = a.view(orders * degrees, count, 2)[tables.place].movedim(0, 1).contiguous()
        return torch.view_as_complex(parts).reshape(*fields.shape[:-1], *self.mode_shape)

    def white(self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
        at = generator.device
        parts = torch.randn(*shape, *self.mode_shape, 2, generator=generator, dtype=dtype, device=at)
        # a_l0 is real, of unit variance; real and imaginary parts of the others have half of it each
        scale = self.weights(parts).rsqrt()
        imaginary = self.weights(parts) - 1
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


class _Tables(NamedTuple):
    """Of all rings, as if each had as many pixels as the longest."""

    legendre: Tensor
    """Lambda_lm(theta) (m, rings, l)"""
    phases: Tensor
    """cos(m phi) and -sin(m phi) of every m (rings, longest, 2 m)"""
    place: Tensor
    """of every a_lm among all (m, l) (modes,)"""
    slots: Tensor
    """of every pixel among all of (rings, longest) (pixels,)"""


@cache
def _tables(sky: Sphere, dtype: torch.dtype, device: torch.device) -> _Tables:
    theta, phi = healpy.pix2ang(sky.nside, np.arange(sky.pixels))
    ring = healpy.pix2ring(sky.nside, np.arange(sky.pixels)) - 1
    _, first, lengths = np.unique(ring, return_index=True, return_counts=True)
    slots = ring * lengths.max() + np.arange(sky.pixels) - first[ring]
    padded = np.zeros(len(first) * lengths.max())
    padded[slots] = phi
    angles = padded.reshape(len(first), -1, 1) * np.arange(sky.lmax + 1)
    phases = np.stack([np.cos(angles), -np.sin(angles)], -1).reshape(*angles.shape[:2], -1)
    legendre = special.sph_legendre_p_all(sky.lmax, sky.lmax, theta[first])[0][:, : sky.lmax + 1].transpose(1, 2, 0)
    ell, m = sky._lm
    arrays = (legendre.astype(np.float64), phases, m * (sky.lmax + 1) + ell, slots)
    legendre, phases, place, slots = (torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays)
    return _Tables(legendre.to(dtype), phases.to(dtype), place, slots)
