"""Argument helpers that the families of functions share."""
from __future__ import annotations

from typing import Any

from torsh.core.errors import InvalidArgumentError, ShapeMismatchError
from torsh.tensor import NAMESPACES
from torsh.tensor.tensor import Tensor

T = NAMESPACES[""]      # the functions of torsh itself, by name


def ntuple(value: Any, n: int, name: str = "argument") -> tuple[Any, ...]:
    """One number per spatial dimension, from a number or a sequence of 1 or n numbers."""
    items = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if len(items) == 1:
        return items * n
    if len(items) != n:
        raise ShapeMismatchError(f"{name} must be a number or a sequence of {n} numbers, got {value!r}")
    return items


def reduced(loss: Tensor, reduction: str) -> Tensor:
    """A loss reduced by ``"mean"``, ``"sum"`` or not at all (``"none"``)."""
    if reduction == "mean":
        return loss.mean()  # type: ignore[no-any-return]
    if reduction == "sum":
        return loss.sum()  # type: ignore[no-any-return]
    if reduction == "none":
        return loss
    raise InvalidArgumentError(f"{reduction} is not a valid value for reduction")


def legacy_reduction(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """The reduction that PyTorch's deprecated flags stand for."""
    if size_average is None and reduce is None:
        return reduction
    if reduce is False:
        return "none"
    return "sum" if size_average is False else "mean"
