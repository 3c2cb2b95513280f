"""Reductions against PyTorch: values, dtypes, gradients, decompositions."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from expression_harness import check_gradient, decomposed, gradient_of, op  # noqa: E402
from torch_comparison import same, to_numpy  # noqa: E402

from torsh.ops.expr import TABLE, emit  # noqa: E402

AXES = ((0,), (1,), (2,), (0, 2), (0, 1, 2), ())
INF = float("inf")


def cube(kind: str = "float64") -> Any:
    """A random (3, 4, 2) tensor with ties."""
    generator = torch.Generator().manual_seed(3)
    t = torch.randn(3, 4, 2, generator=generator, dtype=torch.float64)
    t[0, 1] = t[2, 1]
    dtype = getattr(torch, kind)
    return (t * 5).to(dtype) if not dtype.is_floating_point and not dtype.is_complex else t.to(dtype)


def theirs(name: str, t: Any, axes: tuple[int, ...], keepdim: bool, *rest: Any) -> Any:
    """PyTorch's reduction."""
    if not axes:
        return getattr(torch, name)(t.unsqueeze(-1), -1, *rest, keepdim=keepdim).squeeze(-1) if keepdim else \
            getattr(torch, name)(t.unsqueeze(-1), -1, *rest)
    if name == "prod":
        for a in sorted(axes, reverse=True):
            t = torch.prod(t, a, keepdim=keepdim)
        return t
    if name == "norm":
        return torch.linalg.vector_norm(t, rest[0], axes, keepdim=keepdim)
    if name in ("var", "std"):
        return getattr(torch, name)(t, axes, correction=rest[0], keepdim=keepdim)
    if name == "count_nonzero":
        out = torch.count_nonzero(t, axes)
        return out.reshape([1 if i in axes else n for i, n in enumerate(t.shape)]) if keepdim else out
    return getattr(torch, name)(t, axes, keepdim=keepdim)


SIMPLE = ("sum", "prod", "mean", "amax", "amin", "any", "all", "nansum", "nanmean", "count_nonzero", "logsumexp")


@pytest.mark.parametrize("name", SIMPLE)
def test_values(name: str) -> None:
    """Values over several axes and dtypes, by reference and by decomposition."""
    for kind in ("float64", "float32", "float16", "bfloat16", "int64", "uint8", "bool"):
        t = cube(kind)
        if name in ("mean", "nanmean", "logsumexp") and kind in ("int64", "uint8", "bool"):
            continue
        if kind == "uint8" and name in ("any", "all"):
            continue                                   # PyTorch gives uint8 here: the tensor layer does that
        for axes in AXES[:-1]:
            for keepdim in (False, True):
                exact = name == "nansum" and t.is_floating_point()
                expected = theirs(name, t.double() if exact else t, axes, keepdim)
                expected = expected.to(t.dtype) if exact else expected
                for evaluate in (op, decomposed):
                    same(evaluate(name, to_numpy(t), attr=(axes, keepdim)), expected, f"{name} {kind} {axes}")


def test_nan_and_infinity() -> None:
    """NaN propagates through extremes; logsumexp of infinities."""
    t = torch.tensor([[1.0, float("nan"), 2.0], [INF, -INF, INF], [-INF, -INF, -INF]], dtype=torch.float64)
    for name in ("amax", "amin", "nansum", "nanmean", "logsumexp", "sum"):
        for evaluate in (op, decomposed):
            same(evaluate(name, to_numpy(t), attr=((1,), False)), theirs(name, t, (1,), False), name)
    for name in ("argmax", "argmin"):
        same(op(name, to_numpy(t), attr=((1,), False)), getattr(torch, name)(t, 1), name)
    x = t[1:].clone().requires_grad_()
    torch.logsumexp(x[1:], 1).sum().backward()
    mine, = gradient_of(lambda e: emit(TABLE["logsumexp"], (e,), ((1,), False)), to_numpy(t[2:]))
    assert np.isfinite(mine).all()


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_positions(name: str) -> None:
    """Positions along one axis and in the flattened tensor."""
    t = cube()
    for axis in range(3):
        same(op(name, to_numpy(t), attr=((axis,), True)), getattr(torch, name)(t, axis, keepdim=True), name)
    same(op(name, to_numpy(t), attr=((0, 1, 2), False)), getattr(torch, name)(t), name)


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
@pytest.mark.parametrize("correction", [0, 1, 4])
@pytest.mark.parametrize("name", ["var", "std"])
def test_variance(name: str, correction: int) -> None:
    """Variance and standard deviation with gradients."""
    for kind in ("float64", "bfloat16", "complex128"):
        t = cube(kind)
        if kind[0] == "c":
            t = t * (1 + 0.3j)
        for axes in AXES[:-1]:
            expected = getattr(torch, name)(t, axes, correction=correction)
            for evaluate in (op, decomposed):
                same(evaluate(name, to_numpy(t), attr=(axes, False, correction)), expected, name)
    x = cube().requires_grad_()
    theirs(name, x, (1,), False, 1).sum().backward()
    mine, = gradient_of(lambda e: emit(TABLE[name], (e,), ((1,), False, 1)), to_numpy(x))
    same(mine, x.grad, name)


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, INF, -INF])
def test_norm(p: float) -> None:
    """p-norms and their gradients, also at zero."""
    t = cube()
    t[1] = 0
    for axes in AXES[:-1]:
        for evaluate in (op, decomposed):
            same(evaluate("norm", to_numpy(t), attr=(axes, False, p)), theirs("norm", t, axes, False, p), f"norm {p}")
    x = t.clone().requires_grad_()
    theirs("norm", x, (1,), False, p).sum().backward()
    mine, = gradient_of(lambda e: emit(TABLE["norm"], (e,), ((1,), False, p)), to_numpy(t))
    same(mine, torch.zeros_like(x) if x.grad is None else x.grad, f"gradient of norm {p}")


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "amax", "amin", "logsumexp"])
def test_gradient(name: str) -> None:
    """Gradients, with ties for extremes."""
    for axes in AXES[:-1]:
        x = cube().requires_grad_()
        theirs(name, x, axes, False).square().sum().backward()
        mine, = gradient_of(lambda e, axes=axes: emit(TABLE["square"], (emit(TABLE[name], (e,), (axes, False)),)),
                            to_numpy(x))
        same(mine, x.grad, f"gradient of {name} {axes}")


def test_prod_with_zeros() -> None:
    """The gradient of prod is right with no, one and two zeros, twice."""
    values = np.array([[1.5, 2.0, -3.0], [0.0, 2.0, 4.0], [0.0, 5.0, 0.0]])
    check_gradient(lambda e: emit(TABLE["prod"], (e,), ((1,), False)), values, order=2, tolerance=1e-4)
    check_gradient(lambda e: emit(TABLE["prod"], (e,), ((0, 1), False)), values[:2], order=2, tolerance=1e-4)


def test_second_order() -> None:
    """Second derivatives of reductions."""
    t = to_numpy(cube())
    for name, attr in (("var", ((1,), False, 1)), ("std", ((0, 2), True, 0)), ("norm", ((1,), False, 3.0)),
                       ("norm", ((0,), False, 2.0)), ("logsumexp", ((1,), False)), ("mean", ((0,), False))):
        check_gradient(lambda e, name=name, attr=attr: emit(TABLE[name], (e,), attr), t, order=2, tolerance=1e-4)


def test_order_statistics() -> None:
    """Positions of medians, modes and k-th values give PyTorch's values."""
    t = torch.tensor([[3.0, 1.0, 2.0, 2.0], [5.0, float("nan"), 1.0, 1.0], [4.0, 4.0, 2.0, 2.0]], dtype=torch.float64)
    a = to_numpy(t)
    for name, attr, expected in (("median_index", (1, False), torch.median(t, 1, True).values),
                                 ("median_index", (1, True), torch.nanmedian(t, 1, True).values),
                                 ("kthvalue_index", (1, 2), torch.kthvalue(t, 2, 1, True).values),
                                 ("mode_index", 1, torch.mode(t, 1, True).values)):
        found = op(name, a, attr=attr)
        np.testing.assert_array_equal(np.take_along_axis(a, found, 1), to_numpy(expected), name)
    assert op("mode_index", a, attr=1)[2, 0] == torch.mode(t[2:], 1).indices[0]
