"""Autograd: accumulation, errors, hooks, custom functions, higher order, history across windows."""
from __future__ import annotations

import gc

import pytest

import torsh
from torsh.autograd import Function, GradcheckError, gradcheck, gradgradcheck


def leaf(*values):
    return torsh.tensor(values, dtype=torsh.float64, requires_grad=True)


def test_accumulates_into_grad():
    x = leaf(1.0, 2.0)
    (x * x).sum().backward()
    (3 * x).sum().backward()
    assert x.grad.tolist() == [5.0, 7.0]


def test_second_backward_raises_like_pytorch():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()
    z = (x * x).sum()
    z.backward(retain_graph=True)
    z.backward()


@pytest.mark.parametrize("force", [False, True])
def test_history_survives_the_window(force):
    x = leaf(1.0, 2.0)
    y = x.exp()
    z = (y * y).sum()
    if force:
        torsh.synchronize()
    (g,) = torsh.autograd.grad(z, y, retain_graph=True)
    assert torsh.allclose(g, 2 * y.detach())
    z.backward()
    assert torsh.allclose(x.grad, 2 * (2 * x.detach()).exp())
    with pytest.raises(RuntimeError, match="second time"):
        z.backward()


def test_unused_inputs():
    x, y = leaf(1.0), leaf(2.0)
    with pytest.raises(RuntimeError, match="not have been used"):
        torsh.autograd.grad(x.sum(), [x, y])
    assert torsh.autograd.grad(x.sum(), [x, y], allow_unused=True)[1] is None


def test_hooks_and_retained_gradients():
    x = leaf(1.0, 2.0)
    y = x * 2
    y.retain_grad()
    handle = x.register_hook(lambda g: g * 10)
    y.register_hook(lambda g: g + 1)
    (y * 3).sum().backward()
    assert y.grad.tolist() == [4.0, 4.0]
    assert x.grad.tolist() == [80.0, 80.0]
    handle.remove()
    x.grad = None
    (x * 3).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


class Cube(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x * x * g


@pytest.mark.parametrize("force", [False, True])
def test_custom_function(force):
    x = leaf(1.0, 2.0)
    y = Cube.apply(x * 2) + x
    if force:
        torsh.synchronize()
    y.sum().backward()
    assert x.grad.tolist() == [25.0, 97.0]


def test_custom_function_twice():
    x = leaf(2.0)
    (g,) = torsh.autograd.grad(Cube.apply(x).sum(), x, create_graph=True)
    (h,) = torsh.autograd.grad(g.sum(), x)
    assert h.tolist() == [12.0]


def test_modes():
    x = leaf(1.0)
    with torsh.no_grad():
        assert not (x * 2).requires_grad
        with torsh.enable_grad():
            assert (x * 2).requires_grad
    with torsh.inference_mode():
        assert torsh.is_inference_mode_enabled() and not (x * 2).requires_grad
    assert not torsh.no_grad(lambda: x * 2)().requires_grad
    assert (x * 2).requires_grad


def test_in_place_on_leaves_and_through_views():
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="leaf Variable"):
        x.add_(1)
    y = x * 1
    y[0] *= 5
    y.sum().backward()
    assert x.grad.tolist() == [5.0, 1.0]
    with torsh.no_grad():
        x.mul_(2)
    assert x.tolist() == [2.0, 4.0] and x.requires_grad


def test_gradcheck_to_second_order():
    x = leaf(0.3, -0.7, 1.9)
    w = torsh.tensor([[0.1, 0.2, 0.3], [0.4, -0.5, 0.6]], dtype=torsh.float64, requires_grad=True)
    for f in (lambda x, w: (w @ x).tanh(), lambda x, w: torsh.softmax(w * x, 1), lambda x, w: (w * x).sigmoid().cumsum(0)):
        assert gradcheck(f, (x, w))
        assert gradgradcheck(f, (x, w))


def test_gradcheck_finds_wrong_gradients():
    class Wrong(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 3
    with pytest.raises(GradcheckError):
        gradcheck(Wrong.apply, (leaf(1.0),))


def test_no_objects_leak_in_a_training_loop():
    model = torsh.nn.Sequential(torsh.nn.Linear(8, 16), torsh.nn.ReLU(), torsh.nn.Linear(16, 4))
    optimizer = torsh.optim.Adam(model.parameters())
    x, y = torsh.randn(5, 8), torsh.tensor([0, 1, 2, 3, 0])

    def step():
        optimizer.zero_grad()
        loss = torsh.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()

    for _ in range(5):
        step()
    gc.collect()
    gc.disable()
    try:
        before, programs = len(gc.get_objects()), torsh._statistics["programs"]
        for _ in range(100):
            step()
        after = len(gc.get_objects())
        assert torsh._statistics["programs"] == programs
    finally:
        gc.enable()
    assert after - before < 20


def test_the_neighbour_of_a_number_moves_with_it():
    a = torsh.tensor([1.0, 2.0, 3.0], requires_grad=True)
    b = torsh.tensor([2.0, 0.0, 3.0], requires_grad=True)
    torsh.nextafter(a, b).sum().backward()
    assert a.grad.tolist() == [1.0, 1.0, 0.0] and b.grad.tolist() == [0.0, 0.0, 0.0]
