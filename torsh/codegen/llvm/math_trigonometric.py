"""sin, cos, tan and their inverses on float32 and float64 operands (scalars or vectors)."""
from __future__ import annotations

from torsh.codegen.llvm import math_tables as tables
from torsh.codegen.llvm.math_common import (
    INFINITY,
    NAN,
    copysign,
    gather_words,
    layout,
    nearest,
    polynomial,
    product,
    widened,
)
from torsh.codegen.llvm.writer import Operand, Writer

_HALF_PI, _HALF_PI_LOW = 1.5707963267948966, 6.123233995736766e-17
_PI, _PI_LOW = 3.141592653589793, 1.2246467991473532e-16
_PADDING = 2     # words of zeros in front of the bits of 2/pi
_WORD = 0xFFFFFFFF


def _reduce_near(m: Writer, x: Operand) -> tuple[Operand, Operand, Operand]:
    """x - n * pi/2 as a sum of two, and n, for |x| so small that products with the parts of pi/2 fit."""
    form = layout(x)
    n, quadrant = nearest(m, x, 2.0 / _PI)
    first, second, third = form.pick(tables.HALF_PI)[:3]
    a = m.fma(-n, first, x)                  # exact
    b = m.fma(-n, second, a)
    rest = m.fma(-n, third, m.fma(-n, second, a - b))
    high = b + rest
    return high, rest - (high - b), quadrant


def _window(m: Writer, x: Operand, limbs: int) -> tuple[Operand, list[Operand]]:
    """The mantissa of |x| as i64, and the bits of 2/pi that matter for it, as limbs of 32 bits, lowest first."""
    form = layout(x)
    bits = m.bits(m.abs(x))
    exponent = m.convert("zext", bits >> form.mantissa, "i64")
    mantissa = m.convert("zext", (bits & ((1 << form.mantissa) - 1)) | (1 << form.mantissa), "i64")
    # |x| = mantissa * 2 ** (exponent - bias - mantissa bits); bits that contribute multiples of 4 are skipped
    start = exponent + (32 * _PADDING - 2 - form.bias - form.mantissa)
    start = m.select(m.compare("slt", start, 0), 0, start)
    index, shift = start >> 5, start & 31
    table = (0,) * _PADDING + tables.TWO_OVER_PI
    words = [gather_words(m, "two_over_pi", table, index + k) for k in range(limbs + 1)]
    chosen = [(((words[k] << 32) | words[k + 1]) >> (32 - shift)) & _WORD for k in range(limbs)]
    return mantissa, chosen[::-1]


def _multiply(m: Writer, mantissa: Operand, window: list[Operand]) -> list[Operand]:
    """The low limbs of mantissa * window, as many as the window has."""
    factors = (mantissa & _WORD, mantissa >> 32)
    products = [[f * limb for limb in window] for f in factors]
    result: list[Operand] = []
    carry: Operand | None = None
    for k in range(len(window)):
        column = products[0][k] & _WORD
        if k >= 1:
            column = column + (products[0][k - 1] >> 32) + (products[1][k - 1] & _WORD)
        if k >= 2:
            column = column + (products[1][k - 2] >> 32)
        if carry is not None:
            column = column + carry
        result.append(column & _WORD)
        carry = column >> 32
    return result


def _reduce_far(m: Writer, x: Operand) -> tuple[Operand, Operand, Operand]:
    """As :func:`_reduce_near`, for any x: multiplies with as many bits of 2/pi as are needed (Payne and Hanek)."""
    form = layout(x)
    mantissa, window = _window(m, x, 3 if form.number == 0 else 6)
    limbs = _multiply(m, mantissa, window)
    high = (limbs[-1] << 32) | limbs[-2]                     # 2 bits of quadrant, then the fraction
    low = (limbs[-3] << 32) | (limbs[-4] if form.number else 0)
    quadrant = high >> 62
    fraction = (high << 2) | (low >> 62)                     # signed: the fraction lies within [-1/2, 1/2)
    quadrant = quadrant + (fraction >> 63)
    below = low << 2
    # Conversions in parts that are exact
    top = m.convert("sitofp", fraction & -2048, "double")
    middle = m.convert("sitofp", fraction & 2047, "double") + m.convert("sitofp", below >> 11, "double") * 2.0 ** -53
    s = top + middle
    rest = (top - s) + middle
    scale = 2.0 ** -64
    r, error = product(m, s, m.constant(_HALF_PI * scale, "double"))
    error = error + m.fma(s, _HALF_PI_LOW * scale, rest * (_HALF_PI * scale))
    if form.number == 0:
        single = m.convert("fptrunc", r, "float")
        error = m.convert("fptrunc", (r - m.convert("fpext", single, "double")) + error, "float")
        r, quadrant = single, m.convert("trunc", quadrant, "i32")
    negative = m.compare("olt", x, 0.0)
    finite = m.compare("olt", m.abs(x), INFINITY)
    r = m.select(finite, m.select(negative, -r, r), NAN)
    return r, m.select(negative, -error, error), m.select(negative, -quadrant, quadrant)


def reduce(m: Writer, x: Operand) -> tuple[Operand, Operand, Operand]:
    """x modulo pi/2, within [-pi/4, pi/4], as a sum of two floats; and the quadrant, modulo 4."""
    # without fused multiply-add the products of the fast way are not exact
    limit = (1.0e5, 1.0e6)[layout(x).number] if m.fused else 0.75
    near = _reduce_near(m, x)
    far = m.compare("ugt", m.abs(x), limit)

    def careful() -> list[Operand]:
        return [m.select(far, slow, fast) for slow, fast in zip(_reduce_far(m, x), near, strict=True)]

    depth = max(far.depth, *(v.depth for v in near))
    results = m.hoisted(depth, lambda: m.when(m.any(far), careful, near, unlikely=True))
    return results[0], results[1], results[2]


def _sin_cos(m: Writer, x: Operand) -> tuple[Operand, Operand, Operand]:
    """sin and cos of the reduced argument, and the quadrant."""
    key = ("sin and cos", x.text)
    scope = m.scopes[max(x.depth, m.floor)]
    found = scope.memo.get(key)
    if found is not None:
        return found  # type: ignore[return-value]
    form = layout(x)
    r, low, quadrant = reduce(m, x)
    z = r * r
    sine = r + m.fma(polynomial(m, z, form.pick(tables.SIN)) * z, r, low)
    half = z * 0.5
    w = 1.0 - half
    cosine = w + (((1.0 - w) - half) + m.fma(polynomial(m, z, form.pick(tables.COS)) * z, z, -(r * low)))
    scope.memo[key] = sine, cosine, quadrant  # type: ignore[assignment]
    return sine, cosine, quadrant


def _turned(m: Writer, first: Operand, second: Operand, quadrant: Operand) -> Operand:
    """first, second, -first, -second by quadrant."""
    odd = m.compare("ne", quadrant & 1, 0)
    sign = (quadrant & 2) << (62 if first.element == "double" else 30)
    return m.from_bits(m.bits(m.select(odd, second, first)) ^ sign)


def sin(m: Writer, x: Operand) -> Operand:
    """Sine."""
    sine, cosine, quadrant = _sin_cos(m, x)
    return m.select(m.compare("oeq", x, 0.0), x, _turned(m, sine, cosine, quadrant))


def cos(m: Writer, x: Operand) -> Operand:
    """Cosine."""
    sine, cosine, quadrant = _sin_cos(m, x)
    return _turned(m, sine, cosine, quadrant + 1)


def _tan(m: Writer, x: Operand) -> Operand:
    sine, cosine, quadrant = _sin_cos(m, x)
    odd = m.compare("ne", quadrant & 1, 0)
    ratio = m.select(odd, -cosine, sine) / m.select(odd, sine, cosine)
    return m.select(m.compare("oeq", x, 0.0), x, ratio)


def _atan_core(m: Writer, x: Operand) -> Operand:
    """Arc tangent for |x| <= 1."""
    z = x * x
    return m.fma(polynomial(m, z, layout(x).pick(tables.ATAN)) * z, x, x)


def atan(m: Writer, x: Operand) -> Operand:
    """Arc tangent."""
    form = layout(x)
    magnitude = m.abs(x)
    steep = m.compare("ogt", magnitude, 1.0)
    angle = _atan_core(m, m.select(steep, 1.0 / magnitude, magnitude))
    high, low = form.pick(tables.HALF_PI)[:2]
    return copysign(m, m.select(steep, high - (angle - low), angle), x)


def _atan2(m: Writer, y: Operand, x: Operand) -> Operand:
    a, b = m.abs(y), m.abs(x)
    steep = m.compare("ogt", a, b)
    small, large = m.select(steep, b, a), m.select(steep, a, b)
    ratio = m.select(m.compare("oeq", small, large), 1.0, small / large)      # infinities, too
    ratio = m.select(m.compare("oeq", small, 0.0), 0.0, ratio)
    angle = _atan_core(m, ratio)
    angle = m.select(steep, _HALF_PI - (angle - _HALF_PI_LOW), angle)
    left = m.compare("slt", m.bits(x), 0)
    angle = m.select(left, _PI - (angle - _PI_LOW), angle)
    return m.select(m.compare("uno", x, y), x + y, copysign(m, angle, y))


def _arc(m: Writer, x: Operand) -> tuple[Operand, Operand, Operand]:
    """|x|, whether it is above 1/2, and then asin(sqrt((1 - |x|) / 2)), else asin(|x|)."""
    magnitude = m.abs(x)
    large = m.compare("ogt", magnitude, 0.5)
    z = m.select(large, (1.0 - magnitude) * 0.5, x * x)
    s = m.select(large, m.intrinsic("sqrt", z), magnitude)
    return magnitude, large, m.fma(polynomial(m, z, layout(x).pick(tables.ASIN)) * z, s, s)


def _asin(m: Writer, x: Operand) -> Operand:
    _, large, p = _arc(m, x)
    return copysign(m, m.select(large, _HALF_PI - ((p + p) - _HALF_PI_LOW), p), x)


def _acos(m: Writer, x: Operand) -> Operand:
    _, large, p = _arc(m, x)
    negative = m.compare("olt", x, 0.0)
    outside = m.select(negative, _PI - ((p + p) - _PI_LOW), p + p)
    inside = _HALF_PI - (m.select(negative, -p, p) - _HALF_PI_LOW)
    return m.select(large, outside, inside)


tan = widened(_tan)
asin = widened(_asin)
acos = widened(_acos)
atan2 = widened(_atan2)
