"""The type of ``Tensor.shape``."""
from __future__ import annotations

import math
from typing import Any


class Size(tuple[int, ...]):
    """A tuple of sizes that prints as PyTorch's and can count its elements."""

    __slots__ = ()

    def numel(self) -> int:
        """Number of elements of a tensor of this size."""
        return math.prod(self)

    def dims(self) -> tuple[int, ...]:
        """The sizes as a plain tuple."""
        return tuple(self)

    def can_broadcast_to(self, other: Any) -> bool:
        """Can a tensor of this size be broadcast to size ``other``?"""
        other = tuple(other)
        return len(self) <= len(other) and all(a in (1, b) for a, b in zip(reversed(self), reversed(other), strict=False))

    def __add__(self, other: Any) -> Size:
        return Size(tuple.__add__(self, tuple(other)))

    def __radd__(self, other: Any) -> Size:
        return Size(tuple(other) + tuple(self))

    def __mul__(self, count: Any) -> Size:
        return Size(tuple.__mul__(self, count))

    __rmul__ = __mul__

    def __getitem__(self, index: Any) -> Any:
        item = tuple.__getitem__(self, index)
        return Size(item) if isinstance(index, slice) else item

    def __repr__(self) -> str:
        return f"torsh.Size({list(self)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Size, (tuple(self),)
