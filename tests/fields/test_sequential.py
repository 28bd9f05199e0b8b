"""What the rounds of a field report of it."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from tqdm import tqdm

from tmnre import settings as typed
from tmnre.plugin import find_recipe
from tmnre.run import execute
from tmnre_fields import map_figures


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    recipe = find_recipe("fields/separation")
    small = ["--course.draws=30", "--course.kept=4", "--course.simulations=[100]", "--course.steps=[5]"]
    work = recipe.build(typed.parse(recipe, [*small, "--course.thresholds=[]"], preset="smoke"))
    folder = tmp_path_factory.mktemp("separation") / "run"
    how = {"config": "", "recipe": "fields/separation", "command": [], "say": lambda _: None}
    return work, execute(work, folder, progress=partial(tqdm, disable=True), **how), folder


def test_marginals_are_of_all_draws_not_of_those_kept(run):
    work, result, folder = run
    with np.load(folder / "draws" / "draws.npz") as saved:
        kept = saved["draws"]
    assert len(kept) == 4
    for i, component in enumerate(work.model.components):
        pixels = kept[:, i].reshape(4, -1)
        for what, values in (("mean", pixels.mean(1)), ("rms", pixels.std(1))):
            marginal = result[f"{component.name}_{what}"]
            assert marginal.samples.shape == (30, 1) and marginal.effective_sample_size == pytest.approx(30)
            np.testing.assert_allclose(marginal.samples[:4, 0], values, rtol=1e-4, atol=1e-6)
            (truth,) = work.model.response.sky.fields(work.truth[None]).numpy()
            expected = truth[i].mean() if what == "mean" else truth[i].std()
            assert result.truth[f"{component.name}_{what}"] == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_the_page_is_that_of_a_finished_run(run):
    """Rounds of fields hold no region, which kept the page at what it was after the first of them."""
    page = (run[2] / "report.html").read_text()
    assert "effective samples" in page and "Not finished" not in page


def test_few_draws_are_not_blamed_on_a_wide_region(run):
    _, result, _ = run
    (warning,) = result.warnings
    assert "30 effective samples" in warning and "more draws would settle them" in warning


def test_what_is_masked_is_not_shown_as_data(run):
    work, _, _ = run
    shown, seen = map_figures.data(work), work.model.observed.numpy() > 0
    assert (np.isfinite(shown) == seen).all() and not seen.all()
    np.testing.assert_array_equal(shown[seen], work.x.numpy()[seen])
    figure = map_figures.maps(work._found, 0, None, shown, "smooth")
    image = figure.axes[0].images[0]
    assert image.get_array().mask.sum() == (~seen[0]).sum() and np.isfinite(image.get_clim()).all()


def test_what_it_costs_is_told_without_running_it(run):
    work, result, _ = run
    found = work.estimate()
    # 100 simulations, and 50 held out on which rounds are compared
    assert found.whole and found.simulations == result.simulations == 150
    assert found.rounds == 1 and found.steps == (5, 5) and found.total_s[0] > 5 * found.step_s > 0
