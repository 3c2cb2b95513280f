"""Algorithms on batches of matrices that NumPy lacks: pivoted LU, triangular solution, factorisations with reports of failures."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, Any]
BLOCK: Final = 32         # rows or columns that are worked off one by one; the rest is matrix products


def stack_of(a: Array) -> Array:
    """The matrices of a batch as one dimension (a view of a contiguous array)."""
    return a.reshape(int(np.prod(a.shape[:-2])), *a.shape[-2:])


def batch_label(position: int, rank: int) -> str:
    """How messages name a matrix: by its position if there are several."""
    return f"(Batch element {position}): " if rank > 2 else ""


def one_by_one(function: Callable[[Array], Array], a: Array) -> tuple[Array, list[int]]:
    """``function`` of each matrix, and the positions of those for which it fails (their results are NaN)."""
    flat = stack_of(np.ascontiguousarray(a))
    out, failed = np.full_like(flat, np.nan), []
    for i, matrix in enumerate(flat):
        try:
            out[i] = function(matrix)
        except np.linalg.LinAlgError:
            failed.append(i)
    return out.reshape(a.shape), failed


def leading_minor(a: Array) -> int:
    """The order of the first leading minor that is not positive definite (0: there is none)."""
    for order in range(1, a.shape[-1] + 1):
        try:
            np.linalg.cholesky(a[:order, :order])
        except np.linalg.LinAlgError:
            return order
    return 0


# ---- triangular systems ------------------------------------------------------------------------------------------------

def solve_triangle(a: Array, b: Array, upper: bool, unit: bool) -> Array:
    """X with A X = B by substitution; reads one triangle of A (without the diagonal if ``unit``); never fails."""
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    x = np.array(np.broadcast_to(b, (*lead, *b.shape[-2:])))
    with np.errstate(all="ignore"):
        _substitute(a, x, upper, unit)
    return x


def _substitute(a: Array, x: Array, upper: bool, unit: bool) -> None:
    n = a.shape[-1]
    if n > BLOCK:
        half = n // 2
        head, tail = slice(0, half), slice(half, n)
        first, second = (tail, head) if upper else (head, tail)
        _substitute(a[..., first, first], x[..., first, :], upper, unit)
        x[..., second, :] -= a[..., second, first] @ x[..., first, :]
        _substitute(a[..., second, second], x[..., second, :], upper, unit)
        return
    for i in range(n - 1, -1, -1) if upper else range(n):
        known = slice(i + 1, n) if upper else slice(0, i)
        row = x[..., i:i + 1, :]
        row -= a[..., i:i + 1, known] @ x[..., known, :]
        if not unit:
            row /= a[..., i:i + 1, i:i + 1]


# ---- lu ----------------------------------------------------------------------------------------------------------------

def pivoted_lu(a: Array) -> tuple[Array, Array]:
    """(L without its diagonal of ones and U in one matrix, rows exchanged at each step counted from 1)."""
    out = np.array(a, order="C")
    m, n = out.shape[-2:]
    flat, k = stack_of(out), min(m, n)
    pivots = np.zeros((len(flat), k), np.int32)
    with np.errstate(all="ignore"):
        for first in range(0, k, BLOCK):
            last = min(first + BLOCK, k)
            _eliminate(flat, pivots, first, last)
            right = flat[:, first:last, last:]
            right[...] = solve_triangle(flat[:, first:last, first:last], right, False, True)
            flat[:, last:, last:] -= flat[:, last:, first:last] @ right
    return out, pivots.reshape(*out.shape[:-2], k)


def _eliminate(flat: Array, pivots: Array, first: int, last: int) -> None:
    """Eliminate columns ``first`` to ``last`` in these columns, exchanging whole rows."""
    batch = np.arange(len(flat))
    for k in range(first, last):
        chosen = _size(flat[:, k:, k]).argmax(1) + k
        pivots[:, k] = chosen + 1
        rows = flat[batch, chosen].copy()
        flat[batch, chosen] = flat[:, k]
        flat[:, k] = rows
        head = flat[:, k, k]
        flat[:, k + 1:, k] /= np.where(head == 0, 1, head)[:, None]
        flat[:, k + 1:, k + 1:last] -= flat[:, k + 1:, k, None] * flat[:, k, None, k + 1:last]


def _size(a: Array) -> Array:
    """What LAPACK compares when it looks for a pivot."""
    return np.abs(a.real) + np.abs(a.imag) if a.dtype.kind == "c" else np.abs(a)


def zero_pivots(compact: Array) -> Array:
    """Per matrix, which diagonal element of U is the first zero, counted from 1 (0: none is), int32."""
    zero = np.diagonal(compact, 0, -2, -1) == 0
    if not zero.shape[-1]:
        return np.zeros(zero.shape[:-1], np.int32)
    return np.where(zero.any(-1), zero.argmax(-1) + 1, 0).astype(np.int32)


def row_order(pivots: Array, rows: int) -> Array:
    """Where the rows of L U come from: row i is row ``order[i]`` of the matrix."""
    k = pivots.shape[-1]
    flat = pivots.reshape(int(np.prod(pivots.shape[:-1])), k)
    order = np.tile(np.arange(rows), (len(flat), 1))
    batch = np.arange(len(flat))
    for i in range(k):
        other = flat[:, i] - 1
        kept = order[batch, other].copy()
        order[batch, other] = order[:, i]
        order[:, i] = kept
    return order.reshape(*pivots.shape[:-1], rows)
