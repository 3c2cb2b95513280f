"""Resizing of the last dimensions: nearest, linear, cubic and area interpolation, and sampling at given places.

Every mode is separable: along one dimension after the other, entries are gathered and weighted.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from torsh.core.dtype import DType, float32, int64
from torsh.core.errors import InvalidArgumentError, ShapeMismatchError
from torsh.core.promotion import not_implemented
from torsh.ops.common import (
    absolute,
    add,
    both,
    cast,
    div,
    eq,
    expand,
    full,
    ge,
    gt,
    iota,
    le,
    lt,
    maximum,
    minimum,
    mul,
    permute,
    reduce_sum,
    reshape,
    select,
    sub,
    transpose,
    unary,
    where,
)
from torsh.ops.contraction import matmul
from torsh.ops.define import wide
from torsh.ops.expr import Expr, Op, Shape, emit, emit1
from torsh.ops.indexing import index
from torsh.ops.pooling import ADAPTIVE_AVG_POOL
from torsh.ops.shape import repeated

# dimensions that each mode is for; None: any
MODES: Final = {"nearest": None, "nearest-exact": None, "linear": 1, "bilinear": 2, "trilinear": 3, "bicubic": 2,
                "lanczos": 2, "area": None}


class Interpolation(NamedTuple):
    """Attribute: mode, output sizes, align_corners, scale per dimension where the user gave one, antialias."""

    mode: str
    sizes: tuple[int, ...]
    align_corners: bool = False
    scales: tuple[float | None, ...] = ()
    antialias: bool = False


def _infer(attr: Interpolation, x: Expr) -> tuple[Shape, DType]:
    n = len(attr.sizes)
    if attr.mode not in MODES:
        raise InvalidArgumentError(f"interpolate: unknown mode {attr.mode!r}; use one of {', '.join(MODES)}")
    if MODES[attr.mode] not in (None, n) or len(x.shape) != n + 2:
        raise InvalidArgumentError(f"interpolate: mode {attr.mode!r} does not fit an input of shape {list(x.shape)} and "
                                   f"output sizes {list(attr.sizes)}")
    if any(m <= 0 for m in (*x.shape[2:], *attr.sizes)):
        raise ShapeMismatchError(f"Input and output sizes should be greater than 0, but got input (H: {list(x.shape[2:])}) "
                                 f"output (H: {list(attr.sizes)})")
    if x.dtype.is_complex or (x.dtype.category < 2 and not attr.mode.startswith("nearest")):
        raise not_implemented("interpolate", x.dtype)
    return (*x.shape[:2], *attr.sizes), x.dtype


# ---- places ------------------------------------------------------------------------------------------------------------

def _ratio(n: int, size: int, scale: float | None) -> float:
    """Input elements per output element."""
    return 1.0 / scale if scale is not None and scale > 0 else n / size


def _source(n: int, size: int, align_corners: bool, scale: float | None, work: DType, clamped: bool) -> Expr:
    """Real position in the input of every output element."""
    i = cast(iota((size,), 0), work)
    if align_corners:
        return mul(i, (n - 1) / (size - 1) if size > 1 else 0.0)
    place = sub(mul(add(i, 0.5), _ratio(n, size, scale)), 0.5)
    return maximum(place, 0.0) if clamped else place


def _nearest_positions(n: int, size: int, exact: bool, scale: float | None) -> Expr:
    i = cast(iota((size,), 0), float32)
    place = mul(add(i, 0.5) if exact else i, _ratio(n, size, scale))
    return minimum(cast(unary("floor", place), int64), n - 1)


_WHOLE: Final = range(1, 17)     # factors for which rounding in float32 does not move any position


def _repeats(x: Expr, attr: Interpolation, scales: Sequence[float | None]) -> tuple[int, ...] | None:
    """How often every element of a dimension is repeated, if all are equally often."""
    counts = []
    for n, size, scale in zip(x.shape[2:], attr.sizes, scales, strict=True):
        times = next((k for k in _WHOLE if size == n * k), None)
        if times is None or scale not in (None, times) or size >= 1 << 22:
            return None
        counts.append(times)
    return (1, 1, *counts)


def _along(weights: Expr, axis: int, rank: int) -> Expr:
    """A vector that broadcasts along one dimension."""
    return reshape(weights, (weights.shape[0], *(1,) * (rank - axis - 1)))


def _taken(x: Expr, positions: Expr, axis: int) -> Expr:
    return index(x, (positions,), (axis,))


def _linear(x: Expr, axis: int, size: int, attr: Interpolation, scale: float | None) -> Expr:
    n, rank = x.shape[axis], len(x.shape)
    place = _source(n, size, attr.align_corners, scale, x.dtype, True)
    low = minimum(cast(unary("floor", place), int64), n - 1)
    high = minimum(add(low, 1), n - 1)
    share = minimum(maximum(sub(place, cast(low, x.dtype)), 0.0), 1.0)
    first, second = _taken(x, low, axis), _taken(x, high, axis)
    return add(mul(first, _along(sub(1, share), axis, rank)), mul(second, _along(share, axis, rank)))


CUBIC: Final = -0.75
CUBIC_ANTIALIAS: Final = -0.5


def cubic_weight(distance: Expr, a: float) -> Expr:
    """Keys' cubic kernel at a distance >= 0."""
    near = add(mul(mul(sub(mul(distance, a + 2), a + 3), distance), distance), 1)
    far = mul(sub(mul(add(mul(sub(distance, 5), distance), 8), distance), 4), a)
    return where(le(distance, 1), near, where(lt(distance, 2), far, 0))


def _cubic(x: Expr, axis: int, size: int, attr: Interpolation, scale: float | None) -> Expr:
    n, rank = x.shape[axis], len(x.shape)
    place = _source(n, size, attr.align_corners, scale, x.dtype, False)
    floor = unary("floor", place)
    share, low = sub(place, floor), cast(floor, int64)
    total: Expr | None = None
    for tap in range(-1, 3):
        positions = minimum(maximum(add(low, tap), 0), n - 1)
        weight = cubic_weight(absolute(sub(share, float(tap))), CUBIC)
        part = mul(_taken(x, positions, axis), _along(weight, axis, rank))
        total = part if total is None else add(total, part)
    assert total is not None
    return total


def _lanczos_weight(distance: Expr) -> Expr:
    """Lanczos' window of three lobes at a distance >= 0."""
    return where(lt(distance, 3.0), mul(unary("sinc", distance), unary("sinc", div(distance, 3.0))), 0.0)


# mode: (weight at a distance, distance from which on it is 0)
_KERNELS: Final[dict[str, tuple[Callable[[Expr], Expr], float]]] = {
    "bilinear": (lambda d: maximum(sub(1, d), 0.0), 1.0),
    "bicubic": (lambda d: cubic_weight(d, CUBIC_ANTIALIAS), 2.0),
    "lanczos": (_lanczos_weight, 3.0)}


def _antialiased(x: Expr, axis: int, size: int, attr: Interpolation, scale: float | None) -> Expr:
    """Weighted averages whose width grows with the reduction, as one matrix product."""
    n, work = x.shape[axis], x.dtype
    kernel, reach = _KERNELS[attr.mode]
    ratio = (n - 1) / (size - 1) if attr.align_corners and size > 1 else _ratio(n, size, scale)
    stretch = max(ratio, 1.0)
    support = reach * stretch
    grid = (size, n)
    centre = mul(add(cast(iota(grid, 0), work), 0.5), ratio)
    entry = iota(grid, 1)
    start = maximum(cast(add(sub(centre, support), 0.5), int64), 0)
    stop = minimum(cast(add(add(centre, support), 0.5), int64), n)
    distance = absolute(div(add(sub(cast(entry, work), centre), 0.5), stretch))
    weight = where(both(ge(entry, start), lt(entry, stop)), kernel(distance), 0.0)
    weight = div(weight, reduce_sum(weight, (1,), True))
    return transpose(matmul(transpose(x, axis, -1), transpose(weight, 0, 1)), axis, -1)


def _decompose(e: Expr) -> Expr:
    attr: Interpolation = e.attr  # type: ignore[assignment]
    x = e.args[0]
    if 0 in e.shape:
        return full(e.shape, 0, e.dtype)
    if attr.mode == "area":
        return emit1(ADAPTIVE_AVG_POOL, x, attr.sizes)
    scales = attr.scales or (None,) * len(attr.sizes)
    if attr.mode.startswith("nearest"):
        repeats = _repeats(x, attr, scales)
        if repeats is not None:
            return repeated(x, repeats)
        for axis, (size, scale) in enumerate(zip(attr.sizes, scales, strict=True), 2):
            x = _taken(x, _nearest_positions(x.shape[axis], size, attr.mode != "nearest", scale), axis)
        return x
    x = cast(x, wide(e.dtype))
    step: Callable[..., Expr] = _antialiased if attr.antialias else _cubic if attr.mode == "bicubic" else _linear
    for axis, (size, scale) in enumerate(zip(attr.sizes, scales, strict=True), 2):
        if x.shape[axis] != size or (scale not in (None, 1.0)):
            x = step(x, axis, size, attr, scale)
    return cast(x, e.dtype)


# attr: Interpolation; argument: (N, C, *sizes). Differentiated through its decomposition.
INTERPOLATE: Final[Op] = Op("interpolate", _infer, None, decompose=_decompose)


def interpolate_expr(x: Expr, mode: str, sizes: Sequence[int], align_corners: bool = False,
                     scales: Sequence[float | None] = (), antialias: bool = False) -> Expr:
    """``x`` (N, C, ...) resized to ``sizes``; scales: factors as the user gave them, used in place of the sizes' ratios."""
    return emit1(INTERPOLATE, x, Interpolation(mode, tuple(sizes), bool(align_corners), tuple(scales), bool(antialias)))


# ---- sampling at given places ------------------------------------------------------------------------------------------

class Sampling(NamedTuple):
    """Attribute of grid_sample."""

    mode: str = "bilinear"
    padding_mode: str = "zeros"
    align_corners: bool = False


def _sample_infer(attr: Sampling, x: Expr, grid: Expr) -> tuple[Shape, DType]:
    n = len(x.shape) - 2
    if n not in (2, 3) or len(grid.shape) != n + 2 or grid.shape[-1] != n or grid.shape[0] != x.shape[0]:
        raise ShapeMismatchError("grid_sampler(): expected input (N, C, ...) and grid (N, ..., dimensions) with the same "
                                 f"batch size, got shapes {list(x.shape)} and {list(grid.shape)}")
    if attr.mode not in ("bilinear", "nearest", "bicubic") or (attr.mode == "bicubic" and n != 2):
        raise InvalidArgumentError(f"grid_sample: mode {attr.mode!r} is not possible for an input of shape {list(x.shape)}")
    if attr.padding_mode not in ("zeros", "border", "reflection"):
        raise InvalidArgumentError("nn.functional.grid_sample(): expected padding_mode to be 'zeros', 'border', or "
                                   f"'reflection', but got: '{attr.padding_mode}'")
    return (*x.shape[:2], *grid.shape[1:-1]), x.dtype


def _place(g: Expr, n: int, attr: Sampling) -> Expr:
    """From [-1, 1] to positions in a dimension of size n."""
    return mul(add(g, 1), (n - 1) / 2) if attr.align_corners else div(sub(mul(add(g, 1), float(n)), 1), 2)


def _reflected(place: Expr, n: int, align_corners: bool) -> Expr:
    low, span = (0.0, float(n - 1)) if align_corners else (-0.5, float(n))
    if span == 0:
        return mul(place, 0.0)
    distance = absolute(sub(place, low))
    flips = unary("floor", div(distance, span))
    extra = sub(distance, mul(flips, span))
    even = eq(sub(flips, mul(unary("floor", mul(flips, 0.5)), 2.0)), 0)
    return add(where(even, extra, sub(span, extra)), low)


def _bounded(place: Expr, n: int, attr: Sampling) -> Expr:
    """A position treated as the padding mode asks."""
    if attr.padding_mode == "zeros":
        return place
    if attr.padding_mode == "reflection":
        place = _reflected(place, n, attr.align_corners)
    return where(gt(place, 0.0), where(lt(place, float(n - 1)), place, float(n - 1)), 0.0)


def _picked(x: Expr, positions: Sequence[Expr]) -> Expr:
    """(N, places..., C): elements of every sample at whole positions, zeros outside."""
    batch = reshape(iota((x.shape[0],), 0), (x.shape[0], *(1,) * (len(positions[0].shape) - 1)))
    inside: Expr | None = None
    safe = []
    for p, n in zip(positions, x.shape[2:], strict=True):
        fits = both(ge(p, 0), lt(p, n))
        inside = fits if inside is None else both(inside, fits)
        safe.append(where(fits, p, 0))
    assert inside is not None
    values = index(x, (batch, *safe), (0, *range(2, len(x.shape))))
    return where(reshape(inside, (*inside.shape, 1)), values, 0)


def _corner_sum(x: Expr, taps: list[list[tuple[Expr, Expr]]]) -> Expr:
    """The sum over all combinations of (position, weight) of the dimensions."""
    total: Expr | None = None

    def visit(axis: int, positions: list[Expr], weight: Expr | None) -> None:
        nonlocal total
        if axis == len(taps):
            assert weight is not None
            part = mul(_picked(x, positions), reshape(weight, (*weight.shape, 1)))
            total = part if total is None else add(total, part)
            return
        for position, share in taps[axis]:
            visit(axis + 1, [*positions, position], share if weight is None else mul(weight, share))
    visit(0, [], None)
    assert total is not None
    return total


def _taps(place: Expr, n: int, attr: Sampling) -> list[tuple[Expr, Expr]]:
    """(position, weight) pairs along one dimension."""
    if attr.mode == "bicubic":
        floor = unary("floor", place)
        share = sub(place, floor)
        return [(cast(_bounded(add(floor, float(t)), n, attr), int64), cubic_weight(absolute(sub(share, float(t))), CUBIC))
                for t in range(-1, 3)]
    place = _bounded(place, n, attr)
    if attr.mode == "nearest":
        return [(cast(unary("round", place), int64), full(place.shape, 1, place.dtype))]
    floor = unary("floor", place)
    share = sub(place, floor)
    return [(cast(floor, int64), sub(1, share)), (add(cast(floor, int64), 1), share)]


def _sample(e: Expr) -> Expr:
    attr: Sampling = e.attr  # type: ignore[assignment]
    x, grid = e.args
    work = wide(e.dtype)
    x, grid = cast(x, work), cast(grid, work)
    n = len(x.shape) - 2
    taps = []
    for axis in range(n):
        coordinate = _coordinate(grid, n - 1 - axis)     # the grid's last coordinate is the slowest dimension
        size = x.shape[2 + axis]
        taps.append(_taps(_place(coordinate, size, attr), size, attr))
    moved = _corner_sum(x, taps)
    rank = len(moved.shape)
    return cast(permute(moved, (0, rank - 1, *range(1, rank - 1))), e.dtype)


def _coordinate(grid: Expr, number: int) -> Expr:
    return select(grid, -1, number)


# attr: Sampling; args: input (N, C, *sizes), grid (N, *places, dimensions) in [-1, 1], x first
GRID_SAMPLE: Final[Op] = Op("grid_sample", _sample_infer, None, decompose=_sample)


def grid_sample_expr(x: Expr, grid: Expr, mode: str, padding_mode: str, align_corners: bool) -> Expr:
    """Values of ``x`` at the places of a grid, interpolated."""
    return emit(GRID_SAMPLE, (x, grid), Sampling(mode, padding_mode, bool(align_corners)))


def affine_grid_expr(theta: Expr, sizes: Sequence[int], align_corners: bool) -> Expr:
    """The grid (N, *sizes, dimensions) of affine transformations ``theta`` (N, dimensions, dimensions + 1)."""
    n = len(sizes)
    if theta.shape[1:] != (n, n + 1):
        raise ShapeMismatchError(f"Expected a batch of affine matrices of shape Nx{n}x{n + 1} for size {list(sizes)}. Got "
                                 f"{list(theta.shape)}.")
    count = math.prod(sizes)
    columns: list[Any] = []
    for axis in reversed(range(n)):
        size = sizes[axis]
        i = cast(iota(tuple(sizes), axis), theta.dtype)
        if align_corners:
            line = sub(mul(i, 2.0 / (size - 1)), 1) if size > 1 else mul(i, 0.0)
        else:
            line = sub(mul(add(mul(i, 2.0), 1), 1.0 / size), 1)
        columns.append(reshape(line, (count, 1)))
    total = expand(reshape(_coordinate(theta, n), (theta.shape[0], 1, n)), (theta.shape[0], count, n))
    for j, column in enumerate(columns):
        total = add(total, mul(column, reshape(_coordinate(theta, j), (theta.shape[0], 1, n))))
    return reshape(total, (theta.shape[0], *sizes, n))
