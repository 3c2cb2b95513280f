"""Pooling: maxima, means and norms of windows over the last dimensions of (N, C, ...) or (C, ...)."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torsh.core.dtype import int64
from torsh.core.errors import DTypeError, InvalidArgumentError, ShapeMismatchError, UnsupportedDTypeError
from torsh.functional.common import ntuple
from torsh.ops import pooling as rows
from torsh.ops.common import reshape, slice_dim
from torsh.ops.expr import Expr, emit1
from torsh.tensor.function import recorded, store_out, tensor_operand
from torsh.tensor.randomness import uniform_expr
from torsh.tensor.tensor import Tensor


def _check_rank(input: Expr, n: int, name: str) -> None:
    """Is it a batch of (possibly no) images with channels, or one image?"""
    rank = len(input.shape)
    if rank not in (n + 1, n + 2) or 0 in input.shape[rank - n - 1:]:
        raise ShapeMismatchError(f"{name}: Expected {n + 1}D or {n + 2}D (batch mode) tensor with optional 0 dim batch size for "
                                 f"input, but got: {list(input.shape)}")


def _numbers(n: int, kernel: Any, stride: Any, **others: Any) -> list[tuple[int, ...]]:
    """Kernel, stride (by default the kernel) and further options, one number per dimension."""
    sizes = ntuple(kernel, n, "kernel_size")
    strides = sizes if stride is None or stride == () else ntuple(stride, n, "stride")
    if not all(strides):
        raise ShapeMismatchError("stride should not be zero")
    return [sizes, strides, *[ntuple(value, n, name) for name, value in others.items()]]


# ---- maxima ------------------------------------------------------------------------------------------------------------

def _max_pool(n: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    name = f"max_pool{n}d"

    def windows(input: Expr, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any) -> rows.Windows:
        _check_rank(input, n, name)
        sizes, strides, pads, spread = _numbers(n, kernel, stride, padding=padding, dilation=dilation)
        return rows.Windows(sizes, strides, pads, spread, bool(ceil_mode))

    def values(input: Expr, *options: Any) -> Expr:
        return emit1(rows.MAX_POOL, input, windows(input, *options))

    def positions(input: Expr, *options: Any) -> Expr:
        return emit1(rows.MAX_POOL_INDEX, input, windows(input, *options))

    def pool(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
             ceil_mode: bool = False, return_indices: bool = False) -> Any:
        options = (kernel_size, stride, padding, dilation, ceil_mode)
        out = recorded(values, (input,), options)
        return (out, recorded(positions, (input,), options)) if return_indices else out

    def with_indices(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
                     ceil_mode: bool = False, return_indices: bool = False) -> Any:
        return pool(input, kernel_size, stride, padding, dilation, ceil_mode, True)
    pool.__name__ = values.__name__ = name
    pool.__doc__ = f"Largest elements of {n}-dimensional windows; return_indices: also their positions in the flattened input."
    with_indices.__name__ = name + "_with_indices"
    with_indices.__doc__ = f"(values, positions) of :func:`{name}`."
    return pool, with_indices


(max_pool1d, max_pool1d_with_indices), (max_pool2d, max_pool2d_with_indices), (max_pool3d, max_pool3d_with_indices) = (
    _max_pool(n) for n in (1, 2, 3))


def _unpooled_sizes(shape: tuple[int, ...], kernel: Any, stride: Any, padding: Any, wanted: Any, n: int) -> tuple[int, ...]:
    """Sizes that pooling may have had as its input: the wanted ones if they fit."""
    sizes, strides, pads = _numbers(n, kernel, stride, padding=padding)
    default = tuple([(m - 1) * s + k - 2 * p for m, k, s, p in zip(shape[-n:], sizes, strides, pads, strict=True)])
    if wanted is None:
        return default
    wanted = tuple(wanted)
    out = wanted[2:] if len(wanted) == n + 2 else wanted
    if len(out) != n:
        raise InvalidArgumentError(f"output_size should be a sequence containing {n} or {n + 2} elements, but it has a length of "
                                   f"'{len(wanted)}'")
    for d, (have, usual, s) in enumerate(zip(out, default, strides, strict=True)):
        if not usual - s < have < usual + s:
            raise InvalidArgumentError(f'invalid output_size "{list(out)}" (dim {d} must be between {usual - s} and {usual + s})')
    return tuple([int(m) for m in out])


def _unpool(n: int) -> Callable[..., Tensor]:
    name = f"max_unpool{n}d"

    def build(input: Expr, indices: Expr, kernel: Any, stride: Any, padding: Any, output_size: Any) -> Expr:
        if indices.dtype is not int64:
            raise DTypeError(f"elements in indices should be type int64 but got: {indices.dtype.name}")
        _check_rank(input, n, name)
        return rows.max_unpool_expr(input, indices, _unpooled_sizes(input.shape, kernel, stride, padding, output_size, n))

    def pool(input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
             output_size: Any = None) -> Tensor:
        return recorded(build, (input, indices), (kernel_size, stride, padding, output_size))  # type: ignore[no-any-return]
    pool.__name__ = build.__name__ = name
    pool.__doc__ = f"Elements put back to the positions that max_pool{n}d found them at; zeros elsewhere."
    return pool


max_unpool1d, max_unpool2d, max_unpool3d = (_unpool(n) for n in (1, 2, 3))


def _fractional_sizes(shape: tuple[int, ...], output_size: Any, output_ratio: Any, n: int, name: str) -> tuple[int, ...]:
    if output_size is None and output_ratio is None:
        raise InvalidArgumentError(f"{name} requires specifying either an output_size or an output_ratio")
    if output_size is not None:
        return ntuple(output_size, n, "output_size")
    if isinstance(output_ratio, (tuple, list)) and len(output_ratio) > n:
        raise InvalidArgumentError(f"{name} requires output_ratio to either be a single Int or tuple of Ints.")
    return tuple([int(m * r) for m, r in zip(shape[-n:], ntuple(output_ratio, n, "output_ratio"), strict=True)])


def _fractional(n: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    name = f"fractional_max_pool{n}d"

    def both(input: Tensor, kernel_size: Any, output_size: Any, output_ratio: Any, samples: Tensor | None) -> tuple[Tensor, Tensor]:
        x = tensor_operand(input, name)
        _check_rank(x, n, name)
        if not x.dtype.is_floating_point:
            raise UnsupportedDTypeError(f'"{name}" not implemented for \'{x.dtype.name}\'')
        sizes = _fractional_sizes(x.shape, output_size, output_ratio, n, name)
        lead = (1,) * (n + 2 - len(x.shape)) + x.shape[:-n]
        draws = uniform_expr((*lead, n), x.dtype) if samples is None else tensor_operand(samples, name, 6, "_random_samples")
        if len(x.shape) == n + 1:                       # one image uses the numbers of the first of a batch
            draws = reshape(slice_dim(draws, 0, 0, 1), (lead[1], n))
        values, places = rows.fractional_max_pool_expr(x, draws, ntuple(kernel_size, n, "kernel_size"), sizes)
        return Tensor(values), Tensor(places)

    def pool(input: Tensor, kernel_size: Any, output_size: Any = None, output_ratio: Any = None, return_indices: bool = False,
             _random_samples: Tensor | None = None) -> Any:
        pair = both(input, kernel_size, output_size, output_ratio, _random_samples)
        return pair if return_indices else pair[0]

    def with_indices(input: Tensor, kernel_size: Any, output_size: Any = None, output_ratio: Any = None,
                     return_indices: bool = False, _random_samples: Tensor | None = None) -> Any:
        return both(input, kernel_size, output_size, output_ratio, _random_samples)
    pool.__name__, with_indices.__name__ = name, name + "_with_indices"
    pool.__doc__ = f"Largest elements of {n}-dimensional windows at random places (Graham, 2014)."
    with_indices.__doc__ = f"(values, positions) of :func:`{name}`."
    return pool, with_indices


(fractional_max_pool2d, fractional_max_pool2d_with_indices), (fractional_max_pool3d, fractional_max_pool3d_with_indices) = (
    _fractional(n) for n in (2, 3))


# ---- means and norms ---------------------------------------------------------------------------------------------------

def _avg_pool(n: int) -> Callable[..., Tensor]:
    name = f"avg_pool{n}d"

    def build(input: Expr, kernel: Any, stride: Any, padding: Any, ceil_mode: Any, include: Any, divisor: int | None) -> Expr:
        _check_rank(input, n, name)
        sizes, strides, pads = _numbers(n, kernel, stride, padding=padding)
        return rows.avg_pool_expr(input, sizes, strides, pads, bool(ceil_mode), bool(include), divisor)

    def pool(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
             count_include_pad: bool = True, divisor_override: int | None = None, *, out: Tensor | None = None) -> Tensor:
        if out is not None:
            return store_out(pool, name, (input, kernel_size, stride, padding, ceil_mode,  # type: ignore[no-any-return]
                                          count_include_pad, divisor_override), {}, out)
        return recorded(build, (input,), (kernel_size, stride, padding, ceil_mode,  # type: ignore[no-any-return]
                                          count_include_pad, divisor_override))
    pool.__name__ = build.__name__ = name
    pool.__doc__ = f"Means of {n}-dimensional windows; divisor_override: divide sums by this number."
    return pool


_avg_pool1d, avg_pool2d, avg_pool3d = (_avg_pool(n) for n in (1, 2, 3))


def avg_pool1d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
               count_include_pad: bool = True) -> Tensor:
    """Means of 1-dimensional windows."""
    return _avg_pool1d(input, kernel_size, stride, padding, ceil_mode, count_include_pad)


def _lp_pool(n: int) -> Callable[..., Tensor]:
    def build(input: Expr, p: float, kernel: Any, stride: Any, ceil_mode: Any) -> Expr:
        _check_rank(input, n, f"lp_pool{n}d")
        sizes, strides = _numbers(n, kernel, stride)
        return rows.lp_pool_expr(input, p, sizes, strides, bool(ceil_mode))

    def pool(input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
        return recorded(build, (input,), (float(norm_type), kernel_size, stride, ceil_mode))  # type: ignore[no-any-return]
    pool.__name__ = build.__name__ = f"lp_pool{n}d"
    pool.__doc__ = f"p-norms of {n}-dimensional windows."
    return pool


lp_pool1d, lp_pool2d, lp_pool3d = (_lp_pool(n) for n in (1, 2, 3))


# ---- adaptive windows --------------------------------------------------------------------------------------------------

def _adaptive_sizes(input: Expr, wanted: Any, n: int, name: str) -> tuple[int, ...]:
    """The output's sizes, None standing for the input's."""
    rank = len(input.shape)
    if n > 1 and isinstance(wanted, (tuple, list)) and rank <= len(wanted):
        raise InvalidArgumentError(f"Input dimension should be at least {len(wanted) + 1}")
    if rank not in (n + 1, n + 2) or isinstance(wanted, (tuple, list)) and n == 1 and len(wanted) != 1:
        raise ShapeMismatchError(f"{name}(): Expected {n + 1}D or {n + 2}D tensor and {n} output sizes, but got input of shape "
                                 f"{list(input.shape)} and output_size={wanted}")
    return tuple([m if o is None else int(o) for o, m in zip(ntuple(wanted, n, "output_size"), input.shape[-n:], strict=True)])


def _adaptive_avg(n: int) -> Callable[..., Tensor]:
    name = f"adaptive_avg_pool{n}d"

    def build(input: Expr, output_size: Any) -> Expr:
        return emit1(rows.ADAPTIVE_AVG_POOL, input, _adaptive_sizes(input, output_size, n, name))

    def pool(input: Tensor, output_size: Any) -> Tensor:
        return recorded(build, (input,), (output_size,))  # type: ignore[no-any-return]
    pool.__name__ = build.__name__ = name
    pool.__doc__ = "Means of as many windows as the output has elements; None keeps a dimension's size."
    return pool


def _adaptive_max(n: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    name = f"adaptive_max_pool{n}d"

    def values(input: Expr, output_size: Any) -> Expr:
        return emit1(rows.ADAPTIVE_MAX_POOL, input, _adaptive_sizes(input, output_size, n, name))

    def positions(input: Expr, output_size: Any) -> Expr:
        return emit1(rows.ADAPTIVE_MAX_POOL_INDEX, input, _adaptive_sizes(input, output_size, n, name))

    def pool(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
        out = recorded(values, (input,), (output_size,))
        return (out, recorded(positions, (input,), (output_size,))) if return_indices else out

    def with_indices(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
        return pool(input, output_size, True)
    pool.__name__ = values.__name__ = name
    pool.__doc__ = "Largest elements of as many windows as the output has elements; return_indices: also their positions."
    with_indices.__name__ = name + "_with_indices"
    with_indices.__doc__ = f"(values, positions) of :func:`{name}`."
    return pool, with_indices


adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = (_adaptive_avg(n) for n in (1, 2, 3))
(adaptive_max_pool1d, adaptive_max_pool1d_with_indices), (adaptive_max_pool2d, adaptive_max_pool2d_with_indices), (
    adaptive_max_pool3d, adaptive_max_pool3d_with_indices) = (_adaptive_max(n) for n in (1, 2, 3))
