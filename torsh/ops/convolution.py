"""Convolutions over any number of dimensions: forward, transposed, and the gradient with respect to the weight.

They become products with windows that are gathered on the way (``convolution_primitives.py``). Where windows do not overlap,
and for complex numbers, windows are laid out as columns (N, groups, channels * kernel, positions) and one batched matrix
product writes the channels-first result. Depthwise convolutions have primitives of their own (``depthwise_primitives.py``), or
are sums over windows.
"""
from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any, Final, NamedTuple

import numpy as np

from torsh.core.dtype import DType, bool_, from_numpy_dtype
from torsh.core.errors import DTypeError, InvalidArgumentError, ShapeMismatchError
from torsh.core.promotion import SCALAR_TYPE_NAMES, not_implemented
from torsh.ops.common import (
    add,
    apply,
    cast,
    conj,
    full,
    mul,
    permute,
    reduce_sum,
    reshape,
    select,
    slice_dim,
    sum_to,
    transpose,
)
from torsh.ops.contraction import matmul, summed_products
from torsh.ops.convolution_primitives import (
    CONVOLVE,
    CONVOLVE_WEIGHT,
    MOST_TAPS,
    Convolve,
    Phase,
    WindowGeometry,
    whole,
)
from torsh.ops.define import Array, convert, wide
from torsh.ops.depthwise_primitives import DEPTHWISE, DEPTHWISE_WEIGHT, Depthwise, suits_depthwise
from torsh.ops.expr import TABLE, Expr, Op, Shape, emit, emit1, emit2
from torsh.ops.windows import (
    Pairs,
    Sizes,
    extent,
    fit,
    numpy_spaced,
    numpy_windows,
    pad_spatial,
    spaced,
    window_counts,
    window_view,
)

MOST_REACH: Final = 1 << 28        # along a dimension: the templates count with 32 bits

TALL: Final = 4                     # outputs per position from which on strided positions are copied for a product
ENOUGH_BLOCKS: Final = 8           # that threads share


class Convolution(NamedTuple):
    """Attribute of the ops; one entry per spatial dimension, padding as (before, after)."""

    stride: Sizes
    padding: Pairs
    dilation: Sizes
    transposed: bool = False
    output_padding: Sizes = ()
    groups: int = 1

    def forward(self) -> Convolution:
        """The plain convolution with these windows."""
        return self._replace(transposed=False, output_padding=(0,) * len(self.stride))


# ---- inference ---------------------------------------------------------------------------------------------------------

def _listed(shape: Sequence[int]) -> str:
    return "[" + ", ".join(str(n) for n in shape) + "]"


def _check(attr: Convolution, x: Expr, weight: Expr, bias: tuple[Expr, ...]) -> None:
    rank = len(attr.stride)
    if any(s <= 0 for s in attr.stride):
        raise ShapeMismatchError("non-positive stride is not supported")
    if any(d <= 0 for d in attr.dilation):
        raise ShapeMismatchError("dilation should be greater than zero")
    if attr.groups <= 0:
        raise ShapeMismatchError("non-positive groups is not supported")
    if len(weight.shape) != rank + 2 or len(x.shape) != rank + 2:
        raise ShapeMismatchError(f"convolution: expected {rank + 2}D input and weight (batch, channels, sizes), got shapes "
                                 f"{list(x.shape)} and {list(weight.shape)}")
    for other in (weight, *bias):
        if other.dtype is not x.dtype:
            raise DTypeError(f"Input type ({SCALAR_TYPE_NAMES[x.dtype.name]}) and "
                             f"{'weight' if other is weight else 'bias'} type ({SCALAR_TYPE_NAMES[other.dtype.name]}) "
                             "should be the same")
    if x.dtype is bool_:
        raise not_implemented("convolution", x.dtype)
    head = f"Given {'transposed=1' if attr.transposed else f'groups={attr.groups}'}, weight of size {_listed(weight.shape)}"
    if weight.shape[0] % attr.groups:
        raise ShapeMismatchError(f"Given groups={attr.groups}, expected weight to be divisible by {attr.groups} at "
                                 f"dimension 0, but got weight of size {_listed(weight.shape)} instead")
    channels = weight.shape[0] if attr.transposed else weight.shape[1] * attr.groups
    if x.shape[1] != channels:
        raise ShapeMismatchError(f"{head}, expected input{_listed(x.shape)} to have {channels} channels, but got "
                                 f"{x.shape[1]} channels instead")
    outputs = weight.shape[1] * attr.groups if attr.transposed else weight.shape[0]
    if bias and bias[0].shape != (outputs,):
        sized = head if attr.transposed else f"Given weight of size {_listed(weight.shape)}"
        raise ShapeMismatchError(f"{sized}, expected bias to be 1-dimensional with {outputs} elements, but got bias of size "
                                 f"{_listed(bias[0].shape)} instead")


def _transposed_sizes(attr: Convolution, sizes: Sizes, kernel: Sizes) -> Sizes:
    return tuple([(n - 1) * s - a - b + extent(k, d) + extra for n, k, s, d, (a, b), extra in zip(
        sizes, kernel, attr.stride, attr.dilation, attr.padding, attr.output_padding, strict=True)])


def _infer(attr: Convolution, x: Expr, weight: Expr, *bias: Expr) -> tuple[Shape, DType]:
    _check(attr, x, weight, bias)
    kernel, sizes = weight.shape[2:], x.shape[2:]
    if attr.transposed:
        out = _transposed_sizes(attr, sizes, kernel)
        if any(n <= 0 for n in out):
            raise ShapeMismatchError(f"Given input size per channel: {_crossed(sizes)}. Calculated output size per channel: "
                                     f"{_crossed(out)}. Output size is too small")
        return (x.shape[0], weight.shape[1] * attr.groups, *out), x.dtype
    padded = [n + a + b for n, (a, b) in zip(sizes, attr.padding, strict=True)]
    if any(extent(k, d) > n for n, k, d in zip(padded, kernel, attr.dilation, strict=True)):
        spans = [extent(k, d) for k, d in zip(kernel, attr.dilation, strict=True)]
        raise ShapeMismatchError(f"Calculated padded input size per channel: {_crossed(padded)}. Kernel size: "
                                 f"{_crossed(spans)}. Kernel size can't be greater than actual input size")
    counts = window_counts(sizes, kernel, attr.stride, attr.dilation, attr.padding)
    return (x.shape[0], weight.shape[0], *counts), x.dtype


def _crossed(sizes: Sequence[int]) -> str:
    return "(" + " x ".join(str(n) for n in sizes) + ")"


# ---- references --------------------------------------------------------------------------------------------------------

def _numpy_columns(x: Array, attr: Convolution, kernel: Sizes) -> Array:
    """(N, groups, channels of a group * kernel, positions)."""
    windows = numpy_windows(x, kernel, attr.stride, attr.dilation, attr.padding)
    rank = len(kernel)
    counts = windows.shape[2:2 + rank]
    order = (0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
    inner = x.shape[1] // attr.groups * prod(kernel)
    return np.ascontiguousarray(windows.transpose(order)).reshape(x.shape[0], attr.groups, inner, prod(counts))


def _numpy_forward(attr: Convolution, x: Array, weight: Array) -> Array:
    kernel = weight.shape[2:]
    counts = window_counts(x.shape[2:], kernel, attr.stride, attr.dilation, attr.padding)
    matrix = weight.reshape(attr.groups, weight.shape[0] // attr.groups, -1)
    return np.matmul(matrix, _numpy_columns(x, attr, kernel)).reshape(x.shape[0], weight.shape[0], *counts)


def _numpy_transposed(attr: Convolution, x: Array, weight: Array) -> Array:
    kernel = weight.shape[2:]
    sizes = _transposed_sizes(attr, x.shape[2:], kernel)
    wide_x = numpy_spaced(x, attr.stride)
    pairs = []
    for n, out, k, d, (before, _) in zip(wide_x.shape[2:], sizes, kernel, attr.dilation, attr.padding, strict=True):
        first = extent(k, d) - 1 - before
        pairs.append((first, out + extent(k, d) - 1 - first - n))
    cut = [slice(max(-a, 0), n + min(b, 0)) for n, (a, b) in zip(wide_x.shape[2:], pairs, strict=True)]
    kept = tuple([(max(a, 0), max(b, 0)) for a, b in pairs])
    groups = attr.groups
    turned = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], *kernel).swapaxes(1, 2)
    turned = turned.reshape(-1, weight.shape[0] // groups, *kernel)[(..., *[slice(None, None, -1)] * len(kernel))]
    plain = attr.forward()._replace(stride=(1,) * len(kernel), padding=kept)
    return _numpy_forward(plain, wide_x[(..., *cut)], turned)


def _reference(attr: Convolution, x: Any, weight: Any, *bias: Any) -> Array:
    dtype = from_numpy_dtype(np.asarray(x).dtype)
    x, weight, *bias = [convert(v, wide(dtype)) for v in (x, weight, *bias)]  # type: ignore[assignment]
    with np.errstate(all="ignore"):
        out = (_numpy_transposed if attr.transposed else _numpy_forward)(attr, x, weight)
        if bias:
            out = out + bias[0].reshape(-1, *(1,) * len(attr.stride))
    return convert(out, dtype)


# ---- decomposition -----------------------------------------------------------------------------------------------------

_LONG_LINE: Final = 8       # elements of a window's line that are worth copying as one


def _columns(x: Expr, attr: Convolution, kernel: Sizes) -> Expr:
    """(N, groups, channels of a group * kernel, positions)."""
    rank = len(kernel)
    x = pad_spatial(x, attr.padding)
    groups, inner = attr.groups, x.shape[1] // attr.groups * prod(kernel)
    if prod(kernel) == 1:
        for axis, step in enumerate(attr.stride, 2):
            x = slice_dim(x, axis, 0, (x.shape[axis] - 1) // step + 1, step)
        return reshape(x, (x.shape[0], groups, inner, prod(x.shape[2:])))
    windows = window_view(x, kernel, attr.stride, attr.dilation)
    counts = windows.shape[2:2 + rank]
    if kernel[-1] >= _LONG_LINE and attr.dilation[-1] == 1:
        # Lines of windows are runs of memory: these are copied as they are, and the product reads the copy transposed.
        windows = reshape(windows, (x.shape[0], groups, x.shape[1] // groups, *windows.shape[2:]))
        rows = permute(windows, (0, 1, *range(3, 3 + rank), 2, *range(3 + rank, 3 + 2 * rank)))
        return transpose(reshape(rows, (x.shape[0], groups, prod(counts), inner)), 2, 3)
    columns = permute(windows, (0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank)))
    return reshape(columns, (x.shape[0], groups, inner, prod(counts)))


def _is_depthwise(weight_shape: Shape, attr: Convolution) -> bool:
    return weight_shape[1] == 1 and attr.groups > 1


def _depthwise_windows(x: Expr, attr: Convolution, kernel: Sizes) -> Expr:
    """(N, channels, 1, *counts, *kernel), in the dtype that is computed in."""
    x = pad_spatial(cast(x, wide(x.dtype)), attr.padding)
    windows = window_view(x, kernel, attr.stride, attr.dilation)
    return reshape(windows, (*windows.shape[:2], 1, *windows.shape[2:]))


def _depthwise(x: Expr, weight: Expr, attr: Convolution) -> Expr:
    kernel = weight.shape[2:]
    rank, groups = len(kernel), attr.groups
    windows = _depthwise_windows(x, attr, kernel)
    factors = reshape(cast(weight, windows.dtype), (groups, weight.shape[0] // groups, *(1,) * rank, *kernel))
    out = cast(reduce_sum(mul(windows, factors), tuple(range(-rank, 0))), x.dtype)
    return reshape(out, (x.shape[0], weight.shape[0], *windows.shape[3:3 + rank]))


def _forward(x: Expr, weight: Expr, attr: Convolution, shape: Shape, bias: Expr | None = None) -> Expr:
    kernel, ones = weight.shape[2:], (1,) * len(attr.stride)
    depthwise = _is_depthwise(weight.shape, attr)
    if 0 in shape or 0 in x.shape or 0 in weight.shape or not _has_template(x, kernel, attr) \
            or _is_tall_product(weight, attr, shape) or (depthwise and not _has_depthwise_template(x, kernel, attr, ones)):
        out = _decomposed(x, weight, attr, shape)
        return out if bias is None else add(out, reshape(bias, (shape[1], *ones)))
    geometry, added = _geometry(attr, kernel, shape[2:]), () if bias is None else (bias,)
    rows = weight.shape[0] // attr.groups
    if depthwise:
        return emit(DEPTHWISE, (reshape(weight, (attr.groups, rows, *kernel)), x, *added), Depthwise(geometry, ones))
    return emit(CONVOLVE, (reshape(weight, (attr.groups, rows, *weight.shape[1:])), x, *added), whole(geometry))


def _geometry(attr: Convolution, kernel: Sizes, counts: Sizes) -> WindowGeometry:
    return WindowGeometry(tuple(kernel), tuple(counts), attr.stride, tuple([before for before, _ in attr.padding]),
                          attr.dilation, attr.groups)


def _has_template(x: Expr, kernel: Sizes, attr: Convolution) -> bool:
    """Are windows better gathered inside of the product? Not where copies of them are no larger than the input."""
    reach = [n + abs(a) + abs(b) + extent(k, d) + s for n, k, s, d, (a, b) in zip(
        x.shape[2:], kernel, attr.stride, attr.dilation, attr.padding, strict=True)]
    if x.dtype.category not in (1, 2) or any(n >= MOST_REACH for n in reach):
        return False
    if prod(kernel) == 1:
        return any(s > 1 for s in attr.stride)
    return any(s < extent(k, d) for k, s, d in zip(kernel, attr.stride, attr.dilation, strict=True))


def _has_depthwise_template(x: Expr, kernel: Sizes, attr: Convolution, spacing: Sizes) -> bool:
    return x.dtype.category == 2 and suits_depthwise(kernel, attr.stride, attr.dilation, spacing)


def _is_tall_product(weight: Expr, attr: Convolution, shape: Shape) -> bool:
    """Few positions and many outputs: a matrix product does well what the template cannot, and what it takes is copied soon."""
    few = shape[0] == 1 and TALL * prod(shape[2:]) <= shape[1] // attr.groups
    return few and prod(weight.shape[2:]) == 1


def _decomposed(x: Expr, weight: Expr, attr: Convolution, shape: Shape) -> Expr:
    """Without the template: depthwise, or windows as columns."""
    if 0 in shape or 0 in x.shape or 0 in weight.shape:
        return full(shape, 0, x.dtype)
    if _is_depthwise(weight.shape, attr):
        return _depthwise(x, weight, attr)
    columns = _columns(x, attr, weight.shape[2:])
    groups, outputs = attr.groups, weight.shape[0] // attr.groups
    if groups == 1:
        columns = select(columns, 1, 0)
        return reshape(matmul(reshape(weight, (outputs, columns.shape[-2])), columns), shape)
    return reshape(matmul(reshape(weight, (groups, outputs, columns.shape[-2])), columns), shape)


def _turned(weight: Expr, groups: int) -> Expr:
    """The weight of the convolution that computes a transposed one: inputs and outputs exchanged, windows reversed."""
    inputs, outputs, *kernel = weight.shape
    parts = reshape(weight, (groups, inputs // groups, outputs, *kernel))
    turned = reshape(transpose(parts, 1, 2), (groups * outputs, inputs // groups, *kernel))
    if prod(kernel) == 1:
        return turned
    spec = (*[(0, n, 1) for n in turned.shape[:2]], *[(n - 1, n, -1) for n in kernel])
    return emit1(TABLE["slice"], turned, spec)


def _transposed(x: Expr, weight: Expr, attr: Convolution, shape: Shape) -> Expr:
    if 0 in shape or 0 in x.shape:
        return full(shape, 0, x.dtype)
    kernel, ones = weight.shape[2:], (1,) * len(attr.stride)
    plain = attr.forward()._replace(stride=ones)
    if weight.shape[0] == attr.groups > 1 and _has_template(x, kernel, plain) and _has_depthwise_template(
            x, kernel, plain, attr.stride):
        grouped = reshape(weight, (attr.groups, *weight.shape[1:]))
        return emit2(DEPTHWISE, grouped, x, Depthwise(_backwards(attr, kernel, shape[2:]), attr.stride))
    if all(k == s and d == 1 for k, s, d in zip(kernel, attr.stride, attr.dilation, strict=True)):
        return _tiled(x, weight, attr, shape)
    if any(s > 1 for s in attr.stride) and all(d == 1 for d in attr.dilation):
        return _by_phases(x, weight, attr, shape)
    return _spread_out(spaced(x, attr.stride), weight, attr, shape)


def _spread_out(x: Expr, weight: Expr, attr: Convolution, shape: Shape) -> Expr:
    """A transposed convolution of stride 1 as a plain one with the windows reversed."""
    kernel = weight.shape[2:]
    if _is_templated_transposed(x, weight, attr._replace(stride=(1,) * len(kernel))):
        return emit2(CONVOLVE, _exchanged(weight, attr.groups), x, whole(_backwards(attr, kernel, shape[2:])))
    pairs = []
    for n, out, k, d, (before, _) in zip(x.shape[2:], shape[2:], kernel, attr.dilation, attr.padding, strict=True):
        first = extent(k, d) - 1 - before
        pairs.append((first, out + extent(k, d) - 1 - first - n))
    plain = attr.forward()._replace(stride=(1,) * len(kernel), padding=tuple(pairs))
    return _forward(x, _turned(weight, attr.groups), plain, shape)


def _backwards(attr: Convolution, kernel: Sizes, counts: Sizes) -> WindowGeometry:
    """Windows of stride 1 of a transposed convolution's input, spread out: they are walked backwards."""
    return WindowGeometry(tuple(kernel), tuple(counts), (1,) * len(kernel), tuple([-a for a, _ in attr.padding]),
                          tuple([-d for d in attr.dilation]), attr.groups)


def _is_templated_transposed(x: Expr, weight: Expr, attr: Convolution) -> bool:
    """Can the template compute this transposed convolution (of several inputs and outputs per group)?"""
    depthwise = weight.shape[0] == attr.groups > 1
    return not depthwise and _has_template(x, weight.shape[2:], attr)


def _exchanged(weight: Expr, groups: int) -> Expr:
    """The weight of a transposed convolution as (groups, outputs, inputs, *kernel)."""
    inputs, outputs, *kernel = weight.shape
    return transpose(reshape(weight, (groups, inputs // groups, outputs, *kernel)), 1, 2)


class DimensionPhase(NamedTuple):
    """Every stride-th element of a result along one dimension: where they are, and what they are computed from."""

    start: int      # first of these elements
    length: int
    tap: int        # first element of the kernel that meets them; then every stride-th
    taps: int
    offset: int     # the first one in terms of the input: padding before it


def _phases(stride: int, before: int, kernel: int, out: int) -> list[DimensionPhase]:
    # Element q gets x[i] * w[k] with i * stride + k = q + before: k has the remainder of q + before.
    found = []
    for start in range(min(stride, out)):
        tap = (start + before) % stride
        length = (out - 1 - start) // stride + 1
        found.append(DimensionPhase(start, length, tap, max(-(-(kernel - tap) // stride), 0), (start + before - tap) // stride))
    return found


def _phase(parts: tuple[DimensionPhase, ...], attr: Convolution) -> Phase:
    ones = (1,) * len(parts)
    geometry = WindowGeometry(tuple([p.taps for p in parts]), tuple([p.length for p in parts]), ones,
                              tuple([-p.offset for p in parts]), tuple([-1 for _ in parts]), attr.groups)
    return Phase(geometry, tuple([p.start for p in parts]), attr.stride, tuple([p.tap for p in parts]), attr.stride)


def _by_phases(x: Expr, weight: Expr, attr: Convolution, shape: Shape) -> Expr:
    """A strided transposed convolution: one of stride 1 per remainder of positions, each with its share of the kernel."""
    kernel, rank = weight.shape[2:], len(attr.stride)
    every = [_phases(s, before, k, n) for s, (before, _), k, n in zip(
        attr.stride, attr.padding, kernel, shape[2:], strict=True)]
    if all(p.taps for phases in every for p in phases) and _is_templated_transposed(x, weight, attr):
        attribute = Convolve(tuple(shape[2:]), tuple([_phase(p, attr) for p in product(*every)]))
        return emit2(CONVOLVE, _exchanged(weight, attr.groups), x, attribute)
    out = full(shape, 0, x.dtype)
    for phase in product(*every):
        if not all(p.taps for p in phase):
            continue
        taps = [(p.tap, p.taps, s) for p, s in zip(phase, attr.stride, strict=True)]
        part = weight if prod(kernel) == 1 else \
            emit1(TABLE["slice"], weight, ((0, weight.shape[0], 1), (0, weight.shape[1], 1), *taps))
        unit = attr._replace(stride=(1,) * rank, padding=tuple([(p.offset, 0) for p in phase]))
        value = _spread_out(x, part, unit, (*shape[:2], *[p.length for p in phase]))
        place = tuple([(p.start, p.length, s) for p, s in zip(phase, attr.stride, strict=True)])
        out = emit2(TABLE["view_write"], out, value, (("slice", ((0, shape[0], 1), (0, shape[1], 1), *place)),))
    return out


def _tiled(x: Expr, weight: Expr, attr: Convolution, shape: Shape) -> Expr:
    """A transposed convolution whose windows do not overlap: one product, then tiles are put side by side."""
    kernel, sizes, rank = weight.shape[2:], x.shape[2:], len(attr.stride)
    groups, inputs, outputs = attr.groups, x.shape[1] // attr.groups, weight.shape[1]
    matrix = transpose(reshape(weight, (groups, inputs, outputs * prod(kernel))), 1, 2)
    tiles = matmul(matrix, reshape(x, (x.shape[0], groups, inputs, prod(sizes))))
    tiles = reshape(tiles, (x.shape[0], groups * outputs, *kernel, *sizes))
    order = (0, 1, *[axis for i in range(rank) for axis in (2 + rank + i, 2 + i)])
    merged = reshape(permute(tiles, order), (*tiles.shape[:2], *[n * k for n, k in zip(sizes, kernel, strict=True)]))
    start = pad_spatial(merged, tuple([(-before, 0) for before, _ in attr.padding]))
    return fit(start, shape[2:])


def _decompose(e: Expr) -> Expr:
    attr: Convolution = e.attr  # type: ignore[assignment]
    x, weight, *bias = e.args
    if not attr.transposed:
        return _forward(x, weight, attr, e.shape, *bias)
    out = _transposed(x, weight, attr, e.shape)
    return add(out, reshape(bias[0], (e.shape[1], *(1,) * len(attr.stride)))) if bias else out


# ---- gradients ---------------------------------------------------------------------------------------------------------

def input_gradient(g: Expr, weight: Expr, attr: Convolution, sizes: Sizes) -> Expr:
    """Gradient of a plain convolution with respect to its input of these sizes."""
    kernel = weight.shape[2:]
    plain = attr._replace(transposed=True, output_padding=(0,) * len(kernel))
    least = _transposed_sizes(plain, g.shape[2:], kernel)
    extra = tuple([n - m for n, m in zip(sizes, least, strict=True)])
    return emit2(CONVOLUTION, g, conj(weight), plain._replace(output_padding=extra))


def weight_gradient(x: Expr, g: Expr, attr: Convolution, kernel: Sizes) -> Expr:
    """Gradient of a plain convolution with respect to its weight."""
    return emit2(CONVOLUTION_WEIGHT_GRADIENT, conj(x), g, (attr.forward(), tuple(kernel)))


def _exact(attr: Convolution) -> Convolution:
    """The plain convolution that takes a transposed one's result back to the sizes of its input, element by element."""
    padding = tuple([(a, b - extra) for (a, b), extra in zip(attr.padding, attr.output_padding, strict=True)])
    return attr.forward()._replace(padding=padding)


def _gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    attr: Convolution = e.attr  # type: ignore[assignment]
    x, weight, *bias = e.args
    kernel = weight.shape[2:]
    grads: list[Expr | None] = [None, None]
    if x.requires_grad:
        if attr.transposed:
            grads[0] = emit2(CONVOLUTION, g, conj(weight), _exact(attr))
        else:
            grads[0] = input_gradient(g, weight, attr, x.shape[2:])
    if weight.requires_grad:
        if attr.transposed:
            grads[1] = weight_gradient(g, x, _exact(attr), kernel)
        else:
            grads[1] = weight_gradient(x, g, attr, kernel)
    if bias:
        total = sum_to(g, (1, g.shape[1], *(1,) * len(kernel)))
        grads.append(reshape(total, bias[0].shape) if bias[0].requires_grad else None)
    return tuple(grads)


# attr: Convolution; args: x (N, channels, *sizes), weight, bias (outputs) optional. The weight is
# (outputs, channels / groups, *kernel), or (channels, outputs / groups, *kernel) for a transposed convolution.
CONVOLUTION: Final[Op] = Op("convolution", _infer, _reference, gradient=_gradient, decompose=_decompose)


def _weight_infer(attr: tuple[Convolution, Sizes], x: Expr, g: Expr) -> tuple[Shape, DType]:
    config, kernel = attr
    return (g.shape[1], x.shape[1] // config.groups, *kernel), x.dtype


def _weight_reference(attr: tuple[Convolution, Sizes], x: Any, g: Any) -> Array:
    config, kernel = attr
    dtype = from_numpy_dtype(np.asarray(x).dtype)
    a, b = convert(x, wide(dtype)), convert(g, wide(dtype))
    shape = (b.shape[1], a.shape[1] // config.groups, *kernel)
    if not a.size or not b.size:
        return np.zeros(shape, dtype.numpy)
    columns = _numpy_columns(a, config, kernel)
    rows = b.reshape(b.shape[0], config.groups, b.shape[1] // config.groups, -1)
    with np.errstate(all="ignore"):
        return convert(np.matmul(rows, columns.swapaxes(-1, -2)).sum(0).reshape(shape), dtype)


def _weight_decompose(e: Expr) -> Expr:
    x, g = e.args
    attr: tuple[Convolution, Sizes] = e.attr  # type: ignore[assignment]
    config, kernel = attr
    groups, rank = config.groups, len(kernel)
    if 0 in x.shape or 0 in g.shape:
        return full(e.shape, 0, e.dtype)
    depthwise = _is_depthwise(e.shape, config)
    if depthwise and _has_template(x, kernel, config) and _has_depthwise_template(x, kernel, config, (1,) * rank):
        lines = reshape(g, (g.shape[0], groups, g.shape[1] // groups, prod(g.shape[2:])))
        return cast(reshape(emit2(DEPTHWISE_WEIGHT, lines, x, _geometry(config, kernel, g.shape[2:])), e.shape), e.dtype)
    if depthwise:
        windows = _depthwise_windows(x, config, kernel)
        rows = reshape(cast(g, windows.dtype), (g.shape[0], groups, g.shape[1] // groups, *g.shape[2:], *(1,) * rank))
        total = reduce_sum(mul(windows, rows), (0, *range(3, 3 + rank)))
        return cast(reshape(total, e.shape), e.dtype)
    rows = reshape(g, (g.shape[0], groups, g.shape[1] // groups, prod(g.shape[2:])))
    if _has_template(x, kernel, config) and prod(kernel) <= MOST_TAPS:
        geometry = _geometry(config, kernel, g.shape[2:])
        products = emit2(CONVOLVE_WEIGHT, rows, x, (geometry, _parts(rows.shape, prod(e.shape[1:]))))
        return cast(reshape(reduce_sum(products, (0,)), e.shape), e.dtype)
    products = summed_products(rows, transpose(_kernel_major_columns(x, config, kernel), 2, 3))
    by_kernel = reshape(products, (e.shape[0], *kernel, e.shape[1]))
    return permute(by_kernel, (0, rank + 1, *range(1, rank + 1)))


def _parts(rows: Shape, columns: int) -> int:
    """In how many parts the positions are summed: several where the result is too small to be shared among threads."""
    batch, groups, outputs, positions = rows
    blocks = groups * max(1, outputs // 112) * max(1, columns // 1024)
    return max(1, min(-(-ENOUGH_BLOCKS // blocks), batch * positions // 2048))


def _kernel_major_columns(x: Expr, attr: Convolution, kernel: Sizes) -> Expr:
    """(N, groups, kernel * channels of a group, positions).

    Another order than the forward's, so that its columns, which are large, need not be kept until backward.
    """
    rank, groups = len(kernel), attr.groups
    x = pad_spatial(x, attr.padding)
    x = reshape(x, (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))
    windows = window_view(x, kernel, attr.stride, attr.dilation)
    columns = permute(windows, (0, 1, *range(3 + rank, 3 + 2 * rank), 2, *range(3, 3 + rank)))
    return reshape(columns, (*columns.shape[:2], prod(kernel) * x.shape[2], prod(columns.shape[3 + rank:])))


def _weight_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    x, old = e.args
    attr: tuple[Convolution, Sizes] = e.attr  # type: ignore[assignment]
    return (input_gradient(old, g, attr[0], x.shape[2:]) if x.requires_grad else None,
            emit2(CONVOLUTION, conj(x), g, attr[0]) if old.requires_grad else None)


# attr: (Convolution, kernel sizes); args: the convolution's input, the gradient of its result
CONVOLUTION_WEIGHT_GRADIENT: Final[Op] = Op("convolution_weight_gradient", _weight_infer, _weight_reference,
                                            gradient=_weight_gradient, decompose=_weight_decompose)


# ---- as functions need it ----------------------------------------------------------------------------------------------

def padding_pairs(padding: str | Sequence[int], kernel: Sizes, stride: Sizes, dilation: Sizes) -> Pairs:
    """Padding as pairs, from numbers or from "same" or "valid"."""
    if not isinstance(padding, str):
        if any(p < 0 for p in padding):
            raise ShapeMismatchError("negative padding is not supported")
        return tuple([(p, p) for p in padding])
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if padding != "same":
        raise InvalidArgumentError(f"Invalid padding string: {padding!r}; use 'valid', 'same' or numbers")
    if any(s != 1 for s in stride):
        raise ShapeMismatchError("padding='same' is not supported for strided convolutions")
    totals = [extent(k, d) - 1 for k, d in zip(kernel, dilation, strict=True)]
    return tuple([(t // 2, t - t // 2) for t in totals])


def convolution_expr(x: Expr, weight: Expr, bias: Expr | None, stride: Sequence[int], padding: str | Sequence[int],
                     dilation: Sequence[int], groups: int = 1, transposed: bool = False,
                     output_padding: Sequence[int] = ()) -> Expr:
    """A convolution with PyTorch's arguments; ``x`` may lack the batch dimension."""
    rank = len(weight.shape) - 2
    if len(x.shape) not in (rank + 1, rank + 2):
        name = f"conv{'_transpose' if transposed else ''}{rank}d"
        raise ShapeMismatchError(f"Expected {rank + 1}D (unbatched) or {rank + 2}D (batched) input to {name}, but got input "
                                 f"of size: {_listed(x.shape)}")
    extra = tuple(output_padding) or (0,) * rank
    if transposed and any(p >= s and p >= d for p, s, d in zip(extra, stride, dilation, strict=True)):
        raise ShapeMismatchError(f"output padding must be smaller than either stride or dilation, but got output_padding "
                                 f"{_listed(extra)}, stride {_listed(stride)}, dilation {_listed(dilation)}")
    pairs = padding_pairs(padding, weight.shape[2:], tuple(stride), tuple(dilation))
    attr = Convolution(tuple(stride), pairs, tuple(dilation), transposed, extra, int(groups))
    batched = x if len(x.shape) == rank + 2 else apply("reshape", x, attr=(1, *x.shape))
    out = emit(CONVOLUTION, (batched, weight) if bias is None else (batched, weight, bias), attr)
    return out if batched is x else reshape(out, out.shape[1:])
