"""Elementwise functions: arithmetic, comparison, logic, bits and mathematics.

The Python operators are written out at the end, because they are the hot path of recording: one look-up per operation.
"""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from torsh.core.dtype import DType, bool_, result_type, scalar_dtype, typed
from torsh.core.errors import AutogradError, DTypeError, ShapeMismatchError
from torsh.graph.handle import Handle, expr_of, joined_to_graph, synchronise_handle
from torsh.graph.window import NODE_LIMIT, flush, scalar_expr, tensor_of
from torsh.ops.define import wide
from torsh.ops.elementwise_math import frexp_expr
from torsh.ops.expr import TABLE, Expr, Op, constant, emit, emit1, emit2, make, promotion_priority, recording
from torsh.tensor.function import (
    METHODS,
    NAMESPACES,
    accepting_out,
    assign,
    check_writable,
    function,
    invalid_combination,
    operand,
    recorded,
    tensor_operand,
)
from torsh.tensor.tensor import Tensor

# name: aliases. The op of the table has the same name.
UNARY: Final[dict[str, tuple[str, ...]]] = {
    "abs": ("absolute",), "neg": ("negative",), "sign": (), "sgn": (), "exp": (), "exp2": (), "expm1": (), "log": (),
    "log2": (), "log10": (), "log1p": (), "sqrt": (), "rsqrt": (), "reciprocal": (), "sin": (), "cos": (), "tan": (),
    "asin": ("arcsin",), "acos": ("arccos",), "atan": ("arctan",), "sinh": (), "cosh": (), "tanh": (), "asinh": ("arcsinh",),
    "acosh": ("arccosh",), "atanh": ("arctanh",), "erf": (), "erfc": (), "erfinv": (), "sigmoid": (), "floor": (),
    "ceil": (), "trunc": ("fix",), "frac": (), "square": (), "relu": (), "lgamma": (), "digamma": (), "i0": (), "sinc": (),
    "deg2rad": (), "rad2deg": (), "logical_not": (), "bitwise_not": (),
}
TESTS: Final = ("isnan", "isinf", "isfinite", "signbit", "isposinf", "isneginf")
# Functions of torsh.special that are ops of their own or of the tables above.
SPECIAL_UNARY: Final[dict[str, str]] = {
    "erf": "erf", "erfc": "erfc", "erfinv": "erfinv", "exp2": "exp2", "expm1": "expm1", "expit": "sigmoid", "gammaln": "lgamma",
    "psi": "digamma", "digamma": "digamma", "i0": "i0", "i0e": "i0e", "i1": "i1", "i1e": "i1e", "log1p": "log1p", "sinc": "sinc",
}
# Which arguments of a binary function have to be tensors.
NONE, FIRST, BOTH, EITHER = "none", "first", "both", "either"
# name: (aliases, in place, what has to be a tensor)
BINARY: Final[dict[str, tuple[tuple[str, ...], bool, str]]] = {
    "mul": (("multiply",), True, NONE), "atan2": (("arctan2",), True, BOTH), "fmod": ((), True, FIRST),
    "maximum": ((), False, BOTH), "minimum": ((), False, BOTH), "hypot": ((), True, BOTH), "nextafter": ((), True, BOTH),
    "copysign": ((), True, FIRST), "logaddexp": ((), False, BOTH), "logaddexp2": ((), False, BOTH), "eq": ((), True, FIRST),
    "ne": (("not_equal",), True, FIRST), "lt": (("less",), True, FIRST), "le": (("less_equal",), True, FIRST),
    "gt": (("greater",), True, FIRST), "ge": (("greater_equal",), True, FIRST), "heaviside": ((), True, BOTH),
    "bitwise_and": ((), True, EITHER), "bitwise_or": ((), True, EITHER), "bitwise_xor": ((), True, EITHER),
    "gcd": ((), True, BOTH), "lcm": ((), True, BOTH), "xlogy": ((), True, EITHER), "ldexp": ((), True, BOTH),
}
_SECOND_ARGUMENT: Final = {"heaviside": "values"}
NUMBERS: Final = frozenset((bool, int, float, complex))


def _unary(name: str, aliases: tuple[str, ...]) -> None:
    op = TABLE[name]

    def fn(input: Tensor) -> Tensor:
        return tensor_of(emit1(op, tensor_operand(input, name)))

    def with_out(input: Any, *, out: Any = None) -> Tensor:
        window = recording.window
        if out is not None or not isinstance(input, Handle) or len(window.pending) > NODE_LIMIT:
            return general(input, out=out)  # type: ignore[no-any-return]
        a = input._expr if input._token is window.token else synchronise_handle(input)
        key = (op, (a,), None)
        e = recording.memo.get(key)
        return tensor_of(e if e is not None else make(op, (a,), None, key))
    fn.__name__ = name
    fn.__doc__ = f"Elementwise ``{name}``."
    general = accepting_out(fn, name)
    functools.update_wrapper(with_out, fn)
    function(name, inplace=True, aliases=aliases, out=False)(with_out)


for _name, _aliases in UNARY.items():
    if _name in TABLE:
        _unary(_name, _aliases)


def _test(name: str) -> None:
    def fn(input: Tensor) -> Tensor:
        e = tensor_operand(input, name)
        return tensor_of(emit1(TABLE[name], e))
    fn.__name__ = name
    fn.__doc__ = f"Elementwise ``{name}`` as a bool tensor."
    function(name, out=name in ("signbit", "isposinf", "isneginf"))(fn)


for _name in TESTS:
    if _name in TABLE:
        _test(_name)


def _special(name: str, op_name: str) -> None:
    def fn(input: Tensor) -> Tensor:
        return tensor_of(emit1(TABLE[op_name], tensor_operand(input, name)))
    fn.__name__ = name
    fn.__doc__ = f"Elementwise ``{name}``."
    function(name, namespace="special", method=False)(fn)


for _name, _op_name in SPECIAL_UNARY.items():
    if _op_name in TABLE:
        _special(_name, _op_name)


def checked_operands(name: str, input: Any, other: Any, need: str) -> tuple[Expr, Expr]:
    """The operands of a binary function; raises unless those that have to be tensors are."""
    if need == BOTH:
        return tensor_operand(input, name), tensor_operand(other, name, 2, _SECOND_ARGUMENT.get(name, "other"))
    if not isinstance(input, Handle) and (need == FIRST or need == EITHER and not isinstance(other, Handle)):
        raise invalid_combination(name, input, other)
    return operand(input, name, 1, "input"), operand(other, name)


def _binary(name: str, aliases: tuple[str, ...], inplace: bool, need: str) -> None:
    op = TABLE[name]

    def fn(input: Any, other: Any) -> Tensor:
        return tensor_of(emit2(op, *checked_operands(name, input, other, need)))
    fn.__name__ = name
    fn.__doc__ = f"Elementwise ``{name}`` with broadcasting and type promotion."
    function(name, inplace=inplace, aliases=aliases)(fn)


for _name, (_aliases, _inplace, _need) in BINARY.items():
    if _name in TABLE:
        _binary(_name, _aliases, _inplace, _need)


@function("isreal", out=False)
def isreal(input: Tensor) -> Tensor:
    """Which elements are real numbers."""
    if input.is_complex():
        return input.imag == 0
    return tensor_of(emit1(TABLE["expand"], constant(True, bool_), input._expr.shape))


# ---- arithmetic with options -------------------------------------------------------------------------------------------

def scaled(e: Expr, alpha: Any, result: DType, name: str) -> Expr:
    """``alpha * e`` with PyTorch's checks of alpha's kind, in the dtype that ``result`` is computed in."""
    if isinstance(alpha, bool) and result.category != 0:
        raise DTypeError(f"{name}: Boolean alpha only supported for Boolean results.")
    if isinstance(alpha, float) and result.category < 2:
        raise DTypeError(f"{name}: For integral input tensors, argument alpha must not be a floating point number.")
    if isinstance(alpha, complex) and result.category < 3:
        raise DTypeError(f"{name}: For non-complex input tensors, argument alpha must not be a complex number.")
    factor = operand(alpha, name, argument="alpha")
    e = emit1(TABLE["cast"], e, result.name)
    if wide(result) is not result:          # the factors are rounded, their product is not
        e, factor = (emit1(TABLE["cast"], f, wide(result).name) for f in (e, emit1(TABLE["cast"], factor, result.name)))
    return emit2(TABLE["mul"], e, factor)


def with_alpha(name: str, a: Expr, b: Expr, alpha: Any) -> Tensor:
    """``a + alpha * b`` or ``a - alpha * b``; 16-bit numbers are rounded once, at the end."""
    dtype = promoted(a, b)
    b = scaled(b, alpha, dtype, name)
    if wide(dtype) is not dtype:
        a = emit1(TABLE["cast"], a, wide(dtype).name)
    return tensor_of(emit1(TABLE["cast"], emit2(TABLE[name], a, b), dtype.name))


def promoted(*exprs: Expr) -> DType:
    """The dtype that these operands are computed in."""
    return result_type(tuple([(e.dtype, promotion_priority(e)) for e in exprs]))


@function("add", inplace=True)
def add(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """``input + alpha * other``."""
    a, b = operand(input, "add", 1, "input"), operand(other, "add")
    if alpha.__class__ is not int or alpha != 1:
        return with_alpha("add", a, b, alpha)
    return tensor_of(emit2(TABLE["add"], a, b))


@function("sub", inplace=True, aliases=("subtract",))
def sub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """``input - alpha * other``."""
    a, b = operand(input, "sub", 1, "input"), operand(other, "sub")
    if alpha.__class__ is not int or alpha != 1:
        return with_alpha("sub", a, b, alpha)
    return tensor_of(emit2(TABLE["sub"], a, b))


@function("rsub", out=False, method=False)
def rsub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """``other - alpha * input``."""
    checked_operands("rsub", input, other, FIRST)
    return sub(other, input, alpha=alpha)


@function("div", inplace=True, aliases=("divide",))
def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """``input / other``; rounding_mode: None (true division), ``"trunc"`` or ``"floor"``."""
    a, b = operand(input, "div", 1, "input"), operand(other, "div")
    if rounding_mode is None:
        return tensor_of(emit2(TABLE["div"], a, b))
    if rounding_mode not in ("floor", "trunc"):
        raise DTypeError(f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'")
    return tensor_of(emit2(TABLE["floor_divide" if rounding_mode == "floor" else "trunc_divide"], a, b))


@function("true_divide", inplace=True)
def true_divide(input: Any, other: Any) -> Tensor:
    """``input / other``."""
    return div(input, other)  # type: ignore[no-any-return]


@function("floor_divide", inplace=True)
def floor_divide(input: Any, other: Any) -> Tensor:
    """``floor(input / other)``."""
    return div(input, other, rounding_mode="floor")  # type: ignore[no-any-return]


@function("remainder", inplace=True)
def remainder(input: Any, other: Any) -> Tensor:
    """Remainder with the sign of ``other`` (Python's ``%``)."""
    return tensor_of(emit2(TABLE["remainder"], *checked_operands("remainder", input, other, EITHER)))


@function("pow", inplace=True)
def pow(input: Any, exponent: Any) -> Tensor:
    """``input`` to the power of ``exponent``."""
    return power(checked_operands("pow", input, exponent, EITHER)[0], exponent)


def power(a: Expr, exponent: Any) -> Tensor:
    """pow, with the common constant exponents as cheaper ops."""
    if isinstance(exponent, Handle) or a.dtype.category == 0:
        return tensor_of(emit2(TABLE["pow"], a, operand(exponent, "pow")))
    if type(exponent) in (int, float):
        if exponent == 2:
            if a.dtype.category >= 2 or type(exponent) is int:
                return tensor_of(emit1(TABLE["square"], a))
        elif exponent == 0.5 and a.dtype.category >= 2:
            return tensor_of(emit1(TABLE["sqrt"], a))
        elif exponent == -1 and a.dtype.category >= 2:
            return tensor_of(emit1(TABLE["reciprocal"], a))
        elif type(exponent) is int and exponent < 0 and a.dtype.category < 2:
            raise DTypeError("Integers to negative integer powers are not allowed.")
    return tensor_of(emit2(TABLE["pow"], a, operand(exponent, "pow")))


@function("float_power", inplace=True)
def float_power(input: Any, exponent: Any) -> Tensor:
    """pow computed in float64 (or complex128)."""
    a, b = checked_operands("float_power", input, exponent, EITHER)
    kind = "complex128" if max(a.dtype.category, b.dtype.category) == 3 else "float64"
    return tensor_of(emit2(TABLE["pow"], emit1(TABLE["cast"], a, kind), emit1(TABLE["cast"], b, kind)))


@function("square", inplace=True)
def square(input: Tensor) -> Tensor:
    """``input * input``."""
    return tensor_of(emit1(TABLE["square"], tensor_operand(input, "square")))


@function("positive", out=False)
def positive(input: Tensor) -> Tensor:
    """The tensor itself; an error for bool."""
    if input.dtype is bool_:
        raise DTypeError("The `+` operator, on a bool tensor is not supported.")
    return input


@function("round", inplace=True)
def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """Nearest integer, halves to even; ``decimals``: decimal places to keep."""
    e = tensor_operand(input, "round")
    if decimals == 0:
        return tensor_of(emit1(TABLE["round"], e))
    scale = 10.0 ** abs(decimals)
    up, down = ("mul", "div") if decimals > 0 else ("div", "mul")
    computed = wide(e.dtype)
    s = constant(scale, computed)
    scaled_up = emit2(TABLE[up], emit1(TABLE["cast"], e, computed.name), s)
    return tensor_of(emit1(TABLE["cast"], emit2(TABLE[down], emit1(TABLE["round"], scaled_up), s), e.dtype.name))


@function("clamp", inplace=True, aliases=("clip",))
def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Elements limited to [min, max]; the limits are numbers or tensors, either may be missing."""
    e = tensor_operand(input, "clamp")
    if e.dtype.category == 1 and all(limit is None or limit.__class__ is int for limit in (min, max)):
        for limit in (min, max):
            typed(0 if limit is None else limit, e.dtype)       # raises if it does not fit
    if min is None and max is None:
        raise AutogradError("torsh.clamp: At least one of 'min' or 'max' must not be None")
    if min is not None and max is not None:
        return tensor_of(emit(TABLE["clamp"], (e, operand(min, "clamp"), operand(max, "clamp")), "both"))
    if min is not None:
        return tensor_of(emit(TABLE["clamp"], (e, operand(min, "clamp")), "min"))
    return tensor_of(emit(TABLE["clamp"], (e, operand(max, "clamp")), "max"))


@function("clamp_min", inplace=True)
def clamp_min(input: Tensor, min: Any) -> Tensor:
    """Elements not below ``min``."""
    return _limited(input, min, "clamp_min", "min", "maximum")


@function("clamp_max", inplace=True)
def clamp_max(input: Tensor, max: Any) -> Tensor:
    """Elements not above ``max``."""
    return _limited(input, max, "clamp_max", "max", "minimum")


def _limited(input: Tensor, limit: Any, name: str, side: str, extreme: str) -> Tensor:
    e, bound = tensor_operand(input, name), operand(limit, name, 2, side)
    if e.dtype is bool_:                    # clamp does not take bool, these two do
        return Tensor(emit2(TABLE[extreme], e, bound))
    return Tensor(emit(TABLE["clamp"], (e, bound), side))


def _logical(name: str, op_name: str) -> None:
    def fn(input: Tensor, other: Tensor) -> Tensor:
        a, b = (emit1(TABLE["cast"], t, "bool") for t in checked_operands(name, input, other, BOTH))
        return tensor_of(emit2(TABLE[op_name], a, b))
    fn.__name__ = name
    fn.__doc__ = f"Elementwise ``{name}`` of truth values."
    function(name, inplace=True)(fn)


for _name, _op_name in (("logical_and", "bitwise_and"), ("logical_or", "bitwise_or"), ("logical_xor", "bitwise_xor")):
    _logical(_name, _op_name)


def _shift(name: str, op_name: str) -> None:
    def fn(input: Any, other: Any) -> Tensor:
        return tensor_of(emit2(TABLE[op_name], *checked_operands(name, input, other, EITHER)))
    fn.__name__ = name
    fn.__doc__ = f"Elementwise ``{name}``."
    function(name, inplace=True)(fn)


for _name, _op_name in (("bitwise_left_shift", "shift_left"), ("bitwise_right_shift", "shift_right")):
    _shift(_name, _op_name)


@function("fmax")
def fmax(input: Tensor, other: Tensor) -> Tensor:
    """Elementwise maximum that prefers numbers to NaN."""
    return _prefer_number(input, other, "fmax", "maximum")


@function("fmin")
def fmin(input: Tensor, other: Tensor) -> Tensor:
    """Elementwise minimum that prefers numbers to NaN."""
    return _prefer_number(input, other, "fmin", "minimum")


def _prefer_number(input: Tensor, other: Tensor, name: str, op_name: str) -> Tensor:
    a, b = checked_operands(name, input, other, BOTH)
    best = emit2(TABLE[op_name], a, b)
    if best.dtype.category < 2:
        return Tensor(best)
    where, isnan = TABLE["where"], TABLE["isnan"]
    return tensor_of(emit(where, (emit1(isnan, a), b, emit(where, (emit1(isnan, b), a, best)))))


def in_common(*tensors: Any, name: str) -> tuple[Any, ...]:
    """Tensors in the dtype that they are computed in together (16-bit ones in float32), then the dtype of the result."""
    operands = [tensor_operand(t, name, i, argument) for i, (t, argument) in enumerate(
        zip(tensors, ("input", "tensor1", "tensor2"), strict=True), 1)]
    dtype = promoted(*operands)
    wanted = wide(dtype)
    return (*[t.to(wanted) for t in tensors], dtype)


@function("addcmul", inplace=True)
def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """``input + value * tensor1 * tensor2``."""
    a, b, c, dtype = in_common(input, tensor1, tensor2, name="addcmul")
    return add(a, b * c, alpha=value).to(dtype)  # type: ignore[no-any-return]


@function("addcdiv", inplace=True)
def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """``input + value * tensor1 / tensor2``."""
    if tensor1.dtype.category < 2 and tensor2.dtype.category < 2:
        raise DTypeError("Integer division with addcdiv is no longer supported, and in a future release addcdiv will perform "
                         "a true division of tensor1 and tensor2.")
    a, b, c, dtype = in_common(input, tensor1, tensor2, name="addcdiv")
    return (a + value * (b / c)).to(dtype)  # type: ignore[no-any-return]


@function("lerp", inplace=True)
def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """``input + weight * (end - input)``."""
    a, b = tensor_operand(input, "lerp"), tensor_operand(end, "lerp", 2, "end")
    if a.dtype is not b.dtype:
        raise DTypeError(f"expected dtype {a.dtype.name} for `end` but got dtype {b.dtype.name}")
    return tensor_of(emit(TABLE["lerp"], (a, b, operand(weight, "lerp", 3, "weight"))))


@function("logit", inplace=True)
def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """``log(x / (1 - x))``, with x limited to [eps, 1 - eps] if given."""
    x = input if eps is None else clamp(input, eps, 1 - eps)
    if x.dtype.category < 2:
        x = x.to(scalar_dtype(2))
    return (x / (1 - x)).log()  # type: ignore[no-any-return]


@function("nan_to_num", inplace=True)
def nan_to_num(input: Tensor, nan: float | None = None, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """NaN and infinities replaced by numbers (0 and the dtype's extremes by default)."""
    e = tensor_operand(input, "nan_to_num")
    if e.dtype.category < 2:
        return tensor_of(emit1(TABLE["mul"], e) if False else emit2(TABLE["add"], e, constant(0, e.dtype))
                      if e.dtype.category else emit1(TABLE["cast"], e, "bool"))
    if e.dtype.category == 3:
        from torsh.tensor.conversion import complex as make_complex
        return make_complex(nan_to_num(input.real, nan, posinf, neginf), nan_to_num(input.imag, nan, posinf, neginf))
    import ml_dtypes
    limits = ml_dtypes.finfo(e.dtype.numpy)  # type: ignore[no-untyped-call]
    numbers = (nan if nan is not None else 0.0, posinf if posinf is not None else float(limits.max),
               neginf if neginf is not None else float(limits.min))
    where = TABLE["where"]
    n, p, m = (constant(float(v), e.dtype) for v in numbers)
    inf = constant(float("inf"), e.dtype)
    r = emit(where, (emit2(TABLE["eq"], e, inf), p, emit(where, (emit1(TABLE["isnan"], e), n, e))))
    return tensor_of(emit(where, (emit2(TABLE["eq"], e, constant(float("-inf"), e.dtype)), m, r)))


@function("where", inplace=False)
def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """``input`` where the condition holds, else ``other``; with the condition alone: its nonzero positions as a tuple."""
    if input is None and other is None:
        from torsh.tensor.indexing import nonzero
        return nonzero(condition, as_tuple=True)
    c = tensor_operand(condition, "where", 1, "condition")
    if c.dtype.category != 0:
        if c.dtype.name != "uint8":
            raise DTypeError(f"where expected condition to be a boolean tensor, but got a tensor with dtype {c.dtype.name}")
        c = emit1(TABLE["cast"], c, "bool")
    return tensor_of(emit(TABLE["where"], (c, operand(input, "where"), operand(other, "where", 3))))


METHODS["where"] = lambda self, condition, other: where(condition, self, other)


@function("frexp")
def frexp(input: Tensor) -> Any:
    """(mantissa, exponent): ``input = mantissa * 2 ** exponent`` with a mantissa of magnitude in [0.5, 1)."""
    mantissa, exponent = frexp_expr(tensor_operand(input, "frexp"))
    return Frexp(Tensor(mantissa), Tensor(exponent))


class Frexp(NamedTuple):
    """What :func:`frexp` returns."""

    mantissa: Any
    exponent: Any


@function("isclose", out=False)
def isclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Tensor:
    """Where ``|input - other| <= atol + rtol * |other|``."""
    a, b = tensor_operand(input, "isclose"), tensor_operand(other, "isclose", 2, "other")
    if a.dtype is not b.dtype:
        raise DTypeError(f"{a.dtype.name} did not match {b.dtype.name}")
    for label, value in (("rtol", rtol), ("atol", atol)):
        if value < 0:
            raise ShapeMismatchError(f"{label} must be greater than or equal to zero, but got {value}")
    close = input == other
    if equal_nan and a.dtype.category >= 2:
        close = close | (isnan_of(input) & isnan_of(other))
    if rtol == 0 and atol == 0:
        return close
    wide = other if a.dtype.category >= 2 else other.to(scalar_dtype(2))
    difference = (input.to(wide.dtype) - wide).abs()
    return close | (difference.isfinite() & (difference <= atol + (rtol * wide).abs()))


def isnan_of(t: Tensor) -> Tensor:
    """Elementwise isnan."""
    return tensor_of(emit1(TABLE["isnan"], expr_of(t)))


@function("fill", inplace=True, out=False)
def fill(input: Tensor, value: Any) -> Tensor:
    """A tensor of the same size filled with ``value``."""
    if value.__class__ in NUMBERS:
        value = typed(value, input.dtype)
    v = operand(value, "fill", 2, "value")
    if v.shape:
        raise DTypeError(f"fill only supports 0-dimension value tensor but got tensor with {len(v.shape)} dimensions.")
    return recorded(_fill, (input, v))  # type: ignore[no-any-return]


def _fill(input: Expr, value: Expr) -> Expr:
    filled = emit1(TABLE["cast"], value, input.dtype.name)
    filled = emit1(TABLE["expand"], filled, input.shape) if input.shape else filled
    # An input that requires gradients takes part, with gradient 0, as it does in PyTorch.
    return joined_to_graph(filled, input) if input.requires_grad else filled


def fill_(self: Tensor, value: Any) -> Tensor:
    """Set all elements to ``value``."""
    check_writable(self, idempotent=True)
    return assign(self, fill(self, value), "fill_")  # type: ignore[no-any-return]


def zero_(self: Tensor) -> Tensor:
    """Set all elements to 0."""
    return fill_(self, 0)


METHODS.update({"fill_": fill_, "zero_": zero_})
NAMESPACES[""].update({"fill_": fill_, "zero_": zero_})


@function("isin", method=False)
def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Which elements occur among the test elements."""
    from torsh.tensor.creation import as_tensor
    a, b = as_tensor(elements), as_tensor(test_elements).reshape(-1)
    found = (a.unsqueeze(-1) == b).any(-1) if b.numel() else a.new_zeros(a.shape, dtype=bool_)
    return ~found if invert else found


# ---- operators ---------------------------------------------------------------------------------------------------------

def _operator(name: str, reverse: bool = False) -> Callable[[Any, Any], Any]:
    """A Python operator over an op of the table: the hot path, hence written flat."""
    op = TABLE[name]

    def forward(self: Any, other: Any) -> Any:
        window = recording.window
        if len(window.pending) > NODE_LIMIT:
            flush()
            window = recording.window
        a = self._expr if self._token is window.token else synchronise_handle(self)
        if isinstance(other, Handle):
            b = other._expr if other._token is recording.window.token else synchronise_handle(other)
            if a is not self._expr:
                a = expr_of(self)
        elif type(other) in NUMBERS:
            b = scalar_expr(other)
        else:
            try:
                b = operand(other, name)
            except TypeError:
                return NotImplemented
        args = (b, a) if reverse else (a, b)
        key = (op, args, None)
        e = recording.memo.get(key)
        return tensor_of(e if e is not None else make(op, args, None, key))
    forward.__name__ = name
    return forward


def _in_place_operator(name: str) -> Callable[[Any, Any], Any]:
    def changed(self: Any, other: Any) -> Any:
        return METHODS[name + "_"](self, other)
    changed.__name__ = name + "_"
    return changed


def _pow(self: Any, other: Any) -> Any:
    return power(expr_of(self), other)


def _rpow(self: Any, other: Any) -> Any:
    return tensor_of(emit2(TABLE["pow"], operand(other, "pow"), expr_of(self)))


def _bool_logic(name: str, reverse: bool = False) -> Callable[[Any, Any], Any]:
    op: Op = TABLE[name]

    def forward(self: Any, other: Any) -> Any:
        try:
            b = operand(other, name)
        except TypeError:
            return NotImplemented
        return tensor_of(emit2(op, b, expr_of(self)) if reverse else emit2(op, expr_of(self), b))
    return forward


OPERATORS: Final[dict[str, Callable[..., Any]]] = {
    "__add__": _operator("add"), "__radd__": _operator("add", True), "__sub__": _operator("sub"),
    "__rsub__": _operator("sub", True), "__mul__": _operator("mul"), "__rmul__": _operator("mul", True),
    "__truediv__": _operator("div"), "__rtruediv__": _operator("div", True), "__floordiv__": _operator("floor_divide"),
    "__rfloordiv__": _operator("floor_divide", True), "__mod__": _operator("remainder"),
    "__rmod__": _operator("remainder", True), "__pow__": _pow, "__rpow__": _rpow, "__eq__": _operator("eq"),
    "__ne__": _operator("ne"), "__lt__": _operator("lt"), "__le__": _operator("le"), "__gt__": _operator("gt"),
    "__ge__": _operator("ge"), "__and__": _bool_logic("bitwise_and"), "__rand__": _bool_logic("bitwise_and"),
    "__or__": _bool_logic("bitwise_or"), "__ror__": _bool_logic("bitwise_or"), "__xor__": _bool_logic("bitwise_xor"),
    "__rxor__": _bool_logic("bitwise_xor"), "__lshift__": _bool_logic("shift_left"), "__rshift__": _bool_logic("shift_right"),
    "__rlshift__": _bool_logic("shift_left", True), "__rrshift__": _bool_logic("shift_right", True),
    "__neg__": lambda self: tensor_of(emit1(TABLE["neg"], expr_of(self))),
    "__pos__": lambda self: positive(self),
    "__abs__": lambda self: tensor_of(emit1(TABLE["abs"], expr_of(self))),
    "__invert__": lambda self: tensor_of(emit1(TABLE["bitwise_not"], expr_of(self))),
    "__iadd__": _in_place_operator("add"), "__isub__": _in_place_operator("sub"), "__imul__": _in_place_operator("mul"),
    "__itruediv__": _in_place_operator("div"), "__ifloordiv__": _in_place_operator("floor_divide"),
    "__imod__": _in_place_operator("remainder"), "__ipow__": _in_place_operator("pow"),
    "__iand__": _in_place_operator("bitwise_and"), "__ior__": _in_place_operator("bitwise_or"),
    "__ixor__": _in_place_operator("bitwise_xor"),
    "__ilshift__": _in_place_operator("bitwise_left_shift"), "__irshift__": _in_place_operator("bitwise_right_shift"),
}
METHODS.update(OPERATORS)
METHODS["__rdiv__"] = OPERATORS["__rtruediv__"]
METHODS["__idiv__"] = OPERATORS["__itruediv__"]
