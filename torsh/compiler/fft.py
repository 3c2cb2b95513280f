"""Calls of the template of Fourier transforms, and the tables that it reads.

A complex transform of n numbers along contiguous memory is written as one over rows and columns, n = rows * columns: the numbers
are ``rows`` lines of ``columns`` neighbours. All columns are transformed, as many at a time as vectors have lanes, multiplied with
twiddle factors and stored transposed; then transforms over the other dimension, again as many side by side, give the result in
order. Short transforms, and those along other dimensions, have several transforms side by side in vectors instead. Either way
each transform of a block is a few passes (``fft_passes.py``) over memory near the processor.

Sizes with large prime factors are convolutions with a *chirp*, w to the power of k * k / 2, which transforms of another size compute.

Sources: Bluestein, "A linear filtering approach to the computation of the discrete Fourier transform" (1970); Bailey, "FFTs in
External or Hierarchical Memory" (1990).
"""
from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any, Final

import numpy as np

from torsh.compiler.kernel import BufferRef, Call, TemplateKernel
from torsh.compiler.templates import coalesce
from torsh.core.dtype import DType, dtype_by_name
from torsh.core.shape import contiguous_strides
from torsh.ops.fourier_primitives import (
    COLUMNS,
    FROM_HALF,
    HALVES,
    MOST_PRIME,
    TO_HALF,
    WHOLE,
    Fourier,
    chirp_length,
    neighbours,
    prime_factors,
    split,
)

RADICES: Final = (1, 2, 3, 4, 5, 7, 8)      # of passes with code of their own
MOST_RADIX: Final = MOST_PRIME
MOST_PASSES: Final = 24
BATCH: Final = 5
HALVES_BLOCK: Final = 4096                  # numbers of a spectrum that are one unit of work
# Forms of transforms: of all numbers that they take; with zeros at the end; by convolutions.
FULL, CUT, CHIRPED = "full", "cut", "chirped"
TableKey = tuple[int, str, int, bool]       # length, dtype of the real numbers, rows (0: it is not cut), pairs of real numbers?
# src, out: strides in real numbers; of the items' dimensions, of the transformed one, and of the dimension that lanes lie along.
FOURIER_PARAMETERS: Final = (
    "out_slot", "out_offset", "src_slot", "src_offset", "table", "items", "extents[5]", "src_strides[5]",
    "out_strides[5]", "src_step", "out_step", "inner", "n", "given", "scale", "inverse", "conjugate", "adjoint")
# Head of a table: length, rows, columns, where (in bytes) twiddles between the two and those of halves are, the length of the transforms
# that are computed, where the chirp is (planes of that length), and what the chirp's convolution multiplies with; then two plans.
HEAD: Final = ("length", "rows", "columns", "between", "halves", "total", "chirp", "filter")
PLAN: Final = 8                             # word where the first plan begins: number of passes, then words per pass
PLAN_WORDS: Final = 1 + 5 * MOST_PASSES     # per pass: function, radix, columns, done, where its twiddles are
_HEAD_BYTES: Final = 2048
_AT_ONCE: Final = 1 << 14                   # numbers of a table that are computed at a time


@lru_cache(maxsize=256)
def radices(n: int) -> tuple[int, ...]:
    """The radices of the passes of a transform."""
    factors = prime_factors(n)
    twos = factors.count(2)
    fours = (0, 2, 1)[twos % 3]
    powers = [2] if twos == 1 else [8] * ((twos - 2 * fours) // 3) + [4] * fours
    return (*powers, *[f for f in factors if f > 2]) or (1,)


def fourier_table(key: TableKey) -> Any:
    """The table of a transform: plans of passes and twiddle factors, as bytes."""
    length, dtype_name, rows, paired = key
    dtype = dtype_by_name(dtype_name).numpy
    parts: list[Any] = []
    place = _HEAD_BYTES

    def kept(values: Any) -> int:
        nonlocal place
        parts.append(np.ascontiguousarray(values, dtype).view(np.uint8).reshape(-1))
        where = place
        padding = -parts[-1].size % 64
        parts.append(np.zeros(padding, np.uint8))
        place += parts[-2].size + padding
        return where

    head = np.zeros(_HEAD_BYTES // 8, np.int64)
    total = chirp_length(length, neighbours(dtype_by_name(dtype_name))) or length
    columns = total // rows if rows else 1
    head[:3] = length, rows or length, columns
    head[5] = total
    for number, size in enumerate((rows or length, columns)):
        plan = _passes(size, kept)
        start = PLAN + number * PLAN_WORDS
        head[start:start + len(plan)] = plan
    if rows:
        cosines, sines = roots(np.arange(rows)[:, None] * np.arange(columns), total)
        head[3] = kept(np.stack([cosines, -sines], 1))
    if paired:
        head[4] = kept(roots(np.arange(length + 1), 2 * length))
    if total != length:
        chirp, product = _chirp(length, total)
        head[6], head[7] = kept(chirp), kept(product)
    return np.concatenate([head.view(np.uint8), *parts])


def _chirp(length: int, total: int) -> tuple[Any, Any]:
    """(the chirp, the transform of the convolution's filter), as planes of real and imaginary parts."""
    places = np.arange(length)
    cosines, sines = roots(places * places, 2 * length, np.longdouble)
    wave = np.zeros(total, np.clongdouble)
    wave.real[:length], wave.imag[:length] = cosines, sines
    chirp = wave.conj()
    wave[total - length + 1:] = wave[length - 1:0:-1]
    product = np.fft.fft(wave) / total
    return np.stack([chirp.real, chirp.imag]), np.stack([product.real, product.imag])


def roots(places: Any, n: int, dtype: Any = np.float64) -> Any:
    """(cosines, sines) of 2 pi times places / n, from angles of an eighth of a circle, which are exact to the last bit."""
    result = np.empty((2, *places.shape), dtype)
    if places.size > _AT_ONCE and len(places) > 1:          # what is in between stays in the cache
        step = max(1, _AT_ONCE * len(places) // places.size)
        for first in range(0, len(places), step):
            result[:, first:first + step] = roots(places[first:first + step], n, dtype)
        return result
    quarters, rest = np.divmod(4 * (places % n), n)
    beyond = 2 * rest > n
    angles = np.where(beyond, n - rest, rest).astype(dtype) * (np.arctan(dtype(1)) * 2) / n
    near, far = np.cos(angles), np.sin(angles)
    near, far = np.where(beyond, far, near), np.where(beyond, near, far)
    odd, turned = quarters % 2 > 0, quarters > 1
    cosines, sines = np.where(odd, -far, near), np.where(odd, near, far)
    result[0], result[1] = np.where(turned, -cosines, cosines), np.where(turned, -sines, sines)
    return result


def _passes(n: int, kept: Any) -> list[int]:
    """The plan of a block's transform; ``kept`` puts numbers into the table."""
    chosen = radices(n)
    words, done, left = [len(chosen)], 1, n
    for radix in chosen:
        columns = left // radix
        cosines, sines = roots(np.arange(1, columns)[:, None] * np.arange(1, radix), left)
        twiddles = np.stack([cosines, -sines], -1).reshape(-1)
        if radix not in RADICES:
            half = np.arange(1, radix // 2 + 1)
            twiddles = np.concatenate([np.stack(roots(half[:, None] * half, radix), -1).reshape(-1), twiddles])
        function = RADICES.index(radix) if radix in RADICES else len(RADICES)
        words += (function, radix, columns, done, kept(twiddles))
        done, left = done * radix, columns
    return words


def cut(attr: Fourier, real: DType, last: bool) -> tuple[int, int] | None:
    """(rows, columns) of a transform over the last dimension that is cut."""
    return split(attr.length, real) if last else None


def table_key(attr: Fourier, real: DType, rank: int) -> TableKey:
    """What names the table of a transform of ``rank`` dimensions."""
    parts = cut(attr, real, attr.axis == rank - 1)
    return attr.length, real.name, parts[0] if parts else 0, attr.paired


def fourier_call(attr: Fourier, real: DType, out: BufferRef, src: BufferRef, table: BufferRef, shape: Sequence[int],
                 strides: Sequence[int], out_shape: Sequence[int], parts: tuple[bool, bool]) -> Call:
    """The call for a transform.

    real: dtype of the real numbers. shape, strides (in elements): of the source; the result is contiguous. parts: are source and
    result complex?
    """
    last = attr.axis == len(shape) - 1
    sources = [s * (1 + parts[0]) for s in strides]
    outs = [s * (1 + parts[1]) for s in contiguous_strides(out_shape)]
    others = [d for d in range(len(shape)) if d != attr.axis]
    inner = 1
    if not last:
        inner = shape[others.pop()]
        # Dimensions that continue the last one in both operands are lanes, too.
        while others and others[-1] > attr.axis and sources[others[-1]] == inner * sources[-1] and (
                outs[others[-1]] == inner * outs[-1]):
            inner = inner * shape[others.pop()]
    extents, (item_sources, item_outs) = coalesce([shape[d] for d in others], *[[s[d] for d in others] for s in (sources, outs)])
    fill = (0,) * (BATCH - len(extents))
    items = prod(extents)
    # Inverse transforms of real numbers are conjugates of transforms.
    half = attr.kind == TO_HALF or attr.makes_half
    inverse = attr.kind == FROM_HALF or not (half or attr.forward)
    conjugate = attr.forward if attr.kind == FROM_HALF else half and not attr.forward
    params = (out.slot, out.offset, src.slot, src.offset, table.slot, items, *(1 for _ in fill), *extents, *fill, *item_sources,
              *fill, *item_outs, sources[attr.axis], outs[attr.axis], inner, attr.n, attr.given, attr.scale,
              int(inverse), int(conjugate), int(attr.adjoint))
    lines = cut(attr, real, last)
    layout = "columns" if not last else "rows" if lines else "lanes"
    total = 2 * chirp_length(attr.length, neighbours(real)) or attr.length
    form = CHIRPED if total > attr.length else CUT if attr.given < attr.taken else FULL
    kernel = TemplateKernel("fourier", (real.name, attr.kind, attr.paired, layout, attr.part, form))
    units = _units(attr, neighbours(real), lines, layout, items, inner)
    return Call(kernel, params, units, 4 * total * items * inner, f"fourier_{attr.kind}")


def _units(attr: Fourier, group: int, lines: tuple[int, int] | None, layout: str, items: int, inner: int) -> int:
    if layout == "columns":
        return items * -(-inner // group)
    if lines is None:
        return -(-items // group)
    if attr.part == WHOLE:
        return items
    if attr.part == HALVES:
        return items * -(-attr.length // HALVES_BLOCK)
    return items * -(-lines[attr.part == COLUMNS] // group)
