"""Reading and writing at positions that are data: index, index_put, gather, scatter, embedding.

Index tensors are int64. ``index`` and ``index_put`` accept negative positions; ``gather`` and ``scatter`` do not. A position
outside of its dimension raises IndexError when the program runs.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Final

import numpy as np

from torsh.core.dtype import DType, bool_, from_numpy_dtype, int64
from torsh.core.errors import (
    DTypeError,
    IndexOutOfRangeError,
    InvalidArgumentError,
    ShapeMismatchError,
)
from torsh.core.promotion import SCALAR_TYPE_NAMES
from torsh.core.shape import broadcast_shapes
from torsh.ops.common import (
    apply,
    cast,
    div,
    eq,
    expand,
    full,
    iota,
    lt,
    maximum,
    mul,
    ne,
    number,
    ones_like,
    reshape,
    unsqueeze,
    where,
    zeros_like,
)
from torsh.ops.define import Array, is_half, wide
from torsh.ops.expr import HOST, OPAQUE, Expr, Op, Shape, emit, emit1, emit2

Dims = tuple[int, ...]


# ---- index -------------------------------------------------------------------------------------------------------------

def region_shape(source: Shape, dims: Dims, index_shape: Shape) -> Shape:
    """Shape of what index tensors select: theirs in place of neighbouring dimensions, else in front."""
    rest = [n for axis, n in enumerate(source) if axis not in dims]
    at = dims[0] if dims == tuple(range(dims[0], dims[0] + len(dims))) else 0
    return (*rest[:at], *index_shape, *rest[at:])


def _check_indices(name: str, source: Expr, dims: Dims, indices: Sequence[Expr]) -> Shape:
    """Raise PyTorch's errors; gives the common shape of the index tensors."""
    if len(dims) != len(indices) or not dims or list(dims) != sorted(set(dims)) or dims[-1] >= len(source.shape):
        raise IndexOutOfRangeError(f"{name}: {len(indices)} index tensors for dimensions {list(dims)} do not fit a tensor "
                                   f"of shape {list(source.shape)}")
    for i in indices:
        if i.dtype is not int64:
            raise IndexOutOfRangeError(f"{name}: tensors used as indices must be int64, got {i.dtype.name}")
    try:
        shape = broadcast_shapes(*[i.shape for i in indices])
    except ShapeMismatchError:
        shapes = ", ".join(str(list(i.shape)) for i in indices)
        raise IndexOutOfRangeError(f"shape mismatch: indexing tensors could not be broadcast together with shapes {shapes}"
                                   ) from None
    for d in dims:
        if source.shape[d] == 0 and 0 not in region_shape(source.shape, dims, shape):
            raise IndexOutOfRangeError(f"index is out of bounds for dimension with size 0: {name} of a tensor of shape "
                                       f"{list(source.shape)}")
    return shape


def checked_positions(index: Any, size: int, dim: int, *, negative: bool) -> Array:
    """An index array whose positions are all inside of a dimension; negative ones are counted from the end if allowed."""
    array = np.asarray(index)
    bad = (array >= size) | (array < (-size if negative else 0))
    if bad.any():
        raise IndexOutOfRangeError(f"index {int(array[bad].reshape(-1)[0])} is out of bounds for dimension {dim} with size "
                                   f"{size}")
    return np.where(array < 0, array + size, array) if negative else array


def _key(dims: Dims, shape: Shape, indices: Sequence[Any]) -> tuple[Any, ...]:
    """NumPy's index for index tensors of some dimensions."""
    key: list[Any] = [slice(None)] * len(shape)
    for d, i in zip(dims, indices, strict=True):
        key[d] = checked_positions(i, shape[d], d, negative=True)
    return tuple(key)


def _selected(array: Array, dims: Dims, indices: Sequence[Any]) -> Array:
    # One index tensor, or several of neighbouring dimensions, stay in place in NumPy too.
    return array[_key(dims, array.shape, indices)]


def _index_infer(attr: Dims, source: Expr, *indices: Expr) -> tuple[Shape, DType]:
    shape = _check_indices("index", source, attr, indices)
    return region_shape(source.shape, attr, shape), source.dtype


def _index_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    source, *indices = e.args
    return (index_put(zeros_of(source, g), g, indices, e.attr, True), *[None] * len(indices))  # type: ignore[arg-type]


def zeros_of(source: Expr, g: Expr) -> Expr:
    """Zeros in the shape of one expression and the dtype of another."""
    return full(source.shape, 0, g.dtype)


# attr: dimensions (ascending); args: source, one index tensor per dimension, broadcast together
INDEX: Final[Op] = Op("index", _index_infer, lambda attr, source, *indices: _selected(np.asarray(source), attr, indices),
                      gradient=_index_gradient, kind=OPAQUE)


def _put_infer(attr: tuple[Dims, bool], base: Expr, value: Expr, *indices: Expr) -> tuple[Shape, DType]:
    region = region_shape(base.shape, attr[0], _check_indices("index_put", base, attr[0], indices))
    if value.dtype is not base.dtype:
        raise DTypeError(f"Index put requires the source and destination dtypes match, got "
                         f"{SCALAR_TYPE_NAMES[base.dtype.name]} for the destination and "
                         f"{SCALAR_TYPE_NAMES[value.dtype.name]} for the source.")
    if value.shape != region:
        raise ShapeMismatchError(f"shape mismatch: value tensor of shape {list(value.shape)} cannot be broadcast to "
                                 f"indexing result of shape {list(region)}")
    return base.shape, base.dtype


def _summing(function: Any, out: Array, key: tuple[Any, ...], value: Any) -> Array:
    """``function.at`` with halves in float32."""
    if is_half(from_numpy_dtype(out.dtype)):
        total = out.astype(np.float32)
        function.at(total, key, np.asarray(value).astype(np.float32))
        return total.astype(out.dtype)
    function.at(out, key, value)
    return out


def _put_reference(attr: tuple[Dims, bool], base: Any, value: Any, *indices: Any) -> Array:
    out = np.array(base)
    key = _key(attr[0], out.shape, indices)
    if attr[1]:
        return _summing(np.logical_or if out.dtype == np.bool_ else np.add, out, key, value)
    out[key] = value
    return out


def _put_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    base, value, *indices = e.args
    dims, accumulate = e.attr  # type: ignore[misc]
    to_base = to_value = None
    if base.requires_grad:
        to_base = g if accumulate else index_put(g, full(value.shape, 0, g.dtype), indices, dims, False)
    if value.requires_grad:
        to_value = index(g, indices, dims)
    return (to_base, to_value, *[None] * len(indices))


# attr: (dimensions, accumulate); args: base, value of the region's shape, index tensors. Without accumulate the last of
# several writes to one element wins.
INDEX_PUT: Final[Op] = Op("index_put", _put_infer, _put_reference, gradient=_put_gradient, kind=OPAQUE)


def index(source: Expr, indices: Sequence[Expr], dims: Sequence[int]) -> Expr:
    """``source`` at positions given by index tensors for some dimensions."""
    return emit(INDEX, (source, *indices), tuple(dims))


def index_put(base: Expr, value: Expr, indices: Sequence[Expr], dims: Sequence[int], accumulate: bool) -> Expr:
    """``base`` with ``value`` (broadcast to the region) written or added at the positions of index tensors."""
    region = region_shape(base.shape, tuple(dims), broadcast_shapes(*[i.shape for i in indices]))
    return emit(INDEX_PUT, (base, expand(value, region), *indices), (tuple(dims), accumulate))


# ---- gather and scatter ------------------------------------------------------------------------------------------------

def _check_gather(name: str, e: Expr, index: Expr, dim: int, all_but_dim: bool) -> None:
    if index.dtype is not int64:
        raise DTypeError(f"{name}(): Expected dtype int32/int64 for index")
    if max(len(e.shape), 1) != max(len(index.shape), 1):
        raise ShapeMismatchError("Index tensor must have the same number of dimensions as "
                                 f"{'self' if name == 'scatter' else 'input'} tensor")
    for axis, (n, size) in enumerate(zip(index.shape, e.shape, strict=False)):
        if n > size and axis != dim and 0 not in index.shape:
            if all_but_dim:
                raise ShapeMismatchError(f"Size does not match at dimension {axis} expected index {list(index.shape)} to be "
                                         f"no larger than self {list(e.shape)} apart from dimension {dim}")
            raise ShapeMismatchError(f"Expected index {list(index.shape)} to be no larger than self {list(e.shape)} apart "
                                     f"from dimension {dim}")


def _gather_infer(attr: int, e: Expr, index: Expr) -> tuple[Shape, DType]:
    _check_gather("gather", e, index, attr, True)
    return index.shape, e.dtype


def _grid(index: Any, dim: int, size: int) -> tuple[Any, ...]:
    """NumPy's index of the elements that gather reads and scatter writes."""
    array = np.atleast_1d(index)
    key: list[Any] = list(np.ogrid[tuple([slice(n) for n in array.shape])])
    key[dim] = checked_positions(array, size, dim, negative=False)
    return tuple(key)


def _gather_reference(attr: int, a: Any, index: Any) -> Array:
    array = np.atleast_1d(a)
    return np.asarray(array[_grid(index, attr, array.shape[attr])]).reshape(np.shape(index))


def _gather_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    a, i = e.args
    return scatter(zeros_of(a, g), i, g, e.attr, "add"), None  # type: ignore[arg-type]


# attr: dimension; args: source, index
GATHER: Final[Op] = Op("gather", _gather_infer, _gather_reference, gradient=_gather_gradient, kind=OPAQUE)


def gather(e: Expr, index: Expr, dim: int) -> Expr:
    """``out[.., i, ..] = e[.., index[.., i, ..], ..]`` along a dimension."""
    return emit2(GATHER, e, index, dim)


SCATTER_MODES: Final = ("set", "add", "mul", "amax", "amin")


def _scatter_infer(attr: tuple[int, str], base: Expr, index: Expr, source: Expr) -> tuple[Shape, DType]:
    dim, mode = attr
    if mode not in SCATTER_MODES:
        raise InvalidArgumentError(f"scatter: unknown mode {mode!r}; use one of {', '.join(SCATTER_MODES)}")
    if prod(index.shape):
        _check_gather("scatter", base, index, dim, False)
    if index.dtype is not int64:
        raise DTypeError("scatter(): Expected dtype int64 for index")
    if source.dtype is not base.dtype:
        raise DTypeError("scatter(): Expected self.dtype to be equal to src.dtype")
    if len(source.shape) != len(index.shape) or any(n > m for n, m in zip(index.shape, source.shape, strict=True)):
        raise ShapeMismatchError(f"Expected index {list(index.shape)} to be no larger than self {list(base.shape)} apart "
                                 f"from dimension {dim} and to be no larger size than src {list(source.shape)}")
    return base.shape, base.dtype


_UFUNCS: Final[dict[str, Any]] = {"add": np.add, "mul": np.multiply, "amax": np.maximum, "amin": np.minimum}
_ON_BOOL: Final[dict[str, Any]] = {"add": np.logical_or, "mul": np.logical_and}


def _scatter_reference(attr: tuple[int, str], base: Any, index: Any, source: Any) -> Array:
    dim, mode = attr
    out = np.atleast_1d(np.array(base))
    positions = np.atleast_1d(index)
    if positions.size:
        values = np.atleast_1d(source)[tuple([slice(n) for n in positions.shape])]
        key = _grid(positions, dim, out.shape[dim])
        if mode == "set":
            out[key] = values
        else:
            function = _ON_BOOL.get(mode, _UFUNCS[mode]) if out.dtype == np.bool_ else _UFUNCS[mode]
            with np.errstate(all="ignore"):
                out = _summing(function, out, key, values)
    return out.reshape(np.shape(base))


def _leading(e: Expr, shape: Shape) -> Expr:
    """The part of a source that an index of this shape reads."""
    spec = tuple([(0, n, 1) for n in shape])
    return e if e.shape == shape else apply("slice", e, attr=spec)


def _to_source(source: Expr, g: Expr) -> Expr:
    """The gradient of the part of a source that was read, zeros elsewhere."""
    if g.shape == source.shape:
        return g
    padding = tuple([(0, n - m) for n, m in zip(source.shape, g.shape, strict=True)])
    return apply("constant_pad", g, number(0, g.dtype), attr=padding)


def _scatter_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    base, i, source = e.args
    dim, mode = e.attr  # type: ignore[misc]
    part = _leading(source, i.shape)
    to_base, to_part = _SCATTER_GRADIENTS[mode](e, g, base, i, part, dim)
    return (to_base if base.requires_grad else None, None, _to_source(source, to_part) if source.requires_grad else None)


def _set_gradient(e: Expr, g: Expr, base: Expr, i: Expr, part: Expr, dim: int) -> tuple[Expr, Expr]:
    return scatter(g, i, full(i.shape, 0, g.dtype), dim, "set"), gather(g, i, dim)


def _add_gradient(e: Expr, g: Expr, base: Expr, i: Expr, part: Expr, dim: int) -> tuple[Expr, Expr]:
    return g, gather(g, i, dim)


def _mul_gradient(e: Expr, g: Expr, base: Expr, i: Expr, part: Expr, dim: int) -> tuple[Expr, Expr]:
    to_base = mul(g, scatter(ones_like(base), i, part, dim, "mul"))
    zero = eq(part, 0)
    safe = where(zero, 1, part)
    zeros = gather(scatter(cast(eq(base, 0), int64), i, cast(zero, int64), dim, "add"), i, dim)
    # The product of all but one factor: by division, or, where that factor is the only zero, the product of the others.
    others = gather(mul(g, scatter(where(eq(base, 0), 1, base), i, safe, dim, "mul")), i, dim)
    alone = where(eq(zeros, 1), others, zeros_like(others))
    return to_base, where(zero, alone, div(gather(mul(g, e), i, dim), safe))


def _extreme_gradient(e: Expr, g: Expr, base: Expr, i: Expr, part: Expr, dim: int) -> tuple[Expr, Expr]:
    from_base = cast(eq(base, e), g.dtype)
    from_part = cast(eq(part, gather(e, i, dim)), g.dtype)
    share = div(g, scatter(from_base, i, from_part, dim, "add"))
    return mul(share, from_base), mul(gather(share, i, dim), from_part)


_SCATTER_GRADIENTS: Final[dict[str, Callable[..., tuple[Expr, Expr]]]] = {
    "set": _set_gradient, "add": _add_gradient, "mul": _mul_gradient, "amax": _extreme_gradient, "amin": _extreme_gradient}
# attr: (dimension, mode); args: base, index, source (as large as the index, or larger)
SCATTER: Final[Op] = Op("scatter", _scatter_infer, _scatter_reference, gradient=_scatter_gradient, kind=OPAQUE)


def scatter(base: Expr, index: Expr, source: Expr, dim: int, mode: str) -> Expr:
    """``base`` with ``source`` written to (or combined with) the positions of ``index`` along a dimension."""
    return emit(SCATTER, (base, index, source), (dim, mode))


_START: Final = {"sum": 0, "prod": 1, "mean": 0}
_MODE_OF: Final = {"sum": "add", "prod": "mul", "mean": "add", "amax": "amax", "amin": "amin"}


def _extreme_start(dtype: DType, largest: bool) -> Any:
    """The neutral element of maximum (or minimum)."""
    if dtype.category == 2:
        return float("-inf") if largest else float("inf")
    if dtype is bool_:
        return not largest
    limits = np.iinfo(dtype.numpy)
    return int(limits.min if largest else limits.max)


def scatter_reduce_expr(base: Expr, dim: int, index: Expr, source: Expr, reduce: str, include_self: bool) -> Expr:
    """``torch.scatter_reduce``: sum, prod, mean, amax or amin of the elements that meet at a position."""
    if reduce not in _MODE_OF:
        raise ShapeMismatchError(f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}.")
    start = base
    if not include_self:
        neutral = _START[reduce] if reduce in _START else _extreme_start(base.dtype, reduce == "amax")
        start = scatter(base, index, full(index.shape, neutral, base.dtype), dim, "set")
    total = scatter(start, index, source, dim, _MODE_OF[reduce])
    if reduce != "mean":
        return total
    counts = scatter(full(base.shape, int(include_self), int64), index, full(index.shape, 1, int64), dim, "add")
    counts = maximum(counts, 1)
    if base.dtype.category < 2:
        return apply("floor_divide", total, cast(counts, total.dtype))
    return cast(div(cast(total, wide(total.dtype)), cast(counts, wide(total.dtype))), total.dtype)


# ---- one dimension -----------------------------------------------------------------------------------------------------

def _select_infer(attr: int, e: Expr, index: Expr) -> tuple[Shape, DType]:
    if len(index.shape) != 1:
        raise IndexOutOfRangeError("index_select(): Index is supposed to be a vector")
    if index.dtype is not int64:
        raise DTypeError("index_select(): Expected dtype int64 for index")
    return (*e.shape[:attr], index.shape[0], *e.shape[attr + 1:]), e.dtype


def _select_reference(attr: int, a: Any, index: Any) -> Array:
    array = np.asarray(a)
    return np.take(array, checked_positions(index, array.shape[attr], attr, negative=False), attr)


def _select_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    dim: int = e.attr  # type: ignore[assignment]
    return index_put(zeros_of(e.args[0], g), g, (e.args[1],), (dim,), True), None


# attr: dimension; args: source, index (a vector)
INDEX_SELECT: Final[Op] = Op(
    "index_select", _select_infer, _select_reference,
    gradient=_select_gradient,
    decompose=lambda e: index(e.args[0], (e.args[1],), (e.attr,)))  # type: ignore[arg-type]


def index_fill_expr(e: Expr, dim: int, positions: Expr, value: Expr) -> Expr:
    """``e`` with a number at positions of a dimension."""
    return index_put(e, cast(value, e.dtype), (positions,), (dim,), False)


def repeat_interleave_expr(e: Expr, repeats: int, dim: int) -> Expr:
    """Every entry of a dimension repeated a number of times."""
    wide_shape = (*e.shape[:dim + 1], repeats, *e.shape[dim + 1:])
    merged = (*e.shape[:dim], e.shape[dim] * repeats, *e.shape[dim + 1:])
    return reshape(expand(unsqueeze(e, dim + 1), wide_shape), merged)


def one_hot_expr(index: Expr, classes: int) -> Expr:
    """int64 zeros with a one at ``index`` in a new last dimension."""
    return emit1(ONE_HOT, index, classes)


def _one_hot_infer(attr: int, index: Expr) -> tuple[Shape, DType]:
    if index.dtype.category != 1:
        raise DTypeError("one_hot is only applicable to index tensor of type LongTensor, got "
                         f"{SCALAR_TYPE_NAMES[index.dtype.name]}")
    if attr <= 0:
        raise ShapeMismatchError(f"num_classes should be positive, got {attr}")
    return (*index.shape, attr), int64


# attr: number of classes. Positions that are no class give zeros everywhere.
ONE_HOT: Final[Op] = Op(
    "one_hot", _one_hot_infer, lambda attr, index: (np.asarray(index)[..., None] == np.arange(attr)).astype(np.int64),
    decompose=lambda e: cast(eq(unsqueeze(cast(e.args[0], int64), -1), iota((e.attr,), 0)), int64))  # type: ignore[arg-type]


# ---- embedding ---------------------------------------------------------------------------------------------------------

def _embedding_infer(attr: tuple[int | None, bool], weight: Expr, index: Expr) -> tuple[Shape, DType]:
    if len(weight.shape) != 2:
        raise ShapeMismatchError(f"'weight' must be 2-D, got shape {list(weight.shape)}")
    if index.dtype is not int64:
        raise DTypeError(f"Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; "
                         f"but got {SCALAR_TYPE_NAMES[index.dtype.name]} instead (while checking arguments for embedding)")
    return (*index.shape, weight.shape[1]), weight.dtype


def _embedding_reference(attr: tuple[int | None, bool], weight: Any, index: Any) -> Array:
    array = np.asarray(weight)
    positions = np.asarray(index)
    if positions.size and (positions.min() < 0 or positions.max() >= len(array)):
        raise IndexOutOfRangeError(f"embedding: index out of range in self: indices from {positions.min()} to "
                                   f"{positions.max()} for a weight with {len(array)} rows")
    return array[positions]


def _rows(weight: Expr, positions: Expr) -> Expr:
    """Positions for ``index``, where negative ones would be allowed: they are moved out of the range."""
    return where(lt(positions, 0), weight.shape[0], positions)


def weight_gradient(weight: Expr, positions: Expr, g: Expr, padding: int | None, by_frequency: bool) -> Expr:
    """The gradient of a weight from that of its rows at some positions; see EMBEDDING."""
    if padding is not None:
        g = where(unsqueeze(ne(positions, padding), -1), g, 0)
    if by_frequency:
        ones = full(positions.shape, 1, int64)
        counts = index(index_put(full(weight.shape[:1], 0, int64), ones, (positions,), (0,), True), (positions,), (0,))
        g = div(g, unsqueeze(cast(counts, g.dtype), -1))
    return index_put(zeros_of(weight, g), g, (positions,), (0,), True)


def _embedding_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    weight, positions = e.args
    padding, by_frequency = e.attr  # type: ignore[misc]
    return weight_gradient(weight, positions, g, padding, by_frequency), None


# attr: (padding index or None, divide gradients by how often an index occurs); args: weight, int64 indices
EMBEDDING: Final[Op] = Op("embedding", _embedding_infer, _embedding_reference, gradient=_embedding_gradient,
                          decompose=lambda e: index(e.args[0], (_rows(*e.args),), (0,)))


def embedding_expr(weight: Expr, positions: Expr, padding: int | None = None, by_frequency: bool = False) -> Expr:
    """Rows of ``weight``; the row ``padding`` (not negative) gets no gradient."""
    return emit2(EMBEDDING, weight, cast(positions, int64) if positions.dtype.category == 1 else positions,
                 (padding, by_frequency))


# ---- searching ---------------------------------------------------------------------------------------------------------

def _search_reference(attr: bool, rows: Any, values: Any) -> Array:
    table, wanted = np.asarray(rows), np.asarray(values)
    side: Any = "right" if attr else "left"
    if table.ndim == 1:
        return np.searchsorted(table, wanted, side).astype(np.int64)
    flat = wanted.reshape(-1, wanted.shape[-1])
    found = [np.searchsorted(a, b, side) for a, b in zip(table.reshape(-1, table.shape[-1]), flat, strict=True)]
    return np.asarray(found, np.int64).reshape(wanted.shape)


def _search_infer(attr: bool, rows: Expr, values: Expr) -> tuple[Shape, DType]:
    if len(rows.shape) != 1 and rows.shape[:-1] != values.shape[:-1]:
        raise ShapeMismatchError("boundaries tensor should be 1 dimension or the first N-1 dimensions of boundaries tensor "
                                 f"and input value tensor must match, but we got boundaries tensor {list(rows.shape)} and "
                                 f"input value tensor {list(values.shape)}")
    return values.shape, int64


# attr: behind equal elements (right) or before them; args: sorted rows, values
SEARCHSORTED: Final[Op] = Op("searchsorted", _search_infer, _search_reference, kind=HOST)
