"""Arithmetic of shapes: broadcasting, dimensions, strides."""
from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod

from torsh.core.errors import IndexOutOfRangeError, ShapeMismatchError

Shape = tuple[int, ...]


def broadcast_shapes(*shapes: Shape) -> Shape:
    """The common shape of several shapes, aligned at the right; raises PyTorch's RuntimeError if there is none."""
    if not shapes:
        return ()
    first = shapes[0]
    result: Shape = tuple(first)
    for shape in shapes[1:]:
        if shape != result:
            result = _broadcast_pair(result, tuple(shape))
    return result


def _broadcast_pair(a: Shape, b: Shape) -> Shape:
    rank = max(len(a), len(b))
    left, right = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    out = []
    for axis, (m, n) in enumerate(zip(left, right, strict=True)):
        if m != n and m != 1 and n != 1:
            raise ShapeMismatchError(f"The size of tensor a ({m}) must match the size of tensor b ({n}) at non-singleton "
                                     f"dimension {axis}")
        out.append(n if m == 1 else m)
    return tuple(out)


def normalise_dim(dim: int, ndim: int) -> int:
    """A dimension counted from the front; raises PyTorch's IndexError outside of [-ndim, ndim - 1].

    Zero-dimensional tensors accept -1 and 0.
    """
    size = max(ndim, 1)
    if not -size <= dim < size:
        raise IndexOutOfRangeError(f"Dimension out of range (expected to be in range of [{-size}, {size - 1}], but got "
                                   f"{dim})")
    return dim + size if dim < 0 else dim


def contiguous_strides(shape: Sequence[int]) -> Shape:
    """Strides, in elements, of a tensor of this shape whose elements lie in order."""
    for n in shape:
        if type(n) is not int:              # symbolic sizes: what is remembered must not stand for them
            return _strides(tuple(shape))
    return _remembered_strides(tuple(shape))


def _strides(shape: Shape) -> Shape:
    strides = []
    step = 1
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


_remembered_strides = lru_cache(maxsize=8192)(_strides)


def numel(shape: Sequence[int]) -> int:
    """Number of elements."""
    return prod(shape)


def reduced_shape(shape: Shape, axes: Sequence[int], keepdim: bool) -> Shape:
    """The shape that is left when ``axes`` are reduced."""
    if keepdim:
        return tuple([1 if axis in axes else n for axis, n in enumerate(shape)])
    return tuple([n for axis, n in enumerate(shape) if axis not in axes])


def reshape_strides(shape: Shape, strides: Shape, new_shape: Shape) -> Shape | None:
    """Strides with which the same memory has ``new_shape``, or None if it has to be copied."""
    if prod(shape) == 0:
        return contiguous_strides(new_shape)
    # Runs of old dimensions that form one contiguous range, as (size, stride of the last element).
    runs: list[list[int]] = []
    for n, s in zip(shape, strides, strict=True):
        if n == 1:
            continue
        if runs and runs[-1][1] == n * s:
            runs[-1][0] *= n
            runs[-1][1] = s
        else:
            runs.append([n, s])
    out: list[int] = []
    position = len(runs) - 1
    size, stride = runs[position] if runs else (1, 1)
    for n in reversed(new_shape):
        if n != 1 and size == 1 and position > 0:
            position -= 1
            size, stride = runs[position]
        if size % n:
            return None
        out.append(stride)
        size //= n
        stride *= n
    return tuple(reversed(out))
