"""Calls of the convolution templates: the order of their parameters, how work is shared, what memory they touch."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

from torsh.compiler.kernel import BufferRef, Call, TemplateKernel
from torsh.core.dtype import DType

_WINDOW_PARAMETERS: Final = ("kernel[3]", "counts[3]", "sizes[3]", "stride[3]", "padding[3]", "dilation[3]", "x_batch", "x_group",
                             "x_channel", "x_strides[3]", "batch", "groups", "rows", "channels", "taps")
CONVOLUTION_PARAMETERS: Final = (
    "c_slot", "c_offset", "w_slot", "w_offset", "x_slot", "x_offset", "bias_slot", "bias_offset", "bias_stride", "has_bias",
    *_WINDOW_PARAMETERS, "c_batch", "c_group", "c_row", "w_group", "w_row", "w_column", "fold", "m_block", "n_block")
WEIGHT_PARAMETERS: Final = (
    "c_slot", "c_offset", "g_slot", "g_offset", "x_slot", "x_offset", *_WINDOW_PARAMETERS, "c_group", "c_row", "g_batch", "g_group",
    "g_row", "parts", "m_block", "n_block")

_UNIT_PRODUCTS: Final = 1 << 20
_MOST_UNITS: Final = 32
_SMALL_IMAGE: Final = 512     # positions; partial tiles of larger images cost little


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of an input (batch, groups, channels, sizes): all per spatial dimension but the strides of the input.

    sizes: of the input; counts: of the result; padding: in front, may be negative; x_strides: over (batch, groups, channels,
    sizes), in elements.
    """

    batch: int
    groups: int
    channels: int
    sizes: Sequence[int]
    kernel: Sequence[int]
    counts: Sequence[int]
    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    x_strides: Sequence[int]

    @property
    def positions(self) -> int:
        """Windows of one batch item."""
        return prod(self.counts)

    @property
    def taps(self) -> int:
        """Elements of the kernel."""
        return prod(self.kernel)

    def words(self, rows: int) -> tuple[int, ...]:
        """The words of ``_WINDOW_PARAMETERS``; dimensions that are missing have one element."""
        missing = 3 - len(self.kernel)
        ones, zeros = (1,) * missing, (0,) * missing
        return (*ones, *self.kernel, *ones, *self.counts, *ones, *self.sizes, *ones, *self.stride, *zeros, *self.padding,
                *ones, *self.dilation, *self.x_strides[:3], *zeros, *self.x_strides[3:], self.batch, self.groups, rows,
                self.channels, self.taps)


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def convolution(dtype: DType, c: BufferRef, w: BufferRef, x: BufferRef, windows: Windows, rows: int,
                w_strides: Sequence[int], bias: tuple[BufferRef, int] | None = None) -> Call:
    """c[n, g, row, position] = the sum over (channel, tap) of w[g, row, (channel, tap)] times the window's element.

    dtype: of all operands, integer or floating point; 16-bit floats are summed in float32 and rounded once. c: contiguous.
    w_strides: of group, row, and of (channel, tap) as one dimension. bias: (buffer, stride), one number per (g, row).
    """
    positions, k = windows.positions, windows.channels * windows.taps
    # Small images share register tiles.
    fold = windows.batch if positions < _SMALL_IMAGE and positions % 32 else 1
    items, columns = windows.batch // fold * windows.groups, fold * positions
    wanted = min(_MOST_UNITS, max(1, items * rows * columns * k // _UNIT_PRODUCTS))
    column_blocks = max(1, min(columns // 128, _ceil_div(wanted, items)))
    row_blocks = max(1, min(rows // 56, wanted // (items * column_blocks)))
    m_block, n_block = _ceil_div(rows, row_blocks), _ceil_div(_ceil_div(columns, column_blocks), 64) * 64
    units = items * _ceil_div(rows, m_block) * _ceil_div(columns, n_block)
    bias_ref, bias_stride = bias if bias is not None else (BufferRef(0), 0)
    params = (c.slot, c.offset, w.slot, w.offset, x.slot, x.offset, bias_ref.slot, bias_ref.offset, bias_stride,
              int(bias is not None), *windows.words(rows), windows.groups * rows * positions, rows * positions, positions,
              *w_strides, fold, m_block, n_block)
    total = windows.batch * windows.groups * rows * positions
    return Call(TemplateKernel("convolution", (dtype.name,)), params, units, max(total * k // 16, 1), "convolution")


def convolution_weight(dtype: DType, c: BufferRef, g: BufferRef, x: BufferRef, windows: Windows, rows: int,
                       g_strides: Sequence[int], parts: int) -> Call:
    """c[part, g, row, (channel, tap)] = the sum of g[n, g, row, position] times the window's element over a part of all (n, position).

    dtype: of g and x, as for :func:`convolution`; c is contiguous, of the type that is summed in. g_strides: of batch, group
    and row; positions are neighbours.
    """
    columns = windows.channels * windows.taps
    products = windows.groups * rows * columns * windows.batch * windows.positions
    items = parts * windows.groups
    wanted = min(_MOST_UNITS, max(1, products // _UNIT_PRODUCTS))
    column_blocks = max(1, min(columns // 128, windows.channels, _ceil_div(wanted, items)))
    row_blocks = max(1, min(rows // 56, wanted // (items * column_blocks)))
    m_block, n_block = _ceil_div(rows, row_blocks), _ceil_div(windows.channels, column_blocks)
    units = items * _ceil_div(rows, m_block) * _ceil_div(windows.channels, n_block)
    params = (c.slot, c.offset, g.slot, g.offset, x.slot, x.offset, *windows.words(rows), rows * columns, columns, *g_strides,
              parts, m_block, n_block)
    return Call(TemplateKernel("convolution_weight", (dtype.name,)), params, units, max(products // 16, 1),
                "convolution_weight")


def touched(p: dict[str, Any]) -> list[tuple[int, int]]:
    """The walk (extents, strides) over the part of the input that windows reach: (extent, stride) pairs.

    Along each dimension from the first element that a window reads to the last one.
    """
    walk = [(p["batch"], p["x_batch"]), (p["groups"], p["x_group"]), (p["channels"], p["x_channel"])]
    return [*walk, *zip(p["sizes"], p["x_strides"], strict=True)]
