"""Sliding windows over the last dimensions of a tensor: the common ground of convolution, pooling and unfold."""
from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any, Final

import numpy as np

from torsh.core.dtype import DType, from_numpy_dtype
from torsh.core.errors import ShapeMismatchError
from torsh.ops.common import (
    add,
    apply,
    cast,
    expand,
    full,
    number,
    permute,
    reduce_sum,
    reshape,
    slice_dim,
)
from torsh.ops.define import Array, convert, wide
from torsh.ops.expr import TABLE, Expr, Op, Shape, emit1, emit2

Sizes = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


def extent(kernel: int, dilation: int) -> int:
    """Elements that a window spans."""
    return dilation * (kernel - 1) + 1


def window_count(size: int, kernel: int, stride: int, dilation: int) -> int:
    """Windows that fit into ``size`` elements."""
    return max((size - extent(kernel, dilation)) // stride + 1, 0)


def window_counts(sizes: Sequence[int], kernel: Sizes, stride: Sizes, dilation: Sizes, padding: Pairs) -> Sizes:
    """Windows along each dimension after padding."""
    return tuple([window_count(n + a + b, k, s, d)
                  for n, k, s, d, (a, b) in zip(sizes, kernel, stride, dilation, padding, strict=True)])


def pad_spatial(x: Expr, padding: Pairs, value: Any = 0) -> Expr:
    """The last dimensions padded with a number (negative padding cuts off)."""
    if not any(any(pair) for pair in padding):
        return x
    lead = len(x.shape) - len(padding)
    return emit2(TABLE["constant_pad"], x, number(value, x.dtype), ((0, 0),) * lead + tuple(padding))


def window_view(x: Expr, kernel: Sizes, stride: Sizes, dilation: Sizes) -> Expr:
    """A view of shape (..., *counts, *kernel): the windows over the last dimensions."""
    lead = len(x.shape) - len(kernel)
    for i, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True)):
        x = apply("unfold", x, attr=(lead + i, extent(k, d), s))
        if d != 1:
            x = slice_dim(x, -1, 0, k, d)
    return x


def spaced(x: Expr, stride: Sizes) -> Expr:
    """``stride - 1`` zeros between the elements of the last dimensions."""
    if all(s == 1 for s in stride) or 0 in x.shape:
        return x
    lead = len(x.shape) - len(stride)
    sizes = [(n - 1) * s + 1 for n, s in zip(x.shape[lead:], stride, strict=True)]
    spec = (*[(0, n, 1) for n in x.shape[:lead]], *[(0, n, s) for n, s in zip(x.shape[lead:], stride, strict=True)])
    base = full((*x.shape[:lead], *sizes), 0, x.dtype)
    return emit2(TABLE["view_write"], base, x, (("slice", spec),))


def numpy_windows(a: Array, kernel: Sizes, stride: Sizes, dilation: Sizes, padding: Pairs, value: Any = 0) -> Array:
    """The windows of a padded (or cut) NumPy array, of shape (..., *counts, *kernel)."""
    lead = a.ndim - len(kernel)
    a = a[(..., *[slice(max(-x, 0), n + min(y, 0)) for n, (x, y) in zip(a.shape[lead:], padding, strict=True)])]
    kept = [(max(x, 0), max(y, 0)) for x, y in padding]
    padded = np.pad(a, ((0, 0),) * lead + tuple(kept), constant_values=value)
    counts = window_counts(padded.shape[lead:], kernel, stride, dilation, ((0, 0),) * len(kernel))
    steps = padded.strides
    strides = (*steps[:lead], *[v * s for v, s in zip(steps[lead:], stride, strict=True)],
               *[v * d for v, d in zip(steps[lead:], dilation, strict=True)])
    return np.lib.stride_tricks.as_strided(padded, (*a.shape[:lead], *counts, *kernel), strides, writeable=False)


def numpy_spaced(a: Array, stride: Sizes) -> Array:
    """``stride - 1`` zeros between the elements of the last dimensions of a NumPy array."""
    lead = a.ndim - len(stride)
    sizes = [max((n - 1) * s + 1, 0) for n, s in zip(a.shape[lead:], stride, strict=True)]
    out = np.zeros((*a.shape[:lead], *sizes), a.dtype)
    out[(..., *[slice(None, None, s) for s in stride])] = a
    return out


# ---- sums of windows ---------------------------------------------------------------------------------------------------

# attr of window_sum: (kernel, stride, padding pairs); of its adjoint: the same and the sizes of the argument of window_sum
SumAttr = tuple[Sizes, Sizes, Pairs]


def _sum_counts(attr: SumAttr, shape: Shape) -> tuple[Shape, Sizes]:
    kernel, stride, padding = attr
    lead = len(shape) - len(kernel)
    return shape[:lead], window_counts(shape[lead:], kernel, stride, (1,) * len(kernel), padding)


def _sum_infer(attr: SumAttr, x: Expr) -> tuple[Shape, DType]:
    lead, counts = _sum_counts(attr, x.shape)
    return (*lead, *counts), x.dtype


def _sum_reference(attr: SumAttr, x: Any) -> Array:
    kernel, stride, padding = attr
    dtype = from_numpy_dtype(np.asarray(x).dtype)
    windows = numpy_windows(convert(x, wide(dtype)), kernel, stride, (1,) * len(kernel), padding)
    return convert(windows.sum(tuple(range(-len(kernel), 0))), dtype)


def _sum_decompose(e: Expr) -> Expr:
    kernel, stride, padding = e.attr  # type: ignore[misc]
    x = cast(e.args[0], wide(e.dtype))
    if 0 in e.shape:
        return full(e.shape, 0, e.dtype)
    windows = window_view(pad_spatial(x, padding), kernel, stride, (1,) * len(kernel))
    return cast(reduce_sum(windows, tuple(range(-len(kernel), 0))), e.dtype)


def _adjoint_infer(attr: tuple[Any, ...], g: Expr) -> tuple[Shape, DType]:
    sizes: Sizes = attr[3]
    return (*g.shape[:len(g.shape) - len(sizes)], *sizes), g.dtype


def _adjoint_padding(attr: tuple[Any, ...], counts: Sizes) -> Pairs:
    """Padding of the spaced gradient with which stride-1 windows reach every element of the argument."""
    kernel, stride, padding, sizes = attr
    pairs = []
    for n, c, k, s, (before, _) in zip(sizes, counts, kernel, stride, padding, strict=True):
        first = k - 1 - before
        pairs.append((first, n + k - 1 - first - ((c - 1) * s + 1)))
    return tuple(pairs)


def _adjoint_reference(attr: tuple[Any, ...], g: Any) -> Array:
    kernel, stride, padding, sizes = attr
    array = np.asarray(g)
    dtype = from_numpy_dtype(array.dtype)
    lead = array.shape[:array.ndim - len(kernel)]
    padded = [n + a + b for n, (a, b) in zip(sizes, padding, strict=True)]
    total = np.zeros((*lead, *padded), wide(dtype).numpy)
    values = convert(array, wide(dtype))
    counts = array.shape[len(lead):]
    for offsets in product(*[range(k) for k in kernel]):
        where = tuple([slice(o, o + (c - 1) * s + 1 if c else 0, s)
                       for o, c, s in zip(offsets, counts, stride, strict=True)])
        total[(..., *where)] += values
    inside = tuple([slice(a, a + n) for n, (a, _) in zip(sizes, padding, strict=True)])
    return convert(total[(..., *inside)], dtype)


def _adjoint_decompose(e: Expr) -> Expr:
    kernel, stride, padding, sizes = e.attr  # type: ignore[misc]
    g = e.args[0]
    if 0 in g.shape:
        return full(e.shape, 0, e.dtype)
    lead = len(g.shape) - len(kernel)
    if kernel == stride and not any(any(p) for p in padding):
        return spread_tiles(g, kernel, sizes)
    g = cast(g, wide(e.dtype))
    g = pad_spatial(spaced(g, stride), _adjoint_padding(e.attr, g.shape[lead:]))  # type: ignore[arg-type]
    ones = (1,) * len(kernel)
    return cast(reduce_sum(window_view(g, kernel, ones, ones), tuple(range(-len(kernel), 0))), e.dtype)


def tile_shapes(g: Expr, kernel: Sizes) -> tuple[Shape, Shape, Shape]:
    """(g's shape with a 1 after each of the last dimensions, that with the kernel's sizes there, both merged)."""
    lead = len(g.shape) - len(kernel)
    counts = g.shape[lead:]
    narrow = (*g.shape[:lead], *[v for c in counts for v in (c, 1)])
    broad = (*g.shape[:lead], *[v for c, k in zip(counts, kernel, strict=True) for v in (c, k)])
    return narrow, broad, (*g.shape[:lead], *[c * k for c, k in zip(counts, kernel, strict=True)])


def spread_tiles(g: Expr, kernel: Sizes, sizes: Sizes) -> Expr:
    """Every element repeated over a tile of the kernel's sizes; zeros up to ``sizes``."""
    narrow, broad, merged = tile_shapes(g, kernel)
    return fit(reshape(expand(reshape(g, narrow), broad), merged), sizes)


def fit(x: Expr, sizes: Sizes) -> Expr:
    """The last dimensions cut, or filled with zeros, at their ends."""
    lead = len(x.shape) - len(sizes)
    return pad_spatial(x, tuple([(0, n - m) for n, m in zip(sizes, x.shape[lead:], strict=True)]))


def _sum_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    attr: SumAttr = e.attr  # type: ignore[assignment]
    sizes = e.args[0].shape[len(e.shape) - len(attr[0]):]
    return (emit1(WINDOW_SUM_ADJOINT, g, (*attr, sizes)),)


WINDOW_SUM: Final[Op] = Op("window_sum", _sum_infer, _sum_reference, gradient=_sum_gradient, decompose=_sum_decompose)
WINDOW_SUM_ADJOINT: Final[Op] = Op(
    "window_sum_adjoint", _adjoint_infer, _adjoint_reference,
    gradient=lambda e, g: (emit1(WINDOW_SUM, g, e.attr[:3]),), decompose=_adjoint_decompose)


def window_sum(x: Expr, kernel: Sizes, stride: Sizes, padding: Pairs) -> Expr:
    """Sums of the windows over the last dimensions, zeros beyond the edges."""
    return emit1(WINDOW_SUM, x, (tuple(kernel), tuple(stride), tuple(padding)))


# ---- windows as columns ------------------------------------------------------------------------------------------------

# attr of im2col: (kernel, stride, dilation, padding pairs); of col2im: the same and the sizes of im2col's argument
def _columns_infer(attr: tuple[Any, ...], x: Expr) -> tuple[Shape, DType]:
    kernel, stride, dilation, padding = attr
    n = len(kernel)
    counts = window_counts(x.shape[-n:], kernel, stride, dilation, padding)
    if 0 in counts:
        raise ShapeMismatchError(f"Given input with spatial size {list(x.shape[-n:])}, kernel_size={kernel}, "
                                 f"dilation={dilation}, padding={tuple(p[0] for p in padding)}, calculated shape of the "
                                 f"array of sliding blocks as {counts}, but its components must be at least one.")
    return (*x.shape[:-n], *kernel, *counts), x.dtype


def _columns_order(rank: int, n: int) -> tuple[int, ...]:
    """From (..., counts, kernel) to (..., kernel, counts)."""
    lead = rank - 2 * n
    return (*range(lead), *range(lead + n, rank), *range(lead, lead + n))


def _columns_reference(attr: tuple[Any, ...], x: Any) -> Array:
    windows = numpy_windows(np.asarray(x), *attr)
    return np.ascontiguousarray(windows.transpose(_columns_order(windows.ndim, len(attr[0]))))


def _columns_decompose(e: Expr) -> Expr:
    kernel, stride, dilation, padding = e.attr  # type: ignore[misc]
    windows = window_view(pad_spatial(e.args[0], padding), kernel, stride, dilation)
    return permute(windows, _columns_order(len(windows.shape), len(kernel)))


def _image_infer(attr: tuple[Any, ...], columns: Expr) -> tuple[Shape, DType]:
    kernel, stride, dilation, padding, sizes = attr
    n = len(kernel)
    counts = window_counts(sizes, kernel, stride, dilation, padding)
    if columns.shape[-n:] != counts or columns.shape[-2 * n:-n] != tuple(kernel):
        raise ShapeMismatchError(f"col2im: columns of shape {list(columns.shape)} do not fit output sizes {list(sizes)} "
                                 f"with kernel {list(kernel)}: expected [..., {[*kernel, *counts]}]")
    return (*columns.shape[:-2 * n], *sizes), columns.dtype


def _taps(attr: tuple[Any, ...]) -> list[tuple[Sizes, tuple[tuple[int, int, int], ...]]]:
    """For every element of the kernel: its position, and the slice of the padded image that its column lies on."""
    kernel, stride, dilation, padding, sizes = attr
    counts = window_counts(sizes, kernel, stride, dilation, padding)
    return [(tap, tuple([(t * d, c, s) for t, d, c, s in zip(tap, dilation, counts, stride, strict=True)]))
            for tap in product(*[range(k) for k in kernel])]


def _image_reference(attr: tuple[Any, ...], columns: Any) -> Array:
    kernel, _, _, padding, sizes = attr
    array = np.asarray(columns)
    n = len(kernel)
    dtype = from_numpy_dtype(array.dtype)
    padded = [m + a + b for m, (a, b) in zip(sizes, padding, strict=True)]
    total = np.zeros((*array.shape[:-2 * n], *padded), wide(dtype).numpy)
    values = convert(array, wide(dtype))
    for tap, spec in _taps(attr):
        place = tuple([slice(a, a + (c - 1) * s + 1, s) for a, c, s in spec])
        total[(..., *place)] += values[(..., *tap, *(slice(None),) * n)]
    inside = tuple([slice(a, a + m) for m, (a, _) in zip(sizes, padding, strict=True)])
    return convert(total[(..., *inside)], dtype)


def _image_decompose(e: Expr) -> Expr:
    kernel, _, _, padding, sizes = e.attr  # type: ignore[misc]
    columns = cast(e.args[0], wide(e.dtype))
    n = len(kernel)
    lead = columns.shape[:-2 * n]
    base = full((*lead, *[m + a + b for m, (a, b) in zip(sizes, padding, strict=True)]), 0, columns.dtype)
    total: Expr | None = None
    for tap, spec in _taps(e.attr):  # type: ignore[arg-type]
        value = columns
        for t in tap:
            value = apply("select", value, attr=(len(lead), t))
        place = (*[(0, m, 1) for m in lead], *spec)
        part = emit2(TABLE["view_write"], base, value, (("slice", place),))
        total = part if total is None else add(total, part)
    assert total is not None
    return cast(pad_spatial(total, tuple([(-a, -b) for a, b in padding])), e.dtype)


def _columns_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    attr: tuple[Any, ...] = e.attr  # type: ignore[assignment]
    return (emit1(COL2IM, g, (*attr, e.args[0].shape[-len(attr[0]):])),)


IM2COL: Final[Op] = Op(
    "im2col", _columns_infer, _columns_reference, decompose=_columns_decompose,
    gradient=_columns_gradient)
COL2IM: Final[Op] = Op("col2im", _image_infer, _image_reference, decompose=_image_decompose,
                       gradient=lambda e, g: (emit1(IM2COL, g, e.attr[:4]),))  # type: ignore[index]


def unfold_expr(x: Expr, kernel: Sizes, dilation: Sizes, padding: Sizes, stride: Sizes) -> Expr:
    """``torch.nn.functional.unfold``: (N, C, *sizes) -> (N, C * prod(kernel), windows)."""
    pairs = tuple([(p, p) for p in padding])
    columns = emit1(IM2COL, x, (tuple(kernel), tuple(stride), tuple(dilation), pairs))
    lead = x.shape[:len(x.shape) - len(kernel) - 1]
    return reshape(columns, (*lead, x.shape[len(lead)] * prod(kernel), prod(columns.shape[-len(kernel):])))


def fold_expr(x: Expr, sizes: Sizes, kernel: Sizes, dilation: Sizes, padding: Sizes, stride: Sizes) -> Expr:
    """``torch.nn.functional.fold``: (N, C * prod(kernel), windows) -> (N, C, *sizes), overlapping elements added."""
    pairs = tuple([(p, p) for p in padding])
    counts = window_counts(sizes, tuple(kernel), tuple(stride), tuple(dilation), pairs)
    if x.shape[-2] % prod(kernel):
        raise ShapeMismatchError(f"Expected size of input's dimension 1 to be divisible by the product of kernel_size, but "
                                 f"got input.size(1)={x.shape[-2]} and kernel_size={tuple(kernel)}.")
    if x.shape[-1] != prod(counts):
        text = " * ".join(str(c) for c in counts)
        raise ShapeMismatchError(f"Given output_size={tuple(sizes)}, kernel_size={tuple(kernel)}, "
                                 f"dilation={tuple(dilation)}, padding={tuple(padding)}, stride={tuple(stride)}, expected "
                                 f"size of input's dimension 2 to match the calculated number of sliding blocks {text} = "
                                 f"{prod(counts)}, but got input.size(2)={x.shape[-1]}.")
    columns = reshape(x, (*x.shape[:-2], x.shape[-2] // prod(kernel), *kernel, *counts))
    return emit1(COL2IM, columns, (tuple(kernel), tuple(stride), tuple(dilation), pairs, tuple(sizes)))
