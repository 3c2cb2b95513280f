"""Bags of embeddings: rows of a weight, reduced over runs of positions."""
from __future__ import annotations

from typing import Any, Final

import numpy as np

from torsh.core.dtype import DType, from_numpy_dtype, int64
from torsh.core.errors import IndexOutOfRangeError
from torsh.ops.common import (
    apply,
    cast,
    div,
    eq,
    expand,
    full,
    iota,
    maximum,
    mul,
    ne,
    reduce_amax,
    reduce_sum,
    reshape,
    slice_dim,
    sub,
    unsqueeze,
    where,
)
from torsh.ops.define import Array, convert, wide
from torsh.ops.expr import OPAQUE, Expr, Op, Shape, emit
from torsh.ops.indexing import embedding_expr, index, index_put, scatter, weight_gradient
from torsh.ops.scan_sort import cumsum

Attr = tuple[int | None, bool]


def embedding_bag_expr(weight: Expr, positions: Expr, starts: Expr | None, each: Expr | None, mode: str,
                       padding: int | None = None, by_frequency: bool = False) -> Expr:
    """The rows of each bag reduced (``"sum"``, ``"mean"`` or ``"max"``); empty bags give zeros.

    positions: (bags, length), or (n,) with ``starts``, the first place of every bag. each: a factor per row. Positions that are
    ``padding`` do not count.
    """
    if starts is None:
        if mode == "max":
            return _largest_of_rows(weight, positions, padding, by_frequency)
        count, length = positions.shape
        starts, positions = mul(iota((count,), 0), length), reshape(positions, (count * length,))
        each = None if each is None else reshape(each, (count * length,))
    if mode == "max":
        rows = embedding_expr(weight, positions, padding, by_frequency)
        rows = rows if padding is None else where(unsqueeze(ne(positions, padding), -1), rows, float("-inf"))
        base = full((starts.shape[0], rows.shape[1]), float("-inf"), rows.dtype)
        bags = expand(unsqueeze(bags_of(positions.shape[0], starts), -1), rows.shape)
        return _finite(scatter(base, bags, rows, 0, "amax"))
    total = emit(SUM_OF_BAGS, (weight, positions, starts, *(() if each is None else (each,))), (padding, by_frequency))
    if mode == "sum":
        return total
    return div(total, cast(unsqueeze(maximum(_counts(positions, starts, padding), 1), -1), total.dtype))


def _largest_of_rows(weight: Expr, positions: Expr, padding: int | None, by_frequency: bool) -> Expr:
    rows = embedding_expr(weight, positions, padding, by_frequency)
    if 0 in rows.shape:
        return full((rows.shape[0], rows.shape[2]), 0, rows.dtype)
    rows = rows if padding is None else where(unsqueeze(ne(positions, padding), -1), rows, float("-inf"))
    return _finite(reduce_amax(rows, (1,)))


def _finite(best: Expr) -> Expr:
    """The largest elements of bags, zeros for empty ones."""
    return where(eq(best, float("-inf")), 0, best)


def bags_of(count: int, starts: Expr) -> Expr:
    """The bag of each of ``count`` places: how many bags start there or before."""
    ones = full(starts.shape, 1, int64)
    begun = index_put(full((count + 1,), 0, int64), ones, (starts,), (0,), True)      # empty bags at the end start behind all
    return sub(slice_dim(cumsum(begun, 0), 0, 0, count), 1)


def _counts(positions: Expr, starts: Expr, padding: int | None) -> Expr:
    """How many positions of each bag count."""
    count = positions.shape[0]
    end = full((1,), count, int64)
    stops = apply("cat", slice_dim(starts, 0, 1, starts.shape[0] - 1), end, attr=0) if starts.shape[0] else starts
    if padding is None:
        return sub(stops, starts)
    kept = cumsum(cast(ne(positions, padding), int64), 0)
    before = apply("cat", full((1,), 0, int64), kept, attr=0)
    return sub(index(before, (stops,), (0,)), index(before, (starts,), (0,)))


# ---- the sum as an operation of its own --------------------------------------------------------------------------------

def _sum_infer(attr: Attr, weight: Expr, positions: Expr, starts: Expr, *each: Expr) -> tuple[Shape, DType]:
    return (starts.shape[0], weight.shape[1]), weight.dtype


def _sum_reference(attr: Attr, weight: Any, positions: Any, starts: Any, *each: Any) -> Array:
    table, places, first = np.asarray(weight), np.asarray(positions), np.asarray(starts)
    if places.size and (places.min() < 0 or places.max() >= len(table)):
        raise IndexOutOfRangeError(f"embedding_bag: index out of range: indices from {places.min()} to {places.max()} for a weight "
                                   f"with {len(table)} rows")
    dtype = from_numpy_dtype(table.dtype)
    rows = convert(table[places], wide(dtype))
    if each:
        rows = rows * convert(np.asarray(each[0]), wide(dtype))[:, None]
    if attr[0] is not None:
        rows = np.where((places == attr[0])[:, None], rows.dtype.type(0), rows)
    stops = np.append(first[1:], len(places))
    with np.errstate(all="ignore"):
        sums = [rows[a:b].sum(0) for a, b in zip(first, stops, strict=True)]
    return convert(np.array(sums, rows.dtype).reshape(len(first), table.shape[1]), dtype)


def _sum_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    weight, positions, starts, *each = e.args
    padding, by_frequency = e.attr  # type: ignore[misc]
    rows = index(g, (bags_of(positions.shape[0], starts),), (0,))
    if not each:
        return weight_gradient(weight, positions, rows, padding, by_frequency), None, None
    found = reduce_sum(mul(embedding_expr(weight, positions), rows), (1,))
    return (weight_gradient(weight, positions, mul(rows, unsqueeze(each[0], -1)), padding, by_frequency), None, None,
            found if padding is None else where(ne(positions, padding), found, 0))


# attr: (padding index or None, divide gradients by how often an index occurs); args: weight (rows, width), int64 positions (n,), int64
# starts (bags,), and optionally a factor for each position -> (bags, width). 16-bit floats are summed in float32 and rounded once.
SUM_OF_BAGS: Final[Op] = Op("sum_of_bags", _sum_infer, _sum_reference, gradient=_sum_gradient, kind=OPAQUE)

__all__ = ["SUM_OF_BAGS", "bags_of", "embedding_bag_expr"]
