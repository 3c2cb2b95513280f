"""Functions that join and repeat tensors, and grids of coordinates."""
from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from torsh.core.dtype import int64
from torsh.core.errors import ArgumentTypeError, DTypeError, InvalidArgumentError, ShapeMismatchError
from torsh.core.shape import normalise_dim
from torsh.graph.handle import Handle, expr_of
from torsh.ops.expr import TABLE, Expr, emit, emit1, recording
from torsh.ops.shape import constant_pad_expr
from torsh.tensor.function import METHODS, NAMESPACES, function, recorded
from torsh.tensor.shaping import expand, reshape, shape_argument, unsqueeze
from torsh.tensor.tensor import Tensor, from_array


def tensors_argument(tensors: Any, name: str) -> list[Tensor]:
    """A list of tensors, at least one."""
    if isinstance(tensors, Handle) or not hasattr(tensors, "__iter__"):
        raise ArgumentTypeError(f"{name}(): argument 'tensors' (position 1) must be tuple of Tensors, not "
                                f"{type(tensors).__name__}")
    items = list(tensors)
    if not items and name == "cat":
        raise InvalidArgumentError("torsh.cat(): expected a non-empty list of Tensors")
    if not items:
        raise ShapeMismatchError(f"{name} expects a non-empty TensorList")
    for i, item in enumerate(items):
        if not isinstance(item, Handle):
            raise ArgumentTypeError(f"expected Tensor as element {i} in argument 0, but got {type(item).__name__}")
    return items


# Joins of fewer tensors, or of more bytes, are recorded: all threads take part in them, and what follows may be fused.
MANY: Final = 4
MOST_BYTES: Final = 1 << 20


def ready(t: Any) -> bool:
    """Does the tensor's value lie in memory, and does it take part in no gradient?"""
    root = t if t._root is None else t._root
    return type(t) is Tensor and root._storage is not None and not t.requires_grad


def joined_at_once(items: Sequence[Any], dim: int, join: Any, most_bytes: float = math.inf) -> Tensor | None:
    """The values of tensors that are at hand, copied with NumPy (``join``: its ``stack`` or ``concatenate``); else None.

    Which samples a batch is made of (of a replay buffer, of episodes) changes from step to step, and with it the program that
    a join were part of.
    """
    first = items[0]
    if recording.capture is not None or not all([ready(t) for t in items]):
        return None
    shape = first.shape
    if len(items) * math.prod(shape) * first.dtype.itemsize > most_bytes:
        return None
    same = join is np.stack
    if not -len(shape) - same <= dim < len(shape) + same:
        return None
    along = None if same else dim % len(shape)
    for t in items:
        if t.dtype is not first.dtype or t.ndim != len(shape) or any(
                a != b and d != along for d, (a, b) in enumerate(zip(shape, t.shape, strict=True))):
            return None
    return from_array(join([t._ndarray() for t in items], dim), first.dtype)


@function("cat", method=False, aliases=("concat", "concatenate"))
def cat(tensors: Any, dim: int = 0, *, axis: int | None = None) -> Tensor:
    """Tensors joined along an existing dimension."""
    items = tensors_argument(tensors, "cat")
    dim = dim if axis is None else axis
    copied = joined_at_once(items, dim, np.concatenate, MOST_BYTES) if len(items) >= MANY else None
    return recorded(_cat, tuple(items), (dim,)) if copied is None else copied


def _cat(*operands: Any) -> Expr:
    *exprs, dim = operands
    shaped = next((e for e in exprs if e.shape != (0,)), exprs[0])      # empty tensors of any use are left out
    if not shaped.shape:
        raise ShapeMismatchError("zero-dimensional tensor (at position 0) cannot be concatenated")
    return emit(TABLE["cat"], tuple(exprs), normalise_dim(dim, len(shaped.shape)))


@function("stack", method=False)
def stack(tensors: Any, dim: int = 0) -> Tensor:
    """Tensors of one shape joined along a new dimension."""
    items = tensors_argument(tensors, "stack")
    copied = joined_at_once(items, dim, np.stack, MOST_BYTES) if len(items) >= MANY else None
    return recorded(_stack, tuple(items), (dim,)) if copied is None else copied


def _stack(*operands: Any) -> Expr:
    *exprs, dim = operands
    shape = exprs[0].shape
    for i, e in enumerate(exprs):
        if e.shape != shape:
            raise ShapeMismatchError(f"stack expects each tensor to be equal size, but got {list(shape)} at entry 0 and "
                                     f"{list(e.shape)} at entry {i}")
    d = normalise_dim(dim, len(shape) + 1)
    wide = (*shape[:d], 1, *shape[d:])
    return emit(TABLE["cat"], tuple([emit1(TABLE["reshape"], e, wide) for e in exprs]), d)


def _at_least(n: int, name: str) -> Any:
    def raised(t: Tensor) -> Tensor:
        if t.ndim >= n:
            return t
        if n == 1:
            return reshape(t, 1)  # type: ignore[no-any-return]
        if n == 2:
            return reshape(t, 1, -1) if t.numel() or t.ndim else t  # type: ignore[no-any-return]
        return reshape(t, 1, -1, 1) if t.ndim < 2 else unsqueeze(t, -1)  # type: ignore[no-any-return]

    def fn(*tensors: Any) -> Any:
        if len(tensors) == 1 and isinstance(tensors[0], Handle):
            return raised(tensors[0])  # type: ignore[arg-type]
        items = tensors[0] if len(tensors) == 1 else tensors
        return tuple(raised(t) for t in items)
    fn.__name__ = name
    fn.__doc__ = f"Views with at least {n} dimensions."
    function(name, method=False, out=False)(fn)
    return raised


atleast_1d, atleast_2d, atleast_3d = (_at_least(n, f"atleast_{n}d") for n in (1, 2, 3))


@function("hstack", method=False)
def hstack(tensors: Any) -> Tensor:
    """Tensors joined along dimension 1 (0 for vectors)."""
    items = [atleast_1d(t) for t in tensors_argument(tensors, "hstack")]
    return cat(items, 0 if items[0].ndim == 1 else 1)  # type: ignore[no-any-return]


@function("vstack", method=False, aliases=("row_stack",))
def vstack(tensors: Any) -> Tensor:
    """Tensors joined along dimension 0; vectors become rows."""
    return cat([atleast_2d(t) for t in tensors_argument(tensors, "vstack")], 0)  # type: ignore[no-any-return]


@function("dstack", method=False)
def dstack(tensors: Any) -> Tensor:
    """Tensors joined along dimension 2."""
    return cat([atleast_3d(t) for t in tensors_argument(tensors, "dstack")], 2)  # type: ignore[no-any-return]


@function("column_stack", method=False)
def column_stack(tensors: Any) -> Tensor:
    """Tensors joined along dimension 1; vectors become columns."""
    return cat([reshape(t, t.numel(), 1) if t.ndim <= 1 else t  # type: ignore[no-any-return]
                for t in tensors_argument(tensors, "column_stack")], 1)


@function("block_diag", method=False, out=False)
def block_diag(*tensors: Tensor) -> Tensor:
    """A matrix with the given matrices along its diagonal."""
    items = [atleast_2d(t) if t.ndim < 2 else t for t in tensors]
    from torsh.core.dtype import promote_types
    from torsh.tensor.creation import zeros
    dtype = items[0].dtype
    for t in items[1:]:
        dtype = promote_types(dtype, t.dtype)
    for t in items:
        if t.ndim > 2:
            raise ShapeMismatchError(f"torsh.block_diag: Input tensors must have 2 or fewer dimensions. Got {t.ndim}")
    width = sum(t.shape[1] for t in items)
    rows, left = [], 0
    for t in items:
        h, w = t.shape
        rows.append(cat([zeros(h, left, dtype=dtype), t.to(dtype), zeros(h, width - left - w, dtype=dtype)], 1))
        left += w
    return cat(rows, 0)  # type: ignore[no-any-return]


# ---- repetition --------------------------------------------------------------------------------------------------------

def repeat(self: Tensor, *sizes_: Any, **options: Any) -> Tensor:
    """A copy repeated along each dimension."""
    counts = shape_argument(sizes_ or (options["repeats"],), "repeat")
    own = self._expr.shape
    if len(counts) < len(own):
        raise ShapeMismatchError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    if any(c < 0 for c in counts):
        raise ShapeMismatchError(f"Trying to create tensor with negative dimension {min(counts)}: {list(counts)}")
    return Tensor(emit1(TABLE["repeat"], expr_of(self), counts))


METHODS["repeat"] = repeat


@function("tile", out=False)
def tile(input: Tensor, *dims: Any) -> Tensor:
    """:meth:`Tensor.repeat` with ones put before missing counts."""
    counts = shape_argument(dims, "tile")
    return repeat(input, (1,) * (input.ndim - len(counts)) + counts)


@function("repeat_interleave", out=False)
def repeat_interleave(input: Tensor, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None) -> Tensor:
    """Each entry of a dimension (or of the flattened tensor) repeated, a number of times for all or for each."""
    if repeats is None:
        counts = input._ndarray()
        return from_array(np.repeat(np.arange(len(counts)), counts).astype(np.int64), int64)
    x = reshape(input, -1) if dim is None else input
    d = 0 if dim is None else normalise_dim(dim, max(input.ndim, 1))
    if not x.ndim:
        x = reshape(x, 1)
    n = x._expr.shape[d]
    times = np.asarray(repeats.tolist() if isinstance(repeats, Handle) else repeats)  # type: ignore[attr-defined]
    if (times < 0).any():
        raise ShapeMismatchError("repeats can not be negative")
    if times.ndim == 1 and len(times) not in (1, n):
        raise ShapeMismatchError("repeats must have the same size as input along dim, but got repeats.size(0) = "
                                 f"{len(times)} and input.size({d}) = {n}")
    spots = np.repeat(np.arange(n), times if times.ndim == 0 or len(times) == n else int(times[0]))
    return NAMESPACES[""]["index_select"](x, d, from_array(spots.astype(np.int64), int64))  # type: ignore[no-any-return]


# ---- combinations ------------------------------------------------------------------------------------------------------

@function("meshgrid", method=False, out=False)
def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple[Tensor, ...]:
    """Coordinate grids of several vectors; indexing: ``"ij"`` (default) or ``"xy"``."""
    items = list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else list(tensors)
    if not items:
        raise ShapeMismatchError("meshgrid expects a non-empty TensorList")
    if any(t.ndim > 1 for t in items):
        raise ShapeMismatchError(f"torsh.meshgrid: Expected 0D or 1D tensor in the tensor list but got: {items[0].ndim}D")
    if any(t.dtype is not items[0].dtype for t in items):
        raise DTypeError("torsh.meshgrid expects all tensors to have the same dtype")
    if indexing not in (None, "ij", "xy"):
        raise ShapeMismatchError(f'torsh.meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}')
    swap = indexing == "xy" and len(items) > 1
    if swap:
        items[0], items[1] = items[1], items[0]
    shape = tuple(t.numel() for t in items)
    grids = [expand(reshape(t, tuple(t.numel() if i == k else 1 for k in range(len(items)))), shape)
             for i, t in enumerate(items)]
    if swap:
        grids[0], grids[1] = grids[1], grids[0]
    return tuple(grids)


@function("cartesian_prod", method=False, out=False)
def cartesian_prod(*tensors: Tensor) -> Tensor:
    """All combinations of elements of vectors, as rows."""
    if len(tensors) == 1:
        return tensors[0]
    return stack([g.reshape(-1) for g in meshgrid(*tensors, indexing="ij")], 1)  # type: ignore[no-any-return]


@function("combinations", out=False)
def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All combinations of ``r`` elements of a vector, as rows, in the order of their positions."""
    if input.ndim != 1:
        raise ShapeMismatchError(f"Expect a 1D vector, but got shape {list(input.shape)}")
    if r < 0:
        raise ShapeMismatchError(f"Expect a non-negative number, but got {r}")
    if r == 0:
        return input.new_empty(0)  # type: ignore[no-any-return]
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = np.array(list(choose(range(input.shape[0]), r)), np.int64).reshape(-1, r)
    return input[from_array(rows, int64)]  # type: ignore[no-any-return]


@function("constant_pad_nd", method=False)
def constant_pad_nd(input: Tensor, pad: Any, value: Any = 0) -> Tensor:
    """The last dimensions padded with a number: (before, after) from the last dimension on, negative numbers cut off."""
    return recorded(constant_pad_expr, (input,), (tuple(pad), value))  # type: ignore[no-any-return]


@function("vander", method=False, out=False)
def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """Powers of a vector's elements as columns: N of them (the vector's length by default), falling unless ``increasing``."""
    if x.ndim != 1:
        raise ShapeMismatchError("x must be a one-dimensional tensor.")
    n = x.shape[0] if N is None else N
    if n < 0:
        raise ShapeMismatchError("N must be non-negative.")
    source = x.long() if x.dtype.category < 2 else x
    ones = source.new_ones(x.shape[0], 1)
    powers = cat([ones, source.unsqueeze(-1).expand(-1, n - 1).cumprod(-1)], 1) if n > 1 else ones[:, :n]
    return powers if increasing else powers.flip(-1)  # type: ignore[no-any-return]
