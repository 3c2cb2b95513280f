"""The error function, its complement, and the distribution function of the normal distribution."""
from __future__ import annotations

import math

from torsh.codegen.llvm import math_tables as tables
from torsh.codegen.llvm.math_common import clamp, copysign, layout, nearest, product, scaled, two_chains
from torsh.codegen.llvm.math_exponential import exp2, exp_parts
from torsh.codegen.llvm.writer import Operand, Writer

_CENTRE = 3.75     # of the variable in which exp(x^2) erfc(x) is a polynomial
_TAIL_END = 14.5   # where the tail of the normal distribution is 0 in float32
_DOUBLE_END = 40.0
_ROOT_HALF, _ROOT_HALF_LOW = 0.7071067811865476, -4.833646656726457e-17


def _erf_ratio(m: Writer, x: Operand) -> Operand:
    """erf(x) / x - 1 for |x| <= 1."""
    square = x * x
    return two_chains(m, square, square * square, layout(x).pick(tables.ERF))


def _erfc_positive(m: Writer, x: Operand, low: Operand | None = None) -> Operand:
    """erfc for x + low, x >= 0, low tiny: exp(-x^2) * (1 + p) / (1 + 2x), each factor corrected by what its rounding lost."""
    form = layout(x)
    x = clamp(m, x, 0.0, (10.5, 28.0)[form.number])
    inverse = 1.0 / (x + _CENTRE)
    t = (x - _CENTRE) * inverse
    t = m.fma(inverse, m.fma(-x, t, m.fma(t + 1.0, -_CENTRE, x)), t)
    p = two_chains(m, t, t * t, form.pick(tables.ERFC))
    inverse = 1.0 / m.fma(x, 2.0, 1.0)
    factor = m.fma(p, inverse, inverse)
    factor = m.fma(inverse, m.fma(factor * -2.0, x, 1.0) + (p - factor), factor)
    square, error = product(m, x, x)
    if low is not None:
        error = m.fma(x + x, low, error)
    e, n, integer = exp_parts(m, -square, -error)
    return scaled(m, m.fma(factor, e, factor), integer, n)


def erf(m: Writer, x: Operand) -> Operand:
    """Error function."""
    magnitude = m.abs(x)
    if x.element == "float":
        capped = m.select(m.compare("ogt", magnitude, 4.0), 4.0, magnitude)
        large = 1.0 - exp2(m, two_chains(m, capped, capped * capped, layout(x).pick(tables.ERFC_LOG2)))
    else:
        large = 1.0 - _erfc_positive(m, magnitude)
    return m.select(m.compare("olt", magnitude, 1.0), m.fma(_erf_ratio(m, x), x, x), copysign(m, large, x))


def erfc(m: Writer, x: Operand) -> Operand:
    """1 - erf(x) without cancellation."""
    magnitude = m.abs(x)
    tail = _erfc_positive(m, magnitude)
    outside = m.select(m.compare("olt", x, 0.0), 2.0 - tail, tail)
    inside = m.fma(-x, _erf_ratio(m, x), 1.0 - x)
    return m.select(m.compare("olt", magnitude, 0.5), inside, outside)


def _normal_tail(m: Writer, u: Operand) -> Operand:
    """The normal distribution's share above u, for float32 u >= 0: exp(-u^2 / 2) times a rational function.

    The quotient of tail and density (Mills' ratio) has no features, so a rational function (as in Cody, "Rational Chebyshev
    approximations for the error function", 1969) covers all of the range. The square is exact within the argument's reduction.
    """
    form = layout(u)
    u = m.select(m.compare("olt", m.like(_TAIL_END, u), u), _TAIL_END, u)
    square = u * u
    factor = -0.5 / math.log(2.0)
    n, integer = nearest(m, square, factor)
    r = m.fma(square, factor, -n)
    e = two_chains(m, r, r * r, form.pick(tables.POWER_OF_TWO))
    numerator = two_chains(m, u, square, form.pick(tables.MILLS_NUMERATOR))
    return scaled(m, numerator / two_chains(m, u, square, form.pick(tables.MILLS_DENOMINATOR)) * e, integer, n)


def normal_cdf(m: Writer, x: Operand) -> Operand:
    """Distribution function of the normal distribution, of full relative accuracy in the lower tail."""
    magnitude = m.abs(x)
    if x.element == "float":
        tail = _normal_tail(m, magnitude)
    else:
        y, low = product(m, magnitude, m.constant(_ROOT_HALF, x.element, x.lanes))
        low = m.select(m.compare("olt", magnitude, _DOUBLE_END), m.fma(magnitude, _ROOT_HALF_LOW, low), 0.0)
        tail = _erfc_positive(m, y, low) * 0.5
    value = m.select(m.compare("olt", x, 0.0), tail, 1.0 - tail)
    return m.select(m.compare("uno", x, x), x, value) if x.element == "double" else value
