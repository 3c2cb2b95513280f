"""Calls of the templates of depthwise convolutions."""
from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Final

from torsh.compiler.convolution import WINDOW_PARAMETERS, Windows
from torsh.compiler.kernel import BufferRef, Call, TemplateKernel
from torsh.core.dtype import DType

# spacing: of the input's elements along the last two dimensions, with zeros between; c is contiguous.
DEPTHWISE_PARAMETERS: Final = (
    "c_slot", "c_offset", "w_slot", "w_offset", "x_slot", "x_offset", "bias_slot", "bias_offset", "bias_stride", "has_bias",
    *WINDOW_PARAMETERS, "spacing[2]", "w_group", "w_row", "w_kernel[3]")
# c: (groups, rows, taps), contiguous.
DEPTHWISE_WEIGHT_PARAMETERS: Final = (
    "c_slot", "c_offset", "g_slot", "g_offset", "x_slot", "x_offset", *WINDOW_PARAMETERS, "spacing[2]", "g_batch", "g_group",
    "g_row")
HEIGHTS: Final = (3, 5, 7)     # of kernels, with code of their own
NARROW: Final = 8              # positions of a line that leave most of a vector empty
MOST_NARROW: Final = 512       # positions of a plane of such lines
MOST_TOGETHER: Final = 9       # elements of a kernel whose sums are in registers together


def depthwise(dtype: DType, c: BufferRef, w: BufferRef, x: BufferRef, windows: Windows, spacing: Sequence[int], rows: int,
              w_strides: Sequence[int], bias: tuple[BufferRef, int] | None = None) -> Call:
    """c[n, group, row, position] = the sum over taps of w[group, row, tap] times the window's element.

    dtype: of all operands, floating point; 16-bit floats are summed in float32 and rounded once. w_strides: over (group, row,
    kernel). bias: (buffer, stride), one number per (group, row).
    """
    bias_ref, bias_stride = bias if bias is not None else (BufferRef(0), 0)
    group, row, *kernel = w_strides
    params = (c.slot, c.offset, w.slot, w.offset, x.slot, x.offset, bias_ref.slot, bias_ref.offset, bias_stride,
              int(bias is not None), *windows.words(rows), *_plane(spacing), group, row, *(0,) * (3 - len(kernel)), *kernel)
    spaced = 2 if spacing[-1] == 2 else 1
    kernel_options = (dtype.name, *_variant(windows), spaced)
    return Call(TemplateKernel("depthwise", kernel_options), params, windows.batch * windows.groups, _cost(windows, rows),
                "depthwise")


def depthwise_weight(dtype: DType, c: BufferRef, g: BufferRef, x: BufferRef, windows: Windows, rows: int,
                     g_strides: Sequence[int]) -> Call:
    """c[group, row, tap] = the sum of g[n, group, row, position] times the window's element over all (n, position).

    dtype: of g and x; c is of the type that is summed in. g_strides: of batch, group and row; positions are neighbours.
    """
    params = (c.slot, c.offset, g.slot, g.offset, x.slot, x.offset, *windows.words(rows), 1, 1, *g_strides)
    return Call(TemplateKernel("depthwise_weight", (dtype.name, *_variant(windows), _is_narrow(dtype, windows))), params,
                windows.groups, _cost(windows, rows), "depthwise_weight")


def _plane(sizes: Sequence[int]) -> tuple[int, ...]:
    return (*(1,) * (2 - len(sizes)), *sizes)


def _variant(windows: Windows) -> tuple[int, int]:
    """(height of the kernel if there is code for it, else 0; stride along lines)."""
    (height, _), (down, across), (dilation, _) = [
        _plane(v) for v in (windows.kernel, windows.stride, windows.dilation)]
    stride = 2 if across == 2 else 1
    usual = down == stride and (dilation == 1 or dilation == -1)
    return next((h for h in HEIGHTS if usual and height == h), 0), stride


def _is_narrow(dtype: DType, windows: Windows) -> bool:
    """Do lines leave vectors empty, and is each element of a small kernel equally far from all positions of a plane?

    What is multiplied is loaded for each element of the kernel: conversions of 16-bit floats would be repeated.
    """
    return (len(windows.counts) == 2 and dtype.itemsize >= 4 and windows.taps <= MOST_TOGETHER and windows.counts[1] <= NARROW
            and windows.positions <= MOST_NARROW and all(s == 1 for s in windows.stride)
            and windows.x_strides[3] == windows.counts[1])


def _cost(windows: Windows, rows: int) -> int:
    return max(windows.batch * windows.groups * rows * windows.positions * prod(windows.kernel) // 8, 1)
