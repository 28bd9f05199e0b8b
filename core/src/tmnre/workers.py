"""Where simulations run: processes of this machine, or a `concurrent.futures.Executor`, such as Dask's on a cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

_work: Callable[..., Any] | None = None


class _Inheriting(ProcessPoolExecutor):
    """Workers that were forked with the work to do, so that it need not be pickled: a simulator may hold anything."""

    def submit(self, fn: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        return super().submit(_do, *arguments, **named)


@contextmanager
def processes(workers: int, work: Callable[..., Any]) -> Iterator[Executor]:
    """Processes of one thread each, to submit calls of `work` to."""
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    with _Inheriting(workers, context, _start, (work,)) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def dask(spec: str, workers: int | None = None) -> Iterator[Executor]:
    """Executor on the Dask scheduler at dask://HOST:PORT, or, for plain "dask", on a local cluster of processes.

    Raises ValueError for another spec, ImportError with the line to type where Dask is missing, OSError when the
    scheduler does not answer.
    """
    if spec != "dask" and not spec.startswith("dask://"):
        raise ValueError(f"executor must be dask://HOST:PORT or dask (a local cluster), got {spec!r}")
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError("an executor dask://... needs Dask: pip install 'tmnre[dask]'") from error
    if spec == "dask":
        client = Client(n_workers=workers or os.cpu_count(), threads_per_worker=1, dashboard_address=None)
    else:
        client = Client("tcp://" + spec.removeprefix("dask://"), timeout=10)
    with client:
        yield client.get_executor(pure=False)


def _start(work: Callable[..., Any]) -> None:
    global _work
    torch.set_num_threads(1)
    _work = work
    # Ctrl-C reaches every process of a terminal; the parent decides
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker waits for tasks on a queue that its siblings hold open as well, so it would outlive a killed run."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _do(*arguments: Any) -> Any:
    assert _work is not None
    return _work(*arguments)
