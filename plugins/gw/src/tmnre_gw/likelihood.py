"""The exact likelihood of whitened data, split into what a new waveform costs and what it does not.

    ln L(theta) = Re <s, d> - <s, s> / 2                    relative to noise alone; noise N(0, 1) in each component

A signal is s = sum_m A_m(extrinsic) shift(time) h_m(intrinsic) with the polarisations h_m at 1 Mpc on the band's nodes
(see `simulator`).  <s, d> is a sum over nodes of h_m with data that are multiplied by R^H once and for all; <s, s>
follows from the inner products of the polarisations, because a shift in time changes none of them.  So for a
waveform that is there, other extrinsic parameters cost a few thousand multiplications.

Where the phase is a factor exp(2 i phase) and its prior is uniform it is integrated out,

    ln L = ln I_0(|<s, d>|) - <s, s> / 2                                                    (Thrane & Talbot 2019, B)

and drawn from its conditional, a von Mises distribution, at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import i0e
from torch import Tensor

from tmnre.simulator import Tensors, as_tensors
from tmnre_gw.series import Series
from tmnre_gw.simulator import BinaryBlackHole

CHUNK = 250
"""waveforms of one task of a worker"""
AT_ONCE = 1024
"""likelihoods of one batch"""
OFF_NAT = 0.01
"""what inner products may be off by, in ln L"""


@dataclass(frozen=True)
class Profile:
    """ln L of N signals at any distance: <s, d> (N,), its size where the phase is integrated out, and <s, s> (N,) at
    distances (N,)."""

    overlap: np.ndarray
    square: np.ndarray
    at_mpc: np.ndarray
    marginal_phase: bool

    def __call__(self, distances_mpc: np.ndarray) -> np.ndarray:
        """(N, K) at distances (N or 1, K); -inf where lal failed."""
        scale = self.at_mpc[:, None] / distances_mpc
        linear = self.overlap[:, None] * scale
        value = linear - 0.5 * self.square[:, None] * scale**2
        if self.marginal_phase:
            value += np.log(i0e(linear))
        return np.where(np.isfinite(value), value, -np.inf)


class Likelihood:
    """ln L of one observation {"strain": (detectors, P)} for a simulator that is not reduced.

    times_s : where the simulator's `time` is between these, a waveform is kept as the series of its overlaps there,
        from which other skies and times cost next to nothing (see `series`).
    slow : parameters that need a new waveform; fast : those that do not.  Where the phase is integrated out
    (`marginal_phase`) it is in neither.
    """

    draws_phase = False
    """whether there is `any_phase`"""

    def __init__(
        self, simulator: BinaryBlackHole, strain: np.ndarray, times_s: tuple[float, float] | None = None
    ) -> None:
        self.simulator, self.quadrature = simulator, False
        names = simulator.prior.names
        self.marginal_phase = simulator.quadrupole and "phase" in names and _whole_turn(simulator.prior["phase"])
        left = [name for name in names if not (self.marginal_phase and name == "phase")]
        self.slow = tuple(name for name in left if name not in simulator.redrawn)
        self.fast = tuple(name for name in left if name in simulator.redrawn)
        data = torch.as_tensor(strain, dtype=torch.complex64)
        # <s, d> = sum_b conj((R h)_b) d_b = sum_p conj(h_p) (R^H d)_p
        self._filtered = torch.einsum("dbp,db->dp", simulator._triangle.conj(), data)
        self.series: Series | None = None
        if times_s is not None:
            of = simulator.network, simulator._nodes, self._filtered, times_s
            self.series = Series(*of, at_first=simulator._in_frame)

    def waveforms(self, theta: np.ndarray, pool: Executor | None = None) -> Tensors:
        """What is kept of new waveforms; where lal fails it is NaN."""
        parts = np.array_split(theta, max(1, -(-len(theta) // CHUNK)))
        if pool is None:
            arrays = [self.polarisations(part, self.draws_phase) for part in parts]
        else:
            # a pool of processes has the work it was started with, which may be the harmonics'
            given = [pool.submit(self.polarisations, part, self.draws_phase) for part in parts]
            arrays = [done.result() for done in given]
        return self.kept(as_tensors({name: np.concatenate([part[name] for part in arrays]) for name in arrays[0]}))

    def kept(self, stored: Tensors) -> Tensors:
        """{"h", "inner"} of `simulate`, with the inner products (N, detectors, 1 or 4) exact in the basis, unless
        `quadrature` says that those on the nodes are; and "series" in place of "h" where there is one."""
        inner = stored["inner"].double() if self.quadrature else self.inner(stored["h"])
        return {**self._shape(stored["h"]), "inner": inner}

    def _shape(self, h: Tensor) -> Tensors:
        return {"h": h} if self.series is None else {"series": self.series.of(h)}

    def polarisations(self, theta: np.ndarray, harmonics: bool = False) -> dict[str, np.ndarray]:
        """What `simulate` stores, for a worker process; of harmonics, where they are asked for and there are some."""
        return self.simulator.simulate(theta, np.random.default_rng(0))

    def agree(self, stored: Tensors, highest: float) -> bool:
        """Whether inner products on the nodes are those in the basis, to OFF_NAT where ln L is `highest`, or 1e-5.

        So they are but for the lightest binaries of a band, and those in the basis take as long as the waveforms.
        """
        exact = self.inner(stored["h"])
        scale = exact[..., :2].abs().amax((1, 2), keepdim=True)
        off = max(OFF_NAT / max(highest, 1.0), 1e-5)  # at its highest ln L is half of <s, s>
        return bool(((exact - stored["inner"]).abs() <= off * scale).all())

    def inner(self, h: Tensor) -> Tensor:
        """Inner products (N, detectors, 1 or 4) of the polarisations h (N, 1 or 2, P), as `simulate` has them."""
        parts = []
        for rows in h.split(1024):
            y = torch.einsum("nmp,dbp->mndb", rows, self.simulator._triangle)
            found = [(part * part.conj()).real.double().sum(-1) for part in y]
            if len(y) == 2:
                mixed = (y[0] * y[1].conj()).to(torch.complex128).sum(-1)
                found += [mixed.real, mixed.imag]
            parts.append(torch.stack(found, dim=2))
        return torch.cat(parts)

    def products(self, stored: Tensors, theta: Tensor) -> tuple[Tensor, Tensor]:
        """<s, d> (N,) complex, at phase zero where it is integrated out, and <s, s> (N,)."""
        a, each = self.filtered(stored, theta)
        overlap = (a.conj() * each).sum((1, 2))
        if self.simulator.quadrupole and not self.marginal_phase:
            overlap = overlap * torch.exp(-2j * self.simulator._columns(theta)["phase"])
        inner = stored["inner"].double()
        if a.shape[2] == 1:
            square = (a[..., 0].abs() ** 2 * inner[..., 0]).sum(1)
        else:
            a = a.real
            mixed = a[..., 0] ** 2 * inner[..., 0] + a[..., 1] ** 2 * inner[..., 1] + 2 * a.prod(-1) * inner[..., 2]
            square = mixed.sum(1)
        return overlap, square

    def filtered(self, stored: Tensors, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Amplitudes (N, detectors, 1 or 2) of the polarisations, and <h_m, d> (N, detectors, M) of waveforms
        (N, M) at 1 Mpc that arrive as parameters theta (N, D) say."""
        simulator = self.simulator
        p = simulator._columns(theta)
        direction, arrival = simulator._arrival(p)
        amplitudes = simulator._amplitudes(p, direction)
        if "series" in stored and self.series is not None:
            return amplitudes, self.series.at(stored["series"], arrival)
        cycles = (arrival[..., None].float() * simulator._nodes.float()).mul_(2 * torch.pi)
        # the shift goes with the data, and what is conjugated is the sum
        turned = torch.complex(torch.cos(cycles), -torch.sin(cycles)).mul_(self._filtered.conj())
        each = torch.einsum("nmp,ndp->ndm", stored["h"], turned).conj().to(torch.complex128)
        return amplitudes, each

    def derived_of(self, stored: Tensors, theta: Tensor) -> Tensors:
        """Derived quantities (N,) of parameters theta (N, D) with their waveforms."""
        return self.simulator.derive(theta, stored)

    @staticmethod
    def mirrored(stored: Tensors) -> Tensors:
        """The waveforms of the same binary from behind, which are those of pi - theta_jn and phi_jl + pi.

        Parity turns positions over and leaves spins: h+ stays, hx changes its sign.
        """
        if stored["inner"].shape[2] == 1:
            return stored
        signs = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=stored["inner"].dtype)
        return {**mirrored_polarisations(stored), "inner": stored["inner"] * signs}

    def __call__(self, stored: Tensors, theta: Tensor) -> np.ndarray:
        """ln L (N,) of parameters theta (N, D) with their waveforms, -inf where lal failed."""
        distance = self.simulator._columns(theta)["luminosity_distance"].numpy()
        return self.profile(stored, theta)(distance[:, None])[:, 0]

    def profile(self, stored: Tensors, theta: Tensor) -> Profile:
        """ln L of parameters theta (N, D) with their waveforms at any distance."""
        overlap, square = in_parts(self.products, stored, theta)
        distance = self.simulator._columns(theta)["luminosity_distance"].numpy()
        return Profile(np.abs(overlap) if self.marginal_phase else overlap.real, square, distance, self.marginal_phase)

    def with_phase(self, stored: Tensors, theta: Tensor, rng: np.random.Generator) -> tuple[Tensor, np.ndarray]:
        """theta with the phase drawn from its conditional, and ln L (N,) there."""
        if not self.marginal_phase:
            return theta, self(stored, theta)
        overlap, square = (part.numpy() for part in self.products(stored, theta))
        twice = rng.vonmises(np.angle(overlap), np.abs(overlap))
        phase = (twice / 2 + np.pi * rng.integers(0, 2, len(twice))) % (2 * np.pi)
        theta = theta.clone()
        theta[:, self.simulator.prior.names.index("phase")] = torch.from_numpy(phase)
        return theta, (overlap * np.exp(-2j * phase)).real - 0.5 * square


def mirrored_polarisations(stored: Tensors) -> Tensors:
    """h+ and hx of every harmonic (N, M, ...), as they are or as series, with the sign of hx changed."""
    name = "series" if "series" in stored else "h"
    signs = torch.tensor([1.0, -1.0]).repeat(stored[name].shape[1] // 2)
    return {name: stored[name] * signs[:, None]}


def in_parts(
    work: Callable[[Tensors, Tensor], tuple[Tensor, Tensor]], stored: Tensors, theta: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Two results (N, ...) of parameters theta (N, D) and their waveforms, so many at a time; nothing is copied."""
    slices = [slice(first, first + AT_ONCE) for first in range(0, len(theta), AT_ONCE)]
    parts = [work({name: values[rows] for name, values in stored.items()}, theta[rows]) for rows in slices]
    one, other = (np.concatenate([part[i].numpy() for part in parts]) for i in range(2))
    return one, other


def _whole_turn(distribution) -> bool:
    """Whether a prior is uniform over 2 pi: the cdf of an arc is its share of the turn, wherever it begins."""
    low, high = distribution.support
    middle = np.linspace(low, high, 9)
    return bool(np.isclose(high - low, 2 * np.pi) and np.allclose(distribution.cdf(middle), np.linspace(0, 1, 9)))
