"""Leaves that are views (``detach().requires_grad_()``), and Variable."""
from __future__ import annotations

import numpy as np
import pytest

import torsh
from torsh.autograd import Variable


@pytest.mark.parametrize("read", [False, True])
def test_second_gradients_behind_a_leaf_that_is_a_view(read: bool) -> None:
    """Values that were read before ``create_graph`` change nothing."""
    base = torsh.arange(6.0).reshape(2, 3)
    weight = torsh.ones(3, requires_grad=True)
    x = (base * 2)[1].detach().requires_grad_()
    y = (x * x * weight).sum()
    if read:
        y.item()
    gradient, = torsh.autograd.grad(y, x, create_graph=True)
    (gradient ** 2).sum().backward()
    np.testing.assert_allclose(weight.grad.numpy(), [288.0, 512.0, 800.0])
    np.testing.assert_allclose(x.grad.numpy(), [48.0, 64.0, 80.0])


def test_a_leaf_whose_memory_was_written_is_an_error() -> None:
    """The forward could not be recorded anew."""
    root = torsh.arange(3.0) * 2
    x = root.detach().requires_grad_()
    y = (x * x).sum()
    y.item()
    root.mul_(3)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torsh.autograd.grad(y, x, create_graph=True)


def test_variable_makes_a_leaf() -> None:
    """PyTorch's rules: the same memory, no history, requires_grad as asked."""
    a = torsh.ones(3, requires_grad=True)
    b = a * 2
    v, w = Variable(b, requires_grad=True), Variable(b)
    assert v.is_leaf and v.requires_grad and w.is_leaf and not w.requires_grad and v.data_ptr() == b.data_ptr()
    assert isinstance(a, Variable) and not isinstance(3, Variable) and Variable().shape == (0,)
    (v * 3).sum().backward()
    assert v.grad.tolist() == [3.0] * 3 and a.grad is None


def test_variable_errors() -> None:
    """What is no tensor, or cannot have gradients."""
    with pytest.raises(TypeError, match="Variable data has to be a tensor, but got int"):
        Variable(3)
    with pytest.raises(RuntimeError, match="floating point"):
        Variable(torsh.tensor([1]), requires_grad=True)
    with pytest.warns(UserWarning, match="volatile was removed"):
        Variable(torsh.ones(1), volatile=True)


@pytest.mark.parametrize("written", [False, True])
def test_a_view_that_is_used_under_no_grad_first_keeps_its_gradient(written: bool) -> None:
    """After its window has run (or its root was written), a view is derived anew: the mode at that time does not matter."""
    weight = torsh.tensor([1.0, 2.0, 3.0], requires_grad=True)
    view = weight[1:]
    kept = torsh.zeros(2)
    torsh.synchronize()
    with torsh.no_grad():
        if written:
            weight.mul_(2)
        kept.copy_(view * 1)
    assert view.requires_grad
    (kept * view).sum().backward()
    assert weight.grad.tolist() == ([0.0, 4.0, 6.0] if written else [0.0, 2.0, 3.0])
