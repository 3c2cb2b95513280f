"""Views in other shapes: reshaped, permuted, broadcast, cut."""
from __future__ import annotations

import math
import warnings
from typing import Any

from torsh.core.errors import ArgumentTypeError, AutogradError, IndexOutOfRangeError, ShapeMismatchError
from torsh.core.shape import broadcast_shapes as _broadcast
from torsh.core.shape import contiguous_strides, normalise_dim
from torsh.core.size import Size
from torsh.graph.handle import Handle, expr_of, make_view, requires_grad, write
from torsh.ops.expr import TABLE, emit1
from torsh.ops.reinterpretation import reinterpreted_geometry
from torsh.ops.shape import constant_pad_expr
from torsh.tensor.function import METHODS, NAMESPACES, function, tensor_operand, viewed
from torsh.tensor.tensor import Tensor, become


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


@function("reshape", out=False, views=True)
def reshape(input: Tensor, *shape: Any, **options: Any) -> Tensor:
    """The same elements in another shape: a view where strides allow it, else a copy."""
    if "shape" in options:
        shape = (options["shape"],)
    e = tensor_operand(input, "reshape")
    target = inferred_shape(shape_argument(shape, "reshape"), input.numel())
    if input._root is None or TABLE["reshape"].geometry(target, *input._geometry()) is not None:  # type: ignore[misc]
        return view_of(input, "reshape", target)  # type: ignore[no-any-return]
    return Tensor(emit1(TABLE["reshape"], e, target))


@viewed
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
    if dtype is self.dtype:
        return view_of(self, "reshape", self._expr.shape)  # type: ignore[no-any-return]
    names = (self.dtype.name, dtype.name)
    reinterpreted_geometry(names, *self._geometry())            # raises where the bytes do not lie as they should
    return view_of(self, "reinterpret", names)  # type: ignore[no-any-return]


def flat_memory(t: Tensor) -> Tensor:
    """All of the memory that a tensor lies in, as elements of its dtype, in one dimension."""
    root = t if t._root is None else t._root
    flat = view_of(root, "reshape", (root.numel(),))
    return flat if root.dtype is t.dtype else view_as_dtype(flat, t.dtype)


METHODS["view"] = view


@function("view_as", namespace=None, out=False)  # type: ignore[arg-type]
def view_as(self: Tensor, other: Tensor) -> Tensor:
    """A view in the shape of ``other``."""
    return view(self, other.shape)


@function("reshape_as", namespace=None, out=False)  # type: ignore[arg-type]
def reshape_as(self: Tensor, other: Tensor) -> Tensor:
    """Reshape to the shape of ``other``."""
    return reshape(self, other.shape)  # type: ignore[no-any-return]


@function("transpose", out=False, views=True, aliases=("swapaxes", "swapdims"))
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


@function("t", out=False, views=True)
def t(input: Tensor) -> Tensor:
    """The transpose of a matrix (vectors stay as they are)."""
    if input.ndim > 2:
        raise ShapeMismatchError(f"t() expects a tensor with <= 2 dimensions, but self is {input.ndim}D")
    return transpose(input, 0, 1) if input.ndim == 2 else view_of(input, "reshape", input._expr.shape)  # type: ignore[no-any-return]


@function("permute", out=False, views=True)
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


@function("movedim", out=False, views=True, aliases=("moveaxis",))
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


@function("squeeze", out=False, views=True)
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


@function("unsqueeze", out=False, views=True)
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A view with a dimension of size 1 inserted."""
    shape = input._expr.shape
    d = normalise_dim(dim, len(shape) + 1)
    return view_of(input, "reshape", (*shape[:d], 1, *shape[d:]))  # type: ignore[no-any-return]


@function("flatten", out=False, views=True)
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
    return reshape(input.contiguous(), (input.numel(),))  # type: ignore[no-any-return]


@function("unflatten", out=False, views=True)
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


@viewed
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


@function("broadcast_to", out=False, views=True)
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


@function("narrow", out=False, views=True)
def narrow(input: Tensor, dim: int, start: Any, length: int) -> Tensor:
    """A view of ``length`` entries of one dimension from ``start`` on."""
    if isinstance(start, Handle) and (start.ndim or start.dtype.category != 1):  # type: ignore[attr-defined]
        raise ShapeMismatchError("start must be an 0-dim integral Tensor.")
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
    if dim >= max(input.ndim, 1):
        raise ShapeMismatchError(f"Expected dim to be in range [{-input.ndim}, {input.ndim - 1}], but got {dim}")
    return narrow(input, dim, start, length).clone()  # type: ignore[no-any-return]


def sliced(t: Tensor, dim: int, start: int, length: int, step: int) -> Tensor:
    """A view of every ``step``-th entry of one dimension."""
    spec = tuple((start, length, step) if i == dim else (0, n, 1) for i, n in enumerate(t._expr.shape))
    return view_of(t, "slice", spec)  # type: ignore[no-any-return]


@function("select", out=False, views=True)
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


@function("diagonal", out=False, views=True)
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
    if base.dtype is not input.dtype:
        base = flat_memory(input)
    offset = input.storage_offset() if storage_offset is None else storage_offset
    need = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) + 1 if 0 not in size else 0
    if need > base.numel():
        raise ShapeMismatchError(f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {offset}, and "
                                 f"itemsize {input.dtype.itemsize} requiring a storage size of {need * input.dtype.itemsize} "
                                 f"are out of bounds for storage of size {base.numel() * input.dtype.itemsize}")
    return view_of(base, "as_strided", (size, stride, offset))  # type: ignore[no-any-return]


for _name in ("t", "transpose", "squeeze", "unsqueeze", "swapaxes", "swapdims", "as_strided"):
    _in_place_view(_name)


def resize_(self: Tensor, *size: Any, memory_format: Any = None) -> Tensor:
    """Give the tensor other sizes, in place; elements keep their order in memory, new ones are undefined (zeros)."""
    shape = shape_argument(size, "resize_")
    if any(n < 0 for n in shape):
        raise ShapeMismatchError(f"Trying to create tensor with negative dimension {min(shape)}: {list(shape)}")
    if requires_grad(self):
        raise AutogradError("cannot resize variables that require grad")
    base = self if self._root is None else self._root
    count, wanted = base.nbytes // self.dtype.itemsize, math.prod(shape)
    if shape == self._expr.shape:
        return self
    if not wanted or self.storage_offset() + wanted <= count:
        view = as_strided(self, shape, contiguous_strides(shape))
        return become(self, view)  # type: ignore[no-any-return]
    if base is not self:
        raise ShapeMismatchError(f"resize_: {list(shape)} needs more elements than the storage of {count} that the view is of")
    flat = emit1(TABLE["reshape"], expr_of(self), (count,))
    e = emit1(TABLE["reshape"], constant_pad_expr(flat, (0, wanted - count), 0), shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        self._resize_for_out(shape)
    write(self, e)
    return self


def resize_as_(self: Tensor, the_template: Tensor, *, memory_format: Any = None) -> Tensor:
    """Resize the tensor to the sizes of another, in place."""
    return resize_(self, the_template.shape)


METHODS.update({"resize_": resize_, "resize_as_": resize_as_})
NAMESPACES.setdefault("", {})["resize_as_"] = resize_as_
