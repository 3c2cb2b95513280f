"""Elementwise primitives and casts against PyTorch, with edge values, for all dtypes."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.codegen.loop_harness import TARGETS, elementwise
from tests.codegen.template_harness import StandInTarget
from torsh.codegen.llvm import supported
from torsh.core.dtype import DType, bool_, float32, float64, int8, int16, int32, int64, uint8

torch = pytest.importorskip("torch")
targets = pytest.mark.parametrize("target", TARGETS, ids=lambda t: "avx512" if t.has_avx512 else "narrow")
DTYPES = (bool_, uint8, int8, int16, int32, int64, float32, float64)
UNARY = ("neg", "abs", "sign", "sqrt", "rsqrt", "reciprocal", "floor", "ceil", "trunc", "round", "isnan", "isinf",
         "isfinite", "logical_not", "bitwise_not")
BINARY: dict[str, Any] = {
    **{name: getattr(torch, name) for name in (
        "add", "sub", "mul", "div", "floor_divide", "pow", "atan2", "maximum", "minimum", "copysign", "bitwise_and",
        "bitwise_or", "bitwise_xor", "eq", "ne", "lt", "le", "gt", "ge")},
    "trunc_divide": lambda a, b: torch.div(a, b, rounding_mode="trunc"),
    "shift_left": torch.bitwise_left_shift, "shift_right": torch.bitwise_right_shift}
FLOATS = [0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 2, -2, 0.5, -0.5, 3, -3, 1e30, -1e30, 7.25, 2.5, -7]


def operands(dtype: DType) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of edge values and random ones."""
    rng = np.random.default_rng(5)
    if dtype is bool_:
        return rng.integers(0, 2, 131).astype(bool), rng.integers(0, 2, 131).astype(bool)
    if dtype.is_floating_point:
        edges = np.array(FLOATS)
        more = rng.normal(size=(2, 300)) * 9
    else:
        info = np.iinfo(dtype.numpy)
        more_edges = [-1, -2, -3] if info.min else [7]
        edges = np.array([info.min, info.max, 0, 1, 2, 3, 5, info.max // 3, *more_edges], dtype.numpy)
        more = rng.integers(info.min, info.max, (2, 300), dtype.numpy)
    pairs = [np.concatenate([grid, random]) for grid, random in zip(
        (np.repeat(edges, len(edges)), np.tile(edges, len(edges))), more, strict=True)]
    return pairs[0].astype(dtype.numpy), pairs[1].astype(dtype.numpy)


def check(name: str, dtype: DType, expected: np.ndarray, *args: np.ndarray, target: StandInTarget) -> None:
    """Compare one primitive: exactly, but for a few units in the last place of pow, atan2 and the like."""
    got = elementwise(name, bool_ if expected.dtype == bool else dtype, *args, target=target)
    if not dtype.is_floating_point or expected.dtype == bool:
        np.testing.assert_array_equal(got, expected, err_msg=name)
        return
    np.testing.assert_allclose(got, expected, rtol=4 * float(np.finfo(dtype.numpy).eps), atol=0, err_msg=name)
    known = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got)[known], np.signbit(expected)[known], err_msg=name)


@targets
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.name)
def test_primitives(dtype: DType, target: StandInTarget) -> None:
    a, b = operands(dtype)
    for name in UNARY:
        if supported(name, dtype) and not (dtype is bool_ and name == "abs"):
            check(name, dtype, getattr(torch, name)(torch.from_numpy(a)).numpy(), a, target=target)
    for name, function in BINARY.items():
        if not supported(name, dtype):
            continue
        x, y = a, b
        if not dtype.is_floating_point and name in ("floor_divide", "trunc_divide"):
            keep = (b != 0) & ~((b == np.array(-1).astype(b.dtype)) & dtype.is_signed)      # where PyTorch raises or traps
            x, y = a[keep], b[keep]
        check(name, dtype, function(torch.from_numpy(x), torch.from_numpy(y)).numpy(), x, y, target=target)


@targets
@pytest.mark.parametrize("source", DTYPES, ids=lambda d: d.name)
def test_casts(source: DType, target: StandInTarget) -> None:
    rng = np.random.default_rng(9)
    values = rng.normal(size=77) * 50 if source.is_floating_point else rng.integers(0, 2 if source is bool_ else 120, 77)
    x = values.astype(source.numpy)
    for dtype in DTYPES:
        argument = np.abs(x) if dtype is uint8 else x
        expected = torch.from_numpy(argument).to(getattr(torch, dtype.name)).numpy()
        np.testing.assert_array_equal(elementwise("cast", dtype, argument, target=target), expected)
