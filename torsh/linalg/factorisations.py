"""Products of simpler matrices: Cholesky, QR, LU and Householder reflections."""
from __future__ import annotations

from typing import Any

from torsh.core.errors import DTypeError, ShapeMismatchError
from torsh.graph.handle import expr_of, requires_grad
from torsh.linalg.common import Result, at_least_matrix, connected, settled
from torsh.ops.expr import Expr, emit1
from torsh.ops.linear_algebra import CHOLESKY, CHOLESKY_INFO, QR_Q, QR_R, check_matrices
from torsh.ops.lu import GEQRF_A, GEQRF_TAU, LU_COMPACT, LU_INFO, LU_PIVOTS, lu_parts, permutation
from torsh.tensor.creation import empty, eye
from torsh.tensor.function import function, recorded, recorded_all, scalar_type_name, tensor_operand
from torsh.tensor.joining import cat
from torsh.tensor.tensor import Tensor

# ---- cholesky ----------------------------------------------------------------------------------------------------------

def _cholesky(A: Expr, upper: bool, reporter: str | None) -> Expr:
    return emit1(CHOLESKY, A, (upper, reporter))


def _cholesky_ex(A: Expr, upper: bool) -> tuple[Expr, Expr]:
    return emit1(CHOLESKY, A, (upper, None)), emit1(CHOLESKY_INFO, A, upper)


@function("cholesky", namespace="linalg", method=False)
def linalg_cholesky(A: Tensor, *, upper: bool = False) -> Tensor:
    """The factor L of ``A = L L^H`` (or U of ``U^H U``) of positive definite matrices (..., n, n).

    Raises LinAlgError for matrices that are not positive definite.

    >>> torsh.linalg.cholesky(torsh.tensor([[4.0, 2.0], [2.0, 5.0]]))
    tensor([[2., 0.],
            [1., 2.]])
    """
    return settled(recorded(_cholesky, (A,), (bool(upper), "linalg.cholesky")))  # type: ignore[no-any-return]


@function("cholesky")
def cholesky(input: Tensor, upper: bool = False) -> Tensor:
    """Older name of :func:`torsh.linalg.cholesky`."""
    return settled(recorded(_cholesky, (input,), (bool(upper), "cholesky")))  # type: ignore[no-any-return]


@function("cholesky_ex", namespace="linalg", method=False)
def cholesky_ex(A: Tensor, *, upper: bool = False, check_errors: bool = False) -> Any:
    """(L, info): info (...) is 0 or the order of the first leading minor that is not positive definite."""
    if check_errors:
        settled(recorded(_cholesky, (A,), (bool(upper), "linalg.cholesky_ex")))
    return Result["linalg_cholesky_ex"](*recorded_all(_cholesky_ex, (A,), (bool(upper),)))


# ---- qr ----------------------------------------------------------------------------------------------------------------

def _qr(A: Expr, mode: str) -> tuple[Expr, Expr]:
    return emit1(QR_Q, A, mode), emit1(QR_R, A, mode)


def _r(A: Expr, mode: str) -> Expr:
    return emit1(QR_R, A, mode)


@function("qr", namespace="linalg", method=False)
def linalg_qr(A: Tensor, mode: str = "reduced") -> Any:
    """(Q, R) of ``A = Q R``, Q with orthonormal columns, R upper triangular.

    A (..., m, n), k = min(m, n). mode: ``"reduced"`` gives (..., m, k) and (..., k, n); ``"complete"`` gives (..., m, m) and
    (..., m, n); ``"r"`` gives an empty Q.
    """
    return Result["linalg_qr"](*_qr_of(A, mode))


def _qr_of(A: Tensor, mode: str) -> Any:
    e = tensor_operand(A, "linalg_qr", 1, "A")
    if mode not in ("reduced", "complete", "r"):
        raise ShapeMismatchError(f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), 'r', or "
                                 "'complete'")
    if mode == "r":
        r = recorded(_r, (A,), ("reduced",))
        return empty(0, dtype=e.dtype), r
    if mode == "reduced" and len(e.shape) > 1 and e.shape[-2] < e.shape[-1] and requires_grad(A):
        # Gradients flow through the square part; the other columns are what Q makes of them.
        m = e.shape[-2]
        q, r = recorded_all(_qr, (A[..., :m],), (mode,))
        return q, cat((r, q.mH @ A[..., m:]), -1)
    return recorded_all(_qr, (A,), (mode,))


@function("qr")
def qr(input: Tensor, some: bool = True) -> Any:
    """(Q, R), see :func:`torsh.linalg.qr`; ``some=False`` is the complete form."""
    return Result["qr"](*_qr_of(input, "reduced" if some else "complete"))


@function("geqrf")
def geqrf(input: Tensor) -> Any:
    """(a, tau): R on and above the diagonal of a, below it the vectors of the Householder reflections, with factors tau."""
    return Result["geqrf"](*recorded_all(_geqrf, (input,)))


def _geqrf(input: Expr) -> tuple[Expr, Expr]:
    return emit1(GEQRF_A, input), emit1(GEQRF_TAU, input)


def _check_reflections(a: Tensor, tau: Tensor, name: str) -> None:
    e, t = tensor_operand(a, name), tensor_operand(tau, name, 2, "tau")
    if len(e.shape) < 2:
        raise ShapeMismatchError(f"{name}: input must have at least 2 dimensions.")
    if e.shape[-2] < e.shape[-1]:
        raise ShapeMismatchError(f"{name}: input.shape[-2] must be greater than or equal to input.shape[-1]")
    if not t.shape or e.shape[-1] < t.shape[-1]:
        raise ShapeMismatchError(f"{name}: input.shape[-1] must be greater than or equal to tau.shape[-1]")
    if t.shape[:-1] != e.shape[:-2]:
        raise ShapeMismatchError(f"{name}: Expected batch dimensions of tau to be equal to input.shape[:-2], but got "
                                 f"{list(t.shape[:-1])}")
    if t.dtype is not e.dtype:
        raise DTypeError(f"{name}: tau dtype {scalar_type_name(t.dtype)} does not match input dtype {scalar_type_name(e.dtype)}")
    check_matrices("householder_product", e, False)


def reflected(a: Tensor, tau: Tensor, other: Tensor, turned: bool = False) -> Tensor:
    """``Q other`` (or ``Q^H other``), Q the product of the reflections kept in the columns of ``a`` and ``tau``."""
    k, m = tau.shape[-1], a.shape[-2]
    vectors = a.tril(-1)[..., :k] + eye(m, k, dtype=a.dtype)
    factors = tau.conj() if turned else tau
    for i in range(k) if turned else range(k - 1, -1, -1):
        v = vectors[..., i:i + 1]
        other = other - factors[..., i, None, None] * (v @ (v.mH @ other))
    return other


@function("householder_product", namespace="linalg", method=False)
def householder_product(A: Tensor, tau: Tensor) -> Tensor:
    """The first n columns of a product of reflections ``1 - tau_i v_i v_i^H``, v_i below the diagonal of A (..., m, n)."""
    _check_reflections(A, tau, "torch.linalg.householder_product")
    start = eye(*A.shape[-2:], dtype=A.dtype).expand(A.shape)
    return reflected(A, tau, start) if tau.shape[-1] else connected(start, A)


@function("orgqr")
def orgqr(input: Tensor, input2: Tensor) -> Tensor:
    """Older name of :func:`torsh.linalg.householder_product`."""
    return householder_product(input, input2)  # type: ignore[no-any-return]


@function("ormqr")
def ormqr(input: Tensor, tau: Tensor, other: Tensor, left: bool = True, transpose: bool = False) -> Tensor:
    """The product of Q (of :func:`geqrf`; ``transpose``: its adjoint) with ``other``, from the left or right."""
    if input.ndim < 2:
        raise ShapeMismatchError("torch.ormqr: input must have at least 2 dimensions.")
    if other.ndim < 2:
        raise ShapeMismatchError("torch.ormqr: other must have at least 2 dimensions.")
    if other.shape[-2 if left else -1] != input.shape[-2]:
        side = -2 if left else -1
        raise ShapeMismatchError(f"torch.ormqr: other.shape[{side}] must be equal to input.shape[-2]")
    if left:
        return reflected(input, tau, other, transpose)
    return reflected(input, tau, other.mH, not transpose).mH  # type: ignore[attr-defined, no-any-return]


# ---- lu ----------------------------------------------------------------------------------------------------------------

def _lu(A: Expr) -> tuple[Expr, Expr, Expr]:
    compact = emit1(LU_COMPACT, A)
    return (permutation(emit1(LU_PIVOTS, A), A.shape[-2], A.dtype), *lu_parts(compact))


def _lu_factor(A: Expr, reporter: str | None) -> tuple[Expr, Expr]:
    return emit1(LU_COMPACT, A, reporter), emit1(LU_PIVOTS, A)


def _lu_factor_ex(A: Expr) -> tuple[Expr, Expr, Expr]:
    return emit1(LU_COMPACT, A), emit1(LU_PIVOTS, A), emit1(LU_INFO, A)


def _pivoted(pivot: bool, name: str = "linalg.lu_factor") -> None:
    if not pivot:
        raise ShapeMismatchError(f"{name}: LU without pivoting is not implemented on the CPU")


@function("lu", namespace="linalg", method=False)
def linalg_lu(A: Tensor, *, pivot: bool = True) -> Any:
    """(P, L, U) of ``A = P L U``: a permutation, a unit lower and an upper triangular matrix.

    A (..., m, n), k = min(m, n): P (..., m, m), L (..., m, k), U (..., k, n).
    """
    _pivoted(pivot)
    return Result["linalg_lu"](*recorded_all(_lu, (A,)))


@function("lu_factor", namespace="linalg", method=False)
def lu_factor(A: Tensor, *, pivot: bool = True) -> Any:
    """(LU, pivots): both factors in one matrix (..., m, n), and the rows exchanged, counted from 1 (int32).

    Raises LinAlgError (a RuntimeError) if U has a zero on its diagonal.
    """
    _pivoted(pivot)
    return settled(Result["linalg_lu_factor"](*recorded_all(_lu_factor, (A,), ("torch.linalg.lu_factor",))))


@function("lu_factor_ex", namespace="linalg", method=False)
def lu_factor_ex(A: Tensor, *, pivot: bool = True, check_errors: bool = False) -> Any:
    """:func:`lu_factor` with a code instead of an error: info is the position of the first zero on U's diagonal, or 0."""
    _pivoted(pivot)
    if check_errors:
        settled(recorded_all(_lu_factor, (A,), ("torch.linalg.lu_factor_ex",)))
    return Result["linalg_lu_factor_ex"](*recorded_all(_lu_factor_ex, (A,)))


@function("lu")
def lu(A: Tensor, pivot: bool = True, get_infos: bool = False) -> Any:
    """(LU, pivots) or, with ``get_infos``, (LU, pivots, info); see :func:`torsh.linalg.lu_factor_ex`."""
    _pivoted(pivot)
    if get_infos:
        return Result["_lu_with_info"](*recorded_all(_lu_factor_ex, (A,)))
    return recorded_all(_lu_factor, (A,), (None,))


@function("lu_unpack", method=False)
def lu_unpack(LU_data: Tensor, LU_pivots: Tensor, unpack_data: bool = True, unpack_pivots: bool = True) -> Any:
    """(P, L, U) from the compact form; what is not asked for is empty."""
    e = at_least_matrix("torch.lu_unpack", LU_data, "LU_data")
    if expr_of(LU_pivots).dtype.name != "int32":
        raise DTypeError("torch.lu_unpack: LU_pivots is expected to be a contiguous tensor of torch.int32 dtype.\nNote: this "
                         "function is intended to be used with the output produced by torch.linalg.lu_factor")
    parts = recorded_all(lu_parts, (LU_data,)) if unpack_data else (empty(0, dtype=e.dtype), empty(0, dtype=e.dtype))
    order = recorded(permutation, (LU_pivots,), (e.shape[-2], e.dtype)) if unpack_pivots else empty(0, dtype=e.dtype)
    return Result["lu_unpack"](order, *parts)
