"""Overlaps of waveforms with data at any arrival time, from times on a grid.

    <h_m(t), d> = sum_p conj(h_mp) exp(2 pi i f_p t) (R^H d)_p                              (see `likelihood`)

is a series in t that has no frequency above the band's.  For a waveform that stays while sky and time move it is summed
once, over the times that a region leaves, and taken in between by polynomials through eight of them: at a hundred hertz
of 512 these are off by 1e-9, at the band's edge by 2e-4.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tmnre_gw.detectors import EARTH_RADIUS_S, Network

POINTS, PER_CYCLE = 8, 8
"""of a polynomial; grid times a cycle at the highest frequency"""
ROWS_AT_ONCE = 256
OFFSETS = torch.arange(POINTS, dtype=torch.float64) - (POINTS / 2 - 1)
OTHERS = torch.stack([torch.cat([OFFSETS[:k], OFFSETS[k + 1 :]]) for k in range(POINTS)])


class Series:
    """Overlaps with data (detectors, P), the noise divided out, of what is at the first detector, or at the geocentre,
    between two times (s)."""

    def __init__(
        self, network: Network, nodes_hz: Tensor, data: Tensor, times_s: tuple[float, float], *, at_first: bool
    ) -> None:
        vertices = network.vertices
        apart = torch.linalg.vector_norm(vertices - vertices[0], dim=1).numpy()
        if not at_first:
            apart = np.full(len(apart), EARTH_RADIUS_S)
        self.step_s = 1 / (PER_CYCLE * float(nodes_hz[-1]))
        margin = apart + POINTS * self.step_s
        self.first_s = torch.from_numpy(times_s[0] - margin)
        counts = np.ceil((times_s[1] - times_s[0] + 2 * margin) / self.step_s).astype(int) + 1
        self.counts = torch.from_numpy(counts)
        self.starts = torch.from_numpy(np.cumsum(counts) - counts)
        turned = []
        for first, count, filtered in zip(self.first_s, counts, data, strict=True):
            times = first + self.step_s * torch.arange(count, dtype=torch.float64)
            turn = torch.exp(2j * torch.pi * nodes_hz[:, None] * times)
            turned.append((turn * filtered[:, None]).to(torch.complex64))
        self._turned = torch.cat(turned, dim=1)

    def of(self, h: Tensor) -> Tensor:
        """(N, M, T) complex64 of waveforms (N, M, P), the times of all detectors one after the other."""
        return torch.cat([rows.conj() @ self._turned for rows in h.split(ROWS_AT_ONCE)])

    def at(self, series: Tensor, arrival_s: Tensor) -> Tensor:
        """(N, detectors, M) complex128 at arrival times (N, detectors)."""
        n, m = series.shape[:2]
        x = (arrival_s - self.first_s) / self.step_s
        left = x.floor().long().clamp(min=POINTS // 2 - 1).minimum(self.counts - POINTS // 2 - 1)
        # Lagrange's
        weights = ((x - left)[..., None, None] - OTHERS).prod(-1) / (OFFSETS[:, None] - OTHERS).prod(-1)
        columns = (self.starts + left)[..., None] + OFFSETS.long()
        near = series.gather(2, columns.view(n, 1, -1).expand(n, m, -1)).view(n, m, *columns.shape[1:])
        return torch.einsum("nmdk,ndk->ndm", near.to(torch.complex128), weights.to(torch.complex128))
