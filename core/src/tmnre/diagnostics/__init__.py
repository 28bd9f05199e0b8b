"""Calibration diagnostics that can say no: each gives a p-value, and all fail at the same threshold.

    on average over simulations that training has not seen:
        coverage            central intervals of one-dimensional marginals
        expected_coverage   highest-density regions of any dimension; a shift enters at second order
        sbc                 ranks of truths among posterior draws
        tarp                balls about reference points, in all dimensions at once
    at one observation:
        local_c2st          a classifier between truths and posterior draws
        predictive          the model, by data replicated from it; a wrong posterior is hardly seen
        distortions         the model, by what might have been added to its data, bin by bin

A posterior that ignores the data is calibrated: only tarp, with references that depend on x, and local_c2st refuse it.
"""

from __future__ import annotations

from tmnre.diagnostics.check import THRESHOLD, Check
from tmnre.diagnostics.coverage import (
    binomial_bands,
    coverage,
    density_ranks,
    expected_coverage,
    joint_ranks,
    mass_above,
    ranks,
)
from tmnre.diagnostics.distortion_ratio import Distortion
from tmnre.diagnostics.distortions import SIMULATIONS, Additive, ExtraNoise, distortions, windows
from tmnre.diagnostics.local_c2st import local_c2st
from tmnre.diagnostics.posteriors import posterior_checks
from tmnre.diagnostics.predictive import predictive
from tmnre.diagnostics.sbc import sbc
from tmnre.diagnostics.tarp import regressed_references, tarp

__all__ = [
    "SIMULATIONS",
    "THRESHOLD",
    "Additive",
    "Check",
    "Distortion",
    "ExtraNoise",
    "binomial_bands",
    "coverage",
    "density_ranks",
    "distortions",
    "expected_coverage",
    "joint_ranks",
    "local_c2st",
    "mass_above",
    "posterior_checks",
    "predictive",
    "ranks",
    "regressed_references",
    "sbc",
    "tarp",
    "windows",
]
