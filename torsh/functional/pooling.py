"""Pooling: reductions over windows, which are views of the padded input."""
from __future__ import annotations

import math
from typing import Any

from torsh.core.dtype import int64
from torsh.core.errors import InvalidArgumentError, ShapeMismatchError
from torsh.functional.common import T, ntuple
from torsh.functional.convolution import windows
from torsh.functional.padding import constant_pad
from torsh.tensor.tensor import Tensor


def output_size(n: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """Number of windows along a dimension; in ceil mode the last one has to start inside of the input or its padding."""
    reach = dilation * (kernel - 1) + 1
    span = n + 2 * padding - reach
    count = (-(-span // stride) if ceil_mode else span // stride) + 1
    if ceil_mode and (count - 1) * stride >= n + padding:
        count -= 1
    return count


def batched(input: Tensor, n: int, name: str) -> tuple[Any, bool]:
    """The input with a batch dimension, and whether it had one."""
    if input.ndim not in (n + 1, n + 2):
        raise ShapeMismatchError(f"{name}: Expected {n + 1}D or {n + 2}D (batch mode) tensor, but got input of shape "
                                 f"{list(input.shape)}")
    return (input, True) if input.ndim == n + 2 else (input.unsqueeze(0), False)  # type: ignore[attr-defined]


class Windows:
    """Checked arguments of a pooling: kernel, stride, padding and dilation per dimension, and the output's sizes."""

    def __init__(self, sizes: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, name: str) -> None:
        n = len(sizes)
        self.kernel = ntuple(kernel, n, "kernel_size")
        self.stride = self.kernel if stride in (None, (), []) else ntuple(stride, n, "stride")
        self.padding, self.dilation = ntuple(padding, n, "padding"), ntuple(dilation, n, "dilation")
        if min(self.stride) <= 0:
            raise ShapeMismatchError(f"{name}: stride should not be zero")
        if min(self.kernel) <= 0 or min(self.dilation) <= 0:
            raise ShapeMismatchError(f"{name}: kernel size and dilation should be greater than zero")
        for p, k, d in zip(self.padding, self.kernel, self.dilation, strict=True):
            if p < 0:
                raise ShapeMismatchError(f"pad must be non-negative, but got pad: {p}")
            if p > ((k - 1) * d + 1) // 2:
                raise ShapeMismatchError(f"pad should be at most half of effective kernel size, but got pad={p}, kernel_size={k} "
                                         f"and dilation={d}")
        self.out = tuple(output_size(m, k, s, p, d, ceil_mode) for m, k, s, p, d in zip(
            sizes, self.kernel, self.stride, self.padding, self.dilation, strict=True))
        if min(self.out) < 1:
            raise ShapeMismatchError(f"{name}: Given input size: {list(sizes)}. Calculated output size: {list(self.out)}. Output "
                                     "size is too small")
        self.after = tuple(max(0, (o - 1) * s + (k - 1) * d + 1 - m - p) for m, o, s, k, d, p in zip(
            sizes, self.out, self.stride, self.kernel, self.dilation, self.padding, strict=True))

    def view(self, x: Any, value: float) -> Any:
        """All windows of the padded input: (N, C, *out, kernel elements)."""
        pads = [(0, 0), (0, 0), *zip(self.padding, self.after, strict=True)]
        v = windows(constant_pad(x, pads, value), self.kernel, self.stride, self.dilation)
        v = v[(slice(None), slice(None), *(slice(o) for o in self.out))]  # type: ignore[index]
        return v.reshape(*v.shape[:2 + len(self.out)], -1)


def lowest(x: Any) -> Any:
    """What is put around the input of a maximum."""
    if x.dtype.category == 2:
        return float("-inf")
    from torsh.core.limits import iinfo
    return iinfo(x.dtype).min


def _max_pool(n: int) -> Any:
    name = f"max_pool{n}d"

    def with_indices(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
                     ceil_mode: bool = False, return_indices: bool = False) -> Any:
        x, had_batch = batched(input, n, name)
        w = Windows(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode, name)
        view = w.view(x, lowest(x))
        best = view.argmax(-1, keepdim=True)
        values = view.gather(-1, best).squeeze(-1)
        where = flat_positions(best.squeeze(-1), w, x.shape[2:])
        return (values, where) if had_batch else (values.squeeze(0), where.squeeze(0))

    def pool(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
             ceil_mode: bool = False, return_indices: bool = False) -> Any:
        pair = with_indices(input, kernel_size, stride, padding, dilation, ceil_mode)
        return pair if return_indices else pair[0]
    pool.__name__ = name
    pool.__doc__ = f"Largest elements of {n}-dimensional windows; return_indices: also their positions in the flattened input."
    with_indices.__name__ = name + "_with_indices"
    with_indices.__doc__ = f"(values, positions) of :func:`{name}`."
    return pool, with_indices


def flat_positions(best: Any, w: Windows, sizes: Any) -> Any:
    """Positions in the flattened spatial dimensions from positions in the windows."""
    n = len(w.out)
    total: Any = None
    rest = best
    coordinates = []
    for k in reversed(w.kernel):
        coordinates.append(rest % k)
        rest = rest.div(k, rounding_mode="floor")
    for d, inner in enumerate(reversed(coordinates)):
        start = T["arange"](w.out[d]).reshape([-1 if i == d else 1 for i in range(n)]) * w.stride[d] - w.padding[d]
        spot = start + inner * w.dilation[d]
        total = spot if total is None else total * sizes[d] + spot
    return total


(max_pool1d, max_pool1d_with_indices), (max_pool2d, max_pool2d_with_indices), (max_pool3d, max_pool3d_with_indices) = (
    _max_pool(n) for n in (1, 2, 3))


def _avg_pool(n: int) -> Any:
    name = f"avg_pool{n}d"

    def pool(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
             count_include_pad: bool = True, divisor_override: int | None = None) -> Tensor:
        x, had_batch = batched(input, n, name)
        w = Windows(x.shape[2:], kernel_size, stride, padding, 1, ceil_mode, name)
        total = w.view(x, 0).sum(-1)
        if divisor_override is not None:
            if divisor_override == 0:
                raise ShapeMismatchError("divisor must be not zero")
            out = total / divisor_override
        else:
            out = total / divisors(w, x.shape[2:], count_include_pad, x.dtype)
        out = out.to(x.dtype)
        return out if had_batch else out.squeeze(0)  # type: ignore[no-any-return]
    pool.__name__ = name
    pool.__doc__ = f"Means of {n}-dimensional windows."
    return pool


def divisors(w: Windows, sizes: Any, include_pad: bool, dtype: Any) -> Any:
    """How many elements each window counts, as a tensor that broadcasts over the output."""
    n = len(w.out)
    counts = []
    for m, o, k, s, p in zip(sizes, w.out, w.kernel, w.stride, w.padding, strict=True):
        row = []
        for i in range(o):
            start = i * s - p
            end = min(start + k, m + p)
            row.append(end - start if include_pad else min(end, m) - max(start, 0))
        counts.append(row)
    if all(len(set(row)) == 1 for row in counts):
        return math.prod(row[0] for row in counts)
    out: Any = 1
    for d, row in enumerate(counts):
        out = T["tensor"](row, dtype=dtype).reshape([-1 if i == d else 1 for i in range(n)]) * out
    return out


avg_pool1d, avg_pool2d, avg_pool3d = (_avg_pool(n) for n in (1, 2, 3))


def adaptive_sizes(output: Any, sizes: Any) -> tuple[int, ...]:
    """The output's sizes, None standing for the input's."""
    wanted = ntuple(output, len(sizes), "output_size")
    return tuple(m if o is None else int(o) for o, m in zip(wanted, sizes, strict=True))


def bounds(n: int, out: int) -> list[tuple[int, int]]:
    """Start and end of each adaptive window."""
    return [(i * n // out, -(-(i + 1) * n // out)) for i in range(out)]


def _adaptive(n: int, kind: str) -> Any:
    name = f"adaptive_{kind}_pool{n}d"

    def pool(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
        x, had_batch = batched(input, n, name)
        sizes = tuple(x.shape[2:])
        out = adaptive_sizes(output_size, sizes)
        if all(o and m % o == 0 for m, o in zip(sizes, out, strict=True)):
            kernel = tuple(m // o for m, o in zip(sizes, out, strict=True))
            if kind == "avg":
                result: Any = _AVERAGE[n](x, kernel)
            else:
                result = _LARGEST[n](x, kernel)
        else:
            result = irregular(x, sizes, out, kind)
        if kind == "avg":
            return result if had_batch else result.squeeze(0)
        values, where = result
        if not had_batch:
            values, where = values.squeeze(0), where.squeeze(0)
        return (values, where) if return_indices else values
    pool.__name__ = name
    pool.__doc__ = f"{'Means' if kind == 'avg' else 'Largest elements'} of as many windows as the output has elements."
    return pool


def irregular(x: Any, sizes: tuple[int, ...], out: tuple[int, ...], kind: str) -> Any:
    """Adaptive pooling with windows of different sizes."""
    import itertools
    cells = list(itertools.product(*[bounds(m, o) for m, o in zip(sizes, out, strict=True)]))
    values, where = [], []
    for cell in cells:
        window = x[(slice(None), slice(None), *(slice(a, b) for a, b in cell))]
        flat = window.reshape(*x.shape[:2], -1)
        if kind == "avg":
            values.append(flat.mean(-1))
            continue
        best = flat.max(-1)
        values.append(best.values)
        index, total = best.indices, None
        coordinates = []
        for a, b in reversed(cell):
            coordinates.append(index % (b - a) + a)
            index = index.div(b - a, rounding_mode="floor")
        for m, c in zip(sizes, reversed(coordinates), strict=True):
            total = c if total is None else total * m + c
        where.append(total)
    shape = (*x.shape[:2], *out)
    if not cells:
        empty = x.new_zeros(shape)
        return empty if kind == "avg" else (empty, empty.to(int64))
    stacked = T["stack"](values, -1).reshape(shape)
    return stacked if kind == "avg" else (stacked, T["stack"](where, -1).reshape(shape))


_AVERAGE = {1: avg_pool1d, 2: avg_pool2d, 3: avg_pool3d}
_LARGEST = {1: max_pool1d_with_indices, 2: max_pool2d_with_indices, 3: max_pool3d_with_indices}
adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = (_adaptive(n, "avg") for n in (1, 2, 3))
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = (_adaptive(n, "max") for n in (1, 2, 3))


def _lp_pool(n: int) -> Any:
    def pool(input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
        kernel = ntuple(kernel_size, n)
        x: Any = input
        mean = _AVERAGE[n](x.pow(norm_type), kernel, stride, 0, ceil_mode)
        total = mean.sign() * mean.abs().relu() * math.prod(kernel)
        return total.pow(1.0 / norm_type)  # type: ignore[no-any-return]
    pool.__name__ = f"lp_pool{n}d"
    pool.__doc__ = f"p-norms of {n}-dimensional windows."
    return pool


lp_pool1d, lp_pool2d, lp_pool3d = (_lp_pool(n) for n in (1, 2, 3))


def _unpool(n: int) -> Any:
    def pool(input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
             output_size: Any = None) -> Tensor:
        kernel = ntuple(kernel_size, n)
        strides = kernel if stride is None else ntuple(stride, n)
        pads = ntuple(padding, n)
        x: Any = input
        lead = input.ndim - n
        sizes = tuple(output_size)[-n:] if output_size is not None else tuple(
            (m - 1) * s - 2 * p + k for m, s, p, k in zip(input.shape[lead:], strides, pads, kernel, strict=True))
        if indices.dtype is not int64:
            raise ShapeMismatchError(f"elements in indices should be type int64 but got: {indices.dtype.name}")
        flat = x.new_zeros(*input.shape[:lead], math.prod(sizes))
        where: Any = indices
        spread = flat.scatter(-1, where.reshape(*input.shape[:lead], -1), x.reshape(*input.shape[:lead], -1))
        return spread.reshape(*input.shape[:lead], *sizes)  # type: ignore[no-any-return]
    pool.__name__ = f"max_unpool{n}d"
    pool.__doc__ = f"Elements put back to the positions that max_pool{n}d found them at; zeros elsewhere."
    return pool


max_unpool1d, max_unpool2d, max_unpool3d = (_unpool(n) for n in (1, 2, 3))
__all__ = ["InvalidArgumentError"]
