"""Runs command lines in forks of one process that has imported the heavy libraries: a second each instead of ten.

Reads one JSON request per line and answers each with one number:

    {"start": [arguments, environment, stdout, stderr]}    its process, in a session of its own; files are appended to
    {"poll": process}                                      its exit code, or null while it runs
"""

import json
import os
import signal
import sys

import lightning.pytorch  # noqa: F401
import matplotlib.pyplot  # noqa: F401

import tmnre.conformance
import tmnre.run  # noqa: F401
from tmnre.cli import main


def start(arguments: list[str], environment: dict[str, str], stdout: str, stderr: str) -> int:
    """A fork that runs the command line."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        # as in a terminal; what a shell starts in its background ignores it, and so would this
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, path in ((0, os.devnull), (1, stdout), (2, stderr)):
            os.dup2(os.open(path, os.O_RDWR | os.O_APPEND), number)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
        sys.argv = ["tmnre", *arguments]
        code = main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def poll(process: int) -> int | None:
    """Its exit code, as `subprocess` gives it, or None while it runs."""
    found, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


if __name__ == "__main__":
    for line in sys.stdin:
        ((what, given),) = json.loads(line).items()
        answer = start(*given) if what == "start" else poll(given)
        print(json.dumps(answer), flush=True)
