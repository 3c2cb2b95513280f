"""Views of the same bytes as elements of another dtype: ``view(dtype)``, ``view_as_real`` and ``view_as_complex``.

They are links of a view's chain like the views of :mod:`torsh.ops.shape`, but no index maps: they are computed, and a write through
one goes through its inverse. A geometry's strides and offset are in elements of its own dtype.
"""
from __future__ import annotations

from typing import Any, Final

import numpy as np

from torsh.core.dtype import DType, dtype_by_name
from torsh.core.errors import ShapeMismatchError
from torsh.core.promotion import SCALAR_TYPE_NAMES
from torsh.ops.complex_parts import VIEW_AS_COMPLEX, VIEW_AS_REAL
from torsh.ops.define import Array
from torsh.ops.expr import HOST, Expr, Op, Shape, emit1, emit2
from torsh.ops.shape import VIEW_WRITE, Chain, Geometry, apply_chain

Names = tuple[str, str]             # the dtype of the memory, and the one that it is read as


def _sizes(attr: Names) -> tuple[int, int]:
    return dtype_by_name(attr[0]).itemsize, dtype_by_name(attr[1]).itemsize


def reinterpreted_geometry(attr: Names, shape: Shape, strides: Shape, offset: int) -> Geometry:
    """Raises PyTorch's errors where the bytes of an element of the new dtype do not lie side by side."""
    old, new = _sizes(attr)
    if old == new:
        return shape, strides, offset
    names = f"to view {SCALAR_TYPE_NAMES[attr[0]]} as {SCALAR_TYPE_NAMES[attr[1]]} (different element sizes)"
    if not shape:
        raise ShapeMismatchError(f"self.dim() cannot be 0 {names}")
    if strides[-1] != 1:
        raise ShapeMismatchError(f"self.stride(-1) must be 1 {names}, but got {strides[-1]}")
    if old > new:
        ratio = old // new
        return (*shape[:-1], shape[-1] * ratio), (*[s * ratio for s in strides[:-1]], 1), offset * ratio
    ratio = new // old
    for what, value in (("size(-1)", shape[-1]), ("storage_offset()", offset),
                        *[(f"stride({axis})", s) for axis, s in enumerate(strides[:-1])]):
        if value % ratio:
            raise ShapeMismatchError(f"self.{what} must be divisible by {ratio} {names}, but got {value}")
    return (*shape[:-1], shape[-1] // ratio), (*[s // ratio for s in strides[:-1]], 1), offset // ratio


def _real_geometry(attr: Any, shape: Shape, strides: Shape, offset: int) -> Geometry:
    return (*shape, 2), (*[s * 2 for s in strides], 1), offset * 2


def _complex_geometry(attr: Any, shape: Shape, strides: Shape, offset: int) -> Geometry:
    if strides[-1] != 1:
        raise ShapeMismatchError("Tensor must have a last dimension with stride 1")
    if any(s % 2 for s, n in zip(strides[:-1], shape[:-1], strict=True) if n != 1):
        raise ShapeMismatchError("Tensor must have a stride divisible by 2 for all but last dimension")
    if offset % 2:
        raise ShapeMismatchError("Tensor must have a storage_offset divisible by 2")
    return shape[:-1], tuple([s // 2 for s in strides[:-1]]), offset // 2


def _infer(attr: Names, a: Expr) -> tuple[Shape, DType]:
    old, new = _sizes(attr)
    shape = a.shape if old == new else (*a.shape[:-1], a.shape[-1] * old // new)
    return shape, dtype_by_name(attr[1])


def _reference(attr: Names, a: Any) -> Array:
    old, new = _sizes(attr)
    array, dtype = np.array(a, order="C"), dtype_by_name(attr[1]).numpy
    if old == new:
        return array.view(dtype)
    return array.reshape(-1).view(dtype).reshape((*array.shape[:-1], array.shape[-1] * old // new))


# attr: (name of the argument's dtype, name of the result's). Gradients do not go through, as in PyTorch.
REINTERPRET: Final[Op] = Op("reinterpret", _infer, _reference, kind=HOST, geometry=reinterpreted_geometry)
VIEW_AS_REAL.geometry = _real_geometry
VIEW_AS_COMPLEX.geometry = _complex_geometry


def inverse(op: Op, attr: Any) -> tuple[Op, Any]:
    """The view that undoes a view of this file."""
    if op is REINTERPRET:
        return op, attr[::-1]
    return (VIEW_AS_COMPLEX if op is VIEW_AS_REAL else VIEW_AS_REAL), None


def changes_dtype(op: Op) -> bool:
    """Is it a view of this file?"""
    return op is REINTERPRET or op is VIEW_AS_REAL or op is VIEW_AS_COMPLEX


def written_through(base: Expr, value: Expr, links: tuple[tuple[Chain, Op | None, Any], ...]) -> Expr:
    """``base`` with ``value`` in the region that a chain leads to; links: views, and the view of this file behind them, or None."""
    names, op, attr = links[0]
    if op is not None:
        inner = written_through(emit1(op, apply_chain(base, names), attr), value, links[1:])
        back, back_attr = inverse(op, attr)
        value = emit1(back, inner, back_attr)
    return emit2(VIEW_WRITE, base, value, names) if names else value
