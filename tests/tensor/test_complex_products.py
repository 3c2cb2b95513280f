"""Products of complex matrices large enough to be computed from products of their parts."""
from __future__ import annotations

import numpy as np
import pytest

import torsh


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("shape", [((200, 170), (170, 190)), ((3, 130, 120), (3, 120, 140)), ((2, 1, 130, 120), (2, 120, 140))])
def test_large_products(shape: tuple[tuple[int, ...], tuple[int, ...]], dtype: str) -> None:
    """Equal to NumPy's, also of conjugated and turned matrices."""
    generator = np.random.default_rng(0)
    a, b = [(generator.standard_normal(s) + 1j * generator.standard_normal(s)).astype(dtype) for s in shape]
    tolerance = 1e-3 if dtype == "complex64" else 1e-10
    x, y = torsh.tensor(a), torsh.tensor(b)
    np.testing.assert_allclose((x @ y).numpy(), a @ b, atol=tolerance)
    np.testing.assert_allclose((y.mH @ x.mH).numpy(), b.conj().swapaxes(-1, -2) @ a.conj().swapaxes(-1, -2), atol=tolerance)


def test_large_product_gradients() -> None:
    """Conjugated, as PyTorch defines them."""
    generator = np.random.default_rng(0)
    a, b, g = [generator.standard_normal((170, 170)) + 1j * generator.standard_normal((170, 170)) for _ in range(3)]
    x, y = torsh.tensor(a, requires_grad=True), torsh.tensor(b, requires_grad=True)
    (x @ y).backward(torsh.tensor(g))
    np.testing.assert_allclose(x.grad.numpy(), g @ b.conj().T, atol=1e-10)
    np.testing.assert_allclose(y.grad.numpy(), a.conj().T @ g, atol=1e-10)
