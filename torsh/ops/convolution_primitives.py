"""Primitives that convolutions decompose into: products of matrices with the windows of an input."""
from __future__ import annotations

from math import prod
from typing import Any, Final, NamedTuple

import numpy as np

from torsh.core.dtype import DType, from_numpy_dtype
from torsh.ops.define import Array, convert, wide
from torsh.ops.expr import OPAQUE, Expr, Op, Shape
from torsh.ops.windows import Pairs, Sizes, extent, numpy_windows


class WindowGeometry(NamedTuple):
    """Which windows of an input there are; one entry per spatial dimension, ``padding`` in front (negative: cut off)."""

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


def _columns(attr: WindowGeometry, x: Array) -> Array:
    """(N, groups, channels of a group * kernel, positions)."""
    rank = len(attr.kernel)
    windows = numpy_windows(x, attr.kernel, attr.stride, attr.dilation, attr.pairs(x.shape[2:]))
    order = (0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
    return np.ascontiguousarray(windows.transpose(order)).reshape(x.shape[0], attr.groups, -1, prod(attr.counts))


def _infer(attr: WindowGeometry, matrix: Expr, x: Expr, *bias: Expr) -> tuple[Shape, DType]:
    return (x.shape[0], matrix.shape[0] * matrix.shape[1], *attr.counts), x.dtype


def _reference(attr: WindowGeometry, matrix: Any, x: Any, *bias: Any) -> Array:
    dtype = from_numpy_dtype(np.asarray(x).dtype)
    matrix, x, *bias = [convert(v, wide(dtype)) for v in (matrix, x, *bias)]  # type: ignore[assignment]
    with np.errstate(all="ignore"):
        out = np.matmul(matrix, _columns(attr, x)).reshape(x.shape[0], -1, *attr.counts)
        if bias:
            out = out + bias[0].reshape(-1, *(1,) * len(attr.counts))
    return convert(out, dtype)


# attr: WindowGeometry; args: matrix (groups, rows, channels of a group * kernel), x (N, channels, *sizes), and optionally a
# bias (groups * rows) -> (N, groups * rows, *counts). Integer and floating-point types.
CONVOLVE: Final[Op] = Op("convolve", _infer, _reference, kind=OPAQUE)
