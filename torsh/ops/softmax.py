"""softmax and its logarithm along one dimension (attr = dimension)."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from torsh.core.dtype import DType, from_numpy_dtype
from torsh.core.errors import UnsupportedDTypeError
from torsh.core.promotion import SCALAR_TYPE_NAMES
from torsh.ops.common import cast, div, eq, exp, full, log, mul, reduce_amax, reduce_sum, sub, where
from torsh.ops.define import Array, convert, wide
from torsh.ops.expr import Expr, Op, Shape, emit1


def _infer(name: str) -> Callable[..., tuple[Shape, DType]]:
    def infer(attr: int, a: Expr) -> tuple[Shape, DType]:
        if not a.dtype.is_floating_point:
            raise UnsupportedDTypeError(f"\"{name}_lastdim_kernel_impl\" not implemented for '{SCALAR_TYPE_NAMES[a.dtype.name]}'")
        return a.shape, a.dtype
    return infer


def _axes(e: Expr) -> tuple[int, ...]:
    return (e.attr,) if e.shape else ()  # type: ignore[return-value]


def _shifted(e: Expr) -> tuple[Expr, Expr, tuple[int, ...]]:
    """(argument minus its maximum, the maximum, axes), in the dtype that is computed in."""
    a, axes = cast(e.args[0], wide(e.dtype)), _axes(e)
    top = reduce_amax(a, axes, True) if axes else a
    return sub(a, top), top, axes


def _softmax(e: Expr) -> Expr:
    if 0 in e.shape:
        return full(e.shape, 0, e.dtype)
    shifted, _, axes = _shifted(e)
    weights = exp(shifted)
    return cast(div(weights, reduce_sum(weights, axes, True)), e.dtype)


def _log_softmax(e: Expr) -> Expr:
    if 0 in e.shape:
        return full(e.shape, 0, e.dtype)
    shifted, _, axes = _shifted(e)
    return cast(sub(shifted, log(reduce_sum(exp(shifted), axes, True))), e.dtype)


def _safe_softmax(e: Expr) -> Expr:
    if 0 in e.shape:
        return full(e.shape, 0, e.dtype)
    a, axes = cast(e.args[0], wide(e.dtype)), _axes(e)
    top = reduce_amax(a, axes, True) if axes else a
    nothing = eq(top, -math.inf)
    weights = exp(sub(a, where(nothing, 0.0, top)))
    return cast(div(weights, where(nothing, 1.0, reduce_sum(weights, axes, True))), e.dtype)


def _softmax_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    y, g = cast(e, wide(e.dtype)), cast(g, wide(e.dtype))
    return (cast(mul(y, sub(g, reduce_sum(mul(g, y), _axes(e), True))), e.dtype),)


def _log_softmax_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    y, g = cast(e, wide(e.dtype)), cast(g, wide(e.dtype))
    return (cast(sub(g, mul(exp(y), reduce_sum(g, _axes(e), True))), e.dtype),)


def _reference(function: Callable[[Array, int], Any]) -> Callable[..., Array]:
    def reference(attr: int, a: Any) -> Array:
        array = np.asarray(a)
        dtype = from_numpy_dtype(array.dtype)
        if not array.size:
            return np.zeros(array.shape, array.dtype)
        with np.errstate(all="ignore"):
            wide_array = np.atleast_1d(convert(array, wide(dtype)))
            return convert(function(wide_array, attr).reshape(array.shape), dtype)
    return reference


def _numpy_softmax(a: Array, axis: int) -> Array:
    weights = np.exp(a - a.max(axis, keepdims=True))
    return weights / weights.sum(axis, keepdims=True)


def _numpy_log_softmax(a: Array, axis: int) -> Array:
    shifted = a - a.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def _numpy_safe_softmax(a: Array, axis: int) -> Array:
    return np.where(np.all(a == -np.inf, axis, keepdims=True), 0, _numpy_softmax(a, axis)).astype(a.dtype)


SOFTMAX: Final[Op] = Op("softmax", _infer("softmax"), _reference(_numpy_softmax), gradient=_softmax_gradient,
                        decompose=_softmax)
LOG_SOFTMAX: Final[Op] = Op("log_softmax", _infer("log_softmax"), _reference(_numpy_log_softmax),
                            gradient=_log_softmax_gradient, decompose=_log_softmax)
# softmax that is 0, not NaN, where everything is masked (all elements -inf)
SAFE_SOFTMAX: Final[Op] = Op("safe_softmax", _infer("softmax"), _reference(_numpy_safe_softmax), gradient=_softmax_gradient,
                             decompose=_safe_softmax)


def softmax(e: Expr, dim: int) -> Expr:
    """Exponentials normalised to sum to 1 along a dimension (negative ones count from the end)."""
    return emit1(SOFTMAX, e, dim + max(len(e.shape), 1) if dim < 0 else dim)


def log_softmax(e: Expr, dim: int) -> Expr:
    """The logarithm of softmax, without overflow."""
    return emit1(LOG_SOFTMAX, e, dim + max(len(e.shape), 1) if dim < 0 else dim)
