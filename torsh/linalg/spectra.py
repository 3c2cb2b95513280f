"""Eigenvalues and singular values."""
from __future__ import annotations

from typing import Any

from torsh.core.errors import ShapeMismatchError
from torsh.linalg.common import Result
from torsh.ops.expr import Expr, emit1
from torsh.ops.linear_algebra import (
    EIG_VALUES,
    EIG_VECTORS,
    EIGH_VALUES,
    EIGH_VECTORS,
    EIGVALS,
    EIGVALSH,
    SVD_S,
    SVD_U,
    SVD_VH,
    SVDVALS,
)
from torsh.tensor.creation import zeros
from torsh.tensor.function import function, recorded, recorded_all
from torsh.tensor.tensor import Tensor


def _eig(A: Expr) -> tuple[Expr, Expr]:
    return emit1(EIG_VALUES, A), emit1(EIG_VECTORS, A)


def _eigvals(A: Expr) -> Expr:
    # The gradient needs the vectors: then they are computed together.
    return emit1(EIG_VALUES if A.requires_grad else EIGVALS, A)


def _eigh(A: Expr, side: str) -> tuple[Expr, Expr]:
    return emit1(EIGH_VALUES, A, side), emit1(EIGH_VECTORS, A, side)


def _eigvalsh(A: Expr, side: str) -> Expr:
    return emit1(EIGH_VALUES if A.requires_grad else EIGVALSH, A, side)


def _svd(A: Expr, full: bool) -> tuple[Expr, Expr, Expr]:
    return emit1(SVD_U, A, full), emit1(SVD_S, A, full), emit1(SVD_VH, A, full)


def _svdvals(A: Expr) -> Expr:
    return emit1(SVD_S, A, False) if A.requires_grad else emit1(SVDVALS, A)


def _side(side: str) -> str:
    if side not in ("L", "U", "l", "u"):
        raise ShapeMismatchError(f"Expected UPLO argument to be 'L' or 'U', but got {side}")
    return side.upper()


@function("eig", namespace="linalg", method=False)
def eig(A: Tensor) -> Any:
    """(eigenvalues (..., n), eigenvectors (..., n, n)) of square matrices, always complex; vectors have norm 1."""
    return Result["linalg_eig"](*recorded_all(_eig, (A,)))


@function("eigvals", namespace="linalg", method=False)
def eigvals(A: Tensor) -> Tensor:
    """Eigenvalues (..., n) of square matrices, always complex."""
    return recorded(_eigvals, (A,))  # type: ignore[no-any-return]


@function("eigh", namespace="linalg", method=False)
def eigh(A: Tensor, UPLO: str = "L") -> Any:
    """(eigenvalues (..., n) in ascending order, eigenvectors (..., n, n)) of symmetric or Hermitian matrices.

    UPLO: the triangle that is read.
    """
    return Result["linalg_eigh"](*recorded_all(_eigh, (A,), (_side(UPLO),)))


@function("eigvalsh", namespace="linalg", method=False)
def eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """Eigenvalues (..., n), ascending, of symmetric or Hermitian matrices.

    >>> torsh.linalg.eigvalsh(torsh.tensor([[2.0, 1.0], [1.0, 2.0]]))
    tensor([1., 3.])
    """
    return recorded(_eigvalsh, (A,), (_side(UPLO),))  # type: ignore[no-any-return]


def _check_driver(driver: Any) -> None:
    if driver is not None:
        raise ShapeMismatchError("torch.linalg.svd: keyword argument `driver=` is only supported on CUDA inputs with cuSOLVER "
                                 "backend.")


@function("svd", namespace="linalg", method=False)
def linalg_svd(A: Tensor, full_matrices: bool = True, *, driver: str | None = None) -> Any:
    """(U, S, Vh) of ``A = U diag(S) Vh``, singular values descending.

    A (..., m, n), k = min(m, n): U (..., m, m), S (..., k), Vh (..., n, n); without ``full_matrices`` U (..., m, k), Vh (..., k, n).
    """
    _check_driver(driver)
    return Result["linalg_svd"](*recorded_all(_svd, (A,), (bool(full_matrices),)))


@function("svdvals", namespace="linalg", method=False)
def svdvals(A: Tensor, *, driver: str | None = None) -> Tensor:
    """Singular values (..., min(m, n)), descending."""
    _check_driver(driver)
    return recorded(_svdvals, (A,))  # type: ignore[no-any-return]


@function("svd")
def svd(input: Tensor, some: bool = True, compute_uv: bool = True) -> Any:
    """(U, S, V) with ``input = U diag(S) V^H``; without ``compute_uv``, U and V are zeros."""
    if not compute_uv:
        m, n = input.shape[-2:]
        lead = tuple(input.shape[:-2])
        values = svdvals(input)
        return Result["svd"](zeros(*lead, m, m, dtype=input.dtype), values, zeros(*lead, n, n, dtype=input.dtype))
    u, s, vh = recorded_all(_svd, (input,), (not some,))
    return Result["svd"](u, s, vh.mH)
