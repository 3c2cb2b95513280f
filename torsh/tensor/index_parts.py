"""Indices taken apart: numbers, slices and None as views, what is left as index tensors."""
from __future__ import annotations

from math import prod
from typing import Any, Final

import numpy as np

from torsh.core.dtype import DType, bool_, int64, uint8
from torsh.core.errors import ArgumentTypeError, DTypeError, IndexOutOfRangeError
from torsh.graph.handle import Handle, make_view
from torsh.ops.expr import TABLE, recording
from torsh.tensor.creation import as_tensor, from_array
from torsh.tensor.function import scalar_type_name
from torsh.tensor.positions import coordinates
from torsh.tensor.tensor import Tensor

FULL: Final = slice(None)


def is_advanced(item: Any) -> bool:
    """Is this entry of an index a tensor, an array or a sequence?"""
    return isinstance(item, (Handle, np.ndarray, list, range))


def normalised(self: Tensor, index: Any) -> list[Any]:
    """The index as a list with one entry per dimension (or None), Ellipsis expanded."""
    items = list(index) if isinstance(index, tuple) or stands_for_tuple(index) else [index]
    items = [as_index_tensor(i) if is_advanced(i) else i for i in items]
    used = 0
    for i in items:
        if i is None or i is Ellipsis or isinstance(i, (bool, np.bool_)):
            continue
        used += i.ndim if isinstance(i, Handle) and i.dtype in (bool_, uint8) else 1  # type: ignore[attr-defined]
    n = self.ndim
    if used > n:
        raise IndexOutOfRangeError(f"too many indices for tensor of dimension {n}")
    ellipses = [k for k, i in enumerate(items) if i is Ellipsis]
    if len(ellipses) > 1:
        raise IndexOutOfRangeError("an index can only have a single ellipsis ('...')")
    fill = [FULL] * (n - used)
    if ellipses:
        items[ellipses[0]:ellipses[0] + 1] = fill
    else:
        items += fill
    return items


def stands_for_tuple(index: Any) -> bool:
    """Is an index a short list of indices, which PyTorch takes as a tuple of them?"""
    return isinstance(index, list) and len(index) < 32 and any(
        i is None or i is Ellipsis or isinstance(i, (Handle, list, tuple, range, slice, np.ndarray)) for i in index)


def as_index_tensor(item: Any) -> Tensor:
    """A list, array or tensor as an index tensor."""
    if isinstance(item, Handle):
        t = item
    elif isinstance(item, np.ndarray):
        t = as_tensor(item.copy())
    else:
        values = list(item)
        t = as_tensor(np.zeros(0, np.int64)) if not values else as_tensor(values)
    if t.dtype.category > 1:  # type: ignore[attr-defined]
        raise IndexOutOfRangeError("tensors used as indices must be long, int, byte or bool tensors")
    return t  # type: ignore[return-value]


def basic_part(self: Tensor, index: Any, numbers: bool = True) -> tuple[Tensor, dict[int, Tensor]]:
    """Apply numbers, slices and None as views; returns the view and {dimension: index tensor} of what is left.

    numbers: index tensors of no dimensions are numbers.
    """
    view: Any = self
    advanced: dict[int, Any] = {}
    dim = 0
    spec: list[tuple[int, int, int]] | None = None
    for item in normalised(self, index):
        shape = view._expr.shape
        if isinstance(item, Handle) and not item.ndim and (numbers or item.dtype in (bool_, uint8)):  # type: ignore[attr-defined]
            item = number_of(item)
        if item is None:
            view = make_view(view, TABLE["reshape"], (*shape[:dim], 1, *shape[dim:]))
            dim += 1
        elif isinstance(item, (bool, np.bool_)):
            view = make_view(view, TABLE["reshape"], (*shape[:dim], 1, *shape[dim:]))
            advanced[dim] = from_array(np.zeros(1 if item else 0, np.int64), int64)
            dim += 1
        elif isinstance(item, slice):
            if item != FULL:
                start, length, step = slice_bounds(item, shape[dim])
                if (start, length, step) != (0, shape[dim], 1):
                    spec = [(0, n, 1) for n in shape]
                    spec[dim] = (start, length, step)
                    view = make_view(view, TABLE["slice"], tuple(spec))
            dim += 1
        elif isinstance(item, Handle):
            if item.dtype in (bool_, uint8):  # type: ignore[attr-defined]
                merged = merged_for(view, item, dim)
                if merged is not None:
                    view, item = merged, item.reshape(-1)  # type: ignore[attr-defined]
                dim = add_mask(view, item, dim, advanced)
            else:
                advanced[dim] = item
                dim += 1
        else:
            try:
                position = item.__index__()
            except (AttributeError, TypeError):
                raise ArgumentTypeError(f"only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are "
                                        f"valid indices (got {type(item).__name__})") from None
            n = shape[dim]
            if not -n <= position < n:
                raise IndexOutOfRangeError(f"index {position} is out of bounds for dimension {dim} with size {n}")
            view = make_view(view, TABLE["select"], (dim, position % n))
    return view, advanced


def number_of(item: Any) -> Any:
    """What an index tensor of no dimensions stands for: a number or a truth value, as if it were written there.

    Inside of a compiled step its value is not known: there it stays a tensor.
    """
    if item.dtype in (bool_, uint8):
        return bool(item)
    return item if recording.capture is not None else item.item()


def slice_bounds(item: slice, n: int) -> tuple[int, int, int]:
    """(start, length, step) of a slice of a dimension of size n."""
    step = 1 if item.step is None else item.step.__index__()
    if step <= 0:
        raise InvalidStep("step must be greater than zero")
    start, stop, _ = slice(None if item.start is None else item.start.__index__(),
                           None if item.stop is None else item.stop.__index__(), step).indices(n)
    return start, max(0, -(-(stop - start) // step)), step


class InvalidStep(ArgumentTypeError, ValueError):
    """A slice step that is not positive."""


def add_mask(view: Any, mask: Any, dim: int, advanced: dict[int, Any]) -> int:
    """Turn a mask into index tensors of the dimensions that it covers; returns the next dimension."""
    shape = view._expr.shape[dim:dim + mask.ndim]
    for k, (have, want) in enumerate(zip(mask._expr.shape, shape, strict=True)):
        if have != want:
            raise IndexOutOfRangeError(f"The shape of the mask {list(mask.shape)} at index {k} does not match the shape of the "
                                       f"indexed tensor {list(view.shape)} at index {dim + k}")
    for k, positions in enumerate(coordinates(mask.detach()._ndarray()) if mask.ndim else ()):
        advanced[dim + k] = from_array(positions, int64)
    return dim + mask.ndim  # type: ignore[no-any-return]


def merged_for(view: Any, mask: Any, dim: int) -> Any:
    """The view with the dimensions that a mask covers as one, if it is a view of that kind; else None.

    One index is looked up faster than several, and the positions in one dimension are found many times faster.
    """
    shape = view._expr.shape
    if mask.ndim < 2 or mask._expr.shape != shape[dim:dim + mask.ndim]:
        return None
    flat = (*shape[:dim], prod(mask._expr.shape), *shape[dim + mask.ndim:])
    if view._root is not None and TABLE["reshape"].geometry(flat, *view._geometry()) is None:  # type: ignore[misc]
        return None
    return make_view(view, TABLE["reshape"], flat)


def takes_any_dtype(index: Any, value: Any) -> bool:
    """Is a tensor cast where this advanced index is assigned to? With one mask and one element, and with a plain truth value."""
    items = index if isinstance(index, tuple) or stands_for_tuple(index) else (index,)
    advanced = [i for i in items if is_advanced(i) and (not isinstance(i, Handle) or i.ndim or i.dtype is bool_)]  # type: ignore[attr-defined]
    if not advanced:
        return not isinstance(index, tuple)
    if len(advanced) > 1 or prod(value._expr.shape) != 1 or any(isinstance(i, (bool, np.bool_)) for i in items):
        return False
    mask = as_index_tensor(advanced[0])
    return mask.ndim > 0 and mask.dtype is bool_


def mixed_dtypes(destination: DType, source: DType) -> DTypeError:
    """PyTorch's error for values of another dtype than the tensor that index tensors write them to."""
    return DTypeError(f"Index put requires the source and destination dtypes match, got {scalar_type_name(destination)} for the "
                      f"destination and {scalar_type_name(source)} for the source.")
