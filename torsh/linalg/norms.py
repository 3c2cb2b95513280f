"""Norms of matrices, and what follows from singular values: condition numbers and ranks."""
from __future__ import annotations

from typing import Any, Final

from torsh.core.dtype import DType
from torsh.core.errors import DTypeError, ShapeMismatchError
from torsh.core.limits import finfo
from torsh.core.shape import normalise_dim
from torsh.graph.handle import expr_of
from torsh.linalg.common import at_least_matrix, inexact, square
from torsh.linalg.spectra import eigvalsh, svdvals
from torsh.ops.expr import emit1
from torsh.ops.linear_algebra import INVERSE
from torsh.tensor.creation import zeros
from torsh.tensor.function import function, recorded, scalar_type_name, tensor_operand
from torsh.tensor.reduction import vector_norm
from torsh.tensor.tensor import Tensor

INFINITY: Final = float("inf")
_ORDERS: Final = (1, 2, INFINITY)


@function("matrix_norm", namespace="linalg", method=False)
def matrix_norm(A: Tensor, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """Norms of matrices in two dimensions: ``"fro"``, ``"nuc"``, 2 and -2 (largest and smallest singular value), 1 and -1
    (largest and smallest sum of a column), inf and -inf (of a row).

    >>> torsh.linalg.matrix_norm(torsh.tensor([[3.0, 0.0], [0.0, 4.0]]))
    tensor(5.)
    """
    at_least_matrix("linalg.matrix_norm", A)
    inexact("linalg.matrix_norm", A)
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    if len(dims) != 2:
        raise ShapeMismatchError(f"linalg.matrix_norm: dim must be a 2-tuple. Got {', '.join(str(d) for d in dims)}")
    rows, columns = (normalise_dim(d, A.ndim) for d in dims)
    if rows == columns:
        raise ShapeMismatchError(f"linalg.matrix_norm: dims must be different. Got ({dims[0]}, {dims[1]})")
    A = _as_dtype(A, dtype, "linalg.matrix_norm")
    if isinstance(ord, str):
        if ord not in ("fro", "nuc"):
            raise ShapeMismatchError(f"linalg.matrix_norm: Order {ord} not supported.")
        if ord == "fro":
            return vector_norm(A, 2, (rows, columns), keepdim)  # type: ignore[no-any-return]
    elif abs(ord) not in _ORDERS:
        raise ShapeMismatchError(f"linalg.matrix_norm: Order {ord} not supported.")
    if ord == "nuc" or abs(ord) == 2:
        return _by_singular_values(A, ord, rows, columns, keepdim)
    if abs(ord) == INFINITY:
        rows, columns = columns, rows
    sums = vector_norm(A, 1, (rows,), True)
    pick = sums.amax if ord > 0 else sums.amin
    if not A.shape[columns]:
        return _empty_extreme(A, (rows, columns), keepdim)
    found = pick(columns, True)
    return found if keepdim else _without(found, rows, columns)


def _as_dtype(A: Tensor, dtype: DType | None, name: str) -> Tensor:
    if dtype is None:
        return A
    if dtype.category < 2:
        raise DTypeError(f"{name}: dtype should be floating point or complex, but got {scalar_type_name(dtype)}")
    if dtype.category < A.dtype.category:
        raise DTypeError(f"{name}: dtype should be complex for complex inputs, but got {scalar_type_name(dtype)}")
    return A.to(dtype)  # type: ignore[attr-defined, no-any-return]


def _without(t: Tensor, first: int, second: int) -> Tensor:
    return t.squeeze(max(first, second)).squeeze(min(first, second))  # type: ignore[attr-defined, no-any-return]


def _empty_extreme(A: Tensor, dims: tuple[int, int], keepdim: bool) -> Tensor:
    """Norms of matrices without elements are 0."""
    shape = [1 if i in dims else n for i, n in enumerate(A.shape) if keepdim or i not in dims]
    return zeros(shape, dtype=expr_of(A).dtype.to_real())  # type: ignore[no-any-return]


def _by_singular_values(A: Tensor, ord: Any, rows: int, columns: int, keepdim: bool) -> Tensor:
    values = svdvals(A.movedim((rows, columns), (-2, -1)))  # type: ignore[attr-defined]
    if ord == "nuc":
        found = values.sum(-1)
    elif not values.shape[-1]:
        return _empty_extreme(A, (rows, columns), keepdim)
    else:
        found = values.amax(-1) if ord > 0 else values.amin(-1)
    if keepdim:
        found = found.unsqueeze(min(rows, columns)).unsqueeze(max(rows, columns))
    return found  # type: ignore[no-any-return]


@function("norm", namespace="linalg", method=False)
def norm(A: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """A vector's norm (:func:`vector_norm`) or, with ``ord`` and two dimensions, a matrix's (:func:`matrix_norm`).

    Without ``ord``: the square root of the sum of squares over ``dim``, or over everything.
    """
    e = tensor_operand(A, "linalg_norm", 1, "A")
    dims = None if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    if ord is not None:
        if dims is None and len(e.shape) not in (1, 2):
            raise ShapeMismatchError("linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got "
                                     f"{len(e.shape)}D.")
        if dims is not None and len(dims) not in (1, 2):
            raise ShapeMismatchError("linalg.norm: If dim is specified, it must be of length 1 or 2. Got "
                                     f"{list(dims)}")
        if isinstance(ord, str) or len(dims or e.shape) == 2:
            return matrix_norm(A, ord, (-2, -1) if dims is None else dims, keepdim, dtype=dtype)  # type: ignore[no-any-return]
    return vector_norm(A, 2 if ord is None else ord, dims, keepdim, dtype=dtype)  # type: ignore[no-any-return]


# ---- condition numbers and ranks ---------------------------------------------------------------------------------------

@function("cond", namespace="linalg", method=False)
def cond(A: Tensor, p: Any = None) -> Tensor:
    """Condition numbers (...): the norm of A times that of its inverse; inf for singular matrices.

    p: a matrix norm; None or 2: largest by smallest singular value, also of matrices that are not square.
    """
    if tensor_operand(A, "linalg_cond", 1, "A") is not None and A.ndim < 2:
        raise ShapeMismatchError("linalg.cond: The input tensor must have at least 2 dimensions.")
    if p not in (None, "fro", "nuc") and (isinstance(p, str) or abs(p) not in _ORDERS):
        raise ShapeMismatchError(f"linalg.cond got an invalid norm type: {p}")
    if not A.numel():
        return zeros(*A.shape[:-2], dtype=A.dtype.to_real())  # type: ignore[no-any-return]
    if p is None or p in (2, -2):
        values = svdvals(A)
        first, last = values[..., 0], values[..., -1]
        return last / first if p == -2 else first / last  # type: ignore[no-any-return]
    square(f"linalg.cond(ord={_order_name(p)})", A)
    inverse = recorded(_inverse, (A,))
    product = matrix_norm(A, p) * matrix_norm(inverse, p)
    return product.where(~inverse.isnan().any(-1).any(-1), INFINITY)  # type: ignore[no-any-return]


def _order_name(p: Any) -> str:
    return str(p) if isinstance(p, str) or abs(p) == INFINITY else f"{p:g}"


def _inverse(A: Any) -> Any:
    return emit1(INVERSE, A)


def tolerances(A: Tensor, atol: Any, rtol: Any) -> tuple[Any, Any]:
    """The absolute and relative limit below which singular values count as zero."""
    if rtol is None:
        default = float(finfo(A.dtype.to_real()).eps) * max(A.shape[-2:])
        if atol is None:
            rtol = default
        elif isinstance(atol, Tensor):
            rtol = (atol > 0).logical_not().to(A.dtype.to_real()) * default  # type: ignore[attr-defined]
        else:
            rtol = 0.0 if atol > 0 else default
    return 0.0 if atol is None else atol, rtol


def rank_of_values(values: Tensor, atol: Any, rtol: Any) -> Tensor:
    """How many of the singular values are above the limits."""
    if not values.shape[-1]:
        return values.sum(-1).long()  # type: ignore[attr-defined, no-any-return]
    limit = rtol * values.amax(-1)      # type: ignore[attr-defined]
    limit = limit.maximum(atol.to(limit.dtype)) if isinstance(atol, Tensor) else limit.clamp(min=atol)
    return (values > limit.unsqueeze(-1)).sum(-1)  # type: ignore[no-any-return]


@function("matrix_rank", namespace="linalg", method=False)
def matrix_rank(A: Tensor, tol: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None) -> Tensor:
    """Ranks (...), int64: how many singular values are above ``max(atol, rtol * largest)``.

    rtol is ``max(m, n)`` times the precision by default, 0 if ``atol`` is given; hermitian: use eigenvalues. ``tol`` is an older
    name of ``atol``.
    """
    at_least_matrix("torch.linalg.matrix_rank", A, "input")
    if tol is not None:
        atol, rtol = tol, 0.0
    for label, limit in (("atol", atol), ("rtol", rtol)):
        if isinstance(limit, Tensor) and limit.dtype.is_complex:
            raise DTypeError(f"torch.linalg.matrix_rank: {label} tensor of complex type is not supported.")
    if hermitian:
        square("linalg.matrix_rank", A)
        values = eigvalsh(A.detach()).abs()
    else:
        values = svdvals(A.detach())
    return rank_of_values(values, *tolerances(A, atol, rtol))
