"""Functions that make tensors from Python, NumPy or nothing."""
from __future__ import annotations

import math
from array import array
from typing import Any, Final

import numpy as np

from torsh.backend.base import Storage, address_of
from torsh.core.device import require_available
from torsh.core.dtype import DType, bool_, check_fits, float32, from_numpy_dtype, get_default_dtype, int64, scalar_dtype, typed
from torsh.core.errors import ArgumentTypeError, DTypeError, InvalidArgumentError, ShapeMismatchError
from torsh.core.shape import contiguous_strides
from torsh.core.size import Size
from torsh.graph.handle import Handle, expr_of, make_view
from torsh.graph.window import scalar_expr
from torsh.ops.expr import TABLE, Expr, constant, emit, emit1
from torsh.tensor.function import NAMESPACES, NUMBER, function
from torsh.tensor.tensor import Tensor, from_array, from_storage


def finish(t: Any, requires_grad: bool, device: Any) -> Any:
    """The options that all creation functions share."""
    if device is not None:
        require_available(device)
    return t.requires_grad_() if requires_grad else t


def sizes(args: tuple[Any, ...], name: str) -> tuple[int, ...]:
    """Sizes given as numbers or as one sequence; checks that they are integers and not negative."""
    if len(args) == 1 and not isinstance(args[0], (int, np.integer)) and not isinstance(args[0], Handle):
        args = args[0]
    try:
        shape = tuple([s if type(s) is int else s.__index__() for s in args])
    except (TypeError, AttributeError):
        raise ArgumentTypeError(f"{name}(): argument 'size' must be tuple of ints, but found element of type "
                                f"{next((type(s).__name__ for s in args if not hasattr(s, '__index__')), '?')}") from None
    for s in shape:
        if s < 0:
            raise ShapeMismatchError(f"Trying to create tensor with negative dimension {s}: {list(shape)}")
    return shape


def filled(shape: tuple[int, ...], value: Any, dtype: DType) -> Tensor:
    """A tensor of one number that is part of the program."""
    e = constant(value, dtype)
    return Tensor(emit1(TABLE["expand"], e, shape) if shape else e)


# ---- from data ---------------------------------------------------------------------------------------------------------

def infer_data(data: Any) -> tuple[np.ndarray[Any, Any], DType]:
    """An array of nested Python data, as exact as the data, and the dtype that PyTorch gives to it."""
    if isinstance(data, np.ndarray) or isinstance(data, np.generic):
        return np.asarray(data), from_numpy_dtype(data.dtype)
    if isinstance(data, NUMBER):
        dtype = scalar_dtype((bool, int, float, complex).index(type(data)) if type(data) in NUMBER else 1)
        return np.asarray(data), dtype
    flat: list[Any] = []
    shape = nested_shape(data, flat)
    category = 0 if flat else 2
    exact: DType | None = None
    values = []
    for v in flat:
        if isinstance(v, Tensor):
            v_dtype: DType | None = v.dtype
            v = v.item()
        elif isinstance(v, np.generic):
            v_dtype = from_numpy_dtype(v.dtype)
            v = v.item()
        else:
            v_dtype = None
        kind = 0 if isinstance(v, bool) else 1 if isinstance(v, int) else 2 if isinstance(v, float) else 3
        if kind == 3 and not isinstance(v, complex):
            raise ArgumentTypeError(f"new(): invalid data type '{type(v).__name__}'")
        if v_dtype is not None and kind >= category:
            exact = v_dtype
        category = max(category, kind)
        values.append(v)
    dtype = exact if exact is not None and exact.category == category else scalar_dtype(category)
    if dtype.category == 1 and any(not -2**63 <= v < 2**63 for v in values):
        raise DTypeError("Overflow when unpacking long")
    return np.array(values, (np.bool_, np.int64, np.float64, np.complex128)[dtype.category]).reshape(shape), dtype


_EXACT: Final = {bool: bool_, int: int64}


def array_of(data: Any, dtype: DType | None) -> tuple[np.ndarray[Any, Any], DType]:
    """A new array with a copy of the data, and its dtype: the given one, or what PyTorch infers."""
    kinds = set(map(type, data)) if data.__class__ is list or data.__class__ is tuple else {data.__class__}
    kind = kinds.pop() if len(kinds) == 1 else None
    if kind in (bool, int, float):              # numbers of one kind: nothing to look for
        want = dtype or (get_default_dtype() if kind is float else _EXACT[kind])
        try:
            if kind is not float:
                return np.array(data, want.numpy), want
            if want is float32:                 # by way of an array that overflows to inf without a warning
                numbers = np.frombuffer(array("f", (data,) if data.__class__ is float else data), np.float32)
                return numbers.reshape(()) if data.__class__ is float else numbers, want
        except OverflowError:                   # PyTorch's error, or its way around
            pass
    values, inferred = infer_data(data)
    want = inferred if dtype is None else dtype
    if want is not inferred and not isinstance(data, np.ndarray):
        check_convertible(values, want)
    with np.errstate(all="ignore"):
        return np.array(values, dtype=want.numpy, order="C", copy=True), want


def check_convertible(values: np.ndarray[Any, Any], dtype: DType) -> None:
    """Raise PyTorch's error for Python numbers that a dtype cannot take."""
    kind = values.dtype.kind
    if kind == "c" and 0 < dtype.category < 3:
        raise ArgumentTypeError("must be real number, not complex" if dtype.category == 2 else
                                "'complex' object cannot be interpreted as an integer")
    if dtype.category == 1 and kind in "if" and values.size:
        check_fits(values.min().item(), values.max().item(), dtype, dtype.name)


def nested_shape(data: Any, flat: list[Any]) -> tuple[int, ...]:
    """The shape of nested sequences; their elements are appended to ``flat``."""
    if isinstance(data, Tensor):
        if data.ndim:
            flat.extend(data.detach()._ndarray().reshape(-1).tolist() if data.dtype.name != "bfloat16"
                        else data.float()._ndarray().reshape(-1).tolist())
        else:
            flat.append(data)
        return tuple(data.shape)
    if isinstance(data, np.ndarray):
        flat.extend(data.reshape(-1))
        return data.shape
    if isinstance(data, (str, bytes)) or not hasattr(data, "__len__"):
        flat.append(data)
        return ()
    inner: tuple[int, ...] | None = None
    for i, item in enumerate(data):
        shape = nested_shape(item, flat)
        if inner is not None and shape != inner:
            raise InvalidArgumentError(f"expected sequence of length {inner[0] if inner else 0} at dim 1 (got "
                                       f"{shape[0] if shape else 0}) at position {i}")
        inner = shape
    return (len(data), *(inner or ()))


@function("tensor", method=False, out=False)
def tensor(data: Any, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False,
           pin_memory: bool = False) -> Tensor:
    """A new tensor with a copy of ``data`` (numbers, nested sequences, arrays, tensors).

    dtype: inferred if not given (Python floats become the default dtype, ints int64).

    Example::

        >>> import torsh
        >>> torsh.tensor([[1, 2], [3, 4]]).dtype
        torsh.int64
    """
    if isinstance(data, Tensor):
        import warnings
        warnings.warn("To copy construct from a tensor, it is recommended to use sourceTensor.detach().clone() or "
                      "sourceTensor.detach().clone().requires_grad_(True), rather than tensor(sourceTensor).",
                      UserWarning, stacklevel=2)
        out = data.detach().clone()
        return finish(out if dtype is None else out.to(dtype), requires_grad, device)
    values, want = array_of(data, dtype)
    return finish(from_array(values, want), requires_grad, device)


@function("from_numpy", method=False, out=False)
def from_numpy(array: np.ndarray[Any, Any]) -> Tensor:
    """A tensor that shares the memory of a NumPy array (its strides are kept).

    A recorded operation reads the memory when the window runs: change the array only after
    :func:`torsh.synchronize` if operations on the tensor are still pending.
    """
    if not isinstance(array, np.ndarray):
        raise ArgumentTypeError(f"expected np.ndarray (got {type(array).__name__})")
    dtype = from_numpy_dtype(array.dtype)
    if not array.dtype.isnative:
        raise InvalidArgumentError("given numpy array has byte order different from the native byte order: use "
                                   "array.astype(array.dtype.newbyteorder('='))")
    if array.flags.c_contiguous:
        storage = Storage(address_of(array), array.nbytes, array, True)
        return from_storage(storage, array.shape, dtype)
    return strided_alias(array, dtype)


def strided_alias(array: np.ndarray[Any, Any], dtype: DType) -> Tensor:
    """A view, with the array's strides, of a flat tensor over the memory that the array spans."""
    size = array.itemsize
    if any(s < 0 for s in array.strides):
        raise InvalidArgumentError("At least one stride in the given numpy array is negative, and tensors with negative "
                                   "strides are not currently supported. (You can probably work around this by making a copy "
                                   "of your array with array.copy().)")
    if any(s % size for s in array.strides):
        raise InvalidArgumentError("given numpy array strides not a multiple of the element byte size. Copy the numpy array "
                                   "to reallocate the memory.")
    strides = tuple(s // size for s in array.strides)
    span = 0 if array.size == 0 else 1 + sum((n - 1) * s for n, s in zip(array.shape, strides, strict=True))
    storage = Storage(address_of(array), span * size, array, True)
    flat = from_storage(storage, (span,), dtype)
    return make_view(flat, TABLE["as_strided"], (tuple(array.shape), strides, 0), Tensor)  # type: ignore[no-any-return]


@function("as_tensor", method=False, out=False, aliases=("asarray",))
def as_tensor(data: Any, dtype: DType | None = None, device: Any = None, *, copy: bool | None = None,
              requires_grad: bool = False) -> Tensor:
    """``data`` as a tensor, sharing memory with tensors and NumPy arrays where dtypes agree."""
    if device is not None:
        require_available(device)
    if isinstance(data, Tensor):
        t = data if dtype is None or data.dtype is dtype else data.to(dtype)
        t = t.clone() if copy and t is data else t
    elif isinstance(data, np.ndarray) and not copy and (data.flags.c_contiguous or min(data.strides) >= 0):
        t = from_numpy(data)
        t = t if dtype is None or t.dtype is dtype else t.to(dtype)
    else:
        t = tensor(data, dtype=dtype)
    return t.requires_grad_() if requires_grad else t


def legacy_constructor(*args: Any, **kwargs: Any) -> Tensor:
    """``torsh.Tensor(...)``: float32 tensors from sizes or data."""
    if not args:
        return empty(0)
    if len(args) == 1 and not isinstance(args[0], (int, np.integer)):
        return args[0].detach() if isinstance(args[0], Tensor) else tensor(args[0], dtype=get_default_dtype())
    return empty(*args)


# ---- filled ------------------------------------------------------------------------------------------------------------

def creation_options(e: Tensor, dtype: DType | None) -> DType:
    """The dtype of a ``*_like`` result."""
    return e.dtype if dtype is None else dtype


@function("zeros", method=False, recall=True)
def zeros(*size: Any, dtype: DType | None = None, layout: Any = None, device: Any = None, pin_memory: bool = False,
          requires_grad: bool = False) -> Tensor:
    """A tensor of zeros of the given sizes (numbers or one sequence)."""
    dtype = dtype or get_default_dtype()
    return finish(filled(sizes(size, "zeros"), typed(0, dtype), dtype), requires_grad, device)


@function("ones", method=False, recall=True)
def ones(*size: Any, dtype: DType | None = None, layout: Any = None, device: Any = None, pin_memory: bool = False,
         requires_grad: bool = False) -> Tensor:
    """A tensor of ones of the given sizes (numbers or one sequence)."""
    dtype = dtype or get_default_dtype()
    return finish(filled(sizes(size, "ones"), typed(1, dtype), dtype), requires_grad, device)


@function("empty", method=False, recall=True)
def empty(*size: Any, dtype: DType | None = None, layout: Any = None, device: Any = None, pin_memory: bool = False,
          requires_grad: bool = False, memory_format: Any = None) -> Tensor:
    """A tensor whose contents are undefined."""
    dtype = dtype or get_default_dtype()
    return finish(Tensor(emit(TABLE["empty"], (), (sizes(size, "empty"), dtype.name))), requires_grad, device)


@function("full", method=False)
def full(size: Any, fill_value: Any, *, dtype: DType | None = None, layout: Any = None, device: Any = None,
         pin_memory: bool = False, requires_grad: bool = False) -> Tensor:
    """A tensor filled with a number; its dtype follows the number unless given."""
    shape = sizes((size,) if not isinstance(size, int) else (size,), "full")
    if isinstance(fill_value, Tensor):
        e = expr_of(fill_value)
        dtype = dtype or e.dtype
    else:
        value = fill_value.item() if isinstance(fill_value, np.generic) else fill_value
        dtype = dtype or scalar_dtype((bool, int, float, complex).index(type(value)))
        e = scalar_expr(typed(value, dtype))
    e = emit1(TABLE["cast"], e, dtype.name)
    return finish(Tensor(emit1(TABLE["expand"], e, shape) if shape else e), requires_grad, device)


@function("empty_strided", method=False, out=False)
def empty_strided(size: Any, stride: Any, *, dtype: DType | None = None, layout: Any = None, device: Any = None,
                  requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """A tensor of these sizes and strides whose contents are undefined."""
    shape, strides = tuple(size), tuple(stride)
    if len(shape) != len(strides):
        raise ShapeMismatchError(f"dimensionality of sizes ({len(shape)}) must match dimensionality of strides ({len(strides)})")
    if any(n < 0 for n in (*shape, *strides)):
        raise ShapeMismatchError(f"as_strided: Negative sizes and strides are not supported, got size {shape} and stride {strides}")
    span = 0 if 0 in shape else 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    flat = empty(span, dtype=dtype, device=device)
    view = make_view(flat, TABLE["as_strided"], (shape, strides, 0), Tensor)
    return view.requires_grad_() if requires_grad else view  # type: ignore[no-any-return]


@function("empty_permuted", method=False, out=False)
def empty_permuted(size: Any, physical_layout: Any, *, dtype: DType | None = None, layout: Any = None, device: Any = None,
                   requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """A tensor whose dimensions lie in memory in the order ``physical_layout``, with undefined contents."""
    shape, order = tuple(size), tuple(physical_layout)
    if len(shape) != len(order):
        raise ShapeMismatchError(f"Number of dimensions in size does not match the length of the physical_layout; i.e. len(size) = "
                                 f"{len(shape)} is not equal to len(physical_layout) = {len(order)}")
    for d in order:
        if not 0 <= d < len(shape):
            raise ShapeMismatchError(f"Dimension out of range (expected to be between 0 and {len(shape) - 1}, but got {d})")
    if len(set(order)) != len(order):
        raise ShapeMismatchError("Duplicate dim not allowed in physical_layout")
    inner = contiguous_strides([shape[d] for d in order])
    return empty_strided(shape, [inner[order.index(d)] for d in range(len(shape))], dtype=dtype, device=device,
                         requires_grad=requires_grad)


@function("new_empty_strided", namespace=None, out=False)  # type: ignore[arg-type]
def new_empty_strided(self: Tensor, size: Any, stride: Any, *, dtype: DType | None = None, **options: Any) -> Tensor:
    """``torsh.empty_strided`` with this tensor's dtype."""
    return empty_strided(size, stride, dtype=dtype or self.dtype, **options)


@function("scalar_tensor", method=False, out=False)
def scalar_tensor(s: Any, *, dtype: DType | None = None, layout: Any = None, device: Any = None, pin_memory: bool = False,
                  requires_grad: bool = False) -> Tensor:
    """A tensor without dimensions, of the default dtype unless given."""
    return full((), s, dtype=dtype or get_default_dtype(), device=device, requires_grad=requires_grad)


def _like(name: str, maker: Any) -> None:
    @function(name + "_like", method=False, out=False)
    def like(input: Tensor, *args: Any, dtype: DType | None = None, layout: Any = None, device: Any = None,
             requires_grad: bool = False, memory_format: Any = None, pin_memory: bool = False) -> Tensor:
        if not isinstance(input, Tensor):
            raise ArgumentTypeError(f"{name}_like(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
        return maker(tuple(input._expr.shape), *args, dtype=dtype or input._expr.dtype, device=device,  # type: ignore[no-any-return]
                     requires_grad=requires_grad)
    like.__name__ = name + "_like"
    like.__doc__ = f"``torsh.{name}`` with the size and dtype of ``input``."


for _name, _maker in (("zeros", zeros), ("ones", ones), ("empty", empty), ("full", full)):
    _like(_name, _maker)


def _new(name: str, maker: Any) -> None:
    @function("new_" + name, namespace=None, out=False)  # type: ignore[arg-type]
    def new(self: Tensor, *args: Any, dtype: DType | None = None, **kwargs: Any) -> Tensor:
        if name == "full":
            kwargs.setdefault("fill_value", args[1] if len(args) > 1 else kwargs.get("fill_value"))
            args = args[:1]
        if "size" in kwargs:
            args = (kwargs.pop("size"),)
        return maker(*args, dtype=dtype or self.dtype, **kwargs)  # type: ignore[no-any-return]
    new.__name__ = "new_" + name
    new.__doc__ = f"``torsh.{name}`` with this tensor's dtype."


for _name, _maker in (("zeros", zeros), ("ones", ones), ("empty", empty), ("full", full)):
    _new(_name, _maker)


@function("new_tensor", namespace=None, out=False)  # type: ignore[arg-type]
def new_tensor(self: Tensor, data: Any, *, dtype: DType | None = None, device: Any = None,
               requires_grad: bool = False) -> Tensor:
    """A tensor with a copy of ``data`` and this tensor's dtype."""
    return tensor(data, dtype=dtype or self.dtype, device=device, requires_grad=requires_grad)


# ---- ranges ------------------------------------------------------------------------------------------------------------

def number(value: Any) -> Any:
    """A Python number from a number, a NumPy scalar or a one-element tensor."""
    return value.item() if isinstance(value, (Tensor, np.generic)) else value


def counted(length: int) -> Expr:
    """0, 1, ... as int64."""
    return emit(TABLE["iota"], (), ((length,), 0))


@function("arange", method=False, aliases=())
def arange(start: Any = None, end: Any = None, step: Any = 1, *, dtype: DType | None = None, layout: Any = None,
           device: Any = None, pin_memory: bool = False, requires_grad: bool = False) -> Tensor:
    """Numbers from ``start`` (0) up to but without ``end`` in steps of ``step``."""
    if end is None:
        start, end = 0, start
    start, end, step = number(start), number(end), number(step)
    if dtype is None:
        dtype = get_default_dtype() if any(isinstance(v, float) for v in (start, end, step)) else scalar_dtype(1)
    if step == 0:
        raise ShapeMismatchError("step must be nonzero")
    if not (math.isfinite(start) and math.isfinite(end)):
        raise ShapeMismatchError(f"unsupported range: {start} -> {end}")
    if (end - start) * (1 if step > 0 else -1) < 0:
        raise ShapeMismatchError("upper bound and lower bound inconsistent with step sign")
    if dtype is int64:                      # other integers are counted before the numbers are cut, as in PyTorch
        start, end, step = int(start), int(end), int(step)
    length = max(0, math.ceil((end - start) / step))
    e = counted(length)
    if dtype.category < 2:
        wide, s, d = scalar_dtype(1), scalar_expr(int(start)), scalar_expr(int(step))
    else:
        from torsh.core.dtype import float64
        wide, s, d = float64, scalar_expr(float(start)), scalar_expr(float(step))
    cast = TABLE["cast"]
    e = emit1(cast, e, wide.name)
    e = emit(TABLE["add"], (emit(TABLE["mul"], (e, emit1(cast, d, wide.name))), emit1(cast, s, wide.name)))
    return finish(Tensor(emit1(cast, e, dtype.name) if wide is not dtype else e), requires_grad, device)


@function("range", method=False)
def range_(start: Any = 0, end: Any = None, step: Any = 1, *, dtype: DType | None = None, **options: Any) -> Tensor:
    """Numbers from ``start`` to ``end``, both included (deprecated in PyTorch in favour of arange)."""
    if end is None:
        start, end = 0, start
    length = math.floor((end - start) / step) + 1
    t = arange(length, dtype=dtype or get_default_dtype())
    return finish(t * step + start, options.get("requires_grad", False), options.get("device"))


def check_steps(steps: Any, name: str) -> None:
    """Raise PyTorch's errors unless ``steps`` is a whole number that is not negative."""
    if not hasattr(steps, "__index__"):
        raise ArgumentTypeError(f"{name}(): argument 'steps' (position 3) must be int, not {type(steps).__name__}")
    if steps < 0:
        raise ShapeMismatchError("number of steps must be non-negative")


@function("linspace", method=False)
def linspace(start: Any, end: Any, steps: int, *, dtype: DType | None = None, layout: Any = None, device: Any = None,
             requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """``steps`` numbers from ``start`` to ``end``, both included."""
    start, end = number(start), number(end)
    check_steps(steps, "linspace")
    dtype = dtype or (get_default_dtype().to_complex() if isinstance(start, complex) or isinstance(end, complex)
                      else get_default_dtype())
    kind = np.complex128 if dtype.is_complex else np.float64
    values = spaced(kind(start), kind(end), steps, dtype)
    return finish(from_array(values, dtype), requires_grad, device)


def spaced(start: Any, end: Any, steps: int, dtype: DType) -> np.ndarray[Any, Any]:
    """Evenly spaced numbers, counted from the nearer end as PyTorch does."""
    if steps == 1:
        return np.array([start]).astype(dtype.numpy)
    if dtype.category < 2:
        start, end = int(start), int(end)
        step = np.float32((end - start) / np.float32(steps - 1)) if steps > 1 else 0
    else:
        step = (end - start) / (steps - 1) if steps > 1 else 0
    i: Any = np.arange(steps)
    if dtype.category < 2:                  # in float32, as PyTorch: whole numbers stay whole
        start, end, i = np.float32(start), np.float32(end), i.astype(np.float32)
    with np.errstate(all="ignore"):
        return np.where(i < steps // 2, start + step * i, end - step * (steps - 1 - i)).astype(dtype.numpy)


@function("logspace", method=False)
def logspace(start: Any, end: Any, steps: int, base: float = 10.0, *, dtype: DType | None = None, layout: Any = None,
             device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """``base`` to the powers of ``linspace(start, end, steps)``."""
    start, end = number(start), number(end)
    check_steps(steps, "logspace")
    dtype = dtype or get_default_dtype()
    wide = np.complex128 if dtype.is_complex else np.float64
    exponents = np.linspace(wide(start), wide(end), steps) if steps != 1 else np.array([wide(start)])
    if dtype.category < 2:
        exponents = spaced(float(int(start)), float(int(end)), steps, get_default_dtype()).astype(np.float64)
    with np.errstate(all="ignore"):
        return finish(from_array((wide(base) ** exponents).astype(dtype.numpy), dtype), requires_grad, device)


@function("eye", method=False)
def eye(n: int, m: int | None = None, *, dtype: DType | None = None, layout: Any = None, device: Any = None,
        requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """A matrix with ones on the diagonal."""
    m = n if m is None else m
    if n < 0 or m < 0:
        raise ShapeMismatchError(f"n must be greater or equal to 0, got {min(n, m)}")
    rows, columns = (emit(TABLE["iota"], (), ((n, m), axis)) for axis in (0, 1))
    same = emit(TABLE["eq"], (rows, columns))
    return finish(Tensor(emit1(TABLE["cast"], same, (dtype or get_default_dtype()).name)), requires_grad, device)


@function("frombuffer", method=False, out=False)
def frombuffer(buffer: Any, *, dtype: DType, count: int = -1, offset: int = 0, requires_grad: bool = False) -> Tensor:
    """A one-dimensional tensor over a Python buffer, sharing its memory."""
    view = memoryview(buffer).cast("B")
    if len(view) == 0:
        raise InvalidArgumentError(f"both buffer length (0) and count ({count}) must not be 0")
    if offset < 0 or offset >= len(view):
        raise InvalidArgumentError(f"offset ({offset} bytes) must be non-negative and no greater than buffer length "
                                   f"({len(view)} bytes) minus 1")
    rest = len(view) - offset
    if count < 0 and rest % dtype.itemsize:
        raise InvalidArgumentError(f"buffer length ({rest} bytes) after offset ({offset} bytes) must be a multiple of element "
                                   f"size ({dtype.itemsize})")
    count = rest // dtype.itemsize if count < 0 else count
    if count * dtype.itemsize > rest or count == 0:
        raise InvalidArgumentError(f"requested buffer length ({count} * {dtype.itemsize} bytes) after offset ({offset} bytes) "
                                   f"must not be greater than actual buffer length ({len(view)} bytes)")
    array = np.frombuffer(view, np.uint8, count * dtype.itemsize, offset)
    storage = Storage(address_of(array), array.nbytes, (array, buffer), True)
    return finish(from_storage(storage, (count,), dtype), requires_grad, None)


def tensor_from_slice(cls: Any, data: Any, shape: Any, dtype: DType | None = None, device: Any = None) -> Tensor:
    """ToRSh's spelling of ``tensor(data).reshape(shape)``."""
    return tensor(data, dtype=dtype, device=device).reshape(tuple(shape))


__all__ = ["Size", "NAMESPACES", "tensor", "from_numpy", "zeros", "ones", "full", "empty", "arange"]
