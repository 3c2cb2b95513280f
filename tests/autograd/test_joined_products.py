"""Gradients of a weight that many steps use: one product of what the steps gave."""
from __future__ import annotations

import numpy as np
import pytest

import torsh


def unrolled(weight: torsh.Tensor, x: torsh.Tensor, steps: int) -> torsh.Tensor:
    """A recurrence of ``steps`` steps."""
    h = torsh.zeros(x.shape[1], weight.shape[0], dtype=x.dtype)
    for t in range(steps):
        h = torsh.tanh(x[t] + torsh.nn.functional.linear(h, weight))
    return (h * h).sum()


@pytest.mark.parametrize("steps", [3, 4, 9])
def test_unrolled_recurrence(steps: int) -> None:
    """Equal to the gradient of finite differences along a random direction, and to the gradient computed step by step."""
    generator = torsh.Generator().manual_seed(0)
    weight = (torsh.randn(24, 24, generator=generator, dtype=torsh.float64) * 0.2).requires_grad_()
    x = torsh.randn(steps, 2, 24, generator=generator, dtype=torsh.float64)
    gradient, = torsh.autograd.grad(unrolled(weight, x, steps), weight)
    direction = torsh.randn(24, 24, generator=generator, dtype=torsh.float64)
    with torsh.no_grad():
        ahead, behind = [unrolled(weight + s * 1e-6 * direction, x, steps).item() for s in (1, -1)]
    np.testing.assert_allclose((gradient * direction).sum().item(), (ahead - behind) / 2e-6, rtol=1e-6)


def test_second_order() -> None:
    """The joined product is differentiable."""
    generator = torsh.Generator().manual_seed(0)
    weight = (torsh.randn(20, 20, generator=generator, dtype=torsh.float64) * 0.2).requires_grad_()
    x = torsh.randn(5, 1, 20, generator=generator, dtype=torsh.float64)

    def first(w: torsh.Tensor) -> torsh.Tensor:
        g, = torsh.autograd.grad(unrolled(w, x, 5), w, create_graph=True)
        return (g * g).sum()

    second, = torsh.autograd.grad(first(weight), weight)
    direction = torsh.randn(20, 20, generator=generator, dtype=torsh.float64)
    sides = [first((weight.detach() + s * 1e-6 * direction).requires_grad_()).item() for s in (1, -1)]
    np.testing.assert_allclose((second * direction).sum().item(), (sides[0] - sides[1]) / 2e-6, rtol=1e-5)


def test_products_that_are_used_elsewhere() -> None:
    """Pieces of several kinds, and the same piece twice."""
    w = torsh.randn(32, 32, dtype=torsh.float64, requires_grad=True)
    rows = [torsh.randn(1, 32, dtype=torsh.float64) for _ in range(5)]
    loss = sum((torsh.nn.functional.linear(r, w) * r).sum() for r in [*rows, rows[0]]) + (w * w).sum()
    loss.backward()
    expected = sum(r.numpy().T @ r.numpy() for r in [*rows, rows[0]]) + 2 * w.detach().numpy()
    np.testing.assert_allclose(w.grad.numpy(), expected, rtol=1e-12, atol=1e-12)
