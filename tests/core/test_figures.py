from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tmnre import MarginalPosterior, Result
from tmnre.diagnostics.coverage import binomial_bands, coverage, percentiles
from tmnre.figures import _smooth, percentiles_figure, rounds_figure, training_figure, triangle, write_core_figures

REGIONS = [{"a": [0.0, 1.0], "b": [0.0, 1.0]}, {"a": [0.4, 0.6], "b": [0.0, 0.5]}]
RECORDS = [
    {"region": {"cube": cube, "derived": {"snr": [8.0, np.inf]}}, "log_volume": -i, "simulated": 100, "reused": 10 * i}
    for i, cube in enumerate(REGIONS)
]
CURVE = [{"step": 10 * i, "train": 1 / i, "validation": 1 / i + 0.01 * i, "member": 0} for i in range(1, 20)]


def learned(n, pairs, truth=True):
    rng = np.random.default_rng(0)
    keys = [*((i,) for i in range(n)), *pairs]
    marginals = {}
    for key in keys:
        z = rng.uniform(-4, 4, (2000, len(key)))
        names = tuple(f"p{i}" for i in key)
        marginals[names] = MarginalPosterior(names, z, -0.5 * (z**2).sum(1))
    return Result(marginals, RECORDS, {"p0": 0.1} if truth else {}, {"p0": "first [km]"})


@pytest.mark.parametrize(("n", "pairs"), [(1, []), (3, [(0, 1)]), (6, [(i, j) for j in range(6) for i in range(j)])])
def test_triangle_draws_learned_cells_only(n, pairs):
    figure = triangle(learned(n, pairs))
    assert len(figure.axes) == n + len(pairs)
    assert "first [km]" in {axis.get_xlabel() for axis in figure.axes}


def test_pairs_that_were_not_learned_are_not_drawn():
    result = learned(3, [(0, 1)])
    cells = [axis for axis in triangle(result).axes if axis.spines["right"].get_visible()]
    assert [(axis.get_xlabel(), axis.get_ylabel()) for axis in cells] == [("first [km]", "p1")]


def test_many_parameters_and_few_pairs_make_a_grid():
    figure = triangle(learned(12, [(3, 4)]))
    assert len(figure.axes) == 13
    assert len({axis.get_xlabel() for axis in figure.axes}) == 12


def test_names_choose():
    assert len(triangle(learned(5, [(0, 1)]), ["p0", "p1"]).axes) == 3
    with pytest.raises(ValueError, match="none of"):
        triangle(learned(2, []), ["nosuch"])


def test_smoothing_recovers_a_density_cut_at_the_edge_of_the_region():
    z = np.random.default_rng(1).uniform(0, 4, (50_000, 1))
    weights = stats.norm.pdf(z[:, 0])
    (edges,), mass = _smooth(z, weights / weights.sum(), [(0.0, 4.0)], 256)
    exact = np.diff(stats.norm.cdf(edges)) * 2
    # without reflection the first cells would hold half of it
    np.testing.assert_allclose(mass[:20], exact[:20], rtol=0.05)
    assert np.abs(mass - exact).sum() / 2 < 0.02


def test_core_figures_are_written(tmp_path):
    write_core_figures(replace(learned(2, [(0, 1)]), curves=[CURVE, []]), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"triangle.png", "rounds.png", "training.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())


def test_rounds_show_regions_and_kept_weights_are_marked():
    bars = rounds_figure(RECORDS, ["a", "b", "snr"]).axes[0]
    spans = sorted((patch.get_x(), patch.get_x() + patch.get_width()) for patch in bars.patches)
    np.testing.assert_allclose(spans, [(0, 0.5), (0, 1), (0, 1), (0.4, 0.6)])
    kept = training_figure([CURVE]).axes[0].lines[2]
    best = min(CURVE, key=lambda point: point["validation"])
    assert (kept.get_xdata()[0], kept.get_ydata()[0]) == (best["step"], best["validation"])


def test_percentiles_are_of_the_ranks_and_name_what_fails():
    rng = np.random.default_rng(2)
    ranks = {"right": rng.uniform(size=1000), "wide": rng.beta(2, 2, 1000)}
    record = {
        "coverage": {"simulations": 1000, **{name: coverage(rank) for name, rank in ranks.items()}},
        "percentiles": {name: percentiles(rank) for name, rank in ranks.items()},
    }
    axis = percentiles_figure(record, {"wide": "$w$"}).axes[0]
    lines = {line.get_label(): line.get_ydata() for line in axis.lines}
    # a posterior that is too wide has its truths in the middle
    np.testing.assert_allclose(lines["$w$, failed"], stats.beta.cdf(np.linspace(0, 1, 21), 2, 2), atol=0.05)
    low, high = axis.collections[0].get_paths()[0].get_extents().intervaly
    assert low == 0 and high == 1
    band = binomial_bands(1000, (0.5,), 0.99)[0]
    assert band[0] < lines["passed"][10] < band[1]
    assert (lines["$w$, failed"][5] < binomial_bands(1000, (0.25,), 0.99)[0, 0]).all()


def test_the_last_width_leaves_out_what_lies_between_modes():
    last = RECORDS[-1]["region"]
    split = {**RECORDS[-1], "region": {**last, "gaps": {"a": [[0.45, 0.52]]}}}
    notes = [text.get_text() for text in rounds_figure([*RECORDS[:-1], split], ["a"]).axes[0].texts]
    assert notes == ["0.13", "last width"]
