"""Waveforms by ripple beside lal's: how far off, and how long they take on this machine.

    pip install 'plugins/gw[ripple]'; python validation/gw_ripple.py [--binaries 256]

Binaries of gw/bbh's prior on the nodes of its band.  An error is the largest difference of either polarisation at any
node, as a share of the waveform's largest value; the mismatch is 1 - |<a, b>| / |a| |b| in the design noise of H1, with
neither time nor phase adjusted but the overall phase.  Writes results/gw_ripple.json.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from provenance import stamp

from tmnre.plugin import find_recipe
from tmnre_gw.bilby_side import Waveform
from tmnre_gw.ripple import RippleWaveform

RESULTS = Path(__file__).parent / "results" / "gw_ripple.json"
APPROXIMANTS = ("IMRPhenomXAS", "IMRPhenomPv2", "IMRPhenomXP", "IMRPhenomXPHM")


def parameters(simulator, n: int) -> dict[str, np.ndarray]:
    """bilby's parameters (n,) of the prior, at 1 Mpc."""
    theta = simulator.prior.sample(n, np.random.default_rng(0))
    columns = dict(zip(simulator.prior.names, theta.T, strict=True))
    names = ("chi_1", "chi_2") if simulator.aligned else ("a_1", "a_2", "tilt_1", "tilt_2", "phi_12", "phi_jl")
    return {name: columns[name] for name in ("chirp_mass", "mass_ratio", *names, "theta_jn", "phase")}


def compared(approximant: str, n: int) -> dict:
    recipe = find_recipe("gw/bbh")
    simulator = recipe.build(replace(recipe.settings(), approximant=approximant, exact=False)).simulator
    p, nodes = parameters(simulator, n), simulator.band.nodes_hz
    at = simulator.waveform.reference_frequency_hz
    reference, made = Waveform(approximant, nodes, at), RippleWaveform(approximant, nodes, at)
    started = time.process_time()
    exact = reference.many(p)
    lal_s = time.process_time() - started
    started = time.time()
    made.many(p)
    first_s, started = time.time() - started, time.process_time()
    found = made.many(p)
    ripple_s = time.process_time() - started
    weight = simulator._quadrature[0]

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.abs((a.conj() * b * weight).sum((1, 2)))

    error = np.abs(found - exact).max((1, 2)) / np.abs(exact).max((1, 2))
    mismatch = 1 - product(exact, found) / np.sqrt(product(exact, exact) * product(found, found))
    return {
        "binaries": n,
        "nodes": len(nodes),
        "error": {f"{q:g}": float(np.nanquantile(error, q)) for q in (0.5, 0.9, 1.0)},
        "mismatch": {f"{q:g}": float(np.nanquantile(mismatch, q)) for q in (0.5, 0.9, 1.0)},
        "not_finite": int((~np.isfinite(error)).sum()),
        "lal_ms": 1e3 * lal_s / n,
        "ripple_ms": 1e3 * ripple_s / n,
        "first_call_s": first_s,
        "device": jax.devices()[0].platform,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--binaries", type=int, default=256)
    parser.add_argument("--approximants", nargs="+", default=APPROXIMANTS)
    options = parser.parse_args()
    for approximant in options.approximants:
        stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        stored[approximant] = {**compared(approximant, options.binaries), **stamp()}
        RESULTS.write_text(json.dumps(stored, indent=1) + "\n")
        print(approximant, stored[approximant])


if __name__ == "__main__":
    main()
