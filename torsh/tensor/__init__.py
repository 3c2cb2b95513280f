"""The Tensor and its functions.

Each family of functions declares its members with :func:`torsh.tensor.function.function`; here they are all loaded, and the
methods attached to :class:`Tensor`.
"""
from typing import Any

from torsh.tensor import (  # noqa: F401
    arithmetic,
    conversion,
    copies,
    creation,
    indexing,
    joining,
    legacy,
    matrix,
    ordering,
    printing,
    randomness,
    rearranging,
    reduction,
    shaping,
    spectral,
    splitting,
    statistics,
)
from torsh.tensor.creation import tensor_from_slice
from torsh.tensor.function import METHODS, NAMESPACES
from torsh.tensor.tensor import Tensor, from_array, from_storage, make_subclass


def attach_methods() -> None:
    """Give Tensor the methods declared so far that it does not define itself."""
    for name, method in METHODS.items():
        if name not in Tensor.__dict__ or name.startswith("__"):
            setattr(Tensor, name, method)


def _attach() -> None:
    attach_methods()
    for part in ("real", "imag"):
        setattr(Tensor, part, property(NAMESPACES[""][part], _setter(part)))
    Tensor.T = property(_reversed)                                    # type: ignore[attr-defined]
    Tensor.mT = property(lambda self: self.transpose(-2, -1))         # type: ignore[attr-defined]
    Tensor.H = property(lambda self: self.transpose(-2, -1).conj())   # type: ignore[attr-defined]
    Tensor.mH = property(lambda self: self.transpose(-2, -1).conj())  # type: ignore[attr-defined]
    Tensor.itemsize = property(lambda self: self.dtype.itemsize)      # type: ignore[attr-defined]
    Tensor.nbytes = property(lambda self: self.dtype.itemsize * self.numel())  # type: ignore[attr-defined]
    Tensor.is_cuda = property(lambda self: False)                     # type: ignore[attr-defined]
    Tensor.is_sparse = property(lambda self: False)                   # type: ignore[attr-defined]
    Tensor.is_quantized = property(lambda self: False)                # type: ignore[attr-defined]
    Tensor.is_meta = property(lambda self: False)                     # type: ignore[attr-defined]
    Tensor.from_slice = classmethod(tensor_from_slice)                # type: ignore[attr-defined]
    Tensor.scalar = staticmethod(NAMESPACES[""]["tensor"])            # type: ignore[attr-defined]


def _setter(name: str) -> Any:
    def assign(self: Tensor, value: Any) -> None:
        NAMESPACES[""][name](self)[...] = value
    return assign


def _reversed(self: Tensor) -> Tensor:
    return self.permute(*range(self.ndim - 1, -1, -1)) if self.ndim else self  # type: ignore[attr-defined, no-any-return]


_attach()
__all__ = ["METHODS", "NAMESPACES", "Tensor", "attach_methods", "from_array", "from_storage", "make_subclass"]
