"""Truncated marginal neural ratio estimation: a small core, and plugins that bring the simulators.

Names are imported when first used, so that `import tmnre` and plugin discovery stay light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "analysis": ("Analysis", "Stage", "Training", "Truncation"),
    "embedding": (
        *("CNN1d", "CompressedMLP", "DeepSet", "LinearCompression", "ResidualBlock", "ResidualMLP", "SetTransformer"),
        *("Standardise", "UNet", "UNetFeatures"),
    ),
    "inference": ("infer",),
    "plugin": ("Plugin", "RecipeEntry"),
    "procedure": ("AfterAnalysis", "Place", "Procedure"),
    "prior": (
        *("Prior", "Distribution", "Uniform", "LogUniform", "PowerLaw", "Normal", "Truncated"),
        *("Sine", "Cosine", "Quantile"),
    ),
    "recipe": ("Recipe",),
    "region": ("Box",),
    "result": ("MarginalPosterior", "Result"),
    "simulator": ("Simulator",),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}
__all__ = sorted(_MODULE)

if TYPE_CHECKING:
    from tmnre.analysis import Analysis, Stage, Training, Truncation
    from tmnre.embedding import (
        CNN1d,
        CompressedMLP,
        DeepSet,
        LinearCompression,
        ResidualBlock,
        ResidualMLP,
        SetTransformer,
        Standardise,
        UNet,
        UNetFeatures,
    )
    from tmnre.inference import infer
    from tmnre.plugin import Plugin, RecipeEntry
    from tmnre.prior import (
        Cosine,
        Distribution,
        LogUniform,
        Normal,
        PowerLaw,
        Prior,
        Quantile,
        Sine,
        Truncated,
        Uniform,
    )
    from tmnre.procedure import AfterAnalysis, Place, Procedure
    from tmnre.recipe import Recipe
    from tmnre.region import Box
    from tmnre.result import MarginalPosterior, Result
    from tmnre.simulator import Simulator


def __getattr__(name: str) -> Any:
    if name in _MODULE:
        return getattr(importlib.import_module(f"tmnre.{_MODULE[name]}"), name)
    raise AttributeError(f"module 'tmnre' has no attribute {name!r}")
