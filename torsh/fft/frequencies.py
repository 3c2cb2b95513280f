"""The frequencies that entries of a spectrum stand for, and their order."""
from __future__ import annotations

import math
from typing import Any

from torsh.core.dtype import DType, get_default_dtype
from torsh.core.errors import ArgumentTypeError, DTypeError, IndexOutOfRangeError, ShapeMismatchError, UnsupportedDTypeError
from torsh.core.promotion import SCALAR_TYPE_NAMES
from torsh.core.shape import normalise_dim
from torsh.tensor.creation import arange, finish
from torsh.tensor.function import function, tensor_operand
from torsh.tensor.rearranging import roll
from torsh.tensor.tensor import Tensor


def _checked(n: Any, dtype: DType | None, out: Any, name: str) -> DType:
    """The dtype of frequencies; raises PyTorch's errors."""
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise ArgumentTypeError(f"fft_{name}(): argument 'n' (position 1) must be int, not {type(n).__name__}")
    if out is not None:
        if dtype is not None and dtype is not out.dtype:
            raise DTypeError(f"dtype {SCALAR_TYPE_NAMES[dtype.name]} does not match dtype of out parameter "
                             f"({SCALAR_TYPE_NAMES[out.dtype.name]})")
        dtype = out.dtype
    dtype = dtype or get_default_dtype()
    if dtype.category < 2:
        raise DTypeError(f"{name} requires a floating point or complex dtype")
    if dtype.is_complex:
        raise UnsupportedDTypeError(f"\"arange_cpu\" not implemented for '{SCALAR_TYPE_NAMES[dtype.name]}'")
    return dtype


def _spacing(n: int, d: float) -> float:
    return 1 / (n * d) if n * d else math.copysign(math.inf, n * d)


def _stored(result: Tensor, out: Any, requires_grad: bool, device: Any) -> Tensor:
    if out is None:
        return finish(result, requires_grad, device)  # type: ignore[no-any-return]
    if out.shape != result.shape:
        out._resize_for_out(tuple(result.shape))
    return out.copy_(result)  # type: ignore[no-any-return]


@function("fftfreq", namespace="fft", method=False, out=False)
def fft_fftfreq(n: int, d: float = 1.0, *, out: Tensor | None = None, dtype: DType | None = None, layout: Any = None,
                device: Any = None, requires_grad: bool = False) -> Tensor:
    """Frequencies of the entries of ``fft`` of n samples at distance d, (n,): 0, 1, ..., -2, -1, over n * d.

    Raises: RuntimeError for a negative n or an integer dtype.

    >>> torsh.fft.fftfreq(4)
    tensor([ 0.0000,  0.2500, -0.5000, -0.2500])
    """
    dtype = _checked(n, dtype, out, "fftfreq")
    if n < 0:
        raise ShapeMismatchError(f"Trying to create tensor with negative dimension {n}: [{n}]")
    half = n // 2
    turns = arange(n) if not n else (arange(n) + half) % n - half
    return _stored(turns.to(dtype) * _spacing(n, d), out, requires_grad, device)


@function("rfftfreq", namespace="fft", method=False, out=False)
def fft_rfftfreq(n: int, d: float = 1.0, *, out: Tensor | None = None, dtype: DType | None = None, layout: Any = None,
                 device: Any = None, requires_grad: bool = False) -> Tensor:
    """Frequencies of the entries of ``rfft`` of n samples at distance d, (n // 2 + 1,): 0, 1, ..., over n * d.

    Raises: RuntimeError for a negative n or an integer dtype.

    >>> torsh.fft.rfftfreq(4)
    tensor([0.0000, 0.2500, 0.5000])
    """
    dtype = _checked(n, dtype, out, "rfftfreq")
    count = max(int(n / 2) + 1, 0)
    if count == 0 and n < -3:
        raise ShapeMismatchError("upper bound and lower bound inconsistent with step sign")
    return _stored(arange(count).to(dtype) * _spacing(n, d), out, requires_grad, device)


def _shifted(input: Tensor, dim: Any, name: str, up: int) -> Tensor:
    tensor_operand(input, f"fft_{name}")
    rank = input.ndim
    if dim is None:
        if not rank:
            raise ShapeMismatchError("`shifts` required")
        dims: tuple[int, ...] = tuple(range(rank))
    else:
        dims = (dim,) if not isinstance(dim, (tuple, list)) else tuple(dim)
        if dims and not rank:
            raise IndexOutOfRangeError(f"Dimension specified as {dims[0]} but tensor has no dimensions")
        dims = tuple([normalise_dim(d, rank) for d in dims])
        if not dims:
            raise ShapeMismatchError("`shifts` required")
    return roll(input, tuple([(input.shape[d] + up) // 2 for d in dims]), dims)  # type: ignore[no-any-return]


@function("fftshift", namespace="fft", method=False, out=False)
def fft_fftshift(input: Tensor, dim: Any = None) -> Tensor:
    """A spectrum with frequency zero in the middle of some dimensions (all by default), any shape and dtype.

    >>> torsh.fft.fftshift(torsh.tensor([0, 1, 2, -2, -1]))
    tensor([-2, -1,  0,  1,  2])
    """
    return _shifted(input, dim, "fftshift", 0)


@function("ifftshift", namespace="fft", method=False, out=False)
def fft_ifftshift(input: Tensor, dim: Any = None) -> Tensor:
    """Inverse of :func:`fftshift`.

    >>> torsh.fft.ifftshift(torsh.tensor([-2, -1, 0, 1, 2]))
    tensor([ 0,  1,  2, -2, -1])
    """
    return _shifted(input, dim, "ifftshift", 1)
