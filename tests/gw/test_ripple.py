"""Waveforms by ripple beside lal's, where ripple is installed, and what is said where it is not."""

from __future__ import annotations

import importlib.util
import pickle
import sys

import numpy as np
import pytest

from tmnre import settings as typed
from tmnre.plugin import find_recipe
from tmnre_gw.bilby_side import Waveform
from tmnre_gw.ripple import AT_ONCE, RippleWaveform

NODES = np.geomspace(20.0, 512.0, 200)


def build(*options: str):
    recipe = find_recipe("gw/bbh")
    return recipe.build(typed.parse(recipe, options, preset="smoke"))


def test_without_ripple_the_way_to_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "ripplegw", None)
    with pytest.raises(ImportError, match=r"backend ripple is not installed: pip install 'tmnre-gw\[ripple\]'"):
        build("--backend=ripple", "--workers=1")


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match=r"backend must be one of \['lal', 'ripple'\], got 'jax'"):
        build("--backend=jax")
    with pytest.raises(ValueError, match="in one process, got 2 workers"):
        build("--backend=ripple", "--workers=2")


def test_ripple_is_cited_where_it_is_used():
    recipe = find_recipe("gw/gw150914")
    assert not recipe.also(recipe.settings())
    (paper,) = recipe.also(recipe.settings(backend="ripple"))
    assert "2302.05329" in paper


@pytest.mark.skipif(importlib.util.find_spec("ripplegw") is None, reason="ripple is not installed")
class TestInstalled:
    def test_aligned_and_precessing_binaries_are_lals(self):
        rng = np.random.default_rng(0)
        n = 5
        p = {"chirp_mass": rng.uniform(15, 60, n), "mass_ratio": rng.uniform(0.2, 1, n)}
        p |= {"theta_jn": np.arccos(rng.uniform(-1, 1, n)), "phase": rng.uniform(0, 6.2, n)}
        spins = {f"chi_{i}": rng.uniform(-0.9, 0.9, n) for i in (1, 2)}
        for approximant, own, tolerance in (("IMRPhenomD", spins, 1e-3), ("IMRPhenomPv2", precessing(rng, n), 1e-3)):
            made = RippleWaveform(approximant, NODES, 20.0)
            found, exact = made.many(p | own), Waveform(approximant, NODES, 20.0).many(p | own)
            assert found.shape == exact.shape == (n, 2, len(NODES))
            error = np.abs(found - exact).max((1, 2)) / np.abs(exact).max((1, 2))
            assert error.max() < tolerance
            # other binaries are further off than that
            assert np.abs(found[0] - exact[1]).max() / np.abs(exact[1]).max() > 0.1
            assert pickle.loads(pickle.dumps(made)).approximant == approximant
        # more than one call takes, the last one filled up
        many = {name: np.tile(values, AT_ONCE // n + 1)[: AT_ONCE + 2] for name, values in (p | own).items()}
        np.testing.assert_allclose(made.many(many)[-2:], found[[(AT_ONCE) % n, (AT_ONCE + 1) % n]], rtol=1e-9)

    def test_unknown_approximants_are_refused(self):
        with pytest.raises(ValueError, match=r"ripple has no approximant 'SEOBNRv4', only .*IMRPhenomXPHM"):
            RippleWaveform("SEOBNRv4", NODES, 20.0)


def precessing(rng, n):
    """Spins in any direction."""
    spins = {f"a_{i}": rng.uniform(0, 0.9, n) for i in (1, 2)}
    spins |= {f"tilt_{i}": np.arccos(rng.uniform(-1, 1, n)) for i in (1, 2)}
    return spins | {name: rng.uniform(0, 6.2, n) for name in ("phi_12", "phi_jl")}
