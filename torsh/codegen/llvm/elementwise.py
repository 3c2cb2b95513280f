"""The elementwise primitives: one function per op, from operands in registers to an operand.

``PRIMITIVES[name](m, dtype, args)`` computes in ``dtype``, the dtype of the arguments (of the last two for ``where``).
Operations on narrow floats compute in float32; :func:`apply` rounds what is not exact.
"""
from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Final

from torsh.codegen.llvm import math_division as division
from torsh.codegen.llvm import math_error, math_exponential, math_trigonometric
from torsh.codegen.llvm.math_common import copysign
from torsh.codegen.llvm.philox import philox
from torsh.codegen.llvm.values import is_narrow, rounded
from torsh.codegen.llvm.writer import Operand, Writer
from torsh.core.dtype import DType, bool_

Primitive = Callable[[Writer, DType, Sequence[Operand]], Operand]
_CONTRACT = "contract "


def _signed(dtype: DType) -> bool:
    return dtype.is_signed and dtype is not bool_


def _arithmetic(float_op: str, integer_op: str, bool_op: str | None = None) -> Primitive:
    def compute(m: Writer, dtype: DType, args: Sequence[Operand]) -> Operand:
        if dtype.is_floating_point:
            return m.binary(float_op, args[0], args[1], "" if is_narrow(dtype) else _CONTRACT)
        return m.binary(bool_op if dtype is bool_ and bool_op else integer_op, args[0], args[1])

    return compute


def _plain(op: str) -> Primitive:
    return lambda m, dtype, args: m.binary(op, args[0], args[1])


def _intrinsic(name: str) -> Primitive:
    """An LLVM intrinsic for floats that leaves integers as they are."""
    return lambda m, dtype, args: m.intrinsic(name, args[0]) if dtype.is_floating_point else args[0]


def _function(function: Callable[..., Operand]) -> Primitive:
    return lambda m, dtype, args: function(m, *args)


def _comparison(name: str) -> Primitive:
    def compute(m: Writer, dtype: DType, args: Sequence[Operand]) -> Operand:
        if dtype.is_floating_point:
            predicate = "une" if name == "ne" else "o" + name
        elif name in ("eq", "ne"):
            predicate = name
        else:
            predicate = ("s" if _signed(dtype) else "u") + name
        return m.compare(predicate, args[0], args[1])

    return compute


def extremum(largest: bool) -> Primitive:
    """The larger or smaller one; NaN propagates."""
    def compute(m: Writer, dtype: DType, args: Sequence[Operand]) -> Operand:
        a, b = m.same(*args)
        if dtype is bool_:
            return a | b if largest else a & b
        if not dtype.is_floating_point:
            order = ("s" if _signed(dtype) else "u") + ("gt" if largest else "lt")
            return m.select(m.compare(order, a, b), a, b)
        chosen = m.select(m.compare("ogt" if largest else "olt", a, b), a, b)      # b if either is NaN
        return m.select(m.compare("uno", a, a), a, chosen)

    return compute


def _negate(m: Writer, dtype: DType, args: Sequence[Operand]) -> Operand:
    return -args[0]


def _absolute(m: Writer, dtype: DType, args: Sequence[Operand]) -> Operand:
    a = args[0]
    if dtype.is_floating_point:
        return m.abs(a)
    return m.select(m.compare("slt", a, 0), -a, a) if _signed(dtype) else a


def _sign(m: Writer, dtype: DType, args: Sequence[Operand]) -> Operand:
    a = args[0]
    if dtype is bool_:
        return a
    if dtype.is_floating_point:
        positive = m.select(m.compare("ogt", a, 0.0), m.like(1.0, a), 0.0)
        return m.select(m.compare("olt", a, 0.0), -1.0, positive)
    order = "sgt" if _signed(dtype) else "ugt"
    positive = m.select(m.compare(order, a, 0), m.like(1, a), 0)
    return m.select(m.compare("slt", a, 0), m.like(-1, a), positive) if _signed(dtype) else positive


def _reciprocal(m: Writer, dtype: DType, args: Sequence[Operand]) -> Operand:
    return 1.0 / args[0]


def _reciprocal_root(m: Writer, dtype: DType, args: Sequence[Operand]) -> Operand:
    return 1.0 / m.intrinsic("sqrt", args[0])


def _power(m: Writer, dtype: DType, args: Sequence[Operand]) -> Operand:
    base, exponent = args
    if not dtype.is_floating_point:
        return division.pow_integer(m, base, exponent, dtype.is_signed)
    if exponent.constant in (2.0, 1.0):
        return base * base if exponent.constant == 2.0 else base
    return division.pow_float(m, *m.same(base, exponent))


def _divide(name: str, function: Callable[..., Operand]) -> Primitive:
    def compute(m: Writer, dtype: DType, args: Sequence[Operand]) -> Operand:
        a, b = m.same(*args)
        if dtype.is_floating_point:
            return function(m, a, b)
        return division.integer_division(m, name, a, b, dtype.is_signed)

    return compute


def _truncated_quotient(m: Writer, a: Operand, b: Operand) -> Operand:
    return m.intrinsic("trunc", a / b)


def _classified(kind: str) -> Primitive:
    """isnan, isinf, isfinite."""
    def compute(m: Writer, dtype: DType, args: Sequence[Operand]) -> Operand:
        a = args[0]
        if not dtype.is_floating_point:
            return m.constant(kind == "isfinite", "i1", a.lanes)
        if kind == "isnan":
            return m.compare("uno", a, a)
        return m.compare("oeq" if kind == "isinf" else "olt", m.abs(a), float("inf"))

    return compute


def _logical_not(m: Writer, dtype: DType, args: Sequence[Operand]) -> Operand:
    a = args[0]
    return a ^ True if dtype is bool_ else m.compare("oeq" if a.is_float else "eq", a, 0)


def _bitwise_not(m: Writer, dtype: DType, args: Sequence[Operand]) -> Operand:
    return args[0] ^ (True if dtype is bool_ else -1)


def _shift(left: bool) -> Primitive:
    """Counts outside of [0, width) shift everything out."""
    def compute(m: Writer, dtype: DType, args: Sequence[Operand]) -> Operand:
        a, count = m.same(*args)
        width = dtype.itemsize * 8
        inside = m.compare("ult", count, width)
        if left or not _signed(dtype):
            safe = m.select(inside, count, 0)
            return m.select(inside, a << safe if left else a >> safe, 0)
        return m.shift_arithmetic(a, m.select(inside, count, width - 1))

    return compute


def _where(m: Writer, dtype: DType, args: Sequence[Operand]) -> Operand:
    return m.select(*args)


PRIMITIVES: Final[dict[str, Primitive]] = {
    "add": _arithmetic("fadd", "add", "or"), "sub": _arithmetic("fsub", "sub", "xor"),
    "mul": _arithmetic("fmul", "mul", "and"), "div": _arithmetic("fdiv", "fdiv"),
    "neg": _negate, "abs": _absolute, "sign": _sign,
    "maximum": extremum(True), "minimum": extremum(False),
    "floor_divide": _divide("floor_divide", division.floor_divide), "fmod": _divide("fmod", division.fmod),
    "trunc_divide": _divide("trunc_divide", _truncated_quotient), "remainder": _divide("remainder", division.remainder),
    "pow": _power, "atan2": _function(math_trigonometric.atan2),
    "copysign": lambda m, dtype, args: copysign(m, *m.same(*args)),
    "bitwise_and": _plain("and"), "bitwise_or": _plain("or"), "bitwise_xor": _plain("xor"),
    "shift_left": _shift(True), "shift_right": _shift(False),
    **{name: _comparison(name) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{name: _function(getattr(math_exponential, name)) for name in (
        "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh",
        "sigmoid")},
    **{name: _function(getattr(math_trigonometric, name)) for name in ("sin", "cos", "tan", "asin", "acos", "atan")},
    "erf": _function(math_error.erf), "erfc": _function(math_error.erfc),
    "normal_cdf": _function(math_error.normal_cdf),
    "sqrt": _intrinsic("sqrt"), "rsqrt": _reciprocal_root, "reciprocal": _reciprocal,
    "floor": _intrinsic("floor"), "ceil": _intrinsic("ceil"), "trunc": _intrinsic("trunc"), "round": _intrinsic("roundeven"),
    **{name: _classified(name) for name in ("isnan", "isinf", "isfinite")},
    "logical_not": _logical_not, "bitwise_not": _bitwise_not, "where": _where,
}
_FLOAT_ONLY: Final = frozenset((
    "div", "atan2", "copysign", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sinh", "cosh", "tanh", "asinh",
    "acosh", "atanh", "sigmoid", "sin", "cos", "tan", "asin", "acos", "atan", "erf", "erfc", "normal_cdf", "sqrt", "rsqrt",
    "reciprocal"))
_INTEGER_ONLY: Final = frozenset(("bitwise_not", "bitwise_and", "bitwise_or", "bitwise_xor", "shift_left", "shift_right"))
_BOOL: Final = frozenset((
    "add", "mul", "maximum", "minimum", "bitwise_not", "bitwise_and", "bitwise_or", "bitwise_xor", "eq", "ne", "lt", "le",
    "gt", "ge", "logical_not", "where", "isnan", "isinf", "isfinite", "abs", "sign"))
# What is exact, so that narrow floats need no rounding; comparisons give bool anyway.
_EXACT: Final = frozenset(("neg", "abs", "sign", "maximum", "minimum", "copysign", "floor", "ceil", "trunc", "round",
                           "where", "fmod"))


def is_supported(name: str, dtype: DType) -> bool:
    """Whether the elementwise primitive can be computed on arguments of this dtype."""
    if name == "cast":
        return not dtype.is_complex
    if name == "philox":
        return dtype.name == "int64"
    if name not in PRIMITIVES or dtype.is_complex:
        return False
    if dtype is bool_:
        return name in _BOOL
    return name not in (_INTEGER_ONLY if dtype.is_floating_point else _FLOAT_ONLY)


def apply(m: Writer, name: str, result: DType, dtype: DType, args: Sequence[Operand], attr: Hashable) -> Operand:
    """The primitive ``name`` on operands of ``dtype``, giving an operand of the dtype ``result``."""
    if name == "philox":
        assert isinstance(attr, int)
        return philox(m, attr, *args)
    value = PRIMITIVES[name](m, dtype, args)
    return rounded(m, value, result) if is_narrow(result) and name not in _EXACT else value
