"""What data say about a field, as a Gaussian: log p(x|z) = b . z - z^T Q z / 2 + const, z in modes.

    Q = A^* diag(d) A + sum_r A^* u_r u_r^T A + diag(D),      b = A^* h

with a pixel part d >= 0 in the data's pixels, a low-rank part u_r, a part D >= 0 that is diagonal in modes, and A the
response.  For linear data x = A z + n with independent noise of variance N this is exact: d = 1 / N and h = x / N.
Information of independent data adds up, and a tempered proposal is information times g; both are exact here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tmnre_fields.response import Response


@dataclass(frozen=True)
class Information:
    """Batches of Q and b; a batch axis of one is expanded where it meets others."""

    response: Response
    pixel: Tensor
    """d (N, V, *grid)"""
    pull: Tensor
    """h (N, V, *grid), so that b = A^* h"""
    mode: Tensor | None = None
    """D (N, C, *mode_shape); None: 0"""
    low_rank: Tensor | None = None
    """u (N, R, V, *grid); None: no such part"""

    def __len__(self) -> int:
        return len(self.pixel)

    def each(self, change: Callable[[Tensor], Tensor]) -> Information:
        """The same change made to every part."""
        parts = (self.pixel, self.pull, self.mode, self.low_rank)
        return Information(self.response, *(None if part is None else change(part) for part in parts))

    def __getitem__(self, rows: slice) -> Information:
        """A part of the batch."""
        return self.each(lambda part: part[rows])

    def repeat(self, times: int) -> Information:
        """Every row `times` in a row; a batch of one is left as it is."""
        return self if times == 1 or len(self) == 1 else self.each(lambda part: part.repeat_interleave(times, 0))

    def b(self) -> Tensor:
        """b (N, C, *mode_shape)."""
        return self.response.adjoint(self.pull)

    def of_pixels(self, az: Tensor) -> Tensor:
        """What A^* is to be applied to, of the pixel and low-rank parts, for A z (N, V, *grid)."""
        out = self.pixel * az
        if self.low_rank is not None:
            axes = tuple(range(2, self.low_rank.ndim))
            weights = (self.low_rank * az[:, None]).sum(axes, keepdim=True)
            out = out + (weights * self.low_rank).sum(1)
        return out

    def apply(self, z: Tensor) -> Tensor:
        """Q z of modes (N, C, *mode_shape)."""
        out = self.response.adjoint(self.of_pixels(self.response(z)))
        return out if self.mode is None else out + self.mode * z

    def product(self, a: Tensor, c: Tensor, response_a: Tensor, response_c: Tensor) -> Tensor:
        """<a, Q c> (N,), given A a and A c as well: differentiable in the parts of Q at the cost of no transform."""
        out = (response_a * self.of_pixels(response_c)).flatten(1).sum(1)
        return out if self.mode is None else out + self.response.sky.inner(a, self.mode * c)

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws of N(0, Q) in modes (n, C, *mode_shape), one for every row of the batch, or n of its only row."""
        shape, kind = (n, *self.pixel.shape[1:]), self.pixel.dtype
        data = self.pixel.sqrt() * torch.randn(shape, generator=generator, dtype=kind, device=generator.device)
        if self.low_rank is not None:
            ranks = self.low_rank.shape[1]
            shape = (n, ranks) + (1,) * (self.low_rank.ndim - 2)
            weights = torch.randn(shape, generator=generator, dtype=kind, device=generator.device)
            data = data + (weights * self.low_rank).sum(1)
        out = self.response.adjoint(data)
        if self.mode is not None:
            out = out + self.mode.sqrt() * self.response.sky.white((n, self.response.components), generator, kind)
        return out

    def gain(self) -> Tensor:
        """Q as if it were diagonal in modes (N, C, C, *mode_shape): for preconditioning, so rough is good enough."""
        out = self.response.gain(self.pixel.flatten(2).mean(2))
        if self.mode is not None:
            out = out + torch.diag_embed(self.mode.movedim(1, -1)).movedim((-2, -1), (1, 2))
        return out

    def __mul__(self, g: float | Tensor) -> Information:
        root = g**0.5
        return Information(
            self.response,
            self.pixel * g,
            self.pull * g,
            None if self.mode is None else self.mode * g,
            None if self.low_rank is None else self.low_rank * root,
        )

    def __add__(self, other: Information) -> Information:
        def both(a: Tensor | None, b: Tensor | None) -> Tensor | None:
            return a if b is None else b if a is None else a + b

        low_rank = [part for part in (self.low_rank, other.low_rank) if part is not None]
        if len(low_rank) == 2:
            n = max(len(part) for part in low_rank)
            low_rank = [torch.cat([part.expand(n, *part.shape[1:]) for part in low_rank], 1)]
        return Information(
            self.response,
            self.pixel + other.pixel,
            self.pull + other.pull,
            both(self.mode, other.mode),
            low_rank[0] if low_rank else None,
        )

    def detach(self) -> Information:
        """Without gradients."""
        return self.each(Tensor.detach)

    def to(self, kind: torch.dtype) -> Information:
        """In another floating-point precision."""
        return self.each(lambda part: part.to(kind))
