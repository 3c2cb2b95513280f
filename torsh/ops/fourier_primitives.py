"""The primitive of Fourier transforms over one dimension, the sizes that it takes, and how transforms are written with it."""
from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any, Final, NamedTuple

import numpy as np

from torsh.core.dtype import DType
from torsh.ops.common import number, permute
from torsh.ops.define import Array
from torsh.ops.expr import OPAQUE, Expr, Op, Shape, emit1, emit2
from torsh.ops.shape import CONSTANT_PAD

# What is transformed to what: complex numbers, real ones to all or to the first half of their spectrum, such a half to real ones.
COMPLEX, FROM_REAL, TO_HALF, FROM_HALF = "complex", "real", "to_half", "from_half"
# What is computed of a long transform: all; the transforms over its columns; those over its rows; what makes half a spectrum of that.
WHOLE, COLUMNS, ROWS, HALVES = "whole", "columns", "rows", "halves"
MOST_PRIME: Final = 61           # prime factor of a size
MOST_BLOCK: Final = 2048         # numbers of a transform that is done at once
WHOLE_BYTES: Final = 1 << 17     # of numbers of a transform that is done in one go
CHIRP_BYTES: Final = 1 << 19     # of numbers of the transforms that one with a large prime factor is computed by
_VECTOR_BYTES: Final = 64        # of the largest vector registers
_MOST_RANK: Final = 5


class Fourier(NamedTuple):
    """Attribute of ``fourier``.

    kind: see above. n: size of the transform, in numbers of the real or whole side. forward, scale, adjoint: as of the ops of
    :mod:`torsh.ops.fourier`. axis: the dimension. given: how many numbers there are, the others are zero. part: of the work.
    """

    kind: str
    axis: int
    n: int
    forward: bool
    scale: int
    adjoint: bool
    given: int
    part: str = WHOLE

    @property
    def length(self) -> int:
        """Size of the complex transform that is computed: half, if pairs of real numbers are taken for complex ones."""
        return self.n // 2 if self.paired else self.n

    @property
    def paired(self) -> bool:
        """Are pairs of real numbers taken for complex ones?"""
        return self.kind != COMPLEX and self.n % 2 == 0

    @property
    def makes_half(self) -> bool:
        """Is half a spectrum made of the transform of pairs?"""
        return self.kind in (TO_HALF, FROM_REAL) and self.paired

    @property
    def block(self) -> int:
        """Complex numbers that are in memory if transforms are done side by side."""
        return self.n if self.kind == FROM_REAL else self.length

    @property
    def taken(self) -> int:
        """Numbers that the transform takes, of those that the input has."""
        return self.n // 2 + 1 if self.kind == FROM_HALF else self.n


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


def neighbours(real: DType) -> int:
    """Real numbers that fit in the largest vectors."""
    return _VECTOR_BYTES // real.itemsize


@lru_cache(maxsize=1024)
def chirp_length(n: int, group: int) -> int:
    """Size of the transforms that one is computed by which can neither be cut nor is short, or has a large prime factor; else 0."""
    if prime_factors(n)[-1:] <= (MOST_PRIME,) and (n <= MOST_BLOCK // 2 or rows_and_columns(n, group) is not None):
        return 0
    least, found = max(2 * n - 1, group * group), 1 << 62
    for odd in (1, 3, 5, 9, 15):
        size = odd * group
        while size < least or rows_and_columns(size, group) is None:
            size *= 2
        found = min(found, size)
    return found


def split(n: int, real: DType) -> tuple[int, int] | None:
    """How a transform along contiguous memory is cut in rows and columns; None: several are done side by side."""
    group = neighbours(real)
    return rows_and_columns(chirp_length(n, group) or n, group)


def suits_fourier(n: int, real: DType) -> bool:
    """Is there a template for a complex transform of this size? Not for huge ones, nor long ones with a large prime factor."""
    total = chirp_length(n, neighbours(real))
    if total:
        return 2 * total * real.itemsize <= CHIRP_BYTES
    parts = split(n, real)
    return parts is None or parts[0] <= MOST_BLOCK


# ---- the primitive -----------------------------------------------------------------------------------------------------

def _infer(attr: Fourier, a: Expr) -> tuple[Shape, DType]:
    shape = list(a.shape)
    if attr.part == COLUMNS:
        shape[attr.axis] = 2 * attr.length
        return tuple(shape), a.dtype.to_real()
    if attr.part == ROWS and attr.makes_half:
        shape[attr.axis] = 2 * attr.length + neighbours(a.dtype.to_real())
        return tuple(shape), a.dtype.to_real()
    shape[attr.axis] = attr.n // 2 + 1 if attr.kind == TO_HALF else attr.n
    return tuple(shape), a.dtype.to_real() if attr.kind == FROM_HALF else a.dtype.to_complex()


def _reference(attr: Fourier, a: Any) -> Array:
    from torsh.ops.fourier import FFT, FFT_FROM_HALF, FFT_TO_HALF
    assert attr.part == WHOLE, "parts only exist in compiled programs"
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

def resized(e: Expr, shape: Shape) -> Expr:
    """Every dimension cut off at its end, or padded there with zeros."""
    if e.shape == shape:
        return e
    pads = tuple([(0, want - have) for have, want in zip(e.shape, shape, strict=True)])
    return emit2(CONSTANT_PAD, e, number(0, e.dtype), pads)


def fourier(a: Expr, attr: Fourier) -> Expr | None:
    """A transform over one dimension in primitives; None if there is no template for it."""
    real = a.dtype.to_real()
    if len(a.shape) > _MOST_RANK or real.itemsize < 4 or 0 in a.shape or not suits_fourier(attr.length, real):
        return None
    chirped, last = chirp_length(attr.length, neighbours(real)) > 0, len(a.shape) - 1
    # The template takes zeros for numbers that are missing, but not where it looks at several numbers at a time.
    if attr.kind == FROM_HALF or chirped or (attr.paired and attr.given % 2) or attr.given < 2 * neighbours(real):
        attr = attr._replace(given=attr.taken)
    a = resized(a, (*a.shape[:attr.axis], attr.given, *a.shape[attr.axis + 1:]))
    if attr.axis == last:
        return _along_last(a, attr)
    if prod(a.shape[attr.axis + 1:]) > 1 and attr.block <= MOST_BLOCK and a.shape[-1] >= neighbours(real) and not chirped:
        return emit1(FOURIER, a, attr)
    order = (*[d for d in range(last + 1) if d != attr.axis], attr.axis)
    back = tuple([order.index(d) for d in range(last + 1)])
    return permute(_along_last(permute(a, order), attr._replace(axis=last)), back)


def _along_last(a: Expr, attr: Fourier) -> Expr:
    real = a.dtype.to_real()
    if (2 * attr.length * real.itemsize <= WHOLE_BYTES or split(attr.length, real) is None
            or chirp_length(attr.length, neighbours(real))):
        return emit1(FOURIER, a, attr)
    for part in (COLUMNS, ROWS, *([HALVES] if attr.makes_half else [])):
        a = emit1(FOURIER, a, attr._replace(part=part))
    return a
