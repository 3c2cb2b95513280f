"""Views, writes through views, joins and other functions that move elements.

A view op has a ``geometry``: from the shape, strides and offset (in elements) of its argument to its own, or None where no
strides can express it (reshape). Its NumPy reference, its region of ``view_write`` and its gradient all follow from that.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Final

import numpy as np

from torsh.core.dtype import DType, overflow, promote_types
from torsh.core.errors import IndexOutOfRangeError, ShapeMismatchError
from torsh.core.shape import contiguous_strides, reshape_strides
from torsh.ops.common import (
    add,
    cast,
    expand,
    full,
    ge,
    gradient_for,
    iota,
    le,
    number,
    permute,
    reshape,
    slice_dim,
    sum_to,
    transpose,
    where,
    zeros_like,
)
from torsh.ops.define import Array, convert
from torsh.ops.expr import HOST, OPAQUE, TABLE, VIEW, Expr, Op, Shape, emit, emit1, emit2

Geometry = tuple[Shape, Shape, int]
Chain = tuple[tuple[str, Any], ...]


# ---- views -------------------------------------------------------------------------------------------------------------

def strided(array: Array, geometry: Geometry) -> Array:
    """A NumPy view of a contiguous array."""
    shape, strides, offset = geometry
    if 0 in shape:
        return np.empty(shape, array.dtype)
    flat = array.reshape(-1)[offset:]
    return np.lib.stride_tricks.as_strided(flat, shape, tuple([s * array.itemsize for s in strides]))


def contiguous_geometry(shape: Shape) -> Geometry:
    """Geometry of a tensor whose elements lie in order."""
    return shape, contiguous_strides(shape), 0


def view(name: str, geometry: Callable[[Any, Shape, Shape, int], Geometry | None],
         gradient: Callable[[Expr, Expr], tuple[Expr | None, ...]] | None,
         decompose: Callable[[Expr], Expr] | None = None) -> Op:
    """A row for a view op."""
    def infer(attr: Any, a: Expr) -> tuple[Shape, DType]:
        found = geometry(attr, *contiguous_geometry(a.shape))
        assert found is not None
        return found[0], a.dtype

    def reference(attr: Any, a: Any) -> Array:
        array = np.ascontiguousarray(a).reshape(np.shape(a))
        found = geometry(attr, *contiguous_geometry(array.shape))
        assert found is not None
        return strided(array, found)
    return Op(name, infer, reference, gradient=gradient, decompose=decompose, kind=VIEW, geometry=geometry)


def region_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    """Gradient of a view that meets no element twice: written into zeros."""
    return (view_write(full(e.args[0].shape, 0, g.dtype), g, ((e.op.name, e.attr),)),)


def overlapping_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    """Gradient of a view that may meet elements several times: summed into zeros."""
    return (emit1(VIEW_ACCUMULATE, g, (e.args[0].shape, ((e.op.name, e.attr),))),)


def reshape_geometry(attr: Shape, shape: Shape, strides: Shape, offset: int) -> Geometry | None:
    """None where the strides do not allow a view."""
    if prod(attr) != prod(shape) or any(n < 0 for n in attr):
        raise ShapeMismatchError(f"shape '{list(attr)}' is invalid for input of size {prod(shape)}")
    found = reshape_strides(shape, strides, attr)
    return None if found is None else (attr, found, offset)


def permute_geometry(attr: tuple[int, ...], shape: Shape, strides: Shape, offset: int) -> Geometry:
    """attr: which old dimension each new one is."""
    if len(attr) != len(shape):
        raise ShapeMismatchError(f"permute: {len(attr)} axes were given for a tensor of {len(shape)} dimensions")
    return tuple([shape[axis] for axis in attr]), tuple([strides[axis] for axis in attr]), offset


def transpose_geometry(attr: tuple[int, int], shape: Shape, strides: Shape, offset: int) -> Geometry:
    """attr: the two dimensions that change places."""
    axes = list(range(len(shape)))
    if axes:
        axes[attr[0]], axes[attr[1]] = axes[attr[1]], axes[attr[0]]
    return permute_geometry(tuple(axes), shape, strides, offset)


def expand_geometry(attr: Shape, shape: Shape, strides: Shape, offset: int) -> Geometry:
    """Dimensions of size 1 (and new ones in front) get stride 0."""
    extra = len(attr) - len(shape)
    out = [0] * extra
    for axis, (n, s) in enumerate(zip(shape, strides, strict=True)):
        want = attr[axis + extra] if extra >= 0 else n
        if extra < 0 or n not in (1, want):
            raise ShapeMismatchError(f"The expanded size of the tensor ({want}) must match the existing size ({n}) at "
                                     f"non-singleton dimension {axis + extra}.  Target sizes: {list(attr)}.  Tensor sizes: "
                                     f"{list(shape)}")
        out.append(s if n == want else 0)
    return tuple(attr), tuple(out), offset


def slice_geometry(attr: tuple[tuple[int, int, int], ...], shape: Shape, strides: Shape, offset: int) -> Geometry:
    """attr: (start, length, step) per dimension; steps may be negative."""
    for (start, length, step), n in zip(attr, shape, strict=True):
        if length and not (0 <= start < n and 0 <= start + (length - 1) * step < n):
            raise IndexOutOfRangeError(f"slice: start {start}, length {length} and step {step} leave a dimension of size "
                                       f"{n}")
    moved = sum(start * s for (start, length, _), s in zip(attr, strides, strict=True) if length)
    return tuple([a[1] for a in attr]), tuple([a[2] * s for a, s in zip(attr, strides, strict=True)]), offset + moved


def select_geometry(attr: tuple[int, int], shape: Shape, strides: Shape, offset: int) -> Geometry:
    """attr: (dimension, index)."""
    dim, index = attr
    if not 0 <= index < shape[dim]:
        raise IndexOutOfRangeError(f"select(): index {index} out of range for tensor of size {list(shape)} at dimension "
                                   f"{dim}")
    return (*shape[:dim], *shape[dim + 1:]), (*strides[:dim], *strides[dim + 1:]), offset + index * strides[dim]


def diagonal_geometry(attr: tuple[int, int, int], shape: Shape, strides: Shape, offset: int) -> Geometry:
    """attr: (offset, dim1, dim2); the diagonal becomes the last dimension."""
    shift, i, j = attr
    rows, columns = shape[i], shape[j]
    length = max(0, min(rows, columns - shift) if shift >= 0 else min(rows + shift, columns))
    rest = [axis for axis in range(len(shape)) if axis not in (i, j)]
    if length:
        offset += shift * strides[j] if shift >= 0 else -shift * strides[i]
    return (*[shape[axis] for axis in rest], length), (*[strides[axis] for axis in rest], strides[i] + strides[j]), offset


def unfold_geometry(attr: tuple[int, int, int], shape: Shape, strides: Shape, offset: int) -> Geometry:
    """attr: (dimension, size, step); windows become the last dimension."""
    dim, size, step = attr
    if size > shape[dim]:
        raise ShapeMismatchError(f"maximum size for tensor at dimension {dim} is {shape[dim]} but size is {size}")
    count = (shape[dim] - size) // step + 1
    return ((*shape[:dim], count, *shape[dim + 1:], size),
            (*strides[:dim], strides[dim] * step, *strides[dim + 1:], strides[dim]), offset)


def as_strided_geometry(attr: Geometry, shape: Shape, strides: Shape, offset: int) -> Geometry | None:
    """attr: (shape, strides, offset), of a contiguous argument."""
    if contiguous_strides(shape) != strides and prod(shape) > 1:
        return None
    return tuple(attr[0]), tuple(attr[1]), attr[2] + offset


def alias_geometry(attr: Any, shape: Shape, strides: Shape, offset: int) -> Geometry:
    """The argument's own geometry."""
    return shape, strides, offset


def _unfold_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    attr: tuple[int, int, int] = e.attr  # type: ignore[assignment]
    size, step = attr[1:]
    return region_gradient(e, g) if step >= size else overlapping_gradient(e, g)


def _inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


RESHAPE: Final[Op] = view("reshape", reshape_geometry, lambda e, g: (reshape(g, e.args[0].shape),))
PERMUTE: Final[Op] = view("permute", permute_geometry, lambda e, g: (permute(g, _inverse(e.attr)),))  # type: ignore[arg-type]
TRANSPOSE: Final[Op] = view("transpose", transpose_geometry, lambda e, g: (emit1(TRANSPOSE, g, e.attr),),
                        lambda e: transpose(e.args[0], *e.attr))  # type: ignore[misc]
EXPAND: Final[Op] = view("expand", expand_geometry, lambda e, g: (sum_to(g, e.args[0].shape),))
SLICE: Final[Op] = view("slice", slice_geometry, region_gradient)
SELECT: Final[Op] = view("select", select_geometry, region_gradient)
DIAGONAL: Final[Op] = view("diagonal", diagonal_geometry, region_gradient)
UNFOLD: Final[Op] = view("unfold", unfold_geometry, _unfold_gradient)
AS_STRIDED: Final[Op] = view("as_strided", as_strided_geometry, overlapping_gradient)
DETACH: Final[Op] = view("detach", alias_geometry, None)


def apply_chain(e: Expr, chain: Chain) -> Expr:
    """View ops, one after the other."""
    for name, attr in chain:
        e = emit1(TABLE[name], e, attr)
    return e


def chain_geometry(chain: Chain, shape: Shape) -> Geometry | None:
    """Geometry of a chain of views of a contiguous tensor; None if it contains a reshape that has to copy."""
    geometry: Geometry | None = contiguous_geometry(shape)
    for name, attr in chain:
        if geometry is None:
            return None
        geometry = TABLE[name].geometry(attr, *geometry)  # type: ignore[misc]
    return geometry


def chain_positions(chain: Chain, shape: Shape) -> Array:
    """Flat positions of the elements that a chain of views meets."""
    positions: Array = np.arange(prod(shape)).reshape(shape)
    for name, attr in chain:
        positions = TABLE[name].reference(attr, positions)  # type: ignore[misc]
    return positions


# ---- writes through views ----------------------------------------------------------------------------------------------

def view_write(base: Expr, value: Expr, chain: Chain) -> Expr:
    """``base`` with the region that the chain of views describes replaced by ``value``."""
    return emit2(VIEW_WRITE, base, value, chain)


def _view_write_infer(attr: Chain, base: Expr, value: Expr) -> tuple[Shape, DType]:
    geometry = chain_geometry(attr, base.shape)
    shape = chain_positions(attr, base.shape).shape if geometry is None else geometry[0]
    if shape != value.shape or base.dtype is not value.dtype:
        raise ShapeMismatchError(f"view_write: a region of shape {list(shape)} and dtype {base.dtype.name} cannot take a "
                                 f"value of shape {list(value.shape)} and dtype {value.dtype.name}")
    return base.shape, base.dtype


def _view_write_reference(attr: Chain, base: Any, value: Any) -> Array:
    out = np.array(base, order="C")
    geometry = chain_geometry(attr, out.shape)
    if geometry is None:
        out.reshape(-1)[chain_positions(attr, out.shape).reshape(-1)] = np.reshape(value, -1)
    elif 0 not in geometry[0]:
        strided(out, geometry)[...] = value
    return out


def _view_write_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    base, value = e.args
    chain: Chain = e.attr  # type: ignore[assignment]
    return (view_write(g, full(value.shape, 0, g.dtype), chain) if base.requires_grad else None,
            apply_chain(g, chain) if value.requires_grad else None)


VIEW_WRITE: Final[Op] = Op("view_write", _view_write_infer, _view_write_reference, gradient=_view_write_gradient,
                           kind=OPAQUE)


def _view_accumulate_reference(attr: tuple[Shape, Chain], value: Any) -> Array:
    shape, chain = attr
    positions = chain_positions(chain, shape).reshape(-1)
    array = np.asarray(value)
    total = np.zeros(prod(shape), np.float32 if array.dtype.itemsize == 2 and array.dtype.kind not in "iu" else array.dtype)
    np.add.at(total, positions, array.reshape(-1).astype(total.dtype))
    return total.astype(array.dtype).reshape(shape)


# attr (shape, chain): zeros of that shape, to whose elements under the chain of views the argument's are added.
VIEW_ACCUMULATE: Final[Op] = Op("view_accumulate", lambda attr, value: (attr[0], value.dtype), _view_accumulate_reference,
                            gradient=lambda e, g: (apply_chain(g, e.attr[1]),), kind=HOST)


# ---- identities --------------------------------------------------------------------------------------------------------

CLONE: Final[Op] = Op("clone", lambda attr, a: (a.shape, a.dtype), lambda attr, a: np.array(a), gradient=lambda e, g: (g,),
                  decompose=lambda e: e.args[0])


# ---- joins, flips, triangles, padding ----------------------------------------------------------------------------------

def _is_legacy_empty(shape: Shape) -> bool:
    return shape == (0,)


def _cat_infer(attr: int, *args: Expr) -> tuple[Shape, DType]:
    dtype = args[0].dtype
    for a in args[1:]:
        dtype = promote_types(dtype, a.dtype)
    shaped = [(i, a.shape) for i, a in enumerate(args) if not _is_legacy_empty(a.shape)]
    if not shaped:
        return (0,), dtype
    _, first = shaped[0]
    for i, shape in shaped:
        if not shape:
            raise ShapeMismatchError(f"zero-dimensional tensor (at position {i}) cannot be concatenated")
        if len(shape) != len(first):
            raise ShapeMismatchError(f"Tensors must have same number of dimensions: got {len(first)} and {len(shape)}")
        for axis, (m, n) in enumerate(zip(first, shape, strict=True)):
            if m != n and axis != attr:
                raise ShapeMismatchError(f"Sizes of tensors must match except in dimension {attr}. Expected size {m} but "
                                         f"got size {n} for tensor number {i} in the list.")
    total = sum(shape[attr] for _, shape in shaped)
    return (*first[:attr], total, *first[attr + 1:]), dtype


def _cat_reference(attr: int, *arrays: Any) -> Array:
    from torsh.core.dtype import from_numpy_dtype
    dtype = from_numpy_dtype(arrays[0].dtype)
    for a in arrays[1:]:
        dtype = promote_types(dtype, from_numpy_dtype(a.dtype))
    shaped = [convert(a, dtype) for a in arrays if not _is_legacy_empty(a.shape)]
    return np.concatenate(shaped, attr) if shaped else np.empty(0, dtype.numpy)


def _cat_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    dim: int = e.attr  # type: ignore[assignment]
    pieces: list[Expr | None] = []
    start = 0
    for a in e.args:
        if _is_legacy_empty(a.shape) and len(g.shape) != 1:
            pieces.append(zeros_like(a))
            continue
        length = a.shape[dim]
        pieces.append(gradient_for(a, slice_dim(g, dim, start, length)) if a.requires_grad else None)
        start += length
    return tuple(pieces)


CAT: Final[Op] = Op("cat", _cat_infer, _cat_reference, gradient=_cat_gradient, kind=OPAQUE)


def _flip(e: Expr, dims: tuple[int, ...]) -> Expr:
    spec = tuple([(max(n - 1, 0), n, -1) if axis in dims else (0, n, 1) for axis, n in enumerate(e.shape)])
    return emit1(SLICE, e, spec)


FLIP: Final[Op] = Op("flip", lambda attr, a: (a.shape, a.dtype), lambda attr, a: np.flip(a, attr).copy(),
                 gradient=lambda e, g: (emit1(FLIP, g, e.attr),),
                 decompose=lambda e: _flip(e.args[0], e.attr))  # type: ignore[arg-type]


def _roll(e: Expr, shifts: tuple[tuple[int, int], ...]) -> Expr:
    for dim, shift in shifts:
        n = e.shape[dim]
        k = shift % n if n else 0
        if k:
            e = emit(CAT, (slice_dim(e, dim, n - k, k), slice_dim(e, dim, 0, n - k)), dim)
    return e


# attr: ((dimension, shift), ...)
ROLL: Final[Op] = Op("roll", lambda attr, a: (a.shape, a.dtype),
                 lambda attr, a: np.roll(a, [s for _, s in attr], [d for d, _ in attr]),
                 gradient=lambda e, g: (emit1(ROLL, g, tuple([(d, -s) for d, s in e.attr])),),
                 decompose=lambda e: _roll(e.args[0], e.attr))  # type: ignore[arg-type]


def _repeat_infer(attr: tuple[int, ...], a: Expr) -> tuple[Shape, DType]:
    if len(attr) < len(a.shape):
        raise ShapeMismatchError("Number of dimensions of repeat dims can not be smaller than number of dimensions of "
                                 "tensor")
    padded = (1,) * (len(attr) - len(a.shape)) + a.shape
    return tuple([c * n for c, n in zip(attr, padded, strict=True)]), a.dtype


def _repeat(e: Expr) -> Expr:
    a, counts = e.args[0], e.attr
    padded = (1,) * (len(counts) - len(a.shape)) + a.shape  # type: ignore[arg-type]
    spread = reshape(a, tuple([v for n in padded for v in (1, n)]))
    pairs = zip(counts, padded, strict=True)  # type: ignore[call-overload]
    return reshape(expand(spread, tuple([v for pair in pairs for v in pair])), e.shape)


REPEAT: Final[Op] = Op("repeat", _repeat_infer, lambda attr, a: np.tile(a, attr), decompose=_repeat)


def repeated(e: Expr, counts: Sequence[int]) -> Expr:
    """Every element repeated, one after the other, along each dimension."""
    spread = reshape(e, tuple([v for n in e.shape for v in (n, 1)]))
    pairs = zip(e.shape, counts, strict=True)
    return reshape(expand(spread, tuple([v for pair in pairs for v in pair])),
                   tuple([n * k for n, k in zip(e.shape, counts, strict=True)]))


def _triangle_mask(shape: Shape, diagonal: int, lower: bool) -> Expr:
    rows, columns = iota(shape[-2:], 0), iota(shape[-2:], 1)
    limit = add(rows, diagonal) if diagonal else rows
    return le(columns, limit) if lower else ge(columns, limit)


def _triangle(name: str, function: Callable[..., Any], lower: bool) -> Op:
    def infer(attr: int, a: Expr) -> tuple[Shape, DType]:
        if len(a.shape) < 2:
            raise ShapeMismatchError(f"{name}: input tensor must have at least 2 dimensions")
        return a.shape, a.dtype

    def decompose(e: Expr) -> Expr:
        a = e.args[0]
        return where(_triangle_mask(a.shape, e.attr, lower), a, number(0, a.dtype))  # type: ignore[arg-type]
    return Op(name, infer, lambda attr, a: function(a, attr), gradient=lambda e, g: (emit1(e.op, g, e.attr),),
              decompose=decompose)


TRIL: Final[Op] = _triangle("tril", np.tril, True)
TRIU: Final[Op] = _triangle("triu", np.triu, False)

Padding = tuple[tuple[int, int], ...]


def _pad_infer(attr: Padding, a: Expr, value: Expr) -> tuple[Shape, DType]:
    shape = tuple([before + n + after for n, (before, after) in zip(a.shape, attr, strict=True)])
    if any(n < 0 for n in shape):
        raise ShapeMismatchError(f"constant_pad: the padding {list(attr)} is impossible for a tensor of shape "
                                 f"{list(a.shape)}: it would leave {list(shape)}")
    if any(length < 0 for _, length, _ in _kept(attr, a.shape)):
        raise ShapeMismatchError("narrow(): length must be non-negative.")
    if value.shape:
        raise ShapeMismatchError("constant_pad: the value must be a number")
    if value.dtype.category > max(a.dtype.category, 2):
        raise overflow(a.dtype)
    return shape, a.dtype


def _kept(padding: Padding, shape: Shape) -> tuple[tuple[int, int, int], ...]:
    """What negative padding leaves, as a slice of the argument."""
    return tuple([(max(-before, 0), n + min(before, 0) + min(after, 0), 1)
                  for n, (before, after) in zip(shape, padding, strict=True)])


def _pad(e: Expr) -> Expr:
    a, value = e.args
    padding: Padding = e.attr  # type: ignore[assignment]
    kept = _kept(padding, a.shape)
    if any(length < 0 for _, length, _ in kept):
        return expand(cast(value, a.dtype), e.shape)
    inner = emit1(SLICE, a, kept) if any(min(p) < 0 for p in padding) else a
    if inner.shape == e.shape:
        return inner
    place = tuple([(max(before, 0), length, 1) for (before, _), (_, length, _) in zip(padding, kept, strict=True)])
    return view_write(expand(cast(value, a.dtype), e.shape), inner, (("slice", place),))


def _pad_reference(attr: Padding, a: Any, value: Any) -> Array:
    array = np.asarray(a)[tuple([slice(max(-b, 0), n + min(c, 0)) for n, (b, c) in zip(np.shape(a), attr, strict=True)])]
    fill = np.asarray(value).astype(array.dtype)
    return np.pad(array, [(max(b, 0), max(c, 0)) for b, c in attr], constant_values=fill)


def _pad_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    inverse = tuple([(-before, -after) for before, after in e.attr])  # type: ignore[attr-defined]
    return emit2(CONSTANT_PAD, g, number(0, g.dtype), inverse), None


# attr: ((before, after), ...) per dimension, negative ones cut off; args: tensor, value
CONSTANT_PAD: Final[Op] = Op("constant_pad", _pad_infer, _pad_reference, gradient=_pad_gradient, decompose=_pad)


def constant_pad_expr(e: Expr, pad: Sequence[int], value: Any) -> Expr:
    """The last dimensions padded with a number; pad: (before, after) from the last dimension on, negative ones cut off."""
    if len(pad) % 2 or len(pad) // 2 > len(e.shape):
        raise ShapeMismatchError(f"Length of pad must be even and no more than twice the number of dimensions of the input. Pad "
                                 f"length is {len(pad)} while the input has {len(e.shape)} dimensions.")
    pairs = ((0, 0),) * (len(e.shape) - len(pad) // 2) + tuple(zip(pad[0::2], pad[1::2], strict=True))[::-1]
    for axis, (n, (before, after)) in enumerate(zip(e.shape, pairs, strict=True)):
        if n + before + after < 0:
            raise ShapeMismatchError(f"The input size {n}, plus negative padding {before} and {after} resulted in a negative "
                                     f"output size, which is invalid. Check dimension {axis} of your input.")
    if not any(pad):
        return emit1(CLONE, e)
    return emit2(CONSTANT_PAD, e, number(value, e.dtype), pairs)
