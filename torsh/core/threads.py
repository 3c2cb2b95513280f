"""How many threads computing may use; backends read it."""
from __future__ import annotations

import os

_count: list[int] = []


def get_num_threads() -> int:
    """Number of threads in use: the CPUs that this process may run on, unless set otherwise."""
    if not _count:
        _count.append(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    return _count[0]


def set_num_threads(count: int) -> None:
    """Use at most ``count`` threads."""
    _count[:] = [count]
