"""Windows: what has been recorded and not yet run, and how it is run.

Each thread records into a window of its own. A window runs as one program when a value is needed, at the end of an
optimizer's step, or when it grows past a limit. What the program has to compute is decided by reference counts: pending
handles that something besides the window still refers to. The program is looked up by (expressions of the live handles,
heads whose backward has been taken, in-place pairs), all compared by identity.
"""
from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from sys import getrefcount
from typing import Any, Final

from torsh.backend.base import Backend, Executable, Storage
from torsh.backend.watch import overwrite, share
from torsh.core.dtype import default_dtype_changed
from torsh.core.errors import DATA_ERRORS, CompileError, LinAlgError
from torsh.graph.handle import Token, expr_of, materialised, position_of, renew, requires_grad, run_behind, token_of, write
from torsh.ops.expr import (
    CACHES,
    DEBUG,
    LEAF_OP,
    MEMO_GRAD,
    MEMO_NO_GRAD,
    ORIGINS,
    SCALARS,
    VARIABLE_OP,
    Expr,
    emit1,
    new_window,
    no_grad_recording,
    placeholder_of,
    recording,
    scalar,
)

NODE_LIMIT: Final = 4096          # pending handles after which a window is run at the next safe point
PROGRAM_LIMIT: Final = 4096       # programs kept
MEMO_LIMIT: Final = 400_000       # interned expressions kept

PROGRAMS: Final[dict[Any, Program]] = {}
_backend: list[Backend] = []
# Set by the autograd layer: keep_history(live handles, consumed heads, cuts) -> HistoryPlan | None.
history_planner: list[Callable[..., Any]] = []
statistics: Final[dict[str, int]] = {"programs": 0, "flushes": 0}


class Program:
    """A compiled window: the executable, and what its outputs are for."""

    __slots__ = ("executable", "placeholders", "residuals", "history", "in_place")

    def __init__(self, executable: Executable, placeholders: list[Expr], residuals: list[tuple[int, Expr]], history: Any,
                 in_place: frozenset[int]) -> None:
        self.executable = executable
        self.placeholders = placeholders    # shape and dtype of each output; the first ones belong to the live handles
        # What backward needs: (number of the output that it is, or -1 - its leaf position; placeholder).
        self.residuals = residuals
        self.history = history
        self.in_place = in_place            # outputs that are stored in memory which tensors have already


class Window:
    """One thread's recording between two runs."""

    __slots__ = ("token", "pending", "views", "leaves", "storages", "scalars", "variables", "consumed", "cuts", "functions",
                 "lock", "closed", "renewed", "writing")
    tensor_class: Any = None

    def __init__(self, lock: Any = None) -> None:
        self.token = token_of(self)
        self.pending: list[Any] = []
        self.views: list[Any] = []            # views that require gradients: they may be asked for later
        self.leaves: list[Any] = []
        self.storages: list[Storage] = []
        self.scalars: list[Any] = []
        self.variables: list[Any] = []
        self.consumed: list[Expr] = []        # heads whose backward has been taken
        self.cuts: dict[Expr, Any] = {}       # expressions whose handles have hooks or retained gradients
        self.functions: list[Any] = []        # calls of custom autograd functions
        self.lock = threading.RLock() if lock is None else lock
        self.closed = False
        self.writing = False                  # the program that runs, or ran last, overwrites memory of tensors
        self.renewed: list[Any] = []          # earlier tokens: something that has views has been written

    def replace(self) -> Window:
        """Give this thread a new window (this one has been run by another thread)."""
        new = Window()
        if recording.window is self:
            recording.window = new
        return recording.window

    def reset(self) -> None:
        """Let go of everything: the window has been run, and recording starts again.

        Interrupts come in between calls: the new state is taken in one go, without any.
        """
        old, renewed, fresh = self.token, self.renewed, Token()
        fresh.window = self
        self.token = fresh
        self.pending, self.leaves, self.storages, self.scalars = [], [], [], []
        if self.views or self.variables or self.consumed or self.cuts or self.functions or renewed:
            self.variables, self.consumed, self.cuts, self.functions, self.renewed = [], [], {}, [], []
            self.views = []
        old.window = None                   # a window and its token refer to each other
        for token in renewed:
            token.window = None

    def run(self, token: Any) -> None:
        """Run the window, from whichever thread, if what was recorded under ``token`` has not been run."""
        if recording.window is self:
            flush()
            return
        with self.lock:
            if token.window is None:        # the owner was faster
                return
            # The owner may be recording at this moment: what it adds now is run by a later call, so the leaves stay.
            self.closed = True
            self.token = token_of(self)
            run_window(self)


_new: Final = object.__new__


def tensor_of(e: Expr) -> Any:
    """A tensor that stands for an expression of the current window: ``Tensor(e)``, on the hot path of recording."""
    window = recording.window
    t = _new(window.tensor_class)
    t._expr = e
    t._token = window.token
    t._storage = t._root = t._home = t._grad = t._history = t._extra = None
    t._version = 0
    t._leaf_grad = False
    window.pending.append(t)
    return t


def flush() -> None:
    """Run everything that this thread has recorded (later, if a step is being captured)."""
    window = recording.window
    if recording.capture is not None:
        return
    if not window.pending and not window.leaves:
        return
    lock = window.lock
    with lock:
        try:
            run_window(window)
        except BaseException as error:
            if not isinstance(error, Exception) and not window.writing and not window.closed:
                raise                       # interrupted, and nothing is overwritten: it can be run again
            abandon(window, error)
            finish(window)
            raise
        finish(window)
    if len(MEMO_GRAD) > MEMO_LIMIT or len(MEMO_NO_GRAD) > MEMO_LIMIT or len(PROGRAMS) > PROGRAM_LIMIT:
        evict()


def finish(window: Window) -> None:
    """Start recording anew, whatever comes in between."""
    try:
        _finish(window)
    except BaseException:                   # interrupted: parameters must not be left halfway between two windows
        _finish(window)
        raise


def _finish(window: Window) -> None:
    if window.closed:                       # another thread ran it meanwhile
        release(window)
        if recording.window is window:
            recording.window = Window(window.lock)
    else:
        window.reset()


def abandon(window: Window, error: BaseException) -> None:
    """The window's program failed: tensors that were to be changed keep their memory, new ones say why they have no value."""
    token = window.token
    token.error = f"{type(error).__name__}: {error}"
    for t in window.pending:
        if t._storage is not None or t._root is not None:
            continue
        t._token = token
        if t._home is not None:
            t._storage, t._home = t._home[0], None
            t._expr = placeholder_of(t._expr)


_NOTHING: Any = ()


def release(window: Window) -> None:
    """Let go of everything that a window which has been run referred to."""
    window.pending = window.views = window.leaves = window.storages = window.scalars = _NOTHING
    window.variables = window.consumed = window.cuts = window.functions = _NOTHING
    for token in (window.token, *window.renewed):
        token.window = None
    window.renewed = _NOTHING
    window.closed = True


def evict() -> None:
    """Empty the memos and the program cache together (expressions in use live on, they are only not shared any more)."""
    for cache in CACHES:
        cache.clear()
    PROGRAMS.clear()
    MEMO_GRAD.clear()
    MEMO_NO_GRAD.clear()


def live_handles(pending: list[Any], references: int) -> list[Any]:
    """Pending handles that something else than the pending list refers to."""
    return [t for t in pending if getrefcount(t) > references and t._root is None and t._storage is None]


def live_views(views: list[Any], references: int) -> list[Any]:
    """Views that something else than their list refers to, and whose root has not been written to since."""
    return [v for v in views if getrefcount(v) > references and v._version == v._root._version and not v._leaf_grad]


def run_window(window: Window) -> Program | None:
    """Compile (or look up) and run the program of a window; give the live handles their storages."""
    if window.views:                        # views that nobody refers to would keep their roots alive
        window.views = live_views(window.views, _references)
    live = [t for t in window.pending if getrefcount(t) > _references and t._root is None and t._storage is None]
    if window.closed:                       # it has been run before: what was written since may be pending in another thread's
        live = [t for t in live if t._token is not None and t._token.window is window]
    window.writing = False
    if not live:
        return None
    statistics["flushes"] += 1
    exprs = tuple([t._expr for t in live])
    into: list[Storage | None] = []
    pairs: tuple[int, ...] = ()
    for t in live:
        if t._home is not None:
            into, pairs = homes_of(live)
            break
    key: Any = (exprs, pairs, tuple(window.consumed), tuple(window.cuts)) if window.consumed or window.cuts else (exprs, pairs)
    views = window.views
    if views:
        key = (*key, *[v._expr for v in views])
    program = PROGRAMS.get(key)
    if program is None:
        program = build_program(window, live, views, exprs, pairs)
        PROGRAMS[key] = program
    if into:
        into.extend([None] * (len(program.placeholders) - len(into)))
        window.writing = True
    try:
        results = program.executable.run(window.storages, window.scalars, into)
    except DATA_ERRORS as error:
        raise rescue(error, live, into or [None] * len(live), window) from None
    try:
        assign(window, program, live, views, results)
    except BaseException:                   # interrupted: once more, or some tensors would have their new values, others none
        assign(window, program, live, views, results)
        raise
    return program


_NEW: Final = -2


def homes_of(live: list[Any]) -> tuple[list[Storage | None], tuple[int, ...]]:
    """Memory for each live handle that was written to: what it had before, if nobody else knows it; and its leaf position.

    The position is -1 if no leaf has that memory, and _NEW where the value gets new memory.
    """
    into: list[Storage | None] = []
    positions: list[int] = []
    for t in live:
        home = t._home
        if home is not None:
            storage, position = home
            # The references: the pair's own, the local name, the argument of getrefcount, the list of leaves if it is a leaf.
            if storage.shared or getrefcount(storage) <= (4 if position >= 0 else 3):
                into.append(storage)
                positions.append(position)
                continue
        into.append(None)
        positions.append(_NEW)
    return into, tuple(positions)


def rescue(error: Exception, live: list[Any], into: Sequence[Storage | None], window: Window) -> Exception:
    """A program met a bad index or matrix: compute what does not depend on it, and name the operation that met it.

    The program is evaluated again, operation by operation, until the one that fails. Under TORSH_DEBUG=1 the error names the
    user's line too.
    """
    from torsh.backend.reference.evaluate import find_failure
    found = find_failure([t._expr for t in live], window.storages, window.scalars)
    if found is None:
        return error
    e, problem = found
    bad: dict[Expr, bool] = {e: True}
    good = [i for i, t in enumerate(live) if not depends(t._expr, bad)]
    if good:
        executable = backend().compile(tuple([live[i]._expr for i in good]), ())
        results = executable.run(window.storages, window.scalars, [None] * len(good))
        for i, storage in zip(good, results, strict=True):
            t, home = live[i], into[i]
            if home is not None:                    # written only now, because its old value may have been read
                overwrite(home.pointer, storage.pointer, storage.nbytes)
                storage = home
            t._storage, t._home, t._token = storage, None, None
            t._expr = placeholder_of(t._expr)
    line = ORIGINS.get(e)
    at_call = isinstance(problem, LinAlgError)          # raised where it was recorded
    where = f" (recorded at {line})" if line else "" if DEBUG or at_call else " (set TORSH_DEBUG=1 to see the line that recorded it)"
    return type(problem)(f"{problem}{where}")


def depends(e: Expr, known: dict[Expr, bool]) -> bool:
    """Does the expression depend on one that is marked True in ``known``?"""
    stack = [e]
    while stack:
        top = stack[-1]
        if top in known:
            stack.pop()
            continue
        missing = [a for a in top.args if a not in known]
        if missing:
            stack.extend(missing)
            continue
        known[top] = any(known[a] for a in top.args)
        stack.pop()
    return known[e]


def assign(window: Window, program: Program, live: list[Any], views: list[Any], results: Sequence[Storage]) -> None:
    """Give the live handles what was computed for them."""
    placeholders = program.placeholders
    history = program.history
    for t, storage, placeholder in zip(live, results, placeholders):  # noqa: B905 - residuals follow
        t._storage = storage
        t._expr = placeholder
        t._token = t._home = None
    if history is not None:
        history.attach(window, [*live, *views], [
            materialised(Window.tensor_class, results[source] if source >= 0 else unshared(window.storages[-1 - source]), placeholder)
            for source, placeholder in program.residuals])


def unshared(storage: Storage) -> Storage:
    """The storage of a leaf for backward to keep: as it is, or a copy if code outside may write to it."""
    if not storage.shared:
        return storage                      # who writes to the leaf in place sees the reference, and takes other memory
    copy = backend().allocate(storage.nbytes)
    ctypes.memmove(copy.pointer, storage.pointer, storage.nbytes)
    return copy


def build_program(window: Window, live: list[Any], views: list[Any], exprs: Sequence[Expr], pairs: Sequence[int]) -> Program:
    """Compile the program of a window that has not been met before."""
    statistics["programs"] += 1
    history = history_planner[0](window, [*live, *views]) if history_planner else None
    outputs = list(exprs)
    sources: list[int] = []
    overwritten = {p for p in pairs if p >= 0}
    for e in history.residuals if history is not None else ():
        if e.op is LEAF_OP and e.attr not in overwritten:
            sources.append(-1 - e.attr)  # type: ignore[operator]  # memory that is there already
        else:
            sources.append(len(outputs))
            outputs.append(e)
    in_place = tuple((i, p) for i, p in enumerate(pairs) if p != _NEW)
    executable = backend().compile(tuple(outputs), in_place)
    placeholders = [placeholder_of(e) for e in outputs]
    kept = [placeholder_of(e) for e in history.residuals] if history is not None else []
    return Program(executable, placeholders, list(zip(sources, kept, strict=True)), history, frozenset(dict(in_place)))


def backend() -> Backend:
    """The backend in use, chosen by ``TORSH_BACKEND`` or :func:`set_backend`: ``"cpu"`` (compiled) or ``"reference"`` (NumPy)."""
    if not _backend:
        import os
        set_backend(os.environ.get("TORSH_BACKEND", "cpu"))
    return _backend[0]


def set_backend(name: str) -> None:
    """Choose the backend by name; programs compiled for the former one are dropped."""
    from torsh.core.errors import InvalidArgumentError
    new: Backend
    if name == "cpu":
        from torsh.backend.cpu.backend import CpuBackend
        new = CpuBackend()
    elif name == "reference":
        from torsh.backend.reference import ReferenceBackend
        new = ReferenceBackend()
    else:
        raise InvalidArgumentError(f"unknown backend {name!r}: use 'cpu' (compiled) or 'reference' (NumPy)")
    if recording.window is not None:
        flush_if_any = bool(_backend)
        if flush_if_any:
            flush()
    _backend[:] = [new]
    PROGRAMS.clear()


def storage_of(t: Any) -> Storage:
    """The storage of a handle that is no view, running the window if it is pending."""
    if t._storage is None:
        if recording.capture is not None:
            raise CompileError("compile: the value of a tensor was needed inside of a compiled step (.item(), .numpy(), print, "
                               "if tensor: ...). Return the tensor and read it outside, or do not compile this function.")
        run_behind(t._token)
    return t._storage


def shared_storage(t: Any) -> Storage:
    """The storage of a handle that is no view, from now on shared with code outside (NumPy, DLPack).

    What backward keeps of it stays as it is: then the handle takes other memory before it is shared.
    """
    storage = storage_of(t)
    if not storage.shared:
        own = 3 + sum(1 for s in recording.window.storages if s is storage)   # the handle, this name, getrefcount's argument
        if getrefcount(storage) > own:
            copy = backend().allocate(storage.nbytes)
            ctypes.memmove(copy.pointer, storage.pointer, storage.nbytes)
            t._storage = storage = copy
        share(storage)
    return storage


def scalar_expr(value: Any) -> Expr:
    """A run-time slot for a Python number (bool, int, float or complex)."""
    scalars = recording.window.scalars
    position = len(scalars)
    scalars.append(value)
    category, known = _CATEGORY[type(value)]
    found = known.get(position)
    return found if found is not None else scalar(position, category)


_CATEGORY: Final = {kind: (i, SCALARS[i]) for i, kind in enumerate((bool, int, float, complex))}


def rebind(tensors: Sequence[Any], exprs: Sequence[Expr]) -> None:
    """In-place assignment of new values to several handles at once (optimizers).

    The same as :func:`write` for each, except that the window's token changes once, after the last: until then each handle
    is known by the leaf that it is, so that its storage can be written in place.
    """
    window = recording.window
    if window.closed:
        window = window.replace()
    token, pending, variables = window.token, window.pending, window.variables
    memo = recording.no_grad_memo
    later: list[tuple[Any, Expr]] = []
    versioned = False
    for t, e in zip(tensors, exprs, strict=True):
        storage = t._storage
        if t._leaf_grad and t._root is None:
            found = memo.get((VARIABLE_OP, (e,), len(variables)))
            e = variable_of(e, len(variables)) if found is None else found
            variables.append(t)
        elif t._root is not None or (requires_grad(t) if storage is None else t._history is not None):
            later.append((t, e))                # views, and results of recorded operations
            continue
        if storage is not None:
            if t._token is token:
                old = t._expr
                position = old.attr if old.op is LEAF_OP else -1
            else:
                position = position_of(storage, window) if window.renewed else -1
            pending.append(t)
            t._home = (storage, position)           # from here on no calls: interrupts find the handle as it was, or written
            t._storage = None
        t._history = None
        t._expr = e
        t._token = token
        if t._version:
            t._version += 1
            versioned = True
    if versioned:
        renew(window)
        for t in tensors:
            if t._root is None and t._token is token:      # views have to be derived again
                t._token = window.token
    for t, e in later:
        write(t, e)


def variable_of(e: Expr, position: int) -> Expr:
    """The expression as the window's variable ``position``: an autograd leaf that has been assigned to."""
    with no_grad_recording():
        v = emit1(VARIABLE_OP, e, position)
    v.requires_grad = True
    return v


def calibrate() -> int:
    """How many references :func:`live_handles` itself holds to a handle."""
    class Probe:
        _root = None
        _storage = None

    for count in range(2, 10):
        if not live_handles([Probe()], count):
            return count
    raise RuntimeError("reference counts are not usable on this Python")


default_dtype_changed.append(evict)
_references: Final = calibrate()
new_window[:] = [Window]
recording.window = Window()
__all__ = ["Program", "Window", "backend", "evict", "expr_of", "flush", "rebind", "scalar_expr", "set_backend",
           "statistics", "storage_of"]
