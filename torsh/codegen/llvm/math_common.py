"""What the vector mathematics shares: the layout of floats, polynomials, exact products, tables in memory."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from torsh.codegen.llvm.writer import Operand, Writer, mangled

Table = tuple[tuple[float, ...] | None, tuple[float, ...] | None]
INFINITY: Final = float("inf")
NAN: Final = float("nan")


@dataclass(frozen=True, slots=True)
class Layout:
    """A binary floating-point format: ``mantissa`` stored bits, exponent ``bias``, the ``integer`` type of its size."""

    element: str
    integer: str
    mantissa: int
    bias: int
    number: int         # position in the tables of coefficients

    @property
    def magic(self) -> float:
        """Adding this rounds to an integer, which the low bits of the sum then hold."""
        return 1.5 * 2.0 ** self.mantissa

    @property
    def smallest(self) -> float:
        """The smallest normal number."""
        return 2.0 ** (1 - self.bias)

    def pick(self, table: Table) -> tuple[float, ...]:
        """The coefficients for this format."""
        chosen = table[self.number]
        assert chosen is not None
        return chosen


SINGLE: Final = Layout("float", "i32", 23, 127, 0)
DOUBLE: Final = Layout("double", "i64", 52, 1023, 1)


def layout(x: Operand) -> Layout:
    """The format of a float."""
    return SINGLE if x.element == "float" else DOUBLE


def polynomial(m: Writer, x: Operand, coefficients: Sequence[float]) -> Operand:
    """Horner's rule, highest power first."""
    result = m.constant(coefficients[0], x.element, x.lanes)
    for c in coefficients[1:]:
        result = m.fma(result, x, c)
    return result


def two_chains(m: Writer, x: Operand, square: Operand, coefficients: Sequence[float]) -> Operand:
    """As :func:`polynomial`, in half the time from first to last, for one multiplication more: that of the square, x * x.

    Even and odd powers are summed apart. Processors look only so far ahead: of long chains, too few elements are in work.
    """
    odd, even = coefficients[-2::-2][::-1], coefficients[::-2][::-1]
    return m.fma(polynomial(m, square, odd), x, polynomial(m, square, even))


def magic_bits(form: Layout) -> int:
    """The bits of ``form.magic``."""
    return ((form.bias + form.mantissa) << form.mantissa) | (1 << (form.mantissa - 1))


def nearest(m: Writer, x: Operand, factor: float) -> tuple[Operand, Operand]:
    """x * factor rounded to an integer: as a float, and as an integer. Only for results below 2 ** (mantissa - 1)."""
    form = layout(x)
    shifted = m.fma(x, factor, m.constant(form.magic, x.element, x.lanes))
    return shifted - form.magic, m.bits(shifted) - magic_bits(form)


def to_float(m: Writer, integer: Operand, form: Layout) -> Operand:
    """A small integer (below 2 ** (mantissa - 1)) of the format's size, as a float."""
    return m.from_bits(integer + magic_bits(form)) - form.magic


def power_of_two(m: Writer, exponent: Operand, form: Layout) -> Operand:
    """2 ** exponent, for exponents of normal numbers."""
    return m.from_bits((exponent + form.bias) << form.mantissa)


def scaled(m: Writer, y: Operand, exponent: Operand, as_float: Operand) -> Operand:
    """y * 2 ** exponent with one rounding, for any exponent (given as an integer and as a float)."""
    size = y.lanes * (4 if y.element == "float" else 8)
    if m.wide and size > 64:
        return m.joined(*(scaled(m, m.part(y, upper), m.part(exponent, upper), m.part(as_float, upper))
                          for upper in (False, True)))
    if m.wide and size == 64:
        suffix, bits = ("ps", 16) if y.element == "float" else ("pd", 8)
        name = f"@llvm.x86.avx512.mask.scalef.{suffix}.512"
        m.declare(f"{y.type} {name}({y.type}, {y.type}, {y.type}, i{bits}, i32)")
        return m.pure(f"call {y.type} {name}({y.type} {y.text}, {y.type} {as_float.text}, {y.type} zeroinitializer, "
                      f"i{bits} -1, i32 4)", (y, as_float), y.element)
    form = layout(y)
    first = m.shift_arithmetic(exponent, 1)
    return y * power_of_two(m, first, form) * power_of_two(m, exponent - first, form)


def clamp(m: Writer, x: Operand, low: float, high: float) -> Operand:
    """x within [low, high]; NaN stays."""
    x = m.select(m.compare("olt", x, low), low, x)
    return m.select(m.compare("ogt", x, high), high, x)


def copysign(m: Writer, magnitude: Operand, sign: Operand) -> Operand:
    """The magnitude with the sign of ``sign``."""
    return m.intrinsic("copysign", magnitude, sign)


def product(m: Writer, a: Operand, b: Operand) -> tuple[Operand, Operand]:
    """a * b exactly, as the rounded product and its error."""
    a, b = m.same(a, b)
    high = a * b
    if m.fused:
        return high, m.fma(a, b, -high)
    splitter = 4097.0 if a.element == "float" else 134217729.0    # Dekker: halves whose products are exact
    big_a, big_b = a * splitter, b * splitter
    a1, b1 = big_a - (big_a - a), big_b - (big_b - b)
    a2, b2 = a - a1, b - b1
    return high, ((a1 * b1 - high) + a1 * b2 + a2 * b1) + a2 * b2


def total(a: Operand, b: Operand) -> tuple[Operand, Operand]:
    """a + b exactly, as the rounded sum and its error, where |a| >= |b|."""
    high = a + b
    return high, b - (high - a)


def widened(function: Callable[..., Operand]) -> Callable[..., Operand]:
    """The function in float64 arithmetic, whatever the precision of its arguments."""
    def through_double(m: Writer, *args: Operand) -> Operand:
        element = args[0].element
        return m.convert("fptrunc", function(m, *(m.convert("fpext", a, "double") for a in args)), element)

    return through_double


def gather_words(m: Writer, name: str, words: Sequence[int], index: Operand) -> Operand:
    """Elements (32 bits) of a constant table, as i64. ``index`` is i64, within the table."""
    values = ", ".join(f"i32 {word - (1 << 32) if word >> 31 else word}" for word in words)
    m.globals[name] = f"@{name} = private unnamed_addr constant [{len(words)} x i32] [{values}], align 64"
    address = m.at(Operand(m, f"@{name}", "ptr"), index, "i32")
    if not index.lanes:
        return m.convert("zext", m.pure(f"load i32, ptr {address.text}, align 4", (address,), "i32"), "i64")
    everywhere = m.constant(True, "i1", index.lanes)
    return m.convert("zext", gather(m, address, "i32", 4, everywhere), "i64")


def gather(m: Writer, addresses: Operand, element: str, align: int, mask: Operand) -> Operand:
    """Loads one element per lane of the mask (zero elsewhere)."""
    lanes = addresses.lanes
    vector = f"<{lanes} x {element}>"
    full = f"@llvm.masked.gather.{mangled(element, lanes)}.v{lanes}p0"
    m.declare(f"{vector} {full}(<{lanes} x ptr>, i32, <{lanes} x i1>, {vector})")
    return m.pure(f"call {vector} {full}(<{lanes} x ptr> {addresses.text}, i32 {align}, <{lanes} x i1> {mask.text}, "
                  f"{vector} zeroinitializer)", (addresses, mask), element, lanes)
