"""Argument helpers that the families of functions share."""
from __future__ import annotations

import warnings
from typing import Any

from torsh.core.errors import ShapeMismatchError
from torsh.tensor import NAMESPACES

T = NAMESPACES[""]      # the functions of torsh itself, by name


def ntuple(value: Any, n: int, name: str = "argument") -> tuple[Any, ...]:
    """One number per spatial dimension, from a number or a sequence of 1 or n numbers."""
    items = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if len(items) == 1:
        return items * n
    if len(items) != n:
        raise ShapeMismatchError(f"{name} must be a number or a sequence of {n} numbers, got {value!r}")
    return items


def legacy_reduction(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """The reduction that PyTorch's deprecated flags stand for."""
    if size_average is None and reduce is None:
        return reduction
    meant = "none" if reduce is False else "sum" if size_average is False else "mean"
    warnings.warn(f"size_average and reduce args will be deprecated, please use reduction='{meant}' instead.", UserWarning,
                  stacklevel=3)
    return meant
