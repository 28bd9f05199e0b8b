"""Dense matrices of small problems: what the matrix-free posterior must agree with."""

from __future__ import annotations

import torch
from torch import Tensor

from tmnre_fields.information import Information
from tmnre_fields.response import Response


def real_basis(response: Response) -> Tensor:
    """Orthonormal basis (K, C, *mode_shape) of the modes of C fields, found by Gram-Schmidt on white noise."""
    sky, c = response.sky, response.components
    weight = sky.multiplicity.flatten().double()
    count = c * (int(weight.sum()))
    draws = sky.white((2 * count, c), torch.Generator().manual_seed(0), torch.float64).flatten(1)
    root = weight.repeat(c).sqrt()
    flat = torch.cat([draws.real * root, draws.imag * root], 1)
    _, _, right = torch.linalg.svd(flat, full_matrices=False)
    q = right[:count]
    half = q.shape[1] // 2
    modes = torch.complex(q[:, :half] / root, q[:, half:] / root)
    return modes.unflatten(1, (c, *sky.mode_shape))


def matrices(information: Information, power: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """P^-1 and Q in that basis (K, K), for a batch of one."""
    sky = information.response.sky

    def matrix(applied: Tensor) -> Tensor:
        products = [sky.inner(basis, column[None].expand_as(basis)) for column in applied]
        return torch.stack(products, 1)

    return matrix(basis / power), matrix(information.apply(basis))


def coefficients(modes: Tensor, basis: Tensor, sky) -> Tensor:
    """(N, K) of modes (N, C, *mode_shape)."""
    return torch.stack([sky.inner(basis, row[None].expand_as(basis)) for row in modes])
