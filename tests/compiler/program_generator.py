"""What random programs are made of: decisions, values with bounds of their size and of the error of rounding, leaves.

Values are small whole numbers where possible, so that most results are exact and everything that moves elements is compared
bit by bit. A value that may be off by rounding never decides anything (comparisons, casts to integers, positions).
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np

from torsh.core.dtype import DType, bfloat16, bool_, float16, float32, float64, int8, int16, int32, int64, uint8
from torsh.core.shape import broadcast_shapes
from torsh.ops.common import constant
from torsh.ops.expr import Expr, leaf, scalar

FLOATS = (float32, float32, float32, float64, bfloat16, float16)
INTEGERS = (int64, int64, int32, int16, int8, uint8)
EXACT_TO = {"float16": 2.0 ** 11, "bfloat16": 2.0 ** 8, "float32": 2.0 ** 24, "float64": 2.0 ** 53}
EPS = {"float16": 2.0 ** -10, "bfloat16": 2.0 ** -7, "float32": 2.0 ** -22, "float64": 2.0 ** -50}
LARGEST = 30_000.0          # of floats, so that halves do not overflow
MOST_ELEMENTS = 20_000


class Choices(Protocol):
    """Where decisions come from: a random generator or hypothesis."""

    def integer(self, low: int, high: int) -> int: ...


class RandomChoices:
    """Decisions of a seeded generator."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def integer(self, low: int, high: int) -> int:
        """A number from low to high, both included."""
        return int(self.random.integers(low, high + 1))


@dataclass
class Known:
    """An expression, a bound of its values, how far off they may be, and whether they are whole numbers."""

    e: Expr
    bound: float
    error: float = 0.0
    whole: bool = True
    special: bool = False        # may contain NaN or infinities

    @property
    def shape(self) -> tuple[int, ...]:
        return self.e.shape

    @property
    def dtype(self) -> DType:
        return self.e.dtype

    @property
    def exact(self) -> bool:
        return self.error == 0


@dataclass
class Program:
    """What a test runs."""

    outputs: list[Expr]
    in_place: list[tuple[int, int]]
    leaves: list[Any]
    scalars: list[Any]
    tolerances: list[float]


class Generator:
    """Builds one random program."""

    def __init__(self, choices: Choices, special: bool = False, halves: bool = True, large: bool = False) -> None:
        self.choices = choices
        self.special = special
        self.floats = FLOATS if halves else FLOATS[:4]
        self.leaves: list[Any] = []
        self.scalars: list[Any] = []
        self.values: list[Known] = []
        self.numbers = np.random.default_rng(choices.integer(0, 10_000))
        self.extents = (1, 1, 2, 3, 4, 5, 7, 8, 16, 17, 33) + ((64, 100, 130, 4099) if large else ())
        self.most = 300_000 if large else MOST_ELEMENTS

    # ---- decisions ---------------------------------------------------------------------------------------------------

    def chance(self, percent: int) -> bool:
        """True in so many cases of 100."""
        return self.choices.integer(0, 99) >= 100 - percent

    def pick(self, options: Sequence[Any]) -> Any:
        """One of the options."""
        return options[self.choices.integer(0, len(options) - 1)]

    def shape(self, least: int = 0, most: int = 4) -> tuple[int, ...]:
        """A random shape."""
        rank = self.choices.integer(least, most)
        dims: list[int] = []
        for _ in range(rank):
            n = 0 if self.chance(2) else self.pick(self.extents)
            dims.append(n if prod(dims) * n <= self.most // 4 else 1)
        return tuple(dims)

    def value(self, wanted: Callable[[Known], bool] | None = None) -> Known:
        """A value made so far (later ones are likelier), or a new leaf; one that fulfils a condition if there is one."""
        fitting = [v for v in self.values if wanted is None or wanted(v)]
        if not fitting or self.chance(8):
            new = self.leaf(self.shape(), None)
            return new if wanted is None or wanted(new) else fitting[-1] if fitting else self.leaf((3, 4), float32)
        return fitting[max(self.choices.integer(0, len(fitting) - 1), self.choices.integer(0, len(fitting) - 1))]

    # ---- leaves ------------------------------------------------------------------------------------------------------

    def dtype(self) -> DType:
        """A random dtype."""
        kind = self.choices.integer(0, 9)
        return self.pick(self.floats) if kind < 6 else self.pick(INTEGERS) if kind < 9 else bool_

    def leaf(self, shape: tuple[int, ...], dtype: DType | None, low: int = -3, high: int = 3) -> Known:
        """A new leaf."""
        dtype = dtype or self.dtype()
        whole, special = True, False
        if dtype is bool_:
            array: Any = self.numbers.random(shape) < 0.5
        elif dtype.category == 1:
            array = self.numbers.integers(low if dtype.is_signed else max(low, 0), high + 1, shape)
        elif self.chance(70):
            array = self.numbers.integers(low, high + 1, shape)
            if self.special and self.chance(50):
                array = np.where(self.numbers.random(shape) < 0.15, self.numbers.choice([np.nan, np.inf, -np.inf, -0.0], shape),
                                 array)
                special = True
        else:
            array = self.numbers.random(shape) * (high - low) + low
            whole = False
        array = np.asarray(array).astype(dtype.numpy)
        e = leaf(len(self.leaves), array.shape, dtype, False)
        self.leaves.append(array)
        known = Known(e, max(abs(low), abs(high)), 0, whole, special)
        self.values.append(known)
        return known

    def scalar(self) -> Known:
        """A Python number."""
        category = self.pick((1, 2, 2))
        value = self.choices.integer(-2, 3) if category == 1 else self.choices.integer(-4, 4) / 2
        e = scalar(len(self.scalars), category)
        self.scalars.append(value)
        return Known(e, 3, 0, float(value).is_integer())

    def partner(self, a: Known) -> Known:
        """An operand that broadcasts with ``a``."""
        kind = self.choices.integer(0, 9)
        if kind == 0:
            return self.scalar()
        if kind == 1 and a.dtype is not bool_:
            number = self.choices.integer(-2, 2) if a.dtype.is_signed else self.choices.integer(0, 2)
            value = float(number) if a.dtype.category == 2 else number
            return Known(constant(value, a.dtype), 2)
        fitting = [v for v in self.values if broadcasts(a.shape, v.shape, self.most)]
        if fitting and kind < 8:
            return fitting[max(self.choices.integer(0, len(fitting) - 1), self.choices.integer(0, len(fitting) - 1))]
        shape = tuple([1 if self.chance(30) else n for n in a.shape])
        return self.leaf(shape[self.choices.integer(0, len(shape)):] if self.chance(30) else shape, None)

    # ---- results -----------------------------------------------------------------------------------------------------

    def add(self, e: Expr, bound: float, error: float = 0.0, whole: bool = True, special: bool = False) -> Known | None:
        """Note a value, unless it is too large, or too uncertain to compare."""
        if prod(e.shape) > self.most:
            return None
        dtype = e.dtype
        if dtype.category == 2:
            if bound > LARGEST or (error > 0.02 * max(bound, 1) and dtype.itemsize > 2) or error > 0.2 * max(bound, 1):
                return None
            if bound > EXACT_TO[dtype.name] or not whole:
                error += EPS[dtype.name] * bound
        elif dtype.category == 1:
            if error:
                return None
            bits = 8 * dtype.itemsize - dtype.is_signed
            bound, whole = min(bound, 2.0 ** bits), True
            if not dtype.is_signed:
                bound = 2.0 ** bits
        else:
            bound, whole, error, special = 1, True, 0, False
        known = Known(e, bound, error, whole, special)
        self.values.append(known)
        return known

    def program(self, operations: Sequence[Callable[[Generator], None]], count: int) -> Program:
        """A program of about so many operations."""
        for _ in range(self.choices.integer(1, 3)):
            self.leaf(self.shape(1), None)
        for _ in range(count):
            self.pick(operations)(self)
        computed = [v for v in self.values if v.e.op.name != "leaf"] or self.values
        chosen = [self.pick(computed[-8:]) if self.chance(70) else self.pick(self.values)
                  for _ in range(self.choices.integer(1, 4))]
        outputs, in_place = [v.e for v in chosen], []
        for position, array in enumerate(self.leaves):
            fitting = [n for n, e in enumerate(outputs) if e.shape == array.shape and e.dtype.numpy == array.dtype
                       and n not in dict(in_place)]
            if fitting and self.chance(60):
                in_place.append((self.pick(fitting), position))
        return Program(outputs, in_place, self.leaves, self.scalars, [4 * v.error for v in chosen])


def broadcasts(a: tuple[int, ...], b: tuple[int, ...], most: int) -> bool:
    """Do the shapes broadcast to one that is not too large?"""
    if any(m != n and 1 not in (m, n) for m, n in zip(reversed(a), reversed(b), strict=False)):
        return False
    return prod(broadcast_shapes(a, b)) <= most
