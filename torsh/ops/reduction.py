"""Reductions over axes: sums, products, extremes, positions, statistics and norms.

attr = (axes, keepdim, ...) with sorted, non-negative axes; axes ``()`` reduce nothing.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from torsh.core.dtype import DType, bool_, from_numpy_dtype, get_default_dtype, int64
from torsh.core.errors import DTypeError, IndexOutOfRangeError
from torsh.core.promotion import not_implemented
from torsh.core.shape import reduced_shape
from torsh.ops.common import (
    absolute,
    add,
    cast,
    chain,
    div,
    eq,
    exp,
    expand,
    full,
    iota,
    log,
    mul,
    ne,
    permute,
    pow,
    reduce_sum,
    reshape,
    restore,
    sqrt,
    square,
    sub,
    unary,
    where,
    zeros_like,
)
from torsh.ops.define import Array, convert, is_half, wide
from torsh.ops.expr import HOST, REDUCTION, TABLE, Expr, Op, Shape, emit1

Axes = tuple[int, ...]


def group_size(shape: Shape, axes: Axes) -> int:
    """Number of elements that are reduced to one."""
    return math.prod([shape[a] for a in axes])


def spread(g: Expr, e: Expr) -> Expr:
    """A reduction's gradient (or result) in the shape of the reduction's argument."""
    a = e.args[0]
    return expand(restored(g, e), a.shape)


def restored(x: Expr, e: Expr) -> Expr:
    """A reduction's gradient or result with the reduced dimensions as dimensions of size 1."""
    axes, keepdim = e.attr[:2]  # type: ignore[index]
    return restore(x, axes, keepdim, len(e.args[0].shape))


def kept(e: Expr, name: str, x: Expr) -> Expr:
    """Reduce ``x`` over the axes of reduction ``e``, keeping dimensions."""
    return emit1(TABLE[name], x, (e.attr[0], True))  # type: ignore[index]


def dropped(e: Expr, x: Expr) -> Expr:
    """A result computed with kept dimensions, in the shape that reduction ``e`` has."""
    return cast(reshape(x, e.shape), e.dtype)


def array_reduction(function: Callable[..., Any], result: Callable[[DType], DType]) -> Callable[..., Array]:
    """A reference over NumPy: ``function(array, axes, keepdim)``, halves as float32."""
    def reference(attr: Any, a: Any) -> Array:
        axes, keepdim, *rest = attr
        dtype = from_numpy_dtype(np.asarray(a).dtype)
        array = convert(a, wide(dtype))
        with np.errstate(all="ignore"):
            return convert(function(array, tuple(axes), keepdim, *rest), result(dtype))
    return reference


def flattened(array: Array, axes: Axes) -> Array:
    """The array with the reduced axes as one last axis."""
    others = [axis for axis in range(array.ndim) if axis not in axes]
    moved = array.transpose(*others, *axes)
    return moved.reshape(*moved.shape[:len(others)], math.prod([array.shape[a] for a in axes]))


# ---- sums and products -------------------------------------------------------------------------------------------------

def summed_dtype(dtype: DType) -> DType:
    """Integers and bools are summed in int64."""
    return int64 if dtype.category < 2 else dtype


def _reduction_infer(name: str, result: Callable[[DType], DType]) -> Callable[..., tuple[Shape, DType]]:
    def infer(attr: Any, a: Expr) -> tuple[Shape, DType]:
        axes, keepdim = attr[:2]
        return reduced_shape(a.shape, axes, keepdim), result(a.dtype)
    return infer


SUM: Final[Op] = Op("sum", _reduction_infer("sum", summed_dtype),
                array_reduction(lambda a, axes, keepdim: np.sum(a, axes, summed_dtype(from_numpy_dtype(a.dtype)).numpy,
                                                                keepdims=keepdim), summed_dtype),
                gradient=lambda e, g: (spread(g, e),), kind=REDUCTION)
PROD: Final[Op] = Op("prod", _reduction_infer("prod", summed_dtype),
                 array_reduction(lambda a, axes, keepdim: np.prod(a, axes, summed_dtype(from_numpy_dtype(a.dtype)).numpy,
                                                                  keepdims=keepdim), summed_dtype),
                 gradient=lambda e, g: (chain(spread(g, e), emit1(PROD_OF_OTHERS, e.args[0], e.attr[0])),),
                 kind=REDUCTION)


def _prod_of_others_reference(attr: Axes, a: Any) -> Array:
    array = np.asarray(a)
    line = flattened(convert(array, wide(from_numpy_dtype(array.dtype))), attr)
    n = line.shape[-1]
    masked = np.where(np.eye(n, dtype=bool), np.ones((), line.dtype), line[..., None, :])
    others = [axis for axis in range(array.ndim) if axis not in attr]
    order = [*others, *attr]
    with np.errstate(all="ignore"):
        out = masked.prod(-1).reshape([array.shape[axis] for axis in order])
    return convert(np.transpose(out, np.argsort(order)) if order else out, from_numpy_dtype(array.dtype))


def _prod_of_others(e: Expr) -> Expr:
    a, attr = e.args[0], (e.attr, True)
    zero = eq(a, 0)
    product = emit1(PROD, where(zero, 1, a), attr)        # of the elements that are not zero
    zeros = emit1(SUM, cast(zero, int64), attr)
    at_zero = where(eq(zeros, 1), product, zeros_like(product))
    elsewhere = where(eq(zeros, 0), div(product, where(zero, 1, a)), zeros_like(a))
    return where(zero, at_zero, elsewhere)


def _prod_of_others_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    # d(prod of all but i) / d(x_j) = prod of all but i and j: the same function of matrices that have row i without x_i.
    a, axes = e.args[0], e.attr
    rank = len(a.shape)
    order = [axis for axis in range(rank) if axis not in axes] + list(axes)  # type: ignore[operator,call-overload]
    n = group_size(a.shape, axes)  # type: ignore[arg-type]
    lead = tuple([a.shape[axis] for axis in order[:rank - len(axes)]])  # type: ignore[arg-type]

    def line(x: Expr) -> Expr:
        return reshape(permute(x, order), (*lead, n))
    same = eq(iota((n, n), 0), iota((n, n), 1))
    rows = where(same, 1, reshape(line(a), (*lead, 1, n)))
    pairs = where(same, zeros_like(rows), emit1(PROD_OF_OTHERS, rows, (len(lead) + 1,)))
    total = reduce_sum(chain(reshape(line(g), (*lead, n, 1)), pairs), (len(lead),))
    back = reshape(total, tuple([a.shape[axis] for axis in order]))
    return (permute(back, sorted(range(rank), key=order.__getitem__)),)


# attr = axes: for every element, the product of the others in its group
PROD_OF_OTHERS: Final[Op] = Op("prod_of_others", lambda attr, a: (a.shape, a.dtype), _prod_of_others_reference,
                           gradient=_prod_of_others_gradient, decompose=_prod_of_others)


def _mean_infer(attr: Any, a: Expr) -> tuple[Shape, DType]:
    if a.dtype.category < 2:
        raise DTypeError("mean(): could not infer output dtype. Input dtype must be either a floating point or complex "
                         f"dtype. Got: {a.dtype.name}")
    return reduced_shape(a.shape, attr[0], attr[1]), a.dtype


def _mean(e: Expr) -> Expr:
    a = cast(e.args[0], wide(e.dtype))
    return cast(div(emit1(SUM, a, e.attr), group_size(a.shape, e.attr[0])), e.dtype)  # type: ignore[index]


def _mean_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    a = e.args[0]
    return (expand(restored(div(g, max(group_size(a.shape, e.attr[0]), 1)), e), a.shape),)  # type: ignore[index]


MEAN: Final[Op] = Op("mean", _mean_infer,
                 array_reduction(lambda a, axes, keepdim: np.sum(a, axes, keepdims=keepdim) / a.dtype.type(
                     group_size(a.shape, axes)), lambda d: d),
                 gradient=_mean_gradient, decompose=_mean)


def _nan_as_zero(a: Expr) -> Expr:
    return where(unary("isnan", a), 0, a)


NANSUM: Final[Op] = Op("nansum", _reduction_infer("nansum", summed_dtype),
                   array_reduction(lambda a, axes, keepdim: np.nansum(a, axes, summed_dtype(from_numpy_dtype(a.dtype)).numpy,
                                                                      keepdims=keepdim), summed_dtype),
                   decompose=lambda e: emit1(SUM, _nan_as_zero(e.args[0]), e.attr))


def _nanmean(e: Expr) -> Expr:
    a = cast(e.args[0], wide(e.dtype))
    numbers = cast(unary("logical_not", unary("isnan", a)), a.dtype)
    return cast(div(emit1(SUM, _nan_as_zero(a), e.attr), emit1(SUM, numbers, e.attr)), e.dtype)


def _numpy_nanmean(a: Array, axes: Axes, keepdim: bool) -> Any:
    return np.nansum(a, axes, keepdims=keepdim) / np.sum(~np.isnan(a), axes, keepdims=keepdim).astype(a.dtype)


NANMEAN: Final[Op] = Op("nanmean", _mean_infer, array_reduction(
    _numpy_nanmean, lambda d: d), decompose=_nanmean)
COUNT_NONZERO: Final[Op] = Op("count_nonzero", _reduction_infer("count_nonzero", lambda d: int64), array_reduction(
    lambda a, axes, keepdim: np.sum(a != 0, axes, np.int64, keepdims=keepdim), lambda d: int64),
    decompose=lambda e: emit1(SUM, cast(cast(e.args[0], bool_), int64), e.attr))


# ---- extremes ----------------------------------------------------------------------------------------------------------

def _extreme_infer(name: str, position: bool) -> Callable[..., tuple[Shape, DType]]:
    def infer(attr: Any, a: Expr) -> tuple[Shape, DType]:
        axes, keepdim = attr
        if a.dtype.is_complex or (position and a.dtype is bool_):
            raise not_implemented(name, a.dtype)
        for axis in axes:
            if a.shape[axis] == 0 and 0 not in reduced_shape(a.shape, axes, False):
                raise IndexOutOfRangeError(f"{name}(): Expected reduction dim {axis} to have non-zero size.")
        return reduced_shape(a.shape, axes, keepdim), int64 if position else a.dtype
    return infer


def _shared_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    # Equal extremes share the gradient equally.
    a = e.args[0]
    hit = cast(eq(a, restored(e, e)), g.dtype)
    return (mul(hit, div(restored(g, e), kept(e, "sum", hit))),)


def _extreme(name: str, function: Callable[..., Any]) -> Op:
    return Op(name, _extreme_infer(name, False),
              array_reduction(lambda a, axes, keepdim: function(a, axes, keepdims=keepdim) if axes else a, lambda d: d),
              gradient=_shared_gradient, kind=REDUCTION)


def _position(name: str, function: Callable[..., Any]) -> Op:
    def find(a: Array, axes: Axes, keepdim: bool) -> Array:
        shape = reduced_shape(a.shape, axes, keepdim)
        if 0 in shape:
            return np.empty(shape, np.int64)
        return function(flattened(a, axes), -1).reshape(shape)
    return Op(name, _extreme_infer(name, True), array_reduction(find, lambda d: int64), kind=REDUCTION)


AMAX: Final[Op] = _extreme("amax", np.max)
AMIN: Final[Op] = _extreme("amin", np.min)
ARGMAX: Final[Op] = _position("argmax", np.argmax)
ARGMIN: Final[Op] = _position("argmin", np.argmin)


def _truth(name: str, function: Callable[..., Any], extreme: Op) -> Op:
    def decompose(e: Expr) -> Expr:
        a = e.args[0]
        if group_size(a.shape, e.attr[0]) == 0:  # type: ignore[index]
            return full(e.shape, name == "all", bool_)
        return emit1(extreme, cast(a, bool_), e.attr)
    return Op(name, _reduction_infer(name, lambda d: bool_), array_reduction(
        lambda a, axes, keepdim: function(a.astype(bool), axes, keepdims=keepdim), lambda d: bool_), decompose=decompose)


ANY: Final[Op] = _truth("any", np.any, AMAX)
ALL: Final[Op] = _truth("all", np.all, AMIN)


# ---- variance ----------------------------------------------------------------------------------------------------------

def _var_infer(attr: Any, a: Expr) -> tuple[Shape, DType]:
    if a.dtype.category < 2:
        raise DTypeError(f"std and var only support floating point and complex dtypes, got {a.dtype.name}")
    return reduced_shape(a.shape, attr[0], attr[1]), a.dtype.to_real()


def _degrees(e: Expr) -> float:
    """Elements per group minus the correction, at least 0."""
    return max(0.0, float(group_size(e.args[0].shape, e.attr[0]) - e.attr[2]))  # type: ignore[index]


def _deviations(e: Expr) -> Expr:
    a = cast(e.args[0], wide(e.args[0].dtype))
    return sub(a, kept(e, "mean", a))


def _var(e: Expr) -> Expr:
    d = _deviations(e)
    squares = square(absolute(d)) if d.dtype.is_complex else square(d)
    return dropped(e, div(kept(e, "sum", squares), _degrees(e)))


def _var_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    a = e.args[0]
    degrees = _degrees(e)
    g = restored(cast(g, wide(g.dtype)), e)
    scale = mul(g, 2.0 / degrees) if degrees else mul(g, math.inf)
    return (cast(mul(scale, _deviations(e)), a.dtype),)


def _std_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    # A standard deviation of 0 gets gradient 0.
    share = where(eq(e, 0), zeros_like(g), div(g, mul(e, 2)))
    return _var_gradient(e, share)


def _numpy_var(a: Array, axes: Axes, keepdim: bool, correction: Any) -> Array:
    deviations = np.abs(a - a.mean(axes, keepdims=True)) if axes else np.abs(a - a)
    degrees = max(0.0, float(group_size(a.shape, axes) - correction))
    return (deviations ** 2).sum(axes, keepdims=keepdim) / deviations.dtype.type(degrees)


def _std(e: Expr) -> Expr:
    return cast(sqrt(emit1(VAR, cast(e.args[0], wide(e.args[0].dtype)), e.attr)), e.dtype)


# attr = (axes, keepdim, correction)
VAR: Final[Op] = Op("var", _var_infer, array_reduction(_numpy_var, lambda d: d.to_real()), gradient=_var_gradient,
                    decompose=_var)
STD: Final[Op] = Op("std", _var_infer, array_reduction(lambda *args: np.sqrt(_numpy_var(*args)), lambda d: d.to_real()),
                    gradient=_std_gradient, decompose=_std)


# ---- norms and logsumexp -----------------------------------------------------------------------------------------------

def _floating_infer(name: str) -> Callable[..., tuple[Shape, DType]]:
    def infer(attr: Any, a: Expr) -> tuple[Shape, DType]:
        if a.dtype.is_complex:
            raise not_implemented(name, a.dtype)
        dtype = a.dtype if a.dtype.category == 2 else get_default_dtype()
        return reduced_shape(a.shape, attr[0], attr[1]), dtype
    return infer


def _norm(e: Expr) -> Expr:
    a = cast(e.args[0], wide(e.dtype))
    p: float = e.attr[2]  # type: ignore[index]
    if p == 2:
        result = sqrt(kept(e, "sum", square(a)))
    elif p == 0:
        result = kept(e, "sum", cast(ne(a, 0), a.dtype))
    elif p == 1:
        result = kept(e, "sum", absolute(a))
    elif math.isinf(p):
        result = kept(e, "amax" if p > 0 else "amin", absolute(a))
    else:
        result = pow(kept(e, "sum", pow(absolute(a), p)), 1 / p)
    return dropped(e, result)


def _norm_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    p: float = e.attr[2]  # type: ignore[index]
    work = wide(e.dtype)
    a, n, g = cast(e.args[0], work), restored(cast(e, work), e), restored(cast(g, work), e)
    if p == 0:
        out = expand(zeros_like(g), a.shape)
    elif p == 1:
        out = mul(unary("sign", a), g)
    elif p == 2:
        out = mul(a, where(eq(n, 0), 0, div(g, n)))
    elif math.isinf(p):
        hit = cast(eq(absolute(a), n), work)
        out = mul(mul(unary("sign", a), hit), div(g, kept(e, "sum", hit)))
    elif p < 2:
        size = mul(unary("sign", a), pow(absolute(a), p - 1))
        out = mul(where(eq(a, 0), 0, size) if p < 1 else size, where(eq(n, 0), 0, mul(g, pow(n, 1 - p))))
    else:
        out = mul(mul(a, pow(absolute(a), p - 2)), where(eq(n, 0), 0, div(g, pow(n, p - 1))))
    return (cast(out, e.args[0].dtype),)


def _numpy_norm(a: Array, axes: Axes, keepdim: bool, p: float) -> Array:
    size = np.abs(a)
    if p == 0:
        return (size != 0).sum(axes, keepdims=keepdim).astype(a.dtype)
    if math.isinf(p):
        return (np.max if p > 0 else np.min)(size, axes, keepdims=keepdim) if axes else size
    if p == 2:
        return np.sqrt((size * size).sum(axes, keepdims=keepdim))
    return ((size ** a.dtype.type(p)).sum(axes, keepdims=keepdim)) ** a.dtype.type(1 / p)


# attr = (axes, keepdim, p)
NORM: Final[Op] = Op("norm", _floating_infer("norm"), array_reduction(_numpy_norm, lambda d: d), gradient=_norm_gradient,
                 decompose=_norm)


def _logsumexp(e: Expr) -> Expr:
    a = cast(e.args[0], wide(e.dtype))
    if group_size(a.shape, e.attr[0]) == 0:  # type: ignore[index]
        return full(e.shape, -math.inf, e.dtype)
    top = kept(e, "amax", a)
    top = where(eq(absolute(top), math.inf), 0, top)
    return dropped(e, add(log(kept(e, "sum", exp(sub(a, top)))), top))


def _logsumexp_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    a, work = e.args[0], wide(e.dtype)
    total = restored(cast(e, work), e)
    shares = exp(sub(cast(a, work), where(eq(total, -math.inf), 0, total)))
    return (cast(mul(restored(cast(g, work), e), shares), a.dtype),)


def _numpy_logsumexp(a: Array, axes: Axes, keepdim: bool) -> Array:
    if group_size(a.shape, axes) == 0:
        return np.full(reduced_shape(a.shape, axes, keepdim), -np.inf)
    a = a if a.dtype.kind == "f" else a.astype(get_default_dtype().numpy)
    top = np.max(a, axes, keepdims=True) if axes else a
    top = np.where(np.isinf(top), 0, top)
    out = np.log(np.exp(a - top).sum(axes, keepdims=True)) + top
    return out.reshape(reduced_shape(a.shape, axes, keepdim))


LOGSUMEXP: Final[Op] = Op("logsumexp", _floating_infer("logsumexp"), array_reduction(
    _numpy_logsumexp, lambda d: d if d.category == 2 else get_default_dtype()), gradient=_logsumexp_gradient,
    decompose=_logsumexp)


# ---- order statistics --------------------------------------------------------------------------------------------------

def _along(name: str, find: Callable[[Array, Any], Array], axis_of: Callable[[Any], int]) -> Op:
    """A host op that gives, keeping dimensions, a position along one axis. find: over rows in the last axis."""
    def infer(attr: Any, a: Expr) -> tuple[Shape, DType]:
        if a.dtype.is_complex:
            raise not_implemented(name, a.dtype)
        return (reduced_shape(a.shape, (axis_of(attr),), True) if a.shape else ()), int64

    def reference(attr: Any, a: Any) -> Array:
        array = np.asarray(a)
        if not array.ndim:
            return np.zeros((), np.int64)
        if is_half(from_numpy_dtype(array.dtype)):
            array = array.astype(np.float32)
        rows = np.moveaxis(array, axis_of(attr), -1)
        if 0 in rows.shape[:-1]:
            return np.empty(reduced_shape(array.shape, (axis_of(attr),), True), np.int64)
        found = find(rows, attr).astype(np.int64)
        return np.ascontiguousarray(np.moveaxis(found[..., None], -1, axis_of(attr)))
    return Op(name, infer, reference, kind=HOST)


def _median_rows(rows: Array, attr: tuple[int, bool]) -> Array:
    # NaN sorts last: the median of a row with NaN is its first NaN, unless NaN is ignored.
    order = np.argsort(rows, -1, kind="stable")
    nan = np.isnan(rows) if rows.dtype.kind == "f" else np.zeros(rows.shape, bool)
    numbers = rows.shape[-1] - nan.sum(-1)
    middle = np.maximum((numbers if attr[1] else rows.shape[-1] + 0 * numbers) - 1, 0) // 2
    if not attr[1]:
        middle = np.where(numbers < rows.shape[-1], numbers, middle)
    return np.take_along_axis(order, middle[..., None], -1)[..., 0]


def _mode_rows(rows: Array, attr: int) -> Array:
    # The smallest of the most frequent values, at its last position.
    flat = rows.reshape(-1, rows.shape[-1])
    out = np.empty(len(flat), np.int64)
    for i, row in enumerate(flat):
        values, counts = np.unique(row, return_counts=True)
        best = values[np.argmax(counts)]
        out[i] = np.flatnonzero(row == best)[-1] if best == best else np.flatnonzero(row != row)[-1]
    return out.reshape(rows.shape[:-1])


# attr = (axis, ignore NaN): position of the lower median
MEDIAN_INDEX: Final[Op] = _along("median_index", _median_rows, lambda attr: attr[0])
# attr = axis: position of the most frequent value
MODE_INDEX: Final[Op] = _along("mode_index", _mode_rows, lambda attr: attr)
# attr = (axis, k): position of the k-th smallest element, k from 1
KTHVALUE_INDEX: Final[Op] = _along(
    "kthvalue_index", lambda rows, attr: np.argsort(rows, -1, kind="stable")[..., attr[1] - 1], lambda attr: attr[0])
