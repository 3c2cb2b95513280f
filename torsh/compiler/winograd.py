"""Calls of Winograd's convolution: the sizes of its blocks, when it pays, and the order of its parameters.

Four results of a 3x3 kernel, a *tile* of 2x2 positions, take 16 products of a transformed kernel with a transformed input of 4x4
instead of 36: F(2x2, 3x3) of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016). The products of all
channels are 16 products of matrices, one for each *point* of a tile. Larger tiles would be less exact than the plain sum.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torsh.compiler.convolution import Windows
from torsh.compiler.kernel import BufferRef, Call, TemplateKernel
from torsh.compiler.templates import ceil_div
from torsh.core.dtype import DType, float32
from torsh.ops.convolution_primitives import PANEL_ROWS, WindowGeometry

POINTS: Final = 16               # products of a tile
WEIGHT_PARAMETERS: Final = ("u_slot", "u_offset", "w_slot", "w_offset", "groups", "rows", "channels", "w_group", "w_row", "w_channel",
                            "w_line", "w_column")
PARAMETERS: Final = (
    "c_slot", "c_offset", "u_slot", "u_offset", "x_slot", "x_offset", "bias_slot", "bias_offset", "bias_stride", "has_bias",
    "batch", "groups", "rows", "channels", "lines", "columns", "c_lines", "c_columns", "padding_lines", "padding_columns",
    "x_batch", "x_group", "x_channel", "x_line", "m_block", "n_block", "k_block")
GRADIENT_PARAMETERS: Final = (
    "c_slot", "c_offset", "g_slot", "g_offset", "x_slot", "x_offset", "batch", "groups", "rows", "channels", "lines", "columns", "c_lines",
    "c_columns", "padding_lines", "padding_columns", "x_batch", "x_group", "x_channel", "x_line", "g_batch", "g_group", "g_row", "parts",
    "m_block", "n_block", "k_block")
PIECE_WORDS: Final = 13          # of the table of runs of tiles
MOST_LANES: Final = 16
SCRATCH_BYTES: Final = 6 << 20   # of a work unit: transformed input, products, lines

_MOST_CHANNELS: Final = 512      # whose transformed input is kept at a time
_MOST_ROWS: Final = 128          # whose products are
GRADIENT_BLOCK: Final = 128      # rows and channels of a block of the weights' gradient
GRADIENT_TILES: Final = 256      # of a block, over which lanes are summed
_FEWEST_UNITS: Final = 8
_FEWEST_CHANNELS: Final = 32     # from which on products outweigh transforms
_FEWEST_TILES: Final = 48        # from which on they outweigh the transform of the weights, should it be done with every run


def _even(tiles: int, most: int) -> int:
    """The tiles of the fewest blocks of about the same size, in whole vectors."""
    return ceil_div(ceil_div(tiles, ceil_div(tiles, most)), MOST_LANES) * MOST_LANES


def weight_count(groups: int, rows: int, channels: int) -> int:
    """Elements of transformed weights."""
    return groups * POINTS * ceil_div(rows, PANEL_ROWS) * PANEL_ROWS * channels


def suits(dtype: DType, channels: int, rows: int, x: Sequence[int], geometry: WindowGeometry, x_column: int) -> bool:
    """Is a convolution (or the gradient of its weights) faster this way? channels: of a group; x: shape of the input, with neighbours
    ``x_column`` apart along its last dimension.

    Shapes alone decide, so that the same numbers always give the same results.
    """
    if dtype is not float32 or len(x) != 4 or x_column != 1 or channels < _FEWEST_CHANNELS or rows < _FEWEST_CHANNELS:
        return False
    return (tuple(geometry.kernel) == (3, 3) and tuple(geometry.stride) == (1, 1) and tuple(geometry.dilation) in ((1, 1), (-1, -1))
            and x[0] * tiles_of(*geometry.counts) >= _FEWEST_TILES)


def tiles_of(lines: int, columns: int) -> int:
    """Tiles of one batch item of a result."""
    return ceil_div(lines, 2) * ceil_div(columns, 2)


def blocks(channels: int, rows: int, tiles: int, groups: int) -> tuple[int, int, int]:
    """(rows, tiles, channels) of a work unit; tiles: of all batch items.

    Fewer tiles read the weights more often, more tiles leave the second-level cache, which matters less the more channels there are.
    """
    k_block = ceil_div(channels, ceil_div(channels, _MOST_CHANNELS))
    n_block = _even(tiles, 96 if channels <= 256 else 128)
    wanted = ceil_div(_FEWEST_UNITS, groups * ceil_div(tiles, n_block))
    row_blocks = max(ceil_div(rows, _MOST_ROWS), min(wanted, rows // (2 * PANEL_ROWS)))
    return ceil_div(ceil_div(rows, row_blocks), PANEL_ROWS) * PANEL_ROWS, n_block, k_block


def winograd_weights(u: BufferRef, w: BufferRef, w_strides: Sequence[int], groups: int, rows: int, channels: int, backwards: bool
                     ) -> Call:
    """The weights of ``winograd``, transformed. w_strides: over (group, row, channel, lines, columns of the kernel).

    backwards: for windows that are walked backwards, that is with the kernel turned.
    """
    steps, offset = list(w_strides[3:]), w.offset
    if backwards:
        offset += 2 * float32.itemsize * sum(steps)         # the last element of the kernel
        steps = [-s for s in steps]
    return Call(TemplateKernel("winograd_weights", ("float32",)),
                (u.slot, u.offset, w.slot, offset, groups, rows, channels, *w_strides[:3], *steps),
                groups * ceil_div(rows, PANEL_ROWS), groups * rows * channels * 32, "convolution (weights)", prepares=(0, 2))


def winograd(c: BufferRef, u: BufferRef, x: BufferRef, windows: Windows, rows: int, bias: tuple[BufferRef, int] | None) -> Call:
    """c[n, g, row, position] = the sum over (channel, tap) of w[g, row, channel, tap] times the window's element.

    u: the transformed weights. All float32, c contiguous.
    """
    groups = windows.groups
    tiles = windows.batch * tiles_of(*windows.counts)
    m_block, n_block, k_block = blocks(windows.channels, rows, tiles, groups)
    bias_ref, bias_stride = bias if bias is not None else (BufferRef(0), 0)
    # Windows that are walked backwards begin at their last element.
    padding = [p + (2 if d < 0 else 0) for p, d in zip(windows.padding, windows.dilation, strict=True)]
    params = (c.slot, c.offset, u.slot, u.offset, x.slot, x.offset, bias_ref.slot, bias_ref.offset, bias_stride,
              int(bias is not None), windows.batch, groups, rows, windows.channels, *windows.sizes, *windows.counts, *padding,
              *windows.x_strides[:4], m_block, n_block, k_block)
    units = groups * ceil_div(rows, m_block) * ceil_div(tiles, n_block)
    products = groups * rows * windows.channels * tiles * POINTS
    return Call(TemplateKernel("winograd", ("float32",)), params, units, max(products // 16, 1), "convolution", prepared=2,
                pieces=1 if m_block < rows else 4)


def gradient_blocks(rows: int, channels: int) -> tuple[int, int]:
    """(rows, channels) of a work unit of the weights' gradient: each unit transforms what it reads."""
    m_block, k_block = [ceil_div(n, ceil_div(n, GRADIENT_BLOCK)) for n in (rows, channels)]
    return ceil_div(m_block, PANEL_ROWS) * PANEL_ROWS, k_block


def winograd_gradient(c: BufferRef, g: BufferRef, x: BufferRef, windows: Windows, rows: int, g_strides: Sequence[int], parts: int
                      ) -> Call:
    """c[part, g, row, (channel, tap)] = the sum of g[n, g, row, position] times the window's element over a part of all (n, position).

    All float32, c contiguous. g_strides: of batch, group and row; positions are neighbours.
    """
    m_block, k_block = gradient_blocks(rows, windows.channels)
    groups = windows.groups
    tiles = ceil_div(windows.batch * tiles_of(*windows.counts), parts)
    params = (c.slot, c.offset, g.slot, g.offset, x.slot, x.offset, windows.batch, groups, rows, windows.channels, *windows.sizes,
              *windows.counts, *windows.padding, *windows.x_strides[:4], *g_strides, parts, m_block, _even(tiles, GRADIENT_TILES), k_block)
    units = parts * groups * ceil_div(rows, m_block) * ceil_div(windows.channels, k_block)
    products = groups * rows * windows.channels * parts * tiles * POINTS
    return Call(TemplateKernel("winograd_gradient", ("float32",)), params, units, max(products // 16, 1), "convolution_weight", pieces=1)
