"""Calls of the convolution templates: the order of their parameters, how work is shared, what memory they touch."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

from torsh.compiler.kernel import BufferRef, Call, TemplateKernel
from torsh.compiler.templates import ceil_div, coalesce, contiguous_strides
from torsh.core.dtype import DType
from torsh.core.errors import InvalidArgumentError
from torsh.ops.convolution_primitives import MOST_TAPS

WINDOW_PARAMETERS: Final = ("kernel[3]", "counts[3]", "sizes[3]", "stride[3]", "padding[3]", "dilation[3]", "x_batch", "x_group",
                             "x_channel", "x_strides[3]", "batch", "groups", "rows", "channels", "taps")
# Of one phase; the words of a call are the number of phases, then those of each.
CONVOLUTION_PARAMETERS: Final = (
    "first_unit", "units", "c_slot", "c_offset", "w_slot", "w_offset", "x_slot", "x_offset", "bias_slot", "bias_offset",
    "bias_stride", "has_bias", *WINDOW_PARAMETERS, "c_batch", "c_group", "c_row", "c_strides[3]", "c_run", "w_group", "w_row",
    "w_channel", "w_tap", "w_kernel[3]", "layout", "fold", "m_block", "n_block")
# How (channel, tap) pairs of a weight lie in memory: one stride for all, one for all taps, or neither.
ALL_TOGETHER, TAPS_TOGETHER, APART = 0, 1, 2
WEIGHT_PARAMETERS: Final = (
    "c_slot", "c_offset", "g_slot", "g_offset", "x_slot", "x_offset", *WINDOW_PARAMETERS, "c_group", "c_row", "g_batch", "g_group",
    "g_row", "parts", "m_block", "n_block")

_UNIT_PRODUCTS: Final = 1 << 20
_MOST_UNITS: Final = 64
_MANY_COLUMNS: Final = 4096   # from which on packing weights for each of several chunks costs little
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
        """The words of ``WINDOW_PARAMETERS``; dimensions that are missing have one element."""
        missing = 3 - len(self.kernel)
        ones, zeros = (1,) * missing, (0,) * missing
        return (*ones, *self.kernel, *ones, *self.counts, *ones, *self.sizes, *ones, *self.stride, *zeros, *self.padding,
                *ones, *self.dilation, *self.x_strides[:3], *zeros, *self.x_strides[3:], self.batch, self.groups, rows,
                self.channels, self.taps)


def word_count(names: Sequence[str]) -> int:
    """Words of parameters with these names."""
    return sum([int(name[:-1].split("[")[1]) if name.endswith("]") else 1 for name in names])


@dataclass(frozen=True, slots=True)
class Phase:
    """Part of a result, and what it is computed from: windows and elements of the kernel.

    c_offset, w_offset: of the first elements, c_steps: of the part's positions per dimension, w_strides: over (group, row,
    channel, kernel); in elements.
    """

    windows: Windows
    c_offset: int
    c_steps: Sequence[int]
    w_offset: int
    w_strides: Sequence[int]


def convolution(dtype: DType, c: BufferRef, w: BufferRef, x: BufferRef, sizes: Sequence[int], rows: int,
                phases: Sequence[Phase], bias: tuple[BufferRef, int] | None = None) -> Call:
    """c[n, g, row, position] = the sum over (channel, tap) of w[g, row, channel, tap] times the window's element.

    dtype: of all operands, integer or floating point; 16-bit floats are summed in float32 and rounded once. c: contiguous,
    with ``sizes`` positions per dimension, all of which belong to one phase. bias: (buffer, stride), one number per (g, row).
    """
    bias_ref, bias_stride = bias if bias is not None else (BufferRef(0), 0)
    size, every = dtype.itemsize, prod(sizes)
    params: list[int] = [len(phases)]
    first = products = columns = 0
    taps = sum([p.windows.taps for p in phases])
    for p in phases:
        windows = p.windows
        fold, m_block, n_block = _blocks(windows, rows, taps)
        units = windows.batch // fold * windows.groups * ceil_div(rows, m_block) * ceil_div(fold * windows.positions, n_block)
        steps = (0,) * (3 - len(sizes)) + tuple([a * b for a, b in zip(contiguous_strides(sizes), p.c_steps, strict=True)])
        run = windows.positions if all(s == 1 for s in p.c_steps) else windows.counts[-1]
        params += (first, units, c.slot, c.offset + p.c_offset * size, w.slot, w.offset + p.w_offset * size, x.slot, x.offset,
                   bias_ref.slot, bias_ref.offset, bias_stride, int(bias is not None), *windows.words(rows),
                   windows.groups * rows * every, rows * every, every, *steps, run, *_weight_words(windows, p.w_strides), fold,
                   m_block, n_block)
        first += units
        columns += windows.batch * windows.groups * windows.positions
        products += windows.batch * windows.groups * rows * windows.positions * windows.channels * windows.taps
    pieces = 4 if columns > _MANY_COLUMNS else 1
    return Call(TemplateKernel("convolution", (dtype.name,)), tuple(params), first, max(products // 16, 1), "convolution",
                pieces=pieces)


def _weight_words(windows: Windows, strides: Sequence[int]) -> tuple[int, ...]:
    """The words from "w_group" to "layout"."""
    group, row, channel, *kernel = strides
    taps, (tap_strides,) = coalesce(windows.kernel, kernel)
    pairs, (pair_strides,) = coalesce((windows.channels, *windows.kernel), (channel, *kernel))
    if len(pairs) <= 1:
        layout, tap = ALL_TOGETHER, pair_strides[0] if pairs else 1
    elif len(taps) <= 1:
        layout, tap = TAPS_TOGETHER, tap_strides[0] if taps else 1
    else:
        layout, tap = APART, 0
    return (group, row, channel, tap, *(0,) * (3 - len(kernel)), *kernel, layout)


def _blocks(windows: Windows, rows: int, taps: int) -> tuple[int, int, int]:
    """(batch items whose positions are one row of columns, rows, columns of a work unit).

    taps: of all phases, which share the units. Units are small: what is not shared, packing, is done once for the units of a chunk.
    """
    positions, k = windows.positions, windows.channels * windows.taps
    # Small images share register tiles.
    fold = windows.batch if positions < _SMALL_IMAGE and positions % 32 else 1
    items, columns = windows.batch // fold * windows.groups, fold * positions
    wanted = max(1, min(_MOST_UNITS * windows.taps // taps, items * rows * columns * k // _UNIT_PRODUCTS))
    blocks = ceil_div(wanted, items)
    # Chunks of columns pack the same weights; chunks of rows copy or pack the same input, which costs less per element.
    if columns * items < 2 * rows:
        return fold, ceil_div(ceil_div(rows, max(1, min(rows // 16, blocks))), 16) * 16, ceil_div(columns, 16) * 16
    return fold, rows, ceil_div(ceil_div(columns, max(1, min(columns // 16, blocks))), 16) * 16


def convolution_weight(dtype: DType, c: BufferRef, g: BufferRef, x: BufferRef, windows: Windows, rows: int,
                       g_strides: Sequence[int], parts: int) -> Call:
    """c[part, g, row, (channel, tap)] = the sum of g[n, g, row, position] times the window's element over a part of all (n, position).

    dtype: of g and x, as for :func:`convolution`; c is contiguous, of the type that is summed in. g_strides: of batch, group
    and row; positions are neighbours. The kernel has at most ``MOST_TAPS`` elements.
    """
    if windows.taps > MOST_TAPS:
        raise InvalidArgumentError(f"the template of weight gradients takes kernels of up to {MOST_TAPS} elements, got {windows.taps}")
    columns = windows.channels * windows.taps
    products = windows.groups * rows * columns * windows.batch * windows.positions
    items = parts * windows.groups
    wanted = min(_MOST_UNITS, max(1, products // _UNIT_PRODUCTS))
    column_blocks = max(1, min(windows.channels, ceil_div(wanted, items)))
    row_blocks = max(1, min(rows // 112, wanted // (items * column_blocks)))
    m_block, n_block = ceil_div(rows, row_blocks), ceil_div(windows.channels, column_blocks)
    units = items * ceil_div(rows, m_block) * ceil_div(windows.channels, n_block)
    params = (c.slot, c.offset, g.slot, g.offset, x.slot, x.offset, *windows.words(rows), rows * columns, columns, *g_strides,
              parts, m_block, n_block)
    return Call(TemplateKernel("convolution_weight", (dtype.name,)), params, units, max(products // 16, 1),
                "convolution_weight", pieces=1)


def touched(p: dict[str, Any]) -> list[tuple[int, int]]:
    """The walk (extents, strides) over the part of the input that windows reach: (extent, stride) pairs.

    Along each dimension from the first element that a window reads to the last one.
    """
    walk = [(p["batch"], p["x_batch"]), (p["groups"], p["x_group"]), (p["channels"], p["x_channel"])]
    return [*walk, *zip(p["sizes"], p["x_strides"], strict=True)]
