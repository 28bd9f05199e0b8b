"""What each command does, between the parsed command line and the core; returns the exit code.

What is heavy is imported by the command that needs it: listing plugins loads neither torch nor numpy.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tmnre.plugin import discover, find_plugin, find_recipe

if TYPE_CHECKING:
    from tmnre.console import Console
    from tmnre.recipe import Recipe
    from tmnre.result import Result

Action = Callable[[argparse.Namespace, list[str], list[str]], int]
"""(what was parsed, the rest, all arguments) -> exit code"""
STRICT = 3


def plugins(known: argparse.Namespace, settings: list[str], arguments: list[str]) -> int:
    """List plugins, working or not."""
    found, problems = discover()
    for name, plugin in found.items():
        print(f"{name:12s} {plugin.summary} ({len(plugin.recipes)} recipes)")
    for name, problem in problems.items():
        print(f"{name:12s} error: {problem}")
    if not found and not problems:
        print("no plugins are installed; for example pip install tmnre-gw, or write one: tmnre new-plugin NAME")
    return 1 if problems else 0


def recipes(known: argparse.Namespace, settings: list[str], arguments: list[str]) -> int:
    """List recipes."""
    found, problems = discover()
    for plugin in found.values():
        for name, entry in plugin.recipes.items():
            print(f"{plugin.name + '/' + name:24s} {entry.summary}")
    for problem in problems.values():
        print(f"tmnre: warning: {problem}", file=sys.stderr)
    return 0


def show(known: argparse.Namespace, settings: list[str], arguments: list[str]) -> int:
    """A recipe's defaults as YAML."""
    recipe = find_recipe(known.recipe)
    from tmnre.settings import dump

    print(f"# {known.recipe}: {recipe.summary}\n# presets: {', '.join(recipe.presets) or 'none'}\n")
    print(dump(recipe.settings()), end="")
    return 0


def cite(known: argparse.Namespace, settings: list[str], arguments: list[str]) -> int:
    """BibTeX of a run or a recipe."""
    from tmnre import citations

    folder = Path(known.what)
    if (folder / "meta.json").is_file():
        papers = citations.of_run(folder)
    elif folder.is_dir() or known.what.startswith(("/", ".")):
        raise ValueError(f"{folder} is no run directory, which has a meta.json; give one, or a recipe: plugin/name")
    else:
        papers = (*citations.method(), *find_recipe(known.what).papers)
    print("\n\n".join(papers))
    return 0


def run(known: argparse.Namespace, settings: list[str], arguments: list[str]) -> int:
    """Run a recipe, or estimate what that would cost."""
    if known.recipe is None:
        if not known.wants_help:
            raise ValueError("tmnre run needs a recipe, plugin/name; tmnre recipes lists them")
        print("usage: tmnre run RECIPE --out DIR [--config FILE.yaml] [--preset NAME] [--setting VALUE ...]\n")
        print(f"{RUN_OPTIONS}\ntmnre recipes lists the recipes; tmnre run RECIPE --help the settings of one")
        return 0
    if known.recipe.startswith("-"):
        raise ValueError(f"the recipe comes first, tmnre run plugin/name {known.recipe} ...; tmnre recipes lists them")
    recipe = find_recipe(known.recipe)
    from tmnre import settings as typed

    if known.wants_help:
        print(f"tmnre run {known.recipe} --out DIR [--config FILE.yaml] [--preset NAME] [--setting VALUE ...]\n")
        print(f"{recipe.summary}\n\n{RUN_OPTIONS}\nsettings:\n{typed.help_text(recipe)}")
        return 0
    if known.out is None and not known.dry_run:
        raise typed.SettingsError("tmnre run needs --out DIR, a new directory for the results")
    chosen = typed.parse(recipe, settings, config=Path(known.config) if known.config else None, preset=known.preset)
    if known.dry_run:
        return _estimate(recipe.build(chosen), known)
    return _execute(recipe, known.recipe, chosen, Path(known.out), known, arguments, resume=False)


RUN_OPTIONS = """options:
  --dry-run          estimate simulations, disk and time from a short probe; compute nothing else
  --executor WHERE   simulate on dask://HOST:PORT, or dask for a local cluster
  --memory-gib X     read larger training sets from disk (default: half of the memory)
  --disk-gib X       discard the oldest simulations where there would be more
  --quiet            print warnings and errors only
  --log-file FILE    append messages to a file as well, with date and time
  --json             print summary.json on standard output, messages on standard error
  --strict           exit with 3 where the result has a warning
"""


def resume(known: argparse.Namespace, settings: list[str], arguments: list[str]) -> int:
    """Go on with a run."""
    from tmnre import run as runs
    from tmnre import settings as typed

    name, config = runs.recorded(Path(known.folder))
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
    from tmnre import run as runs
    from tmnre.console import Console
    from tmnre.settings import changed, dump
    from tmnre.workers import dask

    work = recipe.build(chosen)
    console = Console(known.quiet, known.json, known.log_file)
    about = {
        "summary": recipe.summary,
        "papers": [*recipe.papers, *recipe.also(chosen)],
        "changed": changed(recipe, chosen),
    }
    how: dict[str, Any] = {
        "config": dump(chosen),
        "recipe": name,
        "command": ["tmnre", *arguments],
        "resume": resume,
        "about": about,
    }
    how |= {"memory_gib": known.memory_gib, "disk_gib": known.disk_gib}
    how |= {"progress": console.progress, "say": console.say}
    with dask(known.executor, work.workers) if known.executor else nullcontext() as executor:
        result = runs.execute(work, out, executor=executor, **how)
    _tell(result, console, out)
    if known.json:
        print((out / "summary.json").read_text(), end="")
    return STRICT if known.strict and result.warnings else 0


def _tell(result: Result, console: Console, out: Path) -> None:
    console.say(f"\n{'parameter':22s} {'median':>10s} {'90% interval':>24s}" + ("      truth" if result.truth else ""))
    for parameter, found in result.summary().items():
        low, high = found["interval_90"]
        truth = f"{result.truth[parameter]:11.4g}" if parameter in result.truth else ""
        console.say(f"{parameter:22s} {found['median']:10.4g} {f'[{low:.4g}, {high:.4g}]':>24s}{truth}")
    for warning in result.warnings:
        console.warn(warning)
    rounds = f" in {len(result.rounds)} rounds" if result.rounds and not result.further_simulations else ""
    cost = f"{result.simulations:,} simulations{rounds}; " if result.simulations else ""
    console.say(f"\n{cost}open {out / 'report.html'}")


def _estimate(work: Any, known: argparse.Namespace) -> int:
    import json

    from tmnre.estimate import estimate
    from tmnre.report.words import duration

    found = estimate(work, disk_gib=known.disk_gib)
    if known.json:
        print(json.dumps(found.to_dict(), indent=2))
        return 0
    steps = f"{found.steps[0]:,}" if found.steps[0] == found.steps[1] else f"{found.steps[0]:,} to {found.steps[1]:,}"
    low, high = (duration(seconds) for seconds in found.total_s)
    low_train, high_train = (duration(seconds) for seconds in found.train_s)
    lines = {
        "rounds": f"at most {found.rounds}",
        "simulations": f"at most {found.simulations:,}, {found.seconds_each * 1e3:.3g} ms each on one core",
        "disk": f"at most {found.disk_gib:.2g} GiB, {found.bytes_each:,} bytes a simulation",
        "simulating": f"{duration(found.simulate_s)} in {found.workers} process" + ("es" if found.workers > 1 else ""),
        "training": f"{low_train if low_train == high_train else f'{low_train} to {high_train}'}, {steps} steps of "
        f"{found.step_s * 1e3:.3g} ms",
        "the rest": f"{duration(found.rest_s)} or more: preparing, evaluating, checking",
        "in all": f"about {low if low == high else f'{low} to {high}'}, within a factor of two, if every round runs",
    }
    for what, said in lines.items():
        print(f"{what:12s} {said}")
    if not found.whole:
        print("this is one analysis of a procedure, whose other steps are not in it")
    return 0


def report(known: argparse.Namespace, settings: list[str], arguments: list[str]) -> int:
    """Write a run's page, once or until the run ends."""
    from tmnre import report as page

    folder = Path(known.folder)
    live = known.watch and page.going_on(folder)
    print(page.write(folder, live=live))
    while live:
        time.sleep(page.REFRESH_S)
        page.write(folder, live=(live := page.going_on(folder)))
    return 0


def check(known: argparse.Namespace, settings: list[str], arguments: list[str]) -> int:
    """The conformance kit."""
    find_plugin(known.plugin.partition("/")[0])
    from tmnre.conformance import check as findings_of

    count = failed = 0
    for finding in findings_of(known.plugin):
        print(finding, flush=True)
        count, failed = count + 1, failed + (finding.state == "FAILED")
    print(f"{count} checks, {failed} failed")
    return 1 if failed else 0


def new_plugin(known: argparse.Namespace, settings: list[str], arguments: list[str]) -> int:
    """Write a plugin to start from, and say what to type next."""
    from tmnre.newplugin import create

    folder = create(known.name, known.into)
    print(f"wrote {folder}; next:\n")
    for line in (
        f"pip install -e {folder}",
        f"tmnre check {known.name}",
        f"tmnre run {known.name}/decay --out runs/decay",
    ):
        print(f"    {line}")
    print(f"\nthen read {folder / 'README.md'}, which says where to change what")
    return 0


def completion(known: argparse.Namespace, settings: list[str], arguments: list[str]) -> int:
    """Print a completion script."""
    from tmnre.completion import SCRIPTS

    print(SCRIPTS[known.shell], end="")
    return 0


def complete(words: Sequence[str], options: Mapping[str, Sequence[str]]) -> int:
    """What a completion script asks for."""
    from tmnre.completion import candidates

    print("\n".join(candidates(words, options)))
    return 0
