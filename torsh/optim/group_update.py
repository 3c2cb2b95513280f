"""Updates of whole parameter groups: one dictionary look-up instead of thousands of recorded operations.

A *rule* is a function over expressions, written with :mod:`torsh.ops.common`::

    def rule(options, p, g, *states, *numbers) -> (new p, *new states)

It is run once for each parameter of a group; the resulting expressions are memoised under the identity of all inputs.
Because expressions are interned by their position in the window, a training loop meets the same inputs in every step, and a
step costs one look-up. Numbers (learning rate, bias corrections) are run-time slots: a new value never makes a new program.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from torsh.core.dtype import float32
from torsh.graph.capture import dynamic_scalar
from torsh.graph.window import expr_of, rebind, scalar_expr
from torsh.ops.common import add, cast, mul, sub
from torsh.ops.expr import (
    CACHES,
    LEAF_OP,
    MEMO_GRAD,
    TABLE,
    Expr,
    emit1,
    emit2,
    leaf,
    no_grad_recording,
    recording,
)
from torsh.optim.direct import DirectUpdate

Rule = Callable[..., tuple[Expr, ...]]
MEMO_LIMIT: Final = 1024

_memo: Final[dict[Any, list[Expr]]] = {}
CACHES.append(_memo)


def group_update(rule: Rule, options: tuple[Any, ...], params: Sequence[Any], grads: Sequence[Any], states: Sequence[Any],
                 numbers: Sequence[Any], *, differentiable: bool = False, direct: DirectUpdate | None = None) -> None:
    """Record the update of a group and assign the new values in place.

    Args:
        rule, options: what to compute; ``options`` are hashable and part of the program.
        params, grads: n parameters and their gradients.
        states: k·n state tensors, first the first state of all parameters, then the second, …
        numbers: handed to the rule as zero-dimensional expressions of the computing dtype; Python numbers, or while a step
            is being captured functions that give the number of each call.
        differentiable: record the update for autograd.
        direct: runs the update at once if nothing is recorded and all values are in memory.
    """
    window = recording.window
    if window.closed:
        window = window.replace()
    targets = [*params, *states]
    if direct is not None and not differentiable and recording.capture is None and not window.pending and not window.leaves:
        def new_values(inputs: list[Expr], slots: list[Expr]) -> list[Expr]:
            return build(rule, options, len(params), inputs, slots)
        if direct.run((rule, options), new_values, targets, grads, [float(value) for value in numbers]):
            return
    inputs = expressions([*targets, *grads], window)
    if recording.capture is None:
        slots = [scalar_expr(float(value)) for value in numbers]
    else:
        slots = [dynamic_scalar(source) for source in numbers]
    key = (rule, options, differentiable and recording.grad_enabled, *inputs, *slots)
    outputs = _memo.get(key)
    if outputs is None:
        if len(_memo) >= MEMO_LIMIT:
            _memo.clear()
        if differentiable:
            outputs = build(rule, options, len(params), inputs, slots)
        else:
            with no_grad_recording():
                outputs = build(rule, options, len(params), inputs, slots)
        _memo[key] = outputs
    rebind(targets, outputs)


def expressions(handles: Sequence[Any], window: Any) -> list[Expr]:
    """:func:`expr_of` for many handles: materialised ones become leaves of the window without a call for each."""
    token, leaves, storages = window.token, window.leaves, window.storages
    found = MEMO_GRAD.get
    result = []
    for t in handles:
        if t._token is token:
            result.append(t._expr)
            continue
        storage = t._storage
        if storage is None or t._root is not None:
            result.append(expr_of(t))           # pending in another window, or a view
            continue
        known = t._expr
        position, requires_grad = len(leaves), t._leaf_grad or t._history is not None
        if known.attr == position and known.requires_grad is requires_grad and known.op is LEAF_OP:
            e: Any = known
        else:
            e = found((LEAF_OP, position, known.shape, known.dtype, requires_grad))
            if e is None:
                e = leaf(position, known.shape, known.dtype, requires_grad)
        leaves.append(t)
        storages.append(storage)
        t._expr = e
        t._token = token
        result.append(e)
    return result


def build(rule: Rule, options: tuple[Any, ...], count: int, inputs: list[Expr], slots: list[Expr]) -> list[Expr]:
    """Run the rule for each parameter; the results stand in the order of parameters and states in ``inputs``."""
    states = len(inputs) // count - 2
    columns: list[list[Expr]] = [[] for _ in range(states + 1)]
    for i in range(count):
        p, g = inputs[i], inputs[(states + 1) * count + i]
        own = [inputs[(k + 1) * count + i] for k in range(states)]
        if p.dtype.is_complex:      # real and imaginary parts are updated as if they were parameters of their own
            parts = [apply_rule(rule, options, [emit1(TABLE[name], e) for e in (p, g, *own)], slots)
                     for name in ("real", "imag")]
            results = [emit2(TABLE["complex"], a, b) for a, b in zip(*parts, strict=True)]
        else:
            results = apply_rule(rule, options, [p, g, *own], slots)
        for column, result in zip(columns, results, strict=True):
            column.append(result)
    return [e for column in columns for e in column]


def apply_rule(rule: Rule, options: tuple[Any, ...], inputs: list[Expr], slots: list[Expr]) -> list[Expr]:
    """Run the rule for one parameter: inputs are the parameter, its gradient and its states, in any real dtypes."""
    p, _, *states = inputs
    # Half-precision parameters are computed in float32 and rounded once, at the end.
    dtype = float32 if p.dtype.itemsize == 2 else p.dtype
    results = rule(options, *[cast(e, dtype) for e in inputs], *[cast(s, dtype) for s in slots])
    return [cast(result, old.dtype) for result, old in zip(results, (p, *states), strict=True)]


# ---- what rules are written with, besides torsh.ops.common
# -----------------------------------------------------------------

def sign(a: Expr) -> Expr:
    """-1, 0 or 1."""
    return emit1(TABLE["sign"], a)


def lerp(start: Expr, end: Expr, weight: Expr) -> Expr:
    """``start + weight * (end - start)``"""
    return add(start, mul(weight, sub(end, start)))
