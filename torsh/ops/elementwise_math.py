"""Elementwise primitives for exponentials, logarithms, roots, trigonometry and error functions."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from torsh.core.dtype import DType, from_numpy_dtype, int32
from torsh.core.errors import DTypeError
from torsh.core.promotion import floating
from torsh.ops.common import add, cast, chain, div, mul, neg, number, square, sub, unary
from torsh.ops.define import Array, convert, elementwise, wide
from torsh.ops.expr import HOST, TABLE, Expr, Op, Shape, emit1, emit2

LN2: Final = math.log(2)
LN10: Final = math.log(10)


def _function(name: str, reference: Callable[..., Any], factor: Callable[[Expr, Expr], Expr],
              categories: str = "bifc") -> Op:
    """A row for a function of one argument. factor: ``f(out, a)``, its derivative."""
    return elementwise(name, floating(categories), reference, lambda g, out, a: chain(g, factor(out, a)))


def _quotient(name: str, reference: Callable[..., Any], divisor: Callable[[Expr, Expr], Expr]) -> Op:
    """A row for a function whose derivative is the reciprocal of ``divisor(out, a)``."""
    def gradient(g: Expr, out: Expr, a: Expr) -> Expr:
        d = divisor(out, a)
        return div(g, unary("conj", d) if d.dtype.is_complex else d)
    return elementwise(name, floating(), reference, gradient)


# ---- exponentials, logarithms, roots -----------------------------------------------------------------------------------

def exp2(a: Array) -> Array:
    """2 ** a"""
    return np.exp(a * LN2).astype(a.dtype) if a.dtype.kind == "c" else np.exp2(a)


def sigmoid(a: Array) -> Array:
    """1 / (1 + exp(-a)), without overflow."""
    if a.dtype.kind == "c":
        return (1 / (1 + np.exp(-a))).astype(a.dtype)
    small = np.exp(-np.abs(a))
    return (np.where(a >= 0, 1, small) / (1 + small)).astype(a.dtype)


EXP: Final[Op] = _function("exp", np.exp, lambda out, a: out)
EXP2: Final[Op] = _function("exp2", exp2, lambda out, a: mul(out, LN2))
EXPM1: Final[Op] = _function("expm1", np.expm1, lambda out, a: add(out, 1))
LOG: Final[Op] = _quotient("log", np.log, lambda out, a: a)
LOG2: Final[Op] = _quotient("log2", np.log2, lambda out, a: mul(a, LN2))
LOG10: Final[Op] = _quotient("log10", np.log10, lambda out, a: mul(a, LN10))
LOG1P: Final[Op] = _quotient("log1p", np.log1p, lambda out, a: add(a, 1))
SQRT: Final[Op] = _quotient("sqrt", np.sqrt, lambda out, a: mul(out, 2))
RSQRT: Final[Op] = _function("rsqrt", lambda a: (1 / np.sqrt(a)).astype(a.dtype),
                             lambda out, a: mul(mul(out, square(out)), -0.5))
RECIPROCAL: Final[Op] = _function("reciprocal", lambda a: (1 / a).astype(a.dtype), lambda out, a: neg(square(out)))
SIGMOID: Final[Op] = _function("sigmoid", sigmoid, lambda out, a: mul(sub(1, out), out))


# ---- trigonometric and hyperbolic functions ----------------------------------------------------------------------------

SIN: Final[Op] = _function("sin", np.sin, lambda out, a: unary("cos", a))
COS: Final[Op] = _function("cos", np.cos, lambda out, a: neg(unary("sin", a)))
TAN: Final[Op] = _function("tan", np.tan, lambda out, a: add(square(out), 1))
ASIN: Final[Op] = _function("asin", np.arcsin, lambda out, a: unary("rsqrt", sub(1, square(a))))
ACOS: Final[Op] = _function("acos", np.arccos, lambda out, a: neg(unary("rsqrt", sub(1, square(a)))))
ATAN: Final[Op] = _quotient("atan", np.arctan, lambda out, a: add(square(a), 1))
SINH: Final[Op] = _function("sinh", np.sinh, lambda out, a: unary("cosh", a))
COSH: Final[Op] = _function("cosh", np.cosh, lambda out, a: unary("sinh", a))
TANH: Final[Op] = _function("tanh", np.tanh, lambda out, a: sub(1, square(out)))
ASINH: Final[Op] = _function("asinh", np.arcsinh, lambda out, a: unary("rsqrt", add(square(a), 1)))


def _acosh_factor(out: Expr, a: Expr) -> Expr:
    if a.dtype.is_complex:                     # two roots keep the branch cut of acosh
        return mul(unary("rsqrt", sub(a, 1)), unary("rsqrt", add(a, 1)))
    return unary("rsqrt", sub(square(a), 1))


ACOSH: Final[Op] = _function("acosh", np.arccosh, _acosh_factor)
ATANH: Final[Op] = _quotient("atanh", np.arctanh, lambda out, a: sub(1, square(a)))


# ---- parts of floating-point numbers -----------------------------------------------------------------------------------

def _exponent_infer(attr: None, a: Expr) -> tuple[Shape, DType]:
    if not a.dtype.is_floating_point:
        raise DTypeError(f"torsh.frexp() only supports floating-point dtypes, got {a.dtype.name}")
    return a.shape, int32


# The exponent of 2 for which |a| = mantissa * 2 ** exponent with a mantissa in [0.5, 1)
FREXP_EXPONENT: Final[Op] = Op("frexp_exponent", _exponent_infer,
                               lambda attr, a: np.frexp(convert(a, wide(from_numpy_dtype(np.asarray(a).dtype))))[1].astype(np.int32),
                               kind=HOST)


def frexp_expr(a: Expr) -> tuple[Expr, Expr]:
    """(mantissa in [0.5, 1), exponent) of floating-point numbers."""
    exponent = emit1(FREXP_EXPONENT, a)
    # In two steps: a power of 2 that is out of range would make 0 or infinity of numbers near the limits.
    half = emit2(TABLE["shift_right"], exponent, number(1, int32))
    power = [unary("exp2", neg(cast(e, wide(a.dtype)))) for e in (half, sub(exponent, half))]
    scaled = mul(mul(cast(a, wide(a.dtype)), power[0]), power[1])
    return cast(scaled, a.dtype), exponent


# ---- error functions ---------------------------------------------------------------------------------------------------

def _by_python(function: Callable[[float], float]) -> Callable[[Array], Array]:
    """An array function from one of Python's math module, computed in float64."""
    each = np.frompyfunc(function, 1, 1)

    def on_array(a: Array) -> Array:
        return np.asarray(each(a.astype(np.float64)), dtype=np.float64).astype(a.dtype)
    return on_array


def _bell(out: Expr, a: Expr) -> Expr:
    return mul(unary("exp", neg(square(a))), 2 / math.sqrt(math.pi))


ERF: Final[Op] = _function("erf", _by_python(math.erf), _bell, "bif")
ERFC: Final[Op] = _function("erfc", _by_python(math.erfc), lambda out, a: neg(_bell(out, a)), "bif")


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(x * -math.sqrt(0.5))


# Distribution function of the normal distribution
NORMAL_CDF: Final[Op] = _function("normal_cdf", _by_python(_normal_cdf),
                                  lambda out, a: mul(unary("exp", mul(square(a), -0.5)), 1 / math.sqrt(2 * math.pi)), "bif")
