"""What the page of a run holds, gathered from the files of its directory: whatever is there already."""

from __future__ import annotations

import base64
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from markupsafe import Markup

from tmnre import citations
from tmnre.diagnostics.coverage import binomial_bands
from tmnre.files import read_json
from tmnre.region import relative
from tmnre.report import charts, verdicts, words
from tmnre.result import MarginalPosterior, load_marginals

STAGES = ("simulate", "prepare", "train", "evaluate")
OWN = {
    *("parameters", "truth", "effective_samples", "simulations", "rounds", "coverage", "diagnostics"),
    *("goodness_of_fit", "warnings", "checked"),
}
"""keys of summary.json that the core writes; the rest is the recipe's own"""
LARGEST_TEXT, LARGEST_FIGURE = 1 << 26, 1 << 25
"""bytes; a file of a run that is larger was not written by one"""
GREEK_NAMES = (
    "alpha beta gamma delta epsilon zeta eta theta kappa lambda mu nu xi pi rho sigma tau phi chi psi omega "
    "Gamma Delta Theta Lambda Sigma Phi Psi Omega odot circ"
)
GREEK_LETTERS = "αβγδεζηθκλμνξπρστφχψωΓΔΘΛΣΦΨΩ⊙°"
FIRST = ("data", "triangle", "rounds", "training", "percentiles")
DRAWN = ("rounds", "training")
"""figures of the core that the page draws itself"""


def contents(folder: Path) -> dict[str, Any]:
    """Everything `page.html` asks for.  Raises ValueError when the folder is no run directory or is damaged."""
    meta_path, config_path = folder / "meta.json", folder / "config.yaml"
    if not meta_path.is_file() or not config_path.is_file():
        raise ValueError(f"{folder} is not a run directory: it needs meta.json and config.yaml; tmnre run starts one")
    return _contents(folder, read(meta_path), config_path.read_text(errors="replace"))


def _contents(folder: Path, meta: Mapping[str, Any], config: str) -> dict[str, Any]:
    finished = (folder / "summary.json").is_file() and meta.get("state", "finished") == "finished"
    summary = read(folder / "summary.json") if finished else {}
    analyses = [_analysis(folder, path) for path in _analyses(folder)]
    asked = meta.get("analysis", {})
    labels = asked.get("labels", {})
    last: Mapping[str, Any] = next((a["records"][-1] for a in reversed(analyses) if a["records"]), {})
    figures = list(_figures(folder))
    checks = list(_checks(summary or last))
    checked, failed = str(summary.get("checked", "")), [check for check in checks if not check["passed"]]
    aside = [check for check in failed if checked and verdicts.by_simulations(check)]
    warnings = [str(warning) for warning in summary.get("warnings", ())]
    return {
        "folder": folder.resolve().name,
        "recipe": str(meta["recipe"]),
        "summary": str(meta.get("summary", "")),
        "state": "finished" if finished else str(meta.get("state", "running")),
        "reason": str(meta.get("reason", "")),
        "last_change": _last_change(folder),
        "asked": asked,
        "labels": {name: _plain_label(str(label)) for name, label in labels.items()},
        "recorded": "changed" in meta,
        "changed": {str(k): _short(v) for k, v in meta.get("changed", {}).items()},
        "data": meta.get("data", {}),
        "parameters": summary.get("parameters", {}),
        "rows": [_row(n, s, summary.get("truth", {})) for n, s in summary.get("parameters", {}).items()],
        "densities": _densities(folder, summary) if finished else [],
        "analyses": analyses,
        "checks": verdicts.grouped(checks),
        "failed": len(failed) - len(aside),
        "aside": len(aside),
        "checked": checked,
        "tested": len(checks),
        "warnings": warnings,
        "failures": [f for a in analyses for r in a["records"] for f in r.get("failures", ())][:5],
        "few": [name for name, n in summary.get("effective_samples", {}).items() if n < 100],
        "simulations": summary.get("simulations", sum(r["simulated"] for a in analyses for r in a["records"])),
        "sessions": meta.get("sessions", []),
        "wall_s": sum(session["wall_s"] for session in meta.get("sessions", ())),
        "extra": [_extra(name, value) for name, value in summary.items() if name not in OWN],
        "figures": [figure for figure in figures if figure["name"] != "data"],
        "observation": next((figure for figure in figures if figure["name"] == "data"), None),
        "citations": citations.entries(citations.used(meta, summary)),
        "machine": {key: meta[key] for key in ("device", "cpus", "python") if key in meta},
        "versions": meta.get("versions", {}),
        "seed": meta.get("seed"),
        "command": " ".join(_quoted(str(word)) for word in meta.get("command", ())),
        "again": f"tmnre run {meta['recipe']} --config {_quoted(str(folder / 'config.yaml'))} --out NEW",
        "install": _install(meta.get("versions", {})),
        "config": config,
    }


def read(path: Path) -> Any:
    """Content of a JSON file of a run.  Raises ValueError where it is damaged or far too large."""
    if path.stat().st_size > LARGEST_TEXT:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; a run writes no such file")
    try:
        return read_json(path)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); tmnre resume {path.parent} writes it anew") from error


def _analyses(folder: Path) -> list[Path]:
    """Folders of analyses: the run itself, or those of a procedure's steps, in the order of their names.

    A procedure may have rounds of its own, which are steps and hold no region; they are none.
    """
    rounds = [path for path in folder.glob("**/rounds") if path.is_dir()]
    return sorted({path.parent for path in rounds if all((r / "region.json").is_file() for r in _done(path.parent))})


def _done(path: Path) -> list[Path]:
    """Folders of the finished rounds of an analysis."""
    return [r for r in sorted((path / "rounds").glob("[0-9]*")) if (r / "DONE").is_file()]


def _analysis(folder: Path, path: Path) -> dict[str, Any]:
    done = _done(path)
    records = [read(r / "region.json") for r in done]
    curves = [read(r / "training.json") for r in done]
    going = [r.name for r in sorted((path / "rounds").glob("[0-9]*")) if not (r / "DONE").is_file()]
    longest = max((sum(r["seconds"].values()) for r in records), default=0.0)
    return {
        "name": "" if path == folder else str(path.relative_to(folder)),
        "records": records,
        "regions": _regions(records),
        "curves": [charts.training(int(r["round"]), c) for r, c in zip(records, curves, strict=True) if c],
        "rounds": [_round(record, longest) for record in records],
        "stages": [part for part in STAGES if any(part in record["seconds"] for record in records)],
        "seconds": sum(sum(record["seconds"].values()) for record in records),
        "going": int(going[0]) if going else None,
        "shrunk": math.exp(records[-1]["next_log_volume"]) if records else 1.0,
    }


def _round(record: Mapping[str, Any], longest: float) -> dict[str, Any]:
    parts = {part: float(record["seconds"].get(part, 0.0)) for part in STAGES}
    bar = charts.seconds(f"Seconds of round {record['round']}", parts, longest)
    keys = ("round", "simulated", "reused", "failed", "steps", "kept", "best_validation_loss")
    return {**{key: record[key] for key in keys}, "seconds": parts, "bar": bar, "total_s": sum(parts.values())}


def _regions(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Name, picture and last share of what shrank, parameters first; those that stayed whole are left out."""
    if not records:
        return []
    boxes = [record["region"] for record in records] + [records[-1]["next_region"]]
    rows = []
    for part in ("cube", "derived"):
        for name in boxes[-1][part]:
            shares, gaps = relative(boxes, name)
            share = shares[-1][1] - shares[-1][0] - sum(b - a for a, b in gaps[-1]) if shares else 1.0
            if share > 0.98:
                continue
            low, high = boxes[-1][part][name]
            kept = words.percent(share) if part == "cube" else f"{words.number(low)} to {words.number(high)}"
            rows.append({"name": name, "kept": kept, "picture": charts.regions(name, shares, gaps)})
    return rows


def _checks(summary: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every check of the last round, and those of a recipe's own that have a verdict."""
    yield from summary.get("diagnostics", ())
    for name, found in summary.get("coverage", {}).items():
        if isinstance(found, Mapping):
            yield {
                "name": f"central intervals {name}",
                "p_value": found["p_uniform"],
                "passed": found["passed"],
                "numbers": _with_bands(found, int(summary["coverage"]["simulations"])),
            }
    yield from summary.get("goodness_of_fit", ())
    for name, found in summary.items():
        if name not in OWN and isinstance(found, Sequence) and not isinstance(found, str):
            yield from (each for each in found if isinstance(each, Mapping) and {"name", "passed"} <= set(each))


def _with_bands(found: Mapping[str, Any], n: int) -> dict[str, float]:
    """Coverage by level, with the band that a right posterior stays in."""
    levels = [level for level in verdicts.LEVELS if level in found]
    numbers: dict[str, float] = {}
    for level, (low, high) in zip(levels, binomial_bands(n, [float(level) for level in levels]), strict=True):
        numbers |= {level: found[level], f"{level}_low": low, f"{level}_high": high}
    return numbers


def _row(name: str, found: Mapping[str, Any], truth: Mapping[str, float]) -> dict[str, Any]:
    low, high = found["interval_90"]
    return {
        "name": name,
        **words.with_errors(found["median"], low, high),
        "interval_68": [words.number(value, 4) for value in found["interval_68"]],
        "interval_90": [words.number(value, 4) for value in found["interval_90"]],
        "truth": words.number(truth[name], 4) if name in truth else "",
        "modes": len([1 for a, b in found.get("hpd_90", ()) if b > a]),
    }


def _densities(folder: Path, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    path, names = folder / "posterior.h5", list(summary.get("parameters", {}))
    if not path.is_file() or not names:
        return []
    try:
        with h5py.File(path) as file:
            names = [name for name in names if name in file]
        marginals = load_marginals(path, names)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); tmnre resume {folder} writes it anew") from error
    return [
        {"name": name, "picture": _density(name, marginals[name,], summary["parameters"][name], summary["truth"])}
        for name in names
    ]


def _density(name: str, marginal: MarginalPosterior, found: Mapping[str, Any], truth: Mapping[str, float]) -> Markup:
    values = marginal.samples[:, 0]
    order = np.argsort(values)
    cumulative = np.cumsum(marginal.weights[order])
    ends = np.searchsorted(cumulative, [1e-3, 1 - 1e-3]).clip(max=len(order) - 1)
    low, high = (float(value) for value in values[order][ends])
    margin = 0.1 * (high - low) or 0.5
    low, high = max(low - margin, float(values.min())), min(high + margin, float(values.max()))
    if name in truth and math.isfinite(truth[name]):
        low, high = min(low, truth[name] - margin), max(high, truth[name] + margin)
    if not low < high:
        low, high = low - 0.5, high + 0.5
    grid = np.linspace(low, high, 200)
    return charts.density(name, grid, marginal.density(grid), found, truth.get(name))


def _figures(folder: Path) -> Iterator[dict[str, str]]:
    """The recipe's own figures and the triangle, as data URIs; what the page draws itself is left out."""
    found = {path.stem: path for path in sorted((folder / "figures").glob("*.png")) if path.is_file()}
    for name in [*(n for n in FIRST if n in found), *(n for n in found if n not in FIRST)]:
        path = found[name]
        if name in DRAWN or path.is_symlink() or path.stat().st_size > LARGEST_FIGURE:
            continue
        encoded = base64.b64encode(path.read_bytes()).decode()
        yield {"name": name, "title": TITLES.get(name, name.replace("_", " ").capitalize()), "png": encoded}


TITLES = {
    "data": "The observation",
    "percentiles": "Percentile-percentile plot of the last round, of simulations that training has not seen",
    "triangle": "Marginals and learned joints: 50% and 90% regions; dashed the median, orange the truth where known",
}


def _extra(name: str, value: Any) -> dict[str, Any]:
    """A result of the recipe's own: one value, a table of values, or a table of rows."""
    title = name.replace("_", " ").capitalize()
    if isinstance(value, Mapping) and all(not isinstance(v, Mapping | list) for v in value.values()):
        return {"title": title, "pairs": {str(k): words.number(v, 4) for k, v in value.items()}}
    if isinstance(value, Mapping) and value and all(isinstance(v, Mapping) for v in value.values()):
        value = [{"": key, **row} for key, row in value.items()]
    if isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value):
        columns = list(dict.fromkeys(key for row in value for key in row))
        rows = [[_short(row.get(column, "")) for column in columns] for row in value[:50]]
        return {"title": title, "columns": columns, "rows": rows, "left_out": max(0, len(value) - 50)}
    return {"title": title, "value": _short(value)}


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {_short(v)}" for k, v in list(value.items())[:8]) + (" …" if len(value) > 8 else "")
    if isinstance(value, list | tuple):
        return ", ".join(_short(v) for v in value[:8]) + (f" … ({len(value)} values)" if len(value) > 8 else "")
    return "none" if value is None else words.number(value, 4)


def _plain_label(label: str) -> str:
    """A LaTeX label without its markup, as far as that is simple."""
    label = re.sub(r"\\([A-Za-z]+)", lambda found: GREEK.get(found[1], found[0]), label)
    return re.sub(r"\\(?:mathrm|text|rm|mathcal)\s*|\\[,;]|[${}\\]", "", label).strip()


GREEK = dict(zip(GREEK_NAMES.split(), GREEK_LETTERS, strict=True))


def _install(versions: Mapping[str, str]) -> str:
    """Without what only says which build it was: 2.13.0+cpu is not on every index."""
    return " ".join(["pip install", *(f"{name}=={version.partition('+')[0]}" for name, version in versions.items())])


def _quoted(word: str) -> str:
    return word if re.fullmatch(r"[\w@%+=:,./\-\[\]]+", word) else "'" + word.replace("'", "'\\''") + "'"


def _last_change(folder: Path) -> str:
    """When the newest file of the run was written."""
    files = [p for p in (folder, folder / "meta.json", *folder.glob("**/rounds/*"), *folder.glob("**/store/*"))]
    newest = max((path.stat().st_mtime for path in files if path.exists()), default=0.0)
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(newest))
