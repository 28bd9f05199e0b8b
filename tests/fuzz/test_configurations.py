"""Mutated configurations: settings, or one line that says what is wrong; never anything else, never for long."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tmnre import Recipe, Training, Truncation
from tmnre.cli import main
from tmnre.settings import SettingsError, dump, leaves, parse

pytest.importorskip("hypothesis", reason="fuzz tests need hypothesis: pip install hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("TMNRE_FUZZ", 60))
FUZZ = settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
LONG_S = 5.0


@dataclass(frozen=True)
class Nested:
    """Nested."""

    file: str | None = None
    """a file"""
    bounds: tuple[float, float] = (0.0, 1.0)
    """bounds"""


@dataclass(frozen=True)
class Settings:
    """Settings of every type that recipes have."""

    nested: Nested = field(default_factory=Nested)
    """nested"""
    training: Training = field(default_factory=Training)
    """training"""
    truncation: Truncation = field(default_factory=Truncation)
    """truncation"""
    steps: tuple[int, ...] = (1, 2)
    """steps"""
    names: tuple[str, ...] = ("a",)
    """names"""
    workers: int | None = None
    """workers"""
    fast: bool = False
    """fast"""


RECIPE = Recipe(Settings, lambda chosen: chosen, ())
GOOD = dump(Settings())
NAMES = [leaf.name for leaf in leaves(Settings)]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
SNIPPETS = (
    *(
        "!!python/object/apply:os.system [true]",
        "&a [*a]",
        "- ",
        ": ",
        "\t",
        "!!binary x",
        "<<: ",
        "{",
        "~",
        "\x00",
        "*a",
    ),
    *("%YAML 9", "---\n", "1e999", "0x", "2001-99-99", "9" * 5000, "[" * 3000, "é"),
)


def outcome(text: bytes) -> None:
    """Parse a configuration; whatever goes wrong must be one line of a SettingsError, or of a setting's own check."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_bytes(text)
        started = time.monotonic()
        try:
            found = parse(RECIPE, config=path)
            assert isinstance(found, Settings)
        except SettingsError as error:
            assert "\n" not in str(error) and str(error)
        except ValueError as error:  # of the settings themselves: training.loss must be one of ...
            assert str(error).startswith(("training", "truncation")) and "\n" not in str(error)
        assert time.monotonic() - started < LONG_S
        assert [p.name for p in Path(folder).iterdir()] == ["config.yaml"]


@FUZZ
@given(st.data())
def test_values_of_any_kind(data):
    content = yaml.safe_load(GOOD)
    for name in data.draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3)):
        *groups, last = name.split(".")
        place = content
        for group in groups:
            place = place[group]
        place[last] = data.draw(values)
    if data.draw(st.booleans()):
        content[data.draw(st.text(max_size=10))] = data.draw(values)
    outcome(yaml.safe_dump(content, allow_unicode=True).encode("utf-8", "surrogatepass"))


@FUZZ
@given(st.data())
def test_text_cut_and_pasted(data):
    text = GOOD.encode()
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 20)))
        put = data.draw(st.binary(max_size=6) | st.sampled_from(SNIPPETS).map(str.encode))
        text = text[:start] + put + text[end:]
    outcome(text)


@FUZZ
@given(st.lists(st.sampled_from([*(f"--{name}" for name in NAMES), "--", "-", "--x", "[1,", "null", "1", "--fast=1"])
                | st.text(max_size=8), max_size=6))  # fmt: skip
def test_command_lines(words):
    try:
        parse(RECIPE, words)
    except ValueError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x [1]\nb: *x", "aliases are not allowed"),
        ("steps: [1]\nsteps: [2]", "steps is set twice"),
        ("[" * 5000, "is not YAML"),
        ("x" * (1 << 21), "settings take no more than"),
        ("training: {threads: " + "9" * 5000 + "}", "is not YAML"),
    ],
)
def test_what_is_refused(text, message, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message):
        parse(RECIPE, config=path)


def test_what_is_no_file_is_not_read(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, Path("/dev/zero")):
        with pytest.raises(SettingsError, match="it is no file"):
            parse(RECIPE, config=path)


WORDS = (
    *("run", "resume", "report", "cite", "show", "check", "completion", "x/y", "gw/none", "/dev/null"),
    *("--out", "--config", "--quiet", "--dry-run", "--json", "--help", "--watch"),
)


@FUZZ
@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=6), max_size=5))
def test_any_command_line_ends_in_an_exit_code(words):
    words = [word for word in words if word != "--debug"]
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(words)
        except SystemExit as stop:
            code = stop.code or 0
    assert code in (0, 1, 2), (words, said.getvalue())
    assert "Traceback" not in said.getvalue()
