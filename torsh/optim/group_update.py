"""Updates of whole parameter groups: one dictionary look-up instead of thousands of recorded operations.

A *rule* is a function over expressions, written with the helpers below::

    def rule(options, p, g, *states, *numbers) -> (new p, *new states)

It is run once for each parameter of a group; the resulting expressions are memoised under the identity of all inputs. Because
expressions are interned by their position in the window, a training loop meets the same inputs in every step, and a step costs
one look-up. Numbers (learning rate, bias corrections) are run-time slots: a new value never makes a new program.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from torsh.core.dtype import DType, float32
from torsh.graph.capture import dynamic_scalar
from torsh.graph.window import caches, expr_of, rebind, scalar_expr
from torsh.ops.expr import TABLE, Expr, constant, emit, emit1, emit2, no_grad_recording, recording

Rule = Callable[..., tuple[Expr, ...]]
MEMO_LIMIT: Final = 1024

_memo: Final[dict[Any, list[Expr]]] = {}
caches.append(_memo)


def group_update(rule: Rule, options: tuple[Any, ...], params: Sequence[Any], grads: Sequence[Any], states: Sequence[Any],
                 numbers: Sequence[Any], *, differentiable: bool = False) -> None:
    """Record the update of a group and assign the new values in place.

    Args:
        rule, options: what to compute; ``options`` are hashable and part of the program.
        params, grads: n parameters and their gradients.
        states: k·n state tensors, first the first state of all parameters, then the second, …
        numbers: handed to the rule as zero-dimensional expressions of the computing dtype; Python numbers, or while a step is
            being captured functions that give the number of each call.
        differentiable: record the update for autograd.
    """
    window = recording.window
    if window.closed:
        window = window.replace()
    token = window.token
    targets = [*params, *states]
    inputs = [t._expr if t._token is token else expr_of(t) for t in targets]
    inputs += [t._expr if t._token is token else expr_of(t) for t in grads]
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


def build(rule: Rule, options: tuple[Any, ...], count: int, inputs: list[Expr], slots: list[Expr]) -> list[Expr]:
    """Run the rule for each parameter; the results stand in the order of parameters and states in ``inputs``."""
    states = len(inputs) // count - 2
    columns: list[list[Expr]] = [[] for _ in range(states + 1)]
    for i in range(count):
        p, g = inputs[i], inputs[(states + 1) * count + i]
        own = [inputs[(k + 1) * count + i] for k in range(states)]
        # Half-precision parameters are computed in float32 and rounded once, at the end.
        dtype = float32 if p.dtype.itemsize == 2 else p.dtype
        results = rule(options, cast(p, dtype), cast(g, dtype), *[cast(s, dtype) for s in own],
                       *[cast(s, dtype) for s in slots])
        for column, result, old in zip(columns, results, (p, *own), strict=True):
            column.append(cast(result, old.dtype))
    return [e for column in columns for e in column]


# ---- what rules are written with: primitives on expressions of one dtype, and Python numbers known while compiling ---------

Operand = Any


def cast(e: Expr, dtype: DType) -> Expr:
    """The expression in another dtype."""
    return e if e.dtype is dtype else emit1(TABLE["cast"], e, dtype.name)


def _binary(name: str, a: Operand, b: Operand) -> Expr:
    if not isinstance(a, Expr):
        a = constant(float(a), b.dtype)
    elif not isinstance(b, Expr):
        b = constant(float(b), a.dtype)
    return emit2(TABLE[name], a, b)


def add(a: Operand, b: Operand) -> Expr:
    """``a + b``"""
    return _binary("add", a, b)


def sub(a: Operand, b: Operand) -> Expr:
    """``a - b``"""
    return _binary("sub", a, b)


def mul(a: Operand, b: Operand) -> Expr:
    """``a * b``"""
    return _binary("mul", a, b)


def div(a: Operand, b: Operand) -> Expr:
    """``a / b``"""
    return _binary("div", a, b)


def maximum(a: Operand, b: Operand) -> Expr:
    """The larger of both; NaN if one is."""
    return _binary("maximum", a, b)


def minimum(a: Operand, b: Operand) -> Expr:
    """The smaller of both; NaN if one is."""
    return _binary("minimum", a, b)


def greater(a: Operand, b: Operand) -> Expr:
    """``a > b``"""
    return _binary("gt", a, b)


def where(condition: Expr, a: Operand, b: Operand) -> Expr:
    """``a`` where the condition holds, else ``b``; at least one of them is an expression."""
    dtype = a.dtype if isinstance(a, Expr) else b.dtype
    chosen = tuple(x if isinstance(x, Expr) else constant(float(x), dtype) for x in (a, b))
    return emit(TABLE["where"], (condition, *chosen))


def neg(a: Expr) -> Expr:
    """``-a``"""
    return emit1(TABLE["neg"], a)


def sqrt(a: Expr) -> Expr:
    """Square root."""
    return emit1(TABLE["sqrt"], a)


def absolute(a: Expr) -> Expr:
    """``|a|``"""
    return emit1(TABLE["abs"], a)


def sign(a: Expr) -> Expr:
    """-1, 0 or 1."""
    return emit1(TABLE["sign"], a)


def lerp(start: Expr, end: Expr, weight: Expr) -> Expr:
    """``start + weight * (end - start)``"""
    return add(start, mul(weight, sub(end, start)))
