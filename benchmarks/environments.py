"""Environments of peers, which pin versions of what they share with us."""

from __future__ import annotations

import subprocess
import venv
from pathlib import Path

PEERS = Path(__file__).parent / "peers"


def environment(peer: str, *first: str) -> Path:
    """Interpreter of a peer's own environment, made if it is not there: `first`, then PEER-requirements.txt."""
    folder = PEERS / f".{peer}-venv"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet"]
        if first:
            subprocess.run([*install, *first], check=True)
        subprocess.run([*install, "-r", str(PEERS / f"{peer}-requirements.txt")], check=True)
    return python
