"""Pooling over the last dimensions: maxima, averages and norms of windows, with fixed or adaptive windows."""
from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Final, NamedTuple

import numpy as np

from torsh.core.dtype import DType, bool_, from_numpy_dtype, int64
from torsh.core.errors import InvalidArgumentError, ShapeMismatchError
from torsh.core.promotion import not_implemented
from torsh.ops.common import (
    absolute,
    add,
    apply,
    both,
    cast,
    div,
    eq,
    expand,
    full,
    ge,
    iota,
    lt,
    maximum,
    minimum,
    mul,
    number,
    pow,
    reduce,
    reduce_amax,
    reduce_mean,
    reshape,
    sub,
    transpose,
    unary,
    where,
)
from torsh.ops.contraction import matmul
from torsh.ops.define import Array, convert, wide
from torsh.ops.expr import Expr, Op, Shape, emit1
from torsh.ops.indexing import gather, index, scatter
from torsh.ops.windows import (
    Pairs,
    Sizes,
    extent,
    fit,
    numpy_windows,
    pad_spatial,
    tile_shapes,
    window_sum,
    window_view,
)


class Windows(NamedTuple):
    """Attribute of pooling ops: one entry per pooled dimension (the last ones)."""

    kernel: Sizes
    stride: Sizes
    padding: Sizes
    dilation: Sizes
    ceil_mode: bool = False


# ---- shapes ------------------------------------------------------------------------------------------------------------

def pooled_size(n: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """Windows along a dimension; with ceil_mode also one that reaches beyond the end, if it starts inside."""
    room = n + 2 * padding - extent(kernel, dilation)
    count = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= n + padding:
        count -= 1
    return count


def _sizes(name: str, attr: Windows, shape: Shape) -> Sizes:
    """Pooled sizes; raises PyTorch's errors."""
    n = len(attr.kernel)
    if len(shape) < n:
        raise ShapeMismatchError(f"{name}: needs at least {n} dimensions, got shape {list(shape)}")
    for k, s, p, d in zip(attr.kernel, attr.stride, attr.padding, attr.dilation, strict=True):
        if k <= 0 or s <= 0 or d <= 0:
            what = "kernel size" if k <= 0 else "stride" if s <= 0 else "dilation"
            raise ShapeMismatchError(f"{what} should be greater than zero, but got kernel_size={list(attr.kernel)}, "
                                     f"stride={list(attr.stride)}, dilation={list(attr.dilation)}")
        if p < 0:
            raise ShapeMismatchError(f"pad must be non-negative, but got pad: {p}")
        if p > extent(k, d) // 2:
            raise ShapeMismatchError(f"pad should be at most half of effective kernel size, but got pad={p}, "
                                     f"kernel_size={k} and dilation={d}")
    sizes = shape[len(shape) - n:]
    out = tuple([pooled_size(m, k, s, p, d, attr.ceil_mode) for m, k, s, p, d in zip(
        sizes, attr.kernel, attr.stride, attr.padding, attr.dilation, strict=True)])
    if any(m <= 0 for m in out):
        raise ShapeMismatchError(f"Given input size: ({'x'.join(str(m) for m in shape[-n - 1:])}). Calculated output size: "
                                 f"({'x'.join(str(m) for m in (*shape[-n - 1:-n], *out))}). Output size is too small")
    return out


def _padding_to(attr: Windows, sizes: Sizes, counts: Sizes) -> Pairs:
    """Padding before, and as much behind as the windows need (none where they end before the end)."""
    pairs = []
    for n, c, k, s, p, d in zip(sizes, counts, attr.kernel, attr.stride, attr.padding, attr.dilation, strict=True):
        pairs.append((p, max((c - 1) * s + extent(k, d) - p - n, 0)))
    return tuple(pairs)


def lowest(dtype: DType) -> Any:
    """The smallest value of a dtype."""
    if dtype.category == 2:
        return float("-inf")
    return int(np.iinfo(dtype.numpy).min)


# ---- maxima ------------------------------------------------------------------------------------------------------------

def _max_infer(name: str, dtype: DType | None) -> Any:
    def infer(attr: Windows, x: Expr) -> tuple[Shape, DType]:
        if x.dtype.is_complex or x.dtype is bool_:
            raise not_implemented(name, x.dtype)
        counts = _sizes(name, attr, x.shape)
        return (*x.shape[:len(x.shape) - len(counts)], *counts), dtype or x.dtype
    return infer


def _all_windows(x: Expr, attr: Windows, counts: Sizes) -> Expr:
    """(..., *counts, *kernel), with the lowest value beyond the edges."""
    n = len(counts)
    padded = pad_spatial(x, _padding_to(attr, x.shape[-n:], counts), lowest(x.dtype))
    windows = window_view(padded, attr.kernel, attr.stride, attr.dilation)
    lead = len(x.shape) - n
    spec = (*[(0, m, 1) for m in windows.shape[:lead]], *[(0, c, 1) for c in counts],
            *[(0, k, 1) for k in attr.kernel])
    return windows if windows.shape[lead:lead + n] == counts else apply("slice", windows, attr=spec)


def _inner_axes(n: int) -> tuple[int, ...]:
    return tuple(range(-n, 0))


def _max_decompose(e: Expr) -> Expr:
    attr: Windows = e.attr  # type: ignore[assignment]
    n = len(attr.kernel)
    if 0 in e.shape:
        return full(e.shape, 0, e.dtype)
    return reduce_amax(_all_windows(e.args[0], attr, e.shape[-n:]), _inner_axes(n))


def _unravelled(position: Expr, sizes: Sizes) -> list[Expr]:
    """Indices along every dimension from a row-major position."""
    result: list[Expr] = []
    for i in range(len(sizes)):
        step = prod(sizes[i + 1:])
        part = position if step == 1 else apply("floor_divide", position, full((), step, int64))
        result.append(part if i == 0 else apply("remainder", part, full((), sizes[i], int64)))
    return result


def _max_index_decompose(e: Expr) -> Expr:
    attr: Windows = e.attr  # type: ignore[assignment]
    n = len(attr.kernel)
    if 0 in e.shape:
        return full(e.shape, 0, int64)
    x, counts = e.args[0], e.shape[-n:]
    inside = reduce("argmax", _all_windows(x, attr, counts), _inner_axes(n))
    total: Expr | None = None
    sizes = x.shape[-n:]
    for i, local in enumerate(_unravelled(inside, attr.kernel)):
        start = mul(reshape(iota((counts[i],), 0), (counts[i], *(1,) * (n - 1 - i))), attr.stride[i])
        # A window of nothing but the lowest value may have chosen a place beyond the edge: it is moved inside.
        place = add(mul(local, attr.dilation[i]), sub(start, attr.padding[i]))
        if attr.padding[i] or attr.ceil_mode:
            place = minimum(maximum(place, 0), sizes[i] - 1)
        part = mul(place, prod(sizes[i + 1:]))
        total = part if total is None else add(total, part)
    assert total is not None
    return expand(total, e.shape)


def _numpy_all_windows(attr: Windows, x: Any) -> tuple[Array, Sizes]:
    array = np.asarray(x)
    n = len(attr.kernel)
    counts = _sizes("max_pool", attr, array.shape)
    dtype = from_numpy_dtype(array.dtype)
    padding = _padding_to(attr, array.shape[-n:], counts)
    windows = numpy_windows(convert(array, wide(dtype)), attr.kernel, attr.stride, attr.dilation, padding, lowest(dtype))
    return windows[(..., *[slice(c) for c in counts], *(slice(None),) * n)], counts


def _max_reference(attr: Windows, x: Any) -> Array:
    windows, _ = _numpy_all_windows(attr, x)
    return convert(windows.max(_inner_axes(len(attr.kernel))), from_numpy_dtype(np.asarray(x).dtype))


def _max_index_reference(attr: Windows, x: Any) -> Array:
    windows, counts = _numpy_all_windows(attr, x)
    n = len(counts)
    sizes = np.shape(x)[-n:]
    flat = windows.reshape(*windows.shape[:-n], prod(attr.kernel))
    locals_ = np.unravel_index(flat.argmax(-1), attr.kernel) if flat.size else (np.zeros(flat.shape[:-1], np.int64),) * n
    total = np.zeros(flat.shape[:-1], np.int64)
    for i, local in enumerate(locals_):
        start = (np.arange(counts[i]) * attr.stride[i]).reshape(-1, *(1,) * (n - 1 - i))
        place = np.clip(local * attr.dilation[i] + start - attr.padding[i], 0, sizes[i] - 1)
        total += place * prod(sizes[i + 1:])
    return total


def _are_tiles(attr: Windows, sizes: Sizes, counts: Sizes) -> bool:
    """Do the windows lie side by side, inside of the argument?"""
    return (attr.kernel == attr.stride and not any(attr.padding) and all(d == 1 for d in attr.dilation)
            and all(c * k <= n for c, k, n in zip(counts, attr.kernel, sizes, strict=True)))


def _tile_gradient(e: Expr, g: Expr, x: Expr, attr: Windows) -> Expr:
    """Each window's gradient at its maximum, zeros elsewhere: no scattering, because windows do not overlap."""
    n, kernel = len(attr.kernel), attr.kernel
    counts = e.shape[-n:]
    narrow, broad, merged = tile_shapes(g, kernel)
    chosen = reduce("argmax", _all_windows(x, attr, counts), _inner_axes(n))
    place: Expr | None = None
    for i in range(n):
        # Dimensions after the leading ones alternate between counts and kernel.
        line = mul(reshape(iota((kernel[i],), 0), (kernel[i], *(1,) * (2 * (n - 1 - i)))), prod(kernel[i + 1:]))
        place = line if place is None else add(place, line)
    assert place is not None
    spread = where(eq(reshape(chosen, narrow), place), reshape(g, narrow), 0)
    return fit(reshape(expand(spread, broad), merged), x.shape[-n:])


def scattered_gradient(g: Expr, places: Expr, x: Expr, n: int) -> Expr:
    """Gradients added up at flat places of the last n dimensions of ``x``."""
    lead = x.shape[:len(x.shape) - n]
    base = full((*lead, prod(x.shape[-n:])), 0, g.dtype)
    count = prod(g.shape[-n:])
    total = scatter(base, reshape(places, (*lead, count)), reshape(g, (*lead, count)), len(lead), "add")
    return reshape(total, x.shape)


def _max_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    attr: Windows = e.attr  # type: ignore[assignment]
    x, n = e.args[0], len(attr.kernel)
    if 0 in e.shape:
        return (full(x.shape, 0, g.dtype),)
    if _are_tiles(attr, x.shape[-n:], e.shape[-n:]):
        return (_tile_gradient(e, g, x, attr),)
    return (scattered_gradient(g, emit1(MAX_POOL_INDEX, x, attr), x, n),)


# attr: Windows
MAX_POOL: Final[Op] = Op("max_pool", _max_infer("max_pool", None), _max_reference, gradient=_max_gradient,
                         decompose=_max_decompose)
# attr: Windows; int64 positions of the maxima in the flattened pooled dimensions
MAX_POOL_INDEX: Final[Op] = Op("max_pool_index", _max_infer("max_pool", int64), _max_index_reference,
                               decompose=_max_index_decompose)


def pooled_values(x: Expr, places: Expr, n: int) -> Expr:
    """The elements of ``x`` at flat places of its last n dimensions."""
    lead = x.shape[:len(x.shape) - n]
    flat = reshape(x, (*lead, prod(x.shape[-n:])))
    return reshape(gather(flat, reshape(places, (*lead, prod(places.shape[-n:]))), len(lead)), places.shape)


def max_unpool_expr(x: Expr, places: Expr, sizes: Sizes) -> Expr:
    """Values written to flat places of new last dimensions of these sizes, zeros elsewhere."""
    n = len(sizes)
    if x.shape != places.shape:
        raise ShapeMismatchError(f"max_unpool: expected shape of indices to be the same as that of the input, got "
                                 f"{list(places.shape)} and {list(x.shape)}")
    lead = x.shape[:len(x.shape) - n]
    flat = (*lead, prod(x.shape[-n:]))
    base = full((*lead, prod(sizes)), 0, x.dtype)
    return reshape(scatter(base, reshape(places, flat), reshape(x, flat), len(lead), "set"), (*lead, *sizes))


# ---- averages ----------------------------------------------------------------------------------------------------------

# attr of avg_pool: (Windows, count padding as elements, divisor or None)
AverageAttr = tuple[Windows, bool, int | None]


def _average_infer(attr: AverageAttr, x: Expr) -> tuple[Shape, DType]:
    if not x.dtype.is_floating_point and x.dtype is not int64:
        raise not_implemented("avg_pool", x.dtype)
    if attr[2] == 0:
        raise ShapeMismatchError("divisor must be not zero")
    counts = _sizes("avg_pool", attr[0], x.shape)
    return (*x.shape[:len(x.shape) - len(counts)], *counts), x.dtype


def _bounds(attr: Windows, n: int, count: int, axis: int, include: bool) -> tuple[Any, bool]:
    """(elements counted for every window along a dimension, are all windows full?)."""
    k, s, p = attr.kernel[axis], attr.stride[axis], attr.padding[axis]
    low, high = (-p, n + p) if include else (0, n)
    sizes = [min(i * s - p + k, n + p, high) - max(i * s - p, low) for i in range(count)]
    return sizes, all(m == k for m in sizes)


def _divisor(attr: AverageAttr, sizes: Sizes, counts: Sizes, dtype: DType) -> Expr | float:
    windows, include, override = attr
    if override is not None:
        return float(override)
    full_size = float(prod(windows.kernel))
    if all(_bounds(windows, n, c, i, include)[1] for i, (n, c) in enumerate(zip(sizes, counts, strict=True))):
        return full_size
    total: Expr | None = None
    for i, (n, c) in enumerate(zip(sizes, counts, strict=True)):
        k, s, p = windows.kernel[i], windows.stride[i], windows.padding[i]
        start = sub(mul(iota((c,), 0), s), p)
        stop = minimum(add(start, k), n + p if include else n)
        length = sub(stop, start if include else maximum(start, 0))
        part = reshape(length, (c, *(1,) * (len(counts) - 1 - i)))
        total = part if total is None else mul(total, part)
    assert total is not None
    return cast(total, dtype)


def _average_decompose(e: Expr) -> Expr:
    attr: AverageAttr = e.attr  # type: ignore[assignment]
    windows = attr[0]
    x = cast(e.args[0], wide(e.dtype))
    n = len(windows.kernel)
    sizes, counts = x.shape[-n:], e.shape[-n:]
    total = window_sum(x, windows.kernel, windows.stride, _padding_to(windows, sizes, counts))
    divisor = _divisor(attr, sizes, counts, x.dtype)
    if e.dtype.category == 1:
        return apply("trunc_divide", total, divisor if isinstance(divisor, Expr) else number(divisor, e.dtype))
    return cast(div(total, divisor), e.dtype)


def _average_reference(attr: AverageAttr, x: Any) -> Array:
    windows, include, override = attr
    array = np.asarray(x)
    dtype = from_numpy_dtype(array.dtype)
    n = len(windows.kernel)
    counts = _sizes("avg_pool", windows, array.shape)
    sizes = array.shape[-n:]
    parts = numpy_windows(convert(array, wide(dtype)), windows.kernel, windows.stride, windows.dilation,
                          _padding_to(windows, sizes, counts))
    parts = parts[(..., *[slice(c) for c in counts], *(slice(None),) * n)]
    divisor: Any = np.ones(counts)
    for i, (m, c) in enumerate(zip(sizes, counts, strict=True)):
        divisor = divisor * np.array(_bounds(windows, m, c, i, include)[0]).reshape(-1, *(1,) * (n - 1 - i))
    total = parts.sum(_inner_axes(n))
    if dtype.category == 1:
        return np.trunc(total / (override or divisor)).astype(np.int64)
    return convert(total / (override if override is not None else divisor).astype(total.dtype)
                   if override is None else total / total.dtype.type(override), dtype)


# attr: (Windows, count_include_pad, divisor_override); differentiated through window_sum
AVG_POOL: Final[Op] = Op("avg_pool", _average_infer, _average_reference, decompose=_average_decompose)


def avg_pool_expr(x: Expr, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], ceil_mode: bool = False,
                  count_include_pad: bool = True, divisor: int | None = None) -> Expr:
    """Averages of windows over the last ``len(kernel)`` dimensions."""
    windows = Windows(tuple(kernel), tuple(stride), tuple(padding), (1,) * len(kernel), bool(ceil_mode))
    return emit1(AVG_POOL, x, (windows, bool(count_include_pad), divisor))


def max_pool_expr(x: Expr, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
                  ceil_mode: bool = False) -> tuple[Expr, Expr]:
    """(maxima, their positions) of windows over the last ``len(kernel)`` dimensions."""
    attr = Windows(tuple(kernel), tuple(stride), tuple(padding), tuple(dilation), bool(ceil_mode))
    return emit1(MAX_POOL, x, attr), emit1(MAX_POOL_INDEX, x, attr)


def lp_pool_expr(x: Expr, p: float, kernel: Sequence[int], stride: Sequence[int], ceil_mode: bool = False) -> Expr:
    """``sum(x ** p) ** (1 / p)`` of windows, with PyTorch's treatment of negative sums."""
    mean = avg_pool_expr(pow(x, p), kernel, stride, (0,) * len(kernel), ceil_mode)
    positive = mul(unary("sign", mean), maximum(absolute(mean), 0))
    return pow(mul(positive, float(prod(kernel))), 1.0 / p)


# ---- adaptive windows --------------------------------------------------------------------------------------------------

def _adaptive_sizes(name: str, attr: Sizes, x: Expr) -> Sizes:
    n = len(attr)
    if len(x.shape) not in (n + 1, n + 2):
        raise ShapeMismatchError(f"{name}{n}d(): Expected {n + 1}D or {n + 2}D tensor, but got {list(x.shape)}")
    if any(m < 0 for m in attr):
        raise ShapeMismatchError(f"{name}{n}d: elements of output_size must be greater than or equal to 0 but received "
                                 f"{list(attr)}")
    if any(m == 0 for m in x.shape[-n:]):
        raise ShapeMismatchError(f"{name}{n}d(): Expected input to have non-zero size for non-batch dimensions, but input "
                                 f"has sizes {list(x.shape)}")
    return attr


def starts_and_stops(n: int, count: int) -> tuple[Expr, Expr]:
    """First element, and the one behind the last, of each of ``count`` adaptive windows over n elements."""
    i = iota((count,), 0)
    start = apply("floor_divide", mul(i, n), full((), count, int64))
    stop = apply("floor_divide", add(mul(add(i, 1), n), count - 1), full((), count, int64))
    return start, stop


def averaging_matrix(n: int, count: int, dtype: DType) -> Expr:
    """(n, count): weights with which n elements are averaged over adaptive windows."""
    start, stop = starts_and_stops(n, count)
    rows = iota((n, count), 0)
    inside = cast(both(ge(rows, start), lt(rows, stop)), dtype)
    return div(inside, cast(sub(stop, start), dtype))


def _adaptive_average_infer(attr: Sizes, x: Expr) -> tuple[Shape, DType]:
    sizes = _adaptive_sizes("adaptive_avg_pool", attr, x)
    if not x.dtype.is_floating_point:
        raise not_implemented("adaptive_avg_pool", x.dtype)
    return (*x.shape[:len(x.shape) - len(sizes)], *sizes), x.dtype


def _adaptive_average(e: Expr) -> Expr:
    counts: Sizes = e.attr  # type: ignore[assignment]
    n = len(counts)
    x = e.args[0]
    sizes = x.shape[-n:]
    if 0 in e.shape:
        return full(e.shape, 0, e.dtype)
    if all(c == 1 for c in counts):
        return reduce_mean(x, _inner_axes(n), True)
    if all(m % c == 0 for m, c in zip(sizes, counts, strict=True)):
        kernel = tuple([m // c for m, c in zip(sizes, counts, strict=True)])
        return avg_pool_expr(x, kernel, kernel, (0,) * n)
    x = cast(x, wide(e.dtype))
    for i, (m, c) in enumerate(zip(sizes, counts, strict=True)):
        if m != c:
            moved = transpose(x, i - n, -1)
            rows = matmul(reshape(moved, (prod(moved.shape[:-1]), m)), averaging_matrix(m, c, x.dtype))
            x = transpose(reshape(rows, (*moved.shape[:-1], c)), i - n, -1)
    return cast(x, e.dtype)


def _numpy_bounds(n: int, count: int) -> list[tuple[int, int]]:
    return [(i * n // count, -(-(i + 1) * n // count)) for i in range(count)]


def _adaptive_average_reference(attr: Sizes, x: Any) -> Array:
    dtype = from_numpy_dtype(np.asarray(x).dtype)
    a = convert(x, wide(dtype))
    for i, c in enumerate(attr):
        axis = a.ndim - len(attr) + i
        pieces = [a.take(range(b, s), axis).mean(axis, keepdims=True) for b, s in _numpy_bounds(a.shape[axis], c)]
        a = np.concatenate(pieces, axis) if pieces else a.take([], axis)
    return convert(a, dtype)


# attr: output sizes; differentiated through its decomposition
ADAPTIVE_AVG_POOL: Final[Op] = Op("adaptive_avg_pool", _adaptive_average_infer, _adaptive_average_reference,
                                  decompose=_adaptive_average)


def _adaptive_max_infer(dtype: DType | None) -> Any:
    def infer(attr: Sizes, x: Expr) -> tuple[Shape, DType]:
        sizes = _adaptive_sizes("adaptive_max_pool", attr, x)
        if x.dtype.is_complex or x.dtype is bool_:
            raise not_implemented("adaptive_max_pool", x.dtype)
        return (*x.shape[:len(x.shape) - len(sizes)], *sizes), dtype or x.dtype
    return infer


def _adaptive_positions(n: int, count: int) -> Expr:
    """(count, longest window): positions of the elements; shorter windows repeat their last one."""
    longest = max(s - b for b, s in _numpy_bounds(n, count))
    start, stop = starts_and_stops(n, count)
    inside = add(reshape(start, (count, 1)), iota((count, longest), 1))
    return minimum(inside, reshape(sub(stop, 1), (count, 1)))


def _adaptive_windows(x: Expr, counts: Sizes) -> Expr:
    """(..., count, window, count, window, ...): the windows of all pooled dimensions."""
    lead = len(x.shape) - len(counts)
    for i, c in enumerate(counts):
        axis = lead + 2 * i
        x = index(x, (_adaptive_positions(x.shape[axis], c),), (axis,))
    return x


def _adaptive_max(e: Expr) -> Expr:
    counts: Sizes = e.attr  # type: ignore[assignment]
    if 0 in e.shape:
        return full(e.shape, 0, e.dtype)
    n = len(counts)
    windows = _adaptive_windows(e.args[0], counts)
    return reduce_amax(windows, tuple(range(1 - 2 * n, 0, 2)))


def _adaptive_max_index(e: Expr) -> Expr:
    counts: Sizes = e.attr  # type: ignore[assignment]
    x, n = e.args[0], len(counts)
    if 0 in e.shape:
        return full(e.shape, 0, int64)
    windows = _adaptive_windows(x, counts)
    lengths = windows.shape[len(x.shape) - n + 1::2]
    chosen = reduce("argmax", windows, tuple(range(1 - 2 * n, 0, 2)))
    total: Expr | None = None
    for i, local in enumerate(_unravelled(chosen, lengths)):
        start, stop = starts_and_stops(x.shape[i - n], counts[i])
        shape = (counts[i], *(1,) * (n - 1 - i))
        place = minimum(add(reshape(start, shape), local), reshape(sub(stop, 1), shape))
        part = mul(place, prod(x.shape[len(x.shape) - n + i + 1:]))
        total = part if total is None else add(total, part)
    assert total is not None
    return expand(total, e.shape)


def _adaptive_max_index_reference(attr: Sizes, x: Any) -> Array:
    a = np.asarray(x)
    n = len(attr)
    out = np.zeros((*a.shape[:a.ndim - n], *attr), np.int64)
    sizes = a.shape[a.ndim - n:]
    bounds = [_numpy_bounds(m, c) for m, c in zip(sizes, attr, strict=True)]
    for cell in np.ndindex(*attr):
        window = [bounds[i][c] for i, c in enumerate(cell)]
        part = a[(..., *[slice(b, s) for b, s in window])]
        lengths = part.shape[part.ndim - n:]
        local = np.unravel_index(part.reshape(*part.shape[:part.ndim - n], -1).argmax(-1), lengths)
        places = [at + b for at, (b, _) in zip(local, window, strict=True)]
        out[(..., *cell)] = np.ravel_multi_index(places, sizes)
    return out


def _adaptive_max_reference(attr: Sizes, x: Any) -> Array:
    a = np.asarray(x)
    n = len(attr)
    places = _adaptive_max_index_reference(attr, a)
    lead = a.shape[:a.ndim - n]
    flat = np.take_along_axis(a.reshape(*lead, -1), places.reshape(*lead, -1), -1)
    return flat.reshape(places.shape)


def _adaptive_max_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    x = e.args[0]
    if 0 in e.shape:
        return (full(x.shape, 0, g.dtype),)
    return (scattered_gradient(g, emit1(ADAPTIVE_MAX_POOL_INDEX, x, e.attr), x, len(e.attr)),)  # type: ignore[arg-type]


# attr: output sizes
ADAPTIVE_MAX_POOL: Final[Op] = Op("adaptive_max_pool", _adaptive_max_infer(None), _adaptive_max_reference,
                                  gradient=_adaptive_max_gradient, decompose=_adaptive_max)
# attr: output sizes; int64 positions in the flattened pooled dimensions
ADAPTIVE_MAX_POOL_INDEX: Final[Op] = Op("adaptive_max_pool_index", _adaptive_max_infer(int64), _adaptive_max_index_reference,
                                        decompose=_adaptive_max_index)


def fractional_max_pool_expr(x: Expr, samples: Expr, kernel: Sizes, counts: Sizes) -> tuple[Expr, Expr]:
    """(maxima, positions) of windows at random places: ``samples`` (N, C, dimensions) in [0, 1) place them."""
    n = len(kernel)
    lead = x.shape[:len(x.shape) - n]
    if any(k + c - 1 > m for k, c, m in zip(kernel, counts, x.shape[-n:], strict=True)):
        raise InvalidArgumentError(f"fractional_max_pool{n}d(): pool size {list(kernel)} too large relative to input size "
                                   f"{list(x.shape[-n:])} and output size {list(counts)}")
    total: Expr | None = None
    for i, (k, c, m) in enumerate(zip(kernel, counts, x.shape[-n:], strict=True)):
        # One number per dimension; in two dimensions PyTorch takes the last dimension's first.
        u = reshape(apply("select", samples, attr=(len(samples.shape) - 1, n - 1 - i if n == 2 else i)), (*lead, *(1,) * (2 * n)))
        place = _fractional_positions(u, k, c, m, (*(1,) * i, c, *(1,) * (n - 1 - i)), (*(1,) * i, k, *(1,) * (n - 1 - i)))
        part = mul(place, prod(x.shape[len(x.shape) - n + i + 1:]))
        total = part if total is None else add(total, part)
    assert total is not None
    places = expand(total, (*lead, *counts, *kernel))
    values = reshape(pooled_values(x, reshape(places, (*lead, prod(places.shape[len(lead):]), *(1,) * (n - 1))), n),
                     places.shape)
    flat = (*lead, *counts, prod(kernel))
    best = reduce("argmax", reshape(values, flat), (-1,), True)
    chosen = reshape(gather(reshape(places, flat), best, len(flat) - 1), flat[:-1])
    return pooled_values(x, chosen, n), chosen


def _fractional_positions(u: Expr, k: int, count: int, size: int, outer: Sizes, inner: Sizes) -> Expr:
    cells = reshape(iota((count,), 0), (*outer, *(1,) * len(inner)))
    local = reshape(iota((k,), 0), inner)
    if count == 1:
        return add(add(cells, local), size - k)
    alpha = (size - k) / (count - 1)
    steps = cast(mul(add(cast(cells, u.dtype), u), alpha), int64)
    start = sub(steps, cast(mul(u, alpha), int64))
    return add(where(eq(cells, count - 1), size - k, start), local)
