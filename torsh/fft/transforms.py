"""Fourier transforms of tensors, over one, two or some dimensions.

Complex results have the complex dtype that belongs to the input's (integers count as the default dtype), real ones the real
dtype. 16-bit floating types raise RuntimeError. ``norm`` says where the factor 1/n goes: ``"backward"`` (the default: to
inverse transforms), ``"forward"``, or ``"ortho"`` (its square root to both). Sizes cut the input off or pad it with zeros.

Source: the discrete Fourier transform as in Cooley and Tukey, "An algorithm for the machine calculation of complex Fourier
series" (1965); the behaviour is that of PyTorch's ``torch.fft``.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final

from torsh.core.errors import ArgumentTypeError, DTypeError, IndexOutOfRangeError, ShapeMismatchError
from torsh.core.promotion import SCALAR_TYPE_NAMES
from torsh.core.shape import normalise_dim
from torsh.graph.handle import Handle
from torsh.ops.common import cast
from torsh.ops.expr import Expr
from torsh.ops.fourier import MEAN, ROOT, UNSCALED, fft_expr, fft_from_half, fft_to_half, transformable
from torsh.tensor.function import accepting_out, function, recorded
from torsh.tensor.tensor import Tensor

Sizes = int | Sequence[int] | None
_SCALES: Final = {"backward": (UNSCALED, MEAN), None: (UNSCALED, MEAN), "ortho": (ROOT, ROOT), "forward": (MEAN, UNSCALED)}


def _transform(name: str, to_real: bool = False) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Declare a function of torsh.fft whose ``out`` has to be complex (or real)."""
    def declare(fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
        general = accepting_out(fn, name)

        @functools.wraps(fn)
        def checked(*args: Any, out: Any = None, **kwargs: Any) -> Any:
            if isinstance(out, Handle):
                dtype = out.dtype
                if dtype.category != (2 if to_real else 3):
                    raise DTypeError(f"{name} expects a {'floating point' if to_real else 'complex'} output tensor, but got "
                                     f"{SCALAR_TYPE_NAMES[dtype.name]}")
            return general(*args, out=out, **kwargs)
        return function(name, namespace="fft", method=False, out=False)(checked)
    return declare


# ---- arguments ---------------------------------------------------------------------------------------------------------

def _scale(norm: str | None, forward: bool) -> int:
    if norm not in _SCALES:
        raise ShapeMismatchError(f'Invalid normalization mode: "{norm}"')
    return _SCALES[norm][0 if forward else 1]


def _integer(value: Any, name: str, argument: str) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ArgumentTypeError(f"fft_{name}(): argument {argument} must be int, not {type(value).__name__}")
    return int(value.__index__())


def _integers(values: Any, name: str, argument: str) -> tuple[int, ...] | None:
    if values is None:
        return None
    if not isinstance(values, (tuple, list)):
        values = (values,)
    for i, value in enumerate(values, 1):
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise ArgumentTypeError(f"fft_{name}(): argument '{argument}' failed to unpack the object at pos {i} with error "
                                    f"\"type must be tuple of ints,but got {type(value).__name__}\"")
    return tuple([int(value.__index__()) for value in values])


def _string(norm: Any, name: str) -> None:
    if norm is not None and not isinstance(norm, str):
        raise ArgumentTypeError(f"fft_{name}(): argument 'norm' must be str, not {type(norm).__name__}")


def _checked_sizes(sizes: Sequence[int]) -> None:
    for n in sizes:
        if n < 1:
            raise ShapeMismatchError(f"Invalid number of data points ({n}) specified")


def _dimension(dim: int, rank: int) -> int:
    if not rank:
        raise IndexOutOfRangeError(f"Dimension specified as {dim} but tensor has no dimensions")
    return normalise_dim(dim, rank)


def _one_of(n: Any, dim: Any, norm: Any, name: str) -> tuple[int | None, int]:
    """The options of a transform over one dimension, of the types that they have to have."""
    _string(norm, name)
    return None if n is None else _integer(n, name, "'n' (position 2)"), _integer(dim, name, "'dim'")


def _several_of(s: Any, dim: Any, norm: Any, name: str) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """The options of a transform over several dimensions, of the types that they have to have."""
    _string(norm, name)
    return _integers(s, name, "s"), _integers(dim, name, "dim")


def _several(e: Expr, s: Any, dim: Any) -> tuple[tuple[int, ...], list[int], bool]:
    """The dimensions of a transform over several, their sizes, and whether the last size is that of the input."""
    rank = len(e.shape)
    if dim is not None:
        axes = tuple([_dimension(d, rank) for d in dim])
        if len(set(axes)) != len(axes):
            raise ShapeMismatchError("FFT dims must be unique")
        if s is not None and len(s) != len(axes):
            raise ShapeMismatchError("When given, dim and shape arguments must have the same length")
    elif s is not None:
        if len(s) > rank:
            raise ShapeMismatchError(f"Got shape with {len(s)} values but input tensor only has {rank} dimensions.")
        axes = tuple(range(rank - len(s), rank))
    else:
        axes = tuple(range(rank))
    given = (-1,) * len(axes) if s is None else s
    sizes = [e.shape[axis] if n == -1 else n for axis, n in zip(axes, given, strict=True)]
    return axes, sizes, not given or given[-1] == -1


def _real(e: Expr, message: str) -> None:
    """Raise PyTorch's error for complex numbers."""
    if e.dtype.is_complex:
        raise DTypeError(f"{message} {SCALAR_TYPE_NAMES[e.dtype.name]}")


# ---- one dimension -----------------------------------------------------------------------------------------------------

def _complex_1d(input: Expr, n: int | None, dim: int, norm: str | None, name: str, forward: bool) -> Expr:
    n, dim = _one_of(n, dim, norm, name)
    e = transformable(input)
    axis = _dimension(dim, len(e.shape))
    size = e.shape[axis] if n is None else n
    _checked_sizes((size,))
    return fft_expr(e, (axis,), (size,), forward, _scale(norm, forward))


def _to_half_1d(input: Expr, n: int | None, dim: int, norm: str | None, name: str, forward: bool) -> Expr:
    n, dim = _one_of(n, dim, norm, name)
    _real(input, f"{name} expects a real input tensor, but got")
    e = transformable(input)
    axis = _dimension(dim, len(e.shape))
    size = e.shape[axis] if n is None else n
    _checked_sizes((size,))
    return fft_to_half(e, axis, size, forward, _scale(norm, forward))


def _from_half_1d(input: Expr, n: int | None, dim: int, norm: str | None, name: str, forward: bool) -> Expr:
    n, dim = _one_of(n, dim, norm, name)
    e = as_complex(transformable(input))
    axis = _dimension(dim, len(e.shape))
    size = 2 * (e.shape[axis] - 1) if n is None else n
    _checked_sizes((size,))
    return fft_from_half(e, axis, size, forward, _scale(norm, forward))


def as_complex(e: Expr) -> Expr:
    """A real expression in the complex dtype that belongs to it."""
    return cast(e, e.dtype.to_complex())


@_transform("fft")
def fft_fft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """Fourier transform over one dimension.

    Args:
        input: real or complex, any shape with at least one dimension.
        n: size of the transformed dimension (the input's by default).

    Returns: complex, of the input's shape with size ``n`` in ``dim``.

    Raises: RuntimeError for ``n < 1``, an unknown norm or a 16-bit dtype; IndexError for a dimension that is not there.

    >>> torsh.fft.fft(torsh.tensor([1., 2., 3., 4.]))
    tensor([10.+0.j, -2.+2.j, -2.+0.j, -2.-2.j])
    """
    return recorded(_complex_1d, (input,), (n, dim, norm, "fft", True))  # type: ignore[no-any-return]


@_transform("ifft")
def fft_ifft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """Inverse of :func:`fft`: arguments, results and errors as there.

    >>> torsh.fft.ifft(torsh.tensor([10., -2., -2., -2.])).real
    tensor([1., 3., 3., 3.])
    """
    return recorded(_complex_1d, (input,), (n, dim, norm, "ifft", False))  # type: ignore[no-any-return]


@_transform("rfft")
def fft_rfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """Fourier transform of real numbers: the first half of the spectrum, whose other half is its conjugate.

    Returns: complex, of the input's shape with size ``n // 2 + 1`` in ``dim``. Raises as :func:`fft`, and RuntimeError for
    complex inputs.

    >>> torsh.fft.rfft(torsh.tensor([1., 2., 3., 4.]))
    tensor([10.+0.j, -2.+2.j, -2.+0.j])
    """
    return recorded(_to_half_1d, (input,), (n, dim, norm, "rfft", True))  # type: ignore[no-any-return]


@_transform("irfft", to_real=True)
def fft_irfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """Inverse of :func:`rfft`: real, with size ``n`` (``2 * (size - 1)`` by default) in ``dim``.

    >>> torsh.fft.irfft(torsh.fft.rfft(torsh.tensor([1., 2., 3.])), n=3)
    tensor([1., 2., 3.])
    """
    return recorded(_from_half_1d, (input,), (n, dim, norm, "irfft", False))  # type: ignore[no-any-return]


@_transform("hfft", to_real=True)
def fft_hfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """Fourier transform of a Hermitian signal, given by its first half: real, of size ``n`` as :func:`irfft`.

    >>> torsh.fft.hfft(torsh.tensor([1., 2., 3.]))
    tensor([ 8., -2.,  0., -2.])
    """
    return recorded(_from_half_1d, (input,), (n, dim, norm, "hfft", True))  # type: ignore[no-any-return]


@_transform("ihfft")
def fft_ihfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """Inverse of :func:`hfft`: from real numbers the first half, ``n // 2 + 1``, of a Hermitian signal.

    >>> torsh.fft.ihfft(torsh.tensor([8., -2., 0., -2.])).real
    tensor([1., 2., 3.])
    """
    return recorded(_to_half_1d, (input,), (n, dim, norm, "ihfft", False))  # type: ignore[no-any-return]


# ---- several dimensions ------------------------------------------------------------------------------------------------

def _complex_nd(input: Expr, s: Any, dim: Any, norm: str | None, name: str, forward: bool) -> Expr:
    s, dim = _several_of(s, dim, norm, name)
    e = transformable(input)
    axes, sizes, _ = _several(e, s, dim)
    _checked_sizes(sizes)
    return fft_expr(e, axes, sizes, forward, _scale(norm, forward))


def _at_least_one(axes: Sequence[int], name: str) -> None:
    if not axes:
        raise ShapeMismatchError(f"{name[:-1]}n must transform at least one axis")


def _to_half_nd(input: Expr, s: Any, dim: Any, norm: str | None, name: str, forward: bool) -> Expr:
    s, dim = _several_of(s, dim, norm, name)
    if forward:
        _real(input, "rfftn expects a real-valued input tensor, but got")
    e = transformable(input)
    axes, sizes, _ = _several(e, s, dim)
    _at_least_one(axes, name)
    _checked_sizes(sizes)
    scale = _scale(norm, forward)
    _real(e, "Only supports floating-point dtypes, but found:")
    half = fft_to_half(e, axes[-1], sizes[-1], forward, scale)
    return fft_expr(half, axes[:-1], sizes[:-1], forward, scale) if axes[1:] else half


def _from_half_nd(input: Expr, s: Any, dim: Any, norm: str | None, name: str, forward: bool) -> Expr:
    s, dim = _several_of(s, dim, norm, name)
    e = as_complex(transformable(input))
    axes, sizes, default = _several(e, s, dim)
    _at_least_one(axes, name)
    _checked_sizes(sizes)
    if default:
        sizes[-1] = 2 * (e.shape[axes[-1]] - 1)
    _checked_sizes(sizes)
    scale = _scale(norm, forward)
    if axes[1:]:
        e = fft_expr(e, axes[:-1], sizes[:-1], forward, scale)
    return fft_from_half(e, axes[-1], sizes[-1], forward, scale)


@_transform("fftn")
def fft_fftn(input: Tensor, s: Sizes = None, dim: Sizes = None, norm: str | None = None) -> Tensor:
    """Fourier transform over several dimensions (all by default).

    Args:
        input: real or complex, any shape.
        s: sizes of the transformed dimensions, -1 for the input's; without ``dim``, those of the last ones.

    Returns: complex. Raises: RuntimeError for repeated dimensions, sizes that do not fit them or are below 1, an unknown norm
    or a 16-bit dtype; IndexError for a dimension that is not there.

    >>> torsh.fft.fftn(torsh.tensor([[1., 2.], [3., 4.]])).real
    tensor([[10., -2.],
            [-4.,  0.]])
    """
    return recorded(_complex_nd, (input,), (s, dim, norm, "fftn", True))  # type: ignore[no-any-return]


@_transform("ifftn")
def fft_ifftn(input: Tensor, s: Sizes = None, dim: Sizes = None, norm: str | None = None) -> Tensor:
    """Inverse of :func:`fftn`.

    >>> torsh.fft.ifftn(torsh.tensor([[10., -2.], [-4., 0.]])).real
    tensor([[1., 2.],
            [3., 4.]])
    """
    return recorded(_complex_nd, (input,), (s, dim, norm, "ifftn", False))  # type: ignore[no-any-return]


@_transform("rfftn")
def fft_rfftn(input: Tensor, s: Sizes = None, dim: Sizes = None, norm: str | None = None) -> Tensor:
    """Fourier transform of real numbers over several dimensions, with half of the spectrum in the last of them.

    Raises as :func:`fftn`, and RuntimeError for complex inputs and for no dimensions.

    >>> torsh.fft.rfftn(torsh.ones(2, 4)).shape
    torsh.Size([2, 3])
    """
    return recorded(_to_half_nd, (input,), (s, dim, norm, "rfftn", True))  # type: ignore[no-any-return]


@_transform("irfftn", to_real=True)
def fft_irfftn(input: Tensor, s: Sizes = None, dim: Sizes = None, norm: str | None = None) -> Tensor:
    """Inverse of :func:`rfftn`: real; the last dimension has size ``2 * (size - 1)`` by default.

    >>> torsh.fft.irfftn(torsh.fft.rfftn(torsh.ones(2, 3)), s=(2, 3))
    tensor([[1., 1., 1.],
            [1., 1., 1.]])
    """
    return recorded(_from_half_nd, (input,), (s, dim, norm, "irfftn", False))  # type: ignore[no-any-return]


@_transform("hfftn", to_real=True)
def fft_hfftn(input: Tensor, s: Sizes = None, dim: Sizes = None, norm: str | None = None) -> Tensor:
    """Fourier transform of a Hermitian signal over several dimensions, given by its first half in the last of them.

    >>> torsh.fft.hfftn(torsh.ones(2, 3)).shape
    torsh.Size([2, 4])
    """
    return recorded(_from_half_nd, (input,), (s, dim, norm, "hfftn", True))  # type: ignore[no-any-return]


@_transform("ihfftn")
def fft_ihfftn(input: Tensor, s: Sizes = None, dim: Sizes = None, norm: str | None = None) -> Tensor:
    """Inverse of :func:`hfftn`.

    >>> torsh.fft.ihfftn(torsh.ones(2, 4)).shape
    torsh.Size([2, 3])
    """
    return recorded(_to_half_nd, (input,), (s, dim, norm, "ihfftn", False))  # type: ignore[no-any-return]


# ---- two dimensions ----------------------------------------------------------------------------------------------------

@_transform("fft2")
def fft_fft2(input: Tensor, s: Sizes = None, dim: Sizes = (-2, -1), norm: str | None = None) -> Tensor:
    """:func:`fftn` over the last two dimensions."""
    return recorded(_complex_nd, (input,), (s, dim, norm, "fft2", True))  # type: ignore[no-any-return]


@_transform("ifft2")
def fft_ifft2(input: Tensor, s: Sizes = None, dim: Sizes = (-2, -1), norm: str | None = None) -> Tensor:
    """:func:`ifftn` over the last two dimensions."""
    return recorded(_complex_nd, (input,), (s, dim, norm, "ifft2", False))  # type: ignore[no-any-return]


@_transform("rfft2")
def fft_rfft2(input: Tensor, s: Sizes = None, dim: Sizes = (-2, -1), norm: str | None = None) -> Tensor:
    """:func:`rfftn` over the last two dimensions."""
    return recorded(_to_half_nd, (input,), (s, dim, norm, "rfft2", True))  # type: ignore[no-any-return]


@_transform("irfft2", to_real=True)
def fft_irfft2(input: Tensor, s: Sizes = None, dim: Sizes = (-2, -1), norm: str | None = None) -> Tensor:
    """:func:`irfftn` over the last two dimensions."""
    return recorded(_from_half_nd, (input,), (s, dim, norm, "irfft2", False))  # type: ignore[no-any-return]


@_transform("hfft2", to_real=True)
def fft_hfft2(input: Tensor, s: Sizes = None, dim: Sizes = (-2, -1), norm: str | None = None) -> Tensor:
    """:func:`hfftn` over the last two dimensions."""
    return recorded(_from_half_nd, (input,), (s, dim, norm, "hfft2", True))  # type: ignore[no-any-return]


@_transform("ihfft2")
def fft_ihfft2(input: Tensor, s: Sizes = None, dim: Sizes = (-2, -1), norm: str | None = None) -> Tensor:
    """:func:`ihfftn` over the last two dimensions."""
    return recorded(_to_half_nd, (input,), (s, dim, norm, "ihfft2", False))  # type: ignore[no-any-return]
