"""Accuracy of the vector mathematics over the whole range, in units in the last place, and its edge values."""
from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

from tests.codegen.loop_harness import TARGETS, Builder, elementwise, machine
from tests.codegen.template_harness import ARM, StandInTarget
from torsh.codegen.llvm import generate
from torsh.core.dtype import DType, float32, float64

targets = pytest.mark.parametrize("target", TARGETS, ids=lambda t: "avx512" if t.has_avx512 else "narrow")
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    **{name: getattr(np, name) for name in (
        "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "sinh", "cosh", "tanh")},
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "sigmoid": lambda x: np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x)))),
    "erf": lambda x: np.array([math.erf(v) for v in x], x.dtype),
    "erfc": lambda x: np.array([math.erfc(v) for v in x], x.dtype),
    "normal_cdf": lambda x: np.array([_normal_cdf(float(v)) for v in x], x.dtype)}
EDGES = [0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, 0.5, -0.5, 1e-40, -1e-40, 90.0, -105.0, 1e30, -1e30, 3.1415927]


def _normal_cdf(x: float) -> float:
    """Exact to float64: a Taylor step corrects what rounding the argument of erfc loses."""
    if not abs(x) < 39:
        return math.nan if math.isnan(x) else float(x > 0)
    root = Fraction(math.sqrt(0.5)) + Fraction(-4.833646656726457e-17)
    y = -x * math.sqrt(0.5)
    lost = float(-Fraction(x) * root - Fraction(y))
    return 0.5 * math.erfc(y) * (1 - 2 * y * lost) if y > 1 else 0.5 * (
        math.erfc(y) - 2 / math.sqrt(math.pi) * math.exp(-y * y) * lost)


def arguments(dtype: DType) -> np.ndarray:
    """Arguments of all magnitudes, denser where functions have their features."""
    rng = np.random.default_rng(11)
    info = np.finfo(dtype.numpy)
    limit = 100.0 if dtype is float32 else 740.0
    exponents = rng.uniform(np.log2(float(info.smallest_subnormal)) + 1, np.log2(float(info.max)), 1500)
    parts = [2.0 ** exponents * rng.choice([-1, 1], 1500), rng.uniform(-1, 1, 1500), rng.uniform(-10, 10, 1500),
             rng.uniform(-limit, limit, 1500), 1 + rng.uniform(-0.01, 0.01, 500), EDGES]
    with np.errstate(all="ignore"):
        return np.concatenate(parts).astype(dtype.numpy)


def distance(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Units in the last place between results and more precise references; 0 where both are the same edge value."""
    with np.errstate(all="ignore"):
        narrow = expected.astype(got.dtype)
        same = (got == narrow) | (np.isnan(got) & np.isnan(narrow))
        error = np.abs(got.astype(expected.dtype) - expected) / np.spacing(np.abs(narrow)).astype(expected.dtype)
    return np.where(same, np.minimum(np.nan_to_num(error), 0.5), error)


@targets
@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.name)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_accuracy(name: str, dtype: DType, target: StandInTarget) -> None:
    x = arguments(dtype)
    if dtype is float64 and name in ("sin", "cos", "tan"):
        x = x[~(np.abs(x) > 1e15)]      # the reference itself is exact only in this range
    got = elementwise(name, dtype, x, target=target)
    with np.errstate(all="ignore"):
        expected = FUNCTIONS[name](x.astype(np.float64 if dtype is float32 else np.longdouble))
    error = distance(got, expected)
    limit = 2.0 if dtype is float32 else 4.0
    if name == "normal_cdf" and dtype is float32:        # as that of exp(-x^2 / 2) with a rounded square
        limit = 5.0
        error = error / (1 + np.square(np.clip(np.nan_to_num(x), -14.5, 0)) / 5)
    worst = int(np.argmax(error))
    assert error[worst] <= limit, f"{name}({x[worst]!r}) = {got[worst]!r}, expected {expected[worst]!r}"
    zeros = (x == 0) & (got == 0)
    np.testing.assert_array_equal(np.signbit(got[zeros]), np.signbit(expected[zeros]))


@targets
def test_large_angles(target: StandInTarget) -> None:
    # Exact values of sin at arguments that need hundreds of bits of 2/pi
    x = np.array([1e22, 1e300, 2.0 ** 1000, 6381956970095103.0 * 2.0 ** 797], np.float64)
    expected = np.array([-0.8522008497671888, -0.8178819121159085, -0.15920170308624246, 1.0])
    got = elementwise("sin", float64, x, target=target)
    np.testing.assert_allclose(got, expected, rtol=4e-16)
    close = elementwise("cos", float64, x[3:], target=target)      # the double that is closest to a multiple of pi/2
    np.testing.assert_allclose(close, [-4.687165924254627611e-19], rtol=4e-16)


@targets
@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.name)
def test_pow_and_atan2(dtype: DType, target: StandInTarget) -> None:
    rng = np.random.default_rng(3)
    edges = np.array([*EDGES, 2.0, 3.0, -2.0, -3.0, 2.5])
    a = np.concatenate([np.repeat(edges, len(edges)), rng.uniform(0, 5, 2000), 2 ** rng.uniform(-100, 100, 2000)])
    b = np.concatenate([np.tile(edges, len(edges)), rng.uniform(-30, 30, 2000), rng.uniform(-9, 9, 2000)])
    a, b = a.astype(dtype.numpy), b.astype(dtype.numpy)
    wide = np.float64 if dtype is float32 else np.longdouble
    for name, function in (("pow", np.power), ("atan2", np.arctan2)):
        with np.errstate(all="ignore"):
            expected = function(a.astype(wide), b.astype(wide))
        error = distance(elementwise(name, dtype, a, b, target=target), expected)
        worst = int(np.argmax(error))
        assert error[worst] <= 2.0, f"{name}({a[worst]!r}, {b[worst]!r})"


@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.name)
def test_compiles_for_arm(dtype: DType) -> None:
    for name in (*FUNCTIONS, "pow", "atan2"):
        x = np.ones(64, dtype.numpy)
        b = Builder((64,), 1)
        operands = [b.load(x, (1,))] * (2 if name in ("pow", "atan2") else 1)
        b.store(b.add(name, dtype, *operands), np.empty_like(x), (1,))
        b.stage()
        module = llvm.parse_assembly(generate(b.kernel(), ARM, "kernel"))  # type: ignore[arg-type]
        module.verify()
        assert machine(ARM).emit_object(module)
