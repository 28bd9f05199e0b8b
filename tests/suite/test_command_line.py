"""Commands in this very process: estimates, output for scripts, completion, citations."""

import json
import shutil
import subprocess
import sys

import pytest

from tmnre import completion
from tmnre.cli import main, make_parser, options_of
from tmnre.result import Result


@pytest.fixture
def here(toy, monkeypatch):
    """The toy plugin as this process sees it."""
    monkeypatch.syspath_prepend(str(toy.folder))
    yield toy
    for name in [name for name in sys.modules if name.startswith("tmnre_toy")]:
        del sys.modules[name]


def test_a_dry_run_estimates_and_leaves_nothing(here, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["run", "toy/line", "--dry-run", "--simulations", "[300,500,700]", "--pause_s", "0.002"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    # u is two float64, y five
    assert found["simulations"] == 1500 and found["bytes_each"] == 8 * 7 and found["rounds"] == 3
    assert found["disk_gib"] == pytest.approx(1500 * 56 / 2**30) and found["steps"] == [180, 180]
    assert found["seconds_each"] >= 0.002 / 100 and 0 < found["step_s"] < 10
    low, high = found["total_s"]
    assert low == pytest.approx(high) and low >= found["simulate_s"] + 180 * found["step_s"]
    assert [p.name for p in tmp_path.iterdir() if p != here.folder] == []


def test_output_for_scripts(here, tmp_path, capsys, monkeypatch):
    out, log = tmp_path / "out", tmp_path / "log.txt"
    monkeypatch.setattr(Result, "warnings", property(lambda self: ["beware"]))
    command = ["run", "toy/line", "--preset", "smoke", "--out", str(out), "--json", "--quiet", "--strict"]
    assert main([*command, "--log-file", str(log)]) == 3
    said = capsys.readouterr()
    assert json.loads(said.out) == json.loads((out / "summary.json").read_text())
    assert said.err.splitlines() == ["warning: beware"]
    lines = log.read_text().splitlines()
    assert any("round 1: region kept" in line for line in lines) and lines[0].startswith("20")
    assert main(["cite", str(out)]) == 0 and "@misc{toy" in capsys.readouterr().out


def test_a_log_file_that_cannot_be_written_is_found_out_first(here, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["run", "toy/line", "--out", str(out), "--log-file", str(tmp_path / "none" / "log")]
    assert main(command) == 2 and not out.exists()
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("arguments", [("--memory-gib", "-1"), ("--disk-gib", "0"), ("--disk-gib", "many")])
def test_budgets_are_positive(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", "toy/line", "--out", "x", *arguments])
    assert stop.value.code == 2 and capsys.readouterr().err.startswith("tmnre: error: argument --")


def test_help_tells_exit_codes_and_options(here, capsys):
    for arguments in (["--help"], ["resume", "--help"]):
        with pytest.raises(SystemExit):
            main(arguments)
        assert "130" in capsys.readouterr().out.replace("\n", " ")
    assert main(["run", "toy/line", "--help"]) == 0
    assert "--dry-run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([""], {"run", "resume", "report", "new-plugin", "completion"}),
        (["re"], {"recipes", "report", "resume"}),
        (["run", "toy"], {"toy/line"}),
        (["show", "toy/l"], {"toy/line"}),
        (["check", "to"], {"toy", "toy/line"}),
        (["run", "toy/line", "--noi"], {"--noise.sd"}),
        (["run", "toy/line", "--d"], {"--debug", "--disk-gib", "--dry-run"}),
        (["run", "toy/line", "--preset", ""], {"smoke"}),
        (["run", "toy/line", "--out", ""], {"FILES"}),
        (["resume", ""], {"FILES"}),
        (["completion", "z"], {"zsh"}),
        (["nonsense", ""], set()),
    ],
)
def test_completion(here, words, expected):
    found = set(completion.candidates(words, options_of(make_parser())))
    assert expected <= found if words == [""] else found == expected


def test_completion_in_a_real_bash(here):
    script = f"""
tmnre() {{ {sys.executable} -m tmnre.cli "$@"; }}
eval "$(tmnre completion bash)"
COMP_WORDS=(tmnre run toy/); COMP_CWORD=2; _tmnre; printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    done = subprocess.run([bash, "-c", script], env=here.environment, capture_output=True, text=True)
    assert done.stdout.split() == ["toy/line"] and not done.stderr


@pytest.mark.parametrize("what", ["/no/such/run", "./run", "tests"])
def test_what_is_neither_run_nor_recipe(what, capsys):
    assert main(["cite", what]) == 2
    said = capsys.readouterr().err
    assert "is no run directory" in said or "a recipe is named plugin/recipe" in said


def test_recipe_before_options(capsys):
    assert main(["run", "--out", "x"]) == 2
    assert "needs a recipe" in capsys.readouterr().err
