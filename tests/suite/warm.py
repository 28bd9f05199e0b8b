"""Runs command lines in forks of one process that has imported the heavy libraries: a second each instead of ten.

Reads one JSON request per line, of "arguments", "environment", and the files "stdout" and "stderr"; answers each with
the exit code.
"""

import json
import os
import sys

import lightning.pytorch  # noqa: F401
import matplotlib.pyplot  # noqa: F401

import tmnre.conformance
import tmnre.run  # noqa: F401
from tmnre.cli import main


def run(arguments: list[str], environment: dict[str, str], stdout: str, stderr: str) -> int:
    """The exit code of a fork that runs the command line."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        for number, path in ((0, os.devnull), (1, stdout), (2, stderr)):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644), number)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:0] = environment["PYTHONPATH"].split(os.pathsep)
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


if __name__ == "__main__":
    for line in sys.stdin:
        print(run(**json.loads(line)), flush=True)
