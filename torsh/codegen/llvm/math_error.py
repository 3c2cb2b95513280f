"""The error function and its complement."""
from __future__ import annotations

from torsh.codegen.llvm import math_tables as tables
from torsh.codegen.llvm.math_common import clamp, copysign, layout, polynomial, product, scaled
from torsh.codegen.llvm.math_exponential import exp2, exp_parts
from torsh.codegen.llvm.writer import Operand, Writer

_CENTRE = 3.75     # of the variable in which exp(x^2) erfc(x) is a polynomial


def _erf_ratio(m: Writer, x: Operand) -> Operand:
    """erf(x) / x - 1 for |x| <= 1."""
    return polynomial(m, x * x, layout(x).pick(tables.ERF))


def _erfc_positive(m: Writer, x: Operand) -> Operand:
    """erfc for x >= 0: exp(-x^2) * (1 + p) / (1 + 2x), each factor corrected by what its rounding lost."""
    form = layout(x)
    x = clamp(m, x, 0.0, (10.5, 28.0)[form.number])
    inverse = 1.0 / (x + _CENTRE)
    t = (x - _CENTRE) * inverse
    t = m.fma(inverse, m.fma(-x, t, m.fma(t + 1.0, -_CENTRE, x)), t)
    p = polynomial(m, t, form.pick(tables.ERFC))
    inverse = 1.0 / m.fma(x, 2.0, 1.0)
    factor = m.fma(p, inverse, inverse)
    factor = m.fma(inverse, m.fma(factor * -2.0, x, 1.0) + (p - factor), factor)
    square, error = product(m, x, x)
    e, n, integer = exp_parts(m, -square, -error)
    return scaled(m, m.fma(factor, e, factor), integer, n)


def erf(m: Writer, x: Operand) -> Operand:
    """Error function."""
    magnitude = m.abs(x)
    if x.element == "float":
        capped = m.select(m.compare("ogt", magnitude, 4.0), 4.0, magnitude)
        large = 1.0 - exp2(m, polynomial(m, capped, layout(x).pick(tables.ERFC_LOG2)))
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
