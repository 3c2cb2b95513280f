"""Elementwise primitives for arithmetic, comparison, logic and bits.

Gradients follow PyTorch's conventions at the edges: abs and sign have derivative 0 at 0, equal operands of maximum and
minimum share the gradient, rounding functions have gradient 0.
"""
from __future__ import annotations

from typing import Any, Final

import numpy as np

from torsh.core import promotion
from torsh.core.dtype import DType, bool_, dtype_by_name, float32
from torsh.core.promotion import choice, floating, promoting, scaling, testing, to_real
from torsh.ops.common import (
    both,
    cast,
    chain,
    conj,
    div,
    eq,
    full,
    ge,
    gradient_for,
    log,
    lt,
    mul,
    neg,
    number,
    pow,
    unary,
    where,
    zeros_like,
)
from torsh.ops.define import Array, convert, elementwise, explicit_arguments, is_half
from torsh.ops.expr import ELEMENTWISE, TABLE, Expr, Op, Shape, emit, emit2


def zero(g: Expr, out: Expr, *args: Expr) -> Expr:
    """The gradient of piecewise constant functions."""
    return zeros_like(g)


# ---- arithmetic --------------------------------------------------------------------------------------------------------

def pass_on(g: Expr, out: Expr, *args: Expr) -> Expr:
    """The gradient of sums."""
    return g


def _divisor_gradient(g: Expr, out: Expr, a: Expr, b: Expr) -> Expr:
    return neg(chain(g, div(div(a, b), b)))


ADD: Final[Op] = elementwise("add", promoting(), np.add, pass_on, pass_on, widen=False)
SUB: Final[Op] = elementwise("sub", promotion.subtraction, np.subtract, pass_on, lambda g, out, a, b: neg(g), widen=False)
MUL: Final[Op] = elementwise("mul", scaling(promoting()), np.multiply, lambda g, out, a, b: chain(g, b),
                             lambda g, out, a, b: chain(g, a), widen=False)
DIV: Final[Op] = elementwise("div", scaling(floating()), np.true_divide, lambda g, out, a, b: div(g, conj(b)), _divisor_gradient)
NEG: Final[Op] = elementwise("neg", promotion.negation, np.negative, lambda g, out, a: neg(g), widen=False)


def floor_divide(a: Array, b: Array) -> Array:
    """Division rounded down; for floats from the exact remainder, so that the quotient is never one too high."""
    if a.dtype.kind in "iu":
        return np.floor_divide(a, b)
    rest = np.fmod(a, b)
    quotient = (a - rest) / b
    quotient = np.where((rest != 0) & ((b < 0) != (rest < 0)), quotient - 1, quotient)
    floor = np.floor(quotient)
    floor = np.where(quotient - floor > 0.5, floor + 1, floor)
    result = np.where(quotient != 0, floor, np.copysign(0, a / b))
    return np.where(b == 0, a / b, result).astype(a.dtype)


def trunc_divide(a: Array, b: Array) -> Array:
    """Division rounded towards zero."""
    if a.dtype.kind in "iu":
        return ((a - np.fmod(a, b)) // b).astype(a.dtype)
    return np.trunc(a / b)


def remainder(a: Array, b: Array) -> Array:
    """Remainder with the sign of the divisor."""
    if a.dtype.kind in "iu":
        return np.remainder(a, b)
    rest = np.fmod(a, b)
    return np.where((rest != 0) & ((b < 0) != (rest < 0)), rest + b, rest).astype(a.dtype)


FLOOR_DIVIDE: Final[Op] = elementwise("floor_divide", scaling(promoting("if")), floor_divide, zero, zero)
TRUNC_DIVIDE: Final[Op] = elementwise("trunc_divide", scaling(promoting("if")), trunc_divide, zero, zero)
REMAINDER: Final[Op] = elementwise("remainder", promoting("if"), remainder, pass_on,
                               lambda g, out, a, b: neg(mul(g, emit2(FLOOR_DIVIDE, a, b))))
FMOD: Final[Op] = elementwise("fmod", promoting("if"), np.fmod, pass_on,
                          lambda g, out, a, b: neg(mul(g, emit2(TRUNC_DIVIDE, a, b))))


def power(a: Array, b: Array) -> Array:
    """a ** b; an integer to a negative power is 0, except for 1 and -1."""
    if a.dtype.kind in "iu" and b.dtype.kind == "i" and (b < 0).any():
        sign = np.where(b % 2 == 0, 1, a)
        return np.where(b >= 0, np.power(a, np.maximum(b, 0)), np.where(np.abs(a) == 1, sign, 0)).astype(a.dtype)
    return np.power(a, b)


def _base_gradient(g: Expr, out: Expr, a: Expr, b: Expr) -> Expr:
    # Where the exponent is 0, the derivative is 0 for any base, which the formula would not give for base 0.
    return where(eq(b, 0), zeros_like(g), chain(g, mul(b, pow(a, emit2(SUB, b, number(1, b.dtype))))))


def _exponent_gradient(g: Expr, out: Expr, a: Expr, b: Expr) -> Expr:
    # 0 ** b is flat for b >= 0; elsewhere the logarithm of 0 gives the infinity.
    flat = both(eq(a, 0), ge(b if not b.dtype.is_complex else unary("real", b), 0))
    return where(flat, zeros_like(g), chain(g, mul(out, log(a))))


POW: Final[Op] = elementwise("pow", promoting("ifc"), power, _base_gradient, _exponent_gradient)


def _larger(g: Expr, out: Expr, a: Expr, b: Expr) -> Expr:
    return where(eq(a, b), mul(g, 0.5), where(lt(a, b), zeros_like(g), g))


def _smaller(g: Expr, out: Expr, a: Expr, b: Expr) -> Expr:
    return where(eq(a, b), mul(g, 0.5), where(lt(b, a), zeros_like(g), g))


MAXIMUM: Final[Op] = elementwise("maximum", promoting("bif"), np.maximum, _larger,
                                 lambda g, out, a, b: _larger(g, out, b, a))
MINIMUM: Final[Op] = elementwise("minimum", promoting("bif"), np.minimum, _smaller,
                                 lambda g, out, a, b: _smaller(g, out, b, a))
COPYSIGN: Final[Op] = elementwise("copysign", floating("bif"), np.copysign,
                              lambda g, out, a, b: where(eq(a, 0), zeros_like(g), mul(g, div(out, a))), zero)


def _square_sum(a: Expr, b: Expr) -> Expr:
    # 1 at the origin, so that the gradient of atan2 is 0 there.
    total = emit2(ADD, mul(a, a), mul(b, b))
    return where(eq(total, 0), 1, total)


ATAN2: Final[Op] = elementwise(
    "atan2", floating("bif"), np.arctan2,
    lambda g, out, a, b: mul(g, div(b, _square_sum(a, b))),
    lambda g, out, a, b: neg(mul(g, div(a, _square_sum(a, b)))))


def _where_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    condition, a, b = e.args
    none = zeros_like(g)
    return (None, gradient_for(a, where(condition, g, none)) if a.requires_grad else None,
            gradient_for(b, where(condition, none, g)) if b.requires_grad else None)


WHERE: Final[Op] = elementwise("where", choice, np.where)
WHERE.gradient = _where_gradient
WHERE.differentiable = True


# ---- signs and rounding ------------------------------------------------------------------------------------------------

def sign(a: Array) -> Array:
    """-1, 0 or 1; 0 for NaN."""
    if a.dtype.kind == "b":
        return a
    return ((a > 0).astype(a.dtype) - (a < 0).astype(a.dtype)).astype(a.dtype)


def sgn(a: Array) -> Array:
    """The sign; for complex numbers the number of the same angle on the unit circle, or 0."""
    if a.dtype.kind != "c":
        return sign(a)
    size = np.abs(a)
    return np.where(size == 0, 0, a / np.where(size == 0, 1, size)).astype(a.dtype)


def _rounding(name: str, function: Any) -> Op:
    return elementwise(name, promoting("if"), lambda a: a if a.dtype.kind in "iu" else function(a), zero, widen=False)


ABS: Final[Op] = elementwise("abs", to_real(), np.abs,
                             lambda g, out, a: mul(g, unary("sgn" if a.dtype.is_complex else "sign", a)), widen=False)
SIGN: Final[Op] = elementwise("sign", promoting("bif"), sign, zero, widen=False)
FLOOR: Final[Op] = _rounding("floor", np.floor)
CEIL: Final[Op] = _rounding("ceil", np.ceil)
TRUNC: Final[Op] = _rounding("trunc", np.trunc)
ROUND: Final[Op] = _rounding("round", np.rint)


# ---- comparisons, logic, bits ------------------------------------------------------------------------------------------

EQ: Final[Op] = elementwise("eq", testing(), np.equal)
NE: Final[Op] = elementwise("ne", testing(), np.not_equal)
LT: Final[Op] = elementwise("lt", testing("bif"), np.less)
LE: Final[Op] = elementwise("le", testing("bif"), np.less_equal)
GT: Final[Op] = elementwise("gt", testing("bif"), np.greater)
GE: Final[Op] = elementwise("ge", testing("bif"), np.greater_equal)
ISNAN: Final[Op] = elementwise("isnan", testing(), np.isnan)
ISINF: Final[Op] = elementwise("isinf", testing(), np.isinf)
ISFINITE: Final[Op] = elementwise("isfinite", testing(), np.isfinite)
LOGICAL_NOT: Final[Op] = elementwise("logical_not", testing(), np.logical_not)
BITWISE_NOT: Final[Op] = elementwise("bitwise_not", promoting("bi"), np.invert)
BITWISE_AND: Final[Op] = elementwise("bitwise_and", promoting("bi"), np.bitwise_and)
BITWISE_OR: Final[Op] = elementwise("bitwise_or", promoting("bi"), np.bitwise_or)
BITWISE_XOR: Final[Op] = elementwise("bitwise_xor", promoting("bi"), np.bitwise_xor)


def shift_left(a: Array, b: Array) -> Array:
    """a * 2**b; 0 if all bits are shifted out or b is negative."""
    bits = a.dtype.itemsize * 8
    inside = (b >= 0) & (b < bits)
    return np.where(inside, np.left_shift(a, np.where(inside, b, 0)), 0).astype(a.dtype)


def shift_right(a: Array, b: Array) -> Array:
    """Arithmetic shift; only the sign is left if all bits are shifted out or b is negative."""
    last = a.dtype.itemsize * 8 - (1 if a.dtype.kind == "i" else 0)
    inside = (b >= 0) & (b < a.dtype.itemsize * 8)
    gone = np.right_shift(a, last) if a.dtype.kind == "i" else np.zeros_like(a)
    return np.where(inside, np.right_shift(a, np.where(inside, b, 0)), gone).astype(a.dtype)


SHIFT_LEFT: Final[Op] = elementwise("shift_left", promoting("i"), shift_left)
SHIFT_RIGHT: Final[Op] = elementwise("shift_right", promoting("i"), shift_right)


# ---- casts -------------------------------------------------------------------------------------------------------------

def _cast_infer(attr: Any, a: Expr) -> tuple[Shape, DType]:
    return a.shape, dtype_by_name(attr)


CAST: Final[Op] = Op("cast", _cast_infer, lambda attr, a: convert(a, dtype_by_name(attr)),
                 gradient=lambda e, g: (cast(g, e.args[0].dtype),), kind=ELEMENTWISE)


# ---- lowering ----------------------------------------------------------------------------------------------------------

_ON_BOOL: Final = {"add": "bitwise_or", "mul": "bitwise_and"}
_SCALING: Final = frozenset(("mul", "div", "floor_divide", "trunc_divide"))       # see core/promotion.py: scaling
_ROUNDING: Final = frozenset(("floor", "ceil", "trunc", "round"))
_TESTS: Final = {"isnan": False, "isinf": False, "isfinite": True}


def lowered(e: Expr) -> Expr:
    """An elementwise primitive as the compiler wants it: arguments of one dtype, and only operations that it has.

    Casts become explicit; sums and products of bools become logic, and functions that are trivial for integers vanish.
    """
    args = explicit_arguments(e)
    name = e.op.name
    dtype = args[-1].dtype if args else e.dtype
    if is_half(e.dtype) and any(a.dtype is not e.dtype for a in args) and name in _SCALING:
        return cast(emit(e.op, tuple([cast(a, float32) for a in args]), e.attr), e.dtype)
    if dtype.category < 2:
        if dtype is bool_ and name in _ON_BOOL:
            return emit(TABLE[_ON_BOOL[name]], args)
        if name in _ROUNDING or (dtype is bool_ and name in ("sign", "sgn")):
            return args[0]
        if name in _TESTS:
            return full(e.shape, _TESTS[name], bool_)
    if name == "logical_not":
        return emit(BITWISE_NOT, args) if dtype is bool_ else eq(args[0], 0)
    return e if args == e.args else emit(e.op, args, e.attr)

