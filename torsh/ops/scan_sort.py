"""Cumulative functions along a dimension, and the positions that sort one."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from torsh.core.dtype import DType, from_numpy_dtype, int64
from torsh.core.errors import ShapeMismatchError, UnsupportedDTypeError
from torsh.core.promotion import SCALAR_TYPE_NAMES, not_implemented
from torsh.ops.common import (
    apply,
    both,
    cast,
    chain,
    conj,
    div,
    either,
    eq,
    exp,
    full,
    gt,
    iota,
    log,
    lt,
    neg,
    sub,
    where,
    zeros_like,
)
from torsh.ops.define import Array, convert, is_half, wide
from torsh.ops.expr import HOST, OPAQUE, Expr, Op, Shape, emit1


def _same_infer(name: str, categories: str) -> Callable[..., tuple[Shape, DType]]:
    def infer(attr: int, a: Expr) -> tuple[Shape, DType]:
        if "bifc"[a.dtype.category] not in categories:
            raise not_implemented(name, a.dtype)
        return a.shape, a.dtype
    return infer


def _accumulator(dtype: DType) -> Any:
    """The NumPy dtype that a cumulative sum is carried in."""
    return {"float16": np.float32, "bfloat16": np.float32, "float32": np.float64}.get(dtype.name, dtype.numpy)


def _scan_reference(function: Any) -> Callable[..., Array]:
    def reference(attr: int, a: Any) -> Array:
        array = np.asarray(a)
        if not array.ndim:
            return array
        dtype = from_numpy_dtype(array.dtype)
        with np.errstate(all="ignore"):
            return convert(function(array.astype(_accumulator(dtype)), attr, dtype=_accumulator(dtype)), dtype)
    return reference


def reverse(e: Expr, dim: int) -> Expr:
    """A dimension in opposite order."""
    spec = tuple([(max(n - 1, 0), n, -1) if axis == dim else (0, n, 1) for axis, n in enumerate(e.shape)])
    return apply("slice", e, attr=spec) if e.shape else e


def cumsum(e: Expr, dim: int) -> Expr:
    """Running sums along a dimension."""
    return emit1(CUMSUM, e, dim)


def sums_to_end(e: Expr, dim: int) -> Expr:
    """For every position, the sum of it and all after it."""
    return reverse(cumsum(reverse(e, dim), dim), dim)


def _cumprod_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    # Before a row's first zero: d/dx_k = (sum of g_j * out_j for j >= k) / x_k. At the first zero: the same sum over the
    # products without it. Behind it every product contains that zero.
    x = e.args[0]
    dim: int = e.attr  # type: ignore[assignment]
    zero = eq(x, 0)
    first = both(zero, eq(cumsum(cast(zero, int64), dim), 1))
    plain = div(sums_to_end(chain(g, e), dim), conj(where(zero, 1, x)))
    without = emit1(CUMPROD, where(first, 1, x), dim)
    return (where(first, sums_to_end(chain(g, without), dim), where(zero, zeros_like(plain), plain)),)


# attr: dimension. float32 is carried in float64, halves in float32.
CUMSUM: Final[Op] = Op("cumsum", _same_infer("cumsum", "bifc"), _scan_reference(np.cumsum), kind=OPAQUE,
                       gradient=lambda e, g: (sums_to_end(g, e.attr) if e.shape else g,))  # type: ignore[arg-type]
CUMPROD: Final[Op] = Op("cumprod", _same_infer("cumprod", "bifc"), _scan_reference(np.cumprod), kind=OPAQUE,
                        gradient=lambda e, g: _cumprod_gradient(e, g) if e.shape else (g,))


# ---- running extremes --------------------------------------------------------------------------------------------------

def _running_position(largest: bool) -> Callable[..., Array]:
    def reference(attr: int, a: Any) -> Array:
        array = np.asarray(a)
        if not array.ndim or not array.size:
            return np.zeros(array.shape, np.int64)
        dtype = from_numpy_dtype(array.dtype)
        rows = np.moveaxis(convert(array, wide(dtype)), attr, -1)
        running = (np.maximum if largest else np.minimum).accumulate(rows, axis=-1)
        # The position of the last element that equals the running extreme (a NaN, once there is one).
        hit = (rows == running) | (np.isnan(rows) if rows.dtype.kind == "f" else False)
        places = np.where(hit, np.arange(rows.shape[-1]), 0)
        return np.ascontiguousarray(np.moveaxis(np.maximum.accumulate(places, axis=-1), -1, attr)).astype(np.int64)
    return reference


def _position_infer(name: str) -> Callable[..., tuple[Shape, DType]]:
    def infer(attr: Any, a: Expr) -> tuple[Shape, DType]:
        if a.dtype.is_complex:
            raise not_implemented(name, a.dtype)
        return a.shape, int64
    return infer


def _running_op(name: str, function: Any) -> Op:
    def reference(attr: int, a: Any) -> Array:
        array = np.asarray(a)
        dtype = from_numpy_dtype(array.dtype)
        return convert(function.accumulate(convert(array, wide(dtype)), axis=attr), dtype) if array.ndim else array
    return Op(name, _same_infer(name, "bif"), reference, kind=OPAQUE)


# attr: dimension. A NaN stays.
RUNNING_MAXIMUM: Final[Op] = _running_op("running_maximum", np.maximum)
RUNNING_MINIMUM: Final[Op] = _running_op("running_minimum", np.minimum)


def _positions(running: Op) -> Callable[[Expr], Expr]:
    def decompose(e: Expr) -> Expr:
        a = e.args[0]
        if not a.shape:
            return full((), 0, int64)
        dim: int = e.attr  # type: ignore[assignment]
        hit = eq(a, emit1(running, a, dim))
        if a.dtype.is_floating_point:
            hit = either(hit, apply("isnan", a))
        return emit1(RUNNING_MAXIMUM, where(hit, iota(a.shape, dim), 0), dim)
    return decompose


# attr: dimension: the position of the running maximum (minimum), the last of equal ones
CUMMAX_INDEX: Final[Op] = Op("cummax_index", _position_infer("cummax"), _running_position(True),
                             decompose=_positions(RUNNING_MAXIMUM))
CUMMIN_INDEX: Final[Op] = Op("cummin_index", _position_infer("cummin"), _running_position(False),
                             decompose=_positions(RUNNING_MINIMUM))
CUMMAX_INDEX.differentiable = CUMMIN_INDEX.differentiable = False
# What a scan combines by
SCANS: Final = {"cumsum": "sum", "cumprod": "prod", "running_maximum": "max", "running_minimum": "min"}


# ---- logcumsumexp ------------------------------------------------------------------------------------------------------

def _log_scan_reference(attr: int, a: Any) -> Array:
    array = np.asarray(a)
    if not array.ndim:
        return array
    dtype = from_numpy_dtype(array.dtype)
    with np.errstate(all="ignore"):
        return convert(np.logaddexp.accumulate(convert(array, wide(dtype)), axis=attr), dtype)


def _log_scan_infer(attr: int, a: Expr) -> tuple[Shape, DType]:
    if not a.dtype.is_floating_point:
        raise UnsupportedDTypeError(f"\"logcumsumexp_out_cpu\" not implemented for '{SCALAR_TYPE_NAMES[a.dtype.name]}'")
    return a.shape, a.dtype


def _log_scan_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    # Positive and negative gradients apart, as logarithms: sum of g_j * exp(x_k - out_j) for j >= k.
    x = e.args[0]
    dim: int = e.attr  # type: ignore[assignment]

    def side(condition: Expr, magnitude: Expr) -> Expr:
        shares = where(condition, sub(log(where(condition, magnitude, 1)), e), -math.inf)
        total = reverse(emit1(LOGCUMSUMEXP, reverse(shares, dim), dim), dim)
        return exp(apply("add", total, x))
    return (sub(side(gt(g, 0), g), side(lt(g, 0), neg(g))),)


# attr: dimension
LOGCUMSUMEXP: Final[Op] = Op("logcumsumexp", _log_scan_infer, _log_scan_reference, gradient=_log_scan_gradient, kind=HOST)


# ---- sorting -----------------------------------------------------------------------------------------------------------

_LOW: Final = np.uint64(0xFFFFFFFF)
_SHIFT: Final = np.uint64(32)


def _packed(array: Array, descending: bool) -> Array | None:
    """Rows as unsigned numbers whose upper half orders as the elements and whose lower half is the position.

    Sorting plain numbers is many times faster than sorting positions, and equal elements stay in order. None for elements of
    64 bits. NaN counts as the largest, and the two zeros are equal.
    """
    if array.dtype == np.float32:
        array = np.where(np.isnan(array), np.float32(np.nan), array) + np.float32(0)
        bits = array.view(np.uint32)
        keys = np.where(bits >> 31 != 0, ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)
    elif array.dtype.kind in "biu" and array.dtype.itemsize <= 4:
        keys = (array.astype(np.int64) + (1 << 31)).astype(np.uint64)
    else:
        return None
    if descending:
        keys = _LOW - keys
    return (keys << _SHIFT) | np.arange(array.shape[-1], dtype=np.uint64)


def sorting_positions(array: Array, axis: int, descending: bool, first: int | None = None) -> Array:
    """Stable positions that sort an axis (only the ``first`` ones, if given); NaN counts as the largest."""
    if is_half(from_numpy_dtype(array.dtype)):
        array = array.astype(np.float32)
    rows = np.moveaxis(array, axis, -1)
    n = rows.shape[-1]
    packed = _packed(rows, descending) if n <= 1 << 32 else None
    if packed is not None:
        if first is not None and 0 < first < n:
            packed = np.partition(packed, first - 1, -1)[..., :first]
        order = (np.sort(packed, -1) & _LOW).astype(np.int64)
    elif descending:
        order = np.flip(n - 1 - np.argsort(np.flip(rows, -1), -1, kind="stable"), -1)
    else:
        order = np.argsort(rows, -1, kind="stable")
    return np.moveaxis(order if first is None else order[..., :first], -1, axis)


def _argsort_reference(attr: tuple[int, bool, bool], a: Any) -> Array:
    array = np.asarray(a)
    if not array.ndim:
        return np.zeros((), np.int64)
    return np.ascontiguousarray(sorting_positions(array, attr[0], attr[1])).astype(np.int64)


# attr: (dimension, descending, stable); always stable
ARGSORT: Final[Op] = Op("argsort", _position_infer("sort"), _argsort_reference, kind=HOST)


def _topk_infer(attr: tuple[int, int, bool, bool], a: Expr) -> tuple[Shape, DType]:
    k, dim = attr[:2]
    if a.dtype.is_complex:
        raise not_implemented("topk", a.dtype)
    if not a.shape:
        return (), int64
    if not 0 <= k <= a.shape[dim]:
        raise ShapeMismatchError(f"selected index k out of range: topk of {k} along dimension {dim} of shape "
                                 f"{list(a.shape)}")
    return (*a.shape[:dim], k, *a.shape[dim + 1:]), int64


def _topk_reference(attr: tuple[int, int, bool, bool], a: Any) -> Array:
    k, dim, largest, _ = attr
    array = np.asarray(a)
    if not array.ndim:
        return np.zeros((), np.int64)
    return np.ascontiguousarray(sorting_positions(array, dim, largest, k)).astype(np.int64)


# attr: (k, dimension, largest, sorted); always sorted
TOPK_INDICES: Final[Op] = Op("topk_indices", _topk_infer, _topk_reference, kind=HOST)
