"""Whole-step capture: ``torsh.compile``.

The first call with a given key records the step as one window (forward, backward and optimizer together), runs it, and
remembers how the window meets the outside world: which handles are its leaves, which numbers are drawn anew for each call,
and which handles take its results. Later calls fill in the current storages and numbers and run the program: no recording.
"""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from torsh.core.errors import CompileError
from torsh.graph import window as windows
from torsh.graph.handle import Handle, materialised
from torsh.graph.window import Window, flush, live_handles, live_views, run_window
from torsh.ops.expr import Expr, recording

MISSING: Final = object()
KEY_LIMIT: Final = 256            # captured programs kept per compiled function


class Structure:
    """Counts changes of anything that a captured step may depend on besides its arguments: parameters put into modules,
    train/eval switches, optimizer groups. Modules and optimizers call :meth:`changed`."""

    version = 0

    @classmethod
    def changed(cls) -> None:
        """Something that steps depend on has changed: captured steps are captured again."""
        cls.version += 1


class Capture:
    """What happens while a step is being captured."""

    def __init__(self) -> None:
        self.numbers: list[tuple[int, Callable[[], Any]]] = []
        self.before: list[Callable[[], None]] = []


class Captured:
    """One captured program and its connections."""

    __slots__ = ("program", "leaves", "arguments", "scalars", "numbers", "before", "states", "replaced", "nothing",
                 "grads", "result", "fresh")

    program: Any
    leaves: list[Any]
    arguments: list[int]
    scalars: list[Any]
    numbers: list[tuple[int, Callable[[], Any]]]
    before: list[Callable[[], None]]
    states: list[tuple[Any, int]]
    replaced: list[tuple[Any, int]]             # states that keep their memory, with the outputs that are stored there
    nothing: list[None]                         # one None for each output
    grads: list[tuple[Any, Any]]
    result: Any
    fresh: list[tuple[int, Expr]]


class Compiled:
    """A step function that runs as one program; see :func:`compile_step`."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        functools.update_wrapper(self, fn)
        self.function = fn
        self.cache: dict[Any, Captured | None] = {}     # None: recorded anew every time, see goes_on_outside()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if recording.capture is not None:           # a compiled function inside of a captured step is part of it
            return self.function(*args, **kwargs)
        tensors: list[Any] = []
        key: Any = (Structure.version, recording.grad_enabled)
        if args or kwargs:
            key = (*key, describe(args, tensors), describe(kwargs, tensors))
        entry: Any = self.cache.get(key, MISSING)
        if entry is MISSING:
            if len(self.cache) >= KEY_LIMIT:
                self.cache.clear()
            return self.capture(args, kwargs, tensors, key)
        if entry is None:
            return self.function(*args, **kwargs)
        return replay(entry, tensors)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def capture(self, args: Any, kwargs: Any, tensors: list[Any], key: Any) -> Any:
        """Record and run the step once, and remember it."""
        flush()
        window = recording.window
        recording.capture = Capture()
        try:
            out = self.function(*args, **kwargs)
        except BaseException:
            recording.window = Window()
            raise
        finally:
            state, recording.capture = recording.capture, None
        if recording.window is not window:
            return out                               # another thread interfered: this call stands, nothing is remembered
        entry = connect(window, state, tensors, out)
        if key[0] == Structure.version:
            self.cache[key] = None if goes_on_outside(entry) else entry
        return out


def describe(value: Any, tensors: list[Any]) -> Any:
    """A hashable description of arguments: shapes and dtypes of tensors (collected), other values as they are."""
    if isinstance(value, Handle):
        tensors.append(value)
        return (value._expr.shape, value._expr.dtype, value._leaf_grad)
    if isinstance(value, (list, tuple)):
        return (type(value), *[describe(v, tensors) for v in value])
    if isinstance(value, dict):
        return tuple((k, describe(v, tensors)) for k, v in value.items())
    try:
        hash(value)
    except TypeError:
        return id(value)
    return (type(value), value)


def connect(window: Window, state: Capture, tensors: list[Any], out: Any) -> Captured:
    """Run the captured window and note where its inputs come from and its outputs go."""
    entry = Captured()
    window.views = live_views(window.views, windows._references)
    live = live_handles(window.pending, windows._references)
    entry.leaves = list(window.leaves)
    entry.scalars = list(window.scalars)
    entry.numbers, entry.before = state.numbers, state.before
    positions = {id(t): i for i, t in enumerate(tensors)}
    entry.arguments = [positions.get(id(t), -1) for t in entry.leaves]
    if any(t._extra and t._extra.get("made_in_capture") for t in entry.leaves):
        raise CompileError("compile: the step makes tensors from Python or NumPy data while it runs; pass them as arguments "
                           "instead, so that each call sees its own")
    returned = {id(t) for t in flatten(out)}
    homes = [t._home is not None for t in live]
    entry.program = run_window(window)
    entry.nothing = [None] * len(entry.program.placeholders) if entry.program is not None else []
    recording.window = Window()
    window.closed = True
    numbers = {id(t): i for i, t in enumerate(live)}
    entry.states = [(t, i) for i, t in enumerate(live) if id(t) not in returned or homes[i]]
    entry.replaced = [(t, i) for t, i in entry.states if entry.program is not None and i in entry.program.in_place]
    entry.fresh = []
    entry.result = template(out, numbers, homes, entry.fresh)
    entry.grads = [(p, p._grad) for p in window.variables + entry.leaves if p._grad is not None]
    windows.release(window)
    return entry


def goes_on_outside(entry: Captured) -> bool:
    """May somebody call backward on what the function has computed? A compiled model is not a whole step: its calls are recorded,
    so that its backward and the loss are in one program with it, and every result has its own history."""
    return entry.program is not None and entry.program.history is not None and entry.program.history.is_open()


def flatten(out: Any) -> list[Any]:
    """The tensors in a step's result."""
    if isinstance(out, Handle):
        return [out]
    if isinstance(out, dict):
        return [t for v in out.values() for t in flatten(v)]
    return [t for v in out for t in flatten(v)] if isinstance(out, (list, tuple)) else []


def template(out: Any, numbers: dict[int, int], homes: list[bool], fresh: list[tuple[int, Expr]]) -> Any:
    """A function that builds the step's result from the new storages of a replay."""
    if isinstance(out, Handle):
        i = numbers.get(id(out), -1)
        if i >= 0 and not homes[i]:
            placeholder, cls = out._expr, type(out)
            history = out._history
            return lambda storages: with_history(materialised(cls, storages[i], placeholder), history)
        return lambda storages: out
    if isinstance(out, (list, tuple)):
        parts = [template(v, numbers, homes, fresh) for v in out]
        make = (lambda items: type(out)(*items)) if hasattr(out, "_fields") else type(out)
        return lambda storages: make([p(storages) for p in parts])
    if isinstance(out, dict):
        named = {k: template(v, numbers, homes, fresh) for k, v in out.items()}
        return lambda storages: {k: p(storages) for k, p in named.items()}
    return lambda storages: out


def with_history(t: Any, history: Any) -> Any:
    """The result with the (consumed) history that the captured one had."""
    t._history = history
    return t


def replay(entry: Captured, tensors: list[Any]) -> Any:
    """Run a captured program on the current values."""
    if recording.window.pending:
        flush()
    for action in entry.before:
        action()
    scalars = entry.scalars
    for position, source in entry.numbers:
        scalars[position] = source()
    leaves = entry.leaves
    if tensors:
        leaves = [leaf if a < 0 else tensors[a] for leaf, a in zip(leaves, entry.arguments, strict=True)]
    storages = [t._storage or windows.storage_of(t) for t in leaves]
    into: list[Any] = entry.nothing.copy()
    for t, i in entry.replaced:
        into[i] = t._storage
    results = entry.program.executable.run(storages, scalars, into)
    for t, i in entry.states:
        t._storage = results[i]
    for p, g in entry.grads:
        p._grad = g
    return entry.result(results)


def dynamic_scalar(source: Callable[[], Any]) -> Expr:
    """A number that is computed anew by ``source()`` for every call of a captured step."""
    capture = recording.capture
    if capture is not None:
        capture.numbers.append((len(recording.window.scalars), source))
    return windows.scalar_expr(source())


def before_replay(action: Callable[[], None]) -> None:
    """Do something now, and again before every replay of the step being captured (counting steps, drawing seeds)."""
    action()
    if recording.capture is not None:
        recording.capture.before.append(action)


def compile_step(model: Any = None, **options: Any) -> Any:
    """Compile a step function (or a module) into one program per argument shape: forward, backward and optimizer together.

    Everything that the step reads is noticed: arguments by shape and dtype, parameters and buffers by identity, train/eval.
    Python numbers inside of the step keep the value of the first call, except the optimizer's (learning rate, step counts)
    and random seeds. Reading a value inside (``.item()``, ``if tensor``) raises :class:`torsh.CompileError`.
    """
    if model is None:
        return lambda fn: compile_step(fn, **options)
    if hasattr(model, "forward") and hasattr(model, "_parameters"):
        model.forward = Compiled(model.forward)
        return model
    return Compiled(model)
