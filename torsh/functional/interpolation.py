"""Resizing, sampling and rearranging of images."""
from __future__ import annotations

import math
import warnings
from typing import Any

from torsh.core.errors import ArgumentTypeError, InvalidArgumentError, ShapeMismatchError
from torsh.ops.common import permute, reshape
from torsh.ops.expr import Expr
from torsh.ops.interpolation import MODES, affine_grid_expr, grid_sample_expr, interpolate_expr
from torsh.tensor.function import function, recorded, tensor_operand
from torsh.tensor.tensor import Tensor


def _per_dimension(value: Any, sizes: tuple[int, ...], name: str) -> tuple[Any, ...]:
    """One value per spatial dimension."""
    if not isinstance(value, (tuple, list)):
        return (value,) * len(sizes)
    if len(value) != len(sizes):
        raise InvalidArgumentError(f"Input and {name} must have the same number of spatial dimensions, but got input with spatial "
                                   f"dimensions of {list(sizes)} and {name} of {value}.")
    return tuple(value)


def target_sizes(sizes: tuple[int, ...], size: Any, scale_factor: Any, recompute: bool) -> tuple[tuple[int, ...], Any]:
    """Output sizes, and the scales that positions are computed with (none: from the sizes)."""
    if (size is None) == (scale_factor is None):
        raise InvalidArgumentError("either size or scale_factor should be defined" if size is None else
                                   "only one of size or scale_factor should be defined")
    if size is not None:
        if recompute:
            raise InvalidArgumentError("recompute_scale_factor is not meaningful with an explicit size.")
        wanted = _per_dimension(size, sizes, "size")
        if not all(hasattr(m, "__index__") for m in wanted):
            raise ArgumentTypeError("expected size to be one of int or Tuple[int] or Tuple[int, int] or Tuple[int, int, int], but got "
                                    f"size with types {[type(m) for m in wanted]}")
        return tuple([int(m) for m in wanted]), ()
    scales = tuple([float(f) for f in _per_dimension(scale_factor, sizes, "scale_factor")])
    wanted = tuple([math.floor(m * f) for m, f in zip(sizes, scales, strict=True)])
    return wanted, () if recompute else scales


def _check_mode(rank: int, mode: str, align_corners: bool | None, antialias: bool) -> None:
    if antialias and (mode not in ("bilinear", "bicubic", "lanczos") or rank != 4):
        raise InvalidArgumentError("Anti-alias option is restricted to bilinear, bicubic, and lanczos modes and requires a 4-D tensor "
                                   "as input")
    if mode == "lanczos" and (align_corners or not antialias):
        raise InvalidArgumentError("Lanczos mode does not support align_corners=True" if align_corners else
                                   "Lanczos mode requires antialias=True")
    if rank not in (3, 4, 5) or mode not in MODES:
        raise NotImplementedError(f"Input Error: Only 3D, 4D and 5D input Tensors supported (got {rank}D) for the modes: "
                                  f"{' | '.join(MODES)} (got {mode})")
    spatial = MODES[mode]
    if spatial is not None and spatial != rank - 2:
        raise NotImplementedError(f"Got {rank}D input, but {mode} mode needs {spatial + 2}D input")


def _interpolate(input: Expr, size: Any, scale_factor: Any, mode: str, align_corners: bool | None, recompute: bool | None,
                 antialias: bool) -> Expr:
    if mode in ("nearest", "nearest-exact", "area") and align_corners is not None:
        raise InvalidArgumentError("align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic | "
                                   "trilinear")
    rank = len(input.shape)
    sizes, scales = target_sizes(input.shape[2:], size, scale_factor, bool(recompute))
    _check_mode(rank, mode, align_corners, antialias)
    return interpolate_expr(input, mode, sizes, bool(align_corners), scales, antialias)


def interpolate(input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
                align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
                antialias: bool = False) -> Tensor:
    """Resize the spatial dimensions of (N, C, ...) to ``size`` or by ``scale_factor``.

    mode: ``"nearest"``, ``"nearest-exact"``, ``"linear"``, ``"bilinear"``, ``"trilinear"``, ``"bicubic"``, ``"lanczos"`` or
    ``"area"``. antialias: average over the elements that an output element covers (bilinear, bicubic, lanczos).
    """
    return recorded(_interpolate, (input,),  # type: ignore[no-any-return]
                    (size, scale_factor, mode, align_corners, recompute_scale_factor, antialias))


def upsample(input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
             align_corners: bool | None = None) -> Tensor:
    """PyTorch's older name of :func:`interpolate`."""
    _deprecated("upsample")
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """PyTorch's older name of :func:`interpolate` with mode ``"nearest"``."""
    _deprecated("upsample_nearest")
    return interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """PyTorch's older name of :func:`interpolate` with mode ``"bilinear"`` and aligned corners."""
    _deprecated("upsample_bilinear")
    return interpolate(input, size, scale_factor, "bilinear", True)


def _deprecated(name: str) -> None:
    warnings.warn(f"`nn.functional.{name}` is deprecated. Use `nn.functional.interpolate` instead.", UserWarning, stacklevel=3)


# ---- sampling ----------------------------------------------------------------------------------------------------------

def grid_sample(input: Tensor, grid: Tensor, mode: str = "bilinear", padding_mode: str = "zeros",
                align_corners: bool | None = None) -> Tensor:
    """Values of (N, C, ...) at the places ``grid`` (N, ..., dimensions), in [-1, 1], x first.

    mode: ``"bilinear"``, ``"nearest"`` or ``"bicubic"``; padding_mode: ``"zeros"``, ``"border"`` or ``"reflection"``.
    """
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise InvalidArgumentError("nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' or 'bicubic', but got: "
                                   f"'{mode}'")
    if align_corners is None:
        _default_corners("grid_sample")
    return recorded(_grid_sample, (input, grid), (mode, padding_mode, bool(align_corners)))  # type: ignore[no-any-return]


def _default_corners(name: str) -> None:
    warnings.warn(f"Default {name} and affine_grid behavior is align_corners=False since 1.3.0. Please specify align_corners=True if "
                  f"the old behavior is desired. See the documentation of {name} for details.", UserWarning, stacklevel=3)


def _grid_sample(input: Expr, grid: Expr, mode: str, padding_mode: str, align_corners: bool) -> Expr:
    if mode == "bicubic" and len(input.shape) == 5:
        raise ShapeMismatchError("grid_sampler(): bicubic interpolation only supports 4D input")
    return grid_sample_expr(input, grid, mode, padding_mode, align_corners)


def affine_grid(theta: Tensor, size: Any, align_corners: bool | None = None) -> Tensor:
    """The places for :func:`grid_sample` of affine transformations ``theta`` (N, d, d + 1) for output of ``size`` (N, C, ...)."""
    e = tensor_operand(theta, "affine_grid", 1, "theta")
    if not e.dtype.is_floating_point:
        raise InvalidArgumentError(f"Expected theta to have floating point type, but got {theta.dtype}")
    if align_corners is None:
        _default_corners("affine_grid")
    return recorded(_affine_grid, (theta,), (tuple(size), bool(align_corners)))  # type: ignore[no-any-return]


def _affine_grid(theta: Expr, size: tuple[int, ...], align_corners: bool) -> Expr:
    n = len(size) - 2
    if n not in (2, 3):
        raise NotImplementedError(f"affine_grid only supports 4D and 5D sizes, for 2D and 3D affine transforms, respectively. Got size "
                                  f"{list(size)}.")
    if len(theta.shape) != 3 or theta.shape[1:] != (n, n + 1):
        raise InvalidArgumentError(f"Expected a batch of {n}D affine matrices of shape Nx{n}x{n + 1} for size {list(size)}. Got "
                                   f"{list(theta.shape)}.")
    if min(size) <= 0:
        raise InvalidArgumentError(f"Expected non-zero, positive output size. Got {list(size)}")
    return affine_grid_expr(theta, size[2:], align_corners)


_SAMPLING_MODES, _SAMPLING_PADDINGS = ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")


def _grid_sampler(name: str) -> None:
    def fn(input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool) -> Tensor:
        return grid_sample(input, grid, _SAMPLING_MODES[interpolation_mode], _SAMPLING_PADDINGS[padding_mode], bool(align_corners))
    fn.__name__ = name
    fn.__doc__ = "``grid_sample`` with numbers for the modes: bilinear, nearest, bicubic and zeros, border, reflection."
    function(name, method=False, out=False)(fn)


for _name in ("grid_sampler", "grid_sampler_2d", "grid_sampler_3d"):
    _grid_sampler(_name)
function("affine_grid_generator", method=False, out=False)(affine_grid)


# ---- rearranging -------------------------------------------------------------------------------------------------------

def _pixel_shuffle(input: Expr, upscale_factor: int) -> Expr:
    r = _checked_factor(input, upscale_factor, "pixel_shuffle", "upscale_factor")
    *lead, c, h, w = input.shape
    if c % (r * r):
        raise ShapeMismatchError("pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of "
                                 f"upscale_factor, but input.size(-3)={c} is not divisible by {r * r}")
    n = len(lead)
    x = reshape(input, (*lead, c // (r * r), r, r, h, w))
    return reshape(permute(x, (*range(n), n, n + 3, n + 1, n + 4, n + 2)), (*lead, c // (r * r), h * r, w * r))


def _checked_factor(input: Expr, factor: int, name: str, argument: str) -> int:
    if len(input.shape) < 3:
        raise ShapeMismatchError(f"{name} expects input to have at least 3 dimensions, but got input with {len(input.shape)} "
                                 "dimension(s)")
    if factor <= 0:
        raise ShapeMismatchError(f"{name} expects a positive {argument}, but got {factor}")
    return factor


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(..., C * r * r, H, W) rearranged to (..., C, H * r, W * r)."""
    return recorded(_pixel_shuffle, (input,), (upscale_factor,))  # type: ignore[no-any-return]


def _pixel_unshuffle(input: Expr, downscale_factor: int) -> Expr:
    r = _checked_factor(input, downscale_factor, "pixel_unshuffle", "downscale_factor")
    *lead, c, h, w = input.shape
    for label, m in (("height", h), ("width", w)):
        if m % r:
            raise ShapeMismatchError(f"pixel_unshuffle expects {label} to be divisible by downscale_factor, but {m} is not divisible "
                                     f"by {r}")
    n = len(lead)
    x = permute(reshape(input, (*lead, c, h // r, r, w // r, r)), (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return reshape(x, (*lead, c * r * r, h // r, w // r))


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """The inverse of :func:`pixel_shuffle`."""
    return recorded(_pixel_unshuffle, (input,), (downscale_factor,))  # type: ignore[no-any-return]


def _channel_shuffle(input: Expr, groups: int) -> Expr:
    if len(input.shape) < 3:
        raise ShapeMismatchError(f"channel_shuffle expects input with > 2 dims, but got input with sizes {list(input.shape)}")
    n, c, *sizes = input.shape
    if groups <= 0:
        raise ShapeMismatchError(f"Number of groups to divide channels in must be positive. Value of groups:{groups}")
    if c % groups:
        raise ShapeMismatchError(f"Number of channels must be divisible by groups. Got {c} channels and {groups} groups.")
    x = reshape(input, (n, groups, c // groups, math.prod(sizes)))
    return reshape(permute(x, (0, 2, 1, 3)), input.shape)


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Channels regrouped: (N, g * c, ...) read as (N, c, g, ...)."""
    return recorded(_channel_shuffle, (input,), (groups,))  # type: ignore[no-any-return]


@function("native_channel_shuffle", method=False, out=False)
def native_channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Another name of :func:`channel_shuffle`."""
    return channel_shuffle(input, groups)
