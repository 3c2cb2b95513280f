"""The error function and its complement."""
from __future__ import annotations

from torsh.codegen.llvm import math_tables as tables
from torsh.codegen.llvm.math_common import DOUBLE, SINGLE, clamp, copysign, layout, polynomial, product
from torsh.codegen.llvm.math_exponential import exp2, exp_scaled
from torsh.codegen.llvm.writer import Operand, Writer

_CENTRE = 3.75     # of the variable in which exp(x^2) erfc(x) is a polynomial


def _erf_ratio(m: Writer, x: Operand) -> Operand:
    """erf(x) / x - 1 for |x| <= 1."""
    return polynomial(m, x * x, layout(x).pick(tables.ERF))


def _erfc_single(m: Writer, x: Operand) -> Operand:
    """erfc of a float32 x >= 0. The errors of its many steps would add up, hence float64."""
    x = m.convert("fpext", clamp(m, x, 0.0, 10.5), "double")
    shifted, slope = x + _CENTRE, m.fma(x, 2.0, 1.0)
    inverse = 1.0 / (shifted * slope)                          # of both divisors at once
    t = (x - _CENTRE) * (slope * inverse)
    factor = polynomial(m, t, SINGLE.pick(tables.ERFC)) * (shifted * inverse)
    return m.convert("fptrunc", exp_scaled(m, -(x * x), rough=True) * factor, "float")


def _erfc_positive(m: Writer, x: Operand) -> Operand:
    """erfc for x >= 0."""
    if x.element == "float":
        return _erfc_single(m, x)
    x = clamp(m, x, 0.0, 28.0)
    t = (x - _CENTRE) / (x + _CENTRE)
    factor = polynomial(m, t, DOUBLE.pick(tables.ERFC)) / m.fma(x, 2.0, 1.0)
    square, error = product(m, x, x)
    return exp_scaled(m, -square, 0, -error) * factor


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
    if x.element == "float":
        return outside
    inside = m.fma(-x, _erf_ratio(m, x), 1.0 - x)        # one rounding: 1 - x is exact where the result is small
    return m.select(m.compare("olt", magnitude, 1.0), inside, outside)
