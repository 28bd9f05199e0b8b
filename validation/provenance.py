"""What a stored figure needs beside it: commit, date, command and machine."""

import datetime
import os
import shlex
import subprocess
import sys
from pathlib import Path

import torch


def stamp() -> dict[str, object]:
    """Commit (with + where files were changed), date, command, CPUs, GPU, threads of this process, instructions."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=False).stdout.strip()

    results = [f":!../{folder}/results" for folder in ("validation", "benchmarks")]
    changed = git("status", "--porcelain", "--untracked-files=no", "--", "..", *results)
    # without folders and interpreters, which are one machine's
    private = {"--runs", "--python"}
    arguments = [a for a, before in zip(sys.argv[1:], sys.argv, strict=False) if not private & {a, before}]
    script = Path(sys.argv[0]).resolve()
    return {
        "commit": git("rev-parse", "--short", "HEAD") + ("+" if changed else ""),
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", f"{script.parent.name}/{script.name}", *arguments]),
        "cpus": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch_threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }
