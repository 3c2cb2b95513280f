"""Elementwise ops against PyTorch: dtypes, values at the edges, gradients, and decompositions against references."""
from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from expression_harness import check_gradient, decomposed, gradient_of, op  # noqa: E402
from torch_comparison import same, to_numpy  # noqa: E402

from torsh.core.dtype import ALL_DTYPES  # noqa: E402
from torsh.core.errors import DTypeError  # noqa: E402
from torsh.ops.expr import TABLE, emit  # noqa: E402

F = torch.nn.functional
EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 0.3, -0.7, 2.0, -2.5, 3.0, -3.0, 1e-4, 7.7, -9.3, 30.0, float("inf"),
         float("-inf"), float("nan")]
UNARY = ("abs neg sign sgn exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal sin cos tan asin acos atan sinh cosh "
         "tanh asinh acosh atanh erf erfc erfinv sigmoid floor ceil trunc round frac square relu lgamma digamma i0 sinc "
         "deg2rad rad2deg logical_not bitwise_not isnan isinf isfinite signbit isposinf isneginf angle").split()
BINARY = ("add sub mul div floor_divide fmod remainder pow atan2 maximum minimum copysign bitwise_and bitwise_or "
          "bitwise_xor eq ne lt le gt ge hypot nextafter logaddexp logaddexp2 gcd lcm xlogy").split()
ACTIVATIONS: dict[str, tuple[Any, tuple[Any, ...], Any]] = {
    "relu": (F.relu, (), None), "leaky_relu": (F.leaky_relu, (0.1,), None), "silu": (F.silu, (), None),
    "softplus": (F.softplus, (1.5, 4.0), None), "elu": (F.elu, (0.7,), None), "selu": (F.selu, (), None),
    "celu": (F.celu, (0.7,), None), "hardtanh": (F.hardtanh, (-1.0, 0.5), None), "hardswish": (F.hardswish, (), None),
    "hardsigmoid": (F.hardsigmoid, (), None), "hardshrink": (F.hardshrink, (0.5,), None),
    "softshrink": (F.softshrink, (0.5,), None), "tanhshrink": (F.tanhshrink, (), None),
    "threshold": (F.threshold, (0.3, 7.0), None), "mish": (F.mish, (), None), "logsigmoid": (F.logsigmoid, (), None),
    "gelu": (F.gelu, (), "none"),
}
TYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}


def sample(name: str) -> Any:
    """A torch tensor of edge values in the dtype called ``name``."""
    dtype = getattr(torch, name)
    if dtype.is_complex:
        return torch.tensor([0.5 + 1j, -0.3 + 0.2j, 2 - 1.5j, -1.1 - 0.4j], dtype=dtype)
    if dtype.is_floating_point:
        return torch.tensor(EDGES, dtype=dtype)
    if dtype is torch.bool:
        return torch.tensor([True, False])
    return torch.tensor([1, 3, 0, 7, 100] if dtype is torch.uint8 else [1, -3, 0, 7, -8, 100], dtype=dtype)


def compare(name: str, mine: Any, theirs: Any, message: str) -> None:
    """Both raise, or both give the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = theirs()
        except (RuntimeError, TypeError):
            with pytest.raises((DTypeError, TypeError)):
                mine()
            return
        same(mine(), expected, message)


@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str) -> None:
    """Values and dtypes of functions of one argument, by reference and by decomposition."""
    for dtype in ALL_DTYPES:
        t = sample(dtype.name)
        for evaluate in (op, decomposed):
            compare(name, lambda t=t, evaluate=evaluate: evaluate(name, to_numpy(t)), lambda t=t: getattr(torch, name)(t),
                    f"{name} {dtype.name}")


@pytest.mark.parametrize("name", BINARY)
def test_binary(name: str) -> None:
    """Values and dtypes of functions of two tensors of all pairs of dtypes."""
    for first in ("bool", "uint8", "int8", "int64", "float16", "bfloat16", "float32", "float64", "complex64"):
        for second in ("bool", "uint8", "int64", "float16", "bfloat16", "float32", "complex64"):
            a, b = sample(first)[:, None], sample(second)[None]
            if name in ("floor_divide", "fmod", "remainder") and not b.is_floating_point():
                b = torch.where(b == 0, torch.ones_like(b), b)
            if name == "pow" and not (a.is_floating_point() or b.is_floating_point()):
                b = torch.where(b.real < 0, torch.ones_like(b), b)
            if name == "logaddexp" and (a.is_complex() or b.is_complex()):
                continue
            if name in ("add", "sub", "mul", "div", "pow") and (a.is_complex() or b.is_complex()):
                a, b = a[torch.isfinite(a).all(1)][2:], b[:, torch.isfinite(b).all(0)][:, 2:]
            for evaluate in (op, decomposed):
                compare(name, lambda a=a, b=b, evaluate=evaluate: evaluate(name, to_numpy(a), to_numpy(b)),
                        lambda a=a, b=b: getattr(torch, name)(a, b), f"{name} {first} {second}")


@pytest.mark.parametrize("name", ["add", "mul", "div", "pow", "lt", "remainder", "floor_divide"])
def test_numbers(name: str) -> None:
    """Python numbers take part in promotion with the lowest priority."""
    for dtype in ALL_DTYPES:
        for number in (2, 2.5, True) if name != "pow" else (2, 2.5):
            for shape in ((2,), ()):
                t = sample(dtype.name)[:2] if shape else sample(dtype.name)[1]
                compare(name, lambda t=t, number=number: op(name, to_numpy(t), number),
                        lambda t=t, number=number: getattr(torch, name)(t, number), f"{name} {dtype.name} {number} {shape}")


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activation(name: str) -> None:
    """Values and gradients at the edges."""
    function, numbers, attr = ACTIVATIONS[name]
    for kind in TYPES:
        t = sample(kind) if name != "gelu" else sample(kind)[:-3]      # -inf * 0
        for evaluate in (op, decomposed):
            better = t.double() if name == "gelu" else t.float() if t.dtype.itemsize == 2 else t
            expected = function(better, *numbers).to(t.dtype)
            same(evaluate(name, to_numpy(t), *numbers, attr=attr), expected, f"{name} {kind}")
        x = t.clone().requires_grad_()
        function(x, *numbers).sum().backward()
        mine, = gradient_of(lambda e, *n: emit(TABLE[name], (e, *n), attr), to_numpy(t), *numbers)
        same(mine, x.grad, f"gradient of {name} {kind}", 1e-7)


def test_gelu_tanh() -> None:
    """The approximation of gelu."""
    t = sample("float64")[:-3]
    same(op("gelu", to_numpy(t), attr="tanh"), F.gelu(t, approximate="tanh"), "gelu tanh")
    same(decomposed("gelu", to_numpy(t), attr="tanh"), F.gelu(t, approximate="tanh"), "gelu tanh")
    check_gradient(lambda e: emit(TABLE["gelu"], (e,), "tanh"), to_numpy(t), order=2)


DIFFERENTIABLE = [n for n in UNARY if TABLE[n].differentiable and n not in ("i0", "signbit", "isposinf", "isneginf")]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_unary_gradient(name: str) -> None:
    """Gradients at the edges, also of complex functions."""
    for kind in ("float64", "float32", "complex128"):
        t = sample(kind)
        if kind != "complex128" and name in ("lgamma", "digamma"):
            t = t[torch.isfinite(t) & ((t > 0) | (t != t.round()))]
        try:
            x = t.clone().requires_grad_()
            out = getattr(torch, name)(x)
        except RuntimeError:
            continue
        weight = torch.arange(1, out.numel() + 1).to(out.dtype)
        out.backward(weight)
        mine, = gradient_of(lambda e: emit(TABLE[name], (e,), None), to_numpy(t), seed=to_numpy(weight))
        # 1 - tanh(x)**2 and the like cancel in float32.
        same(mine, x.grad, f"gradient of {name} {kind}", {"float64": 1e-9, "float32": 1e-3}.get(kind, 0))


@pytest.mark.parametrize("name", "add sub mul div fmod remainder pow atan2 maximum minimum copysign hypot logaddexp "
                                 "logaddexp2 xlogy".split())
def test_binary_gradient(name: str) -> None:
    """Gradients of both arguments over all pairs of edge values."""
    t = sample("float64")
    t = t[torch.isfinite(t)]
    a, b = (t[:, None] + torch.zeros(len(t))).requires_grad_(), t.clone().requires_grad_()
    getattr(torch, name)(a, b).sum().backward()
    for mine, theirs in zip(gradient_of(lambda x, y: emit(TABLE[name], (x, y)), to_numpy(a), to_numpy(b)), (a.grad, b.grad),
                            strict=True):
        same(mine, theirs, f"gradient of {name}")


@pytest.mark.parametrize("name", "mul div pow add sub".split())
def test_complex_gradient(name: str) -> None:
    """PyTorch's conjugate convention, also with one real argument."""
    for first, second in (("complex128", "complex128"), ("complex128", "float64"), ("float64", "complex128")):
        real = torch.tensor([[0.4, 1.2, 2.0, 0.7], [1.5, 0.3, 0.9, 2.2]], dtype=torch.float64)
        a = (sample(first) if first[0] == "c" else real[0].clone()).requires_grad_()
        b = (sample(second) if second[0] == "c" else real[1].clone()).requires_grad_()
        out = getattr(torch, name)(a, b)
        weight = torch.tensor([1 + 1j, 2 - 1j, 0.5j, -1], dtype=torch.complex128)
        out.backward(weight)
        found = gradient_of(lambda x, y: emit(TABLE[name], (x, y)), to_numpy(a), to_numpy(b), seed=weight.numpy())
        for mine, theirs in zip(found, (a.grad, b.grad), strict=True):
            same(mine, theirs, f"gradient of {name} {first} {second}")


@pytest.mark.parametrize("attr", ["both", "min", "max"])
def test_clamp(attr: str) -> None:
    """Values and gradients of clamp with tensors and numbers as limits."""
    t = sample("float64")
    low, high = torch.full_like(t, -0.5), torch.linspace(-1, 2, len(t), dtype=torch.float64)
    limits = {"both": (low, high), "min": (low,), "max": (high,)}[attr]
    named = dict(zip({"both": ("min", "max"), "min": ("min",), "max": ("max",)}[attr], limits, strict=True))
    for evaluate in (op, decomposed):
        same(evaluate("clamp", to_numpy(t), *[to_numpy(v) for v in limits], attr=attr), torch.clamp(t, **named), "clamp")
    xs = [v.clone().requires_grad_() for v in (t, *limits)]
    torch.clamp(xs[0], **dict(zip(named, xs[1:], strict=True))).sum().backward()
    found = gradient_of(lambda *e: emit(TABLE["clamp"], e, attr), *[to_numpy(v) for v in (t, *limits)])
    for mine, x in zip(found, xs, strict=True):
        same(mine, x.grad, "gradient of clamp")
    integers = np.array([1, 5, 9])
    same(op("clamp", integers, 2.5, attr="min"), torch.clamp(torch.tensor(integers), min=2.5), "clamp of integers")
    same(op("clamp", integers, 2, attr="min"), torch.clamp(torch.tensor(integers), min=2), "clamp of integers")


def test_lerp_and_friends() -> None:
    """lerp, addcmul, addcdiv, heaviside, ldexp, where."""
    a, b, w = (torch.randn(5, dtype=torch.float64) for _ in range(3))
    arrays = [to_numpy(v) for v in (a, b, w)]
    for evaluate in (op, decomposed):
        same(evaluate("lerp", *arrays), torch.lerp(a, b, w), "lerp")
        same(evaluate("lerp", *arrays[:2], 0.25), torch.lerp(a, b, 0.25), "lerp")
        same(evaluate("addcmul", *arrays, 0.5), torch.addcmul(a, b, w, value=0.5), "addcmul")
        same(evaluate("addcdiv", *arrays, 0.5), torch.addcdiv(a, b, w, value=0.5), "addcdiv")
        same(evaluate("heaviside", np.array(EDGES), np.array(0.25)),
             torch.heaviside(torch.tensor(EDGES, dtype=torch.float64), torch.tensor(0.25, dtype=torch.float64)), "heaviside")
        same(evaluate("xlog1py", *arrays[:2]), torch.special.xlog1py(a, b), "xlog1py")
        same(evaluate("entr", np.array(EDGES)), torch.special.entr(torch.tensor(EDGES, dtype=torch.float64)), "entr")
    check_gradient(lambda *e: emit(TABLE["lerp"], e), *arrays, order=2)
    check_gradient(lambda *e: emit(TABLE["addcdiv"], e), *arrays, 0.5, order=2)
    condition = np.array([True, False, True])
    check_gradient(lambda c, x, y: emit(TABLE["where"], (c, x, y)), condition, np.ones((2, 3)), np.ones(3))


@pytest.mark.parametrize("name", ["i0", "i1", "i0e", "i1e"])
def test_bessel(name: str) -> None:
    """Modified Bessel functions and their gradients."""
    x = torch.tensor([0.0, 0.5, -1.5, 4.0], dtype=torch.float64, requires_grad=True)
    out = getattr(torch.special, name)(x)
    same(op(name, to_numpy(x)), out, name)
    out.sum().backward()
    same(gradient_of(lambda e: emit(TABLE[name], (e,)), to_numpy(x))[0], x.grad, f"gradient of {name}")


def test_polygamma() -> None:
    """polygamma and its gradient."""
    x = torch.tensor([0.5, 1.5, 4.0], dtype=torch.float64, requires_grad=True)
    out = torch.polygamma(2, x)
    same(op("polygamma", to_numpy(x), attr=2), out, "polygamma")
    out.sum().backward()
    same(gradient_of(lambda e: emit(TABLE["polygamma"], (e,), 2), to_numpy(x))[0], x.grad, "gradient of polygamma")
