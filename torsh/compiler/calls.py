"""Steps that are not loop kernels -> calls of templates, and host steps."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from torsh.compiler import convolution, depthwise, templates, winograd
from torsh.compiler.assemble import Fusion
from torsh.compiler.attention import attention_call
from torsh.compiler.fft import TableKey, fourier_call, table_key
from torsh.compiler.graph import HOST, operands, without_reshapes
from torsh.compiler.kernel import BufferRef, Call
from torsh.compiler.plan import ArrayRef, HostStep
from torsh.compiler.steps import Buffer, Copy, Step, spread
from torsh.core.dtype import dtype_by_name
from torsh.core.shape import contiguous_strides
from torsh.ops.expr import CONSTANT_OP, SCALAR_OP, Expr
from torsh.ops.fourier_primitives import Fourier
from torsh.ops.scan_sort import SCANS
from torsh.ops.shape import CLONE

Place = Callable[[Buffer], BufferRef]


class CallBuilder:
    """Builds the calls of templates for one program."""

    def __init__(self, fusion: Fusion, place: Place, table: Callable[[TableKey], BufferRef]) -> None:
        self.fusion = fusion
        self.graph = fusion.graph
        self.place = place
        self.table = table

    def build(self, step: Step) -> Call | HostStep:
        """The call (or host step) of a step that is no group."""
        if isinstance(step, Copy):
            return self.copy(step)
        e = step.node
        if self.graph.kinds[e] == HOST:
            return self.host(e)
        if e.op.name == "matmul":
            return self.matmul(e, step.bias)
        if e.op.name.startswith("blockwise_attention"):
            return attention_call(step, self)
        builder: Callable[[Expr], Call] = getattr(self, "scan" if e.op.name in SCANS else e.op.name)
        return builder(e)

    def operand(self, e: Expr) -> tuple[BufferRef, tuple[int, ...]]:
        """Where an operand's first element is, and its strides."""
        base, offset, strides = self.graph.geometry(e)
        ref = self.place(self.fusion.buffer_of(base))
        return BufferRef(ref.slot, ref.offset + offset * base.dtype.itemsize), strides

    def result(self, e: Expr) -> BufferRef:
        """Where a result goes."""
        return self.place(self.fusion.buffer_of(e))

    # ---- copies --------------------------------------------------------------------------------------------------------

    def copy(self, step: Copy) -> Call:
        """Elements moved from one strided region to another."""
        e, target = step.node, step.target
        base, factors, address = self.fusion.copied(e)
        extents = [n for parts in factors for n in parts]
        out_strides = spread(target, factors)
        size = e.dtype.itemsize
        source, out = self.place(self.fusion.buffer_of(base)), self.place(target.buffer)
        source = BufferRef(source.slot, source.offset + address[0] * size)
        out = BufferRef(out.slot, out.offset + target.offset * size)
        merged, (sources, outs) = templates.coalesce(extents, address[1:], out_strides)
        if not merged or (len(merged) == 1 and sources == [1] and outs == [1]):
            return templates.copy(size, out, source, prod(extents))
        return templates.transpose_copy(size, out, source, extents, address[1:], out_strides)

    # ---- templates -----------------------------------------------------------------------------------------------------

    def matmul(self, e: Expr, bias: Expr | None) -> Call:
        """Product of matrices, and a bias added to every row."""
        a, b = operands(e)
        (a_ref, a_strides), (b_ref, b_strides) = self.operand(a), self.operand(b)
        batch = e.shape[:-2]

        def spread(x: Expr, strides: tuple[int, ...]) -> tuple[int, ...]:
            extra = len(batch) - (len(x.shape) - 2)
            return (*[0] * extra, *[0 if n == 1 else s for n, s in zip(x.shape[:-2], strides, strict=False)], *strides[-2:])
        return templates.matmul(e.dtype, self.result(e), a_ref, b_ref, batch, e.shape[-2], e.shape[-1], a.shape[-1],
                                spread(a, a_strides), spread(b, b_strides), contiguous_strides(e.shape),
                                None if bias is None else (self.place(self.fusion.buffer_of(bias)), 1),
                                stored=(a.dtype, b.dtype))

    def convolve(self, e: Expr) -> Call:
        """Product of matrices with windows, and a bias per row."""
        attr: Any = e.attr
        weight, x, *bias = e.args
        (w_ref, w_strides), (x_ref, x_strides) = self.operand(weight), self.operand(x)
        added = None
        if bias:
            bias_ref, (stride,) = self.operand(bias[0])
            added = bias_ref, stride
        prepared = self.fusion.prepared.get(e)
        if prepared is not None:
            windows = _windows(x, x_strides, attr.phases[0].geometry)
            return winograd.winograd(self.result(e), self.result(prepared), x_ref, windows, weight.shape[1], added)
        outer = contiguous_strides(e.shape[2:])
        phases = []
        for p in attr.phases:
            steps = [s * step for s, step in zip(w_strides[3:], p.tap_step, strict=True)]
            phases.append(convolution.Phase(
                _windows(x, x_strides, p.geometry), _dot(p.start, outer), p.step, _dot(p.tap_start, w_strides[3:]),
                (*w_strides[:3], *steps)))
        return convolution.convolution(e.dtype, self.result(e), w_ref, x_ref, e.shape[2:], weight.shape[1], phases, added)

    def winograd_weights(self, e: Expr) -> Call:
        """The weights of a convolution, transformed."""
        weight = e.args[0]
        w_ref, w_strides = self.operand(weight)
        groups, rows, channels = weight.shape[:3]
        return winograd.winograd_weights(self.result(e), w_ref, w_strides, groups, rows, channels, bool(e.attr))

    def convolve_weight(self, e: Expr) -> Call:
        """Sums of products with windows over all positions."""
        g, x = e.args
        attr: Any = e.attr
        geometry, parts = attr
        (g_ref, g_strides), (x_ref, x_strides) = self.operand(g), self.operand(x)
        windows = _windows(x, x_strides, geometry)
        forward = min(geometry.dilation) > 0
        if forward and winograd.suits(x.dtype, x.shape[1] // geometry.groups, g.shape[2], x.shape, geometry, x_strides[-1]):
            return winograd.winograd_gradient(self.result(e), g_ref, x_ref, windows, g.shape[2], g_strides[:3], parts)
        return convolution.convolution_weight(x.dtype, self.result(e), g_ref, x_ref, windows, g.shape[2], g_strides[:3], parts)

    def depthwise(self, e: Expr) -> Call:
        """Sums over windows of each channel, and a bias."""
        attr: Any = e.attr
        weight, x, *bias = e.args
        (w_ref, w_strides), (x_ref, x_strides) = self.operand(weight), self.operand(x)
        added = None
        if bias:
            bias_ref, (stride,) = self.operand(bias[0])
            added = bias_ref, stride
        return depthwise.depthwise(e.dtype, self.result(e), w_ref, x_ref, _windows(x, x_strides, attr.geometry), attr.spacing,
                                   weight.shape[1], w_strides, added)

    def depthwise_weight(self, e: Expr) -> Call:
        """Sums of products with windows of each channel over all positions."""
        g, x = e.args
        (g_ref, g_strides), (x_ref, x_strides) = self.operand(g), self.operand(x)
        return depthwise.depthwise_weight(x.dtype, self.result(e), g_ref, x_ref, _windows(x, x_strides, e.attr), g.shape[2],
                                          g_strides[:3])

    def topk_indices(self, e: Expr) -> Call:
        """Positions of the largest or smallest elements along the last dimension."""
        attr: Any = e.attr
        a = e.args[0]
        source, _ = self.operand(a)
        return templates.selection(a.dtype, bool(attr[2]), self.result(e), source, prod(a.shape[:-1]), a.shape[-1], e.shape[-1])

    def scan(self, e: Expr) -> Call:
        """Running sums, products, maxima or minima."""
        dim: int = e.attr  # type: ignore[assignment]
        source, _ = self.operand(e.args[0])
        return templates.scan(e.dtype, SCANS[e.op.name], self.result(e), source, prod(e.shape[:dim]), e.shape[dim],
                              prod(e.shape[dim + 1:]))

    def sum_of_bags(self, e: Expr) -> Call:
        """Sums of rows at runs of positions."""
        attr: Any = e.attr
        weight, positions, starts, *each = e.args
        table, index, first = [self.operand(a)[0] for a in (weight, positions, starts)]
        factors = self.operand(each[0])[0] if each else None
        return templates.sum_of_bags(e.dtype, self.result(e), table, index, first, factors, e.shape[0], positions.shape[0],
                                     weight.shape[0], weight.shape[1], -1 if attr[0] is None else attr[0])

    def fourier(self, e: Expr) -> Call:
        """Fourier transforms over one dimension."""
        a, attr = e.args[0], e.attr
        assert isinstance(attr, Fourier)
        source, strides = self.operand(a)
        return fourier_call(attr, e.dtype.to_real(), self.result(e), source, self.table(fourier_table_key(e)), a.shape, strides,
                            e.shape, (a.dtype.is_complex, e.dtype.is_complex))

    def scatter(self, e: Expr) -> Call:
        """Writes along one dimension."""
        attr: Any = e.attr
        dim, mode = attr
        base, index, source = e.args
        (index_ref, index_strides), (source_ref, source_strides) = self.operand(index), self.operand(source)
        return templates.scatter(e.dtype, mode, self.result(e), index_ref, source_ref, dim, index.shape, base.shape,
                                 index_strides, source_strides)

    def index_put(self, e: Expr) -> Call:
        """Writes at positions of index tensors."""
        attr: Any = e.attr
        dims, accumulate = attr
        base, value, *indices = e.args
        rank = len(value.shape) - (len(base.shape) - len(dims))
        neighbours = dims == tuple(range(dims[0], dims[0] + len(dims)))
        front = dims[0] if neighbours else 0
        shape = value.shape[front:front + rank]
        placed = []
        for i in indices:
            ref, strides = self.operand(i)
            spread = [0 if n == 1 else s for n, s in zip(i.shape, strides, strict=True)]
            placed.append((ref, (*[0] * (rank - len(spread)), *spread)))
        value_ref, value_strides = self.operand(value)
        return templates.index_put(e.dtype, accumulate, self.result(e), base.shape, placed, dims, shape, value_ref,
                                   value_strides)

    # ---- host ----------------------------------------------------------------------------------------------------------

    def host(self, e: Expr) -> HostStep:
        """An operation that runs through its NumPy reference."""
        args: list[Any] = []
        number = e.op in (SCALAR_OP, CONSTANT_OP)       # that has to be in memory, of a dtype that kernels do not have
        for a in (e,) if number else e.args:
            base = without_reshapes(a)
            if base.op is SCALAR_OP:
                args.append(("scalar", base.attr, base.dtype))
            elif base.op is CONSTANT_OP:
                value: Any = base.attr
                args.append(("constant", np.asarray(value[0]).astype(dtype_by_name(value[1]).numpy), base.dtype))
            else:
                args.append(ArrayRef(self.place(self.fusion.buffer_of(base)), a.shape, a.dtype))
        op, attr = (CLONE, None) if number else (e.op, e.attr)
        return HostStep(op, attr, tuple(args), ArrayRef(self.result(e), e.shape, e.dtype))


def fourier_table_key(e: Expr) -> TableKey:
    """What names the table of a transform."""
    assert isinstance(e.attr, Fourier)
    return table_key(e.attr, e.dtype.to_real(), len(e.shape))


def _windows(x: Expr, strides: tuple[int, ...], geometry: Any) -> convolution.Windows:
    """The windows of the input of a convolution that has these strides."""
    channels = x.shape[1] // geometry.groups
    return convolution.Windows(x.shape[0], geometry.groups, channels, x.shape[2:], geometry.kernel, geometry.counts,
                               geometry.stride, geometry.padding, geometry.dilation,
                               (strides[0], strides[1] * channels, *strides[1:]))


def _dot(places: Sequence[int], strides: Sequence[int]) -> int:
    return sum([p * s for p, s in zip(places, strides, strict=True)])
