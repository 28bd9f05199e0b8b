"""The command line: thin; parses, calls the core, prints.

Light commands import nothing heavy.  Exit codes:

    0    done
    1    the analysis failed on the way, or a check of `tmnre check` did
    2    bad input: nothing was computed
    3    done, but with `--strict` a check of the posteriors failed or there is another warning
    130  interrupted; `tmnre resume` goes on
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from tmnre import __version__, commands
from tmnre.plugin import PluginError

EXIT_CODES = "exit codes: 0 done, 1 failed on the way, 2 bad input, 3 warnings (with --strict), 130 interrupted"

SPINS = "3000"
"""how often a thread of PyTorch's OpenMP looks for others before it sleeps.  With its own 300,000 `gw/demo` beside
another process on one of two cores made 0.7 steps a second, with this 10; undisturbed 23 and 21"""
LONGEST = 600
"""characters of an error's line; PyTorch lists every weight that does not fit"""


def spare_cores() -> None:
    """Let waiting threads sleep, unless the environment says how they wait; PyTorch reads it once, on its import."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    spare_cores()
    parser = make_parser()
    if arguments[:1] == ["complete"]:  # words of an unfinished command line are not ours to parse
        return commands.complete([*arguments[2:]] if arguments[1:2] == ["--"] else arguments[1:], options_of(parser))
    known, settings = parser.parse_known_args(arguments)
    if settings and known.command != "run":
        parser.error(f"unknown arguments: {' '.join(settings)}")
    if known.command is None:
        parser.print_help()
        return 0
    try:
        code: int = known.action(known, settings, arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read our output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        out = getattr(known, "out", None) or getattr(known, "folder", None)
        hint = f"; go on with: tmnre resume {out}" if out and (Path(out) / "meta.json").exists() else ""
        print(f"tmnre: interrupted{hint}", file=sys.stderr)
        return 130
    except Exception as error:  # the one place where errors become exit codes
        if known.debug:
            raise
        # RunError by name: importing tmnre.run would load torch only to report, say, an unknown plugin
        expected = (
            isinstance(error, (ValueError, TypeError, OSError, PluginError)) or type(error).__name__ == "RunError"
        )
        hint = "" if expected else f" ({type(error).__name__}; --debug shows where)"
        said = " ".join(str(error).split()) or type(error).__name__
        said = said if len(said) <= LONGEST else said[:LONGEST] + " ..."
        print(f"tmnre: error: {said}{hint}", file=sys.stderr)
        return 2 if expected else 1


class _Parser(argparse.ArgumentParser):
    """Errors on one line; no abbreviated options, which would swallow a recipe's settings that begin like ours."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"tmnre: error: {message}; see {self.prog} --help\n")


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(prog="tmnre", description="Truncated marginal neural ratio estimation.", epilog=EXIT_CODES)
    parser.add_argument("--version", action="version", version=f"tmnre {__version__}")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, action: commands.Action, summary: str, *, add_help: bool = True) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(name, help=summary, description=summary, add_help=add_help, epilog=EXIT_CODES)
        sub.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        sub.set_defaults(action=action)
        return sub

    command("plugins", commands.plugins, "installed plugins, and what is wrong with those that do not work")
    command("recipes", commands.recipes, "recipes of the installed plugins")
    show = command("show", commands.show, "presets and default settings of a recipe, as YAML")
    show.add_argument("recipe", help="plugin/name")
    cite = command("cite", commands.cite, "BibTeX of what a run used, or of what a recipe rests on")
    cite.add_argument("what", help="directory of a run, or plugin/name")
    run = command("run", commands.run, "run a recipe; --help after the recipe lists its settings", add_help=False)
    run.add_argument("recipe", nargs="?", help="plugin/name")
    run.add_argument("--out", help="directory of the run, new or empty")
    run.add_argument("--config", help="YAML file of settings")
    run.add_argument("--preset", help="named changes of the defaults")
    run.add_argument("--dry-run", action="store_true", help="estimate simulations, disk and time; compute nothing else")
    run.add_argument("-h", "--help", action="store_true", dest="wants_help")
    resume = command("resume", commands.resume, "go on with a run that was stopped")
    resume.add_argument("folder", help="directory of the run")
    for sub in (run, resume):
        sub.add_argument("--executor", help="where to simulate: dask://HOST:PORT, or dask for a local cluster")
        sub.add_argument(
            "--memory-gib", type=_positive, help="read larger training sets from disk; default: half of it"
        )
        sub.add_argument("--disk-gib", type=_positive, help="discard the oldest simulations where there would be more")
        sub.add_argument("--quiet", action="store_true", help="print warnings and errors only")
        sub.add_argument("--log-file", type=Path, help="append messages here as well, with date and time")
        sub.add_argument(
            "--json", action="store_true", help="print summary.json on standard output, messages on stderr"
        )
        sub.add_argument("--strict", action="store_true", help="exit with 3 where the result has a warning")
    report = command("report", commands.report, "write report.html of a run, finished or not")
    report.add_argument("folder", help="directory of the run")
    report.add_argument("--watch", action="store_true", help="write it again every ten seconds until the run ends")
    check = command("check", commands.check, "run the conformance kit on a plugin or recipe")
    check.add_argument("plugin", help="PLUGIN or PLUGIN/RECIPE")
    new = command("new-plugin", commands.new_plugin, "write an installable plugin to start from")
    new.add_argument("name", help="small letters, digits and _; the folder is tmnre-NAME")
    new.add_argument("--into", type=Path, default=Path(), help="folder to write it in; default: here")
    completion = command("completion", commands.completion, "print a shell's completion script")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    return parser


def options_of(parser: argparse.ArgumentParser) -> dict[str, list[str]]:
    """{command: its options} for completion."""
    (sub,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return {
        name: [option for action in command._actions for option in action.option_strings if option.startswith("--")]
        for name, command in sub.choices.items()
    }


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
