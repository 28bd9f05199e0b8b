"""The command line: thin; parses, calls the core, prints.

Light commands import nothing heavy.  Exit codes: 0 done, 1 the analysis failed, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tmnre import __version__
from tmnre.plugin import PluginError, discover, find_plugin, find_recipe

if TYPE_CHECKING:
    from tmnre.recipe import Recipe

Action = Callable[[argparse.Namespace, list[str], list[str]], int]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
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
        print(f"tmnre: error: {' '.join(str(error).split())}{hint}", file=sys.stderr)
        return 2 if expected else 1


class _Parser(argparse.ArgumentParser):
    """Errors on one line; no abbreviated options, which would swallow a recipe's settings that begin like ours."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"tmnre: error: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="tmnre", description="Truncated marginal neural ratio estimation.")
    parser.add_argument("--version", action="version", version=f"tmnre {__version__}")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, action: Action, summary: str, *, add_help: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary, add_help=add_help)
        sub.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        sub.set_defaults(action=action)
        return sub

    command("plugins", _plugins, "installed plugins, and what is wrong with those that do not work")
    command("recipes", _recipes, "recipes of the installed plugins")
    show = command("show", _show, "presets and default settings of a recipe, as YAML")
    show.add_argument("recipe", help="plugin/name")
    cite = command("cite", _cite, "BibTeX of what a run used, or of what a recipe rests on")
    cite.add_argument("what", help="directory of a run, or plugin/name")
    run = command("run", _run, "run a recipe; --help after the recipe lists its settings", add_help=False)
    run.add_argument("recipe", nargs="?", help="plugin/name")
    run.add_argument("--out", help="directory of the run, new or empty")
    run.add_argument("--config", help="YAML file of settings")
    run.add_argument("--preset", help="named changes of the defaults")
    run.add_argument("-h", "--help", action="store_true", dest="wants_help")
    resume = command("resume", _resume, "go on with a run that was stopped")
    resume.add_argument("folder", help="directory of the run")
    for sub in (run, resume):
        sub.add_argument("--executor", help="where to simulate: dask://HOST:PORT, or dask for a local cluster")
        sub.add_argument(
            "--memory-gib", type=float, help="read larger training sets from disk; half the memory if not given"
        )
        sub.add_argument("--disk-gib", type=float, help="discard the oldest simulations where there would be more")
    report = command("report", _report, "write report.html of a run, finished or not")
    report.add_argument("folder", help="directory of the run")
    report.add_argument("--watch", action="store_true", help="write it again every ten seconds until the run ends")
    command("check", _check, "run the conformance kit on a plugin").add_argument("plugin")
    return parser


def _plugins(known: argparse.Namespace, settings: list[str], arguments: list[str]) -> int:
    plugins, problems = discover()
    for name, plugin in plugins.items():
        print(f"{name:12s} {plugin.summary} ({len(plugin.recipes)} recipes)")
    for name, problem in problems.items():
        print(f"{name:12s} error: {problem}")
    if not plugins and not problems:
        print("no plugins are installed; for example pip install tmnre-gw")
    return 1 if problems else 0


def _recipes(known: argparse.Namespace, settings: list[str], arguments: list[str]) -> int:
    plugins, problems = discover()
    for plugin in plugins.values():
        for name, entry in plugin.recipes.items():
            print(f"{plugin.name + '/' + name:24s} {entry.summary}")
    for problem in problems.values():
        print(f"tmnre: warning: {problem}", file=sys.stderr)
    return 0


def _show(known: argparse.Namespace, settings: list[str], arguments: list[str]) -> int:
    recipe = find_recipe(known.recipe)
    from tmnre.settings import dump

    print(f"# {known.recipe}: {recipe.summary}\n# presets: {', '.join(recipe.presets) or 'none'}\n")
    print(dump(recipe.settings()), end="")
    return 0


def _cite(known: argparse.Namespace, settings: list[str], arguments: list[str]) -> int:
    from tmnre import citations

    folder = Path(known.what)
    if (folder / "meta.json").is_file():
        papers = citations.of_run(folder)
    else:
        papers = (*citations.method(), *find_recipe(known.what).papers)
    print("\n\n".join(papers))
    return 0


def _report(known: argparse.Namespace, settings: list[str], arguments: list[str]) -> int:
    from tmnre import report

    folder = Path(known.folder)
    live = known.watch
    print(report.write(folder, live=live))
    while live and report.going_on(folder):
        time.sleep(report.REFRESH_S)
        report.write(folder, live=(live := report.going_on(folder)))
    return 0


def _run(known: argparse.Namespace, settings: list[str], arguments: list[str]) -> int:
    if known.recipe is None:
        if not known.wants_help:
            raise ValueError("tmnre run needs a recipe, plugin/name; tmnre recipes lists them")
        print("usage: tmnre run RECIPE --out DIR [--config FILE.yaml] [--preset NAME] [--setting VALUE ...]\n")
        print("tmnre recipes lists the recipes; tmnre run RECIPE --help the settings of one")
        return 0
    recipe = find_recipe(known.recipe)
    from tmnre import settings as typed

    if known.wants_help:
        print(f"tmnre run {known.recipe} --out DIR [--config FILE.yaml] [--preset NAME] [--setting VALUE ...]\n")
        print(f"{recipe.summary}\n\nsettings:\n{typed.help_text(recipe)}")
        return 0
    if known.out is None:
        raise typed.SettingsError("tmnre run needs --out DIR, a new directory for the results")
    chosen = typed.parse(recipe, settings, config=Path(known.config) if known.config else None, preset=known.preset)
    return _execute(recipe, known.recipe, chosen, Path(known.out), known, arguments, resume=False)


def _resume(known: argparse.Namespace, settings: list[str], arguments: list[str]) -> int:
    from tmnre import run
    from tmnre import settings as typed

    name, config = run.recorded(Path(known.folder))
    recipe = find_recipe(name)
    chosen = typed.parse(recipe, config=config)
    return _execute(recipe, name, chosen, Path(known.folder), known, arguments, resume=True)


def _execute(
    recipe: Recipe,
    name: str,
    chosen: Any,
    out: Path,
    known: argparse.Namespace,
    arguments: list[str],
    *,
    resume: bool,
) -> int:
    from tmnre import run
    from tmnre.settings import changed, dump
    from tmnre.workers import dask

    analysis = recipe.build(chosen)
    about = {"summary": recipe.summary, "papers": list(recipe.papers), "changed": changed(recipe, chosen)}
    how = {"config": dump(chosen), "recipe": name, "command": ["tmnre", *arguments], "resume": resume, "about": about}
    with dask(known.executor, analysis.workers) if known.executor else nullcontext() as executor:
        budgets = {"memory_gib": known.memory_gib, "disk_gib": known.disk_gib}
        result = run.execute(analysis, out, **how, executor=executor, **budgets)
    print(f"\n{'parameter':22s} {'median':>10s} {'90% interval':>24s}" + ("      truth" if result.truth else ""))
    for parameter, found in result.summary().items():
        low, high = found["interval_90"]
        truth = f"{result.truth[parameter]:11.4g}" if parameter in result.truth else ""
        print(f"{parameter:22s} {found['median']:10.4g} {f'[{low:.4g}, {high:.4g}]':>24s}{truth}")
    for warning in result.warnings:
        print(f"warning: {warning}")
    print(f"\n{result.simulations:,} simulations in {len(result.rounds)} rounds; results and figures in {out}")
    return 0


def _check(known: argparse.Namespace, settings: list[str], arguments: list[str]) -> int:
    find_plugin(known.plugin)
    from tmnre.conformance import check

    findings = check(known.plugin)
    for finding in findings:
        print(finding)
    failed = sum(finding.state == "FAILED" for finding in findings)
    print(f"{len(findings)} checks, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
