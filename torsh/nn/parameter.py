"""Parameters and buffers: tensors that modules register when they are assigned."""
from __future__ import annotations

from typing import Any

from torsh.tensor.creation import empty
from torsh.tensor.tensor import Tensor, make_subclass


class Parameter(Tensor):
    """A tensor that is a module's parameter; requires grad by default and shares ``data``'s memory."""

    __slots__ = ()

    def __new__(cls, data: Any = None, requires_grad: bool = True) -> Any:
        """A parameter over ``data``'s memory."""
        if data is None:
            data = empty(0)
        return make_subclass(cls, data, requires_grad)

    def __init__(self, data: Any = None, requires_grad: bool = True) -> None:
        """Everything is done in ``__new__``."""

    def __repr__(self, **kwargs: Any) -> str:
        from torsh.tensor.printing import tensor_repr
        return "Parameter containing:\n" + tensor_repr(self)


class Buffer(Tensor):
    """A tensor that a module registers as a buffer when it is assigned."""

    __slots__ = ()

    def __new__(cls, data: Any = None, *, persistent: bool = True) -> Any:
        """A buffer over ``data``'s memory."""
        t = make_subclass(cls, empty(0) if data is None else data, False)
        t.persistent = persistent
        return t

    def __init__(self, data: Any = None, *, persistent: bool = True) -> None:
        """Everything is done in ``__new__``."""
