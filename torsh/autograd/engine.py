"""Reverse mode over expressions.

The expression graph is the tape. :func:`propagate` walks it once in reverse topological order, turning gradient rules into
more expressions. Its result is memoised on the interned expressions, so the backward of a training step costs one
look-up when the step is recorded again.

Three kinds of expressions end or interrupt the walk:

- *targets*: leaves and variables (autograd leaves), and whatever the caller asks gradients for;
- *cuts*: expressions whose handles carry hooks or retained gradients, run as the walk passes;
- *function nodes*: custom autograd functions, whose backward is Python code.

The walk from handle to handle, and the Python code that takes part in it, is in :mod:`torsh.autograd.backward`.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

from torsh.core.errors import AutogradError
from torsh.graph.window import Window
from torsh.ops.contraction import sum_of
from torsh.ops.expr import (
    CACHES,
    LEAF_OP,
    MEMO_GRAD,
    MEMO_NO_GRAD,
    TABLE,
    VARIABLE_OP,
    Expr,
    Op,
    constant,
    emit1,
    emit2,
    grad_recording,
    recording,
)

_plans: Final[dict[Any, list[tuple[Expr, Expr]]]] = {}
CACHES.append(_plans)

# The value of output number attr of a custom function: args (value, node). The node's args are the function's inputs.
FUNCTION_NODE: Final = Op("function_node", lambda attr, *args: ((), args[0].dtype), None,
                          gradient=lambda e, g: (), kind="leaf")
FUNCTION_OUTPUT: Final = Op("function_output", lambda attr, value, node: (value.shape, value.dtype),
                            None, gradient=lambda e, g: (None, None), decompose=lambda e: e.args[0])


def ones_like(e: Expr) -> Expr:
    """An expression of ones in the shape and dtype of ``e``."""
    one = constant(1.0, e.dtype)
    return one if not e.shape else emit1(TABLE["expand"], one, e.shape)


def zeros_like(e: Expr) -> Expr:
    """An expression of zeros in the shape and dtype of ``e``."""
    zero = constant(0.0, e.dtype)
    return zero if not e.shape else emit1(TABLE["expand"], zero, e.shape)


def add(a: Expr, b: Expr) -> Expr:
    """Sum of two gradients of the same expression."""
    return emit2(TABLE["add"], a, b)


def topological(heads: Iterable[Expr], stop: Any = ()) -> list[Expr]:
    """The expressions that require gradients below the heads, arguments first; not below those in ``stop``."""
    order: list[Expr] = []
    seen: set[Expr] = set()
    stack: list[tuple[Expr, bool]] = [(h, False) for h in heads]
    while stack:
        e, done = stack.pop()
        if done:
            order.append(e)
            continue
        if e in seen or not e.requires_grad:
            continue
        seen.add(e)
        stack.append((e, True))
        if e.op is VARIABLE_OP or e in stop:
            continue
        for a in e.args:
            if a.requires_grad and a not in seen:
                stack.append((a, False))
    return order


def rule(e: Expr, g: Expr) -> Sequence[Expr | None]:
    """Gradients of the arguments of ``e``, by its rule or through its decomposition."""
    gradient = e.op.gradient
    found = None if gradient is None else gradient(e, g)
    return through_decomposition(e, g) if found is None else found


def through_decomposition(e: Expr, g: Expr) -> list[Expr | None]:
    """Gradients of a composite op without a rule: those of its decomposition."""
    # The arguments stand in as leaves of the decomposition, so that the walk ends there.
    with grad_recording():
        inner = e.op.decompose(e)  # type: ignore[misc]
    found = dict(propagate([(inner, g)], frozenset(a for a in e.args if a.requires_grad)))
    return [found.pop(a, None) for a in e.args]     # an argument that occurs twice gets its gradient once


def propagate(seeds: Sequence[tuple[Expr, Expr]], targets: Any = frozenset(), stop_at_targets: bool = True,
              callbacks: Callbacks | None = None) -> list[tuple[Expr, Expr]]:
    """Walk back from (head, gradient) pairs; returns (expression, gradient) for every leaf, variable and target reached.

    callbacks: runs what hangs on expressions, if Python code does. If that has run the window, the walk ends early and returns
    nothing: the callbacks have sent all gradients on.
    """
    order = topological([h for h, _ in seeds], targets if stop_at_targets else ())
    grads: dict[Expr, Any] = {}         # what arrives at an expression: pieces of its gradient, at a function {output: gradient}
    for head, g in seeds:
        grads.setdefault(head, []).append(g)
    found: list[tuple[Expr, Expr]] = []
    for e in reversed(order):
        arrived = grads.pop(e, None)
        if arrived is None:
            continue
        if e.op is FUNCTION_NODE:
            if callbacks is None:
                raise AutogradError("a custom function was met in a walk that cannot run it")
            pieces = callbacks.function(e, arrived, grads, found)
            if pieces is None:
                return []
        else:
            given = g = arrived[0] if len(arrived) == 1 else sum_of(arrived)
            if callbacks is not None and e in callbacks.cuts:
                after = callbacks.cut(e, g, grads, found)
                if after is None:
                    return []
                given, g = after
            is_target = e in targets
            if is_target or e.op is LEAF_OP or e.op is VARIABLE_OP:
                found.append((e, given))
                if stop_at_targets or not is_target or e.op is LEAF_OP or e.op is VARIABLE_OP:
                    continue
            if e.op is FUNCTION_OUTPUT:
                grads.setdefault(e.args[1], {})[e] = g
                continue
            pieces = rule(e, g)
        for a, piece in zip(e.args, pieces, strict=False):
            if piece is None or not a.requires_grad:
                continue
            known = grads.get(a)
            if known is None:
                grads[a] = [piece]
            else:
                known.append(piece)
    return found


class Callbacks(Protocol):
    """What a walk calls where Python code takes part; see :class:`torsh.autograd.backward.PythonCode`."""

    cuts: dict[Expr, Any]

    def cut(self, e: Expr, g: Expr, grads: dict[Expr, Any], found: list[tuple[Expr, Expr]]) -> tuple[Expr, Expr] | None:
        """The complete gradient of a cut expression: returns the one to give to who asks, and the one to go on with.

        None if the window has run.
        """

    def function(self, node: Expr, arrived: dict[Expr, Expr], grads: dict[Expr, Any],
                 found: list[tuple[Expr, Expr]]) -> Sequence[Expr | None] | None:
        """Gradients of a custom function's arguments, or None if the window has run."""


def planned(head: Expr, create_graph: bool) -> list[tuple[Expr, Expr]]:
    """The memoised backward of one head with a gradient of ones."""
    key = (head, create_graph)
    plan = _plans.get(key)
    if plan is None:
        with GradientRecording(create_graph):
            plan = propagate([(head, ones_like(head))])
        _plans[key] = plan
    return plan


def propagated(seeds: tuple[tuple[Expr, Expr], ...], wanted: tuple[Expr, ...], create_graph: bool) -> list[tuple[Expr, Expr]]:
    """The memoised backward of several heads, with gradients of expressions inside of the graph."""
    key = (seeds, wanted, create_graph)
    plan = _plans.get(key)
    if plan is None:
        with GradientRecording(create_graph):
            plan = _plans[key] = propagate(seeds, frozenset(wanted), False)
    return plan


class GradientRecording:
    """Context in which gradient rules record: with gradients of their own only for ``create_graph``."""

    __slots__ = ("create_graph", "saved")

    def __init__(self, create_graph: bool) -> None:
        self.create_graph = create_graph

    def __enter__(self) -> None:
        self.saved = (recording.memo, recording.grad_enabled)
        recording.memo = MEMO_GRAD if self.create_graph else MEMO_NO_GRAD
        recording.grad_enabled = self.create_graph

    def __exit__(self, *exc: object) -> None:
        recording.memo, recording.grad_enabled = self.saved


def target_of(e: Expr, window: Window) -> Any:
    """The handle that a leaf or variable expression of the window stands for."""
    return window.leaves[e.attr] if e.op is LEAF_OP else window.variables[e.attr]  # type: ignore[index, call-overload]
