"""The exact likelihood where harmonics are known one by one, so that another phase costs no new waveform either.

In the frame that precesses with the orbit a mode of order m goes as exp(i m phase), and turning back into the
detectors' frame does not depend on the phase.  Signals are thus s = sum_m exp(i m phase) s_m, m = 1 to 4 for
IMRPhenomXPHM, and

    <s, d> = sum_m exp(-i m phase) <s_m, d>          <s, s> = sum_mn exp(i (n - m) phase) <s_m, s_n>

lal gives the harmonics by leaving out all other modes, in 1.1 to 1.4 times the time of one whole waveform.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tmnre.simulator import Tensors
from tmnre_gw.likelihood import Likelihood, Profile, in_parts, mirrored_polarisations
from tmnre_gw.simulator import BinaryBlackHole


@dataclass(frozen=True)
class AnyPhase:
    """ln L of N signals at any phase and distance.

    orders (M,); overlap (N, M) : <s_m, d>; square (N, M, M) : <s_m, s_n>; at_mpc (N,) : distances of both.
    """

    orders: np.ndarray
    overlap: np.ndarray
    square: np.ndarray
    at_mpc: np.ndarray

    def at(self, phases: np.ndarray) -> Profile:
        """At one phase (N,) each."""
        turn = np.exp(1j * phases[:, None] * self.orders)
        overlap = (turn.conj() * self.overlap).sum(1).real
        return Profile(overlap, np.einsum("nm,nmk,nk->n", turn.conj(), self.square, turn).real, self.at_mpc, False)

    def highest(self, phases: np.ndarray, *, any_distance: bool) -> np.ndarray:
        """ln L (N, K) at phases (K,), at the distance where it is highest, or where the signals are."""
        turn = np.exp(1j * phases[:, None] * self.orders)
        pairs = (turn.conj()[:, :, None] * turn[:, None]).reshape(len(phases), -1)
        overlap = (self.overlap @ turn.conj().T).real
        square = (self.square.reshape(len(self.square), -1) @ pairs.T).real
        return overlap.clip(0) ** 2 / (2 * square) if any_distance else overlap - 0.5 * square


class HarmonicLikelihood(Likelihood):
    """`Likelihood` with the phase among the fast parameters; its waveforms are

    "h" (N, 2 M, P): h+ and hx of every harmonic at phase zero, or "series" of these, and "gram" (N, detectors, 4, M M):
    their inner products by quadrature on the nodes, polarisation by polarisation and harmonic by harmonic.
    """

    draws_phase = True

    def __init__(
        self, simulator: BinaryBlackHole, strain: np.ndarray, times_s: tuple[float, float] | None = None
    ) -> None:
        super().__init__(simulator, strain, times_s)
        self.orders = np.array(list(simulator.waveform.orders))
        self.slow = tuple(name for name in self.slow if name != "phase")
        self.fast = (*self.fast, "phase")
        self.quadrature = True

    @staticmethod
    def serves(simulator: BinaryBlackHole) -> bool:
        """Whether the phase is free and the simulator's waveforms come apart."""
        return "phase" in simulator.prior.names and bool(getattr(simulator.waveform, "orders", None))

    def polarisations(self, theta: np.ndarray, harmonics: bool = False) -> dict[str, np.ndarray]:
        if not harmonics:
            return super().polarisations(theta)
        simulator = self.simulator
        parameters = {name: np.full(len(theta), value) for name, value in simulator.fixed.items()}
        parameters |= dict(zip(simulator.prior.names, theta.T, strict=True))
        h = simulator.waveform.harmonics({**parameters, "phase": np.zeros(len(theta))})
        n, m = h.shape[:2]
        h = torch.from_numpy(h.reshape(n, 2 * m, -1))
        gram = torch.stack([(h.conj() * w) @ h.mT for w in torch.from_numpy(simulator._quadrature)], dim=1)
        gram = gram.view(n, -1, m, 2, m, 2).permute(0, 1, 3, 5, 2, 4).reshape(n, -1, 4, m * m)
        return {"h": h.to(torch.complex64).numpy(), "gram": gram.to(torch.complex64).numpy()}

    def kept(self, stored: Tensors) -> Tensors:
        return {**self._shape(stored["h"]), "gram": stored["gram"]}

    def any_phase(self, stored: Tensors, theta: Tensor) -> AnyPhase:
        """ln L of parameters theta (N, D) with their waveforms, at any phase and distance."""
        overlap, square = in_parts(self._harmonics, stored, theta)
        distance = self.simulator._columns(theta)["luminosity_distance"].numpy()
        return AnyPhase(self.orders, overlap, square, distance)

    def _harmonics(self, stored: Tensors, theta: Tensor) -> tuple[Tensor, Tensor]:
        a, each = self.filtered(stored, theta)
        n, detectors, m = *each.shape[:2], len(self.orders)
        overlap = (a[:, :, None] * each.view(n, detectors, m, 2)).sum((1, 3))
        both = (a[..., :, None] * a[..., None, :]).reshape(n, 1, -1)
        square = both.to(torch.complex64) @ stored["gram"].view(n, -1, m * m)
        return overlap, square.to(torch.complex128).view(n, m, m)

    def profile(self, stored: Tensors, theta: Tensor) -> Profile:
        return self.any_phase(stored, theta).at(self.simulator._columns(theta)["phase"].numpy())

    def derived_of(self, stored: Tensors, theta: Tensor) -> Tensors:
        n, gram = len(theta), stored["gram"]
        turn = torch.exp(1j * self.simulator._columns(theta)["phase"][:, None] * torch.from_numpy(self.orders))
        pairs = (turn.conj()[:, :, None] * turn[:, None]).reshape(n, -1, 1).to(torch.complex64)
        plus, mixed, _, cross = (gram.flatten(1, 2) @ pairs).view(gram.shape[:3]).unbind(-1)
        inner = torch.stack([plus.real, cross.real, mixed.real, -mixed.imag], dim=-1)
        return self.simulator.derive(theta, {"inner": inner})

    @staticmethod
    def mirrored(stored: Tensors) -> Tensors:
        gram = stored["gram"] * torch.tensor([1.0, -1.0, -1.0, 1.0])[:, None]
        return {**mirrored_polarisations(stored), "gram": gram}
