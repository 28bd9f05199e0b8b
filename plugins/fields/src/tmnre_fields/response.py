"""The linear part of what a telescope does to fields: mixing of components into channels, beam, window.

    (A z)_nu = window( S [ beam_nu(k) sum_c mixing[nu, c] z_c(k) ] )

with z in modes.  `A` and its adjoint are all that samplers and estimators need of it.  Where channels are read in
combinations (their sum, their difference), (A z)_u = sum_nu combined[u, nu] (A z)_nu.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from tmnre_fields.sky import Flat, Sky


@dataclass(frozen=True)
class Response:
    """Components (N, C, *mode_shape) to channels (N, V, *data grid)."""

    sky: Sky
    mixing: Tensor = field(default_factory=lambda: torch.ones(1, 1))
    """(V, C): how much of a component there is in a channel"""
    beam: Tensor | None = None
    """(V, *mode_shape) or (*mode_shape), real: transfer of the point-spread function (and pixel); None: 1"""
    combined: Tensor | None = None
    """(U, V): combinations of the channels that take their place; None: the channels themselves"""

    @property
    def components(self) -> int:
        return self.mixing.shape[1]

    @property
    def channels(self) -> int:
        return len(self.mixing if self.combined is None else self.combined)

    @property
    def grid(self) -> tuple[int, ...]:
        """Shape of one channel of the data."""
        return (self.sky.pixels,) * 2 if isinstance(self.sky, Flat) else self.sky.grid

    def __call__(self, modes: Tensor) -> Tensor:
        """A z (N, V, *grid) of modes z (N, C, *mode_shape)."""
        return self.observe(self.sky.fields(self._mixed(modes)))

    def observe(self, fields: Tensor) -> Tensor:
        """Fields in the part that data are of."""
        return self.sky.window(fields) if isinstance(self.sky, Flat) else fields

    def blur(self, fields: Tensor) -> Tensor:
        """Channels (N, V, *data grid) of component fields (N, C, *sky.grid), whatever function of z they are."""
        if self.beam is None and self.combined is None:
            return self.observe(torch.einsum("vc,nc...->nv...", self.mixing.to(fields), fields))
        return self(self.sky.modes(fields) / self.sky.density)

    def adjoint(self, data: Tensor) -> Tensor:
        """A^* d (N, C, *mode_shape) of data d (N, V, *grid)."""
        if isinstance(self.sky, Flat) and self.sky.margin:
            data = F.pad(data, (self.sky.margin,) * 4)
        modes = self.sky.modes(data)
        if self.combined is not None:
            modes = torch.einsum("uv,nu...->nv...", self.combined.to(modes), modes)
        if self.beam is not None:
            modes = modes * self.beam.to(modes.real.dtype)
        if self.mixing.numel() == 1:
            return modes * float(self.mixing)
        return torch.einsum("vc,nv...->nc...", self.mixing.to(modes), modes)

    def gain(self, weights: Tensor) -> Tensor:
        """Modes' approximate precision A^* diag(w) A (N, C, C, *mode_shape) for one weight per channel (N, V)."""
        area = 1.0
        if isinstance(self.sky, Flat):
            area = (self.sky.pixels / self.sky.box) ** 2
        mixing = self.mixing.to(weights)
        beam = self.beam if self.beam is not None else weights.new_ones(self.sky.mode_shape)
        beam = beam.expand(len(mixing), *self.sky.mode_shape).to(weights)
        if self.combined is not None:
            passed = torch.einsum("uv,vc,v...->uc...", self.combined.to(weights), mixing, beam)
            return self.sky.density * area * torch.einsum("nu,uc...,ud...->ncd...", weights, passed, passed)
        mixed = torch.einsum("nv,vc,vd->nvcd", weights, mixing, mixing)
        return self.sky.density * area * torch.einsum("nvcd,v...->ncd...", mixed, beam.square())

    def _mixed(self, modes: Tensor) -> Tensor:
        if self.mixing.numel() == 1:
            mixed = modes * float(self.mixing)
        else:
            mixed = torch.einsum("vc,nc...->nv...", self.mixing.to(modes), modes)
        if self.beam is not None:
            mixed = mixed * self.beam.to(modes.real.dtype)
        return mixed if self.combined is None else torch.einsum("uv,nv...->nu...", self.combined.to(modes), mixed)
