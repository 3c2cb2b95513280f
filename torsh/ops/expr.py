"""Expressions: the interned, immutable nodes that recording, autograd and the compiler share.

An :class:`Expr` is one operation applied to expressions. Expressions are hash-consed: recording the same operation on the
same arguments returns the same object, so shape inference, type promotion and common-subexpression elimination cost one
dictionary look-up, and expressions are compared and hashed by identity.

An :class:`Op` is one row of the op table. Everything there is to know of an operation stands beside its row: inference,
the NumPy reference, the gradient (a rule from expressions to expressions, hence differentiable again) and either a
decomposition into other ops or a kind that the compiler knows.
"""
from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Hashable
from typing import Any, Final

import numpy as np

from torsh.core.dtype import DType, bool_, complex128, dtype_by_name, float64, int64

Shape = tuple[int, ...]
Gradient = "Expr | None"

# Kinds of ops, which is what the compiler needs to know of a primitive.
LEAF: Final = "leaf"                # inputs of a program: leaf, scalar, constant, variable
ELEMENTWISE: Final = "elementwise"  # one output element per broadcast input element
VIEW: Final = "view"                # an affine re-indexing of its first argument
REDUCTION: Final = "reduction"      # attr = (axes, keepdim)
OPAQUE: Final = "opaque"            # a template of its own (matmul, gather, scatter, ...)
HOST: Final = "host"                # runs through its NumPy reference
COMPOSITE: Final = "composite"      # has a decomposition


class Op:
    """One operation of the table.

    Args:
        name: unique name, the field's standard term.
        infer: ``infer(attr, *args) -> (shape, dtype)``; checks its arguments and raises at the user's line.
        reference: ``reference(attr, *arrays) -> array``: NumPy semantics, the oracle and the host fallback.
        gradient: ``gradient(expr, grad) -> tuple`` with one Expr or None per argument. Without one, or where it returns
            None, a COMPOSITE op is differentiated through its decomposition; any other op is not differentiable.
        decompose: ``decompose(expr) -> Expr`` in terms of other ops, for COMPOSITE ops.
        kind: one of the kinds above.
        template: ``template(expr) -> Expr | None``, for COMPOSITE and HOST ops: the same value from a primitive that does all
            of it at once, or None where there is none for these arguments. Compilers prefer it to the decomposition or the host.
        residual: a result of the forward pass that only backward reads: where backward runs later, it is kept.

    An op may have ``into(attr, out, *arrays) -> bool``, which writes what the reference gives into an array (that may share
    memory with the others), without a temporary one, or returns False where it has no way to: host steps ask it first.
    """

    __slots__ = ("name", "infer", "reference", "gradient", "decompose", "kind", "geometry", "differentiable", "template",
                 "residual", "into")

    def __init__(self, name: str, infer: Callable[..., tuple[Shape, DType]] | None,
                 reference: Callable[..., Any] | None, *, gradient: Callable[..., tuple[Any, ...] | None] | None = None,
                 decompose: Callable[[Expr], Expr] | None = None, kind: str = HOST,
                 geometry: Callable[..., Any] | None = None, template: Callable[[Expr], Expr | None] | None = None,
                 residual: bool = False) -> None:
        self.name = name
        self.template = template
        self.residual = residual
        self.into: Callable[..., bool] | None = None
        self.infer = infer
        self.reference = reference
        self.gradient = gradient
        self.decompose = decompose
        self.kind = COMPOSITE if decompose is not None else kind
        # Views only: geometry(attr, shape, strides, offset) -> (shape, strides, offset), in elements.
        self.geometry = geometry
        # An op without a rule of its own is differentiated through its decomposition.
        self.differentiable = gradient is not None or decompose is not None
        if name in TABLE:
            raise ValueError(f"two ops are called {name}")
        TABLE[name] = self

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return TABLE.__getitem__, (self.name,)


TABLE: Final[dict[str, Op]] = {}


class Expr:
    """One operation on expressions: op, args, attr, and what inference found (shape, dtype, requires_grad).

    ``plan`` is scratch space of autograd (the memoised backward of this expression).
    """

    __slots__ = ("op", "args", "attr", "shape", "dtype", "requires_grad", "plan")

    def __init__(self, op: Op, args: tuple[Expr, ...], attr: Hashable, shape: Shape, dtype: DType,
                 requires_grad: bool) -> None:
        self.op = op
        self.args = args
        self.attr = attr
        self.shape = shape
        self.dtype = dtype
        self.requires_grad = requires_grad
        self.plan: Any = None

    def __repr__(self) -> str:
        attr = "" if self.attr is None else f"[{self.attr}]"
        return f"{self.op.name}{attr}({', '.join(a.op.name for a in self.args)}):{self.dtype.name}{list(self.shape)}"


# Set by the graph layer: makes the window of a thread that starts to record.
new_window: Final[list[Callable[[], Any]]] = []


class Recording(threading.local):
    """Per-thread recording state: the memo in use, whether gradients are recorded, and the current window."""

    def __init__(self) -> None:
        self.memo: dict[Any, Expr] = MEMO_GRAD
        self.no_grad_memo: dict[Any, Expr] = MEMO_NO_GRAD
        # What ``memo`` is without and with gradients: the two above, or those of an autocast region.
        self.memos: tuple[dict[Any, Expr], dict[Any, Expr]] = (MEMO_NO_GRAD, MEMO_GRAD)
        self.grad_enabled: bool = True
        self.inference: bool = False
        self.autocast: DType | None = None    # the lower precision, in an autocast region
        self.capture: Any = None              # a step that is being captured by torsh.compile
        self.window: Any = new_window[0]() if new_window else None


# One memo per grad mode, because requires_grad is part of what an expression is.
MEMO_GRAD: Final[dict[Any, Expr]] = {}
MEMO_NO_GRAD: Final[dict[Any, Expr]] = {}
# Further tables keyed by expressions, emptied together with the memos.
CACHES: Final[list[dict[Any, Any]]] = []
# With TORSH_DEBUG=1: the user's line that recorded an expression first, for errors that are found when programs run.
DEBUG: Final = os.environ.get("TORSH_DEBUG", "") not in ("", "0")
ORIGINS: Final[dict[Expr, str]] = {}
CACHES.append(ORIGINS)
recording: Final = Recording()


class AutocastMemo(dict[Any, Expr]):
    """What operations recorded under autocast stand for: the same on operands of other dtypes (:mod:`torsh.ops.autocast`).

    Attributes: ``dtype`` (the lower precision), ``plain`` (the memo that the expressions themselves are in).
    """

    __slots__ = ("dtype", "plain")

    def __init__(self, dtype: DType, plain: dict[Any, Expr]) -> None:
        self.dtype = dtype
        self.plain = plain


# Set by torsh.ops.autocast: the operands of an operation (by name) as it takes them under autocast.
autocast_operands: Final[list[Callable[[str, DType, tuple[Any, ...]], tuple[Any, ...]]]] = []


def under_autocast(memo: AutocastMemo, name: str, args: tuple[Any, ...], build: Callable[..., Any]) -> Any:
    """``build`` on operands as autocast wants them for the operation called ``name``; nothing inside is cast again."""
    recording.memo = memo.plain
    try:
        return build(*autocast_operands[0](name, memo.dtype, args))
    finally:
        recording.memo = memo


def make(op: Op, args: tuple[Expr, ...], attr: Hashable, key: Hashable) -> Expr:
    """Create and intern an expression that the memo does not hold yet."""
    memo = recording.memo
    if memo.__class__ is AutocastMemo:
        found: Expr = under_autocast(memo, op.name, args, lambda *cast: emit(op, cast, attr))
        return memo.setdefault(key, found)
    shape, dtype = op.infer(attr, *args)  # type: ignore[misc]
    requires_grad = False
    if recording.grad_enabled and op.differentiable and dtype.category >= 2:
        for a in args:
            if a.requires_grad:
                requires_grad = True
                break
    made = memo.setdefault(key, Expr(op, args, attr, shape, dtype, requires_grad))
    if DEBUG:
        ORIGINS.setdefault(made, user_line())
    return made


def user_line() -> str:
    """``file:line`` of the innermost frame outside of ToRSh."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "torsh":
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def emit(op: Op, args: tuple[Expr, ...], attr: Hashable = None) -> Expr:
    """The interned expression ``op(*args)`` with attribute ``attr``."""
    key = (op, args, attr)
    found = recording.memo.get(key)
    return found if found is not None else make(op, args, attr, key)


def emit1(op: Op, a: Expr, attr: Hashable = None) -> Expr:
    """:func:`emit` for one argument."""
    key = (op, (a,), attr)
    found = recording.memo.get(key)
    return found if found is not None else make(op, (a,), attr, key)


def emit2(op: Op, a: Expr, b: Expr, attr: Hashable = None) -> Expr:
    """:func:`emit` for two arguments."""
    key = (op, (a, b), attr)
    found = recording.memo.get(key)
    return found if found is not None else make(op, (a, b), attr, key)


class no_grad_recording:
    """Context in which expressions are recorded without gradients (autograd's own rules, the compiler)."""

    __slots__ = ("saved",)

    def __enter__(self) -> None:
        self.saved = (recording.memo, recording.grad_enabled)
        recording.memo, recording.grad_enabled = recording.no_grad_memo, False

    def __exit__(self, *exc: object) -> None:
        recording.memo, recording.grad_enabled = self.saved


class grad_recording:
    """Context in which expressions are recorded with gradients, whatever mode the user's code is in."""

    __slots__ = ("saved",)

    def __enter__(self) -> None:
        self.saved = (recording.memo, recording.grad_enabled)
        recording.memo, recording.grad_enabled = MEMO_GRAD, True

    def __exit__(self, *exc: object) -> None:
        recording.memo, recording.grad_enabled = self.saved


# ---- inputs of programs ------------------------------------------------------------------------------------------------

LEAF_OP: Final[Op] = Op("leaf", None, None, kind=LEAF)          # attr = position among the window's leaves
SCALAR_OP: Final[Op] = Op("scalar", None, None, kind=LEAF)      # attr = position among the window's Python numbers
SEED_OP: Final[Op] = Op("seed", None, None, kind=LEAF)          # the symbolic gradient of a memoised backward
CONSTANT_OP: Final[Op] = Op(                                    # attr = (value, dtype name): a number known while compiling
    "constant", None, lambda attr: np.asarray(attr[0]).astype(dtype_by_name(attr[1]).numpy), kind=LEAF)
# A gradient target in the middle of a window (attr = position among the window's variables): its value is its argument's.
VARIABLE_OP: Final[Op] = Op("variable", lambda attr, a: (a.shape, a.dtype), lambda attr, a: a, kind=LEAF)
# The value of the second argument with the gradient history of the first (writes that autograd must not see).
REPLACE_OP: Final[Op] = Op("replace_value", lambda attr, old, new: (new.shape, new.dtype), lambda attr, old, new: new,
                       gradient=lambda e, g: (g, None), decompose=lambda e: e.args[1])
_SCALAR_DTYPES: Final = (bool_, int64, float64, complex128)
SCALARS: Final[tuple[dict[int, Expr], ...]] = ({}, {}, {}, {})      # by category and position
CACHES.extend(SCALARS)


def leaf(position: int, shape: Shape, dtype: DType, requires_grad: bool) -> Expr:
    """The window's leaf number ``position``."""
    key = (LEAF_OP, position, shape, dtype, requires_grad)
    found = MEMO_GRAD.get(key)
    if found is None:
        found = MEMO_GRAD.setdefault(key, Expr(LEAF_OP, (), position, shape, dtype, requires_grad))
    return found


def placeholder_of(e: Expr) -> Expr:
    """What stands for a materialised value: the shape and dtype of ``e``, in no window."""
    return leaf(-1, e.shape, e.dtype, False)


def scalar(position: int, category: int) -> Expr:
    """The window's Python number ``position``: a run-time value that takes part in promotion with the lowest priority."""
    known = SCALARS[category]
    found = known.get(position)
    return found if found is not None else known.setdefault(position, Expr(SCALAR_OP, (), position, (), _SCALAR_DTYPES[category], False))


def constant(value: Any, dtype: DType) -> Expr:
    """A number that is part of the program (0-dimensional, exactly ``dtype``)."""
    # repr in the key keeps -0.0 and 0.0, and 1 and True, apart.
    key = (CONSTANT_OP, repr(value), dtype)
    found = MEMO_GRAD.get(key)
    if found is None:
        found = MEMO_GRAD.setdefault(key, Expr(CONSTANT_OP, (), (value, dtype.name), (), dtype, False))
    return found


def promotion_priority(e: Expr) -> int:
    """Weight of an operand in type promotion: Python numbers 0, zero-dimensional tensors 1, others 2."""
    if e.shape:
        return 2
    return 0 if e.op is SCALAR_OP else 1
