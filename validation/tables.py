"""What the sections of the validation page share: stored results, tables, provenance."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent


def load(name: str):
    """A stored result, or None where it was never made."""
    path = HERE / "results" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Markdown table; numbers to three significant digits."""
    lines = [list(head), ["---"] * len(list(head)), *rows]
    return "\n".join("| " + " | ".join(_cell(v) for v in line) + " |" for line in lines) + "\n"


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def made(entry: dict) -> str:
    """Where a figure comes from."""
    gpu, threads = entry.get("gpu"), entry["torch_threads"]
    machine = f"{gpu}, {entry['cpus']} cores" if gpu else f"{threads} torch thread(s)"
    return f"`{entry['command']}`, commit {entry['commit']}, {entry['date']}, {machine}"
