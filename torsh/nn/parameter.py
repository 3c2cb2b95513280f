"""Parameters and buffers: tensors that modules register when they are assigned."""
from __future__ import annotations

from typing import Any

from torsh.core.dtype import get_default_dtype
from torsh.core.errors import AutogradError
from torsh.tensor.creation import empty
from torsh.tensor.tensor import Tensor, make_subclass

_UNINITIALIZED = ("Can't access the shape of an uninitialized parameter or buffer. This error usually happens in `load_state_dict` "
                  "when trying to load an uninitialized parameter into an initialized one. Call `forward` to initialize the "
                  "parameters before accessing their attributes.")


class Parameter(Tensor):
    """A tensor that is a module's parameter; requires grad by default and shares ``data``'s memory.

    Example::

        >>> import torsh
        >>> torsh.nn.Parameter(torsh.ones(2))
        Parameter containing:
        tensor([1., 1.], requires_grad=True)
    """

    __slots__ = ()

    def __new__(cls, data: Any = None, requires_grad: bool = True) -> Any:
        """A parameter over ``data``'s memory."""
        return make_subclass(cls, empty(0) if data is None else data, requires_grad)

    def __init__(self, data: Any = None, requires_grad: bool = True) -> None:
        """Everything is done in ``__new__``."""

    def __repr__(self, **kwargs: Any) -> str:
        from torsh.tensor.printing import tensor_repr
        return "Parameter containing:\n" + tensor_repr(self)

    __str__ = __repr__

    def __deepcopy__(self: Any, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:                # without the gradient
            memo[id(self)] = type(self)(self.detach().clone(), self.requires_grad)
        return memo[id(self)]


class _BufferMeta(type(Tensor)):  # type: ignore[misc]
    def __instancecheck__(cls, instance: Any) -> bool:
        return type.__instancecheck__(cls, instance) or (
            isinstance(instance, Tensor) and bool(instance.__dict__.get("_is_buffer", False)))


class Buffer(Tensor, metaclass=_BufferMeta):
    """``Buffer(data, persistent=True)``: a tensor that a module registers as a buffer when it is assigned.

    The result is a plain tensor over ``data``'s memory that remembers to be a buffer.
    """

    __slots__ = ()

    def __new__(cls, data: Any = None, *, persistent: bool = True) -> Any:
        """A buffer over ``data``'s memory."""
        source = empty(0) if data is None else data
        t = source.detach()
        if source.requires_grad:
            t.requires_grad_(True)
        t.persistent = persistent
        t._is_buffer = True
        return t


class UninitializedTensorMixin:
    """What parameters and buffers without a shape share: they can be moved and cast, and get their shape later."""

    __slots__ = ()
    cls_to_become: type = Tensor

    @property
    def shape(self) -> Any:
        """Raises RuntimeError: there is no shape yet."""
        raise AutogradError(_UNINITIALIZED)

    def materialize(self: Any, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Take a shape (contents undefined) and become an ordinary parameter or buffer, in place."""
        sizes = (shape,) if isinstance(shape, int) else tuple(shape)
        self.data = empty(sizes, device=device, dtype=self.dtype if dtype is None else dtype)
        self.__class__ = self.cls_to_become

    def __repr__(self, **kwargs: Any) -> str:
        return f"<{type(self).__name__}>"

    __str__ = __repr__

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        return _rebuild_uninitialized, (type(self), self.requires_grad, self.dtype)

    def __deepcopy__(self: Any, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            memo[id(self)] = _rebuild_uninitialized(type(self), self.requires_grad, self.dtype)
        return memo[id(self)]


class UninitializedParameter(UninitializedTensorMixin, Parameter):
    """A parameter whose shape is inferred at the first ``forward`` of a lazy module."""

    __slots__ = ()
    cls_to_become = Parameter

    def __new__(cls, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> Any:
        """A parameter without shape."""
        return make_subclass(cls, empty(0, device=device, dtype=dtype or get_default_dtype()), requires_grad)

    def __init__(self, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> None:
        """Everything is done in ``__new__``."""


class UninitializedBuffer(UninitializedTensorMixin, Tensor):
    """A buffer whose shape is inferred at the first ``forward`` of a lazy module."""

    __slots__ = ()
    cls_to_become = Tensor

    def __new__(cls, requires_grad: bool = False, device: Any = None, dtype: Any = None, persistent: bool = True) -> Any:
        """A buffer without shape."""
        t = make_subclass(cls, empty(0, device=device, dtype=dtype or get_default_dtype()), requires_grad)
        t.persistent = persistent
        t._is_buffer = True
        return t

    def __init__(self, requires_grad: bool = False, device: Any = None, dtype: Any = None, persistent: bool = True) -> None:
        """Everything is done in ``__new__``."""


def _rebuild_uninitialized(cls: Any, requires_grad: bool, dtype: Any) -> Any:
    return cls(requires_grad, None, dtype)


def is_lazy(param: Any) -> bool:
    """Has the parameter or buffer no shape yet?"""
    return isinstance(param, UninitializedTensorMixin)


__all__ = ["Buffer", "Parameter", "UninitializedBuffer", "UninitializedParameter", "UninitializedTensorMixin", "is_lazy"]
