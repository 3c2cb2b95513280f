"""Factorisations, inverses and functions of matrices: host ops over batches of matrices in the last two dimensions.

A function with several results is one op per result; the factorisation is computed once for all of them.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Any, Final

import numpy as np

from torsh.core.dtype import DType, from_numpy_dtype, int32
from torsh.core.errors import DTypeError, LinAlgError, ShapeMismatchError
from torsh.core.promotion import SCALAR_TYPE_NAMES
from torsh.core.shape import broadcast_shapes
from torsh.ops.common import (
    add,
    apply,
    cast,
    conj,
    div,
    eq,
    iota,
    mul,
    neg,
    reduce_sum,
    slice_dim,
    sub,
    sum_to,
    transpose,
    unary,
    unsqueeze,
    where,
)
from torsh.ops.contraction import matmul
from torsh.ops.creation import eye
from torsh.ops.define import Array
from torsh.ops.expr import HOST, Expr, Op, Shape, emit1, emit2
from torsh.ops.matrix_algorithms import batch_label, leading_minor, one_by_one, pivoted_lu, solve_triangle, stack_of, zero_pivots

# ---- checks ------------------------------------------------------------------------------------------------------------

def check_matrices(name: str, a: Expr, square: bool = True) -> None:
    """Raise PyTorch's errors for an argument that is no batch of (square) matrices of a supported dtype."""
    if len(a.shape) < 2:
        raise ShapeMismatchError(f"linalg.{name}: The input tensor A must have at least 2 dimensions.")
    if square and a.shape[-1] != a.shape[-2]:
        raise ShapeMismatchError(f"linalg.{name}: A must be batches of square matrices, but they are {a.shape[-2]} by "
                                 f"{a.shape[-1]} matrices")
    if a.dtype.category < 2:
        raise DTypeError(f"linalg.{name}: Expected a floating point or complex tensor as input. Got "
                         f"{SCALAR_TYPE_NAMES[a.dtype.name]}")
    if a.dtype.itemsize == 2:
        raise DTypeError(f"linalg.{name}: Low precision dtypes not supported. Got {SCALAR_TYPE_NAMES[a.dtype.name]}")


def _square(name: str) -> Callable[..., tuple[Shape, DType]]:
    def infer(attr: Any, a: Expr) -> tuple[Shape, DType]:
        check_matrices(name, a)
        return a.shape, a.dtype
    return infer


def _determinant_infer(name: str, real: bool) -> Callable[..., tuple[Shape, DType]]:
    def infer(attr: Any, a: Expr) -> tuple[Shape, DType]:
        check_matrices(name, a)
        return a.shape[:-2], a.dtype.to_real() if real else a.dtype
    return infer


def adjoint(e: Expr) -> Expr:
    """Conjugate transpose of the last two dimensions."""
    return transpose(conj(e), -1, -2)


def _numpy_adjoint(a: Array) -> Array:
    return np.conj(np.swapaxes(a, -1, -2))


def lower_triangle(e: Expr, diagonal: int = 0) -> Expr:
    """Matrices with zeros above a diagonal (0: the main one)."""
    return apply("tril", e, attr=diagonal)


def upper_triangle(e: Expr, diagonal: int = 0) -> Expr:
    """Matrices with zeros below a diagonal (0: the main one)."""
    return apply("triu", e, attr=diagonal)


def _row(e: Expr) -> Expr:
    return unsqueeze(e, -2)


def _column(e: Expr) -> Expr:
    return unsqueeze(e, -1)


def _on_diagonal(values: Expr) -> Expr:
    """Diagonal matrices."""
    n = values.shape[-1]
    return mul(_column(values), eye(n, n, values.dtype))


# ---- shared factorisations ---------------------------------------------------------------------------------------------

# (what, copy of the matrices, result, parts of it that have been taken) of the last ones
_RESULTS: Final[deque[tuple[Any, Array, Any, set[int]]]] = deque(maxlen=4)
_LOCK: Final = Lock()


def shared(name: str, attr: Any, a: Any, function: Callable[[Array], Any], part: int) -> Array:
    """One part of a factorisation, which is computed once for all ops that ask for parts of it one after the other.

    Each part is given out once, so that nothing is kept from one computation for the next.
    """
    array = np.array(a, order="C")
    key = (name, attr, array.shape, array.dtype.str)
    with _LOCK:
        for known, matrices, found, taken in _RESULTS:
            if known == key and part not in taken and np.array_equal(_bytes(matrices), _bytes(array)):
                taken.add(part)
                return np.asarray(found[part])
    result = attempt(name, function, array)
    with _LOCK:
        _RESULTS.append((key, array, result, {part}))
    return np.asarray(result[part])


def attempt(name: str, function: Callable[[Array], Any], array: Array) -> Any:
    """A factorisation, or PyTorch's error if it does not converge."""
    try:
        return function(array)
    except np.linalg.LinAlgError:
        finite = bool(np.isfinite(array).all())
        if name == "eig" and not finite:
            raise LinAlgError("torch.linalg.eig: input tensor should not contain infs or NaNs.") from None
        why = ("the input matrix is ill-conditioned or has too many repeated values." if finite
               else "the input matrix contained non-finite values.")
        raise LinAlgError(f"linalg.{name}: The algorithm failed to converge because {why}") from None


def _bytes(array: Array) -> Array:
    return array.reshape(-1).view(np.uint8)


# ---- cholesky ----------------------------------------------------------------------------------------------------------

def _cholesky_infer(attr: tuple[bool, str | None], a: Expr) -> tuple[Shape, DType]:
    check_matrices("cholesky", a)
    return a.shape, a.dtype


def _cholesky_reference(attr: tuple[bool, str | None], a: Any) -> Array:
    upper, reporter = attr
    array = np.asarray(a)
    read = _numpy_adjoint(array) if upper else array
    try:
        lower = np.linalg.cholesky(read)
    except np.linalg.LinAlgError:
        lower, failed = one_by_one(np.linalg.cholesky, read)
        if reporter is not None:
            order = leading_minor(stack_of(np.ascontiguousarray(read))[failed[0]])
            raise LinAlgError(f"{reporter}: {batch_label(failed[0], array.ndim)}The factorization could not be completed because "
                              f"the input is not positive-definite (the leading minor of order {order} is not "
                              "positive-definite).") from None
    return np.ascontiguousarray(_numpy_adjoint(lower)) if upper else lower


def _cholesky_info_reference(attr: bool, a: Any) -> Array:
    array = np.asarray(a)
    read = _numpy_adjoint(array) if attr else array
    try:
        np.linalg.cholesky(read)
        return np.zeros(array.shape[:-2], np.int32)
    except np.linalg.LinAlgError:
        orders = [leading_minor(matrix) for matrix in stack_of(np.ascontiguousarray(read))]
        return np.array(orders, np.int32).reshape(array.shape[:-2])


def _info_infer(attr: Any, a: Expr) -> tuple[Shape, DType]:
    check_matrices("cholesky", a)
    return a.shape[:-2], int32


def _cholesky_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    upper, _ = e.attr  # type: ignore[misc]
    lower, g = (adjoint(e), adjoint(g)) if upper else (e, g)
    inner = matmul(adjoint(lower), lower_triangle(g))
    half = mul(add(lower_triangle(inner), adjoint(lower_triangle(inner, -1))), 0.5)
    left = triangular_solve(adjoint(lower), half, True)
    return (adjoint(triangular_solve(adjoint(lower), adjoint(left), True)),)


# attr: (upper: the conjugate transpose, who reports matrices that are not positive definite; None: their factors are NaN)
CHOLESKY: Final[Op] = Op("cholesky", _cholesky_infer, _cholesky_reference, gradient=_cholesky_gradient, kind=HOST)
# order of the first leading minor that is not positive definite, or 0; int32. attr: upper
CHOLESKY_INFO: Final[Op] = Op("cholesky_info", _info_infer, _cholesky_info_reference, kind=HOST)


# ---- inverse and solutions ---------------------------------------------------------------------------------------------

def _inverse_reference(attr: str | None, a: Any) -> Array:
    array = np.asarray(a)
    try:
        return np.linalg.inv(array)
    except np.linalg.LinAlgError:
        out, failed = one_by_one(np.linalg.inv, array)
        if attr is None:
            return out
        matrix = stack_of(np.ascontiguousarray(array))[failed[0]]
        number = int(zero_pivots(pivoted_lu(matrix)[0])) or array.shape[-1]
        raise LinAlgError(f"{attr}: {batch_label(failed[0], array.ndim)}The diagonal element {number} is zero, the inversion could "
                          "not be completed because the input matrix is singular.") from None


def _inverse_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    turned = adjoint(e)
    return (neg(matmul(matmul(turned, g), turned)),)


# attr: who reports singular matrices; None: their inverses are NaN
INVERSE: Final[Op] = Op("inverse", _square("inv"), _inverse_reference, gradient=_inverse_gradient, kind=HOST)


def _solve_infer(name: str) -> Callable[..., tuple[Shape, DType]]:
    def infer(attr: Any, a: Expr, b: Expr) -> tuple[Shape, DType]:
        check_matrices(name, a)
        if a.dtype is not b.dtype:
            raise DTypeError(f"linalg.{name}: Expected A and B to have the same dtype, but found A of type "
                             f"{SCALAR_TYPE_NAMES[a.dtype.name]} and B of type {SCALAR_TYPE_NAMES[b.dtype.name]} instead")
        if len(b.shape) < 2 or a.shape[-1] != b.shape[-2]:
            raise ShapeMismatchError(f"linalg.{name}: Incompatible shapes of A and B for the equation AX = B "
                                     f"({a.shape[-2]}x{a.shape[-1]} and {'x'.join(str(n) for n in b.shape[-2:])})")
        return (*broadcast_shapes(a.shape[:-2], b.shape[:-2]), *b.shape[-2:]), a.dtype
    return infer


def _solve_reference(attr: str | None, a: Any, b: Any) -> Array:
    a, b = np.asarray(a), np.asarray(b)
    wide = b
    if a.shape[:-2] != b.shape[:-2]:
        wide = np.broadcast_to(b, (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), *b.shape[-2:]))
    try:
        return np.linalg.solve(a, wide)
    except np.linalg.LinAlgError:
        inverse, failed = one_by_one(np.linalg.inv, a)
        if attr is None:
            return inverse @ wide
        raise LinAlgError(f"{attr}: {batch_label(failed[0] if failed else 0, a.ndim)}The solver failed because the input matrix is "
                          "singular.") from None


def _solve_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    a, b = e.args
    to_b = emit2(SOLVE, adjoint(a), g)
    return (sum_to(neg(matmul(to_b, adjoint(e))), a.shape) if a.requires_grad else None,
            sum_to(to_b, b.shape) if b.requires_grad else None)


# args: A (..., n, n), B (..., n, k). attr: who reports singular matrices; None: their solutions are NaN
SOLVE: Final[Op] = Op("solve", _solve_infer("solve"), _solve_reference, gradient=_solve_gradient, kind=HOST)


def solve_expr(a: Expr, b: Expr, reporter: str | None = None) -> Expr:
    """X with A X = B; B may be a vector (or a batch of vectors, if its shape is A's without the last dimension)."""
    if len(b.shape) == 1 or (len(b.shape) == len(a.shape) - 1 and b.shape == a.shape[:-1]):
        out = emit2(SOLVE, a, unsqueeze(b, -1), reporter)
        return apply("reshape", out, attr=out.shape[:-1])
    return emit2(SOLVE, a, b, reporter)


def _triangular_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    a, b = e.args
    upper, unit = e.attr  # type: ignore[misc]
    to_b = emit2(TRIANGULAR_SOLVE, adjoint(a), g, (not upper, unit))
    to_a: Expr | None = None
    if a.requires_grad:
        product = sum_to(neg(matmul(to_b, adjoint(e))), a.shape)
        to_a = upper_triangle(product, int(unit)) if upper else lower_triangle(product, -int(unit))
    return to_a, sum_to(to_b, b.shape) if b.requires_grad else None


# attr: (upper, diagonal of ones); args: A, B
TRIANGULAR_SOLVE: Final[Op] = Op(
    "triangular_solve", _solve_infer("solve_triangular"),
    lambda attr, a, b: solve_triangle(np.asarray(a), np.asarray(b), *attr), gradient=_triangular_gradient,
    kind=HOST)


def triangular_solve(a: Expr, b: Expr, upper: bool, unit: bool = False) -> Expr:
    """X with A X = B for the upper or lower triangle of A."""
    return emit2(TRIANGULAR_SOLVE, a, b, (upper, unit))


def cholesky_solve_expr(b: Expr, factor: Expr, upper: bool = False) -> Expr:
    """X with A X = B from A's Cholesky factor."""
    lower = adjoint(factor) if upper else factor
    return triangular_solve(adjoint(lower), triangular_solve(lower, b, False), True)


# ---- determinants ------------------------------------------------------------------------------------------------------

def _det_reference(attr: None, a: Any) -> Array:
    return np.asarray(np.linalg.det(np.asarray(a)), np.asarray(a).dtype)


def _cofactor_reference(attr: None, a: Any) -> Array:
    # From singular values, so that it exists for singular matrices too: the product of all others replaces each.
    array = np.asarray(a)
    if not array.size:
        return array.copy()
    u, s, vh = np.linalg.svd(array)
    others = np.where(np.eye(s.shape[-1], dtype=bool), 1, s[..., None, :]).prod(-1)
    sign = np.linalg.det(u) * np.linalg.det(vh)
    return np.asarray(np.conj(sign)[..., None, None] * ((u * others[..., None, :]) @ vh), array.dtype)


def _cofactor_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    # cof(A) = conj(det(A)) inverse(A)^H
    a = e.args[0]
    turned = adjoint(emit1(INVERSE, a))
    size = conj(_column(_column(emit1(DET, a))))
    inner = _column(_column(reduce_sum(mul(conj(g), turned), (-2, -1))))
    return (mul(size, sub(mul(inner, turned), matmul(matmul(turned, adjoint(g)), turned))),)


DET: Final[Op] = Op("det", _determinant_infer("det", False), _det_reference, kind=HOST,
                    gradient=lambda e, g: (mul(_column(_column(g)), emit1(COFACTOR, e.args[0])),))
# the gradient of det, also of singular matrices
COFACTOR: Final[Op] = Op("cofactor", _square("det"), _cofactor_reference, gradient=_cofactor_gradient, kind=HOST)


def _slogdet(part: int) -> Callable[..., Array]:
    def reference(attr: None, a: Any) -> Array:
        array = np.asarray(a)
        result = shared("slogdet", None, array, np.linalg.slogdet, part)
        return result.astype(array.dtype if part == 0 else array.real.dtype)
    return reference


SLOGDET_SIGN: Final[Op] = Op("slogdet_sign", _determinant_infer("slogdet", False), _slogdet(0), kind=HOST)
# logarithm of the absolute determinant
SLOGDET_LOG: Final[Op] = Op(
    "slogdet_log", _determinant_infer("slogdet", True), _slogdet(1), kind=HOST,
    gradient=lambda e, g: (mul(_column(_column(cast(g, e.args[0].dtype))), adjoint(emit1(INVERSE, e.args[0]))),))


# ---- qr ----------------------------------------------------------------------------------------------------------------

def _qr_infer(part: str) -> Callable[..., tuple[Shape, DType]]:
    def infer(attr: str, a: Expr) -> tuple[Shape, DType]:
        check_matrices("qr", a, False)
        m, n = a.shape[-2:]
        k = m if attr == "complete" else min(m, n)
        return (*a.shape[:-2], *((m, k) if part == "q" else (k, n))), a.dtype
    return infer


def _qr_reference(part: int) -> Callable[..., Array]:
    def reference(attr: str, a: Any) -> Array:
        mode: Any = attr
        return shared("qr", attr, a, lambda x: tuple(np.linalg.qr(x, mode)), part)
    return reference


def _check_qr(e: Expr) -> None:
    m, n = e.args[0].shape[-2:]
    if m < n or (e.attr == "complete" and m != n):
        raise NotImplementedError("linalg.qr: the gradient needs mode='reduced' and at least as many rows as columns; got a "
                                  f"matrix of {m} rows and {n} columns with mode={e.attr!r}")


def _qr_pull(e: Expr, g: Expr, inner: Expr, q: Expr, r: Expr, of_q: bool) -> tuple[Expr | None, ...]:
    full_inner = add(lower_triangle(inner), adjoint(lower_triangle(inner, -1)))
    outer = matmul(q, full_inner)
    outer = add(g, outer) if of_q else outer
    return (adjoint(triangular_solve(r, adjoint(outer), True)),)


def _q_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    _check_qr(e)
    r = emit1(QR_R, e.args[0], e.attr)
    return _qr_pull(e, g, neg(matmul(adjoint(g), e)), e, r, True)


def _r_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    _check_qr(e)
    q = emit1(QR_Q, e.args[0], e.attr)
    return _qr_pull(e, g, matmul(e, adjoint(upper_triangle(g))), q, e, False)


# attr: "reduced" or "complete"
QR_Q: Final[Op] = Op("qr_q", _qr_infer("q"), _qr_reference(0), gradient=_q_gradient, kind=HOST)
QR_R: Final[Op] = Op("qr_r", _qr_infer("r"), _qr_reference(1), gradient=_r_gradient, kind=HOST)


# ---- symmetric eigenvalues ---------------------------------------------------------------------------------------------

def _eigh_infer(vectors: bool) -> Callable[..., tuple[Shape, DType]]:
    def infer(attr: str, a: Expr) -> tuple[Shape, DType]:
        check_matrices("eigh", a)
        return (a.shape, a.dtype) if vectors else (a.shape[:-1], a.dtype.to_real())
    return infer


def _eigh_reference(part: int) -> Callable[..., Array]:
    def reference(attr: str, a: Any) -> Array:
        side: Any = attr
        return shared("eigh", attr, a, lambda x: tuple(np.linalg.eigh(x, side)), part)
    return reference


def _inverse_gaps(values: Expr, dtype: DType) -> Expr:
    """1 / (w_j - w_i), 0 on the diagonal."""
    gaps = sub(_row(values), _column(values))
    n = values.shape[-1]
    same = eq(iota((n, n), 0), iota((n, n), 1))
    return cast(where(same, 0.0, div(1.0, where(same, 1.0, gaps))), dtype)


def _eigh_vectors_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    values = emit1(EIGH_VALUES, e.args[0], e.attr)
    inner = mul(matmul(adjoint(e), g), _inverse_gaps(values, e.dtype))
    return (matmul(matmul(e, inner), adjoint(e)),)


def _eigh_values_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    vectors = emit1(EIGH_VECTORS, e.args[0], e.attr)
    return (matmul(mul(vectors, _row(cast(g, vectors.dtype))), adjoint(vectors)),)


# attr: "L" or "U", the triangle that is read
EIGH_VALUES: Final[Op] = Op("eigh_values", _eigh_infer(False), _eigh_reference(0), gradient=_eigh_values_gradient, kind=HOST)
EIGH_VECTORS: Final[Op] = Op("eigh_vectors", _eigh_infer(True), _eigh_reference(1), gradient=_eigh_vectors_gradient,
                             kind=HOST)


# values alone take less time than with vectors
EIGVALSH: Final[Op] = Op("eigvalsh", _eigh_infer(False),
                         lambda attr, a: attempt("eigh", lambda x: np.linalg.eigvalsh(x, attr), np.asarray(a)),
                         gradient=_eigh_values_gradient, kind=HOST)


# ---- singular values ---------------------------------------------------------------------------------------------------

def _svd_infer(part: str) -> Callable[..., tuple[Shape, DType]]:
    def infer(attr: bool, a: Expr) -> tuple[Shape, DType]:
        check_matrices("svd", a, False)
        m, n = a.shape[-2:]
        k = min(m, n)
        if part == "s":
            return (*a.shape[:-2], k), a.dtype.to_real()
        matrix = (m, m if attr else k) if part == "u" else (n if attr else k, n)
        return (*a.shape[:-2], *matrix), a.dtype
    return infer


def _svd_reference(part: int) -> Callable[..., Array]:
    def reference(attr: bool, a: Any) -> Array:
        return shared("svd", attr, a, lambda x: tuple(np.linalg.svd(x, attr)), part)
    return reference


def _svd_parts(e: Expr) -> tuple[Expr, Expr, Expr]:
    """The reduced factors, whatever the attribute of ``e``."""
    a = e.args[0]
    return emit1(SVD_U, a, False), emit1(SVD_S, a, False), emit1(SVD_VH, a, False)


def _rotation(inner: Expr, s: Expr) -> Expr:
    """(X - X^H) / (s_j^2 - s_i^2)"""
    return mul(sub(inner, adjoint(inner)), _inverse_gaps(mul(s, s), inner.dtype))


def _svd_u_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    u, s, vh = _svd_parts(e)
    k = s.shape[-1]
    g = slice_dim(g, -1, 0, k)
    scale = _row(cast(s, e.dtype))
    inner = mul(_rotation(matmul(adjoint(u), g), s), scale)
    out = matmul(matmul(u, inner), vh)
    if u.shape[-2] > k:
        outside = sub(g, matmul(u, matmul(adjoint(u), g)))
        out = add(out, matmul(div(outside, scale), vh))
    return (out,)


def _svd_vh_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    u, s, vh = _svd_parts(e)
    k = s.shape[-1]
    gv = adjoint(slice_dim(g, -2, 0, k))
    scale = _column(cast(s, e.dtype))
    inner = mul(scale, _rotation(matmul(vh, gv), s))
    out = matmul(matmul(u, inner), vh)
    if vh.shape[-1] > k:
        gvh = adjoint(gv)
        outside = sub(gvh, matmul(matmul(gvh, adjoint(vh)), vh))
        out = add(out, matmul(u, div(outside, scale)))
    return (out,)


def _svd_s_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    u, _, vh = _svd_parts(e)
    return (matmul(mul(u, _row(cast(g, u.dtype))), vh),)


# attr: full matrices
SVD_U: Final[Op] = Op("svd_u", _svd_infer("u"), _svd_reference(0), gradient=_svd_u_gradient, kind=HOST)
SVD_S: Final[Op] = Op("svd_s", _svd_infer("s"), _svd_reference(1), gradient=_svd_s_gradient, kind=HOST)
SVD_VH: Final[Op] = Op("svd_vh", _svd_infer("vh"), _svd_reference(2), gradient=_svd_vh_gradient, kind=HOST)


SVDVALS: Final[Op] = Op("svdvals", _svd_infer("s"),
                        lambda attr, a: attempt("svd", lambda x: np.linalg.svd(x, compute_uv=False), np.asarray(a)),
                        gradient=_svd_s_gradient, kind=HOST)


# ---- general eigenvalues -----------------------------------------------------------------------------------------------

def _eig_infer(vectors: bool) -> Callable[..., tuple[Shape, DType]]:
    def infer(attr: None, a: Expr) -> tuple[Shape, DType]:
        check_matrices("eig", a)
        return a.shape if vectors else a.shape[:-1], a.dtype.to_complex()
    return infer


def _eig_reference(part: int) -> Callable[..., Array]:
    def reference(attr: None, a: Any) -> Array:
        dtype = from_numpy_dtype(np.asarray(a).dtype).to_complex()
        return shared("eig", attr, a, lambda x: tuple(np.linalg.eig(x)), part).astype(dtype.numpy)
    return reference


def _eig_pull(e: Expr, vectors: Expr, inner: Expr) -> tuple[Expr | None, ...]:
    out = emit2(SOLVE, adjoint(vectors), matmul(inner, adjoint(vectors)))
    a = e.args[0]
    return (out if a.dtype.is_complex else cast(unary("real", out), a.dtype),)


def _eig_values_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    return _eig_pull(e, emit1(EIG_VECTORS, e.args[0]), _on_diagonal(g))


def _eig_vectors_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    # Vectors have norm 1; along each, only the change of direction counts.
    values = emit1(EIG_VALUES, e.args[0])
    inner = matmul(adjoint(e), g)
    n = e.shape[-1]
    along = apply("diagonal", inner, attr=(0, len(inner.shape) - 2, len(inner.shape) - 1))
    real = cast(unary("real", along), e.dtype)
    inner = sub(inner, mul(matmul(adjoint(e), e), _row(real)))
    same = eq(iota((n, n), 0), iota((n, n), 1))
    gaps = conj(sub(_row(values), _column(values)))
    return _eig_pull(e, e, where(same, 0, div(inner, where(same, 1, gaps))))


EIG_VALUES: Final[Op] = Op("eig_values", _eig_infer(False), _eig_reference(0), gradient=_eig_values_gradient, kind=HOST)
EIG_VECTORS: Final[Op] = Op("eig_vectors", _eig_infer(True), _eig_reference(1), gradient=_eig_vectors_gradient, kind=HOST)



def _eigvals_reference(attr: None, a: Any) -> Array:
    dtype = from_numpy_dtype(np.asarray(a).dtype).to_complex()
    return np.asarray(attempt("eig", np.linalg.eigvals, np.asarray(a))).astype(dtype.numpy)


EIGVALS: Final[Op] = Op("eigvals", _eig_infer(False), _eigvals_reference, gradient=_eig_values_gradient, kind=HOST)


# ---- pseudo-inverse, least squares, exponential ------------------------------------------------------------------------

def _pinv_infer(attr: Any, a: Expr) -> tuple[Shape, DType]:
    check_matrices("pinv", a, False)
    return (*a.shape[:-2], a.shape[-1], a.shape[-2]), a.dtype


def _pinv_reference(attr: tuple[float | None, float | None], a: Any) -> Array:
    array = np.asarray(a)
    u, s, vh = np.linalg.svd(array, full_matrices=False)
    atol, rtol = attr
    if rtol is None:
        rtol = 0.0 if atol else float(np.finfo(s.dtype).eps) * max(array.shape[-2:])
    limit = np.maximum(atol or 0.0, rtol * s.max(-1, keepdims=True, initial=0))
    keep = s > limit
    scale = np.where(keep, 1 / np.where(keep, s, 1), 0).astype(s.dtype)
    return np.ascontiguousarray(_numpy_adjoint(vh) @ (scale[..., None] * _numpy_adjoint(u)))


def _pinv_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    # d(A+) = -A+ dA A+ + A+ A+^H dA^H (1 - A A+) + (1 - A+ A) dA^H A+^H A+
    a, turned, gh = e.args[0], adjoint(e), adjoint(g)
    first = neg(matmul(matmul(turned, g), turned))
    left = matmul(gh, e)
    second = matmul(sub(left, matmul(a, matmul(e, left))), turned)
    right = matmul(e, gh)
    third = matmul(turned, sub(right, matmul(matmul(right, e), a)))
    return (add(first, add(second, third)),)


# attr: (absolute, relative) tolerance below which singular values count as 0; None: PyTorch's default
PINV: Final[Op] = Op("pinv", _pinv_infer, _pinv_reference, gradient=_pinv_gradient, kind=HOST)


def lstsq_expr(a: Expr, b: Expr, rcond: float | None = None) -> Expr:
    """The X of least norm that minimises |A X - B|."""
    return matmul(emit1(PINV, a, (None, rcond)), b)


_PADE: Final = (64764752532480000., 32382376266240000., 7771770303897600., 1187353796428800., 129060195264000.,
                10559470521600., 670442572800., 33522128640., 1323241920., 40840800., 960960., 16380., 182., 1.)


def _matrix_exp_reference(attr: None, a: Any) -> Array:
    """Scaling and squaring with Pade's approximant of degree 13 (Higham, SIAM J. Matrix Anal. 26, 2005)."""
    array = np.asarray(a)
    if not array.size:
        return array.copy()
    work = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
    norm = float(np.abs(work).sum(-2).max())
    squarings = max(0, int(np.ceil(np.log2(norm / 5.371920351148152)))) if norm > 0 and np.isfinite(norm) else 0
    work = work / 2.0 ** squarings
    c, one = _PADE, np.eye(work.shape[-1])
    x2 = work @ work
    x4 = x2 @ x2
    x6 = x4 @ x2
    u = work @ (x6 @ (c[13] * x6 + c[11] * x4 + c[9] * x2) + c[7] * x6 + c[5] * x4 + c[3] * x2 + c[1] * one)
    v = x6 @ (c[12] * x6 + c[10] * x4 + c[8] * x2) + c[6] * x6 + c[4] * x4 + c[2] * x2 + c[0] * one
    out = np.linalg.solve(v - u, v + u)
    for _ in range(squarings):
        out = out @ out
    return out.astype(array.dtype)


def _matrix_exp_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    # The upper right block of exp([[A^H, G], [0, A^H]]).
    turned = adjoint(e.args[0])
    n = turned.shape[-1]
    zero = mul(turned, 0)
    rank = len(turned.shape)
    block = apply("cat", apply("cat", turned, g, attr=rank - 1), apply("cat", zero, turned, attr=rank - 1), attr=rank - 2)
    return (slice_dim(slice_dim(emit1(MATRIX_EXP, block), -2, 0, n), -1, n, n),)


MATRIX_EXP: Final[Op] = Op("matrix_exp", _square("matrix_exp"), _matrix_exp_reference, gradient=_matrix_exp_gradient,
                           kind=HOST)
