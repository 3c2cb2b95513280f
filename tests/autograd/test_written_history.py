"""Tensors whose window has run, and that are then written in place: gradients of what they were, and of what they are."""
from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import torsh

WRITES: dict[str, Callable[[Any, Any], Any]] = {
    "mul_": lambda y, x: y.mul_(2), "element": lambda y, x: y.__setitem__(0, 5.0 * x[1]), "add_": lambda y, x: y.add_(x),
    "view": lambda y, x: y[1:].mul_(3), "mask": lambda y, x: y.__setitem__(x > 2, 0.0)}


def value_of(library: Any, x: Any, first: str, second: str, read: bool, read_again: bool) -> Any:
    """A loss of several states of a tensor that is written twice; its value may be read in between."""
    y = x * x
    z = y * 4
    if read:
        z.sum().item(), y.sum().item()
    WRITES[first](y, x)
    w = y * 1
    if read_again:
        w.sum().item()
    WRITES[second](y, x)
    return (z * 2).sum() + (w * w).sum() + (y * x).sum()


@pytest.mark.parametrize("first, second", list(itertools.product(WRITES, WRITES)))
def test_reading_changes_nothing(first: str, second: str) -> None:
    """Gradients to second order are the same, whether values are read (and windows run) in between or not."""
    found = []
    for read, again in itertools.product((False, True), repeat=2):
        x = torsh.tensor([1.0, 2.0, 3.0], dtype=torsh.float64, requires_grad=True)
        g, = torsh.autograd.grad(value_of(torsh, x, first, second, read, again), x, create_graph=True)
        h, = torsh.autograd.grad((g * g).sum(), x)
        found.append((g.detach().numpy(), h.numpy()))
    for g, h in found[1:]:
        np.testing.assert_allclose(g, found[0][0])
        np.testing.assert_allclose(h, found[0][1])


@pytest.mark.parametrize("first, second", list(itertools.product(WRITES, WRITES)))
def test_parity_written_history(first: str, second: str) -> None:
    """PyTorch's gradients."""
    torch = pytest.importorskip("torch")
    found = []
    for library in (torch, torsh):
        x = library.tensor([1.0, 2.0, 3.0], dtype=library.float64, requires_grad=True)
        value_of(library, x, first, second, True, True).backward()
        found.append(x.grad.numpy())
    np.testing.assert_allclose(found[1], found[0])


def test_shared_values_are_planned_once() -> None:
    """A value that is used twice at each of 60 levels: planning its history visits each level once."""
    x = torsh.tensor([1.0, 2.0], dtype=torsh.float64, requires_grad=True)
    y = x
    for _ in range(60):
        y = y * (y * 0 + 1)
    y.sum().item()
    g, = torsh.autograd.grad(y.sum(), x)
    np.testing.assert_allclose(g.numpy(), [1.0, 1.0])


@pytest.mark.parametrize("read", [False, True])
def test_data_of_a_tensor_in_a_graph(read: bool) -> None:
    """``y.data = value`` changes the value of a tensor and keeps the graph behind it (PyTorch's gradients)."""
    x = torsh.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x * 2
    if read:
        y.sum().item()
    z = y * 3
    y.data = torsh.tensor([5.0, 5.0, 5.0])
    (z + y * y).sum().backward()
    assert x.grad.tolist() == [26.0, 26.0, 26.0]
