"""Functions that reorder the elements of a tensor or put them to diagonals, triangles and regions."""
from __future__ import annotations

from typing import Any

from torsh.core.errors import IndexOutOfRangeError, ShapeMismatchError
from torsh.core.shape import normalise_dim
from torsh.graph.handle import expr_of
from torsh.ops.expr import TABLE, Expr, constant, emit1, emit2
from torsh.tensor.function import METHODS, NAMESPACES, function, tensor_operand
from torsh.tensor.shaping import reshape, shape_argument, transpose
from torsh.tensor.tensor import Tensor


@function("flip", out=False)
def flip(input: Tensor, *args: Any, dims: Any = None) -> Tensor:
    """A copy with the order of some dimensions reversed."""
    n = input.ndim
    listed = [normalise_dim(d, n) for d in shape_argument(args if dims is None else (dims,), "flip")]
    if len(set(listed)) != len(listed):
        raise ShapeMismatchError("dim appears multiple times in the list of dims")
    e = expr_of(input)
    if not n:
        return Tensor(e).clone()  # type: ignore[attr-defined, no-any-return]
    return Tensor(emit1(TABLE["flip"], e, tuple(sorted(listed))))


NAMESPACES[""]["fliplr"] = lambda input: _flip_checked(input, 1, "fliplr")
NAMESPACES[""]["flipud"] = lambda input: _flip_checked(input, 0, "flipud")
METHODS["fliplr"], METHODS["flipud"] = NAMESPACES[""]["fliplr"], NAMESPACES[""]["flipud"]


def _flip_checked(input: Tensor, dim: int, name: str) -> Tensor:
    if input.ndim <= dim:
        raise ShapeMismatchError(f"Input must be >= {dim + 1}-d.")
    return flip(input, dim)  # type: ignore[no-any-return]


@function("roll", out=False)
def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """Elements shifted along dimensions, around the ends (over the flattened tensor without dims)."""
    shifts = (shifts,) if isinstance(shifts, int) else tuple(shifts)
    if dims is None or dims == ():
        if len(shifts) != 1:
            raise ShapeMismatchError(f"shifts and dimensions must align. shifts: {len(shifts)}, dims:0")
        return reshape(roll(reshape(input, -1) if input.numel() else input.flatten(), shifts, 0), input.shape)  # type: ignore[no-any-return]
    dims = (dims,) if isinstance(dims, int) else tuple(dims)
    if len(dims) != len(shifts):
        raise ShapeMismatchError(f"shifts and dimensions must align. shifts: {len(shifts)}, dims:{len(dims)}")
    if not input.ndim:
        raise IndexOutOfRangeError("Dimension specified as 0 but tensor has no dimensions")
    moves = tuple([(normalise_dim(d, input.ndim), int(s)) for s, d in zip(shifts, dims, strict=True)])
    return Tensor(emit1(TABLE["roll"], expr_of(input), moves))


@function("rot90", out=False)
def rot90(input: Tensor, k: int = 1, dims: Any = (0, 1)) -> Tensor:
    """A plane of two dimensions turned by 90 degrees k times."""
    if len(dims) != 2:
        raise ShapeMismatchError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    if input.ndim < 2:
        raise ShapeMismatchError(f"expected total dims >= 2, but got total dims = {input.ndim}")
    a, b = (normalise_dim(d, input.ndim) for d in dims)
    if a == b:
        raise ShapeMismatchError(f"expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}")
    k %= 4
    if k == 0:
        return input.clone()  # type: ignore[no-any-return]
    if k == 2:
        return flip(input, a, b)  # type: ignore[no-any-return]
    return transpose(flip(input, b), a, b) if k == 1 else flip(transpose(input, a, b), b)  # type: ignore[no-any-return]


def _triangle(name: str) -> None:
    def fn(input: Tensor, diagonal: int = 0) -> Tensor:
        e = tensor_operand(input, name)
        if len(e.shape) < 2:
            raise ShapeMismatchError(f"{name}: input tensor must have at least 2 dimensions")
        return Tensor(emit1(TABLE[name], e, diagonal))
    fn.__name__ = name
    fn.__doc__ = f"The {'lower' if name == 'tril' else 'upper'} triangle of the last two dimensions; the rest is zero."
    function(name, inplace=True)(fn)


_triangle("tril")
_triangle("triu")


def _triangle_indices(name: str) -> None:
    def fn(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None, layout: Any = None) -> Tensor:
        import numpy as np

        from torsh.core.dtype import int64
        from torsh.tensor.tensor import from_array
        if row < 0 or col < 0:
            raise ShapeMismatchError("row and col must be non-negative")
        find = np.tril_indices if name == "tril_indices" else np.triu_indices
        dtype = dtype or int64
        return from_array(np.stack(find(row, offset, col)).astype(dtype.numpy), dtype)
    fn.__name__ = name
    fn.__doc__ = "Row and column positions of a triangle, as a (2, n) tensor."
    function(name, method=False, out=False)(fn)


_triangle_indices("tril_indices")
_triangle_indices("triu_indices")


@function("diag")
def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """A vector as the diagonal of a matrix, or the diagonal of a matrix as a vector."""
    if input.ndim == 1:
        return diag_embed(input, diagonal)  # type: ignore[no-any-return]
    if input.ndim != 2:
        raise ShapeMismatchError(f"diag(): Supports 1D or 2D tensors. Got {input.ndim}D")
    return NAMESPACES[""]["diagonal"](input, diagonal).clone()  # type: ignore[no-any-return]


@function("diag_embed", out=False)
def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The last dimension as a diagonal of two new dimensions."""
    e = expr_of(input)
    n = len(e.shape) + 1
    i, j = normalise_dim(dim1, n), normalise_dim(dim2, n)
    if i == j:
        raise ShapeMismatchError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    size = e.shape[-1] + abs(offset)
    rest = iter(e.shape[:-1])
    shape = tuple(size if k in (i, j) else next(rest) for k in range(n))
    zero = emit1(TABLE["expand"], constant(typed_zero(e), e.dtype), shape)
    return Tensor(emit2(TABLE["view_write"], zero, e, (("diagonal", (offset, i, j)),)))


def typed_zero(e: Expr) -> Any:
    """The Python zero of an expression's dtype."""
    return (False, 0, 0.0, 0.0)[e.dtype.category]


@function("diagflat", out=False)
def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """All elements as the diagonal of a matrix."""
    return diag(input.reshape(-1), offset)  # type: ignore[no-any-return]


def _view_scatter(name: str, chain: Any) -> None:
    def fn(input: Tensor, src: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        e, s = expr_of(input), expr_of(src)
        link = chain(input, *args, **kwargs)
        region = emit1(TABLE[link[0]], e, link[1])
        if region.shape != s.shape:
            raise ShapeMismatchError(f"expected src to have a size equal to the slice of self. src size = {list(s.shape)}, "
                                     f"slice size = {list(region.shape)}")
        if s.dtype is not e.dtype:
            s = emit1(TABLE["cast"], s, e.dtype.name)
        return Tensor(emit2(TABLE["view_write"], e, s, (link,)))
    fn.__name__ = name
    fn.__doc__ = "A copy of ``input`` with a region replaced by ``src``."
    function(name, out=name != "as_strided_scatter")(fn)


def _slice_link(input: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Any:
    d = normalise_dim(dim, input.ndim)
    begin, stop, step = slice(start, end, step).indices(input._expr.shape[d])
    length = len(range(begin, stop, step))
    return "slice", tuple((begin, length, step) if i == d else (0, n, 1) for i, n in enumerate(input._expr.shape))


def _select_link(input: Tensor, dim: int, index: int) -> Any:
    d = normalise_dim(dim, input.ndim)
    n = input._expr.shape[d]
    if not -n <= index < n:
        raise IndexOutOfRangeError(f"select(): index {index} out of range for tensor of size {list(input.shape)} at dimension {d}")
    return "select", (d, index % n)


_view_scatter("slice_scatter", _slice_link)
_view_scatter("select_scatter", _select_link)
_view_scatter("diagonal_scatter", lambda input, offset=0, dim1=0, dim2=1: (
    "diagonal", (offset, normalise_dim(dim1, input.ndim), normalise_dim(dim2, input.ndim))))
_view_scatter("as_strided_scatter", lambda input, size, stride, storage_offset=0: (
    "as_strided", (tuple(size), tuple(stride), storage_offset or 0)))
