"""What a round has learned, held against simulations that training has not seen, and its data against distortions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tmnre import diagnostics
from tmnre.diagnostics.coverage import percentiles
from tmnre.draws import ROWS_AT_ONCE, Draws
from tmnre.ratio import RatioEstimator
from tmnre.simulator import Tensors

if TYPE_CHECKING:
    from tmnre.diagnostics import Distortion

PRIOR_DRAWS = 4000
"""of the region's prior, which stand for the posterior of each simulation by their weights"""
COVERAGE_SIMULATIONS = 1000
DISTORTED_SIMULATIONS = 12_000


def calibration(
    estimator: RatioEstimator, draws: Draws, held: Tensor, x_o: Tensors | None, seed: int
) -> tuple[dict[str, Any], dict[tuple[str, ...], np.ndarray]]:
    """Calibration on the rows held out: central intervals, densities of all marginals, and, where the observation
    x_o (1, ...) is given, what takes longer.

    And the depths of `diagnostics.joint_ranks`.
    """
    generator = torch.Generator().manual_seed(seed + 3)
    rows = torch.cat(list(draws.epoch(held, len(held), generator)))[:COVERAGE_SIMULATIONS]
    x, z = draws.batch(rows, generator)
    prior_z = draws.sample_targets(4 * PRIOR_DRAWS, generator)
    # evenly spaced quantiles: as many draws at random are so uneven that exact posteriors fail one check in eight
    levels = (torch.arange(PRIOR_DRAWS, dtype=torch.float64) + 0.5) / PRIOR_DRAWS
    with torch.no_grad():
        central = diagnostics.ranks(estimator, x, z, torch.quantile(prior_z, levels, dim=0))
    prior_z = prior_z[:PRIOR_DRAWS]
    joint, depths = diagnostics.joint_ranks(estimator, x, z, generator=generator)
    density = {**diagnostics.density_ranks(estimator, x, z, prior_z, generator=generator), **joint}
    checks = [diagnostics.expected_coverage(rank, name=", ".join(names)) for names, rank in density.items()]
    if x_o is not None:
        prior_z = draws.sample_targets(20_000, generator)
        checks += diagnostics.posterior_checks(estimator, x, z, x_o, prior_z, seed=seed)
    return {
        "coverage": {
            "simulations": len(rows),
            **{name: diagnostics.coverage(rank) for name, rank in central.items()},
        },
        "percentiles": {name: percentiles(rank) for name, rank in central.items()},
        "diagnostics": [check.to_dict() for check in checks],
    }, depths


def goodness_of_fit(
    draws: Draws,
    observation: Tensors,
    distortions: Mapping[str, Distortion],
    folder: Path,
    seed: int,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """The distortion tests asked for, on data as the simulator returns them; local p-values go to the folder."""
    generator = torch.Generator().manual_seed(seed + 4)
    rows = torch.cat(list(draws.epoch(torch.arange(len(draws)), ROWS_AT_ONCE, generator)))[:DISTORTED_SIMULATIONS]
    if len(rows) < diagnostics.SIMULATIONS:
        say(f"no distortion tests: they need {diagnostics.SIMULATIONS} simulations, there are {len(rows)}")
        return []
    parts = [draws.batch(some, generator, redraw=False)[0] for some in rows.split(ROWS_AT_ONCE)]
    found = []
    for name, distort in distortions.items():
        x, observed = torch.cat([part[name] for part in parts]), observation[name][0]
        if x.is_complex():
            x, observed = torch.view_as_real(x), torch.view_as_real(observed)
        result = diagnostics.distortions(x.numpy(), observed.numpy(), distort, seed=seed, name=name)
        np.savez(folder / f"distortions-{name}.npz", t=result.t, p=result.p)
        found.append(result.check.to_dict())
    return found
