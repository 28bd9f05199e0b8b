"""Skies: the grids that fields live on, and the modes in which their prior is diagonal.

A field f is real, with complex modes a of which half are kept, as of any real field: f = S a, and

    <a, b> = sum_k w_k Re(conj(a_k) b_k),    w_k = 1 or 2,

counts the half that is not kept.  `fields` is S and `modes` its adjoint in this product.  On a flat periodic sky S is
the orthonormal Fourier transform, so S S^* = 1; on the sphere (`tmnre_fields.sphere`) S are spherical harmonics at the
pixel centres, whatever their number, and S^* S is 1 times pixels per steradian, approximately.  Power per mode then is
the spectrum of `tmnre_fields.spectrum` on the flat sky and C_l on the sphere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from tmnre_fields import spectrum


class Sky:
    """What simulators and estimators ask of a sky; batches are leading axes of any number.

    Attributes
    ----------
    grid : shape of a field.
    mode_shape : shape of its modes.
    wavenumber : (*mode_shape), |k| in cycles per box, or l.
    multiplicity : (*mode_shape), the weights w above.
    density : S^* S is about this times the identity.
    """

    grid: tuple[int, ...]
    mode_shape: tuple[int, ...]
    wavenumber: Tensor
    multiplicity: Tensor
    density: float

    def fields(self, modes: Tensor) -> Tensor:
        """Real fields (..., *grid) of complex modes (..., *mode_shape)."""
        raise NotImplementedError

    def modes(self, fields: Tensor) -> Tensor:
        """The adjoint of `fields` (..., *mode_shape)."""
        raise NotImplementedError

    def white(self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
        """Modes (*shape, *mode_shape) with E <v, a> <v, b> = <a, b>: independent, of unit variance, `dtype` real,
        where the generator is."""
        raise NotImplementedError

    def inner(self, a: Tensor, b: Tensor) -> Tensor:
        """<a, b> over all axes but the first (N,)."""
        products = a.real * b.real + a.imag * b.imag
        return (products * self.weights(products)).flatten(1).sum(1)

    def weights(self, like: Tensor) -> Tensor:
        """The multiplicity (*mode_shape) with the type of a real tensor, and where that is."""
        return _weights(self, like.dtype, like.device)

    def images(self, fields: Tensor) -> Tensor:
        """Fields (N, C, *grid) as images (N * faces, C, H, W) for a convolutional network."""
        raise NotImplementedError

    def from_images(self, images: Tensor) -> Tensor:
        """The inverse of `images`."""
        raise NotImplementedError

    def binned(self, modes: Tensor, other: Tensor | None = None) -> Tensor:
        """(Cross-)power in bins of wavenumber (..., B) of modes (..., *mode_shape), at the wavenumbers `bin_centres`.

        For modes of S a = f with S^* S = 1, that is, not for the adjoint of a map on the sphere.
        """
        other = modes if other is None else other
        products = (modes.real * other.real + modes.imag * other.imag).flatten(-len(self.mode_shape))
        return products @ self.bins.to(products.dtype)

    bins: Tensor
    bin_centres: Tensor


@cache
def _weights(sky: Sky, dtype: torch.dtype, device: torch.device) -> Tensor:
    return sky.multiplicity.to(device, dtype)


@dataclass(frozen=True)
class Flat(Sky):
    """A periodic square box; with a margin, data are of its inner part only and the edges of the box do not matter."""

    pixels: int = 64
    """pixels along each side of the part that data are of"""
    margin: int = 0
    """pixels of the box beyond the data on each side, for data that are not periodic; a correlation length is enough"""

    density = 1.0

    @property
    def box(self) -> int:
        """Pixels along each side of the box."""
        return self.pixels + 2 * self.margin

    @property
    def grid(self) -> tuple[int, ...]:
        return (self.box, self.box)

    @property
    def mode_shape(self) -> tuple[int, ...]:
        return (self.box, self.box // 2 + 1)

    @cached_property
    def wavenumber(self) -> Tensor:
        return spectrum.wavenumbers(self.box)

    @cached_property
    def multiplicity(self) -> Tensor:
        return spectrum.multiplicity(self.box).expand(self.mode_shape).contiguous()

    @cached_property
    def _annuli(self) -> tuple[Tensor, Tensor]:
        return spectrum.annuli(self.box)

    @property
    def bins(self) -> Tensor:
        return self._annuli[1]

    @property
    def bin_centres(self) -> Tensor:
        return self._annuli[0]

    def fields(self, modes: Tensor) -> Tensor:
        return torch.fft.irfft2(modes, s=self.grid, norm="ortho")

    def modes(self, fields: Tensor) -> Tensor:
        return torch.fft.rfft2(fields, norm="ortho")

    def white(self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
        fields = torch.randn(*shape, *self.grid, generator=generator, dtype=dtype, device=generator.device)
        return self.modes(fields)

    def images(self, fields: Tensor) -> Tensor:
        return fields

    def from_images(self, images: Tensor) -> Tensor:
        return images

    def window(self, fields: Tensor) -> Tensor:
        """The part (..., pixels, pixels) that data are of."""
        m = self.margin
        return fields[..., m : m + self.pixels, m : m + self.pixels] if m else fields
