"""The Gaussian N(mu, Q^-1) with Q = P^-1 + Q_like and Q mu = b: mean, draws, log determinant; without matrices.

Conjugate gradients solve Q s = r in coordinates s = R t in which Q is close to the identity: R R^T = M^-1 with
M = P^-1 + gain, which is diagonal in modes (a block of the components in each).  K = R^T Q R.

    mean    Q mu = b
    draws   Q s = b + eta, eta ~ N(0, Q): perturb and optimise (Papandreou & Yuille 2010), exact up to the solver's
            tolerance
    log det of Q relative to the prior's P^-1: from the same iterations (`tmnre_fields.conjugate`)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from tqdm import tqdm

from tmnre_fields.conjugate import Solution, solve
from tmnre_fields.information import Information


@dataclass(frozen=True)
class Posterior:
    """A batch of posteriors of modes (N, C, *mode_shape); pixels of a field have their values by `sky.fields`.

    power : P (N or 1, C, *mode_shape), the prior's variance per mode.
    """

    information: Information
    power: Tensor

    @cached_property
    def _preconditioner(self) -> tuple[Tensor, Tensor]:
        """R (N, C, C, *mode_shape), or (N, 1, *mode_shape) for one component; and R^T P^-1 R of the same shape."""
        gain, power = self.information.gain(), self.power.to(self.information.pixel.dtype)
        if power.shape[1] == 1:
            root = (1 / power + gain[:, 0]).rsqrt()
            return root, root.square() / power
        inverse = torch.diag_embed((1 / power).movedim(1, -1)).movedim((-2, -1), (1, 2))
        matrix = (inverse + gain).movedim((1, 2), (-2, -1))
        lower = torch.linalg.cholesky(matrix)
        root = torch.linalg.inv(lower).mT
        whole = root.mT @ ((1 / power).movedim(1, -1)[..., None] * root)
        return root.movedim((-2, -1), (1, 2)), whole.movedim((-2, -1), (1, 2))

    def _transformed(self, matrix: Tensor, modes: Tensor, *, transpose: bool = False) -> Tensor:
        if matrix.ndim == modes.ndim:
            return matrix * modes
        return torch.einsum("ndc...,nd...->nc..." if transpose else "ncd...,nd...->nc...", matrix.to(modes), modes)

    @property
    def root(self) -> Tensor:
        """R (N, C, C, *mode_shape), or (N, 1, *mode_shape) for one component."""
        return self._preconditioner[0]

    def coloured(self, t: Tensor) -> Tensor:
        """R t."""
        return self._transformed(self._preconditioner[0], t)

    def whitened(self, r: Tensor) -> Tensor:
        """R^T r."""
        return self._transformed(self._preconditioner[0], r, transpose=True)

    def solve(self, r: Tensor, *, tolerance: float = 1e-5, iterations: int = 300) -> tuple[Tensor, Solution]:
        """s with Q s = r (N, C, *mode_shape), and the whitened solution with its Lanczos coefficients."""
        solution = self.solve_white(self.whitened(r), tolerance=tolerance, iterations=iterations)
        return self.coloured(solution.t), solution

    def solve_white(self, right: Tensor, *, tolerance: float, iterations: int) -> Solution:
        """K^-1 right, for right-hand sides (m N, C, *mode_shape): m in a row for each row of this batch."""
        root, prior = self._preconditioner
        repeat = len(right) // max(len(root), len(self.information))
        spread = [_repeated(m, repeat) for m in (root, prior)]
        information = self.information.repeat(repeat)

        def k(t: Tensor) -> Tensor:
            s = self._transformed(spread[0], t)
            q = self._transformed(spread[0], information.apply(s), transpose=True)
            return q + self._transformed(spread[1], t)

        inner = information.response.sky.inner
        return solve(k, right, inner, tolerance=tolerance, iterations=iterations)

    def log_det(self, white: Tensor, solution: Solution) -> Tensor:
        """log det(P Q) (N,), unbiased, from the solution for right-hand sides `white` of unit variance per mode."""
        root, _ = self._preconditioner
        sky = self.information.response.sky
        power = self.power.to(root.dtype)
        if root.ndim == white.ndim:
            log_m = -2 * root.log() + power.log()
        else:
            # det R from its triangle
            log_m = -2 * torch.diagonal(root, dim1=1, dim2=2).log().movedim(-1, 1) + power.log()
        fixed = (log_m * sky.weights(root)).flatten(1).sum(1)
        return fixed + solution.quadratic_log(sky.inner(white, white))

    def mean(self, *, tolerance: float = 1e-5, iterations: int = 300) -> Tensor:
        """mu (N, C, *mode_shape)."""
        return self.solve(self.information.b(), tolerance=tolerance, iterations=iterations)[0]

    def draw(
        self, n: int, generator: torch.Generator, *, tolerance: float = 1e-5, iterations: int = 300, batch: int = 64
    ) -> Tensor:
        """n draws of the modes (n, C, *mode_shape) of a batch of one; or one of each of a batch of n."""
        return torch.cat(list(self.draws(n, generator, tolerance=tolerance, iterations=iterations, batch=batch)))

    def draws(
        self,
        n: int,
        generator: torch.Generator,
        *,
        tolerance: float = 1e-5,
        iterations: int = 300,
        batch: int = 64,
        progress: Callable[..., tqdm] | None = None,
    ):
        """The same, batch by batch."""
        starts = range(0, n, batch)
        sky, kind = self.information.response.sky, self.information.pixel.dtype
        for start in progress(starts, desc="drawing", unit="batch") if progress else starts:
            count = min(batch, n - start)
            rows = slice(start, start + count)
            information = self.information if len(self.information) == 1 else self.information[rows]
            power = (self.power if len(self.power) == 1 else self.power[rows]).to(kind)
            part = Posterior(information, power)
            white = sky.white((count, power.shape[1]), generator, kind)
            eta = white / power.sqrt() + information.noise(count, generator)
            yield part.solve(information.b() + eta, tolerance=tolerance, iterations=iterations)[0]


def _repeated(part: Tensor, times: int) -> Tensor:
    return part if len(part) == 1 or times == 1 else part.repeat_interleave(times, 0)
