"""torsh.linalg against NumPy; errors, and what they leave behind."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import torsh

L = torsh.linalg
DTYPES = ["float32", "float64", "complex64", "complex128"]


def matrices(*shape: int, dtype: str = "float64", seed: int = 0) -> Any:
    """Normally distributed numbers."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(shape)
    if dtype.startswith("complex"):
        a = a + 1j * rng.standard_normal(shape)
    return a.astype(dtype)


def positive(n: int, dtype: str, lead: tuple[int, ...] = ()) -> Any:
    """Positive definite matrices."""
    a = matrices(*lead, n, n, dtype=dtype)
    return (a @ np.conj(np.swapaxes(a, -1, -2)) + np.eye(n)).astype(dtype)


def tolerance(dtype: str) -> float:
    return 2e-3 if dtype in ("float32", "complex64") else 1e-9


def close(got: Any, want: Any, dtype: str = "float64") -> None:
    got = got.numpy()
    assert got.shape == np.shape(want)
    np.testing.assert_allclose(got, want, rtol=tolerance(dtype), atol=tolerance(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lead", [(), (3,), (2, 0)])
@pytest.mark.parametrize("n", [0, 1, 5, 70])
def test_square(n: int, lead: tuple[int, ...], dtype: str) -> None:
    a, b = positive(n, dtype, lead), matrices(*lead, n, 2, dtype=dtype, seed=1)
    x, y = torsh.from_numpy(a), torsh.from_numpy(b)
    for upper in (False, True):
        factor = L.cholesky(x, upper=upper)
        assert str(factor.dtype) == f"torsh.{dtype}"
        close(factor.mH @ factor if upper else factor @ factor.mH, a, dtype)
        close(torsh.cholesky_solve(y, factor, upper), np.linalg.solve(a, b), dtype)
    close(L.inv(x), np.linalg.inv(a), dtype)
    close(L.solve(x, y), np.linalg.solve(a, b), dtype)
    close(L.solve(x, y.mT, left=False), np.swapaxes(np.linalg.solve(np.swapaxes(a, -1, -2), b), -1, -2), dtype)
    close(L.slogdet(x).logabsdet, np.linalg.slogdet(a)[1], dtype)
    close(L.eigvalsh(x), np.linalg.eigvalsh(a), dtype)
    values, vectors = L.eigh(x)
    close((vectors * values.unsqueeze(-2)) @ vectors.mH, a, dtype)
    for result in (L.inv_ex(x).info, L.cholesky_ex(x).info, L.solve_ex(x, y).info):
        close(result, np.zeros(lead, np.int32))
        assert str(result.dtype) == "torsh.int32"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (2, 6, 3), (0, 3), (3, 0), (2, 0, 0), (70, 40), (40, 70)])
def test_rectangular(shape: tuple[int, ...], dtype: str) -> None:
    a = matrices(*shape, dtype=dtype)
    x = torsh.from_numpy(a)
    p, low, up = L.lu(x)
    close(p @ low @ up, a, dtype)
    p, low, up = torsh.lu_unpack(*L.lu_factor(x))
    close(p @ low @ up, a, dtype)
    q, r = L.qr(x)
    close(q @ r, a, dtype)
    u, s, vh = L.svd(x, full_matrices=False)
    close((u * s.unsqueeze(-2)) @ vh, a, dtype)
    close(L.svdvals(x), np.linalg.svd(a, compute_uv=False), dtype)
    close(L.pinv(x), np.linalg.pinv(a), dtype)
    if a.size:
        assert (L.matrix_rank(x).numpy() == np.linalg.matrix_rank(a)).all()
        close(L.cond(x), np.linalg.cond(a), dtype)
        for order in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
            close(L.matrix_norm(x, order), np.linalg.norm(a, order, (-2, -1)), dtype)
            close(L.matrix_norm(x, order, keepdim=True), np.linalg.norm(a, order, (-2, -1), keepdims=True), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("n", [0, 1, 6, 33, 100])
def test_triangular(n: int, unit: bool, upper: bool, dtype: str) -> None:
    a = (matrices(2, n, n, dtype=dtype) / max(n, 1) + 2 * np.eye(n)).astype(dtype)
    b = matrices(n, 3, dtype=dtype, seed=2)
    triangle = np.triu(a) if upper else np.tril(a)
    if unit:
        triangle[..., np.arange(n), np.arange(n)] = 1
    got = L.solve_triangular(torsh.from_numpy(a), torsh.from_numpy(b), upper=upper, unitriangular=unit)
    close(torsh.from_numpy(triangle) @ got, np.broadcast_to(b, (2, n, 3)), dtype)
    got = L.solve_triangular(torsh.from_numpy(a), torsh.from_numpy(b.T.copy()), upper=upper, left=False, unitriangular=unit)
    close(got @ torsh.from_numpy(triangle), np.broadcast_to(b.T, (2, 3, n)), dtype)


def test_singular_triangle_gives_infinities() -> None:
    got = L.solve_triangular(torsh.zeros(2, 2), torsh.ones(2, 1), upper=True)
    assert not torsh.isfinite(got).any()


@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize("left", [False, True])
def test_lu_solve(left: bool, adjoint: bool) -> None:
    a, b = matrices(2, 5, 5, dtype="complex128"), matrices(2, 5, 5, dtype="complex128", seed=3)
    factors = L.lu_factor(torsh.from_numpy(a))
    got = L.lu_solve(*factors, torsh.from_numpy(b), left=left, adjoint=adjoint)
    matrix = np.conj(np.swapaxes(a, -1, -2)) if adjoint else a
    x = got.numpy()
    np.testing.assert_allclose(matrix @ x if left else x @ matrix, b, atol=1e-9)


def test_failures_are_raised_at_the_call() -> None:
    bad = torsh.stack([torsh.eye(2), -torsh.eye(2)])
    pending = bad * 3
    with pytest.raises(L.LinAlgError, match=r"linalg.cholesky: \(Batch element 1\): The factorization could not be completed .* "
                                            "leading minor of order 1 is not positive-definite"):
        L.cholesky(bad)
    close(pending, bad.numpy() * 3)                     # what does not depend on the failure lives on
    close(L.cholesky(bad + 3 * torsh.eye(2)), np.linalg.cholesky(bad.numpy() + 3 * np.eye(2)), "float32")
    singular = torsh.tensor([[1.0, 2.0], [2.0, 4.0]])
    for fn, message in ((L.inv, "The diagonal element 2 is zero, the inversion could not be completed"),
                        (lambda a: L.solve(a, a), "torch.linalg.solve: The solver failed because the input matrix is singular"),
                        (L.lu_factor, r"U\[2,2\] is zero and using it on lu_solve"),
                        (lambda a: L.cholesky_ex(a - 5, check_errors=True), "linalg.cholesky_ex"),
                        (lambda a: L.inv_ex(a, check_errors=True), "linalg.inv_ex: The diagonal element 2")):
        with pytest.raises(RuntimeError, match=message):
            fn(singular)
    assert L.inv_ex(singular).info.item() == 2
    assert L.lu_factor_ex(singular).info.item() == 2
    assert L.cholesky_ex(torsh.tensor([[4.0, 2.0], [2.0, -1.0]])).info.item() == 2


def test_failure_leaves_changes_in_place_done_once() -> None:
    weight = torsh.ones(3)
    weight.add_(1)
    with pytest.raises(L.LinAlgError):
        L.inv(torsh.zeros(2, 2))
    close(weight, [2.0, 2.0, 2.0])


def test_products() -> None:
    a, b, c = matrices(3, 40), matrices(40, 2, seed=1), matrices(2, 9, seed=2)
    tensors = [torsh.from_numpy(v) for v in (a, b, c)]
    close(L.multi_dot(tensors), np.linalg.multi_dot([a, b, c]))
    close(torsh.chain_matmul(*tensors), np.linalg.multi_dot([a, b, c]))
    close(L.multi_dot([tensors[0][0], *tensors[1:]]), a[0] @ b @ c)
    square = matrices(2, 4, 4)
    for n in (-2, 0, 1, 5):
        close(L.matrix_power(torsh.from_numpy(square), n), np.linalg.matrix_power(square, n))
    t = matrices(4, 6, 8, 3)
    close(L.tensorinv(torsh.from_numpy(t)), np.linalg.tensorinv(t))
    t, v = matrices(2, 3, 6), matrices(2, 3, seed=5)
    close(L.tensorsolve(torsh.from_numpy(t), torsh.from_numpy(v)), np.linalg.tensorsolve(t, v))
    close(L.vecdot(torsh.from_numpy(a), torsh.from_numpy(a)), (a * a).sum(-1))
    nothing = torsh.ones(3, 0, dtype=torsh.complex64)
    close(L.vecdot(nothing, nothing), np.zeros(3), "complex64")
    close(L.vander(torsh.from_numpy(a[0, :4])), np.vander(a[0, :4], increasing=True))


@pytest.mark.parametrize("shape", [(3, 3), (5, 3), (2, 6, 4)])
def test_householder(shape: tuple[int, ...]) -> None:
    a = matrices(*shape, dtype="complex128")
    x = torsh.from_numpy(a)
    q, r = L.qr(x)
    compact, tau = torsh.geqrf(x)
    close(L.householder_product(compact, tau), q.numpy())
    other = matrices(shape[-2], 2, dtype="complex128", seed=1)
    full = L.qr(x, mode="complete").Q
    close(torsh.ormqr(compact, tau, torsh.from_numpy(other).expand(*shape[:-2], *other.shape)), full.numpy() @ other)


def test_arguments() -> None:
    eye = torsh.eye(2)
    for fn in (L.inv, L.det, L.cholesky, L.eigh, L.eigvals, L.svdvals, L.slogdet):
        with pytest.raises(RuntimeError, match="Low precision dtypes not supported. Got Half"):
            fn(eye.half())
        with pytest.raises(RuntimeError, match="Expected a floating point or complex tensor as input. Got Long"):
            fn(eye.long())
        with pytest.raises(RuntimeError, match="must have at least 2 dimensions"):
            fn(torsh.ones(3))
    for fn in (L.inv, L.det, L.cholesky, L.eigh, torsh.logdet, torsh.matrix_exp, torsh.inverse):
        with pytest.raises(RuntimeError, match="must be batches of square matrices, but they are 2 by 3 matrices"):
            fn(torsh.ones(2, 3))
    with pytest.raises(RuntimeError, match="Order 3 not supported"):
        L.matrix_norm(eye, 3)
    with pytest.raises(RuntimeError, match="one of .gels, gelsy, gelsd, gelss"):
        L.lstsq(eye, eye, driver="other")
    with pytest.raises(RuntimeError, match="expected at least 2 tensors but got 1"):
        L.multi_dot([eye])


def test_out() -> None:
    a = torsh.tensor([[2.0, 0.0], [0.0, 4.0]])
    out = torsh.empty(0)
    assert L.inv(a, out=out) is out
    close(out, [[0.5, 0.0], [0.0, 0.25]])
    values, vectors = torsh.empty(0), torsh.empty(0)
    result = L.eigh(a, out=(values, vectors))
    assert result.eigenvalues is values
    close(values, [2.0, 4.0])


def test_solution_in_a_compiled_step() -> None:
    @torsh.compile
    def step(a: Any, b: Any) -> Any:
        return L.solve(a @ a.mT + torsh.eye(4), b).sum()

    for seed in range(3):
        a, b = matrices(4, 4, seed=seed), matrices(4, 2, seed=seed + 9)
        want = np.linalg.solve(a @ a.T + np.eye(4), b).sum()
        got = step(torsh.from_numpy(a), torsh.from_numpy(b))
        np.testing.assert_allclose(got.item(), want, rtol=1e-9)
