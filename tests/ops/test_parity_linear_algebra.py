"""Factorisations and functions of matrices against PyTorch."""
from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from expression_harness import check_gradient, gradient_of, op  # noqa: E402
from torch_gradients import compare, normal  # noqa: E402

from torsh.ops import linear_algebra as la  # noqa: E402
from torsh.ops.common import add, apply, conj, mul, transpose  # noqa: E402

L = torch.linalg
SQUARE = normal(2, 4, 4) + 2 * np.eye(4)
COMPLEX = normal(3, 3) + 1j * normal(3, 3, seed=1) + 2 * np.eye(3)


def symmetric(e: Any) -> Any:
    """A positive definite matrix from any."""
    return add(mul(apply("matmul", e, transpose(conj(e), -1, -2)), 1.0), apply("cast", apply("eq", *rows(e)), attr=e.dtype.name))


def rows(e: Any) -> Any:
    """Row and column numbers."""
    n = e.shape[-1]
    return apply("iota", attr=((n, n), 0)), apply("iota", attr=((n, n), 1))


def positive(t: Any) -> Any:
    """The same with PyTorch."""
    return t @ t.mH + torch.eye(t.shape[-1], dtype=t.dtype)


@pytest.mark.parametrize("a", [SQUARE, COMPLEX], ids=["real", "complex"])
def test_square(a: Any) -> None:
    """Inverses, determinants, solutions, Cholesky factors, exponentials: values and gradients."""
    compare(lambda e: apply("inverse", e), L.inv, a)
    compare(lambda e: apply("det", e), L.det, a)
    compare(lambda e: apply("slogdet_sign", e), lambda t: L.slogdet(t).sign, a, gradient=False)
    compare(lambda e: apply("slogdet_log", e), lambda t: L.slogdet(t).logabsdet, a)
    compare(lambda e: apply("matrix_exp", e), torch.matrix_exp, a, least=1e-7)
    compare(lambda e: apply("matrix_exp", mul(e, 8.0)), lambda t: torch.matrix_exp(t * 8), a, least=1e-7, gradient=False)
    n = a.shape[-1]
    b = (normal(n, 2) + 1j * normal(n, 2, seed=3)) if a.dtype.kind == "c" else normal(n, 2)
    compare(la.solve_expr, L.solve, a, b)
    compare(la.solve_expr, L.solve, a, b[:, 0])
    for upper in (False, True):
        compare(lambda e, f, u=upper: la.triangular_solve(e, f, u),
                lambda t, s, u=upper: L.solve_triangular(t, s, upper=u), a, b)
        compare(lambda e, f, u=upper: la.triangular_solve(e, f, u, True),
                lambda t, s, u=upper: L.solve_triangular(t, s, upper=u, unitriangular=True), a, b)
        compare(lambda e, u=upper: apply("cholesky", symmetric(e), attr=(u, None)),
                lambda t, u=upper: L.cholesky(positive(t), upper=u), a)
    compare(lambda e, f: la.cholesky_solve_expr(f, apply("cholesky", symmetric(e), attr=(False, None))),
            lambda t, s: torch.cholesky_solve(s.expand(*t.shape[:-2], *s.shape), L.cholesky(positive(t))), a, b)


def test_eigenvalues() -> None:
    """Values, and vectors up to sign."""
    for a in (SQUARE, COMPLEX):
        compare(lambda e: apply("eigh_values", symmetric(e), attr="L"), lambda t: L.eigvalsh(positive(t)), a, least=1e-7)
    compare(lambda e: apply("abs", apply("eigh_vectors", symmetric(e), attr="L")),
            lambda t: L.eigh(positive(t)).eigenvectors.abs(), SQUARE, least=1e-6)
    single = SQUARE[0]
    compare(lambda e: apply("abs", apply("eig_values", e)), lambda t: L.eigvals(t).abs(), single, least=1e-7)
    compare(lambda e: apply("abs", apply("eig_vectors", e)), lambda t: L.eig(t).eigenvectors.abs(), single, least=1e-6)


@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (3, 3), (2, 5, 2)])
def test_rectangular(shape: tuple[int, ...]) -> None:
    """Singular values and vectors, pseudo-inverses, QR, least squares."""
    a = normal(*shape)
    compare(lambda e: apply("svd_s", e, attr=False), L.svdvals, a)
    compare(lambda e: apply("abs", apply("svd_u", e, attr=False)), lambda t: L.svd(t, False).U.abs(), a, least=1e-7)
    compare(lambda e: apply("abs", apply("svd_vh", e, attr=False)), lambda t: L.svd(t, False).Vh.abs(), a, least=1e-7)
    compare(lambda e: apply("abs", apply("svd_u", e, attr=True)), lambda t: L.svd(t).U.abs(), a, gradient=False)
    compare(lambda e: apply("pinv", e, attr=(None, None)), L.pinv, a, least=1e-8)
    thin = shape[-2] >= shape[-1]
    compare(lambda e: apply("qr_q", e, attr="reduced"), lambda t: L.qr(t).Q, a, gradient=thin)
    compare(lambda e: apply("qr_r", e, attr="reduced"), lambda t: L.qr(t).R, a, gradient=thin)
    if thin:
        compare(lambda e, f: la.lstsq_expr(e, f), lambda t, s: L.lstsq(t, s).solution, a, normal(*shape[:-1], 2), least=1e-8)


def test_lu() -> None:
    """Compact factors and pivots."""
    for shape in ((4, 4), (2, 3, 5), (5, 3)):
        a = normal(*shape)
        compare(lambda e: apply("lu_compact", e), lambda t: L.lu_factor(t).LU, a, gradient=False)
        compare(lambda e: apply("lu_pivots", e), lambda t: L.lu_factor(t).pivots, a)


def test_second_order() -> None:
    """Gradients of gradients."""
    for name, attr in (("inverse", None), ("det", None), ("slogdet_log", None), ("cholesky", (False, None))):
        def function(e: Any, name: str = name, attr: Any = attr) -> Any:
            return apply(name, symmetric(e), attr=attr)
        check_gradient(function, normal(2, 2) + np.eye(2), order=2, tolerance=1e-4)


def test_singular() -> None:
    """Errors are RuntimeErrors; the determinant of a singular matrix still has a gradient."""
    singular = np.array([[1.0, 2.0], [2.0, 4.0]])
    for name in ("inverse", "cholesky"):
        attr = (False, "linalg.cholesky") if name == "cholesky" else "linalg.inv"
        with pytest.raises(RuntimeError, match="linalg"):
            op(name, singular - 5 * np.eye(2) * (name == "cholesky"), attr=attr)
    found = gradient_of(lambda e: apply("det", e), singular)[0]
    np.testing.assert_allclose(found, [[4.0, -2.0], [-2.0, 1.0]], atol=1e-12)
    with pytest.raises(RuntimeError, match="square matrices"):
        op("inverse", normal(2, 3))
