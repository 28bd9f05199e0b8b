"""Where benchmarks keep their figures, with commit, date, command and machine beside them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "validation"))
from provenance import stamp  # noqa: E402

__all__ = ["load", "stamp", "store"]


def load(name: str) -> Any:
    """Stored figures, or {} where there are none."""
    path = HERE / "results" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def store(name: str, found: Any) -> None:
    """Write figures."""
    path = HERE / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
