"""Primitives that convolutions decompose into: products of matrices with the windows of an input."""
from __future__ import annotations

from math import prod
from typing import Any, Final, NamedTuple

import numpy as np

from torsh.core.dtype import DType, from_numpy_dtype
from torsh.ops.define import Array, convert, wide
from torsh.ops.expr import OPAQUE, Expr, Op, Shape
from torsh.ops.windows import Pairs, Sizes, extent, numpy_windows

MOST_TAPS: Final = 128       # elements of a kernel in ``convolve_weight``
PANEL_ROWS: Final = 8        # rows whose weights lie together in ``winograd_weights``


class WindowGeometry(NamedTuple):
    """Which windows of an input there are; one entry per spatial dimension, ``padding`` in front (negative: cut off).

    A negative dilation walks windows backwards from the element that the padding leads to.
    """

    kernel: Sizes
    counts: Sizes
    stride: Sizes
    padding: Sizes
    dilation: Sizes
    groups: int

    def pairs(self, sizes: Sizes) -> Pairs:
        """The padding of an input of these sizes as (before, after)."""
        return tuple([(before, (c - 1) * s + extent(k, d) - n - before) for n, k, c, s, before, d in zip(
            sizes, self.kernel, self.counts, self.stride, self.padding, self.dilation, strict=True)])


class Phase(NamedTuple):
    """The elements start, start + step ... of a result, per dimension, and the part of the kernel that meets them."""

    geometry: WindowGeometry
    start: Sizes
    step: Sizes
    tap_start: Sizes
    tap_step: Sizes


class Convolve(NamedTuple):
    """Attribute of ``convolve``: the result's sizes, and its phases, which cover it."""

    sizes: Sizes
    phases: tuple[Phase, ...]


def whole(geometry: WindowGeometry) -> Convolve:
    """A convolution in one phase."""
    zeros, ones = (0,) * len(geometry.kernel), (1,) * len(geometry.kernel)
    return Convolve(geometry.counts, (Phase(geometry, zeros, ones, zeros, ones),))


def window_columns(attr: WindowGeometry, x: Array) -> Array:
    """(N, groups, channels of a group * kernel, positions)."""
    rank = len(attr.kernel)
    turned = tuple([d for d in range(rank) if attr.dilation[d] < 0])
    # Windows that are walked backwards are the same ones, from their last element on.
    forward = attr._replace(
        padding=tuple([p - (k - 1) * min(d, 0) for p, k, d in zip(attr.padding, attr.kernel, attr.dilation, strict=True)]),
        dilation=tuple([abs(d) for d in attr.dilation]))
    windows = numpy_windows(x, forward.kernel, forward.stride, forward.dilation, forward.pairs(x.shape[2:]))
    windows = np.flip(windows, tuple([2 + rank + d for d in turned]))
    order = (0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
    return np.ascontiguousarray(windows.transpose(order)).reshape(x.shape[0], attr.groups, -1, prod(attr.counts))


def _infer(attr: Convolve, weight: Expr, x: Expr, *bias: Expr) -> tuple[Shape, DType]:
    return (x.shape[0], weight.shape[0] * weight.shape[1], *attr.sizes), x.dtype


def _reference(attr: Convolve, weight: Any, x: Any, *bias: Any) -> Array:
    dtype = from_numpy_dtype(np.asarray(x).dtype)
    weight, x, *bias = [convert(v, wide(dtype)) for v in (weight, x, *bias)]  # type: ignore[assignment]
    out = np.empty((x.shape[0], weight.shape[0] * weight.shape[1], *attr.sizes), x.dtype)
    with np.errstate(all="ignore"):
        for p in attr.phases:
            taps = [slice(a, a + (n - 1) * s + 1, s)
                    for a, n, s in zip(p.tap_start, p.geometry.kernel, p.tap_step, strict=True)]
            matrix = weight[(..., *taps)].reshape(*weight.shape[:2], -1)
            value = np.matmul(matrix, window_columns(p.geometry, x)).reshape(*out.shape[:2], *p.geometry.counts)
            out[(..., *[slice(a, None, s) for a, s in zip(p.start, p.step, strict=True)])] = value
        if bias:
            out = out + bias[0].reshape(-1, *(1,) * len(attr.sizes))
    return convert(out, dtype)


# attr: Convolve; args: weight (groups, rows, channels of a group, *kernel), x (N, channels, *sizes), and optionally a bias
# (groups * rows) -> (N, groups * rows, *sizes). Integer and floating-point types.
CONVOLVE: Final[Op] = Op("convolve", _infer, _reference, kind=OPAQUE)


def _weight_infer(attr: tuple[WindowGeometry, int], g: Expr, x: Expr) -> tuple[Shape, DType]:
    geometry, parts = attr
    columns = x.shape[1] // geometry.groups * prod(geometry.kernel)
    return (parts, geometry.groups, g.shape[2], columns), wide(x.dtype)


def _weight_reference(attr: tuple[WindowGeometry, int], g: Any, x: Any) -> Array:
    geometry, parts = attr
    dtype = wide(from_numpy_dtype(np.asarray(x).dtype))
    columns = window_columns(geometry, convert(x, dtype))
    rows = convert(g, dtype)
    # (groups, rows or columns, positions of all batch items)
    flat = [v.transpose(1, 2, 0, 3).reshape(*v.shape[1:3], -1) for v in (rows, columns)]
    share = -(-flat[0].shape[-1] // parts)
    with np.errstate(all="ignore"):
        return np.stack([np.matmul(flat[0][..., at:at + share], flat[1][..., at:at + share].swapaxes(-1, -2))
                         for at in range(0, share * parts, share)])


# attr: (WindowGeometry, parts); args: g (N, groups, rows, positions), x (N, channels, *sizes) -> (parts, groups, rows, channels
# of a group * kernel), in the dtype that is summed in: sums over the positions of all batch items, cut in parts.
CONVOLVE_WEIGHT: Final[Op] = Op("convolve_weight", _weight_infer, _weight_reference, kind=OPAQUE)


def _winograd_infer(backwards: bool, weight: Expr) -> tuple[Shape, DType]:
    groups, rows, channels, *_ = weight.shape
    return (groups, 16, -(-rows // PANEL_ROWS), channels, PANEL_ROWS), weight.dtype


def _winograd_reference(backwards: bool, weight: Any) -> Array:
    """Rows behind the last one repeat it."""
    groups, rows, channels, *_ = weight.shape
    transform = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], weight.dtype)
    kernels = weight[..., ::-1, ::-1] if backwards else weight
    points = np.einsum("iy,grcyx,jx->gijrc", transform, kernels, transform).reshape(groups, 16, rows, channels)
    points = np.pad(points, [(0, 0), (0, 0), (0, -rows % PANEL_ROWS), (0, 0)], mode="edge")
    return np.ascontiguousarray(points.reshape(groups, 16, -1, PANEL_ROWS, channels).swapaxes(-1, -2))


# attr: is the kernel turned? args: weight (groups, rows, channels, 3, 3) -> (groups, 16, panels of rows, channels, rows of a
# panel): the transformed weights of Winograd's convolution (see ``compiler/winograd.py``), which the compiler asks for.
WINOGRAD_WEIGHTS: Final[Op] = Op("winograd_weights", _winograd_infer, _winograd_reference, kind=OPAQUE)
