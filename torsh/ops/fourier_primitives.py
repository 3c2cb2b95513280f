"""The primitive of Fourier transforms over one dimension, the sizes that it takes, and how transforms are written with it."""
from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any, Final, NamedTuple

import numpy as np

from torsh.core.dtype import DType
from torsh.ops.common import permute, slice_dim
from torsh.ops.define import Array
from torsh.ops.expr import OPAQUE, Expr, Op, Shape, emit1

# What is transformed to what: complex numbers, real ones to all or to the first half of their spectrum, such a half to real ones.
COMPLEX, FROM_REAL, TO_HALF, FROM_HALF = "complex", "real", "to_half", "from_half"
# What is computed of a long transform: all; the transforms over its columns; those over its rows; what makes half a spectrum of that.
WHOLE, COLUMNS, ROWS, HALVES = "whole", "columns", "rows", "halves"
MOST_PRIME: Final = 61           # prime factor of a size
MOST_BLOCK: Final = 2048         # numbers of a transform that is done at once
WHOLE_BYTES: Final = 1 << 17    # of numbers of a transform that is done in one go
_VECTOR_BYTES: Final = 64        # of the largest vector registers
_MOST_RANK: Final = 5


class Fourier(NamedTuple):
    """Attribute of ``fourier``.

    kind: see above. n: size of the transform, in numbers of the real or whole side. forward, scale, adjoint: as of the ops of
    :mod:`torsh.ops.fourier`. axis: the dimension. part: of the work.
    """

    kind: str
    axis: int
    n: int
    forward: bool
    scale: int
    adjoint: bool
    part: str = WHOLE

    @property
    def length(self) -> int:
        """Size of the complex transform that is computed: half, if pairs of real numbers are taken for complex ones."""
        paired = self.kind in (TO_HALF, FROM_HALF) and self.n % 2 == 0
        return self.n // 2 if paired else self.n


@lru_cache(maxsize=1024)
def prime_factors(n: int) -> tuple[int, ...]:
    """In ascending order."""
    found, divisor = [], 2
    while divisor * divisor <= n:
        while n % divisor == 0:
            found.append(divisor)
            n //= divisor
        divisor += 1
    return (*found, n) if n > 1 else tuple(found)


@lru_cache(maxsize=1024)
def rows_and_columns(n: int, least: int) -> tuple[int, int] | None:
    """Factors of about the same size, neither smaller than ``least``; None if there are none."""
    for rows in range(int(n ** 0.5) + 1, least - 1, -1):
        if n % rows == 0 and n // rows >= least:
            return (n // rows, rows) if rows < n // rows else (rows, n // rows)
    return None


def neighbours(dtype: DType) -> int:
    """Real numbers that fit in the largest vectors."""
    return _VECTOR_BYTES // dtype.to_real().itemsize


def split(n: int, dtype: DType) -> tuple[int, int] | None:
    """How a transform along contiguous memory is cut in columns and rows; None: several are done side by side."""
    return rows_and_columns(n, neighbours(dtype))


def suits_fourier(n: int, dtype: DType) -> bool:
    """Is there a template for a complex transform of this size? Other sizes have large prime factors, or are huge."""
    if n < 1 or prime_factors(n)[-1:] > (MOST_PRIME,):
        return False
    parts = split(n, dtype)
    return n <= MOST_BLOCK or (parts is not None and parts[0] <= MOST_BLOCK)


# ---- the primitive -----------------------------------------------------------------------------------------------------

def _infer(attr: Fourier, a: Expr) -> tuple[Shape, DType]:
    shape = list(a.shape)
    if attr.part == COLUMNS:
        shape[attr.axis] = 2 * attr.length
        return tuple(shape), a.dtype.to_real()
    if attr.part == ROWS and attr.kind == TO_HALF and attr.n % 2 == 0:
        shape[attr.axis] = 2 * attr.length + neighbours(a.dtype)
        return tuple(shape), a.dtype.to_real()
    shape[attr.axis] = attr.n // 2 + 1 if attr.kind == TO_HALF else attr.n
    return tuple(shape), a.dtype.to_real() if attr.kind == FROM_HALF else a.dtype.to_complex()


def _reference(attr: Fourier, a: Any) -> Array:
    from torsh.ops.fourier import FFT, FFT_FROM_HALF, FFT_TO_HALF
    if attr.part != WHOLE:
        raise NotImplementedError("parts of a transform have no meaning of their own")
    if attr.kind in (COMPLEX, FROM_REAL):
        assert FFT.reference is not None
        return np.asarray(FFT.reference(((attr.axis,), (attr.n,), attr.forward, attr.scale), a))
    op = FFT_TO_HALF if attr.kind == TO_HALF else FFT_FROM_HALF
    assert op.reference is not None
    return np.asarray(op.reference((attr.axis, attr.n, attr.forward, attr.scale, attr.adjoint), a))


# attr: Fourier; arg: (numbers), along the axis as many as the transform takes. The parts of a long one: COLUMNS gives its columns
# (rows, 2, columns) of real and imaginary parts, ROWS takes them.
FOURIER: Final[Op] = Op("fourier", _infer, _reference, kind=OPAQUE)


# ---- transforms in primitives ------------------------------------------------------------------------------------------

def fourier(a: Expr, attr: Fourier) -> Expr | None:
    """A transform over one dimension in primitives; None if there is no template for it.

    The input has at least as many numbers as the transform takes.
    """
    if len(a.shape) > _MOST_RANK or a.dtype.itemsize // (1 + a.dtype.is_complex) < 4 or 0 in a.shape:
        return None
    length, last = attr.length, len(a.shape) - 1
    if not suits_fourier(length, a.dtype):
        return None
    a = slice_dim(a, attr.axis, 0, attr.n // 2 + 1 if attr.kind == FROM_HALF else attr.n)
    if attr.axis != last:
        inner = prod(a.shape[attr.axis + 1:])
        if inner == 1 or length > MOST_BLOCK or a.shape[-1] < neighbours(a.dtype):
            order = (*[d for d in range(last + 1) if d != attr.axis], attr.axis)
            back = tuple([order.index(d) for d in range(last + 1)])
            return permute(_along_last(permute(a, order), attr._replace(axis=last)), back)
        return emit1(FOURIER, a, attr)
    return _along_last(a, attr)


def _along_last(a: Expr, attr: Fourier) -> Expr:
    length = attr.length
    if 2 * length * a.dtype.to_real().itemsize <= WHOLE_BYTES or split(length, a.dtype) is None:
        return emit1(FOURIER, a, attr)
    for part in (COLUMNS, ROWS, *([HALVES] if attr.kind == TO_HALF and attr.n % 2 == 0 else [])):
        a = emit1(FOURIER, a, attr._replace(part=part))
    return a
