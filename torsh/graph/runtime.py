"""What a user controls of the runtime: forcing, threads and the backend."""
from __future__ import annotations

from typing import Any

from torsh.core import threads
from torsh.core.errors import InvalidArgumentError
from torsh.graph import window as windows
from torsh.graph.window import backend, flush, set_backend


def synchronize(device: Any = None) -> None:
    """Compute everything recorded in this thread that is still referred to."""
    flush()
    if windows._backend:
        backend().synchronize()


def use_backend(name: str) -> None:
    """Choose the backend that runs programs: ``"cpu"`` (compiled, the default) or ``"reference"`` (NumPy)."""
    set_backend(name)


def set_num_threads(count: int) -> None:
    """Use at most ``count`` threads for computing."""
    if not isinstance(count, int) or count < 1:
        raise InvalidArgumentError(f"set_num_threads expects a positive integer, got {count!r}")
    threads.set_num_threads(count)
    if windows._backend:
        backend().set_num_threads(count)


def get_num_threads() -> int:
    """Number of threads used for computing."""
    return threads.get_num_threads()


_interop = [1]


def set_num_interop_threads(count: int) -> None:
    """Accepted for compatibility: a program runs its kernels one after the other."""
    if not isinstance(count, int) or count < 1:
        raise InvalidArgumentError(f"set_num_interop_threads expects a positive integer, got {count!r}")
    _interop[0] = count


def get_num_interop_threads() -> int:
    """What :func:`set_num_interop_threads` was told."""
    return _interop[0]
