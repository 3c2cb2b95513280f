"""Copies, dtypes, devices, complex parts and exchange with NumPy and DLPack."""
from __future__ import annotations

import ctypes
import math
import mmap
import warnings
from typing import Any, Final

import numpy as np

from torsh.backend.base import Storage
from torsh.core import dtype as dtypes
from torsh.core.device import device as Device
from torsh.core.device import require_available
from torsh.core.dtype import DType, result_type
from torsh.core.errors import ArgumentTypeError, AutogradError, DTypeError, InvalidArgumentError, ShapeMismatchError
from torsh.graph.handle import Handle, expr_of, make_view, make_views, requires_grad
from torsh.graph.window import flush, storage_of
from torsh.ops.expr import TABLE, emit1, promotion_priority
from torsh.tensor.function import METHODS, NAMESPACES, NUMBER, assign, check_writable, function, operand, tensor_operand
from torsh.tensor.tensor import Tensor, from_array


def converted(t: Tensor, dtype: DType) -> Tensor:
    """The tensor in another dtype (itself if it has it already)."""
    e = expr_of(t)
    return t if e.dtype is dtype else Tensor(emit1(TABLE["cast"], e, dtype.name))


@function("clone", out=False)
def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """A copy; gradients flow through it."""
    return Tensor(emit1(TABLE["clone"], tensor_operand(input, "clone")))


def to(self: Tensor, *args: Any, dtype: DType | None = None, device: Any = None, non_blocking: bool = False,
       copy: bool = False, memory_format: Any = None) -> Tensor:
    """The tensor with another dtype or device: ``to(dtype)``, ``to(device)``, ``to(device, dtype)``, ``to(other)``."""
    for a in args:
        if isinstance(a, DType):
            dtype = a
        elif isinstance(a, Handle):
            dtype, device = a.dtype, a.device  # type: ignore[attr-defined]
        elif isinstance(a, (str, Device)) or (isinstance(a, int) and not isinstance(a, bool)):
            device = a
        elif not isinstance(a, bool) and a is not None:
            raise ArgumentTypeError(f"to() received an invalid combination of arguments - got {type(a).__name__}")
    if device is not None:
        require_available(device)
    out = self if dtype is None else converted(self, dtype)
    return clone(self) if copy and out is self else out  # type: ignore[no-any-return]


class _VariableType(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor)


class Variable(metaclass=_VariableType):
    """The older name of tensors: ``Variable(t, requires_grad)`` is a leaf with the memory of ``t``."""

    def __new__(cls, data: Any = None, requires_grad: bool = False, volatile: Any = None) -> Any:
        """The leaf."""
        if data is not None and not isinstance(data, Tensor):
            raise ArgumentTypeError(f"Variable data has to be a tensor, but got {type(data).__name__}")
        if volatile is not None:
            warnings.warn("volatile was removed and now has no effect. Use `with torsh.no_grad():` instead.", stacklevel=2)
        return (Tensor() if data is None else data.detach()).requires_grad_(requires_grad)


def contiguous(self: Tensor, memory_format: Any = None) -> Tensor:
    """The tensor itself if its elements lie in order, else a copy."""
    return self if self.is_contiguous() else clone(self)  # type: ignore[no-any-return]


def copy_(self: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """Overwrite with the (broadcast, cast) values of ``src``."""
    from torsh.tensor.indexing import fitted
    check_writable(self)
    e = operand(src, "copy_", 2, "src")
    if e.dtype is not self.dtype:
        e = emit1(TABLE["cast"], e, self.dtype.name)
    return assign(self, Tensor(fitted(e, self._expr.shape)), "copy_")  # type: ignore[no-any-return]


CONVERSIONS: Final = {"float": dtypes.float32, "double": dtypes.float64, "half": dtypes.float16, "bfloat16": dtypes.bfloat16,
                      "int": dtypes.int32, "long": dtypes.int64, "short": dtypes.int16, "char": dtypes.int8,
                      "byte": dtypes.uint8, "bool": dtypes.bool_, "cfloat": dtypes.complex64, "cdouble": dtypes.complex128}


def _conversion(name: str, dtype: DType) -> None:
    def fn(self: Tensor, memory_format: Any = None) -> Tensor:
        return converted(self, dtype)
    fn.__name__ = name
    fn.__doc__ = f"The tensor as {dtype.name}."
    METHODS[name] = fn


for _name, _dtype in CONVERSIONS.items():
    _conversion(_name, _dtype)


def type_(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """The name of the tensor's type, or the tensor in another dtype (a dtype, ``torsh.LongTensor``, or such a type's name)."""
    from torsh.tensor.function import scalar_type_name
    from torsh.tensor.legacy import TENSOR_TYPES, TensorType
    if dtype is None:
        return f"torsh.{scalar_type_name(self.dtype)}Tensor"
    if isinstance(dtype, str):
        package, _, name = dtype.rpartition(".")
        if package not in ("torsh", "torch") or name not in TENSOR_TYPES:
            raise InvalidArgumentError(f"invalid type: '{dtype}'")
        dtype = TENSOR_TYPES[name]
    return converted(self, dtype.dtype if isinstance(dtype, TensorType) else dtype)


def cpu(self: Tensor, memory_format: Any = None) -> Tensor:
    """The tensor on the CPU."""
    return self


def to_device(self: Tensor, device: Any) -> Tensor:
    """The tensor on another device."""
    require_available(device)
    return self


def is_shared(self: Tensor) -> bool:
    """Is the tensor in memory that forked processes share (see :func:`share_memory_`)?"""
    return self.device.type != "cpu" or isinstance(storage_of(self if self._root is None else self._root).owner, mmap.mmap)


def share_memory_(self: Tensor) -> Tensor:
    """Move the tensor, and all that it shares memory with, to memory that processes forked from now on share."""
    owner = self if self._root is None else self._root
    flush()                                     # nothing recorded refers to the old memory any more
    if not is_shared(owner):
        old = storage_of(owner)
        memory = mmap.mmap(-1, max(old.nbytes, 1))
        new = Storage(ctypes.addressof(ctypes.c_char.from_buffer(memory)), old.nbytes, memory, shared=True)
        ctypes.memmove(new.pointer, old.pointer, old.nbytes)
        owner._storage = new
    return self


METHODS.update({
    "to": to, "contiguous": contiguous, "copy_": copy_, "type": type_, "cpu": cpu, "to_device": to_device,
    "to_device_async": to_device, "to_dtype": converted,
    "type_as": lambda self, other: converted(self, other.dtype),
    "cuda": lambda self, device=None, non_blocking=False: to_device(self, Device("cuda")),
    "is_floating_point": lambda self: self.dtype.is_floating_point,
    "is_complex": lambda self: self.dtype.is_complex,
    "is_signed": lambda self: self.dtype.is_signed,
    "is_shared": is_shared, "share_memory_": share_memory_,
    "pin_memory": lambda self, device=None: self,
    "is_pinned": lambda self, device=None: False,
    "is_conj": lambda self: False,
    "is_neg": lambda self: False,
    "is_inference": lambda self: False,
    "resolve_conj": lambda self: self,
    "resolve_neg": lambda self: self,
    "get_device": lambda self: -1,
    "is_set_to": lambda self, other: self.data_ptr() == other.data_ptr() and self._geometry() == other._geometry(),
    "__len__": lambda self: length(self),
    "__iter__": lambda self: iter(NAMESPACES[""]["unbind"](self, 0)) if self.ndim else not_iterable(),
    "__bool__": lambda self: truth(self),
    "__float__": lambda self: float(self.item()),
    "__int__": lambda self: int(self.item()),
    "__complex__": lambda self: complex_number(self),
    "__index__": lambda self: as_index(self),
    "__contains__": lambda self, item: bool((self == item).any().item()),
    "__hash__": lambda self: id(self),
})


def complex_number(t: Tensor) -> Any:
    """The single element as a Python complex."""
    import builtins
    return builtins.complex(t.item())


def not_iterable() -> Any:
    """Raise for iteration over a scalar."""
    raise ArgumentTypeError("iteration over a 0-d tensor")


def length(t: Tensor) -> int:
    """Size of the first dimension."""
    if not t.ndim:
        raise ArgumentTypeError("len() of a 0-d tensor")
    return t._expr.shape[0]


def truth(t: Tensor) -> bool:
    """The truth value of the single element."""
    n = t.numel()
    if n != 1:
        kind = "no values" if n == 0 else "more than one value"
        raise ShapeMismatchError(f"Boolean value of Tensor with {kind} is ambiguous")
    return bool(t.item())


def as_index(t: Tensor) -> int:
    """The single element as an index."""
    if t.dtype.category > 1 or t.numel() != 1:
        raise ArgumentTypeError("only integer tensors of a single element can be converted to an index")
    return int(t.item())


# ---- complex numbers ---------------------------------------------------------------------------------------------------

@function("complex", method=False)
def complex(real: Tensor, imag: Tensor) -> Tensor:
    """A complex tensor from its parts."""
    a, b = tensor_operand(real, "complex"), tensor_operand(imag, "complex", 2, "imag")
    if a.dtype is not b.dtype or not a.dtype.is_floating_point:
        raise DTypeError(f"Expected both inputs to be Half, Float or Double tensors of one dtype but got {a.dtype.name} and "
                         f"{b.dtype.name}")
    return Tensor(TABLE_emit("complex", a, b))


def TABLE_emit(name: str, *args: Any) -> Any:
    """Emit an op of the table by name."""
    from torsh.ops.expr import emit
    return emit(TABLE[name], args)


@function("polar", method=False)
def polar(abs: Tensor, angle: Tensor) -> Tensor:
    """A complex tensor from absolute values and angles."""
    for position, (part, name) in enumerate(((abs, "abs"), (angle, "angle")), 1):
        tensor_operand(part, "polar", position, name)
    return complex(abs * angle.cos(), abs * angle.sin())  # type: ignore[no-any-return]


def _complex_part(name: str, position: int) -> Any:
    def fn(input: Tensor) -> Tensor:
        e = tensor_operand(input, name)
        if e.dtype.category < 3:
            if name == "imag":
                raise DTypeError("imag is not implemented for tensors with non-complex dtypes.")
            return input
        return make_view(view_as_real(input), TABLE["select"], (len(e.shape), position))  # type: ignore[no-any-return]
    fn.__name__ = name
    fn.__doc__ = f"A view of the {name} part."
    NAMESPACES.setdefault("", {})[name] = fn
    return fn


real, imag = _complex_part("real", 0), _complex_part("imag", 1)


@function("conj", out=False)
def conj(input: Tensor) -> Tensor:
    """Complex conjugate (real tensors are returned as they are)."""
    return Tensor(emit1(TABLE["conj"], expr_of(input))) if input.dtype.is_complex else input


@function("conj_physical", inplace=True)
def conj_physical(input: Tensor) -> Tensor:
    """Complex conjugate."""
    return Tensor(emit1(TABLE["conj"], expr_of(input))) if input.dtype.is_complex else input


@function("angle")
def angle(input: Tensor) -> Tensor:
    """Angle of complex numbers in radians (0 or pi for real ones)."""
    return Tensor(emit1(TABLE["angle"], tensor_operand(input, "angle")))


@function("view_as_real", method=False, out=False)
def view_as_real(input: Tensor) -> Tensor:
    """A view with real and imaginary parts in a last dimension of 2."""
    if not input.dtype.is_complex:
        raise DTypeError("view_as_real is only supported for complex tensors")
    return make_view(input, TABLE["view_as_real"], None)  # type: ignore[no-any-return]


@function("view_as_complex", method=False, out=False)
def view_as_complex(input: Tensor) -> Tensor:
    """A view with complex numbers from a last dimension of 2."""
    if not input.dtype.is_floating_point:
        raise DTypeError(f"view_as_complex is only supported for half, float and double tensors, but got a tensor of scalar "
                         f"type: {input.dtype.name}")
    if not input.ndim or input.shape[-1] != 2:
        raise ShapeMismatchError("Tensor must have a last dimension of size 2")
    if input.dtype.itemsize == 2:           # there are no complex numbers of such parts: a copy in larger ones
        return complex(input.select(-1, 0), input.select(-1, 1))  # type: ignore[no-any-return]
    TABLE["view_as_complex"].geometry(None, *input._geometry())  # type: ignore[misc]  # raises if parts do not lie side by side
    return make_view(input, TABLE["view_as_complex"], None)  # type: ignore[no-any-return]


# ---- types of results --------------------------------------------------------------------------------------------------

def _operand_kind(value: Any) -> tuple[DType, int]:
    if isinstance(value, Handle):
        e = expr_of(value)
        return e.dtype, promotion_priority(e)
    return dtypes.scalar_dtype(NUMBER.index(type(value))), 0


NAMESPACES.setdefault("", {}).update({
    "result_type": lambda a, b: result_type((_operand_kind(a), _operand_kind(b))),
    "promote_types": dtypes.promote_types,
    "can_cast": lambda from_, to: from_.category <= to.category and not (
        to.category == 1 and from_.category == 1 and not to.is_signed and from_.is_signed),
    "is_tensor": lambda obj: isinstance(obj, Tensor),
    "is_floating_point": lambda input: input.dtype.is_floating_point,
    "is_complex": lambda input: input.dtype.is_complex,
    "is_signed": lambda input: input.dtype.is_signed,
    "is_nonzero": lambda input: truth(input),
    "is_storage": lambda obj: False,
    "is_conj": lambda input: False,
    "is_neg": lambda input: False,
    "resolve_conj": lambda input: input,
    "resolve_neg": lambda input: input,
    "numel": lambda input: input.numel(),
    "detach": lambda input: input.detach(),
    "get_default_dtype": dtypes.get_default_dtype,
    "set_default_dtype": dtypes.set_default_dtype,
})
METHODS["is_nonzero"] = truth


@function("equal", out=False)
def equal(input: Tensor, other: Tensor) -> bool:
    """Do both tensors have the same size and elements?"""
    if input._expr.shape != other._expr.shape:
        return False
    return bool((input == other).all().item())


@function("allclose", out=False)
def allclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Are all elements close (see isclose)?"""
    return bool(NAMESPACES[""]["isclose"](input, other, rtol, atol, equal_nan).all().item())


# ---- NumPy and DLPack --------------------------------------------------------------------------------------------------

def array_protocol(self: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
    """NumPy's conversion protocol."""
    array = self.numpy()
    return array if dtype is None else array.astype(dtype, copy=False)


def dlpack(self: Tensor, **options: Any) -> Any:
    """A DLPack capsule that shares this tensor's memory."""
    if requires_grad(self):
        raise AutogradError("Can't export tensors that require gradient, use tensor.detach()")
    return self.numpy().__dlpack__(**{k: v for k, v in options.items() if k != "stream"})


METHODS.update({"__array__": array_protocol, "__dlpack__": dlpack, "__dlpack_device__": lambda self: (1, 0)})


@function("from_dlpack", method=False, out=False)
def from_dlpack(ext_tensor: Any, **options: Any) -> Tensor:
    """A tensor over the memory of any object that speaks DLPack."""
    from torsh.tensor.creation import from_numpy
    array = np.from_dlpack(ext_tensor)
    return from_numpy(array)  # type: ignore[no-any-return]


def copied_memory(t: Tensor, memo: dict[Any, Any]) -> Tensor:
    """A copy of the tensor's values. What shares memory does so in one deepcopy, too."""
    owner = t if t._root is None else t._root
    whole = t is owner or all(op.name == "detach" for op, _ in t._chain)
    key = ("memory", id(owner))
    found = memo.get(key, memo.get(id(owner)))
    if found is None:
        found = memo[key] = clone(owner.detach())
        if whole:
            return found  # type: ignore[no-any-return]
    return found.detach() if whole else make_views(found.detach(), t._chain)  # type: ignore[no-any-return]


def deepcopy(self: Tensor, memo: dict[int, Any]) -> Any:
    """A copy with its own memory; only leaves can be copied."""
    if id(self) in memo:
        return memo[id(self)]
    if not self.is_leaf:
        raise AutogradError("Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the "
                            "moment.")
    from torsh.tensor.tensor import make_subclass
    flag = self._leaf_grad
    copy = copied_memory(self, memo)
    out = make_subclass(type(self), copy, flag) if type(self) is not Tensor else copy.requires_grad_(flag)
    memo[id(self)] = out
    if self._grad is not None:
        out._grad = deepcopy(self._grad, memo)
    out.__dict__.update({k: v for k, v in self.__dict__.items()})
    return out


def reduce_ex(self: Tensor, protocol: Any) -> Any:
    """Pickling: the values as bytes, with dtype, shape and flags."""
    array = np.ascontiguousarray(self.detach()._ndarray())
    return rebuild, (type(self), array.tobytes(), self.dtype, tuple(self.shape), requires_grad(self))


def rebuild(cls: Any, data: bytes, dtype: DType, shape: tuple[int, ...], flag: bool) -> Any:
    """Make a tensor again from what :func:`reduce_ex` gave."""
    from torsh.tensor.tensor import make_subclass
    array = np.frombuffer(bytearray(data), dtype.numpy).reshape(shape) if math.prod(shape) else np.empty(shape, dtype.numpy)
    t = from_array(array, dtype)
    return t.requires_grad_(flag) if cls is Tensor else make_subclass(cls, t, flag)


METHODS.update({"__deepcopy__": deepcopy, "__reduce_ex__": reduce_ex})
__all__ = ["clone", "converted", "make_view"]
