"""Files that are written whole or not at all: to a temporary name beside the target, then renamed."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Call `write` with a temporary path in the same folder and rename it to `path` when it has succeeded.

    The temporary name keeps the suffix (numpy appends one otherwise).
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Text, whole or not at all."""
    write_whole(path, lambda temporary: temporary.write_text(text))


def write_json(path: Path, content: Any) -> None:
    """Indented JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Content of a JSON file."""
    return json.loads(path.read_text())


def checksum(path: Path) -> int:
    """CRC-32 of a file's content."""
    total = 0
    with path.open("rb") as content:
        while block := content.read(1 << 22):
            total = zlib.crc32(block, total)
    return total


def checksum_of(array: np.ndarray) -> int:
    """CRC-32 of a contiguous array's bytes."""
    return zlib.crc32(array.data.cast("B") if array.size else b"")


def mismatch(folder: Path, sums: Mapping[str, int]) -> str | None:
    """The first of the files {"name": checksum} that is missing or damaged; None if all are as they were written."""
    for name, expected in sums.items():
        path = folder / name
        try:
            # a name that leads elsewhere is none of ours, and a pipe would never end
            if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file() or checksum(path) != expected:
                return name
        except (OSError, ValueError):
            return name
    return None
