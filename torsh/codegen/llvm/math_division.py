"""Powers, quotients and remainders, of floats and of integers."""
from __future__ import annotations

from collections.abc import Callable, Sequence

from torsh.codegen.llvm import math_tables as tables
from torsh.codegen.llvm.math_common import (
    DOUBLE,
    INFINITY,
    NAN,
    SINGLE,
    clamp,
    copysign,
    magic_bits,
    polynomial,
    power_of_two,
    product,
    scaled,
    total,
    two_chains,
    widened,
)
from torsh.codegen.llvm.math_exponential import exp_scaled, split
from torsh.codegen.llvm.writer import Operand, Writer

_STEP = 26     # bits of a quotient that one step of a long division finds


# ---- powers ------------------------------------------------------------------------------------------------------------

def _log_pair(m: Writer, x: Operand) -> tuple[Operand, Operand]:
    """log(x) for float64 x > 0 as a sum of two, to about 65 bits."""
    e, f = split(m, x)
    numerator, denominator = f - 1.0, f + 1.0
    lost = f - (denominator - 1.0)
    s = numerator / denominator
    ph, pl = product(m, s, denominator)
    s_low = (((numerator - ph) - pl) - s * lost) / denominator
    z, z_low = product(m, s, s)
    z_low = z_low + s * s_low * 2.0
    cube, cube_low = product(m, z, s)
    cube_low = cube_low + m.fma(z, s_low, z_low * s)
    third, third_low = 2.0 / 3.0, 3.700743415417188e-17
    term, term_low = product(m, cube, m.constant(third, "double"))
    term_low = term_low + m.fma(cube, third_low, cube_low * third)
    tail = cube * z * polynomial(m, z, DOUBLE.pick(tables.LOG_TAIL))
    ln2, ln2_low = DOUBLE.pick(tables.LN2)
    high, low = total(e * ln2, s + s)
    high, more = total(high, term)
    low = low + (more + ((s_low + s_low) + (term_low + m.fma(e, ln2_low, tail))))
    return total(high, low)


def _magnitude_double(m: Writer, x: Operand, y: Operand) -> Operand:
    """x ** y for float64 x >= 0; what is no number is the caller's concern."""
    high, low = _log_pair(m, x)
    zero, infinite = m.compare("oeq", x, 0.0), m.compare("oeq", x, INFINITY)
    high = m.select(zero, -INFINITY, m.select(infinite, INFINITY, high))
    low = m.select(zero | infinite, 0.0, low)
    p, error = product(m, y, high)
    error = m.fma(y, low, error)
    error = m.select(m.compare("olt", m.abs(error), 1.0), error, 0.0)     # it is NaN where p overflows
    return exp_scaled(m, p, 0, error)


def _magnitude_single(m: Writer, x: Operand, y: Operand) -> Operand:
    """The same for float32: y * log2(x) in float64 arithmetic, which is 2 ** n times 2 ** r, r float32 again."""
    e, f = split(m, x)
    e = m.select(m.compare("oeq", x, 0.0), -INFINITY, m.select(m.compare("oeq", x, INFINITY), INFINITY, e))
    fraction = m.convert("fpext", f, "double")
    s = (fraction - 1.0) / (fraction + 1.0)
    logarithm = m.fma(s, polynomial(m, s * s, tables.LOG2_RATIO), m.convert("fpext", e, "double"))
    p = clamp(m, m.convert("fpext", y, "double") * logarithm, -160.0, 160.0)
    whole = (p + DOUBLE.magic) - DOUBLE.magic
    n, r = m.convert("fptrunc", whole, "float"), m.convert("fptrunc", p - whole, "float")
    power = m.fma(two_chains(m, r, r * r, SINGLE.pick(tables.EXP2)), r, 1.0)
    return scaled(m, power, m.bits(n + SINGLE.magic) - magic_bits(SINGLE), n)


def pow_float(m: Writer, x: Operand, y: Operand) -> Operand:
    """x ** y for floats, with the edge values of IEEE 754."""
    x, y = m.same(x, y)
    magnitude = m.abs(x)
    result = (_magnitude_single if x.element == "float" else _magnitude_double)(m, magnitude, y)
    whole = m.intrinsic("trunc", y)
    integer = m.compare("oeq", whole, y)
    halved = y * 0.5
    odd = integer & m.compare("one", m.intrinsic("trunc", halved), halved)
    negative = m.compare("slt", m.bits(x), 0)
    result = m.select(odd & negative, -result, result)
    invalid = m.compare("olt", x, 0.0) & m.compare("ogt", x, -INFINITY) & m.compare("one", whole, y)
    result = m.select(invalid, NAN, result)
    result = m.select(m.compare("uno", x, y), NAN, result)
    endless = m.compare("oeq", m.abs(y), INFINITY) & m.compare("oeq", magnitude, 1.0)
    one = m.compare("oeq", y, 0.0) | m.compare("oeq", x, 1.0) | endless
    return m.select(one, 1.0, result)


def pow_integer(m: Writer, base: Operand, exponent: Operand, signed: bool) -> Operand:
    """base ** exponent with wraparound; a negative exponent gives the truncated quotient 1 / base ** -exponent."""
    base, exponent = m.same(base, exponent)
    one = m.like(1, base)
    positive = "sgt" if signed else "ugt"

    def step(values: list[Operand]) -> tuple[Operand, Sequence[Operand]]:
        result, square, left = values
        result = m.select(m.compare("ne", left & 1, 0), result * square, result)
        left = left >> 1
        return m.any(m.compare("ne", left, 0)), [result, square * square, left]

    start = m.select(m.compare(positive, exponent, 0), exponent, 0)
    result = repeated(m, [one, base, start], step)[0]
    if not signed:
        return result
    alternating = m.select(m.compare("ne", exponent & 1, 0), base, one)
    unit = m.compare("eq", base, 1) | m.compare("eq", base, -1)
    inverse = m.select(unit, alternating, 0)
    return m.select(m.compare("slt", exponent, 0), inverse, result)


def repeated(m: Writer, start: list[Operand],
             step: Callable[[list[Operand]], tuple[Operand, Sequence[Operand]]]) -> list[Operand]:
    """A loop in the scope where its operands are known, not further in."""
    return m.hoisted(max(v.depth for v in start), lambda: m.repeat(start, step))


# ---- floats ------------------------------------------------------------------------------------------------------------

def _exponent(m: Writer, x: Operand) -> Operand:
    """Exponent of a positive float64, also of a denormal one."""
    tiny = m.compare("olt", x, DOUBLE.smallest)
    bits = m.bits(m.select(tiny, x * 2.0 ** 54, x)) >> DOUBLE.mantissa
    return m.select(tiny, bits - 54, bits)


def _reduced(m: Writer, r: Operand, b: Operand) -> Operand:
    """r modulo b for 0 <= r / b < 2 ** 52; exact."""
    quotient = m.intrinsic("trunc", r / b)
    if m.fused:
        rest = m.fma(-quotient, b, r)
    else:
        high, low = product(m, quotient, b)
        rest = (r - high) - low
    rest = m.select(m.compare("olt", rest, 0.0), rest + b, rest)      # the quotient was rounded up
    return m.select(m.compare("oge", rest, b), rest - b, rest)


def _long_division(m: Writer, a: Operand, b: Operand) -> Operand:
    """a modulo b for any quotient, 26 bits of it at a time."""
    exponent_b = _exponent(m, b)

    def step(values: list[Operand]) -> tuple[Operand, Sequence[Operand]]:
        r = values[0]
        shift = _exponent(m, r) - exponent_b - _STEP
        shift = m.select(m.compare("slt", shift, 0), 0, shift)
        part = (shift * 21846) >> 16                                  # a third: 2 ** shift may overflow
        scale = power_of_two(m, part, DOUBLE)
        multiple = b * scale * scale * power_of_two(m, shift - (part + part), DOUBLE)
        r = _reduced(m, r, multiple)
        return m.any(m.compare("oge", r, b)), [r]

    return repeated(m, [a], step)[0]


def _fmod(m: Writer, x: Operand, y: Operand) -> Operand:
    x, y = m.same(x, y)
    a, b = m.abs(x), m.abs(y)
    valid = m.compare("olt", a, INFINITY) & m.compare("ogt", b, 0.0)
    plain = valid & m.compare("olt", b, INFINITY)
    a, b = m.select(plain, a, 0.0), m.select(plain, b, 1.0)
    near = _reduced(m, a, b)
    far = m.compare("oge", a / b, 2.0 ** 51)
    result = m.hoisted(max(far.depth, near.depth), lambda: m.when(
        m.any(far), lambda: [m.select(far, _long_division(m, a, b), near)], [near], unlikely=True))[0]
    result = m.select(plain, copysign(m, result, x), x)               # y infinite
    return m.select(valid & m.compare("ord", y, y), result, NAN)


fmod = widened(_fmod)


def remainder(m: Writer, x: Operand, y: Operand) -> Operand:
    """The remainder with the sign of the divisor."""
    r = fmod(m, x, y)
    differs = m.compare("olt", r, 0.0) ^ m.compare("olt", y, 0.0)
    return m.select(differs & m.compare("one", r, 0.0), r + y, r)


def floor_divide(m: Writer, x: Operand, y: Operand) -> Operand:
    """The quotient rounded down, computed from the exact remainder."""
    r = fmod(m, x, y)
    quotient = (x - r) / y
    differs = m.compare("olt", r, 0.0) ^ m.compare("olt", y, 0.0)
    quotient = m.select(differs & m.compare("une", r, 0.0), quotient - 1.0, quotient)
    whole = m.intrinsic("floor", quotient)
    whole = m.select(m.compare("ogt", quotient - whole, 0.5), whole + 1.0, whole)
    ratio = x / y
    whole = m.select(m.compare("oeq", quotient, 0.0), copysign(m, m.like(0.0, ratio), ratio), whole)
    return m.select(m.compare("oeq", y, 0.0), ratio, whole)


# ---- integers ----------------------------------------------------------------------------------------------------------

def integer_quotient(m: Writer, a: Operand, b: Operand, signed: bool) -> tuple[Operand, Operand]:
    """The truncated quotient and its remainder. Never traps: 0 and 0 for b = 0; the smallest integer / -1 wraps around."""
    a, b = m.same(a, b)
    zero = m.compare("eq", b, 0)
    unsafe = zero
    if signed:
        smallest = -(1 << (int(a.element[1:]) - 1))
        negated = m.compare("eq", b, -1)
        unsafe = zero | (negated & m.compare("eq", a, smallest))
    safe = m.select(unsafe, 1, b)
    quotient = _quotient(m, a, safe, signed)
    rest = a - quotient * safe
    return m.select(zero, 0, quotient), m.select(zero, 0, rest)


def _quotient(m: Writer, a: Operand, b: Operand, signed: bool) -> Operand:
    """a / b truncated, for harmless b; through floats where the type is narrow, because vectors have no integer division."""
    if a.element == "i64" or not a.lanes:
        return m.binary("sdiv" if signed else "udiv", a, b)
    wide = "double" if a.element == "i32" else "float"
    kind = "si" if signed else "ui"
    ratio = m.convert(f"{kind}tofp", a, wide) / m.convert(f"{kind}tofp", b, wide)
    return m.convert("trunc", m.convert("fptosi", ratio, "i32"), a.element)


def integer_division(m: Writer, op: str, a: Operand, b: Operand, signed: bool) -> Operand:
    """floor_divide, trunc_divide, remainder (sign of the divisor) or fmod (sign of the dividend)."""
    a, b = m.same(a, b)
    quotient, rest = integer_quotient(m, a, b, signed)
    if not signed or op in ("trunc_divide", "fmod"):
        return quotient if op in ("trunc_divide", "floor_divide") else rest
    differs = m.compare("ne", rest, 0) & (m.compare("slt", rest, 0) ^ m.compare("slt", b, 0))
    if op == "floor_divide":
        return m.select(differs, quotient - 1, quotient)
    return m.select(differs, rest + b, rest)


__all__ = ["floor_divide", "fmod", "integer_division", "integer_quotient", "pow_float", "pow_integer", "remainder"]
