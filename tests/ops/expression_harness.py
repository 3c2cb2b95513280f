"""Evaluating and differentiating expressions on the NumPy reference backend."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import torsh.ops  # noqa: F401
from torsh.backend.reference import evaluate
from torsh.core.dtype import bool_, complex128, float64, from_numpy_dtype, int64
from torsh.ops.common import add, full
from torsh.ops.expr import TABLE, Expr, emit, leaf, scalar

NUMBERS = {bool: (0, bool_), int: (1, int64), float: (2, float64), complex: (3, complex128)}


def inputs(values: Sequence[Any], requires_grad: bool = True) -> tuple[list[Expr], list[Any], list[Any]]:
    """Leaf expressions for arrays and scalar expressions for Python numbers, with the lists that ``evaluate`` takes."""
    exprs: list[Expr] = []
    leaves: list[Any] = []
    scalars: list[Any] = []
    for v in values:
        if type(v) in NUMBERS:
            exprs.append(scalar(len(scalars), NUMBERS[type(v)][0]))
            scalars.append(v)
        else:
            array = np.asarray(v)
            dtype = from_numpy_dtype(array.dtype)
            exprs.append(leaf(len(leaves), array.shape, dtype, requires_grad and dtype.category >= 2))
            leaves.append(array)
    return exprs, leaves, scalars


def run(function: Callable[..., Expr], *values: Any) -> Any:
    """The value of ``function`` applied to expressions that stand for the values."""
    exprs, leaves, scalars = inputs(values)
    return evaluate([function(*exprs)], leaves, scalars)[0]


def op(name: str, *values: Any, attr: Any = None) -> Any:
    """The value of an op of the table."""
    return run(lambda *exprs: emit(TABLE[name], exprs, attr), *values)


def primitive(e: Expr, seen: dict[Expr, Expr] | None = None) -> Expr:
    """The expression with all composite ops decomposed."""
    seen = {} if seen is None else seen
    found = seen.get(e)
    if found is None:
        if e.op.decompose is not None:
            found = primitive(e.op.decompose(e), seen)
        else:
            args = tuple([primitive(a, seen) for a in e.args])
            found = e if args == e.args else emit(e.op, args, e.attr)
        seen[e] = found
    return found


def decomposed(name: str, *values: Any, attr: Any = None) -> Any:
    """The value of an op of the table through its decomposition."""
    return run(lambda *exprs: primitive(emit(TABLE[name], exprs, attr)), *values)


def topological(head: Expr) -> list[Expr]:
    """Expressions that require gradients, arguments first."""
    order: list[Expr] = []
    seen: set[Expr] = set()

    def visit(e: Expr) -> None:
        if e in seen or not e.requires_grad:
            return
        seen.add(e)
        for a in e.args:
            visit(a)
        order.append(e)
    visit(head)
    return order


def gradients(head: Expr, targets: Sequence[Expr], seed: Expr | None = None) -> list[Expr]:
    """Gradients of the sum of ``head`` (or of its product with ``seed``) with respect to the targets."""
    grads: dict[Expr, Expr] = {head: seed if seed is not None else full(head.shape, 1, head.dtype)}
    for e in reversed(topological(head)):
        g = grads.get(e)
        if g is None or not e.args:
            continue
        pieces = None if e.op.gradient is None else e.op.gradient(e, g)
        owners = e.args
        if pieces is None:
            inner = e.op.decompose(e)
            pieces = gradients(inner, [a for a in e.args if a.requires_grad], g)
            owners = [a for a in e.args if a.requires_grad]
        for a, piece in zip(owners, pieces, strict=True):
            if piece is not None and a.requires_grad:
                assert piece.shape == a.shape and piece.dtype is a.dtype, (e, piece, a)
                grads[a] = add(grads[a], piece) if a in grads else piece
    return [grads.get(t, full(t.shape, 0, t.dtype)) for t in targets]


def gradient_of(function: Callable[..., Expr], *values: Any, seed: Any = None) -> list[Any]:
    """Values of the gradients of ``function`` with respect to its floating-point arrays."""
    exprs, leaves, scalars = inputs([*values] if seed is None else [*values, seed])
    arguments = exprs[:len(values)]
    targets = [e for e in arguments if e.requires_grad]
    head = function(*arguments)
    found = gradients(head, targets, None if seed is None else exprs[-1])
    return evaluate(found, leaves, scalars)


def check_gradient(function: Callable[..., Expr], *values: Any, order: int = 1, tolerance: float = 1e-5) -> None:
    """Compare gradients with central differences in float64 (order 2: also the gradients of gradients)."""
    rng = np.random.default_rng(7)
    exprs, leaves, scalars = inputs(values)
    head = function(*exprs)
    weights = rng.standard_normal(head.shape)
    exprs, leaves, scalars = inputs([*values, weights])
    arguments, seed = exprs[:-1], exprs[-1]
    head = function(*arguments)
    targets = [e for e in arguments if e.requires_grad]
    found = gradients(head, targets, seed)
    results = evaluate(found, leaves, scalars)
    product = TABLE["mul"]
    total = emit(product, (head, seed))
    for number, (target, result) in enumerate(zip(targets, results, strict=True)):
        numeric = difference(total, target, leaves, scalars)
        np.testing.assert_allclose(result, numeric, rtol=tolerance, atol=tolerance, err_msg=f"argument {number}")
        if order > 1:
            check_gradient_of(found[number], targets, leaves, scalars, tolerance)


def check_gradient_of(head: Expr, targets: Sequence[Expr], leaves: list[Any], scalars: list[Any], tolerance: float) -> None:
    """Second derivatives against central differences of the first."""
    second = evaluate(gradients(head, targets), leaves, scalars)
    for target, result in zip(targets, second, strict=True):
        numeric = difference(head, target, leaves, scalars)
        np.testing.assert_allclose(result, numeric, rtol=10 * tolerance, atol=10 * tolerance, err_msg="second order")


def difference(head: Expr, target: Expr, leaves: list[Any], scalars: list[Any], step: float = 1e-6) -> Any:
    """Central differences of the sum of ``head``."""
    position = int(target.attr)  # type: ignore[call-overload]
    out = np.zeros(target.shape)
    flat = out.reshape(-1)
    for i in range(flat.size):
        sums = []
        for sign in (1, -1):
            moved = [np.array(x) for x in leaves]
            moved[position].reshape(-1)[i] += sign * step
            sums.append(evaluate([head], moved, scalars)[0].sum())
        flat[i] = (sums[0] - sums[1]) / (2 * step)
    return out

