"""How far the exact sampler has come: its particles, and what it counts; for a file, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch

from tmnre.simulator import Tensors


@dataclass
class Population:
    """Particles: u (N, D) in the unit cube, their waveforms, ln L (N,), ln q (N,), and the number (N,) of the stored
    waveform that each descends from."""

    u: np.ndarray
    stored: Tensors
    log_l: np.ndarray
    log_q: np.ndarray
    origin: np.ndarray

    def chosen(self, rows: np.ndarray) -> Population:
        """The particles of these rows, with repetition."""
        where = torch.from_numpy(rows)
        stored = {k: v[where] for k, v in self.stored.items()}
        return Population(self.u[rows], stored, self.log_l[rows], self.log_q[rows], self.origin[rows])

    def accept(self, taken: np.ndarray, other: Population) -> None:
        """Replace the rows taken by another population's."""
        for mine, theirs in ((self.u, other.u), (self.log_l, other.log_l), (self.log_q, other.log_q)):
            mine[taken] = theirs[taken]
        where = torch.from_numpy(taken)
        for name, array in self.stored.items():
            if array is not other.stored[name]:
                array[where] = other.stored[name][where]


@dataclass
class Course:
    """How far the sampler has come: everything that goes on from here, but for the generator of random numbers."""

    population: Population
    beta: float
    """inverse temperature"""
    log_z: float
    """log evidence so far"""
    variance: float
    """of the log evidence, by the scatter of the weights"""
    efficiency: float
    """of importance sampling of the posterior alone"""
    seeds: int
    """draws of it"""
    temperatures: list[float]
    left: int = 0
    """sweeps to go at this temperature"""
    settled: int = 0
    """sweeps made at the end before any is kept"""
    swept: int = 0
    """final sweeps made"""
    log_z_sd: float | None = None
    kept: list[tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]] = field(default_factory=list)
    """u (N, D), theta (N, D), ln L (N,) and derived quantities after some of the final sweeps"""
    length: dict[str, float] = field(default_factory=lambda: {"slow": 0.5, "fast": 0.5, "whole": 0.5})
    """of steps, in units of differences of particles"""
    acceptance: dict[str, float] = field(default_factory=lambda: {"slow": 0.0, "fast": 0.0})
    still: float = 1.0
    """how many proposals that change nothing would be taken, as integrals are rough"""
    quadrature: bool = False
    """whether inner products on the nodes are exact (see `likelihood`)"""
    waveforms: int = 0
    evaluations: int = 0

    def state(self) -> dict[str, Any]:
        """The same of tensors, numbers, strings, lists and dictionaries alone; a copy."""
        whole = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        population = {entry.name: getattr(self.population, entry.name) for entry in fields(self.population)}
        return _plain(whole | {"population": population})

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> Course:
        """What `state` was made of."""
        population = {name: v if name == "stored" else v.numpy() for name, v in state["population"].items()}
        kept = [
            (*(part.numpy() for part in parts), {name: v.numpy() for name, v in derived.items()})
            for *parts, derived in state["kept"]
        ]
        return cls(**{**state, "population": Population(**population), "kept": kept})


def _plain(value: Any) -> Any:
    """The same with tensors in place of arrays, in lists and dictionaries of any depth."""
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    return value.clone() if isinstance(value, torch.Tensor) else value
