"""Functions of matrices and products: determinants, powers, exponentials, chains of products."""
from __future__ import annotations

from typing import Any

from torsh.core.dtype import int64
from torsh.core.errors import DTypeError, ShapeMismatchError
from torsh.linalg.common import Result, connected, same_dtype, square
from torsh.linalg.solvers import inv
from torsh.ops.expr import Expr, emit1
from torsh.ops.linear_algebra import DET, MATRIX_EXP, SLOGDET_LOG, SLOGDET_SIGN
from torsh.tensor.creation import eye
from torsh.tensor.function import function, recorded, recorded_all, scalar_type_name, tensor_operand
from torsh.tensor.joining import cat
from torsh.tensor.matrix import C_NAMES, matmul
from torsh.tensor.tensor import Tensor

# ---- determinants ------------------------------------------------------------------------------------------------------

def _det(A: Expr) -> Expr:
    return emit1(DET, A)


def _slogdet(A: Expr) -> tuple[Expr, Expr]:
    return emit1(SLOGDET_SIGN, A), emit1(SLOGDET_LOG, A)


@function("det", namespace="linalg", method=False)
def linalg_det(A: Tensor) -> Tensor:
    """Determinants (...) of square matrices (..., n, n)."""
    return recorded(_det, (A,))  # type: ignore[no-any-return]


@function("det", out=False)
def det(input: Tensor) -> Tensor:
    """Determinants (...) of square matrices (..., n, n)."""
    return recorded(_det, (input,))  # type: ignore[no-any-return]


@function("slogdet", namespace="linalg", method=False)
def linalg_slogdet(A: Tensor) -> Any:
    """(sign, logabsdet): sign (or phase) and logarithm of the size of determinants."""
    return Result["linalg_slogdet"](*recorded_all(_slogdet, (A,)))


@function("slogdet")
def slogdet(input: Tensor) -> Any:
    """(sign, logabsdet): sign (or phase) and logarithm of the size of determinants."""
    return Result["slogdet"](*recorded_all(_slogdet, (input,)))


@function("logdet", out=False)
def logdet(input: Tensor) -> Tensor:
    """Logarithms of determinants: NaN for negative ones (complex logarithms of complex ones)."""
    square("linalg.slogdet", input)
    sign, size = recorded_all(_slogdet, (input,))
    if input.dtype.is_complex:
        return sign.log() + size  # type: ignore[no-any-return]
    return size.where(sign != -1, float("nan"))  # type: ignore[no-any-return]


# ---- powers and exponentials -------------------------------------------------------------------------------------------

def _matrix_exp(A: Expr) -> Expr:
    return emit1(MATRIX_EXP, A)


@function("matrix_exp", namespace="linalg", method=False, out=False)
def linalg_matrix_exp(A: Tensor) -> Tensor:
    """Exponentials ``1 + A + A^2/2 + ...`` of square matrices (..., n, n)."""
    e = square("linalg.matrix_exp", A)
    if e.dtype.category == 2 and e.dtype.itemsize == 2:
        return recorded(_matrix_exp, (A.float(),)).to(e.dtype)  # type: ignore[attr-defined, no-any-return]
    return recorded(_matrix_exp, (A,))  # type: ignore[no-any-return]


@function("matrix_exp", out=False)
def matrix_exp(input: Tensor) -> Tensor:
    """Exponentials ``1 + A + A^2/2 + ...`` of square matrices (..., n, n)."""
    return linalg_matrix_exp(input)  # type: ignore[no-any-return]


@function("matrix_power", namespace="linalg", method=False)
def linalg_matrix_power(A: Tensor, n: int) -> Tensor:
    """Square matrices multiplied by themselves n times; their inverses for negative n."""
    e = square("linalg.matrix_power", A)
    if n == 0:
        return connected(eye(e.shape[-1], dtype=e.dtype).expand(e.shape).clone(), A)
    base: Any = A if n > 0 else inv(A)
    out: Any = None
    k = abs(n)
    while k:
        if k & 1:
            out = base if out is None else matmul(out, base)
        k >>= 1
        base = matmul(base, base) if k else base
    return out.clone() if out is A else out  # type: ignore[no-any-return]


@function("matrix_power")
def matrix_power(input: Tensor, n: int) -> Tensor:
    """Square matrices multiplied by themselves n times; their inverses for negative n."""
    return linalg_matrix_power(input, n)  # type: ignore[no-any-return]


# ---- products ----------------------------------------------------------------------------------------------------------

@function("matmul", namespace="linalg", method=False)
def linalg_matmul(input: Tensor, other: Tensor) -> Tensor:
    """The same as :func:`torsh.matmul`."""
    return matmul(input, other)  # type: ignore[no-any-return]


@function("multi_dot", namespace="linalg", method=False)
def multi_dot(tensors: Any) -> Tensor:
    """Product of two or more matrices, in the order that takes the fewest multiplications; the ends may be vectors.

    >>> torsh.linalg.multi_dot([torsh.ones(2), torsh.ones(2, 3), torsh.ones(3)])
    tensor(6.)
    """
    tensors = list(tensors)
    _check_chain(tensors)
    first, last = tensors[0].ndim == 1, tensors[-1].ndim == 1
    tensors[0] = tensors[0].unsqueeze(0) if first else tensors[0]
    tensors[-1] = tensors[-1].unsqueeze(1) if last else tensors[-1]
    out = _product(tensors, _splits([t.shape[0] for t in tensors] + [tensors[-1].shape[1]]), 0, len(tensors) - 1)
    if last:
        out = out.squeeze(-1)
    return out.squeeze(0) if first else out  # type: ignore[no-any-return]


def _check_chain(tensors: list[Any]) -> None:
    n = len(tensors)
    if n < 2:
        raise ShapeMismatchError(f"multi_dot(): expected at least 2 tensors but got {n}")
    for i, t in enumerate(tensors):
        tensor_operand(t, "linalg_multi_dot", 1, "tensors")
        if i in (0, n - 1):
            if t.ndim not in (1, 2):
                raise ShapeMismatchError(f"multi_dot(): the {'first' if i == 0 else 'last'} tensor must be 1D or 2D but got "
                                         f"{t.ndim}D")
        elif t.ndim != 2:
            raise ShapeMismatchError(f"multi_dot(): tensor {i} must be 2D but got {t.ndim}D")
        if t.dtype is not tensors[0].dtype:
            raise DTypeError(f"multi_dot(): all tensors must have be the same dtype but tensor 0 is "
                             f"{C_NAMES[tensors[0].dtype.name]} and tensor {i} {C_NAMES[t.dtype.name]}")
    for i in range(n - 1):
        if tensors[i].shape[-1] != tensors[i + 1].shape[0]:
            raise ShapeMismatchError(f"multi_dot(): tensors {i} and {i + 1} with shapes {list(tensors[i].shape)} and "
                                     f"{list(tensors[i + 1].shape)} cannot be multiplied")


def _splits(sizes: list[int]) -> dict[tuple[int, int], int]:
    """Where to split each part of a chain of products: matrix i has sizes[i] rows and sizes[i + 1] columns."""
    n = len(sizes) - 1
    cost = {(i, i): 0 for i in range(n)}
    split: dict[tuple[int, int], int] = {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            cost[i, j], split[i, j] = min((cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                                          for k in range(i, j))
    return split


def _product(tensors: list[Any], split: dict[tuple[int, int], int], i: int, j: int) -> Any:
    if i == j:
        return tensors[i]
    k = split[i, j]
    return matmul(_product(tensors, split, i, k), _product(tensors, split, k + 1, j))


@function("chain_matmul", method=False)
def chain_matmul(*matrices: Tensor) -> Tensor:
    """Product of several matrices, see :func:`torsh.linalg.multi_dot`."""
    for m in matrices:
        if tensor_operand(m, "chain_matmul") is not None and m.ndim != 2:
            raise ShapeMismatchError(f"Tensor dimension is {m.ndim}, expected 2 instead.")
    if not matrices:
        raise ShapeMismatchError("chain_matmul(): Expected one or more matrices")
    return multi_dot(matrices) if len(matrices) > 1 else matrices[0].clone()  # type: ignore[no-any-return]


@function("vecdot", namespace="linalg", method=False)
def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """Sums of ``conj(x) * y`` along a dimension."""
    tensor_operand(x, "linalg_vecdot", 1, "x")
    tensor_operand(y, "linalg_vecdot", 2, "y")
    same_dtype("linalg.vecdot", x, y, "x", "y")
    return (x.conj() * y).sum(dim)  # type: ignore[attr-defined, no-any-return]


@function("vander", namespace="linalg", method=False, out=False)
def vander(x: Tensor, N: int | None = None) -> Tensor:
    """Powers 0 to N - 1 of the elements of x (..., n; or one number), in a new last dimension (n by default).

    >>> torsh.linalg.vander(torsh.tensor([1, 2, 3]))
    tensor([[1, 1, 1],
            [1, 2, 4],
            [1, 3, 9]])
    """
    e = tensor_operand(x, "linalg_vander", 1, "x")
    if e.dtype.name in ("float16", "bfloat16", "bool"):
        raise DTypeError("linalg.vander supports floating point, complex, and integer tensors, but got "
                         f"{scalar_type_name(e.dtype)}")
    count = N if N is not None else e.shape[-1] if e.shape else 1
    if count <= 1:
        raise ShapeMismatchError("N must be greater than 1.")
    if e.dtype.category < 2:
        x = x.to(int64)                     # type: ignore[attr-defined]
    x = x if e.shape else x.unsqueeze(0)    # type: ignore[attr-defined]
    column = x.unsqueeze(-1)                # type: ignore[attr-defined]
    powers = column.expand(*x.shape, count - 1).cumprod(-1)
    return cat((column.new_ones(column.shape), powers), -1)  # type: ignore[no-any-return]
