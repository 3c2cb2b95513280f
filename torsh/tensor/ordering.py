"""Sorting, searching, cumulative functions and sets."""
from __future__ import annotations

from typing import Any

import numpy as np

from torsh.core.dtype import DType, int64
from torsh.core.errors import DTypeError, IndexOutOfRangeError, ShapeMismatchError, UnsupportedDTypeError
from torsh.core.shape import normalise_dim
from torsh.graph.handle import Handle, expr_of
from torsh.ops.expr import TABLE, Expr, constant, emit1, emit2
from torsh.tensor.function import function, tensor_operand
from torsh.tensor.positions import distinct
from torsh.tensor.reduction import ValuesIndices, cast, not_empty, picked
from torsh.tensor.tensor import Tensor, from_array


def along(e: Expr, dim: int) -> int:
    """The dimension, with 0-dimensional tensors treated as having one."""
    return normalise_dim(dim, max(len(e.shape), 1))


def sorted_pair(e: Expr, where: Expr, dim: int, name: str) -> Any:
    """(values, indices) from positions along a dimension."""
    values = emit2(TABLE["gather"], e, where, dim) if e.shape else e
    return ValuesIndices[name](Tensor(values), Tensor(where))


@function("sort", recall=True)
def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """(values, indices) sorted along a dimension; NaN counts as largest."""
    e = tensor_operand(input, "sort")
    if e.dtype.category == 3:
        raise DTypeError(f"Sort does not support complex dtypes on CPU ({e.dtype.name})")
    d = along(e, dim)
    if not e.shape:
        return ValuesIndices["sort"](input.clone(), Tensor(constant(0, int64)))
    return sorted_pair(e, emit1(TABLE["argsort"], e, (d, bool(descending), bool(stable))), d, "sort")


@function("argsort", out=False, recall=True)
def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """Positions that sort a dimension."""
    return sort(input, dim, descending, stable).indices  # type: ignore[no-any-return]


@function("msort", recall=True)
def msort(input: Tensor) -> Tensor:
    """Values sorted along the first dimension."""
    return sort(input, 0).values  # type: ignore[no-any-return]


@function("topk", recall=True)
def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """(values, indices) of the k largest (smallest) entries of a dimension."""
    e = tensor_operand(input, "topk")
    d = along(e, dim)
    if e.dtype.category == 3:
        raise DTypeError("topk does not support complex dtypes on CPU")
    if not 0 <= k <= (e.shape[d] if e.shape else 1):
        raise ShapeMismatchError("selected index k out of range")
    if not e.shape:
        return ValuesIndices["topk"](input.clone(), Tensor(constant(0, int64)))
    return sorted_pair(e, emit1(TABLE["topk_indices"], e, (int(k), d, bool(largest), bool(sorted))), d, "topk")


@function("kthvalue", recall=True)
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """(values, indices) of the k-th smallest entries of a dimension."""
    e = tensor_operand(input, "kthvalue")
    d = along(e, dim)
    if e.dtype.category in (0, 3):
        raise UnsupportedDTypeError(f'"kthvalue_cpu" not implemented for \'{e.dtype.name}\'')
    n = e.shape[d] if e.shape else 1
    if not 1 <= k <= n:
        raise ShapeMismatchError(f"kthvalue(): selected number k out of range for dimension {d}")
    if not e.shape:
        return ValuesIndices["kthvalue"](input.clone(), Tensor(constant(0, int64)))
    order = emit1(TABLE["argsort"], e, (d, False, True))
    spec = tuple((k - 1, 1, 1) if i == d else (0, m, 1) for i, m in enumerate(order.shape))
    return ValuesIndices["kthvalue"](*picked(e, emit1(TABLE["slice"], order, spec), (d,), keepdim))


@function("mode", recall=True)
def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> Any:
    """(values, indices) of the most frequent entries of a dimension (the smallest of equally frequent ones)."""
    e = tensor_operand(input, "mode")
    d = along(e, dim)
    if not e.shape:
        return ValuesIndices["mode"](input.clone(), Tensor(constant(0, int64)))
    not_empty(e, (d,), "mode", dim)
    return ValuesIndices["mode"](*picked(e, emit1(TABLE["mode_index"], e, d), (d,), keepdim))


def _cumulative(name: str) -> None:
    def fn(input: Tensor, dim: int, *, dtype: DType | None = None) -> Tensor:
        e = tensor_operand(input, name)
        d = along(e, dim)
        if dtype is not None:
            e = cast(e, dtype)
        elif e.dtype.category < 2:
            e = cast(e, int64)
        return Tensor(emit1(TABLE[name], e, d) if e.shape else e)
    fn.__name__ = name
    fn.__doc__ = f"Cumulative {'sum' if name == 'cumsum' else 'product'} along a dimension; integers in int64."
    function(name, inplace=True)(fn)


_cumulative("cumsum")
_cumulative("cumprod")


def _running(name: str) -> None:
    def fn(input: Tensor, dim: int) -> Any:
        e = tensor_operand(input, name)
        d = along(e, dim)
        if not e.shape:
            return ValuesIndices[name](input.clone(), Tensor(constant(0, int64)))
        return sorted_pair(e, emit1(TABLE[name + "_index"], e, d), d, name)
    fn.__name__ = name
    fn.__doc__ = f"(values, indices) of the running {name[3:]}imum along a dimension."
    function(name)(fn)


_running("cummax")
_running("cummin")


@function("logcumsumexp")
def logcumsumexp(input: Tensor, dim: int) -> Tensor:
    """``log(cumsum(exp(input)))`` without overflow."""
    e = tensor_operand(input, "logcumsumexp")
    if e.dtype.category < 2:
        raise UnsupportedDTypeError(f'"logcumsumexp_out_cpu" not implemented for \'{e.dtype.name}\'')
    return Tensor(emit1(TABLE["logcumsumexp"], e, along(e, dim)) if e.shape else e)


@function("diff")
def diff(input: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None, append: Tensor | None = None) -> Tensor:
    """Differences of neighbouring entries of a dimension, n times."""
    from torsh.tensor.function import NAMESPACES
    if not input.ndim:
        raise ShapeMismatchError("diff expects input to be at least one-dimensional")
    d = normalise_dim(dim, input.ndim)
    if n < 0:
        raise ShapeMismatchError(f"order must be non-negative but got {n}")
    parts = [t for t in (prepend, input, append) if t is not None] if n else [input]
    x = NAMESPACES[""]["cat"](parts, d) if len(parts) > 1 else input
    for _ in range(min(n, x.shape[d])):
        length = x.shape[d]
        a, b = x.narrow(d, 1, length - 1), x.narrow(d, 0, length - 1)
        x = a ^ b if x.dtype.category == 0 else a - b
    return x.clone() if x is input else x  # type: ignore[no-any-return]


@function("searchsorted", method=False)
def searchsorted(sorted_sequence: Tensor, input: Any, *, out_int32: bool = False, right: bool = False,
                 side: str | None = None, sorter: Tensor | None = None) -> Tensor:
    """Positions where values would be inserted in sorted rows."""
    from torsh.tensor.creation import as_tensor
    values = as_tensor(input, dtype=sorted_sequence.dtype) if not isinstance(input, Handle) else input
    after = right or side == "right"
    if side is not None and side not in ("left", "right"):
        raise ShapeMismatchError(f"side can only be 'left' or 'right' but got {side}")
    s, v = sortable(sorted_sequence), sortable(values)  # type: ignore[arg-type]
    if s.ndim != 1 and s.shape[:-1] != v.shape[:-1]:
        raise ShapeMismatchError("boundaries tensor should be 1 dimension or the first N-1 dimensions of boundaries tensor and "
                                 f"input value tensor must match, but we got boundaries tensor {list(s.shape)} and input value "
                                 f"tensor {list(v.shape)}")
    if sorter is not None:
        s = np.take_along_axis(s, sorter.detach()._ndarray(), -1)
    mode: Any = "right" if after else "left"
    if s.ndim == 1:
        found: Any = np.searchsorted(s, v, mode)  # type: ignore[call-overload]
    else:
        count = int(np.prod(s.shape[:-1]))
        rows, cells = s.reshape(count, s.shape[-1]), v.reshape(count, v.shape[-1])
        found = np.stack([np.searchsorted(a, b, mode) for a, b in zip(rows, cells, strict=True)]).reshape(v.shape) \
            if len(rows) else np.zeros(v.shape)
    kind = np.int32 if out_int32 else np.int64
    from torsh.core.dtype import int32
    return from_array(np.asarray(found).astype(kind), int32 if out_int32 else int64)


@function("bucketize", method=False)
def bucketize(input: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """The bucket between sorted boundaries that each value falls in."""
    if boundaries.ndim != 1:
        raise ShapeMismatchError(f"boundaries tensor must be 1 dimension, but got dim({boundaries.ndim})")
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)  # type: ignore[no-any-return]


def sortable(t: Tensor) -> Any:
    """The elements as NumPy can sort them: it does not know where a bfloat16 NaN belongs."""
    array = t.detach()._ndarray()
    return array.astype(np.float32) if t.dtype.name == "bfloat16" else array


@function("unique", out=False)
def unique(input: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False,
           dim: int | None = None) -> Any:
    """The distinct elements (or slices of a dimension), sorted; optionally with inverse positions and counts."""
    array = sortable(input)
    if dim is None and not return_inverse:
        values, counts = distinct(array)
    else:
        values, inverse, counts = np.unique(array, return_inverse=True, return_counts=True, axis=dim, equal_nan=False)
    out = [from_array(values.astype(input.dtype.numpy, copy=False), input.dtype)]
    if dim is not None or return_inverse:
        if return_inverse:
            out.append(from_array(inverse.astype(np.int64, copy=False).reshape(array.shape if dim is None else -1), int64))
    if return_counts:
        out.append(from_array(counts.astype(np.int64, copy=False), int64))
    return out[0] if len(out) == 1 else tuple(out)


@function("unique_consecutive", out=False)
def unique_consecutive(input: Tensor, return_inverse: bool = False, return_counts: bool = False,
                       dim: int | None = None) -> Any:
    """The first element of each run of equal elements (or slices)."""
    array = input.detach()._ndarray()
    flat = array.reshape(-1) if dim is None else np.moveaxis(array, dim, 0)
    n = len(flat)
    if n:
        change = (flat[1:] != flat[:-1]).reshape(n - 1, flat[0].size).any(1)
        starts = np.concatenate([[True], change])
    else:
        starts = np.zeros(0, bool)
    first = np.flatnonzero(starts)
    values = flat[first]
    out = [from_array(values if dim is None else np.moveaxis(values, 0, dim), input.dtype)]
    if return_inverse:
        inverse = np.cumsum(starts) - 1
        out.append(from_array((inverse.reshape(array.shape) if dim is None else inverse).astype(np.int64), int64))
    if return_counts:
        out.append(from_array(np.diff(np.append(first, n)).astype(np.int64), int64))
    return out[0] if len(out) == 1 else tuple(out)


@function("bincount", out=False)
def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each non-negative integer occurs (or the sum of its weights)."""
    from torsh.core.dtype import float64
    if input.ndim != 1 or input.dtype.category != 1:
        raise ShapeMismatchError("bincount only supports 1-d non-negative integral inputs.")
    if minlength < 0:
        raise ShapeMismatchError("minlength should be >= 0")
    array = input.detach()._ndarray()
    if weights is not None and weights.shape != input.shape:
        raise ShapeMismatchError("weights should be 1-d and have the same length as input")
    try:
        counts = np.bincount(array, None if weights is None else weights.detach()._ndarray(), minlength)
    except ValueError:                          # NumPy looks for negative numbers anyway
        raise ShapeMismatchError("bincount only supports 1-d non-negative integral inputs.") from None
    if weights is None:
        return from_array(counts.astype(np.int64, copy=False), int64)
    kind = weights.dtype if weights.dtype.name == "float32" else float64
    return from_array(counts.astype(kind.numpy), kind)


@function("quantile")
def quantile(input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear") -> Tensor:
    """Quantiles along a dimension (of all elements by default)."""
    return _quantile(input, q, dim, keepdim, interpolation, False)


@function("nanquantile")
def nanquantile(input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *,
                interpolation: str = "linear") -> Tensor:
    """Quantiles that ignore NaN."""
    return _quantile(input, q, dim, keepdim, interpolation, True)


def _quantile(input: Tensor, q: Any, dim: int | None, keepdim: bool, interpolation: str, ignore_nan: bool) -> Tensor:
    from torsh.tensor.creation import as_tensor
    if input.dtype.name not in ("float32", "float64"):
        raise DTypeError("quantile() input tensor must be either float or double dtype")
    points = as_tensor(q, dtype=input.dtype) if not isinstance(q, Handle) else q
    if points.ndim > 1:  # type: ignore[attr-defined]
        raise ShapeMismatchError("quantile() q must be a scalar or 1D tensor")
    if interpolation not in ("linear", "lower", "higher", "midpoint", "nearest"):
        raise ShapeMismatchError("quantile() interpolation must be one of linear, lower, higher, midpoint or nearest, but got "
                                 f"{interpolation}")
    if not input.numel():
        raise ShapeMismatchError("quantile() input tensor must be non-empty")
    if not isinstance(q, Handle) and not 0 <= q <= 1:
        raise ShapeMismatchError(f"quantile() q must be in the range [0, 1] but got {q}")
    n_dim = input.ndim
    d = 0 if dim is None else normalise_dim(dim, n_dim)
    x = input.reshape(-1) if dim is None or not n_dim else input.movedim(d, 0)
    ordered = sort(x, 0).values
    n = x.shape[0]
    spots = points.reshape(-1, *([1] * (x.ndim - 1)))  # type: ignore[attr-defined]
    if ignore_nan:
        rank = spots * ((~x.isnan()).sum(0, keepdim=True).to(x.dtype) - 1)
        rank = rank.clamp(min=0)
    else:
        rank = spots * (n - 1)
        rank = rank.where(~x.isnan().any(0, keepdim=True), Tensor(constant(float(n - 1), x.dtype)))
    rank = rank.expand(points.numel(), *x.shape[1:])  # type: ignore[attr-defined]
    if interpolation == "nearest":
        rank = rank.round()
    low, high = rank.floor(), rank.ceil()
    if interpolation == "lower":
        high = low
    elif interpolation == "higher":
        low = high
    a, b = ordered.gather(0, low.to(int64)), ordered.gather(0, high.to(int64))
    weight = 0.5 if interpolation == "midpoint" else rank - low
    out = a if interpolation in ("lower", "higher", "nearest") else a.lerp(b, weight) if isinstance(weight, Handle) else \
        (a + b) / 2
    if keepdim:
        shape = [1] * n_dim if dim is None else [1 if i == d else m for i, m in enumerate(input.shape)]
        out = out.reshape(points.numel(), *shape)  # type: ignore[attr-defined]
    return out if points.ndim else out.squeeze(0)  # type: ignore[no-any-return, attr-defined]


@function("trapezoid", method=False, out=False, aliases=("trapz",))
def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: float | None = None, dim: int = -1) -> Tensor:
    """Integral along a dimension by the trapezoidal rule."""
    return _segments(y, x, dx, dim, "trapezoid").sum(dim)  # type: ignore[no-any-return]


@function("cumulative_trapezoid", method=False, out=False)
def cumulative_trapezoid(y: Tensor, x: Tensor | None = None, *, dx: float | None = None, dim: int = -1) -> Tensor:
    """Running integral along a dimension by the trapezoidal rule."""
    return _segments(y, x, dx, dim, "cumulative_trapezoid").cumsum(dim)  # type: ignore[no-any-return]


def _segments(y: Tensor, x: Tensor | None, dx: float | None, dim: int, name: str) -> Tensor:
    d = normalise_dim(dim, y.ndim)
    if y.dtype.category == 0 or (x is not None and x.dtype.category == 0):
        raise DTypeError(f"{name}: received a bool input for `y`, but bool is not supported")
    n = y.shape[d]
    mean = (y.narrow(d, 0, n - 1) + y.narrow(d, 1, n - 1)) / 2 if n else y
    if x is None:
        return mean * (1 if dx is None else dx)  # type: ignore[no-any-return]
    if x.ndim == 1:
        if x.shape[0] != n:
            raise ShapeMismatchError(f"{name}: There must be one `x` value for each sample point")
        step = diff(x).reshape([-1 if i == d else 1 for i in range(y.ndim)])
    else:
        step = diff(x, dim=d - y.ndim)
    return mean * step  # type: ignore[no-any-return]


__all__ = ["IndexOutOfRangeError", "expr_of"]
