"""torsh.linalg against PyTorch: values, named results, gradients."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

import torsh  # noqa: E402


def numbers(*shape: int, complex: bool = False, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if complex else 0)


def resolved(t: Any) -> Any:
    """Without a conjugation that has not been done yet."""
    return t.resolve_conj() if hasattr(t, "resolve_conj") else t


def both(fn: Callable[..., Any], *arrays: Any, gradient: bool = True, atol: float = 1e-8) -> None:
    """The same function with both packages: real results, their fields, and gradients of a weighted sum."""
    results, gradients, fields = [], [], ()
    for package in (torsh, torch):
        tensors = [package.from_numpy(a.copy()).requires_grad_(gradient) for a in arrays]
        found = fn(package, *tensors)
        fields = getattr(found, "_fields", fields)          # named as PyTorch's
        assert all(getattr(found, name) is value for name, value in zip(fields, found if fields else (), strict=True))
        found = tuple(found) if isinstance(found, tuple) else (found,)
        results.append([resolved(f.detach()).numpy() for f in found])
        if gradient:
            loss = 0
            for i, f in enumerate(found):
                if f.requires_grad:
                    f = f.abs() if f.is_complex() else f
                    weight = numbers(*f.shape, seed=i + 7)
                    loss = loss + (f * package.from_numpy(np.asarray(weight))).sum()
            loss.backward()
            gradients.append([resolved(t.grad).numpy() for t in tensors])
    for got, want in zip(*results, strict=True):
        assert got.dtype == want.dtype and got.shape == want.shape
        np.testing.assert_allclose(got, want, atol=atol, rtol=1e-6)
    if gradient:
        for got, want in zip(*gradients, strict=True):
            np.testing.assert_allclose(got, want, atol=atol, rtol=1e-6)


@pytest.mark.parametrize("complex", [False, True])
@pytest.mark.parametrize("shape", [(4, 4), (2, 5, 3), (2, 3, 5)])
def test_factors(shape: tuple[int, ...], complex: bool) -> None:
    a = numbers(*shape, complex=complex)
    both(lambda t, x: t.linalg.lu(x), a)
    both(lambda t, x: t.linalg.lu_factor(x), a)
    both(lambda t, x: t.linalg.lu_factor_ex(x), a)
    both(lambda t, x: t.linalg.qr(x), a)
    both(lambda t, x: t.linalg.svdvals(x), a)
    both(lambda t, x: t.linalg.pinv(x), a)
    both(lambda t, x: t.linalg.cond(x), a)
    for order in ("fro", "nuc", 1, -1, 2, -2, float("inf"), -float("inf")):
        both(lambda t, x, o=order: t.linalg.matrix_norm(x, o), a)
    both(lambda t, x: t.geqrf(x), a, gradient=False)


@pytest.mark.filterwarnings("ignore:torch.triangular_solve is deprecated")
@pytest.mark.parametrize("complex", [False, True])
def test_square(complex: bool) -> None:
    a, b = numbers(2, 4, 4, complex=complex), numbers(2, 4, 3, complex=complex, seed=1)
    for name in ("inv", "inv_ex", "det", "slogdet", "matrix_exp"):
        both(lambda t, x, n=name: getattr(t.linalg, n)(x), a)
    both(lambda t, x: t.linalg.eigvals(x).abs().sum(-1), a)
    both(lambda t, x: t.linalg.eigvalsh(x @ x.mH), a)
    both(lambda t, x: t.linalg.cholesky(x @ x.mH), a)
    both(lambda t, x: t.linalg.cholesky_ex(x @ x.mH, upper=True), a)
    both(lambda t, x: t.cholesky_inverse(t.linalg.cholesky(x @ x.mH)), a)
    both(lambda t, x, y: t.linalg.solve(x, y), a, b)
    both(lambda t, x, y: t.linalg.solve(x, y.mT, left=False), a, b)
    both(lambda t, x, y: t.triangular_solve(y, x, transpose=True), a, b)
    for adjoint in (False, True):
        both(lambda t, x, y, c=adjoint: t.linalg.lu_solve(*t.linalg.lu_factor(x), y, adjoint=c), a, b)
        both(lambda t, x, y, c=adjoint: t.linalg.lu_solve(*t.linalg.lu_factor(x), y.mT, left=False, adjoint=c), a, b)
    for n in (-2, 0, 3):
        both(lambda t, x, k=n: t.linalg.matrix_power(x, k), a)
    for order in ("fro", "nuc", 1, -1, 2, -2, float("inf")):
        both(lambda t, x, o=order: t.linalg.cond(x, o), a, gradient=order in (2, -2))


@pytest.mark.parametrize("driver", [None, "gels", "gelsy", "gelsd", "gelss"])
def test_least_squares(driver: str | None) -> None:
    for shape in ((5, 3), (3, 5), (2, 4, 4)):
        a, b = numbers(*shape), numbers(*shape[:-1], 2, seed=2)
        both(lambda t, x, y: t.linalg.lstsq(x, y, driver=driver).solution, a, b)
        both(lambda t, x, y: t.linalg.lstsq(x, y, driver=driver), a, b, gradient=False)


def test_products_and_norms() -> None:
    a, b, c = numbers(3, 4), numbers(4, 5, seed=1), numbers(5, seed=2)
    both(lambda t, *x: t.linalg.multi_dot(x), a, b, c)
    both(lambda t, x: t.linalg.vander(x), c)
    both(lambda t, x: t.linalg.vecdot(x, x), a)
    both(lambda t, x: t.linalg.norm(x), a)
    both(lambda t, x: t.linalg.norm(x, 1, dim=0), a)
    both(lambda t, x: t.linalg.norm(x, float("inf")), c)
    both(lambda t, x: t.norm(x, "nuc"), a)
    both(lambda t, x, y: t.linalg.householder_product(x, y), numbers(5, 3), numbers(3, seed=4))
    both(lambda t, x: t.linalg.tensorinv(x, ind=1), numbers(6, 2, 3))
    both(lambda t, x: t.logdet(x @ x.mT), numbers(4, 4))


MATRIX = np.array([[1.0, 2.0], [2.0, 4.0]])


@pytest.mark.parametrize("call", [
    lambda t, a: t.linalg.cholesky(-a), lambda t, a: t.linalg.cholesky(t.stack([a + 9 * t.eye(2), -a])),
    lambda t, a: t.cholesky(-a), lambda t, a: t.linalg.inv(t.zeros(2, 2)), lambda t, a: t.inverse(a),
    lambda t, a: t.linalg.solve(a, a), lambda t, a: t.linalg.lu_factor(a), lambda t, a: t.linalg.matrix_power(a, -1),
    lambda t, a: t.linalg.matrix_norm(a, "x"), lambda t, a: t.linalg.matrix_norm(a, dim=(0, 0)),
    lambda t, a: t.linalg.matrix_norm(a.long()), lambda t, a: t.linalg.norm(t.ones(2, 2, 2), ord=2),
    lambda t, a: t.linalg.cond(t.ones(2, 3), p=1), lambda t, a: t.linalg.cond(a, p=3), lambda t, a: t.linalg.matrix_rank(t.ones(3)),
    lambda t, a: t.linalg.multi_dot([a, a.float()]), lambda t, a: t.linalg.tensorinv(t.ones(2, 3)),
    lambda t, a: t.linalg.tensorsolve(t.ones(2, 3), t.ones(2)), lambda t, a: t.linalg.vander(t.ones(3), N=1),
    lambda t, a: t.linalg.vecdot(a, a.float()), lambda t, a: t.linalg.qr(a, mode="x"), lambda t, a: t.linalg.eigh(a, UPLO="x"),
    lambda t, a: t.linalg.svd(a, driver="gesvd"), lambda t, a: t.linalg.householder_product(t.ones(2, 3), t.ones(1)),
    lambda t, a: t.linalg.solve_triangular(a, a[0], upper=True), lambda t, a: t.cholesky_solve(t.ones(3, 1), a),
    lambda t, a: t.linalg.lu(a, pivot=False), lambda t, a: t.linalg.pinv(t.ones(3)), lambda t, a: t.linalg.vector_norm(a.long()),
    lambda t, a: t.linalg.lstsq(a, a.float()), lambda t, a: t.linalg.solve(a, a[0, :1])])
def test_messages(call: Callable[..., Any]) -> None:
    messages = []
    for package in (torsh, torch):
        with pytest.raises(RuntimeError) as caught:
            call(package, package.from_numpy(MATRIX.copy()))
        messages.append(str(caught.value).split("\n")[0])
    assert messages[0] == messages[1]
