"""What a user controls of the runtime: forcing, threads and the backend."""
from __future__ import annotations

from typing import Any

from torsh.core import threads
from torsh.core.errors import InvalidArgumentError
from torsh.graph import window as windows
from torsh.graph.capture import Compiled
from torsh.graph.handle import Handle, expr_of
from torsh.graph.window import backend, flush, set_backend


def synchronize(device: Any = None) -> None:
    """Compute everything recorded in this thread that is still referred to."""
    flush()
    for engine in windows._backend:
        engine.synchronize()


def use_backend(name: str) -> None:
    """Choose the backend that runs programs: ``"cpu"`` (compiled, the default) or ``"reference"`` (NumPy)."""
    set_backend(name)


def explain(target: Any, *args: Any, **kwargs: Any) -> Any:
    """What is computed, and how: the kernels in order, the operations they stand for, their code before machine code, bytes read
    and written, and rough numbers of arithmetic operations.

    target: a tensor: the program that computes its value is shown, nothing runs. Or a function: it is called once with the
    arguments, and all programs that run meanwhile are shown.

    Returns a :class:`torsh.compiler.explain.Explanation`: print it, or look at its ``programs`` and ``kernels``.
    Raises InvalidArgumentError where the backend compiles nothing (``"reference"``).

    >>> import torsh
    >>> x = torsh.ones(128, 1000)
    >>> torsh.synchronize()
    >>> found = torsh.explain(torsh.softmax, x, dim=1)
    >>> len(found.kernels), found.kernels[0].bytes_read, found.kernels[0].kind
    (1, 512000, 'loop')
    """
    from torsh.compiler.explain import explain as summarised
    executables = _compiled_for(target) if isinstance(target, Handle) else _compiled_by(target, args, kwargs)
    plans = [getattr(e, "plan", None) for e in executables]
    if any(p is None for p in plans):
        raise InvalidArgumentError(f"explain: the backend {backend().name!r} compiles nothing; choose torsh.use_backend('cpu')")
    return summarised(plans)  # type: ignore[arg-type]


def _compiled_for(t: Any) -> list[Any]:
    """The program of one tensor's value, compiled and not run."""
    if t._root is None and t._storage is not None:
        return []
    return [backend().compile((expr_of(t),), ())]


def _compiled_by(function: Any, args: Any, kwargs: Any) -> list[Any]:
    """The programs that run while a function does, and until its results are there."""
    synchronize()
    usual, found = backend(), []

    class Noting:
        """The backend in use, with a list of what it compiles."""

        def __getattr__(self, name: str) -> Any:
            return getattr(usual, name)

        def compile(self, outputs: Any, in_place: Any) -> Any:
            found.append(usual.compile(outputs, in_place))
            return found[-1]

    known = dict(windows.PROGRAMS)
    windows.PROGRAMS.clear()                    # everything is met for the first time
    windows._backend[:] = [Noting()]  # type: ignore[list-item]
    try:
        if isinstance(function, Compiled):
            function = Compiled(function.function)
        result = function(*args, **kwargs)
        flush()
        del result
    finally:
        windows._backend[:] = [usual]
        windows.PROGRAMS.update(known)
    return found


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
