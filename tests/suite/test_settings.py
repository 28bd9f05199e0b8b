from dataclasses import dataclass, field

import pytest
import yaml

from tmnre.recipe import Recipe
from tmnre.settings import SettingsError, dump, help_text, parse


@dataclass(frozen=True)
class Prior:
    """Prior."""

    mass_msun: tuple[float, float] = (1.0, 2.0)
    """Msun; range"""
    file: str | None = None
    """a file"""


@dataclass(frozen=True)
class Settings:
    """Settings."""

    prior: Prior = field(default_factory=lambda: Prior(mass_msun=(1.0, 3.0)))
    """prior"""
    steps: tuple[int, ...] = (10, 20)
    """steps of each round"""
    rate: float = 0.1
    """a rate"""
    seed: int = 0
    """a seed"""
    fast: bool = False
    """be fast"""


RECIPE = Recipe(Settings, lambda settings: None, (), {"quick": {"steps": (5,), "rate": 0.2, "prior.file": "p"}})


def test_each_source_overrides_the_one_before(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("rate: 0.3\nprior:\n  mass_msun: [4, 5]\nseed: 7\n")
    assert parse(RECIPE) == Settings()
    assert parse(RECIPE, preset="quick") == Settings(Prior((1.0, 3.0), "p"), (5,), 0.2)
    found = parse(RECIPE, ["--seed", "9", "--prior.file=null", "--fast", "true"], config=config, preset="quick")
    assert found == Settings(Prior((4.0, 5.0), None), (5,), 0.3, 9, True)
    assert isinstance(found.prior.mass_msun, tuple) and isinstance(found.prior, Prior)


def test_negative_values_and_hyphens():
    assert parse(RECIPE, ["--prior.mass-msun", "[-2,-1]", "--rate", "-1e-3"]).prior.mass_msun == (-2.0, -1.0)


@pytest.mark.parametrize("settings", [Settings(), Settings(Prior((0.5, 1e-9), "a: b"), (1,), 1e-12, -3, True)])
def test_yaml_round_trip(settings, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(dump(settings))
    assert parse(RECIPE, config=path) == settings
    assert yaml.safe_load(path.read_text())["steps"] == list(settings.steps)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sed", "1"], "unknown setting 'sed'; did you mean 'seed'?"),
        (["--prior.mass", "[1,2]"], "did you mean 'prior.mass_msun'?"),
        (["--seed", "1.5"], "setting seed: expected int, got '1.5'"),
        (["--rate", "fast"], "setting rate: expected float, got 'fast'"),
        (["--prior.mass_msun", "[1,2,3]"], "setting prior.mass_msun: expected tuple[float, float]"),
        (["--steps", "3"], "setting steps: expected tuple[int, ...], got '3'"),
        (["--seed"], "setting seed has no value"),
        (["--seed", "--rate", "1"], "setting seed has no value"),
        (["seed"], "expected --setting VALUE"),
    ],
)
def test_bad_arguments_are_one_line(arguments, message):
    with pytest.raises(SettingsError) as error:
        parse(RECIPE, arguments)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sed: 1", "unknown setting 'sed'"),
        ("prior:\n  mass: [1, 2]", "did you mean 'prior.mass_msun'?"),
        ("prior: 3", "which is a group: set prior.mass_msun"),
        ("seed: [1", "is not YAML"),
        ("- 1", "must hold setting: value lines"),
        ("seed: !!python/object/apply:os.getcwd []", "is not YAML"),
        ("seed: many", "setting seed: expected int"),
    ],
)
def test_bad_yaml_is_one_line(text, message, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as error:
        parse(RECIPE, config=path)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_missing_file_and_preset(tmp_path):
    with pytest.raises(SettingsError, match="cannot read configuration"):
        parse(RECIPE, config=tmp_path / "none.yaml")
    with pytest.raises(SettingsError, match="no preset 'quik'; did you mean 'quick'"):
        parse(RECIPE, preset="quik")


def test_help_lists_every_setting_with_reason_and_default():
    text = help_text(RECIPE)
    assert "--prior.mass_msun tuple[float, float]  (default: [1.0, 3.0])\n        Msun; range" in text
    assert text.count("--") == 7 and "presets (--preset NAME): quick" in text
