"""Parameters as one vector and back."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torsh.core.errors import ArgumentTypeError
from torsh.graph.handle import Handle
from torsh.tensor import NAMESPACES


def parameters_to_vector(parameters: Iterable[Any]) -> Any:
    """All elements of the parameters in one vector."""
    return NAMESPACES[""]["cat"]([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec: Any, parameters: Iterable[Any]) -> None:
    """Set the parameters to consecutive pieces of a vector."""
    if not isinstance(vec, Handle):
        raise ArgumentTypeError(f"expected torsh.Tensor, but got: {type(vec).__name__}")
    start = 0
    for p in parameters:
        n = p.numel()
        p.data.copy_(vec[start:start + n].view_as(p))  # type: ignore[index]
        start += n
