"""What the page says: everything that was asked and found, nothing unescaped, at every moment of a run."""

import html
import json
import re
import shutil

import numpy as np
import pytest

from tmnre import citations, report, run
from tmnre.cli import main
from tmnre.figures import data_figure
from tmnre.report import verdicts, words


def text(page: str) -> str:
    """Words of a page, without style and tags."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_a_finished_run_is_told_whole(finished):
    page = (finished / "report.html").read_text()
    said = text(page)
    for part in (
        *(
            "toy/line",
            "Finished",
            "What was asked",
            "Uniform(low=-1, high=1)",
            "noise.sd",
            "Posteriors",
            "68% interval",
        ),
        *(
            "Can the posteriors be trusted?",
            "Expected coverage",
            "Rounds",
            "Training",
            "Cost",
            "How to cite",
            "Doe et al.",
        ),
        *("A Toy", "Miller, Weniger, Forré", "How to repeat it", "tmnre run toy/line --config", "α_y <b>"),
    ):
        assert part in said, part
    summary = json.loads((finished / "summary.json").read_text())
    assert f"{summary['simulations']:,}" in said
    failed = [c for c in summary["diagnostics"] if not c["passed"]]
    failed += [c for c in summary["coverage"].values() if isinstance(c, dict) and not c["passed"]]
    assert ("checks failed" in said) == bool(failed)
    assert "http-equiv" not in page and "<script" not in page and 'src="http' not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_procedure_shows_its_own_results_and_figures(procedure):
    page = (procedure / "report.html").read_text()
    said = text(page)
    for part in ("Step first", "Detection", "log evidence", "3.25", "Sources", "a & b", "null test", "Own picture"):
        assert part in said, part
    assert "1 of" in said and "checks failed" in said  # its own test counts
    assert page.count("data:image/png") == 3  # the triangle, the percentiles and its own


def test_failed_checks_of_what_is_no_longer_shown_are_no_verdict(finished, tmp_path):
    """Draws that only begin from a learned posterior are not judged by its calibration, but by the fit."""
    exact = tmp_path / "exact"
    shutil.copytree(finished, exact)
    summary = json.loads((exact / "summary.json").read_text())
    for check in (*summary["diagnostics"], *(c for c in summary["coverage"].values() if isinstance(c, dict))):
        check["passed"] = True
    summary["diagnostics"][0]["passed"], summary["warnings"] = False, []

    def said() -> str:
        (exact / "summary.json").write_text(json.dumps(summary))
        return text(report.write(exact).read_text())

    assert "1 of" in said() and "before using the posteriors" in said()
    summary["checked"] = "what came before"
    assert "checks failed, all of what came before." in said() and "before using the posteriors" not in said()
    summary["goodness_of_fit"] = [{"name": "distortions y", "passed": False, "p_value": 1e-6, "numbers": {}}]
    assert "before using the posteriors" in said()


def test_the_page_of_a_run_that_goes_on(finished, tmp_path):
    going = tmp_path / "going"
    shutil.copytree(finished, going)
    shutil.rmtree(going / "rounds" / "01")
    for name in ("summary.json", "posterior.h5", "report.html"):
        (going / name).unlink()
    (going / "rounds" / "01").mkdir()
    run._update(going, state="running")
    page = report.write(going, live=True).read_text()
    assert 'http-equiv="refresh" content="10"' in page
    assert "round 1 of at most 2" in text(page) and "Posteriors come at the end" in text(page)
    assert report.going_on(going)
    run._update(going, state="stopped", reason="ValueError: <no>")
    assert "Stopped: ValueError: <no>" in text(report.write(going).read_text())
    assert not report.going_on(going)


def test_a_run_writes_its_page_after_every_round(finished, moments):
    assert {(0, True), (1, True), (2, True)} <= set(moments) and moments[-1] == (2, False)


def test_a_page_that_cannot_be_written_does_not_stop_the_run(tmp_path):
    said = []
    run._Live(tmp_path / "nowhere", said.append).write()
    assert len(said) == 1 and said[0].startswith("no report.html this time (ValueError")


def test_commands(finished, tmp_path, capsys):
    assert main(["report", str(finished)]) == 0 and main(["report", "--watch", str(finished)]) == 0
    assert "report.html" in capsys.readouterr().out
    assert main(["cite", str(finished)]) == 0
    bibtex = capsys.readouterr().out
    assert "2107.01214" in bibtex and "2210.06170" in bibtex and "2110.06581" in bibtex and "@misc{toy" in bibtex
    assert "1903.04057" not in bibtex and "2412.15100" not in bibtex  # what it did not use
    assert main(["report", str(tmp_path)]) == 2 and "is not a run directory" in capsys.readouterr().err


@pytest.mark.parametrize(("value", "written"), [
    (1234567, "1,234,567"), (-0.5, "−0.5"), (1e-12, "1×10⁻¹²"), (100.0, "100"), (0.0, "0"), (1559.7, "1,560"),
    (float("inf"), "∞"), (float("nan"), "not a number"), (True, "True"), (3.14159, "3.14"), (12, "12"),
])  # fmt: skip
def test_numbers(value, written):
    assert words.number(value) == written


def test_errors_have_two_digits():
    assert words.with_errors(1.23456, 1.2, 1.3) == {"median": "1.235", "plus": "0.065", "minus": "0.035"}
    assert words.with_errors(-1.5, -2.5, 0.5)["median"] == "−1.5"


def test_verdicts_are_grouped_by_kind():
    checks = [
        {"name": "tarp a", "passed": True, "p_value": 0.5, "numbers": {"deviation": 0.02}},
        {"name": "tarp b", "passed": False, "p_value": 1e-9, "numbers": {"deviation": 0.2}},
        {"name": "sbc", "passed": True, "p_value": 0.1, "numbers": {"p_a": 0.05, "mean_a": 0.49, "spread_a": 1.1}},
        {"name": "odd", "passed": True},
    ]
    groups = verdicts.grouped(checks)
    assert [(g.kind.title, len(g.rows), g.failed) for g in groups] == [
        ("Simulation-based calibration", 1, 0),
        ("TARP", 2, 1),
        ("Other checks", 1, 0),
    ]
    assert (
        groups[1].rows[1]["found"] == "coverage is off by 20% at most" and "worst for a" in groups[0].rows[0]["found"]
    )


def test_bibtex_is_read():
    (found,) = citations.entries(
        ["@a{x, author = {{The {LIGO} and Virgo} and Forr{\\'e}, P.}, title={On {X}}, year = 2019}"]
    )
    assert (found["who"], found["title"], found["year"], found["link"]) == (
        "The LIGO and Virgo, Forré",
        "On X",
        "2019",
        "",
    )
    entries = citations.entries(citations.CORE.values())
    assert all(e["who"] and e["title"] and e["year"] and e["link"] for e in entries)


def test_any_observation_is_drawn_or_left_out():
    waves = np.exp(1j * np.linspace(0, 9, 50)).reshape(2, 25)
    arrays = {"image": np.ones((12, 9)), "cube": np.ones((5, 4, 5)), "one": np.float32(1), "bands": np.ones((2, 9, 9))}
    drawn = data_figure({**arrays, "strain": waves})
    titles = [axis.get_title() for axis in drawn.axes if axis.get_title()]
    assert titles == ["image", "bands, 0", "bands, 1", "strain"]
    assert np.allclose(drawn.axes[-1].lines[0].get_ydata(), 1)  # of complex data the modulus
    assert data_figure({"one": np.float32(1), "names": np.array(["a", "b"])}) is None
