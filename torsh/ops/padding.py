"""Padding with elements of the tensor itself: reflected, repeated from the edge, or taken from the other end.

What is added is a view of the tensor, so padding is a join of views, and copied in runs.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from torsh.core.dtype import DType, int64
from torsh.core.errors import ShapeMismatchError
from torsh.ops.common import (
    absolute,
    add,
    apply,
    expand,
    full,
    iota,
    maximum,
    minimum,
    number,
    reduce_sum,
    slice_dim,
    sub,
)
from torsh.ops.expr import Expr, Op, Shape, emit, emit1
from torsh.ops.indexing import index, index_put
from torsh.ops.scan_sort import reverse
from torsh.ops.shape import CAT, Padding, view_write

Span = tuple[int, int]          # (start, length)


def _added(n: int, before: int, after: int, mode: str) -> tuple[Span | None, Span | None]:
    """The elements of a dimension that are repeated before and behind it."""
    if mode == "replicate":
        return (0, 1) if before > 0 else None, (n - 1, 1) if after > 0 else None
    if mode == "circular":
        return (n - before, before) if before > 0 else None, (0, after) if after > 0 else None
    return (1, before) if before > 0 else None, (n - 1 - after, after) if after > 0 else None


def _kept(n: int, before: int, after: int) -> Span:
    """What negative padding leaves."""
    return max(-before, 0), n + min(before, 0) + min(after, 0)


def _source_positions(n: int, before: int, after: int, mode: str) -> Expr:
    """For every position after padding, the element that it copies."""
    i = sub(iota((before + n + after,), 0), before)
    if mode == "replicate":
        return minimum(maximum(i, 0), n - 1)
    if mode == "circular":
        return apply("remainder", i, full((), n, int64))
    return sub(n - 1, absolute(sub(n - 1, absolute(i))))


def _copies(e: Expr, axis: int, span: Span, count: int, mode: str) -> Expr:
    """What ``count`` added positions hold."""
    part = slice_dim(e, axis, *span)
    if mode == "replicate":
        return expand(part, (*e.shape[:axis], count, *e.shape[axis + 1:]))
    return reverse(part, axis) if mode == "reflect" else part


def _padded(e: Expr, axis: int, padding: Padding, mode: str) -> Expr:
    """The dimensions from ``axis`` on padded: a join of joins, none of which is stored apart from the whole."""
    if not padding:
        return e
    (before, after), rest = padding[0], padding[1:]
    n = e.shape[axis]
    if not before and not after:
        return _padded(e, axis + 1, rest, mode)
    start, length = _kept(n, before, after)
    if length < 0:                          # more is cut off than there is: the rest is part of what is added
        return _padded(index(e, (_source_positions(n, before, after, mode),), (axis,)), axis + 1, rest, mode)
    first, last = _added(n, before, after, mode)
    pieces = [None if first is None else _copies(e, axis, first, before, mode),
              slice_dim(e, axis, start, length) if length else None,
              None if last is None else _copies(e, axis, last, after, mode)]
    parts = [_padded(p, axis + 1, rest, mode) for p in pieces if p is not None]
    return parts[0] if len(parts) == 1 else emit(CAT, tuple(parts), axis)


def _folded(g: Expr, axis: int, n: int, before: int, after: int, mode: str) -> Expr:
    """The gradient of one padded dimension: what was added flows back to where it came from."""
    if _kept(n, before, after)[1] < 0:
        zeros = full((*g.shape[:axis], n, *g.shape[axis + 1:]), 0, g.dtype)
        return index_put(zeros, g, (_source_positions(n, before, after, mode),), (axis,), True)
    none = ((0, 0),) * axis
    inverse = (*none, (-before, -after), *((0, 0),) * (len(g.shape) - axis - 1))
    inner = total = apply("constant_pad", g, number(0, g.dtype), attr=inverse)
    first, last = _added(n, before, after, mode)
    overlap = first is not None and last is not None and first[0] < last[0] + last[1] and last[0] < first[0] + first[1]
    size = g.shape[axis]
    for span, place in ((first, (0, before)), (last, (size - after, after))):
        if span is not None:
            part = slice_dim(g, axis, *place)
            part = reduce_sum(part, (axis,), True) if mode == "replicate" else reverse(part, axis) if mode == "reflect" else part
            chain: Any = (("slice", tuple([(*span, 1) if d == axis else (0, m, 1) for d, m in enumerate(total.shape)])),)
            # Where the two meet, the second one adds to what the first one made; else both read what is there anyway.
            total = view_write(total, add(slice_dim(total if overlap else inner, axis, *span), part), chain)
    return total


def _infer(attr: tuple[Padding, str], e: Expr) -> tuple[Shape, DType]:
    lead = len(e.shape) - len(attr[0])
    return (*e.shape[:lead], *[n + before + after for n, (before, after) in zip(e.shape[lead:], attr[0], strict=True)]), e.dtype


def _gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    padding, mode = e.attr  # type: ignore[misc]
    x = e.args[0]
    lead = len(x.shape) - len(padding)
    for axis, (before, after) in enumerate(padding, lead):
        if before or after:
            g = _folded(g, axis, x.shape[axis], before, after, mode)
    return (g,)


# attr: (((before, after), ...) of the last dimensions, mode)
PAD_BY_COPIES: Final[Op] = Op(
    "pad_by_copies", _infer, None, gradient=_gradient,
    decompose=lambda e: _padded(e.args[0], len(e.shape) - len(e.attr[0]), *e.attr))  # type: ignore[misc,index,arg-type]


def pad_by_copies(e: Expr, padding: Sequence[tuple[int, int]], mode: str) -> Expr:
    """The last dimensions padded with elements of their own; mode: "reflect", "replicate" or "circular".

    padding: (before, after) per dimension, negative ones cut off.
    """
    lead = len(e.shape) - len(padding)
    for axis, (before, after) in enumerate(padding, lead):
        n = e.shape[axis]
        limit = {"reflect": n - 1, "circular": n}.get(mode)
        if limit is not None and max(before, after) > limit:
            what = "Padding size should be less than the corresponding input dimension" if mode == "reflect" else \
                "Padding value causes wrapping around more than once"
            raise ShapeMismatchError(f"{what}, but got: padding ({before}, {after}) at dimension {axis} of input "
                                     f"{list(e.shape)}")
        if n == 0:
            raise ShapeMismatchError(f"pad: dimension {axis} of input {list(e.shape)} is empty and has nothing to copy")
    if not any(before or after for before, after in padding):
        return e
    return emit1(PAD_BY_COPIES, e, (tuple(padding), mode))
