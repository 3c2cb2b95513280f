"""Resizing and rearranging of images."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from torsh.core.dtype import int64
from torsh.core.errors import InvalidArgumentError, ShapeMismatchError
from torsh.functional.common import T, ntuple
from torsh.functional.pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from torsh.tensor.tensor import Tensor, from_array


def target_sizes(input: Tensor, size: Any, scale_factor: Any, recompute: bool | None) -> tuple[tuple[int, ...], list[float | None]]:
    """Output sizes and the scales that positions are computed with (None: from the sizes)."""
    n = input.ndim - 2
    if (size is None) == (scale_factor is None):
        raise InvalidArgumentError("only one of size or scale_factor should be defined" if size is not None else
                                   "either size or scale_factor should be defined")
    if size is not None:
        return tuple(int(s) for s in ntuple(size, n, "size")), [None] * n
    scales = [float(s) for s in ntuple(scale_factor, n, "scale_factor")]
    sizes = tuple(math.floor(m * s) for m, s in zip(input.shape[2:], scales, strict=True))
    return sizes, [None] * n if recompute else list(scales)


def source_positions(n: int, out: int, scale: float | None, align_corners: bool) -> np.ndarray[Any, Any]:
    """Where each output entry of linear interpolation lies between the input's entries."""
    i = np.arange(out, dtype=np.float64)
    if align_corners:
        return i * ((n - 1) / (out - 1) if out > 1 else 0.0)
    step = 1 / scale if scale else n / out
    return (i + 0.5) * step - 0.5


def _nearest(x: Any, dim: int, out: int, scale: float | None, exact: bool) -> Any:
    """The nearest entries of one dimension."""
    n = x.shape[dim]
    step = np.float32(1 / scale if scale else n / out)
    i = np.arange(out, dtype=np.float32)
    spots = np.floor((i + np.float32(0.5)) * step if exact else i * step).astype(np.int64).clip(0, n - 1)
    return x.index_select(dim, from_array(spots, int64))


def blended(x: Any, dim: int, spots: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]) -> Any:
    """Weighted sums of entries of one dimension: spots and weights are (terms, out)."""
    total: Any = None
    for row, w in zip(spots, weights, strict=True):
        part = x.index_select(dim, from_array(row.astype(np.int64), int64))
        factor = from_array(w.astype(x.dtype.numpy), x.dtype).reshape(  # type: ignore[attr-defined]
            [-1 if d == dim else 1 for d in range(x.ndim)])
        total = part * factor if total is None else total + part * factor
    return total


def _linear(x: Any, dim: int, out: int, scale: float | None, align_corners: bool) -> Any:
    """Linear interpolation along one dimension."""
    n = x.shape[dim]
    where = np.maximum(source_positions(n, out, scale, align_corners), 0)
    low = np.minimum(np.floor(where), n - 1)
    share = np.where(low >= n - 1, 0.0, where - low)
    return blended(x, dim, np.stack([low, np.minimum(low + 1, n - 1)]), np.stack([1 - share, share]))


def _cubic(x: Any, dim: int, out: int, scale: float | None, align_corners: bool) -> Any:
    """Cubic convolution along one dimension (Keys, 1981, with a = -0.75)."""
    n, a = x.shape[dim], -0.75
    where = source_positions(n, out, scale, align_corners)
    low = np.floor(where)
    t = where - low

    def near(d: Any) -> Any:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Any) -> Any:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    weights = np.stack([far(t + 1), near(t), near(1 - t), far(2 - t)])
    spots = np.stack([np.clip(low + k, 0, n - 1) for k in (-1, 0, 1, 2)])
    return blended(x, dim, spots, weights)


_RANKS = {"linear": 3, "bilinear": 4, "trilinear": 5, "bicubic": 4}


def interpolate(input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
                align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
                antialias: bool = False) -> Tensor:
    """Resize the spatial dimensions of (N, C, ...) to ``size`` or by ``scale_factor``.

    mode: ``"nearest"``, ``"nearest-exact"``, ``"linear"``, ``"bilinear"``, ``"trilinear"``, ``"bicubic"`` or ``"area"``.
    """
    if antialias:
        raise NotImplementedError("interpolate: antialias=True is not available; blur the input first, or use mode='area'")
    if mode in ("nearest", "nearest-exact", "area"):
        if align_corners is not None:
            raise InvalidArgumentError("align_corners option can only be set with the interpolating modes: linear | bilinear | "
                                       "bicubic | trilinear")
    elif mode not in _RANKS:
        raise NotImplementedError(f"interpolate: unknown mode {mode!r}: use nearest, nearest-exact, linear, bilinear, trilinear, "
                                  "bicubic or area")
    elif input.ndim != _RANKS[mode]:
        raise NotImplementedError(f"Got {input.ndim}D input, but {mode} mode needs {_RANKS[mode]}D input")
    sizes, scales = target_sizes(input, size, scale_factor, recompute_scale_factor)
    if min(sizes) <= 0:
        raise ShapeMismatchError(f"Input and output sizes should be greater than 0, but got input (H, W): "
                                 f"{list(input.shape[2:])} output (H, W): {list(sizes)}")
    if mode == "area":
        return {3: adaptive_avg_pool1d, 4: adaptive_avg_pool2d, 5: adaptive_avg_pool3d}[input.ndim](input, sizes)  # type: ignore[no-any-return]
    x: Any = input
    for d, (out, scale) in enumerate(zip(sizes, scales, strict=True)):
        if mode.startswith("nearest"):
            x = _nearest(x, 2 + d, out, scale, mode == "nearest-exact")
        elif mode == "bicubic":
            x = _cubic(x, 2 + d, out, scale, bool(align_corners))
        else:
            x = _linear(x, 2 + d, out, scale, bool(align_corners))
    return x  # type: ignore[no-any-return]


def upsample(input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
             align_corners: bool | None = None) -> Tensor:
    """PyTorch's older name of :func:`interpolate`."""
    return interpolate(input, size, scale_factor, mode, align_corners)


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(..., C * r * r, H, W) rearranged to (..., C, H * r, W * r)."""
    if input.ndim < 3:
        raise ShapeMismatchError(f"pixel_shuffle expects input to have at least 3 dimensions, but got input with {input.ndim} "
                                 "dimension(s)")
    r = upscale_factor
    if r <= 0:
        raise ShapeMismatchError(f"pixel_shuffle expects a positive upscale_factor, but got {r}")
    *lead, c, h, w = input.shape
    if c % (r * r):
        raise ShapeMismatchError(f"pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of "
                                 f"upscale_factor, but input.size(-3)={c} is not divisible by {r * r}")
    n = len(lead)
    x = input.reshape(*lead, c // (r * r), r, r, h, w)  # type: ignore[attr-defined]
    x = x.permute(*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return x.reshape(*lead, c // (r * r), h * r, w * r)  # type: ignore[no-any-return]


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """The inverse of :func:`pixel_shuffle`."""
    if input.ndim < 3:
        raise ShapeMismatchError(f"pixel_unshuffle expects input to have at least 3 dimensions, but got input with {input.ndim} "
                                 "dimension(s)")
    r = downscale_factor
    if r <= 0:
        raise ShapeMismatchError(f"pixel_unshuffle expects a positive downscale_factor, but got {r}")
    *lead, c, h, w = input.shape
    if h % r or w % r:
        raise ShapeMismatchError(f"pixel_unshuffle expects height and width to be divisible by downscale_factor, but got {h}, {w} "
                                 f"and {r}")
    n = len(lead)
    x = input.reshape(*lead, c, h // r, r, w // r, r).permute(*range(n), n, n + 2, n + 4, n + 1, n + 3)  # type: ignore[attr-defined]
    return x.reshape(*lead, c * r * r, h // r, w // r)  # type: ignore[no-any-return]


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Channels regrouped: (N, g * c, ...) read as (N, c, g, ...)."""
    if input.ndim < 3:
        raise ShapeMismatchError(f"channel_shuffle expects input with > 2 dims, but got input with sizes {list(input.shape)}")
    n, c = input.shape[:2]
    if groups <= 0 or c % groups:
        raise ShapeMismatchError(f"Number of channels must be divisible by groups. Got {c} channels and {groups} groups.")
    x = input.reshape(n, groups, c // groups, *input.shape[2:]).transpose(1, 2)  # type: ignore[attr-defined]
    return x.reshape(input.shape)  # type: ignore[no-any-return]


__all__ = ["T"]
