"""Hooks and custom functions that read values (and so run the window) in the middle of a backward call."""
from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import torsh


def functions_of(library: Any, read: Callable[[Any], Any]) -> tuple[Any, Any]:
    """A function of one tensor and one of two tensors with two results, whose backwards read their gradients."""
    class Square(library.autograd.Function):  # type: ignore[misc, name-defined]
        @staticmethod
        def forward(ctx: Any, a: Any) -> Any:
            ctx.save_for_backward(a)
            return a * a

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            read(g)
            return 2 * g * ctx.saved_tensors[0]

    class Pair(library.autograd.Function):  # type: ignore[misc, name-defined]
        @staticmethod
        def forward(ctx: Any, a: Any, b: Any) -> Any:
            total = (a + b).tanh()
            ctx.save_for_backward(a, b, total)
            return a * b, total

        @staticmethod
        def backward(ctx: Any, g: Any, h: Any) -> Any:
            a, b, total = ctx.saved_tensors
            read(h)
            inner = h * (1 - total * total)
            read(inner)
            return g * b + inner, g * a + inner

    return Square, Pair


def random_program(library: Any, seed: int, reads: bool) -> tuple[Any, list[Any], list[Any]]:
    """A loss, the leaves, and the intermediate tensors that retain gradients."""
    rng = random.Random(seed)

    def read(t: Any) -> None:
        if reads and rng.random() < 0.5:
            t.detach().sum().item()

    square, pair = functions_of(library, read)
    leaves = [library.tensor([0.3 + i, -0.4, 0.5 * i], dtype=library.float64, requires_grad=True) for i in range(3)]
    values, retained = list(leaves), []
    choices = random.Random(seed + 1)       # reading draws from the other one
    for step in range(10):
        a, b = choices.choice(values), choices.choice(values)
        kind = choices.choice(["add", "mul", "tanh", "square", "pair", "write", "element", "hook", "scale", "leaf hook", "read"])
        made: Any = None
        if kind == "add":
            made = a * (0.1 + step) + b
        elif kind == "mul":
            made = (a * b).sin() * (0.1 + step)
        elif kind == "tanh":
            made = (a * (1.1 + step)).tanh()
        elif kind == "square":
            made = square.apply(a)
        elif kind == "pair":
            made, other = pair.apply(a, b)
            values.append(other)
        elif kind in ("write", "element"):
            made = a * (0.2 + step)
            _ = made + b
            if kind == "write":
                made.add_(b)
            else:
                made[0] = b[1] * 2
        elif kind in ("hook", "scale"):
            made = a * (0.7 + step)
            made.register_hook((lambda g: read(g)) if kind == "hook" else lambda g: (read(g), g * 0.5)[1])
            made.retain_grad()
            retained.append(made)
        elif kind == "leaf hook":
            choices.choice(leaves).register_hook(lambda g: (read(g), g * 2)[1])
        else:
            read(a)
        if made is not None:
            values.append(made)
    loss = sum((v * (1 + i)).sum() for i, v in enumerate(values))
    return loss, leaves, retained


def gradients(library: Any, seed: int, reads: bool) -> list[Any]:
    """First-order gradients by ``backward``, of leaves and retained ones, then second-order ones by ``grad``."""
    loss, leaves, retained = random_program(library, seed, reads)
    loss.backward()
    found = [t.grad.detach().numpy() for t in [*leaves, *retained]]
    loss, leaves, _ = random_program(library, seed, reads)
    first = library.autograd.grad(loss, leaves, create_graph=True)
    if reads:
        first[0].detach().sum().item()
    second = library.autograd.grad(sum((g * g).sum() for g in first), leaves, allow_unused=True)
    return [*found, *[g.detach().numpy() for g in first], *[np.zeros(3) if g is None else g.numpy() for g in second]]


def check(found: list[Any], expected: list[Any]) -> None:
    """The same arrays, but for rounding."""
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * np.abs(b).max())


@pytest.mark.parametrize("seed", range(40))
def test_reading_in_backward_changes_nothing(seed: int) -> None:
    """Gradients are the same whether hooks, functions and the program read values or not."""
    check(gradients(torsh, seed, True), gradients(torsh, seed, False))


@pytest.mark.parametrize("seed", range(40))
def test_parity_reading_in_backward(seed: int) -> None:
    """PyTorch's gradients."""
    torch = pytest.importorskip("torch")
    check(gradients(torsh, seed, True), gradients(torch, seed, True))


def test_outputs_that_are_read_share_one_backward() -> None:
    """A function's backward runs once, with the gradients of all its outputs; an output that it saved keeps its graph."""
    calls = []

    class Exponential(torsh.autograd.Function):
        @staticmethod
        def forward(ctx: Any, a: Any) -> Any:
            out = a.exp()
            ctx.save_for_backward(out)
            return out, out * 2

        @staticmethod
        def backward(ctx: Any, g: Any, h: Any) -> Any:
            calls.append(1)
            return (g + 2 * h) * ctx.saved_tensors[0]

    x = torsh.tensor([0.1, 0.2], dtype=torsh.float64, requires_grad=True)
    first, second = Exponential.apply(x)
    first.sum().item()
    loss = (first * second).sum()
    del first, second
    g, = torsh.autograd.grad(loss, x, create_graph=True)
    assert len(calls) == 1
    np.testing.assert_allclose(g.detach().numpy(), 4 * np.exp(2 * x.detach().numpy()))
    h, = torsh.autograd.grad(g.sum(), x)
    np.testing.assert_allclose(h.numpy(), 8 * np.exp(2 * x.detach().numpy()))


@pytest.mark.parametrize("read", [False, True])
def test_saved_tensors_that_are_written(read: bool) -> None:
    """Backward refuses saved inputs and outputs that have been written in place since, as PyTorch does."""
    square, pair = functions_of(torsh, lambda t: None)
    for written in ("input", "output"):
        x = torsh.tensor([0.1, 0.2], requires_grad=True)
        y = x * 1
        z = square.apply(y) if written == "input" else pair.apply(y, y)[1]
        if read:
            z.sum().item()
        (y if written == "input" else z).mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            z.sum().backward()


def hooked_gradients(library: Any) -> list[Any]:
    """What ``grad``, ``backward(inputs=...)`` and ``retain_grad`` give for tensors with hooks."""
    x = library.tensor([1.0, 2.0], requires_grad=True)
    x.register_hook(lambda g: g * 5)
    found = []
    for read in (False, True):
        y = x * 2
        y.register_hook(lambda g: g * 7)
        y.retain_grad()
        if read:
            y.detach().sum().item()
        found += library.autograd.grad((y * 3).sum(), (x, y))
        found.append(y.grad)
        x.grad = None
        z = x * 2
        z.register_hook(lambda g: g * 7)
        if read:
            z.detach().sum().item()
        (z * 3).sum().backward(inputs=[x, z])
        found += [x.grad, z.grad]
    return [t.tolist() for t in found]


def test_hooks_and_gradients_that_are_asked_for() -> None:
    """``grad`` gives an intermediate tensor's gradient before its hooks, a leaf's after them; ``backward`` after them."""
    first, second = hooked_gradients(torsh)[:5], hooked_gradients(torsh)[5:]
    assert first == second == [[210.0, 210.0], [3.0, 3.0], [21.0, 21.0], [210.0, 210.0], [21.0, 21.0]]


def test_parity_hooks_and_gradients_that_are_asked_for() -> None:
    """PyTorch's results."""
    assert hooked_gradients(torsh) == hooked_gradients(pytest.importorskip("torch"))
