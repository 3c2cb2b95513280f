"""Padding layers: the last one, two or three dimensions get longer."""
from __future__ import annotations

from typing import Any

from torsh.core.errors import InvalidArgumentError
from torsh.functional.common import ntuple
from torsh.nn import functional as F
from torsh.nn.modules.module import Module


class _PadNd(Module):
    """padding: one number for all sides, or (before, after) for each dimension, the last one first."""

    rank = 0
    mode = "constant"

    def __init__(self, padding: Any) -> None:
        super().__init__()
        self.padding = ntuple(padding, 2 * self.rank)

    def forward(self, input: Any) -> Any:
        """The padded input."""
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        """Amounts."""
        return f"{self.padding}"


class _ConstantPadNd(_PadNd):
    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Any) -> Any:
        """The padded input."""
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        """Amounts and value."""
        return f"padding={self.padding}, value={self.value}"


class _ZeroPadNd(_PadNd):
    def __init__(self, padding: Any) -> None:
        super().__init__(padding)
        self.value = 0.0


class _CircularPadNd(_PadNd):
    mode = "circular"

    def forward(self, input: Any) -> Any:
        """The padded input."""
        if input.dim() not in (self.rank + 1, self.rank + 2):
            raise InvalidArgumentError(f"expected {self.rank + 1}D or {self.rank + 2}D input (got {input.dim()}D input)")
        return super().forward(input)


class ConstantPad1d(_ConstantPadNd):
    """Padding of the last dimension with one value."""

    rank = 1


class ConstantPad2d(_ConstantPadNd):
    """Padding of the last two dimensions with one value.

    Example::

        >>> import torsh
        >>> torsh.nn.ConstantPad2d((1, 0, 2, 0), 3.5)(torsh.zeros(1, 2, 2)).shape
        torsh.Size([1, 4, 3])
    """

    rank = 2


class ConstantPad3d(_ConstantPadNd):
    """Padding of the last three dimensions with one value."""

    rank = 3


class ZeroPad1d(_ZeroPadNd):
    """Padding of the last dimension with zeros."""

    rank = 1


class ZeroPad2d(_ZeroPadNd):
    """Padding of the last two dimensions with zeros."""

    rank = 2


class ZeroPad3d(_ZeroPadNd):
    """Padding of the last three dimensions with zeros."""

    rank = 3


class ReflectionPad1d(_PadNd):
    """Padding of (N, C, L) or (C, L) with its mirror image, without the edge."""

    rank = 1
    mode = "reflect"


class ReflectionPad2d(_PadNd):
    """Padding of (N, C, H, W) or (C, H, W) with its mirror image, without the edge."""

    rank = 2
    mode = "reflect"


class ReflectionPad3d(_PadNd):
    """Padding of (N, C, D, H, W) or (C, D, H, W) with its mirror image, without the edge."""

    rank = 3
    mode = "reflect"


class ReplicationPad1d(_PadNd):
    """Padding of (N, C, L) or (C, L) with its edge."""

    rank = 1
    mode = "replicate"


class ReplicationPad2d(_PadNd):
    """Padding of (N, C, H, W) or (C, H, W) with its edge."""

    rank = 2
    mode = "replicate"


class ReplicationPad3d(_PadNd):
    """Padding of (N, C, D, H, W) or (C, D, H, W) with its edge."""

    rank = 3
    mode = "replicate"


class CircularPad1d(_CircularPadNd):
    """Padding of (N, C, L) or (C, L) from the other end."""

    rank = 1


class CircularPad2d(_CircularPadNd):
    """Padding of (N, C, H, W) or (C, H, W) from the other end."""

    rank = 2


class CircularPad3d(_CircularPadNd):
    """Padding of (N, C, D, H, W) or (C, D, H, W) from the other end."""

    rank = 3
