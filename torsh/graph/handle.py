"""Handles: what a Tensor is to the recorder.

A handle is either

- *pending*: it stands for an expression of a window that has not run yet (``_storage is None``),
- *materialised*: it owns a storage; when it takes part in an operation it enters the window as a leaf, or
- a *view*: root + chain of view ops. Its value is always derived from the root, so writes through any alias are seen by all.

``_token`` says for which state of which window ``_expr`` is valid. The hot path of recording is the single comparison
``t._token is window.token``; everything else happens in :func:`synchronise_handle`.
"""
from __future__ import annotations

from functools import lru_cache
from sys import getrefcount
from typing import TYPE_CHECKING, Any, Final

from torsh.core.dtype import bool_
from torsh.core.errors import CompileError
from torsh.ops.expr import (
    LEAF_OP,
    SCALAR_OP,
    TABLE,
    VARIABLE_OP,
    Expr,
    Op,
    constant,
    emit,
    emit1,
    emit2,
    grad_recording,
    leaf,
    make,
    no_grad_recording,
    recording,
)
from torsh.ops.reinterpretation import changes_dtype, written_through

if TYPE_CHECKING:
    from torsh.backend.base import Storage
    from torsh.graph.window import Window

Chain = tuple[tuple[Op, Any], ...]
_MANY_VIEWS: Final = 4096         # noted views from which on dead ones are looked for


class Token:
    """Identity of one state of a window: expressions noted under it are valid while it is the window's current one."""

    __slots__ = ("window", "error")
    window: Window | None
    error: str                  # why the window's values were never computed


def token_of(window: Window) -> Token:
    """A new state of a window."""
    token = Token()
    token.window = window
    return token


def run_behind(token: Token) -> None:
    """Run the window that a pending handle belongs to; raises RuntimeError if that has failed before."""
    if token.window is None:
        raise CompileError("the value of this tensor was never computed, because the program that it was part of failed: "
                           + getattr(token, "error", "it was interrupted"))
    token.window.run(token)


class Handle:
    """The recorder's part of a Tensor; see the module's docstring.

    Slots: ``_expr`` (the value; of a materialised handle a placeholder with its shape and dtype), ``_token``, ``_storage``,
    ``_root`` and ``_chain`` (views), ``_version`` (counts writes to the root; of a view: the root's version at its last
    derivation), ``_home`` (storage that a pending handle had before it was written to, with its leaf position),
    ``_leaf_grad`` (the requires_grad flag of autograd leaves), ``_grad``, ``_history`` (how gradients go on behind a
    materialised handle), ``_extra`` (rare things: hooks, retained gradients; a dict).
    """

    __slots__ = ("_expr", "_token", "_storage", "_root", "_chain", "_version", "_home", "_leaf_grad", "_grad",
                 "_history", "_extra", "__weakref__")

    if TYPE_CHECKING:                       # Tensor, the only subclass, has much more
        def __getattr__(self, name: str) -> Any: ...

    _expr: Expr
    _token: Token | None
    _grad: Any
    _extra: Any
    _history: Any
    _home: Any
    _storage: Storage | None
    _root: Any
    _chain: Chain

    def __init__(self, expr: Expr) -> None:
        window = recording.window
        self._expr = expr
        self._token = window.token
        self._storage = None
        self._root = None
        self._version = 0
        self._home = None
        self._leaf_grad = False
        self._grad = None
        self._history = None
        self._extra = None
        window.pending.append(self)


def materialised(cls: Any, storage: Storage, placeholder: Expr) -> Any:
    """A new handle of class ``cls`` that owns ``storage``; the placeholder gives shape and dtype."""
    t = cls.__new__(cls)
    t._expr = placeholder
    t._token = None
    t._storage = storage
    t._root = None
    t._version = 0
    t._home = None
    t._leaf_grad = False
    t._grad = None
    t._history = None
    t._extra = None
    return t


def expr_of(t: Any) -> Expr:
    """The expression that stands for the handle in the current window."""
    return t._expr if t._token is recording.window.token else synchronise_handle(t)


def synchronise_handle(t: Any) -> Expr:
    """Slow path of :func:`expr_of`: enter the window as a leaf, or derive a view again after a write."""
    window = recording.window
    storage = t._storage
    if storage is None or t._root is not None or window.renewed or window.closed:
        return synchronise_other(t, window)
    # A materialised handle becomes a leaf; written flat, because each operand of each step comes by.
    e = t._expr
    leaves = window.leaves
    position = len(leaves)
    needs_grad = t._leaf_grad or t._history is not None
    if e.attr != position or e.requires_grad is not needs_grad or e.op is not LEAF_OP:     # not as in the last window
        t._expr = e = leaf(position, e.shape, e.dtype, needs_grad)
    leaves.append(t)
    window.storages.append(storage)
    t._token = window.token
    return e


def synchronise_other(t: Any, window: Window) -> Expr:
    """:func:`synchronise_handle` for views, pending handles of other threads, and windows with writes through views."""
    if window.closed:                       # another thread ran this thread's window
        window = window.replace()
    root = t._root
    if root is None:
        token = t._token
        if t._storage is None and token.window is not window:
            run_behind(token)               # pending in another thread's window
        e = t._expr if t._storage is None else enter(t, window)
    else:
        root_expr = root._expr if root._token is window.token else synchronise_handle(root)
        if t._version == root._version and t._token is not None and t._token.window is window:
            e = t._expr
        else:
            e = derive(t, root_expr, window)
    t._expr = e
    t._token = window.token
    return e


def enter(t: Any, window: Window) -> Expr:
    """Make a materialised handle a leaf of the window, unless it has been one under an earlier token."""
    known = t._expr
    needs_grad = t._leaf_grad or t._history is not None
    position = position_of(t._storage, window)
    if position < 0:
        position = len(window.leaves)
        window.leaves.append(t)
        window.storages.append(t._storage)
    return leaf(position, known.shape, known.dtype, needs_grad)


def position_of(storage: Storage | None, window: Window) -> int:
    """The leaf position of a storage in the window, or -1."""
    for position, other in enumerate(window.storages):
        if other is storage:
            return position
    return -1


def renew(window: Window) -> None:
    """Something that has views was written: expressions of views and leaves are looked up again."""
    window.renewed.append(window.token)
    window.token = token = Token()
    token.window = window


def derive(t: Any, root_expr: Expr, window: Window) -> Expr:
    """The expression of a view, from its root's.

    Whether it requires gradients was decided when the view was made (its chain has a ``detach`` if not), not by the mode now.
    """
    through = t._extra.get("through") if t._extra else None
    base = root_expr if through is None else expr_of(through)       # through: a view of an autograd leaf that is itself a view
    chain = t._chain if through is None else t._chain[len(through._chain):]
    if base.requires_grad and not recording.grad_enabled:
        with grad_recording():
            e = apply_chain(base, chain)
    else:
        e = apply_chain(base, chain)
    t._version = t._root._version
    if t._leaf_grad:
        e = make_variable(t, e, window)
    elif e.requires_grad:
        note_view(window.views, t)
    return e


def apply_chain(e: Expr, chain: Chain) -> Expr:
    """Apply view ops one after the other."""
    for op, attr in chain:
        e = emit1(op, e, attr)
    return e


def make_variable(t: Any, e: Expr, window: Window) -> Expr:
    """Mark the expression as an autograd leaf in the middle of the window, standing for handle ``t``."""
    with no_grad_recording():
        v = emit1(VARIABLE_OP, e, len(window.variables))
    v.requires_grad = True
    window.variables.append(t)
    return v


def root_of(t: Any) -> Any:
    """The handle that owns the storage; from now on its writes are counted, because it has views."""
    root = t._root
    if root is None:
        root = t
        if t._version == 0:
            t._version = 1
    return root


def requires_grad(t: Any) -> bool:
    """Does the handle take part in autograd?"""
    if t._leaf_grad:
        return True
    if t._root is None and t._storage is not None:
        return t._history is not None
    return expr_of(t).requires_grad


_new: Final = object.__new__


def make_view(t: Any, op: Op, attr: Any, cls: Any = None) -> Any:
    """A view of ``t``: shares its root and follows all writes. It is derived from there, never computed for itself."""
    window = recording.window
    e = t._expr if t._token is window.token else synchronise_handle(t)
    key = (op, (e,), attr)
    out = recording.memo.get(key)
    if out is None:
        out = make(op, (e,), attr, key)
    v = _new(cls or window.tensor_class)
    root = t._root
    if root is None:
        root = t
        if t._version == 0:
            t._version = 1                  # from now on its writes are counted, because it has views
        v._chain = ((op, attr),)
        v._extra = None
    else:
        v._chain = (*t._chain, (op, attr))
        # A view of a leaf that is itself a view: gradients must reach that leaf.
        v._extra = {"through": t} if t._leaf_grad else None
    if out.requires_grad:
        note_view(window.views, v)
    elif e.requires_grad and op is not DETACH():
        v._chain = (*v._chain, (DETACH(), None))
        out = emit1(DETACH(), out)
    v._expr = out
    v._token = recording.window.token
    v._root = root
    v._version = root._version
    v._storage = v._home = v._grad = v._history = None
    v._leaf_grad = False
    return v


def note_view(views: list[Any], view: Any) -> None:
    """Note a view that requires gradients in its window: if it is still alive when the window runs, it gets a history."""
    views.append(view)
    count = len(views)
    if count >= _MANY_VIEWS and not count & (count - 1):
        # The list's reference, the loop's name, and the argument.
        views[:] = [v for v in views if getrefcount(v) > 3]


def make_views(t: Any, chain: Chain) -> Any:
    """A view through several view ops, one after the other."""
    window = recording.window
    e = t._expr if t._token is window.token else synchronise_handle(t)
    if len(chain) == 1 or e.requires_grad or t._leaf_grad:
        for op, attr in chain:
            t = make_view(t, op, attr)
        return t
    root = t._root
    v = _new(recording.window.tensor_class)
    v._expr = apply_chain(e, chain)
    if root is None:
        root = t
        if t._version == 0:
            t._version = 1
        v._chain = chain
    else:
        v._chain = (*t._chain, *chain)
    v._token = recording.window.token
    v._root = root
    v._version = root._version
    v._storage = v._home = v._grad = v._history = v._extra = None
    v._leaf_grad = False
    return v


def DETACH() -> Op:
    """The op ``detach`` (looked up late: the table's families load after this module)."""
    return TABLE["detach"]


def write(t: Any, e: Expr) -> None:
    """In-place assignment of a new value to a handle, seen by all its aliases."""
    if e.requires_grad and not recording.grad_enabled:
        e = emit1(DETACH(), e)              # a leaf is an expression that requires gradients in any mode
    window = recording.window
    if window.closed:
        window = window.replace()
    root = t._root
    if root is None:
        write_root(t, e, window)
    else:
        write_through(t, e, root, window)


def write_root(t: Any, e: Expr, window: Window) -> None:
    """:func:`write` for a handle that owns its storage."""
    if e.op is SCALAR_OP:                   # a tensor's value is no Python number, also where types are promoted
        e = emit1(TABLE["clone"], e)
    old = t._expr if t._token is window.token or t._storage is not None else synchronise_handle(t)
    home = None
    if t._leaf_grad:
        if not (e.op is VARIABLE_OP and window.variables[e.attr] is t):  # type: ignore[call-overload]
            e = make_variable(t, e, window)
    elif requires_grad(t):
        if not recording.grad_enabled:
            e = keep_history(expr_of(t), e)     # the graph behind the handle stays; only its value changes
        elif not e.requires_grad:
            e = joined_to_graph(e, expr_of(t))
    if t._storage is not None:
        if t._token is window.token:
            position: Any = old.attr if old.op is LEAF_OP else -1
        else:
            position = position_of(t._storage, window) if window.renewed else -1
        if t._history is not None and position >= 0:
            window.leaves[position] = former(t, t._history)
        home = (t._storage, position)
        window.pending.append(t)
    if t._version:
        renew(window)
        t._version += 1
    if home is not None:                # from here on no calls: interrupts find the handle as it was, or written
        t._home = home
        t._storage = None
    t._history = None
    t._expr = e
    t._token = window.token


def former(t: Any, history: Any) -> Any:
    """A handle for a value that ``t`` had before it was written: gradients go on behind it."""
    if recording.capture is not None:
        raise CompileError("compile: a tensor that has a gradient history from outside of the step is written in place inside of it. "
                           "Write to a copy (t.clone()), or do not compile this function.")
    found = materialised(type(t), None, t._expr)  # type: ignore[arg-type]
    found._history = history
    return found


def joined_to_graph(new: Expr, old: Expr) -> Expr:
    """The value of ``new`` in the graph of ``old``, whose gradient is 0: a tensor in a graph that is overwritten stays in it."""
    return emit(TABLE["where"], (constant(True, bool_), new, old))


def keep_history(old: Expr, new: Expr) -> Expr:
    """The value of ``new`` with the gradient history of ``old``."""
    with grad_recording():
        return emit2(TABLE["replace_value"], old, new)


def write_region(t: Any, e: Expr, names: tuple[tuple[str, Any], ...]) -> None:
    """In-place assignment to a region of a handle that owns its storage: the region that view ops lead to."""
    window = recording.window
    if window.closed:
        window = window.replace()
    base = t._expr if t._token is window.token else synchronise_handle(t)
    write_root(t, emit2(TABLE["view_write"], base, e, names), recording.window)


@lru_cache(4096)
def links_of(chain: Chain) -> tuple[tuple[Any, ...], bool]:
    """A chain of views as :func:`torsh.ops.reinterpretation.written_through` takes it, and whether there is a ``detach`` in it."""
    detach = DETACH()
    links: list[Any] = []
    names: list[tuple[str, Any]] = []
    for op, attr in chain:
        if changes_dtype(op):
            links.append((tuple(names), op, attr))
            names = []
        elif op is not detach:
            names.append((op.name, attr))
    return (*links, (tuple(names), None, None)), any(op is detach for op, _ in chain)


def write_through(t: Any, e: Expr, root: Any, window: Window) -> None:
    """:func:`write` for a view: replace its region of the root."""
    links, detached = links_of(t._chain)
    detached = detached or t._leaf_grad
    root_expr = root._expr if root._token is window.token else synchronise_handle(root)
    base = emit1(DETACH(), root_expr) if detached and root_expr.requires_grad else root_expr
    e_written = emit1(DETACH(), e) if detached and e.requires_grad else e
    new = written_through(base, e_written, links)
    if detached and root_expr.requires_grad and not root._leaf_grad:
        new = keep_history(root_expr, new)
    write_root(root, new, recording.window)
    window = recording.window
    t._version = root._version
    if t._leaf_grad:
        e = make_variable(t, e, window)
    elif e.requires_grad is not (root._expr.requires_grad and not detached):
        t._version, t._token = -1, None     # the value has another history than was written: it is derived when it is asked for
        return
    t._expr = e
    t._token = window.token
