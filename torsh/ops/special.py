"""Further elementwise functions: compositions of primitives, and special functions that run on the host."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from torsh.core.dtype import DType, bool_, float64, int64, result_type
from torsh.core.promotion import Operands, Rule, floating, promoting, same, testing
from torsh.ops.common import (
    absolute,
    add,
    binary,
    both,
    cast,
    chain,
    conj,
    div,
    either,
    eq,
    exp,
    full,
    ge,
    gt,
    indicator,
    le,
    log,
    lt,
    maximum,
    minimum,
    mul,
    neg,
    number,
    sqrt,
    square,
    sub,
    unary,
    where,
    zeros_like,
)
from torsh.ops.define import Array, convert, elementwise, operand_of
from torsh.ops.elementwise import pass_on, zero
from torsh.ops.expr import HOST, Expr, Op, emit1

LN2: Final = math.log(2)
REAL: Final = floating("bif")


# ---- arithmetic compositions -------------------------------------------------------------------------------------------

def _square_rule(name: str, operands: Operands) -> tuple[tuple[DType, ...], DType]:
    dtype = operands[0][0]
    dtype = int64 if dtype is bool_ else dtype
    return (dtype,), dtype


SQUARE: Final[Op] = elementwise("square", _square_rule, np.square, lambda g, out, a: chain(g, mul(a, 2)), decompose=square)


def _rsub_rule(name: str, operands: Operands) -> tuple[tuple[DType, ...], DType]:
    from torsh.core.promotion import subtraction
    return subtraction("sub", operands)


RSUB: Final[Op] = elementwise("rsub", _rsub_rule, lambda a, b: b - a, decompose=lambda a, b: sub(b, a))
FRAC: Final[Op] = elementwise("frac", promoting("f"), lambda a: a - np.trunc(a), pass_on,
                          decompose=lambda a: sub(a, unary("trunc", a)), widen=False)


def _lerp(a: Expr, b: Expr, weight: Expr) -> Expr:
    # From the nearer end, so that weights 0 and 1 give the ends exactly.
    distance = sub(b, a)
    near = lt(absolute(weight), 0.5)
    return where(near, add(a, mul(weight, distance)), sub(b, mul(distance, sub(1, weight))))


LERP: Final[Op] = elementwise(
    "lerp", promoting("fc"), lambda a, b, w: np.where(np.abs(w) < 0.5, a + w * (b - a), b - (b - a) * (1 - w)),
    lambda g, out, a, b, w: chain(g, sub(1, w)), lambda g, out, a, b, w: chain(g, w),
    lambda g, out, a, b, w: chain(g, sub(b, a)), decompose=_lerp)
ADDCMUL: Final[Op] = elementwise(
    "addcmul", promoting(), lambda a, b, c, value: a + value * b * c, decompose=lambda a, b, c, v: add(a, mul(v, mul(b, c))))
ADDCDIV: Final[Op] = elementwise(
    "addcdiv", floating("fc"), lambda a, b, c, value: a + value * (b / c),
    decompose=lambda a, b, c, v: add(a, mul(v, div(b, c))))
LDEXP: Final[Op] = elementwise("ldexp", floating(), lambda a, b: a * np.exp2(b),
                              decompose=lambda a, b: mul(a, unary("exp2", b)))
DEG2RAD: Final[Op] = elementwise("deg2rad", REAL, np.deg2rad, lambda g, out, a: mul(g, math.pi / 180),
                             decompose=lambda a: mul(a, math.pi / 180))
RAD2DEG: Final[Op] = elementwise("rad2deg", REAL, np.rad2deg, lambda g, out, a: mul(g, 180 / math.pi),
                             decompose=lambda a: mul(a, 180 / math.pi))


# ---- tests -------------------------------------------------------------------------------------------------------------

def _infinite(name: str, sign: float) -> Op:
    def decompose(a: Expr) -> Expr:
        return eq(a, sign) if a.dtype.category == 2 else full(a.shape, False, bool_)
    return elementwise(name, testing("bif"), lambda a: a == sign, decompose=decompose)


def _signbit(a: Expr) -> Expr:
    if a.dtype is bool_:
        return full(a.shape, False, bool_)
    return lt(binary("copysign", number(1, a.dtype), a), 0) if a.dtype.category == 2 else lt(a, 0)


ISPOSINF: Final[Op] = _infinite("isposinf", math.inf)
ISNEGINF: Final[Op] = _infinite("isneginf", -math.inf)
SIGNBIT: Final[Op] = elementwise("signbit", testing("bif"), lambda a: np.signbit(a) if a.dtype.kind == "f" else a < 0,
                             decompose=_signbit)


def _heaviside(a: Expr, values: Expr) -> Expr:
    return where(eq(a, 0), values, indicator(gt(a, 0) if a.dtype is not bool_ else a, values.dtype))


HEAVISIDE: Final[Op] = elementwise("heaviside", same, lambda a, v: np.where(a == 0, v, (a > 0).astype(v.dtype)),
                               decompose=_heaviside)
HEAVISIDE.differentiable = False


# ---- logarithms and exponentials ---------------------------------------------------------------------------------------

def _logaddexp(a: Expr, b: Expr, raise_: str = "exp", scale: float = 1.0) -> Expr:
    same_infinity = both(unary("isinf", a), eq(a, b))
    tail = unary("log1p", unary(raise_, neg(absolute(sub(a, b)))))
    return where(same_infinity, a, add(maximum(a, b), tail if scale == 1.0 else mul(tail, scale)))


LOGADDEXP: Final[Op] = elementwise(
    "logaddexp", promoting("f"), np.logaddexp, lambda g, out, a, b: mul(g, unary("sigmoid", sub(a, b))),
    lambda g, out, a, b: mul(g, unary("sigmoid", sub(b, a))), decompose=_logaddexp)
LOGADDEXP2: Final[Op] = elementwise(
    "logaddexp2", promoting("f"), np.logaddexp2, lambda g, out, a, b: mul(g, unary("sigmoid", mul(sub(a, b), LN2))),
    lambda g, out, a, b: mul(g, unary("sigmoid", mul(sub(b, a), LN2))),
    decompose=lambda a, b: _logaddexp(a, b, "exp2", 1 / LN2))


def _x_log(name: str, logarithm: str, shift: int) -> Op:
    numpy_log: Callable[..., Any] = getattr(np, logarithm)

    def function(a: Array, b: Array) -> Any:
        return np.where(np.isnan(b), b, np.where(a == 0, 0, a * numpy_log(b)))

    def decompose(a: Expr, b: Expr) -> Expr:
        return where(unary("isnan", b), b, where(eq(a, 0), 0, mul(a, unary(logarithm, b))))

    def first(g: Expr, out: Expr, a: Expr, b: Expr) -> Expr:
        return where(both(eq(a, 0), le(b, -shift)), zeros_like(g), mul(g, unary(logarithm, b)))

    def second(g: Expr, out: Expr, a: Expr, b: Expr) -> Expr:
        return mul(g, div(a, add(b, shift) if shift else b))
    return elementwise(name, REAL, function, first, second, decompose=decompose)


XLOGY: Final[Op] = _x_log("xlogy", "log", 0)
XLOG1PY: Final[Op] = _x_log("xlog1py", "log1p", 1)
LOGIT: Final[Op] = elementwise("logit", REAL, lambda a: np.log(a / (1 - a)),
                           lambda g, out, a: where(both(ge(a, 0), le(a, 1)), div(g, mul(a, sub(1, a))), math.nan),
                           decompose=lambda a: log(div(a, sub(1, a))))


def _entr(a: Expr) -> Expr:
    positive = gt(a, 0)
    value = neg(mul(a, log(where(positive, a, 1))))
    return where(unary("isnan", a), a, where(positive, value, where(eq(a, 0), number(0, a.dtype), -math.inf)))


def _numpy_entr(a: Array) -> Any:
    value = -a * np.log(np.where(a > 0, a, 1))
    return np.where(np.isnan(a), a, np.where(a > 0, value, np.where(a == 0, 0, -np.inf)))


def _entr_slope(a: Expr) -> Expr:
    positive = gt(a, 0)
    return where(positive, sub(-1, log(where(positive, a, 1))), where(unary("isnan", a), a, math.inf))


ENTR: Final[Op] = elementwise("entr", REAL, _numpy_entr,
                             lambda g, out, a: mul(g, _entr_slope(a)), decompose=_entr)


# ---- geometry ----------------------------------------------------------------------------------------------------------

def _hypot(a: Expr, b: Expr) -> Expr:
    # Scaled by the larger one, so that squares neither overflow nor vanish.
    a, b = absolute(a), absolute(b)
    large, small = maximum(a, b), minimum(a, b)
    ratio = where(eq(large, 0), 0, div(small, where(eq(large, 0), 1, large)))
    infinite = either(eq(a, math.inf), eq(b, math.inf))
    return where(infinite, math.inf, mul(large, sqrt(add(square(ratio), 1))))


HYPOT: Final[Op] = elementwise("hypot", promoting("f"), np.hypot, lambda g, out, a, b: mul(g, div(a, out)),
                           lambda g, out, a, b: mul(g, div(b, out)), decompose=_hypot)


def _sinc(a: Expr) -> Expr:
    x = mul(a, math.pi)
    return where(eq(a, 0), 1, div(unary("sin", x), where(eq(a, 0), 1, x)))


def _sinc_gradient(g: Expr, out: Expr, a: Expr) -> Expr:
    x = mul(a, math.pi)
    slope = div(sub(mul(unary("cos", x), x), unary("sin", x)), where(eq(a, 0), 1, mul(x, a)))
    return where(eq(a, 0), zeros_like(g), mul(g, conj(slope)))


def _numpy_sinc(a: Array) -> Any:
    x = a * a.dtype.type(math.pi)
    return np.where(a == 0, 1, np.sin(x) / np.where(a == 0, 1, x))


SINC: Final[Op] = elementwise("sinc", floating(), _numpy_sinc, _sinc_gradient, decompose=_sinc)


# ---- inverse error function --------------------------------------------------------------------------------------------

# Giles, "Approximating the erfinv function" (2010): polynomials in w = -log(1 - x*x), for w < 5 and beyond. These were fitted
# at Chebyshev nodes, to 28 bits; the range beyond ends with float32.
_ERFINV_CENTRE: Final = (-2.12035651318e-11, 1.23028889731e-10, 8.32700082103e-10, -1.08543970931e-08, 1.36914960152e-08,
                         4.7864482434e-07, -3.41711523275e-06, -4.99588144876e-06, 0.0002182506494, -0.00125270808362,
                         -0.00417731781014, 0.246640276785, 1.50140935111)
_ERFINV_TAIL: Final = (-7.60333736625e-06, -1.97273885926e-05, 0.000172632105751, -0.000293512733692, -0.000127558660951,
                       0.00148439269209, -0.00356473695567, 0.0056855019547, -0.00764312468878, 0.00944548140359,
                       1.00167525448, 2.83297679929)
# The same in sqrt(w) - 4 as far as float64 goes, to 18 bits.
_ERFINV_FAR: Final = (-3.54867148966e-06, 2.24671627979e-05, -5.23904421146e-05, 6.2626531038e-05, -9.55826628674e-05,
                      0.000307113964562, -0.000875907960233, 0.00126475442151, 1.00949310487, 3.83978367782)


def _polynomial(coefficients: Sequence[float], w: Expr) -> Expr:
    p = number(coefficients[0], w.dtype)
    for c in coefficients[1:]:
        p = add(mul(p, w), c)
    return p


def _erfinv_steps(y: Expr, x: Expr) -> Expr:
    """y, an approximation of erfinv(x) in float64, after two steps of Newton's method; 0 <= x < 1."""
    for _ in range(2):
        # erf(y) - x; erfc where erf is close to 1
        error = where(lt(x, 0.5), sub(unary("erf", y), x), sub(sub(1, x), unary("erfc", y)))
        y = sub(y, mul(mul(error, exp(square(y))), math.sqrt(math.pi) / 2))
    return y


def _erfinv(a: Expr) -> Expr:
    double = a.dtype is float64
    x = cast(a, float64)
    magnitude = absolute(x)
    inside = lt(magnitude, 1)
    safe = where(inside, magnitude, 0)
    w = neg(log(mul(sub(1, safe), add(safe, 1))))
    tail = _polynomial(_ERFINV_FAR, sub(sqrt(w), 4)) if double else _polynomial(_ERFINV_TAIL, sub(sqrt(w), 3))
    y = mul(safe, where(lt(w, 5), _polynomial(_ERFINV_CENTRE, sub(w, 2.5)), tail))
    if double:
        y = _erfinv_steps(y, safe)
    y = where(inside, y, where(eq(magnitude, 1), number(math.inf, float64), math.nan))
    return cast(binary("copysign", y, x), a.dtype)


ERFINV: Final[Op] = elementwise("erfinv", REAL, None,
                               lambda g, out, a: mul(g, mul(exp(square(out)), math.sqrt(math.pi) / 2)), decompose=_erfinv)


# ---- integers and neighbours -------------------------------------------------------------------------------------------

GCD: Final[Op] = elementwise("gcd", promoting("i"), np.gcd, kind=HOST)
LCM: Final[Op] = elementwise("lcm", promoting("i"), np.lcm, kind=HOST)


def _nextafter_reference(attr: Any, a: Any, b: Any) -> Array:
    dtype = result_type((operand_of(a), operand_of(b)))
    return np.nextafter(convert(a, dtype), convert(b, dtype))


# The neighbour moves with the number, whichever side it is on.
NEXTAFTER: Final[Op] = elementwise("nextafter", promoting("f"), np.nextafter, lambda g, out, a, b: where(eq(a, b), 0, g), zero,
                                   kind=HOST)
NEXTAFTER.reference = _nextafter_reference


# ---- special functions -------------------------------------------------------------------------------------------------

def scipy_function(name: str) -> Callable[..., Any]:
    """A function of scipy.special, looked up when it is first called."""
    def call(*arrays: Any) -> Any:
        try:
            from scipy import special
        except ImportError:
            raise ImportError(f"torsh needs SciPy for the special function {name}: pip install torsh[scipy]") from None
        return getattr(special, name)(*arrays)
    return call


def _log_gamma(x: float) -> float:
    try:
        return math.lgamma(x)
    except (ValueError, OverflowError):        # the poles, and results beyond float64
        return math.inf


def _numpy_lgamma(a: Array) -> Any:
    return np.asarray(np.frompyfunc(_log_gamma, 1, 1)(a.astype(np.float64)), np.float64)


# Coefficients of Stirling's series for log(gamma(z)) in 1 / z^2, highest power first; for digamma, times 1, 3, 5 ...
_STIRLING: Final = (43867 / 244188, -3617 / 122400, 1 / 156, -691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12)
# sin(pi * x) / x in x^2, |x| <= 1/2, to 41 bits
_SINE: Final = (0.0004474920849077101, -0.007364005472115722, 0.08214479467064854, -0.5992644339357286, 2.550164035906745,
                -5.167712779987959, 3.141592653589635)
_SHIFT: Final = 8      # the series is used for z at least this


def _folded(x: Expr) -> tuple[Expr, Expr, Expr, Expr]:
    """Of float64 x: whether it is negative, 1 - x there (else x), whether that is small, and moved up if so."""
    negative = lt(x, 0)
    t = where(negative, sub(1, x), x)
    small = lt(t, _SHIFT)
    return negative, t, small, where(small, add(t, _SHIFT), t)


def _turn(x: Expr) -> Expr:
    """x - the nearest integer."""
    return sub(x, unary("round", x))


def _log_gamma_expr(a: Expr) -> Expr:
    """Stirling's series of a shifted argument, in float64; it is too coarse for float64 results around 1 and 2."""
    if a.dtype is float64:
        return emit1(LOG_GAMMA, a)
    x = cast(a, float64)
    negative, t, small, z = _folded(x)
    product = t
    for k in range(1, _SHIFT):
        product = mul(product, add(t, k))
    inverse = div(1, z)
    series = mul(inverse, _polynomial(_STIRLING, square(inverse)))
    value = add(add(mul(sub(z, 0.5), sub(log(z), 1)), 0.5 * math.log(2 * math.pi) - 0.5), series)
    quotient = where(small, product, 1)
    turn = _turn(x)
    sine = absolute(mul(turn, _polynomial(_SINE, square(turn))))
    quotient = where(negative, div(mul(quotient, math.pi), sine), quotient)
    value = sub(value, log(quotient))
    value = where(eq(x, -math.inf), math.inf, where(negative, neg(value), value))
    return cast(where(either(eq(x, 1), eq(x, 2)), 0, value), a.dtype)


def _digamma_expr(a: Expr) -> Expr:
    """The derivative of Stirling's series at a shifted argument, and the sum of 1 / (t + k) as one quotient."""
    x = cast(a, float64)
    negative, t, small, z = _folded(x)
    numerator, product = number(1, float64), t
    for k in range(1, _SHIFT):
        factor = add(t, k)
        numerator, product = add(mul(numerator, factor), product), mul(product, factor)
    inverse = div(1, z)
    ratio = square(inverse)
    coefficients = [c * (2 * (len(_STIRLING) - k) - 1) for k, c in enumerate(_STIRLING)]
    total = sub(sub(log(z), mul(inverse, 0.5)), mul(ratio, _polynomial(coefficients, ratio)))
    total = sub(total, where(small, div(numerator, product), 0))
    angle = mul(_turn(x), math.pi)
    cotangent = where(eq(angle, 0), math.nan, div(unary("cos", angle), unary("sin", angle)))
    total = where(negative, sub(total, mul(cotangent, math.pi)), total)
    return cast(where(eq(x, 0), binary("copysign", number(math.inf, float64), neg(x)), total), a.dtype)


def _host(name: str, function: Callable[..., Any], *gradients: Any, rule: Rule = REAL) -> Op:
    return elementwise(name, rule, function, *gradients, kind=HOST)


LOG_GAMMA: Final[Op] = _host("log_gamma", _numpy_lgamma, lambda g, out, a: mul(g, emit1(DIGAMMA, a)))
LGAMMA: Final[Op] = elementwise("lgamma", REAL, _numpy_lgamma, lambda g, out, a: mul(g, emit1(DIGAMMA, a)),
                                decompose=_log_gamma_expr)


def _numpy_digamma(a: Array) -> Any:
    """Recurrence up to 10, then the asymptotic series; reflection for negative numbers."""
    x = a.astype(np.float64)
    reflected = x < 0
    z = np.where(reflected, 1 - x, x)
    total = np.zeros_like(z)
    for _ in range(10):
        small = z < 10
        total -= np.where(small, 1 / np.where(small, z, 1), 0)
        z = np.where(small, z + 1, z)
    inverse = 1 / (z * z)
    series = inverse * (1 / 12 - inverse * (1 / 120 - inverse * (1 / 252 - inverse * (1 / 240 - inverse * (
        5 / 660 - inverse * (691 / 32760 - inverse / 12))))))
    total += np.log(z) - 0.5 / z - series
    total = np.where(reflected, total - np.pi / np.tan(np.pi * x), total)
    pole = reflected & (x == np.floor(x))
    return np.where(pole, np.nan, np.where(x == 0, np.copysign(np.inf, -x), total))


DIGAMMA: Final[Op] = elementwise("digamma", REAL, _numpy_digamma, lambda g, out, a: mul(g, emit1(POLYGAMMA, a, 1)),
                                 decompose=_digamma_expr)


def _polygamma_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    return (cast(mul(g, emit1(POLYGAMMA, e.args[0], e.attr + 1)), e.args[0].dtype),)  # type: ignore[operator]


# attr: the order n >= 1
POLYGAMMA: Final[Op] = _host("polygamma", lambda a, attr: scipy_function("polygamma")(attr, a))
POLYGAMMA.gradient, POLYGAMMA.differentiable = _polygamma_gradient, True


def _i1_slope(a: Expr, even: Expr, odd: Expr, decay: Expr | None = None) -> Expr:
    """Derivative of i1 (or, with decay, i1e): 1/2 at 0."""
    at_zero = eq(a, 0)
    quotient = div(odd, where(at_zero, 1, a))
    slope = sub(even, quotient if decay is None else add(quotient, mul(odd, decay)))
    return where(at_zero, 0.5, slope)


I0: Final[Op] = _host("i0", scipy_function("i0"), lambda g, out, a: mul(g, emit1(I1, a)))
I1: Final[Op] = _host("i1", scipy_function("i1"), lambda g, out, a: mul(g, _i1_slope(a, emit1(I0, a), out)))
I0E: Final[Op] = _host("i0e", scipy_function("i0e"),
                   lambda g, out, a: mul(g, sub(emit1(I1E, a), mul(unary("sign", a), out))))
I1E: Final[Op] = _host("i1e", scipy_function("i1e"),
                   lambda g, out, a: mul(g, _i1_slope(a, emit1(I0E, a), out, unary("sign", a))))
