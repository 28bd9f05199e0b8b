"""What this machine offers: memory, threads and arithmetic."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tmnre.analysis import Training
from tmnre.device import trains_on_cpu

WITHOUT_BF16 = ("NO AVX", "AVX2")
"""instruction sets, in torch's words, that compute nothing in bf16"""


def half_of_memory() -> float:
    """Half of the machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """With so many threads of torch (None: as many as it has), then as before."""
    before = torch.get_num_threads()
    if threads:
        torch.set_num_threads(min(threads, os.cpu_count() or 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def precision_on_this_machine(settings: Training) -> str:
    """The settings' precision, or single where that is bf16 and a processor without such arithmetic would train.

    x86 before AVX-512 has none: torch emulates it there, a hundred times slower than single precision.
    """
    emulated = trains_on_cpu(settings) and torch.backends.cpu.get_cpu_capability() in WITHOUT_BF16
    return "32-true" if emulated and settings.precision.startswith("bf16") else settings.precision
