"""Waveforms by ripple (2302.05329), where it is installed: lal's models written in JAX, many at once, for a GPU.

The same as `bilby_side.Waveform` for the approximants that ripple has; how well they agree: `validation/gw_ripple.py`.
On a processor lal is quicker, and compiling takes minutes.  What was compiled is kept in CACHE for the next time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import lal
import numpy as np
from bilby.gw.conversion import bilby_to_lalsimulation_spins, chirp_mass_and_mass_ratio_to_component_masses

from tmnre_gw.bilby_side import ALIGNED, Waveform

AT_ONCE = 256
"""waveforms of one call; fewer are filled up, as every number would be compiled anew"""
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tmnre" / "jax"
SPINS = ("s1_x", "s1_y", "s1_z", "s2_x", "s2_y", "s2_z")


def ripple() -> Any:
    """The package, in double precision.  Raises ImportError where it is not installed."""
    try:
        import jax
        import ripplegw
    except ImportError as error:
        raise ImportError(
            "backend ripple is not installed: pip install 'tmnre-gw[ripple]', and for a GPU pip install 'jax[cuda13]'"
        ) from error
    jax.config.update("jax_enable_x64", True)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(CACHE))
    return ripplegw


class RippleWaveform:
    """h+ and hx at the given frequencies (Hz), at 1 Mpc, in units of 1e-21 per Hz; see `bilby_side.Waveform`.

    Raises ValueError for an approximant that ripple does not have.
    """

    def __init__(self, approximant: str, frequencies: np.ndarray, reference_frequency_hz: float) -> None:
        known = ripple().list_waveforms(domain="FD", source_type="cbc", is_tidal=False)
        if approximant not in known:
            raise ValueError(f"ripple has no approximant {approximant!r}, only {', '.join(known)}; lal has more")
        self.approximant, self.reference_frequency_hz = approximant, reference_frequency_hz
        self.frequencies = np.asarray(frequencies, dtype=float)

    def __getstate__(self) -> dict[str, Any]:
        # what is compiled stays where it was
        return {key: value for key, value in vars(self).items() if key != "_compiled"}

    @cached_property
    def _compiled(self) -> Any:
        import jax
        import jax.numpy as jnp

        model = ripple().waveform(self.approximant, f_ref=self.reference_frequency_hz)
        frequencies, names = jnp.asarray(self.frequencies), model.parameter_names

        def one(row: Any) -> Any:
            h = model(frequencies, dict(zip(names, row, strict=True)))
            return jnp.stack([h["p"], h["c"]])

        return names, jax.jit(jax.vmap(one))

    def many(self, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
        """(N, 2, nodes) complex: plus and cross polarisation of bilby's parameters (N,)."""
        names, compiled = self._compiled
        q = np.asarray(parameters["mass_ratio"])
        columns = {"M_c": parameters["chirp_mass"], "eta": q / (1 + q) ** 2, "phase_c": parameters["phase"]}
        columns["d_L"] = np.ones(len(q))
        if self.approximant in ALIGNED:
            columns |= {"s1_z": parameters["chi_1"], "s2_z": parameters["chi_2"], "iota": parameters["theta_jn"]}
        else:
            columns |= dict(zip(("iota", *SPINS), self._spins(parameters).T, strict=True))
        rows = np.stack([columns[name] for name in names], axis=1)
        parts = []
        for part in np.split(rows, range(AT_ONCE, len(rows), AT_ONCE)):
            padded = np.concatenate([part, np.repeat(part[-1:], AT_ONCE - len(part), axis=0)])
            parts.append(np.asarray(compiled(padded))[: len(part)])
        return np.concatenate(parts) / Waveform.UNIT

    def _spins(self, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
        """Inclination and Cartesian spins (N, 7) at the reference frequency."""
        p = parameters
        masses = chirp_mass_and_mass_ratio_to_component_masses(p["chirp_mass"], p["mass_ratio"])
        angles = (p[name] for name in ("theta_jn", "phi_jl", "tilt_1", "tilt_2", "phi_12", "a_1", "a_2"))
        each = zip(*angles, *(lal.MSUN_SI * mass for mass in masses), p["phase"], strict=True)
        at = self.reference_frequency_hz
        return np.array([bilby_to_lalsimulation_spins(*row, at, phase) for *row, phase in each], dtype=float)
