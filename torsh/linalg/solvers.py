"""Inverses, and solutions of systems of equations."""
from __future__ import annotations

import math
from typing import Any

from torsh.core.dtype import int64
from torsh.core.errors import DTypeError, ShapeMismatchError
from torsh.core.limits import finfo
from torsh.graph.handle import expr_of
from torsh.linalg.common import Result, same_dtype, settled, square
from torsh.linalg.norms import rank_of_values, tolerances
from torsh.linalg.spectra import eigh, linalg_svd, svdvals
from torsh.ops.common import reshape, transpose, unsqueeze
from torsh.ops.expr import Expr, emit1
from torsh.ops.linear_algebra import INVERSE, PINV, check_matrices, cholesky_solve_expr, lstsq_expr, solve_expr, triangular_solve
from torsh.ops.linear_algebra import adjoint as conjugate_transpose
from torsh.ops.lu import LU_INFO, lu_solve_expr
from torsh.tensor.creation import empty, eye
from torsh.tensor.function import function, recorded, recorded_all, scalar_type_name, tensor_operand
from torsh.tensor.tensor import Tensor

# ---- inverses ----------------------------------------------------------------------------------------------------------

def _inverse(A: Expr, reporter: str | None) -> Expr:
    return emit1(INVERSE, A, reporter)


def _inverse_ex(A: Expr) -> tuple[Expr, Expr]:
    return emit1(INVERSE, A), emit1(LU_INFO, A)


@function("inv", namespace="linalg", method=False)
def inv(A: Tensor) -> Tensor:
    """Inverses of square matrices (..., n, n); LinAlgError for singular ones.

    >>> torsh.linalg.inv(torsh.tensor([[2.0, 0.0], [0.0, 4.0]]))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.2500]])
    """
    return settled(recorded(_inverse, (A,), ("linalg.inv",)))  # type: ignore[no-any-return]


@function("inverse")
def inverse(input: Tensor) -> Tensor:
    """Older name of :func:`torsh.linalg.inv`."""
    return inv(input)  # type: ignore[no-any-return]


@function("inv_ex", namespace="linalg", method=False)
def inv_ex(A: Tensor, *, check_errors: bool = False) -> Any:
    """(inverse, info): info (...) is 0 or the position of the zero on U's diagonal that makes a matrix singular."""
    if check_errors:
        settled(recorded(_inverse, (A,), ("linalg.inv_ex",)))
    return Result["linalg_inv_ex"](*recorded_all(_inverse_ex, (A,)))


def _pinv(A: Expr, atol: float | None, rtol: float | None) -> Expr:
    return emit1(PINV, A, (atol, rtol))


@function("pinv", namespace="linalg", method=False)
def pinv(A: Tensor, rcond: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None) -> Tensor:
    """Moore-Penrose inverses (..., n, m) of matrices (..., m, n).

    Singular values up to ``max(atol, rtol * largest)`` count as zero; rtol is ``max(m, n)`` times the precision by default.
    """
    e = tensor_operand(A, "linalg_pinv", 1, "A")
    if len(e.shape) < 2 or e.dtype.category < 2 or e.dtype.itemsize == 2:
        raise ShapeMismatchError(f"linalg.pinv({scalar_type_name(e.dtype)}{{{list(e.shape)}}}): expected a tensor with 2 or more "
                                 "dimensions of float, double, cfloat or cdouble types")
    rtol = rcond if rtol is None else rtol
    if hermitian or isinstance(atol, Tensor) or isinstance(rtol, Tensor):
        return _pinv_by_values(A, atol, rtol, hermitian)
    return recorded(_pinv, (A,), (atol, rtol))  # type: ignore[no-any-return]


def _pinv_by_values(A: Tensor, atol: Any, rtol: Any, hermitian: bool) -> Tensor:
    if not A.numel():
        return A.mT.clone()             # type: ignore[attr-defined, no-any-return]
    if hermitian:
        square("linalg.pinv", A)
        values, left = eigh(A)
        right, sizes = left, values.abs()
    else:
        left, values, turned = linalg_svd(A, full_matrices=False)
        right, sizes = turned.mH, values
    absolute, relative = tolerances(A, atol, rtol)
    limit = _largest(absolute, relative * sizes.amax(-1), sizes)
    keep = sizes > limit.unsqueeze(-1)
    inverse = (1 / values.where(keep, 1)).where(keep, 0)
    return (right * inverse.unsqueeze(-2).to(right.dtype)) @ left.mH  # type: ignore[no-any-return]


def _largest(absolute: Any, relative: Any, like: Tensor) -> Tensor:
    if not isinstance(absolute, Tensor):
        return relative.clamp(min=absolute)  # type: ignore[no-any-return]
    return relative.maximum(absolute.to(like.dtype))  # type: ignore[no-any-return]


@function("pinverse", out=False)
def pinverse(input: Tensor, rcond: float = 1e-15) -> Tensor:
    """Moore-Penrose inverse; singular values up to ``rcond`` times the largest count as zero."""
    return pinv(input, rcond)  # type: ignore[no-any-return]


@function("tensorinv", namespace="linalg", method=False)
def tensorinv(A: Tensor, ind: int = 2) -> Tensor:
    """Inverse of :func:`torsh.tensordot` with A: A's first ``ind`` dimensions hold as many elements as the others."""
    if ind <= 0:
        raise ShapeMismatchError(f"Expected a strictly positive integer for 'ind', but got {ind}")
    rows, columns = tuple(A.shape[:ind]), tuple(A.shape[ind:])
    if math.prod(rows) != math.prod(columns):
        raise ShapeMismatchError("Expected self to satisfy the requirement prod(self.shape[ind:]) == prod(self.shape[:ind]), but got "
                                 f"{math.prod(columns)} != {math.prod(rows)}")
    return inv(A.reshape(math.prod(rows), math.prod(columns))).reshape(*columns, *rows)  # type: ignore[no-any-return]


# ---- solutions ---------------------------------------------------------------------------------------------------------

def _vector_system(a: Expr, b: Expr) -> bool:
    return len(b.shape) == 1 or (len(b.shape) == len(a.shape) - 1 and b.shape == a.shape[:-1])


def _solve(A: Expr, B: Expr, left: bool, reporter: str | None) -> Expr:
    check_matrices("solve", A)
    if left:
        if len(B.shape) == 1 and not _fits(A, B):
            raise ShapeMismatchError(f"linalg.solve: Incompatible shapes of A and B for the equation AX = B ({A.shape[-2]}x"
                                     f"{A.shape[-1]} and {B.shape[0]}x1)")
        return solve_expr(A, B, reporter)
    if _vector_system(A, B):
        raise ShapeMismatchError("linalg.solve: Vector broadcasting of the left hand side is not supported for left=False. In this "
                                 "case linalg.solve is equivalent to B / A.squeeze(-1)")
    if len(B.shape) < 2 or A.shape[-1] != B.shape[-1]:
        raise ShapeMismatchError(f"linalg.solve: Incompatible shapes of A and B for the equation XA = B ({A.shape[-2]}x"
                                 f"{A.shape[-1]} and {'x'.join(str(n) for n in B.shape[-2:])})")
    return transpose(solve_expr(transpose(A, -1, -2), transpose(B, -1, -2), reporter), -1, -2)


def _fits(A: Expr, B: Expr) -> bool:
    return A.shape[-1] == B.shape[0]


@function("solve", namespace="linalg", method=False)
def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """X with ``A X = B`` (or ``X A = B``): A (..., n, n), B (..., n, k) or vectors (..., n); LinAlgError for singular A.

    >>> torsh.linalg.solve(torsh.tensor([[2.0, 0.0], [0.0, 4.0]]), torsh.tensor([2.0, 2.0]))
    tensor([1.0000, 0.5000])
    """
    return settled(recorded(_solve, (A, B), (bool(left), "torch.linalg.solve")))  # type: ignore[no-any-return]


@function("solve_ex", namespace="linalg", method=False)
def solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False) -> Any:
    """(X, info): info (...) is 0 or the position of the zero on U's diagonal that makes a matrix singular."""
    reporter = "torch.linalg.solve_ex" if check_errors else None
    x = recorded(_solve, (A, B), (bool(left), reporter))
    if check_errors:
        settled(x)
    return Result["linalg_solve_ex"](x, recorded(_info, (A,)))


def _info(A: Expr) -> Expr:
    return emit1(LU_INFO, A)


def _solve_triangular(A: Expr, B: Expr, upper: bool, left: bool, unit: bool) -> Expr:
    check_matrices("solve_triangular", A)
    if len(B.shape) < 2:
        raise ShapeMismatchError("linalg.solve_triangular: The input tensor B must have at least 2 dimensions.")
    if left:
        return triangular_solve(A, B, upper, unit)
    if A.shape[-1] != B.shape[-1]:
        raise ShapeMismatchError(f"linalg.solve_triangular: Incompatible shapes of A and B for the equation XA = B ({A.shape[-2]}x"
                                 f"{A.shape[-1]} and {B.shape[-2]}x{B.shape[-1]})")
    return transpose(triangular_solve(transpose(A, -1, -2), transpose(B, -1, -2), not upper, unit), -1, -2)


@function("solve_triangular", namespace="linalg", method=False)
def solve_triangular(A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Tensor:
    """X with ``A X = B`` (or ``X A = B``) for the upper or lower triangle of A; never raises for singular A."""
    return recorded(_solve_triangular, (A, B), (bool(upper), bool(left), bool(unitriangular)))  # type: ignore[no-any-return]


@function("triangular_solve")
def triangular_solve_function(input: Tensor, A: Tensor, upper: bool = True, transpose: bool = False,
                              unitriangular: bool = False) -> Any:
    """(X, copy of A) with ``A X = input`` (``A^T X = input`` if ``transpose``); see :func:`torsh.linalg.solve_triangular`."""
    a = A.mT if transpose else A                # type: ignore[attr-defined]
    x = solve_triangular(a, input, upper=upper != transpose, unitriangular=unitriangular)
    return Result["triangular_solve"](x, A.clone())


@function("cholesky_solve")
def cholesky_solve(input: Tensor, L: Tensor, upper: bool = False) -> Tensor:
    """X with ``A X = input`` from the Cholesky factor of A."""
    for label, t in (("b", input), ("u", L)):
        if t.ndim < 2:
            raise ShapeMismatchError(f"{label} should have at least 2 dimensions, but has {t.ndim} dimensions instead")
    if input.dtype is not L.dtype:
        raise DTypeError(f"Expected b and A to have the same dtype, but found b of type {scalar_type_name(input.dtype)} and A of type "
                         f"{scalar_type_name(L.dtype)} instead.")
    if L.shape[-1] != L.shape[-2] or L.shape[-1] != input.shape[-2]:
        raise ShapeMismatchError(f"Incompatible matrix sizes for cholesky_solve: each A matrix is {L.shape[-1]} by {L.shape[-1]} but "
                                 f"each b matrix is {input.shape[-2]} by {input.shape[-1]}")
    return recorded(cholesky_solve_expr, (input, L), (bool(upper),))  # type: ignore[no-any-return]


@function("cholesky_inverse")
def cholesky_inverse(L: Tensor, upper: bool = False) -> Tensor:
    """The inverse of A from its Cholesky factor."""
    e = square("cholesky_inverse", L)
    return cholesky_solve(eye(e.shape[-1], dtype=e.dtype).expand(e.shape), L, upper)  # type: ignore[no-any-return]


def _lu_solve(LU: Expr, pivots: Expr, B: Expr, left: bool, adjoint: bool) -> Expr:
    check_matrices("lu_solve", LU)
    if left:
        return lu_solve_expr(LU, pivots, B, adjoint)
    return conjugate_transpose(lu_solve_expr(LU, pivots, conjugate_transpose(B), not adjoint))


def _check_lu(LU: Tensor, pivots: Tensor, B: Tensor, left: bool) -> None:
    same_dtype("linalg.lu_solve", LU, B, "LU", "B")
    if expr_of(pivots).dtype.name != "int32":
        raise DTypeError("linalg.lu_solve: pivots should be a Tensor of scalar type torch.int32")
    square("torch.linalg.lu_solve", LU)
    if B.ndim < 2 or LU.shape[-1] != B.shape[-2 if left else -1]:
        equation = "AX = B" if left else "XA = B"
        raise ShapeMismatchError(f"linalg.lu_solve: Incompatible shapes of A and B for the equation {equation} ({LU.shape[-2]}x"
                                 f"{LU.shape[-1]} and {'x'.join(str(n) for n in B.shape[-2:])})")
    if tuple(pivots.shape) != tuple(LU.shape[:-1]):
        raise ShapeMismatchError("linalg.lu_solve: Number of pivots per batch should be same as the dimension of the matrix")


@function("lu_solve", namespace="linalg", method=False)
def linalg_lu_solve(LU: Tensor, pivots: Tensor, B: Tensor, *, left: bool = True, adjoint: bool = False) -> Tensor:
    """X with ``A X = B`` from :func:`lu_factor` of A (``left=False``: ``X A = B``; ``adjoint``: A^H instead of A)."""
    _check_lu(LU, pivots, B, left)
    return recorded(_lu_solve, (LU, pivots, B), (bool(left), bool(adjoint)))  # type: ignore[no-any-return]


@function("lu_solve")
def lu_solve(input: Tensor, LU_data: Tensor, LU_pivots: Tensor) -> Tensor:
    """X with ``A X = input`` from the LU factors of A."""
    return linalg_lu_solve(LU_data, LU_pivots, input)  # type: ignore[no-any-return]


@function("tensorsolve", namespace="linalg", method=False)
def tensorsolve(A: Tensor, B: Tensor, dims: Any = None) -> Tensor:
    """X with ``tensordot(A, X, X.ndim) = B``; ``dims`` of A are moved to its end first."""
    if dims is not None:
        A = A.movedim(tuple(dims), tuple(range(-len(dims), 0)))  # type: ignore[attr-defined]
    tail, size = tuple(A.shape[B.ndim:]), B.numel()
    if math.prod(A.shape[:B.ndim]) != math.prod(tail) or size != math.prod(tail):
        raise ShapeMismatchError("Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == "
                                 f"prod(self.shape[:other.ndim]), but got {math.prod(tail)} != {math.prod(A.shape[:B.ndim])}")
    return solve(A.reshape(size, size), B.reshape(size)).reshape(*tail)  # type: ignore[no-any-return]


# ---- least squares -----------------------------------------------------------------------------------------------------

_DRIVERS = ("gels", "gelsy", "gelsd", "gelss")


def _lstsq(A: Expr, B: Expr, rcond: float, vector: bool) -> Expr:
    x = lstsq_expr(A, unsqueeze(B, -1) if vector else B, rcond)
    return reshape(x, x.shape[:-1]) if vector else x


@function("lstsq", namespace="linalg", method=False)
def lstsq(A: Tensor, B: Tensor, rcond: float | None = None, *, driver: str | None = None) -> Any:
    """(solution, residuals, rank, singular_values) of the X of least norm that minimises ``|A X - B|``.

    A (..., m, n), B (..., m, k): solution (..., n, k). residuals (..., k): squared errors if m > n and all matrices have full rank
    (not for ``driver="gelsy"``, the default); rank (...): not for ``"gels"``; singular values: for ``"gelsd"`` and ``"gelss"``.
    What is not computed is empty.
    """
    a, b = tensor_operand(A, "linalg_lstsq", 1, "A"), tensor_operand(B, "linalg_lstsq", 2, "B")
    vector = _check_lstsq(a, b, driver)
    driver = driver or "gelsy"
    limit = float(rcond) if rcond is not None else _precision(a) * max(a.shape[-2:])
    x = recorded(_lstsq, (A, B), (limit, vector))
    real = empty(0, dtype=a.dtype.to_real())
    values = svdvals(A.detach())
    rank = rank_of_values(values, 0.0, limit)
    residuals = real
    m, n = a.shape[-2:]
    if m > n and driver != "gelsy" and (driver == "gels" or bool((rank == n).all())):
        error = A @ (x.unsqueeze(-1) if vector else x) - (B.unsqueeze(-1) if vector else B)
        residuals = error.abs().square().sum(-2)
        residuals = residuals.squeeze(-1) if vector else residuals
    return Result["linalg_lstsq"](x, residuals, empty(0, dtype=int64) if driver == "gels" else rank,
                                  values if driver in ("gelsd", "gelss") else real)


def _precision(a: Expr) -> float:
    return float(finfo(a.dtype.to_real()).eps)


def _check_lstsq(a: Expr, b: Expr, driver: str | None) -> bool:
    """Raise PyTorch's errors; True if B holds vectors."""
    name = "torch.linalg.lstsq"
    if len(a.shape) < 2:
        raise ShapeMismatchError(f"{name}: input must have at least 2 dimensions.")
    if not b.shape:
        raise ShapeMismatchError(f"{name}: other must have at least 1 dimension.")
    if a.dtype is not b.dtype:
        raise DTypeError(f"{name}: Expected input and other to have the same dtype, but got input's dtype "
                         f"{scalar_type_name(a.dtype)} and other's dtype {scalar_type_name(b.dtype)}")
    if driver is not None and driver not in _DRIVERS:
        raise ShapeMismatchError(f"{name}: parameter `driver` should be one of (gels, gelsy, gelsd, gelss)")
    vector = len(b.shape) == 1 or (len(b.shape) == len(a.shape) - 1 and b.shape == a.shape[:-1])
    if a.shape[-2] != b.shape[-1 if vector else -2]:
        raise ShapeMismatchError(f"{name}: input.size(-2) should match other.size({-1 if vector else -2})")
    return vector
