"""LU factors with partial pivoting and Householder reflections: host ops over batches of matrices."""
from __future__ import annotations

from typing import Any, Final

import numpy as np

from torsh.core.dtype import DType, int32, int64
from torsh.core.errors import LinAlgError
from torsh.ops.common import add, apply, cast, eq, iota, slice_dim, sub, transpose, unsqueeze
from torsh.ops.contraction import matmul
from torsh.ops.creation import eye
from torsh.ops.define import Array
from torsh.ops.expr import HOST, Expr, Op, Shape, emit1
from torsh.ops.linear_algebra import adjoint, check_matrices, lower_triangle, shared, triangular_solve, upper_triangle
from torsh.ops.matrix_algorithms import batch_label, pivoted_lu, row_order, zero_pivots


def _infer(part: str) -> Any:
    def infer(attr: str | None, a: Expr) -> tuple[Shape, DType]:
        check_matrices("lu_factor", a, False)
        if part == "compact":
            return a.shape, a.dtype
        return (*a.shape[:-2], *((min(a.shape[-2:]),) if part == "pivots" else ())), int32
    return infer


def _with_zeros(a: Array) -> tuple[Array, Array, Array]:
    compact, pivots = pivoted_lu(a)
    return compact, pivots, zero_pivots(compact)


def _part(a: Any, part: int) -> Array:
    return shared("lu_factor", None, a, _with_zeros, part)


def _compact_reference(attr: str | None, a: Any) -> Array:
    compact = _part(a, 0)
    if attr is not None:
        zeros = zero_pivots(compact)
        if zeros.any():
            position = int(np.flatnonzero(zeros)[0])
            number = zeros.flat[position]
            raise LinAlgError(
                f"{attr}: {batch_label(position, compact.ndim)}U[{number},{number}] is zero and using it on lu_solve would result "
                "in a division by zero. If you still want to perform the factorization, consider calling linalg.lu(A, pivot) or "
                "linalg.lu_factor_ex(A, pivot)")
    return compact


def _compact_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    # Of the leading square part, with what the other rows or columns (factors of the same L or U) add to it.
    m, n = e.shape[-2:]
    k = min(m, n)
    square = slice_dim(slice_dim(e, -2, 0, k), -1, 0, k)
    g_square = slice_dim(slice_dim(g, -2, 0, k), -1, 0, k)
    g_lower, g_upper = lower_triangle(g_square, -1), upper_triangle(g_square)
    ones = eye(k, k, e.dtype)
    low, up = add(lower_triangle(square, -1), ones), upper_triangle(square)
    rest: Expr | None = None
    if m > k:
        rest = adjoint(triangular_solve(up, adjoint(slice_dim(g, -2, k, m - k)), True))
        g_upper = sub(g_upper, upper_triangle(matmul(adjoint(slice_dim(e, -2, k, m - k)), rest)))
    elif n > k:
        rest = triangular_solve(adjoint(low), slice_dim(g, -1, k, n - k), True, True)
        g_lower = sub(g_lower, lower_triangle(matmul(rest, adjoint(slice_dim(e, -1, k, n - k))), -1))
    inner = add(lower_triangle(matmul(adjoint(low), g_lower), -1), upper_triangle(matmul(g_upper, adjoint(up))))
    inner = triangular_solve(adjoint(low), inner, True, True)
    out = adjoint(triangular_solve(up, adjoint(inner), True))
    if rest is not None:
        out = apply("cat", out, rest, attr=len(e.shape) - (2 if m > k else 1))
    return (matmul(permutation(emit1(LU_PIVOTS, e.args[0]), m, e.dtype), out),)


# L (below the diagonal, which is 1) and U in one matrix. attr: who reports a zero on U's diagonal, or None
LU_COMPACT: Final[Op] = Op("lu_compact", _infer("compact"), _compact_reference, gradient=_compact_gradient, kind=HOST)
# rows exchanged, counted from 1, int32
LU_PIVOTS: Final[Op] = Op("lu_pivots", _infer("pivots"), lambda attr, a: _part(a, 1), kind=HOST)
# the first zero on U's diagonal, counted from 1, or 0; int32
LU_INFO: Final[Op] = Op("lu_info", _infer("info"), lambda attr, a: _part(a, 2), kind=HOST)
# order of rows that pivots stand for (attr: number of rows)
LU_ROWS: Final[Op] = Op("lu_rows", lambda attr, pivots: ((*pivots.shape[:-1], attr), int64),
                        lambda attr, pivots: row_order(np.asarray(pivots), attr), kind=HOST)


def permutation(pivots: Expr, rows: int, dtype: DType) -> Expr:
    """The matrix P of A = P L U."""
    order = emit1(LU_ROWS, pivots, rows)
    shape = (*order.shape[:-1], rows, rows)
    return cast(eq(iota(shape, len(shape) - 2), unsqueeze(order, -2)), dtype)


def lu_parts(compact: Expr) -> tuple[Expr, Expr]:
    """L and U of the compact form."""
    m, n = compact.shape[-2:]
    k = min(m, n)
    low = lower_triangle(slice_dim(compact, -1, 0, k), -1)
    ones = cast(eq(iota((m, k), 0), iota((m, k), 1)), compact.dtype)
    return add(low, ones), upper_triangle(slice_dim(compact, -2, 0, k))


def lu_solve_expr(compact: Expr, pivots: Expr, b: Expr, adjoint_system: bool = False) -> Expr:
    """X with A X = B (or A^H X = B) from the factors of A."""
    order = permutation(pivots, compact.shape[-1], compact.dtype)
    if adjoint_system:
        turned = adjoint(compact)
        return matmul(order, triangular_solve(turned, triangular_solve(turned, b, False), True, True))
    return triangular_solve(compact, triangular_solve(compact, matmul(transpose(order, -1, -2), b), False, True), True)


# ---- Householder reflections -------------------------------------------------------------------------------------------

def _reflections(a: Array) -> tuple[Array, Array]:
    turned, tau = np.linalg.qr(a, "raw")
    return np.ascontiguousarray(np.swapaxes(turned, -1, -2)), tau.astype(a.dtype)


def _reflection_infer(matrix: bool) -> Any:
    def infer(attr: None, a: Expr) -> tuple[Shape, DType]:
        check_matrices("geqrf", a, False)
        return a.shape if matrix else (*a.shape[:-2], min(a.shape[-2:])), a.dtype
    return infer


# R and, below it, the vectors of the reflections; their factors
GEQRF_A: Final[Op] = Op("geqrf_a", _reflection_infer(True), lambda attr, a: shared("geqrf", None, a, _reflections, 0), kind=HOST)
GEQRF_TAU: Final[Op] = Op("geqrf_tau", _reflection_infer(False), lambda attr, a: shared("geqrf", None, a, _reflections, 1),
                          kind=HOST)
