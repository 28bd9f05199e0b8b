"""Posteriors for other packages: ArviZ and GetDist.

Draws side by side are read as joint draws there, so one learned marginal is exported at a time; posterior.h5 holds all
of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import arviz
    import getdist

    from tmnre.result import MarginalPosterior


def to_arviz(marginal: MarginalPosterior, draws: int = 4000, *, seed: int = 0) -> arviz.InferenceData:
    """Equally weighted independent draws of one marginal, one variable per quantity, as one chain.

    Raises ImportError where ArviZ is missing.
    """
    try:
        import arviz
    except ImportError as error:
        raise ImportError("to_arviz needs ArviZ: pip install 'tmnre[export]'") from error
    sample = marginal.sample(draws, np.random.default_rng(seed))
    return arviz.from_dict({name: column[None] for name, column in zip(marginal.names, sample.T, strict=True)})


def to_getdist(marginal: MarginalPosterior, labels: dict[str, str] | None = None) -> getdist.MCSamples:
    """The weighted samples of one marginal, with its hard ends as ranges.

    labels: LaTeX without dollar signs, {name: label}.  Raises ImportError where GetDist is missing.
    """
    try:
        import getdist
    except ImportError as error:
        raise ImportError("to_getdist needs GetDist: pip install 'tmnre[export]'") from error
    w = marginal.weights
    kept = w > 1e-12 * w.max()
    return getdist.MCSamples(
        samples=marginal.samples[kept],
        weights=w[kept] / w.max(),
        names=list(marginal.names),
        labels=[(labels or {}).get(name, name.replace("_", r"\_")) for name in marginal.names],
        ranges={
            name: [column.min(), column.max()] for name, column in zip(marginal.names, marginal.samples.T, strict=True)
        },
        sampler="uncorrelated",
        settings={"ignore_rows": 0},
    )
