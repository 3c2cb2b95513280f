"""Numerical limits of dtypes."""
from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from torsh.core.dtype import DType
from torsh.core.errors import ArgumentTypeError


class finfo:  # noqa: N801 - PyTorch's name
    """Limits of a floating-point dtype."""

    def __init__(self, dtype: DType) -> None:
        if dtype.category < 2:
            raise ArgumentTypeError(f"torsh.finfo() requires a floating point input type. Use torsh.iinfo to handle "
                                    f"'{dtype.name}'")
        limits: Any = ml_dtypes.finfo(dtype.to_real().numpy)  # type: ignore[no-untyped-call]
        self.bits = int(limits.bits)
        self.eps, self.max, self.min = float(limits.eps), float(limits.max), float(limits.min)
        self.tiny = self.smallest_normal = float(limits.smallest_normal)
        self.resolution = float(limits.resolution)
        self.dtype = dtype.name

    def __repr__(self) -> str:
        return (f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, eps={self.eps:g}, "
                f"smallest_normal={self.smallest_normal:g}, tiny={self.tiny:g}, dtype={self.dtype})")


class iinfo:  # noqa: N801
    """Limits of an integer dtype."""

    def __init__(self, dtype: DType) -> None:
        if dtype.category != 1:
            raise ArgumentTypeError("torsh.iinfo() requires an integer input type. Use torsh.finfo to handle "
                                    f"'{dtype.name}'")
        limits = np.iinfo(dtype.numpy)
        self.bits, self.max, self.min, self.dtype = int(limits.bits), int(limits.max), int(limits.min), dtype.name

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"
