"""Primitives of depthwise convolutions, whose groups have one channel each: an output is a sum over windows of one channel."""
from __future__ import annotations

from math import prod
from typing import Any, Final, NamedTuple

import numpy as np

from torsh.core.dtype import DType, from_numpy_dtype
from torsh.ops.convolution_primitives import MOST_TAPS, WindowGeometry, window_columns
from torsh.ops.define import Array, convert, wide
from torsh.ops.expr import OPAQUE, Expr, Op, Shape
from torsh.ops.windows import Sizes, numpy_spaced

MOST_ELEMENTS: Final = 24 << 10     # of lines of the input that are worked on at a time
MOST_POSITIONS: Final = 256         # of a line that are worked on at a time, if more do not fit


class Depthwise(NamedTuple):
    """Attribute of ``depthwise``: windows of the input with ``spacing - 1`` zeros between its elements."""

    geometry: WindowGeometry
    spacing: Sizes


def suits_depthwise(kernel: Sizes, stride: Sizes, dilation: Sizes, spacing: Sizes) -> bool:
    """Are there primitives for these windows? Some positions of a line must fit with all that they meet."""
    if len(kernel) > 2 or prod(kernel) > MOST_TAPS or stride[-1] > 2 or any(s > spacing[-1] for s in spacing) or spacing[-1] > 2:
        return False
    spans = [(k - 1) * abs(d) + 1 for k, d in zip(kernel, dilation, strict=True)]
    return prod(spans[:-1]) * (MOST_POSITIONS * stride[-1] + spans[-1] + 128) <= MOST_ELEMENTS


def _infer(attr: Depthwise, weight: Expr, x: Expr, *bias: Expr) -> tuple[Shape, DType]:
    return (x.shape[0], weight.shape[0] * weight.shape[1], *attr.geometry.counts), x.dtype


def _reference(attr: Depthwise, weight: Any, x: Any, *bias: Any) -> Array:
    dtype = from_numpy_dtype(np.asarray(x).dtype)
    weight, x, *bias = [convert(v, wide(dtype)) for v in (weight, x, *bias)]  # type: ignore[assignment]
    columns = window_columns(attr.geometry, numpy_spaced(x, attr.spacing))
    with np.errstate(all="ignore"):
        out = np.matmul(weight.reshape(*weight.shape[:2], -1), columns)
        out = out.reshape(x.shape[0], -1, *attr.geometry.counts)
        if bias:
            out = out + bias[0].reshape(-1, *(1,) * len(attr.spacing))
    return convert(out, dtype)


# attr: Depthwise; args: weight (channels, rows, *kernel), x (N, channels, *sizes), and optionally a bias (channels * rows)
# -> (N, channels * rows, *counts). One or two spatial dimensions, floating-point types.
DEPTHWISE: Final[Op] = Op("depthwise", _infer, _reference, kind=OPAQUE)


def _weight_infer(attr: WindowGeometry, g: Expr, x: Expr) -> tuple[Shape, DType]:
    return (*g.shape[1:3], prod(attr.kernel)), wide(x.dtype)


def _weight_reference(attr: WindowGeometry, g: Any, x: Any) -> Array:
    dtype = wide(from_numpy_dtype(np.asarray(x).dtype))
    with np.errstate(all="ignore"):
        return np.matmul(convert(g, dtype), window_columns(attr, convert(x, dtype)).swapaxes(-1, -2)).sum(0)


# attr: WindowGeometry; args: g (N, channels, rows, positions), x (N, channels, *sizes) -> (channels, rows, elements of the
# kernel), in the dtype that is summed in: sums over the positions of all batch items.
DEPTHWISE_WEIGHT: Final[Op] = Op("depthwise_weight", _weight_infer, _weight_reference, kind=OPAQUE)
