"""What a user controls of the runtime: forcing, threads, the backend, and seeing what was compiled."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torsh.core import threads
from torsh.core.errors import InvalidArgumentError
from torsh.graph import window as windows
from torsh.graph.handle import Handle
from torsh.graph.window import backend, flush, live_handles, set_backend
from torsh.ops.expr import recording


def synchronize(device: Any = None) -> None:
    """Compute everything recorded in this thread that is still referred to."""
    flush()
    if windows._backend:
        backend().synchronize()


def use_backend(name: str) -> None:
    """Run programs on ``"cpu"`` (compiled) or ``"reference"`` (NumPy, the oracle of the tests)."""
    set_backend(name)


def set_num_threads(count: int) -> None:
    """Use at most ``count`` threads for computing."""
    if not isinstance(count, int) or count < 1:
        raise InvalidArgumentError(f"set_num_threads expects a positive integer, got {count!r}")
    threads.set_num_threads(count)


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


def explain(target: Any, *args: Any, **kwargs: Any) -> str:
    """The kernels that compute a tensor, or that a function's call records, as text: operations, shapes, bytes, flops.

    target: a pending tensor, or a function called with the further arguments.
    """
    from torsh.compiler.explain import explain_program
    if isinstance(target, Handle):
        outputs = [target]
    elif isinstance(target, Callable):  # type: ignore[arg-type]
        flush()
        result = target(*args, **kwargs)
        outputs = live_handles(recording.window.pending, windows._references)
        del result
    else:
        raise InvalidArgumentError(f"explain expects a tensor or a function, got {type(target).__name__}")
    exprs = tuple(t._expr for t in outputs if t._storage is None)
    return explain_program(exprs) if exprs else "nothing is pending: the value has been computed"
