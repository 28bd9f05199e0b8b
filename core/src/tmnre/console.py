"""Where a command's messages and progress bars go: terminal, log file, or nowhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm


@dataclass(frozen=True)
class Console:
    """Messages of one command.

    quiet : neither messages nor bars, only warnings and errors.
    json : standard output belongs to JSON; messages go to standard error.
    log : messages are appended here as well, each with date and time.
    """

    quiet: bool = False
    json: bool = False
    log: Path | None = None

    def __post_init__(self) -> None:
        if self.log is not None:  # a path that cannot be written is found out before the work
            with self.log.open("a", encoding="utf-8"):
                pass

    def say(self, line: str = "") -> None:
        """A message for whoever watches."""
        if not self.quiet:
            print(line, file=sys.stderr if self.json else sys.stdout, flush=True)
        self._note(line)

    def warn(self, line: str) -> None:
        """A message that `quiet` does not suppress."""
        print(f"warning: {line}", file=sys.stderr if self.json or self.quiet else sys.stdout, flush=True)
        self._note(f"warning: {line}")

    @property
    def progress(self) -> Callable[..., tqdm]:
        """Makes progress bars: of ten a second on a terminal, a line now and then in a log."""
        return partial(tqdm, disable=self.quiet, mininterval=0.1 if sys.stderr.isatty() else 10.0)

    def _note(self, line: str) -> None:
        if self.log is not None and line.strip():
            with self.log.open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line.strip()}\n")
