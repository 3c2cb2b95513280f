"""Functions that change shapes: views, joins, splits, repetitions and paddings."""
from __future__ import annotations

import math
from typing import Any

from torsh.core.errors import ArgumentTypeError, DTypeError, IndexOutOfRangeError, InvalidArgumentError, ShapeMismatchError
from torsh.core.shape import broadcast_shapes as _broadcast
from torsh.core.shape import normalise_dim
from torsh.core.size import Size
from torsh.graph.handle import Handle, expr_of, make_view
from torsh.ops.expr import TABLE, Expr, constant, emit, emit1, emit2
from torsh.tensor.creation import sizes
from torsh.tensor.function import METHODS, NAMESPACES, function, tensor_operand
from torsh.tensor.tensor import Tensor


def view_of(t: Any, name: str, attr: Any) -> Any:
    """A view of ``t`` by a view op of the table."""
    return make_view(t, TABLE[name], attr)


def inferred_shape(shape: tuple[int, ...], numel: int) -> tuple[int, ...]:
    """Replace a -1 in a shape; raises PyTorch's errors for impossible shapes."""
    if -1 in shape:
        if shape.count(-1) > 1:
            raise ShapeMismatchError("only one dimension can be inferred")
        known = math.prod(s for s in shape if s != -1)
        if known == 0:
            raise ShapeMismatchError(f"cannot reshape tensor of 0 elements into shape {list(shape)} because the unspecified "
                                     "dimension size -1 can be any value and is ambiguous")
        if numel % known == 0:
            return tuple(numel // known if s == -1 else s for s in shape)
    elif math.prod(shape) == numel:
        if any(s < 0 for s in shape):
            raise ShapeMismatchError(f"invalid shape dimension {min(shape)}")
        return shape
    raise ShapeMismatchError(f"shape '{list(shape)}' is invalid for input of size {numel}")


def shape_argument(args: tuple[Any, ...], name: str) -> tuple[int, ...]:
    """Sizes of reshape-like functions: numbers or one sequence, -1 allowed."""
    if len(args) == 1 and not hasattr(args[0], "__index__"):
        args = args[0]
    elif len(args) == 1 and isinstance(args[0], Handle) and args[0].ndim:  # type: ignore[attr-defined]
        args = tuple(args[0])
    try:
        return tuple([s.__index__() for s in args])
    except (AttributeError, TypeError):
        raise ArgumentTypeError(f"{name}(): argument 'shape' must be tuple of ints, got {args!r}") from None


@function("reshape", out=False)
def reshape(input: Tensor, *shape: Any, **options: Any) -> Tensor:
    """The same elements in another shape: a view where strides allow it, else a copy."""
    if "shape" in options:
        shape = (options["shape"],)
    e = tensor_operand(input, "reshape")
    target = inferred_shape(shape_argument(shape, "reshape"), input.numel())
    if input._root is None or TABLE["reshape"].geometry(target, *input._geometry()) is not None:  # type: ignore[misc]
        return view_of(input, "reshape", target)  # type: ignore[no-any-return]
    return Tensor(emit1(TABLE["reshape"], e, target))


def view(self: Tensor, *shape: Any, **options: Any) -> Tensor:
    """A view in another shape (strides must allow it), or with another dtype."""
    from torsh.core.dtype import DType
    wanted = options.get("dtype", shape[0] if shape else None)
    if isinstance(wanted, DType):
        return view_as_dtype(self, wanted)
    if "size" in options:
        shape = (options["size"],)
    target = inferred_shape(shape_argument(shape, "view"), self.numel())
    if self._root is not None and TABLE["reshape"].geometry(target, *self._geometry()) is None:  # type: ignore[misc]
        raise ShapeMismatchError("view size is not compatible with input tensor's size and stride (at least one dimension "
                                 "spans across two contiguous subspaces). Use .reshape(...) instead.")
    return view_of(self, "reshape", target)  # type: ignore[no-any-return]


def view_as_dtype(self: Tensor, dtype: Any) -> Tensor:
    """The same bytes read as another dtype."""
    from torsh.graph.window import storage_of
    from torsh.tensor.tensor import from_storage
    if dtype is self.dtype:
        return view_of(self, "reshape", self._expr.shape)  # type: ignore[no-any-return]
    old, new = self.dtype.itemsize, dtype.itemsize
    shape = list(self._expr.shape)
    if old != new:
        if not shape:
            raise ShapeMismatchError(f"self.dim() cannot be 0 to view {self.dtype.name} as {dtype.name} (different element "
                                     "sizes)")
        if shape[-1] * old % new:
            raise ShapeMismatchError(f"self.size(-1) must be divisible by {new // old} to view {self.dtype.name} as "
                                     f"{dtype.name} (different element sizes), but got {shape[-1]}")
        shape[-1] = shape[-1] * old // new
    source = self if self._root is None else self.contiguous().clone() if self._root is not None else self
    storage = storage_of(source)
    storage.shared = True
    return from_storage(storage, tuple(shape), dtype)


METHODS["view"] = view


@function("view_as", namespace=None, out=False)  # type: ignore[arg-type]
def view_as(self: Tensor, other: Tensor) -> Tensor:
    """A view in the shape of ``other``."""
    return view(self, other.shape)


@function("reshape_as", namespace=None, out=False)  # type: ignore[arg-type]
def reshape_as(self: Tensor, other: Tensor) -> Tensor:
    """Reshape to the shape of ``other``."""
    return reshape(self, other.shape)  # type: ignore[no-any-return]


@function("transpose", out=False, aliases=("swapaxes", "swapdims"))
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """A view with two dimensions exchanged."""
    n = input.ndim
    i, j = normalise_dim(dim0, n), normalise_dim(dim1, n)
    axes = list(range(n))
    if n:
        axes[i], axes[j] = axes[j], axes[i]
    return view_of(input, "permute", tuple(axes))  # type: ignore[no-any-return]


def _in_place_view(name: str) -> None:
    """``t_`` and friends: the tensor itself takes the view's shape."""
    def changed(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        from torsh.tensor.tensor import become
        return become(self, METHODS[name](self, *args, **kwargs))
    changed.__name__ = name + "_"
    changed.__doc__ = f"In-place form of :func:`torsh.{name}`."
    METHODS[name + "_"] = changed


@function("t", out=False)
def t(input: Tensor) -> Tensor:
    """The transpose of a matrix (vectors stay as they are)."""
    if input.ndim > 2:
        raise ShapeMismatchError(f"t() expects a tensor with <= 2 dimensions, but self is {input.ndim}D")
    return transpose(input, 0, 1) if input.ndim == 2 else view_of(input, "reshape", input._expr.shape)  # type: ignore[no-any-return]


@function("permute", out=False)
def permute(input: Tensor, *dims: Any) -> Tensor:
    """A view with the dimensions in another order."""
    n = input.ndim
    order = shape_argument(dims, "permute")
    if len(order) != n:
        raise ShapeMismatchError(f"permute(sparse_coo): number of dimensions in the tensor input does not match the length of "
                                 f"the desired ordering of dimensions i.e. input.dim() = {n} is not equal to len(dims) = "
                                 f"{len(order)}")
    axes = tuple(normalise_dim(d, n) for d in order)
    if len(set(axes)) != n:
        raise ShapeMismatchError("permute(): duplicate dims are not allowed.")
    return view_of(input, "permute", axes)  # type: ignore[no-any-return]


@function("movedim", out=False, aliases=("moveaxis",))
def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """A view with some dimensions moved to other places."""
    n = input.ndim
    src = [normalise_dim(d, n) for d in ((source,) if isinstance(source, int) else source)]
    dst = [normalise_dim(d, n) for d in ((destination,) if isinstance(destination, int) else destination)]
    if len(src) != len(dst):
        raise ShapeMismatchError(f"movedim: Invalid source or destination dims: source ({src} dims) should contain the same "
                                 f"number of dims as destination ({dst} dims)")
    if len(set(src)) != len(src) or len(set(dst)) != len(dst):
        raise ShapeMismatchError("movedim: repeated dim in `source` or `destination`")
    rest = iter(d for d in range(n) if d not in src)
    place = dict(zip(dst, src, strict=True))
    return view_of(input, "permute", tuple(place[d] if d in place else next(rest) for d in range(n)))  # type: ignore[no-any-return]


@function("adjoint", out=False)
def adjoint(input: Tensor) -> Tensor:
    """Conjugate transpose of the last two dimensions."""
    return transpose(input, -2, -1).conj()  # type: ignore[no-any-return]


@function("squeeze", out=False)
def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """A view without the dimensions of size 1 (all, or those listed)."""
    shape = input._expr.shape
    n = len(shape)
    if dim is None:
        drop = set(range(n))
    else:
        drop = {normalise_dim(d, n) for d in ((dim,) if isinstance(dim, int) else dim)}
    keep = tuple(s for i, s in enumerate(shape) if s != 1 or i not in drop)
    return view_of(input, "reshape", keep)  # type: ignore[no-any-return]


@function("unsqueeze", out=False)
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A view with a dimension of size 1 inserted."""
    shape = input._expr.shape
    d = normalise_dim(dim, len(shape) + 1)
    return view_of(input, "reshape", (*shape[:d], 1, *shape[d:]))  # type: ignore[no-any-return]


@function("flatten", out=False)
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Some dimensions joined into one."""
    shape = input._expr.shape
    n = len(shape)
    start, end = normalise_dim(start_dim, n), normalise_dim(end_dim, n)
    if not n:
        return reshape(input, 1)  # type: ignore[no-any-return]
    if start > end:
        raise ShapeMismatchError("flatten() has invalid args: start_dim cannot come after end_dim")
    if start == end:
        return input
    return reshape(input, (*shape[:start], math.prod(shape[start:end + 1]), *shape[end + 1:]))  # type: ignore[no-any-return]


@function("ravel", out=False)
def ravel(input: Tensor) -> Tensor:
    """All elements in one dimension."""
    return reshape(input, -1) if input.numel() else reshape(input, 0)  # type: ignore[no-any-return]


@function("unflatten", out=False)
def unflatten(input: Tensor, dim: int, sizes: Any) -> Tensor:
    """One dimension split into several."""
    shape = input._expr.shape
    d = normalise_dim(dim, len(shape))
    parts = tuple(sizes) if not isinstance(sizes, int) else (sizes,)
    if not parts:
        raise ShapeMismatchError("unflatten: sizes must be non-empty")
    known = math.prod(p for p in parts if p != -1)
    if -1 in parts:
        parts = tuple(shape[d] // known if p == -1 and known else p for p in parts)
    if math.prod(parts) != shape[d]:
        raise ShapeMismatchError(f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size of dim {d} "
                                 f"({shape[d]}) in the input tensor")
    return reshape(input, (*shape[:d], *parts, *shape[d + 1:]))  # type: ignore[no-any-return]


def expand(self: Tensor, *shape: Any, **options: Any) -> Tensor:
    """A view with dimensions of size 1 repeated without copying; -1 keeps a size."""
    if "size" in options:
        shape = (options["size"],)
    target = list(shape_argument(shape, "expand"))
    own = self._expr.shape
    extra = len(target) - len(own)
    if extra < 0:
        raise ShapeMismatchError(f"expand({list(own)}, size={target}): the number of sizes provided ({len(target)}) must be "
                                 f"greater or equal to the number of dimensions in the tensor ({len(own)})")
    for i, want in enumerate(target):
        have = own[i - extra] if i >= extra else 1
        if want == -1:
            if i < extra:
                raise ShapeMismatchError(f"expand({list(own)}, size={target}): The expanded size of the tensor (-1) isn't "
                                         f"allowed in a leading, non-existing dimension {i}")
            target[i] = have
        elif have not in (1, want):
            raise ShapeMismatchError(f"The expanded size of the tensor ({want}) must match the existing size ({have}) at "
                                     f"non-singleton dimension {i}.  Target sizes: {target}.  Tensor sizes: {list(own)}")
    return view_of(self, "expand", tuple(target))  # type: ignore[no-any-return]


METHODS["expand"] = expand
METHODS["expand_as"] = lambda self, other: expand(self, other.shape)


@function("broadcast_to", out=False)
def broadcast_to(input: Tensor, size: Any) -> Tensor:
    """A view broadcast to the given size."""
    return expand(input, size)


@function("broadcast_tensors", method=False, out=False)
def broadcast_tensors(*tensors: Any) -> Any:
    """All tensors broadcast to their common shape."""
    tensors = tuple(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors
    shape = _broadcast(*[t._expr.shape for t in tensors])
    return tuple(expand(t, shape) for t in tensors)


@function("broadcast_shapes", method=False, out=False)
def broadcast_shapes(*shapes: Any) -> Size:
    """The common shape of several shapes."""
    return Size(_broadcast(*[(s,) if isinstance(s, int) else tuple(s) for s in shapes]))


@function("narrow", out=False)
def narrow(input: Tensor, dim: int, start: Any, length: int) -> Tensor:
    """A view of ``length`` entries of one dimension from ``start`` on."""
    start = int(start)
    d = normalise_dim(dim, input.ndim)
    if not input.ndim:
        raise ShapeMismatchError("narrow() cannot be applied to a 0-dim tensor.")
    n = input._expr.shape[d]
    if length < 0:
        raise ShapeMismatchError("narrow(): length must be non-negative.")
    if not -n <= start <= n:
        raise IndexOutOfRangeError(f"start out of range (expected to be in range of [{-n}, {n}], but got {start})")
    start = start + n if start < 0 else start
    if start + length > n:
        raise ShapeMismatchError(f"start ({start}) + length ({length}) exceeds dimension size ({n}).")
    return sliced(input, d, start, length, 1)


@function("narrow_copy", out=True)
def narrow_copy(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """A copy of :func:`narrow`."""
    return narrow(input, dim, start, length).clone()  # type: ignore[no-any-return]


def sliced(t: Tensor, dim: int, start: int, length: int, step: int) -> Tensor:
    """A view of every ``step``-th entry of one dimension."""
    spec = tuple((start, length, step) if i == dim else (0, n, 1) for i, n in enumerate(t._expr.shape))
    return view_of(t, "slice", spec)  # type: ignore[no-any-return]


@function("select", out=False)
def select(input: Tensor, dim: int, index: Any) -> Tensor:
    """A view of one entry of a dimension, without that dimension."""
    d = normalise_dim(dim, input.ndim)
    if not input.ndim:
        raise IndexOutOfRangeError("select() cannot be applied to a 0-dim tensor.")
    index = int(index)
    n = input._expr.shape[d]
    if not -n <= index < n:
        raise IndexOutOfRangeError(f"select(): index {index} out of range for tensor of size {list(input.shape)} at dimension {d}")
    return view_of(input, "select", (d, index % n))  # type: ignore[no-any-return]


@function("unbind", out=False)
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of all entries of a dimension."""
    d = normalise_dim(dim, input.ndim)
    if not input.ndim:
        raise IndexOutOfRangeError("Dimension specified as 0 but tensor has no dimensions")
    return tuple(view_of(input, "select", (d, i)) for i in range(input._expr.shape[d]))


@function("split", out=False)
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


@function("chunk", out=False)
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


@function("diagonal", out=False)
def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A view of the diagonal of two dimensions, as the last dimension."""
    n = input.ndim
    i, j = normalise_dim(dim1, n), normalise_dim(dim2, n)
    if i == j:
        raise ShapeMismatchError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    return view_of(input, "diagonal", (offset, i, j))  # type: ignore[no-any-return]


NAMESPACES.setdefault("linalg", {})["diagonal"] = lambda A, *, offset=0, dim1=-2, dim2=-1: diagonal(A, offset, dim1, dim2)


def unfold(self: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """A view of all windows of ``size`` entries, ``step`` apart, of a dimension; the window is the last dimension."""
    n = self.ndim
    d = normalise_dim(dimension, n)
    length = self._expr.shape[d] if n else 1
    if size > length:
        raise ShapeMismatchError(f"maximum size for tensor at dimension {d} is {length} but size is {size}")
    if step <= 0:
        raise ShapeMismatchError(f"step is {step} but must be > 0")
    if size < 0:
        raise ShapeMismatchError(f"size is {size} but must be >= 0")
    source = self if n else reshape(self, 1)
    return view_of(source, "unfold", (d, size, step)) if n else reshape(source, -1)[:size]  # type: ignore[no-any-return]


METHODS["unfold"] = unfold


@function("as_strided", out=False)
def as_strided(input: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """A view with any sizes and strides over the tensor's storage."""
    size, stride = tuple(size), tuple(stride)
    if len(size) != len(stride):
        raise ShapeMismatchError("mismatch in length of strides and shape")
    if any(s < 0 for s in stride):
        raise ShapeMismatchError(f"as_strided: Negative strides are not supported at the moment, got strides: {list(stride)}")
    base = input if input._root is None else input._root
    offset = input.storage_offset() if storage_offset is None else storage_offset
    need = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) + 1 if 0 not in size else 0
    if need > base.numel():
        raise ShapeMismatchError(f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {offset}, and "
                                 f"itemsize {input.dtype.itemsize} requiring a storage size of {need * input.dtype.itemsize} "
                                 f"are out of bounds for storage of size {base.numel() * input.dtype.itemsize}")
    return view_of(base, "as_strided", (size, stride, offset))  # type: ignore[no-any-return]


# ---- copies ------------------------------------------------------------------------------------------------------------

def tensors_argument(tensors: Any, name: str) -> list[Tensor]:
    """A list of tensors, at least one."""
    if isinstance(tensors, Handle) or not hasattr(tensors, "__iter__"):
        raise ArgumentTypeError(f"{name}(): argument 'tensors' (position 1) must be tuple of Tensors, not "
                                f"{type(tensors).__name__}")
    items = list(tensors)
    if not items:
        raise ShapeMismatchError(f"{name} expects a non-empty TensorList" if name == "stack" else
                                 f"torsh.{name}(): expected a non-empty list of Tensors")
    for i, item in enumerate(items):
        if not isinstance(item, Handle):
            raise ArgumentTypeError(f"expected Tensor as element {i} in argument 0, but got {type(item).__name__}")
    return items


@function("cat", method=False, aliases=("concat", "concatenate"))
def cat(tensors: Any, dim: int = 0, *, axis: int | None = None) -> Tensor:
    """Tensors joined along an existing dimension."""
    items = tensors_argument(tensors, "cat")
    return Tensor(emit(TABLE["cat"], tuple([expr_of(t) for t in items]), cat_dim(items, dim if axis is None else axis)))


def cat_dim(items: list[Tensor], dim: int) -> int:
    """The dimension of cat, counted from the first tensor that is not a legacy empty one."""
    shaped = next((t for t in items if t._expr.shape != (0,)), items[0])
    if not shaped.ndim:
        raise ShapeMismatchError("zero-dimensional tensor (at position 0) cannot be concatenated")
    return normalise_dim(dim, shaped.ndim)


@function("stack", method=False)
def stack(tensors: Any, dim: int = 0) -> Tensor:
    """Tensors of one shape joined along a new dimension."""
    items = tensors_argument(tensors, "stack")
    shape = items[0]._expr.shape
    for i, item in enumerate(items):
        if item._expr.shape != shape:
            raise ShapeMismatchError(f"stack expects each tensor to be equal size, but got {list(shape)} at entry 0 and "
                                     f"{list(item._expr.shape)} at entry {i}")
    d = normalise_dim(dim, len(shape) + 1)
    wide = (*shape[:d], 1, *shape[d:])
    op = TABLE["reshape"]
    return Tensor(emit(TABLE["cat"], tuple([emit1(op, expr_of(t), wide) for t in items]), d))


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


@function("flip", out=False)
def flip(input: Tensor, *dims: Any) -> Tensor:
    """A copy with the order of some dimensions reversed."""
    n = input.ndim
    listed = [normalise_dim(d, n) for d in shape_argument(dims, "flip")]
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
    out = input
    for s, d in zip(shifts, dims, strict=True):
        axis = normalise_dim(d, input.ndim)
        n = input._expr.shape[axis] if input.ndim else 0
        if n and s % n:
            k = s % n
            out = cat([narrow(out, axis, n - k, k), narrow(out, axis, 0, n - k)], axis)
    return out if out is not input else input.clone()  # type: ignore[no-any-return]


@function("rot90", out=False)
def rot90(input: Tensor, k: int = 1, dims: Any = (0, 1)) -> Tensor:
    """A plane of two dimensions turned by 90 degrees k times."""
    if len(dims) != 2:
        raise ShapeMismatchError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    a, b = (normalise_dim(d, input.ndim) for d in dims)
    if a == b:
        raise ShapeMismatchError(f"expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}")
    k %= 4
    if k == 0:
        return input.clone()  # type: ignore[no-any-return]
    if k == 2:
        return flip(input, a, b)  # type: ignore[no-any-return]
    return transpose(flip(input, b), a, b) if k == 1 else flip(transpose(input, a, b), b)  # type: ignore[no-any-return]


def repeat(self: Tensor, *sizes_: Any, **options: Any) -> Tensor:
    """A copy repeated along each dimension."""
    counts = shape_argument(sizes_ or (options["repeats"],), "repeat")
    own = self._expr.shape
    if len(counts) < len(own):
        raise ShapeMismatchError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    if any(c < 0 for c in counts):
        raise ShapeMismatchError(f"Trying to create tensor with negative dimension {min(counts)}: {list(counts)}")
    padded = (1,) * (len(counts) - len(own)) + own
    e = expr_of(self)
    wide = emit1(TABLE["reshape"], e, tuple(v for n in padded for v in (1, n)))
    wide = emit1(TABLE["expand"], wide, tuple(v for c, n in zip(counts, padded, strict=True) for v in (c, n)))
    return Tensor(emit1(TABLE["reshape"], wide, tuple(c * n for c, n in zip(counts, padded, strict=True))))


METHODS["repeat"] = repeat


@function("tile", out=False)
def tile(input: Tensor, *dims: Any) -> Tensor:
    """:meth:`Tensor.repeat` with ones put before missing counts."""
    counts = shape_argument(dims, "tile")
    return repeat(input, (1,) * (input.ndim - len(counts)) + counts)


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
    function(name, out=False)(fn)


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
        grids = [transpose(g, 0, 1) for g in grids]
        grids[0], grids[1] = grids[1], grids[0]
    return tuple(grids)


@function("cartesian_prod", method=False, out=False)
def cartesian_prod(*tensors: Tensor) -> Tensor:
    """All combinations of elements of vectors, as rows."""
    if len(tensors) == 1:
        return tensors[0]
    return stack([g.reshape(-1) for g in meshgrid(*tensors, indexing="ij")], 1)  # type: ignore[no-any-return]


for _name in ("t", "transpose", "squeeze", "unsqueeze", "swapaxes", "swapdims"):
    _in_place_view(_name)
__all__ = ["InvalidArgumentError", "sizes", "reshape", "cat", "stack", "expand", "sliced", "view_of"]


@function("repeat_interleave", out=False)
def repeat_interleave(input: Tensor, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None) -> Tensor:
    """Each entry of a dimension (or of the flattened tensor) repeated, a number of times for all or for each."""
    import numpy as np

    from torsh.core.dtype import int64
    from torsh.tensor.tensor import from_array
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
