"""The table of peers is what the stored results make of it."""

import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def table():
    spec = importlib.util.spec_from_file_location("benchmarks_table", BENCHMARKS / "table.py")
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up by name
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


def test_readme_holds_the_table_of_the_stored_results(table):
    text = (BENCHMARKS / "README.md").read_text()
    assert table.replaced(text) == text, "python benchmarks/table.py writes it anew"


def test_ratios_above_one_speak_for_us(table):
    faster = table.Row("a", "b", "s", [1.0, 2.0, 4.0], [10.0, 20.0, 80.0], {})
    rate = table.Row("a", "b", "1 / s", [10.0], [2.0], {"commit": "abc", "date": "today"}, True)
    assert faster.cells()[2:6] == ["2 / 20", "10", "10 to 20", "3, fewer than five"]
    assert rate.cells()[2:] == ["10 / 2", "5", "-", "1, fewer than five", "abc", "today"]
