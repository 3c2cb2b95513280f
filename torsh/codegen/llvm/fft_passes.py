"""The passes of Fourier transforms as LLVM text: a library that all transforms of a dtype call.

A pass is one step of Stockham's algorithm: it takes ``radix`` complex numbers that lie far apart, transforms them, multiplies them
with twiddle factors and puts them side by side, so that no bits of positions are reversed at the end. Each number is a pair of
vectors, of real and of imaginary parts, whose lanes belong to different transforms: lanes never meet here.

Sources: Stockham, "High-speed convolution and correlation" (1966); Van Loan, "Computational Frameworks for the Fast Fourier
Transform" (1992).
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from torsh.codegen.llvm.numeric import Numeric, numeric
from torsh.codegen.llvm.template_builder import Builder, Module, Operand, mangled
from torsh.codegen.llvm.writer import literal
from torsh.compiler.fft import MOST_RADIX, RADICES, roots

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target

Pair = tuple[str, str]       # a vector of real parts and one of imaginary parts

# Numbers are ``step`` elements apart, of which the imaginary part lies ``imaginary`` behind the real one. There are ``columns``
# butterflies, each over ``done`` neighbours.
PASS: Final = ("ptr src", "i64 src_step", "i64 src_imaginary", "ptr dst", "i64 dst_step", "i64 dst_imaginary", "i64 columns",
               "i64 done", "ptr twiddles", "i64 radix")


@dataclass(slots=True)
class Complex:
    """Arithmetic on pairs of vectors."""

    b: Builder
    number: Numeric
    lanes: int

    @property
    def vector(self) -> str:
        """LLVM type of a vector."""
        return self.number.vector(self.lanes)

    def constant(self, value: float) -> str:
        """A number in all lanes."""
        kind = self.number.kind
        return "<" + ", ".join([f"{kind} {literal(value, kind)}"] * self.lanes) + ">"

    def plus(self, x: str, y: str) -> str:
        """x + y."""
        return self.b(f"fadd {self.vector} {x}, {y}")

    def minus(self, x: str, y: str) -> str:
        """x - y."""
        return self.b(f"fsub {self.vector} {x}, {y}")

    def times(self, x: str, y: str) -> str:
        """x * y."""
        return self.b(f"fmul {self.vector} {x}, {y}")

    def negative(self, x: str) -> str:
        """-x."""
        return self.b(f"fneg {self.vector} {x}")

    def multiply_add(self, x: str, y: str, z: str) -> str:
        """x * y + z."""
        name = f"@llvm.fmuladd.v{self.lanes}{mangled(self.number.kind)}"
        self.b.module.declare(f"{self.vector} {name}({self.vector}, {self.vector}, {self.vector})")
        return self.b(f"call {self.vector} {name}({self.vector} {x}, {self.vector} {y}, {self.vector} {z})")

    def add(self, x: Pair, y: Pair) -> Pair:
        """x + y of complex numbers."""
        return self.plus(x[0], y[0]), self.plus(x[1], y[1])

    def sub(self, x: Pair, y: Pair) -> Pair:
        """x - y of complex numbers."""
        return self.minus(x[0], y[0]), self.minus(x[1], y[1])

    def mul(self, x: Pair, y: Pair) -> Pair:
        """x * y of complex numbers."""
        return (self.multiply_add(self.negative(x[1]), y[1], self.times(x[0], y[0])),
                self.multiply_add(x[1], y[0], self.times(x[0], y[1])))

    def add_turned(self, x: Pair, y: Pair, sign: int) -> Pair:
        """x - i y, or x + i y if the sign is negative."""
        if sign > 0:
            return self.plus(x[0], y[1]), self.minus(x[1], y[0])
        return self.minus(x[0], y[1]), self.plus(x[1], y[0])

    def load(self, pointer: Operand, imaginary: Operand) -> Pair:
        """The number whose real parts are at an address."""
        return self._read(pointer), self._read(self.b.at(pointer, imaginary, self.number.kind))

    def _read(self, pointer: Operand) -> str:
        return self.b.load(self.vector, pointer, self.number.kind_bytes)

    def store(self, x: Pair, pointer: Operand, imaginary: Operand) -> None:
        """Store a number, its real parts at an address."""
        self.b.store(self.vector, x[0], pointer, self.number.kind_bytes)
        self.b.store(self.vector, x[1], self.b.at(pointer, imaginary, self.number.kind), self.number.kind_bytes)

    def spread(self, pointer: Operand, place: Operand) -> str:
        """One number of memory in all lanes."""
        kind = self.number.kind
        return self.b.splat(kind, self.lanes, self.b.load(kind, self.b.at(pointer, place, kind), self.number.kind_bytes))


# ---- butterflies -------------------------------------------------------------------------------------------------------

def _two(c: Complex, x: Sequence[Pair]) -> list[Pair]:
    return [c.add(x[0], x[1]), c.sub(x[0], x[1])]


def _four(c: Complex, x: Sequence[Pair]) -> list[Pair]:
    a, b = _two(c, x[0::2])
    d, e = _two(c, x[1::2])
    return [c.add(a, d), c.add_turned(b, e, 1), c.sub(a, d), c.add_turned(b, e, -1)]


def _eight(c: Complex, x: Sequence[Pair]) -> list[Pair]:
    even, odd = _four(c, x[0::2]), _four(c, x[1::2])
    half = c.constant(math.sqrt(0.5))
    result: list[Pair] = [("", "")] * 8
    result[0], result[4] = _two(c, (even[0], odd[0]))
    result[2], result[6] = c.add_turned(even[2], odd[2], 1), c.add_turned(even[2], odd[2], -1)
    for k in (1, 3):       # times (1 - i) / sqrt(2), and that times -i
        total, rest = c.plus(*odd[k]), c.minus(odd[k][1], odd[k][0])
        re, im = (total, rest) if k == 1 else (rest, c.negative(total))
        minus_half = c.negative(half)
        result[k] = c.multiply_add(half, re, even[k][0]), c.multiply_add(half, im, even[k][1])
        result[k + 4] = c.multiply_add(minus_half, re, even[k][0]), c.multiply_add(minus_half, im, even[k][1])
    return result


def _odd(c: Complex, x: Sequence[Pair]) -> list[Pair]:
    """Any odd number: inputs that lie opposite each other share products."""
    n, first = len(x), x[0]
    sums = [c.add(x[j], x[n - j]) for j in range(1, n // 2 + 1)]
    rests = [c.sub(x[j], x[n - j]) for j in range(1, n // 2 + 1)]
    total = first
    for s in sums:
        total = c.add(total, s)
    result: list[Pair] = [total] * n
    for k in range(1, n // 2 + 1):
        even, odd = first, ("", "")
        for j, (s, d) in enumerate(zip(sums, rests, strict=True), 1):
            cosine, sine = [c.constant(float(value)) for value in roots(np.int64(j * k), n)]
            even = c.multiply_add(s[0], cosine, even[0]), c.multiply_add(s[1], cosine, even[1])
            odd = ((c.times(d[0], sine), c.times(d[1], sine)) if j == 1 else
                   (c.multiply_add(d[0], sine, odd[0]), c.multiply_add(d[1], sine, odd[1])))
        result[k], result[n - k] = c.add_turned(even, odd, 1), c.add_turned(even, odd, -1)
    return result


def _five(c: Complex, x: Sequence[Pair]) -> list[Pair]:
    """The sum of the two cosines is known exactly."""
    sums, rests = [c.add(x[j], x[5 - j]) for j in (1, 2)], [c.sub(x[j], x[5 - j]) for j in (1, 2)]
    total, apart = c.add(*sums), c.sub(*sums)
    quarter, root = c.constant(-0.25), c.constant(math.sqrt(5) / 4)
    sines = [c.constant(float(value)) for value in roots(np.arange(1, 3), 5)[1]]
    result = [c.add(x[0], total)] * 5
    middle = [c.multiply_add(quarter, total[part], x[0][part]) for part in (0, 1)]
    for k, factor in ((1, root), (2, c.negative(root))):
        re, im = [c.multiply_add(factor, apart[part], middle[part]) for part in (0, 1)]
        first, second = sines if k == 1 else (sines[1], c.negative(sines[0]))
        odd_re, odd_im = [c.multiply_add(first, rests[0][part], c.times(second, rests[1][part])) for part in (0, 1)]
        result[k], result[5 - k] = c.add_turned((re, im), (odd_re, odd_im), 1), c.add_turned((re, im), (odd_re, odd_im), -1)
    return result


_BUTTERFLIES: Final[dict[int, Callable[[Complex, Sequence[Pair]], list[Pair]]]] = {
    1: lambda _, x: list(x), 2: _two, 3: _odd, 4: _four, 5: _five, 7: _odd, 8: _eight}


# ---- passes ------------------------------------------------------------------------------------------------------------

def write_passes(module: Module, dtype_name: str, target: Target, symbol: str) -> None:
    """The library: a table of passes, those of ``RADICES`` in order, then the one for any odd radix."""
    number = numeric(dtype_name, True)
    lanes = target.lanes(number.kind_bytes)
    names = []
    for radix in (*RADICES, 0):
        names.append(f"pass{radix}")
        b = Builder(module, names[-1], ", ".join(" %".join(name.split()) for name in PASS))
        (_write_pass if radix else _write_any)(Complex(b, number, lanes), radix)
        b.finish()
    module.functions.append(f"@{symbol} = constant [{len(names)} x ptr] [{', '.join(f'ptr @{name}' for name in names)}]")


def _each_butterfly(b: Builder, kind: str, body: Callable[[str, str, Operand], None], radix: Operand, twiddled: Operand) -> None:
    """``body(address of the first input, address of the first output, twiddle factors or "")`` for all butterflies.

    twiddled: twiddle factors per column, in numbers. The first column has none.
    """
    def column(p: Operand, twiddles: str) -> None:
        from_row = b.mul(b.mul(p, "%done"), "%src_step")
        to_row = b.mul(b.mul(b.mul(p, "%done"), radix), "%dst_step")
        src, dst = b.at("%src", from_row, kind), b.at("%dst", to_row, kind)
        b.loop(0, "%done", 1, lambda q: body(b.at(src, b.mul(q, "%src_step"), kind), b.at(dst, b.mul(q, "%dst_step"), kind), twiddles))

    column(0, "")
    b.loop(1, "%columns", 1, lambda p: column(p, b.at("%twiddles", b.mul(b.sub(p, 1), twiddled), kind)))


def _write_pass(c: Complex, radix: int) -> None:
    b, kind = c.b, c.number.kind
    apart = b.mul(b.mul("%columns", "%done"), "%src_step")
    aside = b.mul("%done", "%dst_step")
    inputs, outputs = [b.mul(apart, j) for j in range(radix)], [b.mul(aside, j) for j in range(radix)]

    def butterfly(src: str, dst: str, twiddles: Operand) -> None:
        values = [c.load(b.at(src, place, kind), "%src_imaginary") for place in inputs]
        values = _BUTTERFLIES[radix](c, values)
        for k, (value, place) in enumerate(zip(values, outputs, strict=True)):
            if k and twiddles:
                value = c.mul(value, (c.spread(twiddles, 2 * k - 2), c.spread(twiddles, 2 * k - 1)))
            c.store(value, b.at(dst, place, kind), "%dst_imaginary")

    _each_butterfly(b, kind, butterfly, radix, 2 * (radix - 1))


def _write_any(c: Complex, _: int) -> None:
    """A pass of any odd radix, by its definition: twiddles begin with the cosines and sines of the butterfly."""
    b, kind, size = c.b, c.number.kind, c.lanes * c.number.kind_bytes
    work = b.stack(MOST_RADIX // 2 * 4 * size)
    half = b.div("%radix", 2)
    apart = b.mul(b.mul("%columns", "%done"), "%src_step")
    aside = b.mul("%done", "%dst_step")
    pairs = 2 * c.lanes
    constants = "%twiddles"
    after = b.mul(b.mul(half, half), 2)

    def butterfly(src: str, dst: str, twiddles: Operand) -> None:
        def opposite(j: str, *total: str) -> Sequence[Operand]:
            near = c.load(b.at(src, b.mul(apart, j), kind), "%src_imaginary")
            far = c.load(b.at(src, b.mul(apart, b.sub("%radix", j)), kind), "%src_imaginary")
            near, far = c.add(near, far), c.sub(near, far)
            place = b.at(work, b.mul(b.sub(j, 1), 2 * pairs), kind)
            c.store(near, place, c.lanes)
            c.store(far, b.at(place, pairs, kind), c.lanes)
            return c.add((total[0], total[1]), near)

        first = c.load(src, "%src_imaginary")
        total = b.loop(1, b.add(half, 1), 1, opposite, [(c.vector, first[0]), (c.vector, first[1])])
        c.store((total[0], total[1]), dst, "%dst_imaginary")

        def result(k: str) -> None:
            row = b.at(constants, b.mul(b.mul(b.sub(k, 1), half), 2), kind)

            def term(j: str, *old: str) -> Sequence[Operand]:
                cosine, sine = c.spread(row, b.mul(j, 2)), c.spread(row, b.add(b.mul(j, 2), 1))
                place = b.at(work, b.mul(j, 2 * pairs), kind)
                near, far = c.load(place, c.lanes), c.load(b.at(place, pairs, kind), c.lanes)
                return [c.multiply_add(x, factor, y) for x, factor, y in zip(
                    (*near, *far), (cosine, cosine, sine, sine), old, strict=True)]

            zero = "zeroinitializer"
            even_re, even_im, odd_re, odd_im = b.loop(0, half, 1, term, [(c.vector, v) for v in (*first, zero, zero)])
            for place, sign in ((k, 1), (b.sub("%radix", k), -1)):
                value = c.add_turned((even_re, even_im), (odd_re, odd_im), sign)
                if twiddles:
                    at = b.add(after, b.mul(b.sub(place, 1), 2))
                    value = c.mul(value, (c.spread(twiddles, at), c.spread(twiddles, b.add(at, 1))))
                c.store(value, b.at(dst, b.mul(aside, place), kind), "%dst_imaginary")

        b.loop(1, b.add(half, 1), 1, result)

    _each_butterfly(b, kind, butterfly, "%radix", b.mul(b.sub("%radix", 1), 2))
