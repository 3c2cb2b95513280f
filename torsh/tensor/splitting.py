"""Functions that split a tensor into views of its parts."""
from __future__ import annotations

from typing import Any

from torsh.core.errors import IndexOutOfRangeError, ShapeMismatchError
from torsh.core.shape import normalise_dim
from torsh.tensor.function import function
from torsh.tensor.shaping import sliced, view_of
from torsh.tensor.tensor import Tensor


@function("unbind", out=False, views=True)
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of all entries of a dimension."""
    d = normalise_dim(dim, input.ndim)
    if not input.ndim:
        raise IndexOutOfRangeError("Dimension specified as 0 but tensor has no dimensions")
    return tuple(view_of(input, "select", (d, i)) for i in range(input._expr.shape[d]))


@function("split", out=False, views=True)
def split(tensor: Tensor, split_size_or_sections: Any = None, dim: int = 0, *, split_size: Any = None) -> tuple[Tensor, ...]:
    """Views of consecutive parts of a dimension: of equal size (the last may be smaller), or of the sizes listed."""
    part = split_size_or_sections if split_size_or_sections is not None else split_size
    d = normalise_dim(dim, tensor.ndim)
    if not tensor.ndim:
        raise ShapeMismatchError("split expects at least a 1-dimensional tensor")
    n = tensor._expr.shape[d]
    if isinstance(part, int):
        if part < 0:
            raise ShapeMismatchError(f"split expects split_size be non-negative, but got split_size={part}")
        if part == 0 and n:
            raise ShapeMismatchError(f"split_size can only be 0 if dimension size is 0, but got dimension size of {n}")
        parts = [min(part, n - i) for i in range(0, n, part)] if n else [0]
    else:
        parts = [int(p) for p in part]
        if sum(parts) != n or any(p < 0 for p in parts):
            raise ShapeMismatchError(f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at "
                                     f"dimension {d}), but got split_sizes={parts}")
    out, start = [], 0
    for p in parts:
        out.append(sliced(tensor, d, start, p, 1))
        start += p
    return tuple(out)


@function("split_with_sizes", out=False)
def split_with_sizes(input: Tensor, split_sizes: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """:func:`split` with the sizes listed."""
    return split(input, list(split_sizes), dim)  # type: ignore[no-any-return]


@function("chunk", out=False, views=True)
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most ``chunks`` parts of equal size (the last may be smaller) of a dimension."""
    d = normalise_dim(dim, input.ndim)
    if not input.ndim:
        raise ShapeMismatchError("chunk expects at least a 1-dimensional tensor")
    if chunks <= 0:
        raise ShapeMismatchError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    n = input._expr.shape[d]
    part = -(-n // chunks)
    return split(input, part, d) if part else tuple(sliced(input, d, 0, 0, 1) for _ in range(chunks))


@function("tensor_split", out=False)
def tensor_split(input: Tensor, indices_or_sections: Any = None, dim: int = 0, *, indices: Any = None,
                 sections: Any = None) -> tuple[Tensor, ...]:
    """Parts of a dimension: a number of nearly equal ones, or cut at the indices."""
    how = next(v for v in (indices_or_sections, indices, sections) if v is not None)
    if not input.ndim:
        raise ShapeMismatchError("tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims")
    d = normalise_dim(dim, input.ndim)
    n = input._expr.shape[d]
    if isinstance(how, Tensor):
        how = how.tolist()
    if isinstance(how, int):
        if how <= 0:
            raise ShapeMismatchError(f"number of sections must be larger than 0, got {how}")
        low, more = divmod(n, how)
        return split(input, [low + (i < more) for i in range(how)], d)  # type: ignore[no-any-return]
    cuts = [0, *[min(max(c + n if c < 0 else c, 0), n) for c in how], n]
    return tuple(sliced(input, d, min(a, n), max(0, b - a), 1) for a, b in zip(cuts, cuts[1:], strict=False))


@function("hsplit", out=False)
def hsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Split along dimension 1 (0 for vectors)."""
    if input.ndim < 1:
        raise ShapeMismatchError(f"torsh.hsplit requires a tensor with at least 1 dimension, but got a tensor with {input.ndim} "
                                 "dimensions!")
    dim = 1 if input.ndim > 1 else 0
    return _even_split(input, indices_or_sections, dim, "hsplit")


def _even_split(input: Tensor, how: Any, dim: int, name: str) -> tuple[Tensor, ...]:
    if isinstance(how, int) and (how <= 0 or input.shape[dim] % how):
        raise ShapeMismatchError(f"torsh.{name} attempted to split along dimension {dim}, but the size of the dimension "
                                 f"{input.shape[dim]} is not divisible by the split_size {how}!")
    return tensor_split(input, how, dim)  # type: ignore[no-any-return]


@function("dsplit", out=False)
def dsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Split along dimension 2."""
    if input.ndim < 3:
        raise ShapeMismatchError(f"torsh.dsplit requires a tensor with at least 3 dimension, but got a tensor with {input.ndim} "
                                 "dimensions!")
    return _even_split(input, indices_or_sections, 2, "dsplit")


@function("vsplit", out=False)
def vsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Split along dimension 0."""
    if input.ndim < 2:
        raise ShapeMismatchError(f"torsh.vsplit requires a tensor with at least 2 dimension, but got a tensor with {input.ndim} "
                                 "dimensions!")
    return _even_split(input, indices_or_sections, 0, "vsplit")


# PyTorch's "unsafe" splits differ only in what autograd checks.
for _name, _split in (("unsafe_split", split), ("unsafe_split_with_sizes", split_with_sizes), ("unsafe_chunk", chunk)):
    function(_name, out=False)(_split)
