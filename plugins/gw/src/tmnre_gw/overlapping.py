"""Two binaries that overlap in time: the sum of two signals in the same data.

Each signal is a `BinaryBlackHole` with nodes about a reference time of its own, so that its window stays narrow however
far the two are apart.  Whitened data live in the span of both sets of columns,

    [T, shift(offset) T] = Q [R_A, R_B]        T = diag(whitening) spline, one QR per detector,

and signals are R_A h_A + R_B h_B.  Parameters are bilby's with the suffix _A or _B; which is which is told by the order
of arrival, a bound of the prior on the derived `delay`, the time of B less that of A.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tmnre.prior import Prior
from tmnre.simulator import Arrays, Simulator, Tensors
from tmnre_gw.bilby_side import Waveform
from tmnre_gw.reduction import FILTERS, matched_filters, principal_components, reduced_noise
from tmnre_gw.simulator import BinaryBlackHole

LABELS = ("A", "B")
Pair = tuple[BinaryBlackHole, BinaryBlackHole]


class OverlappingBinaries(Simulator):
    """Simulator of {"strain": (N, detectors, P_A + P_B) complex64}: whitened strain in the basis of both signals.

    Parameters
    ----------
    signals : simulators of the one and the other with band and whitening in common; each one's `time` is relative to
        its own reference.
    offset_s : reference time of the second less that of the first.
    ordered : B arrives after A.
    components : of the principal components of both signals' sum.
    """

    derive_from = ("inner_A", "inner_B")
    any_device = True

    def __init__(self, signals: Pair, offset_s: float, *, ordered: bool = True, components: int = 192) -> None:
        self.signals, self.offset_s, self.components = signals, offset_s, components
        both = list(zip(LABELS, signals, strict=True))
        self.prior = Prior({f"{name}_{k}": part for k, s in both for name, part in s.prior.items()})
        self.redrawn = tuple(f"{name}_{k}" for k, s in both for name in s.redrawn)
        self.derived = (*(f"{name}_{k}" for k, s in both for name in s.derived), "delay")
        self.constraints = {f"{name}_{k}": bounds for k, s in both for name, bounds in s.constraints.items()}
        if ordered:
            self.constraints["delay"] = (0.0, np.inf)
        self.network, self.band, self.whitening = signals[0].network, signals[0].band, signals[0].whitening
        self.basis, self._triangles = self._both()
        self.reduction: Tensors = {}

    def _both(self) -> tuple[np.ndarray, list[Tensor]]:
        """Q (detectors, F, P) and the two R (detectors, P, nodes), for strain in units of 1e-21 per Hz."""
        spline = self.band.spline()
        shift = np.exp(-2j * np.pi * self.band.frequencies_hz * self.offset_s)[:, None]
        basis, triangles = [], []
        for factor in self.whitening.factor:
            columns = np.concatenate([spline, shift * spline], axis=1) * factor[:, None]
            q, r = np.linalg.qr(columns)
            basis.append(q)
            triangles.append(r * Waveform.UNIT)
        nodes = spline.shape[1]
        whole = torch.from_numpy(np.stack(triangles)).to(torch.complex64)
        return np.stack(basis), [whole[..., :nodes].contiguous(), whole[..., nodes:].contiguous()]

    def project(self, spectrum: np.ndarray) -> np.ndarray:
        """Data (detectors, P) in the basis from a whitened spectrum (detectors, F)."""
        return np.einsum("dfp,df->dp", self.basis.conj(), spectrum)

    def parts(self, theta):
        """The columns of theta (N, D) that belong to either signal."""
        n = len(self.signals[0].prior)
        return theta[:, :n], theta[:, n:]

    # the costly part

    def simulate(self, theta: np.ndarray, rng: np.random.Generator) -> Arrays:
        """{"h_A", "inner_A", "h_B", "inner_B"}, as of either alone."""
        stored = {}
        for label, signal, part in zip(LABELS, self.signals, self.parts(theta), strict=True):
            stored |= {f"{name}_{label}": array for name, array in signal.simulate(part, rng).items()}
        return stored

    # the cheap part

    def _each(self, stored: Tensors, theta: Tensor, matrices: list[Tensor]) -> list[Tensor]:
        """Either signal (N, detectors, P or components)."""
        found = []
        for label, signal, part, matrix in zip(LABELS, self.signals, self.parts(theta), matrices, strict=True):
            on_nodes = signal.signal_on_nodes({"h": stored[f"h_{label}"]}, part)
            found.append(torch.einsum("ndp,dbp->ndb", on_nodes, matrix))
        return found

    def signal(self, stored: Tensors, theta: Tensor) -> Tensor:
        """Noise-free whitened data (N, detectors, P or components), in the form `observe` returns."""
        matrices = [self.reduction[f"matrix_{k}"] for k in LABELS] if self.reduction else self._triangles
        first, second = self._each(stored, theta, matrices)
        return first + second

    def observe(self, stored: Tensors, theta: Tensor, generator: torch.Generator) -> Tensors:
        """Both signals and noise."""
        signal = self.signal(stored, theta)
        return self._filtered(signal + reduced_noise(signal, {}, generator))

    def _filtered(self, strain: Tensor) -> Tensors:
        if not self.reduction:
            return {"strain": strain}
        return {"strain": strain, "filtered": matched_filters(strain, self.reduction["filters"])}

    def derive(self, theta: Tensor, stored: Tensors | None = None) -> Tensors:
        """What either signal derives, and with `stored` the delay of B (s)."""
        derived: Tensors = {}
        times = []
        for label, signal, part in zip(LABELS, self.signals, self.parts(theta), strict=True):
            inner = None if stored is None else {"inner": stored[f"inner_{label}"]}
            derived |= {f"{name}_{label}": value for name, value in signal.derive(part, inner).items()}
            times.append(signal._columns(part)["time"])
        if stored is not None:
            derived["delay"] = self.offset_s + times[1] - times[0]
        return derived

    # the smaller form of the data

    def fit_reduction(self, stored: Tensors, theta: Tensor) -> Tensors:
        """Principal components of the sum, and matched filters for either signal."""
        either = self._each(stored, theta, self._triangles)
        project = principal_components(either[0] + either[1], self.components)
        half = FILTERS // 2
        filters = torch.cat([torch.einsum("ndp,dbp->ndb", part[:half], project) for part in either])
        filters = filters / torch.linalg.vector_norm(filters, dim=(1, 2), keepdim=True)
        matrices = {
            f"matrix_{label}": torch.einsum("dbp,dpk->dbk", project, triangle)
            for label, triangle in zip(LABELS, self._triangles, strict=True)
        }
        return {"project": project, "filters": filters.conj().resolve_conj(), **matrices}

    def reduced(self, reduction: Tensors) -> OverlappingBinaries:
        """This simulator with `observe` in the reduced form."""
        smaller = copy.copy(self)
        smaller.reduction = reduction
        return smaller

    def reduce(self, x: Tensors) -> Tensors:
        """Whitened strain (N, detectors, P) through the reduction."""
        if not self.reduction:
            return x
        return self._filtered(torch.einsum("ndp,dbp->ndb", x["strain"], self.reduction["project"]))


def targets(simulator: OverlappingBinaries, of_one: Callable[[BinaryBlackHole], tuple[list, list[str]]]):
    """Marginals to learn and names to truncate: those of either binary, and their delay."""
    marginals, truncated = [], []
    for label, signal in zip(LABELS, simulator.signals, strict=True):
        each, cut = of_one(signal)
        marginals += [
            f"{name}_{label}" if isinstance(name, str) else tuple(f"{n}_{label}" for n in name) for name in each
        ]
        truncated += [f"{name}_{label}" for name in cut]
    return [*marginals, "delay", ("chirp_mass_A", "chirp_mass_B")], [*truncated, "delay"]
