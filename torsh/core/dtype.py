"""Data types and the promotion rules between them.

The promotion rules are PyTorch's: a result's category (bool < integer < floating < complex) is decided by all operands,
its width first by tensors with dimensions, then by zero-dimensional tensors, then by Python numbers.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, Final

import ml_dtypes
import numpy as np

from torsh.core.errors import ArgumentTypeError, DTypeError


class DType:
    """One element type. Instances are singletons: compare with ``is`` or ``==``.

    Attributes: ``name`` (``"float32"``), ``itemsize`` (bytes), ``numpy`` (the NumPy dtype), ``category``
    (0 bool, 1 integer, 2 floating, 3 complex).
    """

    __slots__ = ("name", "itemsize", "numpy", "category", "is_signed", "_order")

    def __init__(self, name: str, numpy_dtype: Any, category: int, signed: bool, order: int) -> None:
        self.name = name
        self.numpy: np.dtype[Any] = np.dtype(numpy_dtype)
        self.itemsize = self.numpy.itemsize
        self.category = category
        self.is_signed = signed
        self._order = order

    @property
    def is_floating_point(self) -> bool:
        """True for float16, bfloat16, float32 and float64."""
        return self.category == 2

    @property
    def is_complex(self) -> bool:
        """True for complex64 and complex128."""
        return self.category == 3

    @property
    def is_integer(self) -> bool:
        """True for the integer types, not for bool."""
        return self.category == 1

    def to_real(self) -> DType:
        """The real type of a complex type's parts; the type itself otherwise."""
        return {complex64: float32, complex128: float64}.get(self, self)

    def to_complex(self) -> DType:
        """The complex type with parts of this type."""
        return {float64: complex128, complex128: complex128}.get(self, complex64)

    def __repr__(self) -> str:
        return f"torsh.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return dtype_by_name, (self.name,)


bool_: Final = DType("bool", np.bool_, 0, False, 0)
uint8: Final = DType("uint8", np.uint8, 1, False, 1)
int8: Final = DType("int8", np.int8, 1, True, 2)
int16: Final = DType("int16", np.int16, 1, True, 3)
int32: Final = DType("int32", np.int32, 1, True, 4)
int64: Final = DType("int64", np.int64, 1, True, 5)
float16: Final = DType("float16", np.float16, 2, True, 6)
bfloat16: Final = DType("bfloat16", ml_dtypes.bfloat16, 2, True, 7)
float32: Final = DType("float32", np.float32, 2, True, 8)
float64: Final = DType("float64", np.float64, 2, True, 9)
complex64: Final = DType("complex64", np.complex64, 3, True, 10)
complex128: Final = DType("complex128", np.complex128, 3, True, 11)

ALL_DTYPES: Final = (bool_, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64, complex64, complex128)
_BY_NAME: Final = {d.name: d for d in ALL_DTYPES}
_BY_NUMPY: Final = {d.numpy: d for d in ALL_DTYPES}
_PYTHON_CATEGORY: Final = {bool: 0, int: 1, float: 2, complex: 3}
_default: list[DType] = [float32]


def dtype_by_name(name: str) -> DType:
    """The dtype called ``name``, for example ``"float32"``."""
    return _BY_NAME[name]


def from_numpy_dtype(dtype: Any) -> DType:
    """The dtype of NumPy's ``dtype``; raises TypeError for types that tensors cannot hold."""
    found = _BY_NUMPY.get(dtype) or _BY_NUMPY.get(np.dtype(dtype).newbyteorder("="))
    if found is None:
        names = ", ".join(d.name for d in ALL_DTYPES)
        raise ArgumentTypeError(f"can't convert np.ndarray of type {np.dtype(dtype)}. The supported types are: {names}.")
    return found


# Called when the default dtype has changed: whatever is remembered of inference may be wrong.
default_dtype_changed: Final[list[Callable[[], None]]] = []


def get_default_dtype() -> DType:
    """The floating-point dtype that Python floats become (float32 unless set otherwise)."""
    return _default[0]


def set_default_dtype(dtype: DType) -> None:
    """Set the dtype that Python floats become; only floating-point types are allowed."""
    if not isinstance(dtype, DType) or not dtype.is_floating_point:
        raise ArgumentTypeError(f"only floating-point types are supported as the default type, got {dtype}")
    if dtype is not _default[0]:
        _default[0] = dtype
        result_type.cache_clear()
        for forget in default_dtype_changed:
            forget()


@cache
def promote_types(a: DType, b: DType) -> DType:
    """The smallest dtype that holds values of both, by PyTorch's table."""
    if a is b:
        return a
    low, high = sorted((a, b), key=lambda d: d._order)
    if high.category == 3:
        return complex128 if low is float64 else high
    if high.category == 2:
        return float32 if low is float16 and high is bfloat16 else high
    if low is uint8 and high is int8:
        return int16
    return high


def check_fits(low: Any, high: Any, dtype: DType, name: str | None = None) -> None:
    """Raise :func:`overflow` unless Python numbers from ``low`` to ``high`` can be converted to an integer dtype."""
    limit = 2 ** (8 * dtype.itemsize - dtype.is_signed) - 1
    # Negative integers wrap around in unsigned types; of floats, not even NaN or infinity is let pass.
    lowest = -limit - 1 if dtype.is_signed else -limit if isinstance(low, int) else 0
    if not (lowest <= low and high <= limit):
        raise overflow(dtype, name)


_C_NAMES: Final = {"uint8": "uint8_t", "int8": "int8_t", "int16": "int16_t", "int32": "int", "int64": "int64_t", "float16": "c10::Half",
                   "bfloat16": "c10::BFloat16", "float32": "float", "float64": "double"}
_LARGEST: Final = float(np.finfo(np.float32).max)


def overflow(dtype: DType, name: str | None = None) -> DTypeError:
    """PyTorch's error for a Python number that a dtype (called ``name``; default: as in C) cannot hold."""
    return DTypeError(f"value cannot be converted to type {name or _C_NAMES.get(dtype.name, dtype.name)} without overflow")


def typed(value: Any, dtype: DType) -> Any:
    """A Python number in the kind of a dtype. Raises RuntimeError if the dtype cannot hold it (16-bit ones hold infinities then)."""
    if value.__class__ is complex and dtype.category < 3:
        if value.imag != 0 and dtype.category:
            raise overflow(dtype)
        value = value.real if dtype.category else value != 0
    if dtype.category == 1 and value.__class__ is not bool:
        check_fits(value, value, dtype)
    elif dtype is float32 and _LARGEST < abs(value) < math.inf:
        raise overflow(dtype)
    return (bool, int, float, complex)[dtype.category](value)


def python_category(value: Any) -> int:
    """Category of a Python number: 0 bool, 1 int, 2 float, 3 complex."""
    return _PYTHON_CATEGORY[type(value)]


def scalar_dtype(category: int) -> DType:
    """The dtype that a Python number of this category has by itself."""
    return (bool_, int64, get_default_dtype(), get_default_dtype().to_complex())[category]


@lru_cache(maxsize=65536)
def result_type(operands: tuple[tuple[DType, int], ...]) -> DType:
    """Promoted dtype of operands given as (dtype, priority).

    priority: 2 for tensors with dimensions, 1 for zero-dimensional tensors, 0 for Python numbers. A lower priority decides
    only if its category is higher than that of all operands with higher priority.
    """
    best: DType | None = None
    for priority in (2, 1, 0):
        group: DType | None = None
        for dtype, own in operands:
            if own != priority:
                continue
            if priority == 0:
                dtype = scalar_dtype(dtype.category)
            group = dtype if group is None else promote_types(group, dtype)
        if group is None:
            continue
        if best is None:
            best = group
        elif group.category > best.category:
            best = best.to_complex() if group.is_complex and best.is_floating_point else group
    assert best is not None
    return best
