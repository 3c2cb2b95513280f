"""Indexing: ``x[...]``, ``x[...] = v``, and the functions that gather and scatter."""
from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from torsh.core.dtype import bool_, int64, overflow, typed
from torsh.core.errors import ArgumentTypeError, DTypeError, IndexOutOfRangeError, InvalidArgumentError, ShapeMismatchError
from torsh.core.shape import broadcast_shapes, normalise_dim
from torsh.graph.handle import Handle, expr_of, make_view, make_views, write, write_region
from torsh.ops.expr import TABLE, Expr, Op, constant, emit, emit1, emit2
from torsh.ops.indexing import scatter_reduce_expr
from torsh.tensor.creation import as_tensor, from_array
from torsh.tensor.function import METHODS, NUMBER, check_writable, function, operand, tensor_operand
from torsh.tensor.index_parts import FULL, basic_part, mixed_dtypes, takes_any_dtype
from torsh.tensor.positions import coordinates, rows_of
from torsh.tensor.tensor import Tensor


def getitem(self: Tensor, index: Any) -> Any:
    """``self[index]``: a view for numbers, slices, None and Ellipsis; a copy for tensors, arrays, lists and masks."""
    kind = type(index)
    if kind is int:
        shape = self._expr.shape
        if not shape:
            raise IndexOutOfRangeError("invalid index of a 0-dim tensor. Use `tensor.item()` in Python or "
                                       "`tensor.item<T>()` in C++ to convert a 0-dim tensor to a number")
        n = shape[0]
        if not -n <= index < n:
            raise IndexOutOfRangeError(f"index {index} is out of bounds for dimension 0 with size {n}")
        return make_view(self, TABLE["select"], (0, index % n))
    key = index_key(index)
    known = _REGIONS.get((self._expr.shape, key)) if key is not None else None
    if known is not None:
        return make_views(self, known.chain)
    base, advanced = basic_part(self, index)
    if not advanced:
        result = base if base is not self else make_view(self, TABLE["reshape"], self._expr.shape)
        remember(self, key, result)
        return result
    return gather_advanced(base, advanced)


class Region(NamedTuple):
    """What a basic index selects: views one after the other, as names for ``view_write``, and the resulting shape."""

    chain: tuple[tuple[Op, Any], ...]
    names: tuple[tuple[str, Any], ...]
    shape: tuple[int, ...]


_REGIONS: Final[dict[Any, Region]] = {}
_MOST_REGIONS: Final = 8192
_SIMPLE: Final = frozenset((int, type(None), type(Ellipsis)))


def index_key(index: Any) -> Any:
    """A hashable form of an index of numbers, slices, None and Ellipsis; None for others."""
    kind = type(index)
    if kind is int:
        return index
    if kind is not tuple:
        key = slice_key(index) if kind is slice else None
        return None if key is None else (slice, key)
    parts = []
    for part in index:
        kind = type(part)
        if kind is slice:
            part = slice_key(part)
            if part is None:
                return None
        elif kind not in _SIMPLE:
            return None
        parts.append(part)
    return tuple(parts)


def slice_key(index: slice) -> Any:
    """A hashable form of a slice of numbers; None for others."""
    start, stop, step = index.start, index.stop, index.step
    if (start is None or type(start) is int) and (stop is None or type(stop) is int) and (step is None or type(step) is int):
        return start, stop, step
    return None


def remember(self: Tensor, key: Any, view: Any) -> None:
    """Keep the views that an index of this shape stands for."""
    if key is None:
        return
    chain = view._chain[len(self._chain) if self._root is not None else 0:]
    if any(op.name == "detach" for op, _ in chain):
        return
    if len(_REGIONS) >= _MOST_REGIONS:
        _REGIONS.clear()
    _REGIONS[self._expr.shape, key] = Region(chain, tuple([(op.name, attr) for op, attr in chain]), view._expr.shape)


def index_exprs(advanced: dict[int, Tensor]) -> tuple[tuple[int, ...], tuple[Expr, ...]]:
    """Dimensions and int64 expressions of index tensors."""
    dims = tuple(sorted(advanced))
    found = []
    for d in dims:
        e = expr_of(advanced[d])
        found.append(e if e.dtype is int64 else emit1(TABLE["cast"], e, "int64"))
    try:
        broadcast_shapes(*[e.shape for e in found])
    except RuntimeError:
        shapes = ", ".join(str(list(e.shape)) for e in found)
        raise IndexOutOfRangeError(f"shape mismatch: indexing tensors could not be broadcast together with shapes {shapes}"
                                   ) from None
    return dims, tuple(found)


def gather_advanced(base: Tensor, advanced: dict[int, Tensor]) -> Tensor:
    """The copy that index tensors select."""
    dims, indices = index_exprs(advanced)
    return Tensor(emit(TABLE["index"], (expr_of(base), *indices), dims))


def setitem(self: Tensor, index: Any, value: Any) -> None:
    """``self[index] = value``: the value is cast and broadcast to the region."""
    key = index if type(index) is int else index_key(index)
    if self._root is None:                      # the hot path: a region that is known already
        if self._leaf_grad:
            check_writable(self)
        region = _REGIONS.get((self._expr.shape, key)) if key is not None else None
        if region is not None:
            if isinstance(value, Handle) and value._root is self and value._chain == region.chain:
                return                          # x[i] += 1 ends with x[i] = x[i]
            v = cast_operand(self, value)
            write_region(self, v if v.shape == region.shape else fitted(v, region.shape), region.names)
            return
    else:
        check_writable(self)
    if isinstance(index, Handle) and index.dtype is bool_ and index._expr.shape == self._expr.shape \
            and not (isinstance(value, Handle) and value._expr.shape):
        # A mask of the whole tensor with one value needs no positions: nothing has to run now.
        v = emit1(TABLE["cast"], cast_operand(self, value), self.dtype.name)
        write(self, emit(TABLE["where"], (expr_of(index), v, expr_of(self))))
        return
    view, advanced = basic_part(self, index)
    if not advanced and view is not self:
        remember(self, key, view)
    if not advanced:
        write(view, fitted(cast_operand(self, value), view._expr.shape))
        return
    if isinstance(value, Handle) and value._expr.dtype is not self.dtype and not takes_any_dtype(index, value):
        raise mixed_dtypes(self.dtype, value._expr.dtype)
    v = cast_operand(self, value)
    dims, indices = index_exprs(advanced)
    selected = emit(TABLE["index"], (expr_of(view), *indices), dims)
    e = emit(TABLE["index_put"], (expr_of(view), fitted(v, selected.shape), *indices), (dims, False))
    write(view, e)


def cast_operand(self: Tensor, value: Any) -> Expr:
    """A value to be written, in the tensor's dtype."""
    if isinstance(value, Handle):
        v = expr_of(value)
    else:
        if value.__class__ in NUMBER:
            value = typed(value, self._expr.dtype)
        v = operand(as_tensor(value) if isinstance(value, (list, np.ndarray)) else value, "__setitem__")
    dtype = self._expr.dtype
    return v if v.dtype is dtype else emit1(TABLE["cast"], v, dtype.name)


def fitted(v: Expr, shape: tuple[int, ...]) -> Expr:
    """The value broadcast to the shape of the region that it is written to."""
    while len(v.shape) > len(shape) and v.shape[0] == 1:
        v = emit1(TABLE["reshape"], v, v.shape[1:])
    if v.shape == shape:
        return v
    extra = len(shape) - len(v.shape)
    if extra < 0 or any(n not in (1, want) for n, want in zip(v.shape, shape[extra:], strict=True)):
        bad = next((i for i, (n, want) in enumerate(zip(reversed(v.shape), reversed(shape), strict=False))
                    if n not in (1, want)), 0)
        raise ShapeMismatchError(f"The expanded size of the tensor ({shape[-1 - bad] if shape else 0}) must match the existing "
                                 f"size ({v.shape[-1 - bad] if v.shape else 0}) at non-singleton dimension "
                                 f"{max(len(shape) - 1 - bad, 0)}.  Target sizes: {list(shape)}.  Tensor sizes: {list(v.shape)}")
    return emit1(TABLE["expand"], v, shape)


METHODS["__getitem__"] = getitem
METHODS["__setitem__"] = setitem


# ---- functions ---------------------------------------------------------------------------------------------------------

def index_operand(index: Any, name: str, position: int = 3, *, int32_allowed: bool = True) -> Expr:
    """An int64 index expression."""
    e = tensor_operand(index, name, position, "index")
    if e.dtype is int64:
        return e
    if int32_allowed and e.dtype.name == "int32" or 0 in e.shape and e.dtype.category == 1:
        return emit1(TABLE["cast"], e, "int64")
    raise DTypeError(f"{name}(): Expected dtype int32/int64 for index")


@function("gather")
def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """``out[i][j] = input[index[i][j]][j]`` for dim 0, and so on."""
    e, i = tensor_operand(input, "gather"), index_operand(index, "gather", int32_allowed=True)
    if 0 in i.shape and len(i.shape) != len(e.shape):       # an empty index may have any number of dimensions
        nothing = emit1(TABLE["reshape"], e, (input.numel(),))
        return Tensor(emit1(TABLE["slice"], nothing, ((0, 0, 1),))).reshape(i.shape)
    return Tensor(emit2(TABLE["gather"], e, i, normalise_dim(dim, max(len(e.shape), 1))))


_REDUCTIONS: Final = {"add": "add", "multiply": "mul", "sum": "add", "prod": "mul", "amax": "amax", "amin": "amin",
                      "mean": "mean"}


@function("scatter", inplace=True)
def scatter(input: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None, reduce: str | None = None) -> Tensor:
    """A copy of ``input`` with ``src`` written to the positions of ``index`` along ``dim``; reduce: None, add, multiply."""
    mode = "set"
    if reduce is not None:
        if reduce not in ("add", "multiply"):
            raise ShapeMismatchError(f"reduce argument must be either add or multiply, got {reduce}")
        mode = _REDUCTIONS[reduce]
    return scatter_with(input, dim, index, src if src is not None else value, mode, "scatter")


@function("scatter_add", inplace=True)
def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """A copy of ``input`` with ``src`` added at the positions of ``index`` along ``dim``."""
    return scatter_with(input, dim, index, src, "add", "scatter_add")


def scatter_with(input: Tensor, dim: int, index: Tensor, src: Any, mode: str, name: str) -> Tensor:
    """scatter with a mode of the op."""
    e, i = tensor_operand(input, name), index_operand(index, name, int32_allowed=True)
    v = operand(typed(src, e.dtype) if src.__class__ in NUMBER else src, name, 4, "src")
    if not isinstance(src, Handle):
        v = emit1(TABLE["cast"], v, e.dtype.name)
        v = emit1(TABLE["expand"], v, i.shape) if i.shape else v
    elif v.dtype is not e.dtype:
        raise DTypeError(f"{name}(): Expected self.dtype to be equal to src.dtype")
    return Tensor(emit(TABLE["scatter"], (e, i, v), (normalise_dim(dim, max(len(e.shape), 1)), mode)))


def _index_of_dim(index: Expr, dim: int, shape: tuple[int, ...]) -> Expr:
    """A vector of positions of one dimension, as scatter's index for slices of this shape."""
    spread = emit1(TABLE["reshape"], index, tuple([index.shape[0] if axis == dim else 1 for axis in range(len(shape))]))
    return emit1(TABLE["expand"], spread, shape)


def _reduced_into(e: Expr, dim: int, index: Expr, source: Expr, reduce: str, include_self: bool, name: str) -> Tensor:
    if reduce not in ("sum", "prod", "mean", "amax", "amin"):
        raise ShapeMismatchError(f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}.")
    if source.dtype is not e.dtype:
        raise DTypeError(f"{name}(): Expected self.dtype to be equal to src.dtype")
    return Tensor(scatter_reduce_expr(e, dim, index, source, reduce, include_self))


@function("scatter_reduce", inplace=True)
def scatter_reduce(input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True) -> Tensor:
    """A copy of ``input`` in which elements of ``src`` that meet at a position of ``dim`` are reduced.

    reduce: ``"sum"``, ``"prod"``, ``"mean"``, ``"amax"`` or ``"amin"``; include_self: the input's elements take part.
    """
    e, i = tensor_operand(input, "scatter_reduce"), index_operand(index, "scatter_reduce")
    d = normalise_dim(dim, max(len(e.shape), 1))
    return _reduced_into(e, d, i, tensor_operand(src, "scatter_reduce", 4, "src"), reduce, include_self, "scatter_reduce")


@function("index_reduce", inplace=True)
def index_reduce(input: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True) -> Tensor:
    """A copy of ``input`` in which slices of ``source`` that meet at an entry of ``dim`` are reduced.

    reduce: ``"prod"``, ``"mean"``, ``"amax"`` or ``"amin"``; include_self: the input's elements take part.
    """
    e, i = tensor_operand(input, "index_reduce"), index_operand(index, "index_reduce")
    v = tensor_operand(source, "index_reduce", 4, "source")
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise ShapeMismatchError(f"index_reduce(): Expected reduce to be one of prod, mean, amax or amin but got {reduce}.")
    if len(i.shape) > 1:
        raise IndexOutOfRangeError("index_reduce(): Index is supposed to be a vector")
    d = normalise_dim(dim, max(len(e.shape), 1))
    flat, i = not e.shape, i if i.shape else emit1(TABLE["reshape"], i, (1,))
    e = emit1(TABLE["reshape"], e, (1,)) if flat else e
    v = v if v.shape else emit1(TABLE["reshape"], v, (1,))
    if v.shape != (*e.shape[:d], i.shape[0], *e.shape[d + 1:]):
        raise ShapeMismatchError(f"index_reduce(): source of shape {list(v.shape)} does not fit an index of {i.shape[0]} entries "
                                 f"of dimension {d} of a tensor of shape {list(e.shape)}")
    out = _reduced_into(e, d, _index_of_dim(i, d, v.shape), v, reduce, include_self, "index_reduce")
    return out.reshape(()) if flat else out


@function("index_select")
def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The entries ``index`` (a vector) of one dimension."""
    e, i = tensor_operand(input, "index_select"), index_operand(index, "index_select")
    if len(i.shape) > 1:
        raise IndexOutOfRangeError("index_select(): Index is supposed to be a vector")
    d = normalise_dim(dim, max(len(e.shape), 1))
    if not e.shape:
        return input.clone()  # type: ignore[no-any-return]
    if not i.shape:
        i = emit1(TABLE["reshape"], i, (1,))
    return Tensor(emit2(TABLE["index_select"], e, i, d))


def _index_write(name: str, accumulate: bool) -> None:
    def fn(input: Tensor, dim: int, index: Tensor, source: Any, *, alpha: Any = 1) -> Tensor:
        e, i = tensor_operand(input, name), index_operand(index, name)
        if len(i.shape) > 1:
            raise IndexOutOfRangeError(f"{name}(): Index is supposed to be a vector, but got dim: {len(i.shape)} with type: Long")
        d = normalise_dim(dim, max(len(e.shape), 1))
        v = operand(typed(source, e.dtype) if source.__class__ in NUMBER else source, name, 4, "source")
        if v.dtype is not e.dtype and isinstance(source, Handle) and name != "index_fill":
            raise DTypeError(f"{name}(): self and source expected to have the same dtype, but got (self) {e.dtype.name} and "
                             f"(source) {v.dtype.name}")
        if alpha != 1:
            v = emit1(TABLE["cast"], emit2(TABLE["mul"], v, operand(alpha, name)), e.dtype.name)
        return Tensor(index_write(e, d, i, v, accumulate, name))
    fn.__name__ = name
    fn.__doc__ = f"``{name}``: entries ``index`` of one dimension of a copy of ``input`` changed."
    function(name, inplace=True)(fn)


def index_write(e: Expr, d: int, i: Expr, v: Expr, accumulate: bool, name: str) -> Expr:
    """Write (or add) slices of ``v`` at positions ``i`` of dimension ``d``."""
    if not i.shape:
        i = emit1(TABLE["reshape"], i, (1,))
    flat = not e.shape
    if flat:
        e = emit1(TABLE["reshape"], e, (1,))
    if name == "index_fill":
        if v.shape:
            raise DTypeError(f"index_fill_ only supports a 0-dimensional value tensor, but got tensor with {len(v.shape)} "
                             "dimension(s).")
        line = emit1(TABLE["expand"], constant(False, bool_), (e.shape[d],))
        chosen = emit1(TABLE["expand"], constant(True, bool_), i.shape)
        mask = emit(TABLE["index_put"], (line, chosen, i), ((0,), False))
        mask = emit1(TABLE["reshape"], mask, (e.shape[d], *(1,) * (len(e.shape) - d - 1)))
        out = emit(TABLE["where"], (mask, emit1(TABLE["cast"], v, e.dtype.name), e))
        return emit1(TABLE["reshape"], out, ()) if flat else out
    elif len(v.shape) < len(e.shape):
        v = emit1(TABLE["reshape"], v, v.shape or (1,)) if flat or not v.shape else v
    want = (*e.shape[:d], i.shape[0], *e.shape[d + 1:])
    if v.shape != want:
        raise ShapeMismatchError(f"{name}(): source shape {list(v.shape)} does not match the indexed region {list(want)}")
    # index_put wants the index's dimension first in its region.
    order = (d, *[k for k in range(len(e.shape)) if k != d])
    inverse = tuple(order.index(k) for k in range(len(order)))
    v = emit1(TABLE["expand"], v, want) if v.shape != want else v
    moved = emit1(TABLE["permute"], e, order) if d else e
    moved_v = emit1(TABLE["permute"], v, order) if d else v
    out = emit(TABLE["index_put"], (moved, moved_v, i), ((0,), accumulate))
    out = emit1(TABLE["permute"], out, inverse) if d else out
    return emit1(TABLE["reshape"], out, ()) if flat else out


_index_write("index_add", True)
_index_write("index_copy", False)
_index_write("index_fill", False)


@function("index_put", inplace=True, out=False)
def index_put(input: Tensor, indices: Any, values: Tensor, accumulate: bool = False) -> Tensor:
    """A copy of ``input`` with ``values`` written (or added) at positions given by a tuple of index tensors."""
    e = tensor_operand(input, "index_put")
    v = tensor_operand(values, "index_put", 3, "values")
    if v.dtype is not e.dtype:
        raise mixed_dtypes(e.dtype, v.dtype)
    base, advanced = basic_part(input.detach(), tuple(FULL if i is None else i for i in indices), numbers=False)
    dims, found = index_exprs(advanced)
    merged = emit1(TABLE["reshape"], e, base._expr.shape)           # dimensions that a mask covers are one
    region = emit(TABLE["index"], (merged, *found), dims)
    out = emit(TABLE["index_put"], (merged, fitted(v, region.shape), *found), (dims, bool(accumulate)))
    return Tensor(emit1(TABLE["reshape"], out, e.shape))


@function("take")
def take(input: Tensor, index: Tensor) -> Tensor:
    """Elements at positions of the flattened tensor."""
    e, i = tensor_operand(input, "take"), index_operand(index, "take", int32_allowed=False)
    if not input.numel() and index.numel():
        raise IndexOutOfRangeError("take(): tried to take from an empty tensor")
    flat = emit1(TABLE["reshape"], e, (input.numel(),))
    return Tensor(emit2(TABLE["index"], flat, i, (0,)))


@function("put", inplace=True, out=False)
def put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """A copy with elements at positions of the flattened tensor replaced (or added to)."""
    e, i, v = tensor_operand(input, "put"), index_operand(index, "put"), tensor_operand(source, "put", 3, "source")
    if v.dtype is not e.dtype:
        raise DTypeError("put_(): self and source expected to have the same dtype")
    flat = emit1(TABLE["reshape"], e, (input.numel(),))
    v = emit1(TABLE["reshape"], v, i.shape)
    out = emit(TABLE["index_put"], (flat, v, i), ((0,), bool(accumulate)))
    return Tensor(emit1(TABLE["reshape"], out, e.shape))


@function("take_along_dim")
def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """gather with broadcasting of all dimensions but ``dim``."""
    if dim is None:
        return take_along_dim(input.reshape(-1), indices.reshape(-1), 0)  # type: ignore[no-any-return]
    d = normalise_dim(dim, input.ndim)
    if input.ndim != indices.ndim:
        raise ShapeMismatchError(f"torsh.take_along_dim(): input and indices should have the same number of dimensions, but got "
                                 f"{input.ndim} dimensions for input, and {indices.ndim} dimensions for indices")
    a, b = list(input.shape), list(indices.shape)
    a[d] = b[d] = 1
    common = list(broadcast_shapes(tuple(a), tuple(b)))
    wide, positions = common.copy(), common.copy()
    wide[d], positions[d] = input.shape[d], indices.shape[d]
    n = input.shape[d]
    at = index_operand(indices, "take_along_dim", 2)
    at = emit(TABLE["where"], (emit2(TABLE["lt"], at, constant(0, int64)), emit2(TABLE["add"], at, constant(n, int64)), at))
    return gather(input.expand(wide), d, Tensor(at).expand(positions))  # type: ignore[no-any-return]


@function("masked_fill", inplace=True, out=False)
def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """``value`` where the mask holds, else ``input``."""
    e, m = tensor_operand(input, "masked_fill"), tensor_operand(mask, "masked_fill", 2, "mask")
    if m.dtype is not bool_:
        raise DTypeError(f"masked_fill_ only supports boolean masks, but got mask with dtype {m.dtype.name}")
    if value.__class__ in NUMBER and value.__class__ is not complex:
        value = typed(value, e.dtype)
    v = operand(value, "masked_fill", 3, "value")
    if v.shape:
        raise ShapeMismatchError(f"masked_fill only supports a 0-dimensional value tensor, but got tensor with {len(v.shape)} "
                                 "dimension(s).")
    if v.dtype.category == 3 and e.dtype.category < 3:
        raise overflow(e.dtype)
    return Tensor(emit(TABLE["where"], (m, emit1(TABLE["cast"], v, e.dtype.name), e)))


@function("masked_select")
def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where the mask holds, in one dimension."""
    if mask.dtype is not bool_:
        raise DTypeError(f"masked_select: expected BoolTensor for mask, got {mask.dtype.name}")
    shape = broadcast_shapes(tuple(input._expr.shape), tuple(mask._expr.shape))
    wide, m = input.expand(shape), mask.expand(shape)
    if not shape:
        wide, m = wide.reshape(1), m.reshape(1)
    return getitem(wide, m)  # type: ignore[no-any-return]


@function("masked_scatter", inplace=True, out=False)
def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """A copy of ``input`` whose masked elements are taken from ``source`` in order."""
    if mask.dtype is not bool_:
        raise DTypeError(f"masked_scatter_ only supports boolean masks, but got mask with dtype {mask.dtype.name}")
    if input.dtype is not source.dtype:
        raise DTypeError(f"masked_scatter: expected self and source to have same dtypes but got {input.dtype.name} and "
                         f"{source.dtype.name}")
    shape = broadcast_shapes(tuple(input._expr.shape), tuple(mask._expr.shape))
    wide = input.expand(shape)
    m = mask.expand(shape)
    order = (m.reshape(-1).to(int64).cumsum(0) - 1).clamp(min=0)
    if source.numel() == 0:
        return wide.clone()  # type: ignore[no-any-return]
    count = int(m.sum().item())
    if count > source.numel():
        raise ShapeMismatchError(f"masked_scatter: expected the number of elements in source ({source.numel()}) to be at least "
                                 f"the number of true elements in mask ({count})")
    picked = take(source, order.clamp(max=source.numel() - 1)).reshape(shape)
    return Tensor(emit(TABLE["where"], (expr_of(m), expr_of(picked), expr_of(wide))))


@function("nonzero", out=True)
def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """Positions of the elements that are not zero: rows of a matrix, or one vector per dimension."""
    if not isinstance(input, Handle):
        raise ArgumentTypeError(f"nonzero(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    array = input.detach()._ndarray()  # type: ignore[attr-defined]
    if as_tuple:
        return tuple([from_array(p, int64) for p in coordinates(np.atleast_1d(array))])
    return from_array(rows_of(array), int64)


@function("nonzero_static")
def nonzero_static(input: Tensor, *, size: int, fill_value: int = -1) -> Tensor:
    """The first ``size`` positions of elements that are not zero, as rows; missing ones are ``fill_value``."""
    if size < 0:
        raise ShapeMismatchError(f"nonzero_static: 'size' must be an non-negative integer, got {size}")
    found = rows_of(input.detach()._ndarray())[:size]
    rows = np.full((size, input.ndim), fill_value, np.int64)
    rows[:len(found)] = found
    return from_array(rows, int64)


@function("unravel_index", method=False, out=False)
def unravel_index(indices: Tensor, shape: Any) -> tuple[Tensor, ...]:
    """The coordinates, in a tensor of ``shape``, of positions in the flattened tensor."""
    sizes = tuple(shape) if hasattr(shape, "__iter__") else (shape,)
    if indices.dtype.category != 1:
        raise InvalidArgumentError(f"expected 'indices' to be integer dtype, but got {indices.dtype}")
    out = []
    rest: Any = indices
    for n in reversed(sizes):
        if n < 0:
            raise InvalidArgumentError(f"'shape' cannot have negative values, but got {sizes}")
        out.append(rest % n)
        rest = rest.div(n, rounding_mode="floor")
    return tuple(reversed(out))


@function("argwhere", out=False)
def argwhere(input: Tensor) -> Tensor:
    """Positions of the elements that are not zero, as rows."""
    return nonzero(input)  # type: ignore[no-any-return]
