"""Modules that only change shapes."""
from __future__ import annotations

from typing import Any

from torsh.core.errors import ArgumentTypeError
from torsh.nn.modules.module import Module


class Flatten(Module):
    """Joins the dimensions start_dim to end_dim.

    Example::

        >>> import torsh
        >>> torsh.nn.Flatten()(torsh.ones(2, 3, 4)).shape
        torsh.Size([2, 12])
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Any) -> Any:
        """The flattened input."""
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        """Dimensions."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Splits a dimension into several.

    Example::

        >>> import torsh
        >>> torsh.nn.Unflatten(1, (3, 4))(torsh.ones(2, 12)).shape
        torsh.Size([2, 3, 4])
    """

    def __init__(self, dim: Any, unflattened_size: Any) -> None:
        super().__init__()
        if isinstance(dim, str):
            raise ArgumentTypeError("Unflatten: dimensions with names are not supported, give the dimension's number")
        if not isinstance(unflattened_size, (tuple, list)):
            raise ArgumentTypeError(f"unflattened_size must be a tuple of ints, but found type {type(unflattened_size).__name__}")
        for i, n in enumerate(unflattened_size):
            if not isinstance(n, int):
                raise ArgumentTypeError(f"unflattened_size must be tuple of ints, but found element of type {type(n).__name__} "
                                        f"at pos {i}")
        self.dim, self.unflattened_size = dim, unflattened_size

    def forward(self, input: Any) -> Any:
        """The input with the dimension split."""
        return input.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        """Dimension and sizes."""
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
