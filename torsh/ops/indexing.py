"""Reading and writing at positions given by tensors.

All indices are checked: by the reference here, by the kernels in compiled programs.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from torsh.core.errors import IndexOutOfRangeError, ShapeMismatchError
from torsh.core.shape import broadcast_shapes
from torsh.ops.common import add, cast, div, eq, expand, full, mul, permute, reshape, sum_to, where, zeros_like
from torsh.ops.expr import HOST, OPAQUE, Expr, Op, Shape, emit, emit2


def region_shape(shape: Shape, dims: tuple[int, ...], index_shape: Shape) -> Shape:
    """Shape of ``source[index tensors on dims]``: the index's dimensions stand at the first of adjacent dims, else in front."""
    rest = [n for d, n in enumerate(shape) if d not in dims]
    adjacent = dims == tuple(range(dims[0], dims[0] + len(dims)))
    at = dims[0] if adjacent else 0
    return (*rest[:at], *index_shape, *rest[at:])


def checked(index: Any, size: int, name: str, dim: int, *, wrap: bool = True) -> Any:
    """An index array with negative positions wrapped; IndexError for positions outside."""
    low = -size if wrap else 0
    if index.size:
        least, most = int(index.min()), int(index.max())
        if least < low or most >= size:
            bad = least if least < low else most
            raise IndexOutOfRangeError(f"{name}(): index {bad} is out of bounds for dimension {dim} with size {size}")
    return np.where(index < 0, index + size, index) if wrap else index


def selector(shape: Shape, dims: tuple[int, ...], indices: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    """NumPy's form of an index on some dimensions."""
    positions = dict(zip(dims, indices, strict=True))
    return tuple(checked(positions[d], n, name, d) if d in positions else slice(None) for d, n in enumerate(shape))


# ---- index, index_put --------------------------------------------------------------------------------------------------

def _infer_index(attr: Any, source: Expr, *indices: Expr) -> tuple[Shape, Any]:
    shape = region_shape(source.shape, attr, broadcast_shapes(*[i.shape for i in indices]))
    if math.prod(shape) and any(source.shape[d] == 0 for d in attr):
        raise IndexOutOfRangeError(f"index is out of bounds for dimension with size 0: source {list(source.shape)}")
    return shape, source.dtype


INDEX = Op("index", _infer_index, lambda attr, source, *indices: source[selector(source.shape, attr, indices, "index")],
           gradient=lambda e, g: (emit(INDEX_PUT, (zeros_like(e.args[0]), g, *e.args[1:]), (e.attr, True)),
                                  *([None] * (len(e.args) - 1))), kind=OPAQUE)


def _infer_index_put(attr: Any, base: Expr, value: Expr, *indices: Expr) -> tuple[Shape, Any]:
    dims, _ = attr
    shape = region_shape(base.shape, dims, broadcast_shapes(*[i.shape for i in indices]))
    if broadcast_shapes(value.shape, shape) != shape:
        raise ShapeMismatchError(f"shape mismatch: value tensor of shape {list(value.shape)} cannot be broadcast to indexing "
                                 f"result of shape {list(shape)}")
    return base.shape, base.dtype


def _index_put_reference(attr: Any, base: Any, value: Any, *indices: Any) -> Any:
    dims, accumulate = attr
    out = np.array(base)
    where_ = selector(base.shape, dims, indices, "index_put")
    if accumulate and out.dtype == np.bool_:
        np.logical_or.at(out, where_, value)
    elif accumulate:
        wide = out.astype(np.float32) if out.dtype.itemsize == 2 and out.dtype.kind not in "iu" else out
        np.add.at(wide, where_, value.astype(wide.dtype))
        out = wide.astype(out.dtype)
    else:
        out[where_] = value
    return out


def _index_put_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    base, value, *indices = e.args
    dims, accumulate = e.attr  # type: ignore[misc]
    d_base = None
    if base.requires_grad:
        zero = full(value.shape, 0, g.dtype)
        d_base = g if accumulate else emit(INDEX_PUT, (g, zero, *indices), (dims, False))
    d_value = sum_to(emit(INDEX, (g, *indices), dims), value.shape) if value.requires_grad else None
    return (d_base, d_value, *([None] * len(indices)))


INDEX_PUT = Op("index_put", _infer_index_put, _index_put_reference, gradient=_index_put_gradient, kind=OPAQUE)


# ---- gather, scatter ---------------------------------------------------------------------------------------------------

def _check_gather(name: str, source: Expr, index: Expr, dim: int) -> None:
    if max(len(source.shape), 1) != max(len(index.shape), 1):
        raise ShapeMismatchError(f"{name}(): Index tensor must have the same number of dimensions as input tensor")
    for d, (n, m) in enumerate(zip(source.shape, index.shape, strict=False)):
        if d != dim and m > n:
            raise ShapeMismatchError(f"Size does not match at dimension {d} expected index {list(index.shape)} to be no larger "
                                     f"than self {list(source.shape)} apart from dimension {dim}")


def _infer_gather(attr: Any, source: Expr, index: Expr) -> tuple[Shape, Any]:
    if math.prod(index.shape):
        _check_gather("gather", source, index, attr)
    return index.shape, source.dtype


def along(index: Any, dim: int) -> tuple[Any, ...]:
    """NumPy's form of gather's positions: every dimension counted, ``dim`` given by the index."""
    grid = list(np.ogrid[tuple(slice(n) for n in index.shape)]) if index.ndim else []
    if index.ndim:
        grid[dim] = index
    return tuple(grid)


def _gather_reference(attr: Any, source: Any, index: Any) -> Any:
    s, i = np.atleast_1d(source), np.atleast_1d(index)
    i = checked(i, s.shape[attr], "gather", attr, wrap=False)
    return s[along(i, attr)].reshape(index.shape)


GATHER = Op("gather", _infer_gather, _gather_reference, kind=OPAQUE,
            gradient=lambda e, g: (emit(SCATTER, (zeros_like(e.args[0]), e.args[1], g), (e.attr, "add")), None))


def _infer_scatter(attr: Any, base: Expr, index: Expr, src: Expr) -> tuple[Shape, Any]:
    dim, _ = attr
    if math.prod(index.shape):
        _check_gather("scatter", base, index, dim)
        if len(src.shape) != len(index.shape) or any(m > n for n, m in zip(src.shape, index.shape, strict=True)):
            raise ShapeMismatchError(f"Expected index {list(index.shape)} to be no larger than self {list(base.shape)} apart from "
                                     f"dimension {dim} and to be no larger size than src {list(src.shape)}")
    return base.shape, base.dtype


_AT: dict[str, Any] = {"add": np.add, "mul": np.multiply, "amax": np.maximum, "amin": np.minimum}


def _scatter_reference(attr: Any, base: Any, index: Any, src: Any) -> Any:
    dim, mode = attr
    out = np.array(base)
    if not index.size:
        return out
    wide = out.astype(np.float32) if out.dtype.itemsize == 2 and out.dtype.kind not in "iu" else out
    flat = np.atleast_1d(wide)
    i = checked(np.atleast_1d(index), flat.shape[dim], "scatter", dim, wrap=False)
    part = np.atleast_1d(src)[tuple(slice(n) for n in i.shape)].astype(wide.dtype)
    if mode == "set":
        flat[along(i, dim)] = part
    elif flat.dtype == np.bool_ and mode in ("add", "mul"):
        (np.logical_or if mode == "add" else np.logical_and).at(flat, along(i, dim), part)
    else:
        _AT[mode].at(flat, along(i, dim), part)
    return flat.reshape(out.shape).astype(out.dtype)


def _scatter_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    base, index, src = e.args
    dim, mode = e.attr  # type: ignore[misc]
    zero = full(index.shape, 0, g.dtype)
    if mode in ("amax", "amin"):
        return _scatter_extreme_gradient(e, g)
    if mode == "mul":
        # Every factor's gradient is the product of the others: exact where no factor is zero.
        total = mul(g, e)
        d_base = div(total, base) if base.requires_grad else None
        d_src = _src_gradient(src, div(emit2_gather(total, index, dim), _cut(src, index))) if src.requires_grad else None
        return d_base, None, d_src
    d_base = None
    if base.requires_grad:
        d_base = g if mode == "add" else emit(SCATTER, (g, index, zero), (dim, "set"))
    d_src = _src_gradient(src, emit2_gather(g, index, dim)) if src.requires_grad else None
    return d_base, None, d_src


def emit2_gather(g: Expr, index: Expr, dim: int) -> Expr:
    """gather of a gradient."""
    return emit2(GATHER, g, index, dim)


def _cut(src: Expr, index: Expr) -> Expr:
    """The part of scatter's source that the index covers."""
    from torsh.ops.common import slice_dim
    for d, n in enumerate(index.shape):
        if src.shape[d] != n:
            src = slice_dim(src, d, 0, n)
    return src


def _src_gradient(src: Expr, g: Expr) -> Expr:
    """A gradient of the covered part of the source, zero elsewhere."""
    if g.shape == src.shape:
        return g
    from torsh.ops.expr import TABLE
    spec = tuple((0, n, 1) for n in g.shape)
    return emit2(TABLE["view_write"], zeros_like(src), g, (("slice", spec),))


def _scatter_extreme_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    """amax, amin: the gradient is shared evenly by all that attain the result."""
    base, index, src = e.args
    dim, _ = e.attr  # type: ignore[misc]
    part = _cut(src, index)
    of_base = cast(eq(base, e), g.dtype)
    of_src = cast(eq(part, emit2(GATHER, e, index, dim)), g.dtype)
    count = emit(SCATTER, (of_base, index, of_src), (dim, "add"))
    share = div(g, count)
    d_base = mul(share, of_base) if base.requires_grad else None
    d_src = _src_gradient(src, mul(emit2(GATHER, share, index, dim), of_src)) if src.requires_grad else None
    return d_base, None, d_src


SCATTER = Op("scatter", _infer_scatter, _scatter_reference, gradient=_scatter_gradient, kind=OPAQUE)


# ---- along one dimension -----------------------------------------------------------------------------------------------

INDEX_SELECT = Op(
    "index_select", lambda attr, e, i: ((*e.shape[:attr], i.shape[0], *e.shape[attr + 1:]), e.dtype),
    lambda attr, e, i: np.take(e, checked(i, e.shape[attr], "index_select", attr, wrap=False), attr),
    decompose=lambda e: emit(INDEX, e.args, (e.attr,)),
    gradient=lambda e, g: (emit(INDEX_PUT, (zeros_like(e.args[0]), g, e.args[1]), ((e.attr,), True)), None))


def _infer_embedding(attr: Any, weight: Expr, index: Expr) -> tuple[Shape, Any]:
    if len(weight.shape) != 2:
        raise ShapeMismatchError("'weight' must be 2-D")
    return (*index.shape, weight.shape[1]), weight.dtype


def _embedding_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    weight, index = e.args
    padding, by_frequency = e.attr  # type: ignore[misc]
    if padding is not None:
        keep = cast(eq(index, padding), g.dtype)
        g = mul(g, reshape(add(full(keep.shape, 1, g.dtype), mul(keep, -1.0)), (*index.shape, 1)))
    if by_frequency:
        ones = full(index.shape, 1, g.dtype)
        counts = emit(INDEX_PUT, (full((weight.shape[0],), 0, g.dtype), ones, index), ((0,), True))
        g = div(g, reshape(emit(INDEX, (counts, index), (0,)), (*index.shape, 1)))
    return emit(INDEX_PUT, (zeros_like(weight), g, index), ((0,), True)), None


EMBEDDING = Op(
    "embedding", _infer_embedding,
    lambda attr, w, i: w[checked(i, w.shape[0], "embedding", 0, wrap=False)],
    decompose=lambda e: emit(INDEX, e.args, (0,)), gradient=_embedding_gradient)

# Positions (rows of a matrix) are data-dependent in number, so nonzero is no op; one_hot is.
ONE_HOT = Op("one_hot", lambda attr, i: ((*i.shape, attr), i.dtype),
             lambda attr, i: (checked(i, attr, "one_hot", 0, wrap=False)[..., None] == np.arange(attr)).astype(np.int64),
             kind=HOST)
__all__ = ["expand", "permute", "where"]
