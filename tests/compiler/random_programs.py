"""Random programs of expressions: one function per family of operations."""
from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from program_generator import EPS, EXACT_TO, LARGEST, Choices, Generator, Known, Program, RandomChoices, broadcasts

from torsh.core.dtype import DType, bool_, int64
from torsh.core.shape import broadcast_shapes
from torsh.ops.common import cast, constant, expand, iota, permute, reduce
from torsh.ops.expr import TABLE, Expr, emit, scalar
from torsh.ops.indexing import region_shape
from torsh.ops.shape import apply_chain, chain_geometry

__all__ = ["OPERATIONS", "Generator", "Program", "RandomChoices", "random_program", "random_view"]


# ---- elementwise -------------------------------------------------------------------------------------------------------

def arithmetic(g: Generator) -> None:
    """a + b, a - b, a * b."""
    a = g.value()
    b = g.partner(a)
    name = g.pick(("add", "sub", "mul"))
    if name == "sub" and bool_ in (a.dtype, b.dtype):
        return
    e = emit(TABLE[name], (a.e, b.e))
    rough = sum(EPS[e.dtype.name] * v.bound for v in (a, b) if e.dtype.category == 2 and v.bound > EXACT_TO[e.dtype.name])
    if name == "mul":
        if uncertain_sign(a, b):
            return
        error = a.error * b.bound + b.error * a.bound + a.error * b.error + rough * max(a.bound, b.bound)
        g.add(e, a.bound * b.bound, error, a.whole and b.whole, a.special or b.special)
    else:
        g.add(e, a.bound + b.bound, a.error + b.error + rough, a.whole and b.whole, a.special or b.special)


def uncertain_sign(a: Known, b: Known) -> bool:
    """Could an infinity meet a factor that rounding decides the sign of?"""
    return (a.special and not b.exact) or (b.special and not a.exact)


def rounding_of(e: Expr, *operands: Known) -> float:
    """Error of casting the operands to the result's dtype."""
    if e.dtype.category != 2:
        return 0.0
    return sum(EPS[e.dtype.name] * v.bound for v in operands if not v.whole or v.bound > EXACT_TO[e.dtype.name])


def extreme(g: Generator) -> None:
    """maximum, minimum."""
    a = g.value()
    b = g.partner(a)
    e = emit(TABLE[g.pick(("maximum", "minimum"))], (a.e, b.e))
    g.add(e, max(a.bound, b.bound), max(a.error, b.error) + rounding_of(e, a, b), a.whole and b.whole, a.special or b.special)


def comparison(g: Generator) -> None:
    """Comparisons of exact values."""
    a = g.value(lambda v: v.exact)
    b = g.partner(a)
    if b.exact and (a.whole and b.whole or a.dtype is b.dtype):
        g.add(emit(TABLE[g.pick(("eq", "ne", "lt", "le", "gt", "ge"))], (a.e, b.e)), 1)


def choice(g: Generator) -> None:
    """where."""
    c = g.value(lambda v: v.dtype is bool_)
    if c.dtype is not bool_:
        c = g.leaf(c.shape, bool_)
    a = g.partner(c)
    both = Known(emit(TABLE["where"], (c.e, a.e, a.e)), a.bound)
    b = g.partner(both)
    if prod(both.shape) > g.most:
        return
    e = emit(TABLE["where"], (c.e, a.e, b.e))
    g.add(e, max(a.bound, b.bound), max(a.error, b.error) + rounding_of(e, a, b), a.whole and b.whole, a.special or b.special)


def signs(g: Generator) -> None:
    """neg, abs, sign, rounding."""
    a = g.value(lambda v: v.dtype is not bool_)
    if a.dtype is bool_:
        return
    name = g.pick(("neg", "abs", "sign", "floor", "ceil", "trunc", "round"))
    if name in ("neg", "abs"):
        g.add(emit(TABLE[name], (a.e,)), a.bound, a.error, a.whole, a.special)
    elif a.exact:
        g.add(emit(TABLE[name], (a.e,)), a.bound + 1, 0, True, a.special)


def smooth(g: Generator) -> None:
    """Functions with bounded slope."""
    a = g.value(lambda v: v.bound < 60)
    if a.bound >= 60:
        return
    e = emit(TABLE[g.pick(("tanh", "sigmoid", "sin", "cos", "erf", "atan"))], (a.e,))
    g.add(e, 1.6, a.error + 4 * EPS[e.dtype.name] + rounding_of(e, a), False, a.special)


def quotient(g: Generator) -> None:
    """a / (|b| + 1)"""
    a = g.value(lambda v: not v.special)
    b = g.partner(a)
    if b.special or a.special or b.dtype is bool_:
        return
    divisor = emit(TABLE["add"], (emit(TABLE["abs"], (b.e,)), constant(1.0 if b.dtype.category == 2 else 1, b.dtype)))
    if b.dtype.category == 1:
        if b.bound + 1 >= 2.0 ** (8 * b.dtype.itemsize - 1):
            return
    e = emit(TABLE["div"], (a.e, divisor))
    rough = rounding_of(e, a, b) + EPS[e.dtype.name] * (2 + b.bound)
    g.add(e, a.bound, a.error + (b.error + rough) * a.bound + rough, False)


def whole_division(g: Generator) -> None:
    """floor_divide, remainder, fmod and trunc_divide of integers by a positive number."""
    a = g.value(lambda v: v.dtype.category == 1)
    if a.dtype.category != 1:
        return
    n = g.choices.integer(1, 7)
    name = g.pick(("floor_divide", "remainder", "fmod", "trunc_divide"))
    g.add(emit(TABLE[name], (a.e, constant(n, a.dtype))), a.bound if "divide" in name else n)


def bits(g: Generator) -> None:
    """Operations on bits."""
    a = g.value(lambda v: v.dtype.category < 2)
    b = g.partner(a)
    if a.dtype.category < 2 and b.dtype.category < 2:
        name = g.pick(("bitwise_and", "bitwise_or", "bitwise_xor"))
        g.add(emit(TABLE[name], (a.e, b.e)), 2 ** 62)
    if a.dtype.category == 1 and g.chance(40):
        g.add(emit(TABLE["shift_right"], (a.e, constant(g.choices.integer(0, 3), a.dtype))), a.bound)
    elif a.dtype.category < 2:
        g.add(emit(TABLE[g.pick(("bitwise_not", "logical_not"))], (a.e,)), a.bound + 1)


def casting(g: Generator) -> None:
    """cast"""
    a = g.value()
    target = g.dtype()
    if target.category < 2 and not a.exact or a.special and target.category == 1:
        return
    if target.category == 1 and a.dtype.category == 2 and (a.bound > 100 or not target.is_signed):
        return                                   # what lies outside of the range is undefined
    e = cast(a.e, target)
    if e is not a.e:
        g.add(e, a.bound, a.error + rounding_of(e, a), a.whole or target.category < 2, a.special)


def classified(g: Generator) -> None:
    """isnan, isinf, isfinite"""
    a = g.value()
    g.add(emit(TABLE[g.pick(("isnan", "isinf", "isfinite"))], (a.e,)), 1)


def randomness(g: Generator) -> None:
    """philox"""
    shape = g.shape(1, 3)
    counter = emit(TABLE["reshape"], (iota((prod(shape),), 0),), shape)
    seed, offset = g.choices.integer(0, 1 << 40), g.choices.integer(0, 1 << 33)
    words = []
    for v in (seed, offset):
        words.append(scalar(len(g.scalars), 1))
        g.scalars.append(v)
    e = emit(TABLE["philox"], (*words, counter), g.choices.integer(0, 3))
    low = emit(TABLE["remainder"], (e, constant(5, int64)))
    g.add(low, 5)


# ---- views -------------------------------------------------------------------------------------------------------------

def random_view(g: Generator, shape: tuple[int, ...], distinct: bool = False) -> tuple[str, Any] | None:
    """(name, attr) of a view of something of this shape; distinct: no element twice."""
    rank = len(shape)
    kind = g.choices.integer(0, 9)
    if kind <= 2 and rank:
        spec = []
        for n in shape:
            length = g.choices.integer(1, n) if n and g.chance(60) else n
            step = g.pick((1, 1, 1, 2, 3, -1, -1, -2)) if length > 1 else 1
            reach = (length - 1) * abs(step)
            while reach >= n and n:
                step = 1 if step > 0 else -1
                reach = (length - 1)
            start = g.choices.integer(0, n - 1 - reach) if n else 0
            spec.append((start if step > 0 else start + reach, length, step))
        return "slice", tuple(spec)
    if kind == 3 and rank and 0 not in shape:
        dim = g.choices.integer(0, rank - 1)
        return "select", (dim, g.choices.integer(0, shape[dim] - 1))
    if kind == 4 and rank >= 2:
        i = g.choices.integer(0, rank - 1)
        j = (i + g.choices.integer(1, rank - 1)) % rank
        return "diagonal", (g.choices.integer(-min(3, shape[i]), min(3, shape[j])), i, j)
    if kind == 5 and rank and not distinct:
        dim = g.choices.integer(0, rank - 1)
        if shape[dim]:
            return "unfold", (dim, g.choices.integer(1, min(shape[dim], 4)), g.choices.integer(1, 3))
    if kind == 6 and not distinct:
        front = (g.pick((2, 3, 5)),) if g.chance(50) else ()
        return "expand", front + tuple([g.pick((2, 3, 8)) if n == 1 and g.chance(50) else n for n in shape])
    if kind == 7 and rank >= 2:
        return "permute", tuple(sorted(range(rank), key=lambda _: g.choices.integer(0, 1000)))
    if kind == 8 and prod(shape) > 1 and not distinct:
        return as_strided(g, prod(shape))
    return "reshape", random_factors(g, prod(shape)) if prod(shape) else (0, *shape[1:]) if shape[0] == 0 else shape


def as_strided(g: Generator, size: int) -> tuple[str, Any]:
    """A view by strides that stays inside."""
    shape, strides, left = [], [], size - 1
    for _ in range(g.choices.integer(1, 3)):
        stride = g.choices.integer(0, min(4, left))
        n = g.choices.integer(1, 4 if not stride else min(left // stride + 1, 6))
        left -= (n - 1) * stride
        shape.append(n)
        strides.append(stride)
    return "as_strided", (tuple(shape), tuple(strides), g.choices.integer(0, left))


def random_factors(g: Generator, size: int) -> tuple[int, ...]:
    """A shape of so many elements."""
    shape = []
    while size > 1 and len(shape) < 4 and g.chance(80):
        divisors = [d for d in range(1, size + 1) if size % d == 0]
        n = g.pick(divisors)
        shape.append(n)
        size //= n
    return (*shape, size) if size > 1 or g.chance(30) else tuple(shape)


def viewing(g: Generator) -> None:
    """One or several views."""
    a = g.value()
    e = a.e
    for _ in range(g.choices.integer(1, 3)):
        found = random_view(g, e.shape)
        if found is None:
            continue
        if found[0] == "as_strided" or prod(e.shape) <= g.most // 20 or found[0] not in ("expand", "unfold"):
            e = emit(TABLE[found[0]], (e,), found[1])
    if e is not a.e:
        g.add(e, a.bound, a.error, a.whole, a.special)


def composite_view(g: Generator) -> None:
    """flip, roll, tril, triu, repeat, constant_pad."""
    a = g.value(lambda v: len(v.shape) >= 1)
    rank = len(a.shape)
    name = g.pick(("flip", "roll", "tril", "triu", "repeat", "constant_pad"))
    args = [a.e]
    if not rank:
        return
    if name == "flip":
        attr: Any = tuple([d for d in range(rank) if g.chance(60)])
    elif name == "roll":
        attr = tuple([(d, g.choices.integer(-3, 3)) for d in range(rank) if g.chance(60)])
    elif name in ("tril", "triu"):
        if rank < 2:
            return
        attr = g.choices.integer(-2, 2)
    elif name == "repeat":
        attr = tuple([g.pick((1, 2, 3)) for _ in range(rank + g.pick((0, 1)))])
        if prod(attr) * prod(a.shape) > g.most:
            return
    else:
        pairs = [(g.choices.integer(-1, 2), g.choices.integer(-1, 2)) for _ in range(rank)]
        attr = tuple([p if min(p[0], 0) + min(p[1], 0) + n >= 0 else (0, 0) for p, n in zip(pairs, a.shape, strict=True)])
        args.append(constant(1 if a.dtype.category == 1 else True if a.dtype is bool_ else 1.0, a.dtype))
    if a.special and name in ("tril", "triu"):
        return
    g.add(emit(TABLE[name], tuple(args), attr), max(a.bound, 1), a.error, a.whole, a.special)


# ---- reductions --------------------------------------------------------------------------------------------------------

def random_axes(g: Generator, rank: int) -> tuple[int, ...]:
    """Some axes."""
    return tuple([d for d in range(rank) if g.chance(45)]) or (g.choices.integer(0, rank - 1),)


def sums(g: Generator) -> None:
    """sum, mean"""
    a = g.value(lambda v: len(v.shape) > 0)
    if not a.shape:
        return
    axes = random_axes(g, len(a.shape))
    count = prod([a.shape[x] for x in axes])
    if g.chance(30) and a.dtype.category == 2 and count:
        e = reduce("mean", a.e, axes, g.chance(50))
        g.add(e, a.bound, a.error + 2 * EPS[e.dtype.name] * a.bound, False, a.special)
        return
    e = reduce("sum", a.e, axes, g.chance(50))
    total = count * a.bound
    rough = 0.0 if a.whole and e.dtype.category == 2 and total <= EXACT_TO[e.dtype.name] else total * EPS.get(e.dtype.name, 0)
    g.add(e, total, count * a.error + rough, a.whole, a.special)


def products(g: Generator) -> None:
    """prod of few"""
    a = g.value(lambda v: len(v.shape) > 0 and v.bound <= 3)
    axes = random_axes(g, len(a.shape)) if a.shape else ()
    count = prod([a.shape[x] for x in axes])
    if not axes or count > 8 or a.bound > 3:
        return
    e = reduce("prod", a.e, axes, g.chance(50))
    bound = max(a.bound, 1) ** count
    g.add(e, bound, count * bound * (a.error + rounding_of(e, a)), a.whole, a.special)


def extremes(g: Generator) -> None:
    """amax, amin, argmax, argmin"""
    a = g.value(lambda v: len(v.shape) > 0)
    if not a.shape or 0 in a.shape:
        return
    axes = random_axes(g, len(a.shape))
    name = g.pick(("amax", "amin", "argmax", "argmin"))
    if name.startswith("arg"):
        if a.exact and a.dtype is not bool_:
            g.add(reduce(name, a.e, axes, g.chance(50)), prod(a.shape))
    else:
        g.add(reduce(name, a.e, axes, g.chance(50)), a.bound, a.error, a.whole, a.special)


def normalised(g: Generator) -> None:
    """softmax, log_softmax, and x - mean(x)"""
    a = g.value(lambda v: len(v.shape) > 0 and v.dtype.category == 2 and v.bound < 50 and not v.special)
    if not a.shape or a.dtype.category != 2 or a.special or a.bound > 50 or 0 in a.shape:
        return
    dim = g.choices.integer(0, len(a.shape) - 1)
    eps = EPS[a.dtype.name]
    name = g.pick(("softmax", "log_softmax", "centred"))
    if name == "centred":
        e = emit(TABLE["sub"], (a.e, reduce("mean", a.e, (dim,), True)))
        g.add(e, 2 * a.bound, 2 * a.error + 4 * eps * a.bound, False)
        return
    e = emit(TABLE[name], (a.e,), dim)
    bound = 1.0 if name == "softmax" else 2 * a.bound + 10
    g.add(e, bound, 4 * a.error + eps * (8 + 8 * a.bound), False)


# ---- opaque ------------------------------------------------------------------------------------------------------------

def matmul(g: Generator) -> None:
    """Products of matrices, with views of operands."""
    a = g.value(lambda v: len(v.shape) >= 2 and v.dtype is not bool_)
    if len(a.shape) < 2 or a.dtype is bool_:
        return
    k = a.shape[-1]
    fitting = [v for v in g.values if len(v.shape) >= 2 and v.shape[-2] == k and v.dtype is a.dtype
               and broadcasts(a.shape[:-2], v.shape[:-2], g.most)]
    if fitting and g.chance(60):
        b = g.pick(fitting)
    else:
        batch = tuple([1 if g.chance(40) else n for n in a.shape[:-2]])
        n = g.pick(g.extents)
        b = g.leaf((*batch, n, k) if (flipped := g.chance(40)) else (*batch, k, n), a.dtype)
        if flipped:
            axes = (*range(len(b.shape) - 2), len(b.shape) - 1, len(b.shape) - 2)
            b = Known(permute(b.e, axes), b.bound, b.error, b.whole, b.special)
    batch_shape = broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if prod(batch_shape) * a.shape[-2] * b.shape[-1] > g.most or prod(batch_shape) * a.shape[-2] * b.shape[-1] * k > 4_000_000:
        return
    if uncertain_sign(a, b):
        return
    e = emit(TABLE["matmul"], (a.e, b.e))
    total = k * a.bound * b.bound
    rough = k * (a.error * b.bound + b.error * a.bound)
    if e.dtype.category == 2 and not (a.whole and b.whole and total <= EXACT_TO[e.dtype.name]):
        rough += total * EPS[e.dtype.name]
    g.add(e, total, rough, a.whole and b.whole, a.special or b.special)


def joining(g: Generator) -> None:
    """cat"""
    a = g.value(lambda v: len(v.shape) > 0)
    if not a.shape:
        return
    dim = g.choices.integer(0, len(a.shape) - 1)
    pieces = [a]
    for _ in range(g.choices.integer(0, 2)):
        fitting = [v for v in g.values if len(v.shape) == len(a.shape)
                   and all(m == n or d == dim for d, (m, n) in enumerate(zip(a.shape, v.shape, strict=True)))]
        pieces.append(g.pick(fitting))
    if sum(prod(p.shape) for p in pieces) > g.most:
        return
    e = emit(TABLE["cat"], tuple([p.e for p in pieces]), dim)
    g.add(e, max(p.bound for p in pieces), max(p.error + rounding_of(e, p) for p in pieces), all(p.whole for p in pieces),
          any(p.special for p in pieces))


def view_writing(g: Generator) -> None:
    """A value written through a chain of views."""
    base = g.value(lambda v: 0 < prod(v.shape) < 5000)
    if not prod(base.shape):
        return
    chain: list[Any] = []
    region = base.e
    for _ in range(g.choices.integer(1, 3)):
        found = random_view(g, region.shape, True)
        if found is not None and prod(region.shape):
            chain.append(found)
            region = apply_chain(region, (found,))
    if chain_geometry(tuple(chain), base.shape) is None and g.chance(70):
        return
    value = value_of_shape(g, region.shape, base.dtype)
    if value is None:
        return
    e = emit(TABLE["view_write"], (base.e, value.e), tuple(chain))
    g.add(e, max(base.bound, value.bound), max(base.error, value.error), base.whole and value.whole, base.special or value.special)


def value_of_shape(g: Generator, shape: tuple[int, ...], dtype: DType) -> Known | None:
    """A value of a shape and dtype: one that can be expanded and cast, or a new leaf."""
    fitting = [v for v in g.values if prod(v.shape) and broadcasts(v.shape, shape, g.most)
               and broadcast_shapes(v.shape, shape) == shape
               and (v.dtype is dtype or (dtype.category == 2 and v.dtype.category <= 2 and v.bound < LARGEST))]
    if fitting and g.chance(70):
        v = g.pick(fitting)
        e = expand(cast(v.e, dtype), shape)
        return Known(e, v.bound, v.error + rounding_of(e, v), v.whole, v.special)
    return g.leaf(shape, dtype)


def positions(g: Generator, shape: tuple[int, ...], size: int, negative: bool) -> Expr:
    """Index values that are inside of a dimension."""
    computed = [v for v in g.values if v.dtype is int64 and v.shape == shape and v.exact]
    if computed and g.chance(50):
        return emit(TABLE["remainder"], (g.pick(computed).e, constant(size, int64)))
    return g.leaf(shape, int64, -size if negative else 0, size - 1).e


def indexing(g: Generator) -> None:
    """index and index_put"""
    a = g.value(lambda v: 0 < prod(v.shape) < 5000 and len(v.shape) > 0)
    if not a.shape or not prod(a.shape):
        return
    dims = random_axes(g, len(a.shape))
    if len(dims) > 3:
        return
    shape = g.shape(0, 2)
    shapes = [tuple([1 if g.chance(20) else n for n in shape])[g.choices.integer(0, len(shape)) if g.chance(30) else 0:]
              for _ in dims]
    common = broadcast_shapes(*shapes)
    region = region_shape(a.shape, dims, common)
    if prod(region) > g.most:
        return
    indices = [positions(g, s, a.shape[d], g.chance(50)) for s, d in zip(shapes, dims, strict=True)]
    if g.chance(50):
        g.add(emit(TABLE["index"], (a.e, *indices), dims), a.bound, a.error, a.whole, a.special)
        return
    accumulate = g.chance(50)
    value = value_of_shape(g, region, a.dtype)
    if value is None or (accumulate and a.dtype is bool_):
        return
    e = emit(TABLE["index_put"], (a.e, value.e, *indices), (dims, accumulate))
    count = prod(common) if accumulate else 1
    combined(g, e, a, value, count, accumulate)


def combined(g: Generator, e: Expr, a: Known, value: Known, count: int, summed: bool) -> None:
    """Note a value whose elements are those of ``a``, or sums of up to ``count`` of ``value``."""
    total = a.bound + count * value.bound if summed else max(a.bound, value.bound)
    whole = a.whole and value.whole
    error = a.error + count * value.error
    if summed and e.dtype.category == 2 and not (whole and total <= EXACT_TO[e.dtype.name]):
        error += count * EPS[e.dtype.name] * total
    g.add(e, total, error, whole, a.special or value.special)


def gathering(g: Generator) -> None:
    """gather and scatter"""
    a = g.value(lambda v: 0 < prod(v.shape) < 5000 and len(v.shape) > 0)
    if not a.shape or not prod(a.shape):
        return
    dim = g.choices.integer(0, len(a.shape) - 1)
    shape = tuple([g.choices.integer(1, n) if d != dim else g.pick((1, 2, 5, 9)) for d, n in enumerate(a.shape)])
    index = positions(g, shape, a.shape[dim], False)
    if g.chance(50):
        g.add(emit(TABLE["gather"], (a.e, index), dim), a.bound, a.error, a.whole, a.special)
        return
    mode = g.pick(("set", "add", "amax", "amin"))
    larger = tuple([n + g.pick((0, 0, 1)) for n in shape])
    value = value_of_shape(g, larger, a.dtype)
    if value is None or (a.dtype is bool_ and mode != "set"):
        return
    combined(g, emit(TABLE["scatter"], (a.e, index, value.e), (dim, mode)), a, value, shape[dim], mode == "add")


def scanning(g: Generator) -> None:
    """cumsum, cumprod"""
    a = g.value(lambda v: len(v.shape) > 0)
    if not a.shape or a.dtype is bool_ or a.special:
        return
    dim = g.choices.integer(0, len(a.shape) - 1)
    if g.chance(30):
        a_or_one = Known(emit(TABLE["sign"], (a.e,)), 1) if a.exact else a
        if a_or_one.exact:
            g.add(emit(TABLE["cumprod"], (a_or_one.e,), dim), 1)
        return
    total, n = a.shape[dim] * a.bound, a.shape[dim]
    rough = 0.0 if a.dtype.category != 2 or (a.whole and total <= EXACT_TO[a.dtype.name]) else 2 * EPS[a.dtype.name] * total
    g.add(emit(TABLE["cumsum"], (a.e,), dim), total, n * a.error + rough, a.whole, a.special)


def sorting(g: Generator) -> None:
    """A host operation on exact values."""
    a = g.value(lambda v: len(v.shape) > 0 and v.exact and v.dtype is not bool_)
    if not a.shape or not a.exact or a.dtype is bool_ or a.special or 0 in a.shape:
        return
    e = emit(TABLE[g.pick(("cummax_index", "cummin_index"))], (a.e,), g.choices.integer(0, len(a.shape) - 1))
    g.add(e, max(a.shape))


OPERATIONS: list[Callable[[Generator], None]] = [
    arithmetic, arithmetic, arithmetic, extreme, comparison, choice, signs, smooth, quotient, whole_division, bits, casting,
    classified, randomness, viewing, viewing, viewing, viewing, composite_view, sums, sums, sums, products, extremes, normalised,
    matmul, joining, view_writing, view_writing, indexing, gathering, scanning, sorting]


def random_program(choices: Choices) -> Program:
    """A random program."""
    g = Generator(choices, special=choices.integer(0, 5) == 0, halves=choices.integer(0, 2) == 0,
                  large=choices.integer(0, 9) == 0)
    return g.program(OPERATIONS, choices.integer(2, 25))
