"""Layouts and memory formats."""
from __future__ import annotations


class layout:  # noqa: N801 - PyTorch's name
    """How a tensor stores its elements."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"torsh.{self.name}"


class memory_format:  # noqa: N801
    """The order of dimensions in memory."""

    __slots__ = ("name", "_rank")

    def __init__(self, name: str, rank: int | None = None) -> None:
        self.name = name
        self._rank = rank

    def order(self, ndim: int) -> tuple[int, ...] | None:
        """Dimensions from the slowest to the fastest; None if the format does not apply to this rank."""
        if self._rank is None:
            return tuple(range(ndim))
        return (0, *range(2, ndim), 1) if ndim == self._rank else None

    def __repr__(self) -> str:
        return f"torsh.{self.name}"


strided, sparse_coo, sparse_csr = layout("strided"), layout("sparse_coo"), layout("sparse_csr")
contiguous_format, preserve_format = memory_format("contiguous_format"), memory_format("preserve_format")
channels_last, channels_last_3d = memory_format("channels_last", 4), memory_format("channels_last_3d", 5)
