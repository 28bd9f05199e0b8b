"""What all tests share."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch


def pytest_collection_modifyitems(items):
    """What is marked as long comes first."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Small networks on busy cores are many times slower with two threads than with one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Started:
    """A command line that was started; `process` is also its group's number."""

    def __init__(self, command_line: "CommandLine", process: int) -> None:
        self._ask, self.process, self._code = command_line.ask, process, None

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        if self._code is None:
            self._code = self._ask("poll", self.process)
        return self._code

    def wait(self, timeout_s: float = 600) -> int:
        """Its exit code, when it has ended."""
        end = time.monotonic() + timeout_s
        while self.poll() is None:
            assert time.monotonic() < end, f"process {self.process} goes on after {timeout_s} s"
            time.sleep(0.01)
        return self._code

    def signal(self, number: signal.Signals) -> None:
        """As a terminal does: to every process of the group."""
        os.killpg(self.process, number)


class CommandLine:
    """Runs `tmnre` in forks of a process that has its libraries loaded."""

    def __init__(self, warm: subprocess.Popen) -> None:
        self._warm = warm

    def ask(self, what: str, given: Any) -> Any:
        """One request to the process, see `warm.py`."""
        self._warm.stdin.write(json.dumps({what: given}) + "\n")
        self._warm.stdin.flush()
        return json.loads(self._warm.stdout.readline())

    def start(self, *arguments: Any, environment: dict[str, str], out: Path, err: Path | None = None) -> Started:
        """Go on at once; `out` (standard error as well where there is no `err`) is written anew."""
        files = [out, err or out]
        for file in files:
            file.write_text("")
        return Started(self, self.ask("start", [[str(a) for a in arguments], environment, *map(str, files)]))


@pytest.fixture(scope="session")
def command_line():
    """Of one process for all tests of a worker."""
    command = [sys.executable, str(Path(__file__).with_name("warm.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield CommandLine(process)
        process.stdin.close()
