"""exp and its relatives, log and its relatives, on float32 and float64 operands (scalars or vectors)."""
from __future__ import annotations

from torsh.codegen.llvm import math_tables as tables
from torsh.codegen.llvm.math_common import (
    INFINITY,
    NAN,
    Layout,
    clamp,
    copysign,
    layout,
    nearest,
    polynomial,
    power_of_two,
    scaled,
    to_float,
    two_chains,
    widened,
)
from torsh.codegen.llvm.writer import Operand, Writer

_LOG2_E = 1.4426950408889634
_SQRT_HALF_BITS = (0x3F3504F3, 0x3FE6A09E667F3BCD)


def exp_parts(m: Writer, x: Operand, low: Operand | None = None) -> tuple[Operand, Operand, Operand]:
    """exp(x + low) = (1 + p) * 2 ** n, where low is tiny: p, n and n as an integer. x must not be huge."""
    form = layout(x)
    n, integer = nearest(m, x, _LOG2_E)
    high, rest = form.pick(tables.LN2)
    r = m.fma(-n, rest, m.fma(-n, high, x))
    if low is not None:
        r = r + low
    return exp_polynomial(m, r), n, integer


def exp_polynomial(m: Writer, r: Operand) -> Operand:
    """exp(r) - 1 for |r| <= log(2) / 2."""
    square = r * r
    return m.fma(two_chains(m, r, square, layout(r).pick(tables.EXP)), square, r)


def exp_scaled(m: Writer, x: Operand, offset: int = 0, low: Operand | None = None) -> Operand:
    """exp(x + low) * 2 ** offset, where low is tiny; overflows only if the result does."""
    x = clamp(m, x, *((-105.0, 90.0), (-747.0, 711.0))[layout(x).number])
    p, n, integer = exp_parts(m, x, low)
    return scaled(m, p + 1.0, integer + offset, n + float(offset) if offset else n)


def exp(m: Writer, x: Operand) -> Operand:
    """e ** x"""
    return exp_scaled(m, x)


def exp2(m: Writer, x: Operand) -> Operand:
    """2 ** x"""
    form = layout(x)
    x = clamp(m, x, *((-152.0, 129.0), (-1077.0, 1025.0))[form.number])
    n, integer = nearest(m, x, 1.0)
    r = x - n
    return scaled(m, m.fma(two_chains(m, r, r * r, form.pick(tables.EXP2)), r, 1.0), integer, n)


def expm1(m: Writer, x: Operand) -> Operand:
    """e ** x - 1 without cancellation."""
    form = layout(x)
    y = clamp(m, x, *((-20.0, 89.0), (-40.0, 710.0))[form.number])
    p, _, integer = exp_parts(m, y)
    half = power_of_two(m, integer - 1, form)               # half, because 2 ** n itself may overflow
    result = m.fma(half, p, half - 0.5) * 2.0
    result = m.select(m.compare("eq", integer, 0), p, result)
    return m.select(m.compare("oeq", x, 0.0), x, result)    # keeps the sign of zero


def sigmoid(m: Writer, x: Operand) -> Operand:
    """1 / (1 + exp(-x)), exact for very negative x too."""
    e = exp(m, -m.abs(x))
    return m.select(m.compare("oge", x, 0.0), 1.0, e) / (e + 1.0)


def tanh(m: Writer, x: Operand) -> Operand:
    """Hyperbolic tangent."""
    magnitude = m.abs(x)
    if x.element == "double":
        e = expm1(m, magnitude * -2.0)
        return copysign(m, -e / (e + 2.0), x)
    z = x * x
    small = m.fma(polynomial(m, z, layout(x).pick(tables.TANH)) * z, magnitude, magnitude)
    large = 1.0 - 2.0 / (exp(m, magnitude + magnitude) + 1.0)
    return copysign(m, m.select(m.compare("olt", magnitude, 0.625), small, large), x)


def sinh(m: Writer, x: Operand) -> Operand:
    """Hyperbolic sine."""
    magnitude, z = m.abs(x), x * x
    half = exp_scaled(m, magnitude, -1)
    large = copysign(m, half - 0.25 / half, x)
    small = m.fma(polynomial(m, z, layout(x).pick(tables.SINH)) * z, x, x)
    return m.select(m.compare("olt", magnitude, 1.0), small, large)


def cosh(m: Writer, x: Operand) -> Operand:
    """Hyperbolic cosine."""
    half = exp_scaled(m, m.abs(x), -1)
    return half + 0.25 / half


# ---- logarithms --------------------------------------------------------------------------------------------------------

def split(m: Writer, x: Operand) -> tuple[Operand, Operand]:
    """x > 0 as 2 ** e * f with f in [sqrt(1/2), sqrt(2)): e (a float) and f."""
    form = layout(x)
    tiny = m.compare("olt", x, form.smallest)
    bits = m.bits(m.select(tiny, x * 2.0 ** form.mantissa, x))
    exponent = m.shift_arithmetic(bits - _SQRT_HALF_BITS[form.number], form.mantissa)
    fraction = m.from_bits(bits - (exponent << form.mantissa))
    e = to_float(m, exponent, form)
    return m.select(tiny, e - float(form.mantissa), e), fraction


def _log_sum(m: Writer, e: Operand | None, f: Operand, correction: Operand | None = None) -> Operand:
    """e * log(2) + log(1 + f) + correction for f around zero; None is zero."""
    form: Layout = layout(f)
    square = f * f
    high, rest = form.pick(tables.LN2)
    low = correction
    if e is not None:
        low = e * rest if low is None else m.fma(e, rest, low)
    if form.number == 0:
        y = f * square * two_chains(m, f, square, form.pick(tables.LOG))
        y = m.fma(square, -0.5, y if low is None else y + low)
        return f + y if e is None else m.fma(e, high, f + y)
    s = f / (f + 2.0)
    z = s * s
    half = square * 0.5
    tail = m.fma(s, m.fma(polynomial(m, z, form.pick(tables.LOG_RATIO)), z, half), 0.0 if low is None else low)
    y = (half - tail) - f
    return -y if e is None else m.fma(e, high, -y)


def _log_edges(m: Writer, argument: Operand, result: Operand) -> Operand:
    """The values of a logarithm at 0, below, at infinity and NaN."""
    result = m.select(m.compare("oeq", argument, 0.0), -INFINITY, result)
    result = m.select(m.compare("ult", argument, 0.0), NAN, result)
    return m.select(m.compare("oeq", argument, INFINITY), INFINITY, result)


def log(m: Writer, x: Operand) -> Operand:
    """Natural logarithm."""
    e, f = split(m, x)
    return _log_edges(m, x, _log_sum(m, e, f - 1.0))


def log2(m: Writer, x: Operand) -> Operand:
    """Logarithm to base 2; exact at powers of two."""
    e, f = split(m, x)
    y = _log_sum(m, None, f - 1.0)
    high, rest = layout(x).pick(tables.LOG2_E)
    return _log_edges(m, x, m.fma(y, high, m.fma(y, rest, e)))


def log10(m: Writer, x: Operand) -> Operand:
    """Logarithm to base 10."""
    e, f = split(m, x)
    form = layout(x)
    y = _log_sum(m, None, f - 1.0)
    high, rest = form.pick(tables.LOG10_E)
    two_high, two_rest = form.pick(tables.LOG10_2)
    return _log_edges(m, x, m.fma(e, two_high, m.fma(y, high, m.fma(y, rest, e * two_rest))))


def log1p(m: Writer, x: Operand) -> Operand:
    """log(1 + x) without cancellation."""
    u = x + 1.0
    e, f = split(m, u)
    near = m.compare("oeq", e, 0.0)
    lost = m.select(m.compare("olt", x, 1.0), x - (u - 1.0), 1.0 - (u - x))     # what rounding 1 + x lost
    f = m.select(near, x, f - 1.0)
    result = _log_sum(m, e, f, m.select(near, 0.0, lost / u))
    result = m.select(m.compare("oeq", x, 0.0), x, result)
    return _log_edges(m, u, result)


# ---- inverse hyperbolic functions --------------------------------------------------------------------------------------

_LARGE = 2.0 ** 28
_LN2 = 0.6931471805599453


def _asinh(m: Writer, x: Operand) -> Operand:
    magnitude = m.abs(x)
    square = x * x
    small = log1p(m, magnitude + square / (m.intrinsic("sqrt", square + 1.0) + 1.0))
    large = log(m, magnitude) + _LN2
    return copysign(m, m.select(m.compare("ogt", magnitude, _LARGE), large, small), x)


def _acosh(m: Writer, x: Operand) -> Operand:
    t = x - 1.0
    small = log1p(m, t + m.intrinsic("sqrt", m.fma(t, t, t + t)))
    result = m.select(m.compare("ogt", x, _LARGE), log(m, x) + _LN2, small)
    return m.select(m.compare("olt", x, 1.0), NAN, result)


def _atanh(m: Writer, x: Operand) -> Operand:
    magnitude = m.abs(x)
    return copysign(m, log1p(m, (magnitude + magnitude) / (1.0 - magnitude)) * 0.5, x)


asinh = widened(_asinh)
acosh = widened(_acosh)
atanh = widened(_atanh)

__all__ = ["acosh", "asinh", "atanh", "cosh", "exp", "exp2", "exp_parts", "exp_polynomial", "exp_scaled", "expm1", "log", "log10", "log1p",
           "log2", "sigmoid", "sinh", "split", "tanh"]
