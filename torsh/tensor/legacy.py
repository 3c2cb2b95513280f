"""Types of tensors by dtype, as older programs name them: ``torsh.FloatTensor``, ``torsh.LongTensor``, …"""
from __future__ import annotations

from typing import Any, Final

import numpy as np

from torsh.core import dtype as dtypes
from torsh.core.dtype import DType
from torsh.core.errors import ArgumentTypeError
from torsh.core.size import Size
from torsh.tensor.creation import empty, tensor
from torsh.tensor.function import NAMESPACES
from torsh.tensor.tensor import Tensor


class TensorType(type):
    """The type of such types: ``isinstance`` asks for the dtype, a call makes a tensor from sizes or data."""

    dtype: DType

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor) and instance.dtype is cls.dtype

    def __call__(cls, *args: Any) -> Any:
        """A tensor of given sizes (contents undefined), with the values of a sequence, or a tensor's memory."""
        if not args:
            return empty(0, dtype=cls.dtype)
        data = args[0]
        if len(args) > 1 or isinstance(data, (int, np.integer, Size)):
            return empty(*args, dtype=cls.dtype)
        if isinstance(data, Tensor):
            if data.dtype is not cls.dtype:
                raise ArgumentTypeError(f"{cls.__name__}: expected a tensor of dtype {cls.dtype}, but got {data.dtype}")
            return data.detach()
        if not hasattr(data, "__len__"):
            raise ArgumentTypeError(f"new(): data must be a sequence (got {type(data).__name__})")
        return tensor(data, dtype=cls.dtype)


TENSOR_TYPES: Final = {f"{name}Tensor": TensorType(f"{name}Tensor", (), {
    "dtype": dtype, "__module__": "torsh", "__doc__": f"Tensors of dtype {dtype.name}."}) for name, dtype in {
        "Float": dtypes.float32, "Double": dtypes.float64, "Half": dtypes.float16, "BFloat16": dtypes.bfloat16,
        "Byte": dtypes.uint8, "Char": dtypes.int8, "Short": dtypes.int16, "Int": dtypes.int32, "Long": dtypes.int64,
        "Bool": dtypes.bool_}.items()}
NAMESPACES[""].update(TENSOR_TYPES)
