"""Random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).

Every random op takes (seed, offset) as int64 numbers; element i of a draw is a pure function of (seed, offset, i), hence
independent of threads, of fusion, and the same when it is computed again (as dropout's gradient does).
"""
from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from torsh.core.dtype import DType, dtype_by_name, float32, float64, int64
from torsh.core.errors import ShapeMismatchError
from torsh.core.shape import broadcast_shapes, numel
from torsh.ops.common import (
    add,
    cast,
    div,
    expand,
    full,
    ge,
    iota,
    log,
    lt,
    mul,
    neg,
    reshape,
    sqrt,
    sub,
    unary,
    where,
)
from torsh.ops.define import Array
from torsh.ops.expr import ELEMENTWISE, HOST, TABLE, Expr, Op, Shape, emit, emit2

_MULTIPLIERS: Final = (0xD2511F53, 0xCD9E8D57)
_WEYL: Final = (0x9E3779B9, 0xBB67AE85)
_LOW: Final = np.uint64(0xFFFFFFFF)
_HALF: Final = np.uint64(32)


def _halves(value: Any) -> tuple[Array, Array]:
    """Low and high 32 bits, each as uint64."""
    bits = np.asarray(value, np.int64).astype(np.uint64)
    return bits & _LOW, bits >> _HALF


def philox(seed: Any, offset: Any, counter: Any) -> tuple[Array, Array, Array, Array]:
    """The four words, in [0, 2**32) as uint64, of the 128-bit counter (counter, offset) under the key ``seed``."""
    key0, key1 = _halves(seed)
    c0, c1 = _halves(counter)
    c2, c3 = _halves(offset)
    for step in range(10):
        product0 = c0 * np.uint64(_MULTIPLIERS[0])
        product1 = c2 * np.uint64(_MULTIPLIERS[1])
        k0 = (key0 + np.uint64(step * _WEYL[0] & 0xFFFFFFFF)) & _LOW
        k1 = (key1 + np.uint64(step * _WEYL[1] & 0xFFFFFFFF)) & _LOW
        c0, c1, c2, c3 = ((product1 >> _HALF) ^ c1 ^ k0, product1 & _LOW, (product0 >> _HALF) ^ c3 ^ k1, product0 & _LOW)
    return c0, c1, c2, c3


def _philox_infer(attr: int, seed: Expr, offset: Expr, counter: Expr) -> tuple[Shape, DType]:
    return broadcast_shapes(seed.shape, offset.shape, counter.shape), int64


def _philox_reference(attr: int, seed: Any, offset: Any, counter: Any) -> Array:
    word = philox(seed, offset, counter)[attr].astype(np.int64)
    return np.broadcast_to(word, np.broadcast_shapes(np.shape(seed), np.shape(offset), np.shape(counter)))


# attr: word 0 ... 3; args: seed, offset, counter
PHILOX: Final[Op] = Op("philox", _philox_infer, _philox_reference, kind=ELEMENTWISE)


def words(seed: Expr, offset: Expr, shape: Shape, *which: int) -> list[Expr]:
    """Random words, as int64, for every element of a tensor of this shape."""
    counter = reshape(iota((numel(shape),), 0), shape)
    return [emit(PHILOX, (cast(seed, int64), cast(offset, int64), counter), word) for word in which]


def _long_uniform(high: Expr, low: Expr) -> Expr:
    """A float64 in [0, 1) with 53 random bits from two words."""
    bits = add(mul(high, 1 << 21), emit2(TABLE["shift_right"], low, _int(11)))
    return mul(cast(bits, float64), 2.0 ** -53)


def _int(value: int) -> Expr:
    from torsh.ops.common import number
    return number(value, int64)


def _mantissa(word: Expr, dtype: DType) -> Expr:
    """A number in [0, 1) with as many random bits as the dtype's mantissa holds."""
    bits = {"float32": 24, "float16": 11, "bfloat16": 8}[dtype.name]
    whole = emit2(TABLE["shift_right"], word, _int(32 - bits))
    return cast(mul(cast(whole, float32), 2.0 ** -bits), dtype)


def uniform(seed: Expr, offset: Expr, shape: Shape, dtype: DType) -> Expr:
    """Numbers in [0, 1)."""
    if dtype is float64:
        return _long_uniform(*words(seed, offset, shape, 0, 1))
    return _mantissa(words(seed, offset, shape, 0)[0], dtype)


def _normal(seed: Expr, offset: Expr, shape: Shape, dtype: DType) -> Expr:
    """Box and Muller's transformation of two uniform numbers."""
    if dtype is float64:
        w = words(seed, offset, shape, 0, 1, 2, 3)
        radius_source, turn = sub(1, _long_uniform(w[0], w[1])), _long_uniform(w[2], w[3])
    else:
        first, second = words(seed, offset, shape, 0, 1)
        radius_source = mul(cast(add(first, 1), float32), 2.0 ** -32)
        turn = mul(cast(second, float32), 2.0 ** -32)
    radius = sqrt(mul(log(radius_source), -2.0))
    return cast(mul(radius, unary("cos", mul(turn, 2 * math.pi))), dtype)


def _drawn_infer(attr: tuple[Shape, str], *args: Expr) -> tuple[Shape, DType]:
    return attr[0], dtype_by_name(attr[1])


def _shape_dtype(e: Expr) -> tuple[Shape, DType]:
    attr: tuple[Shape, str] = e.attr  # type: ignore[assignment]
    return attr[0], dtype_by_name(attr[1])


# attr (shape, dtype name); args: seed, offset
UNIFORM: Final[Op] = Op("uniform", _drawn_infer, None, decompose=lambda e: uniform(e.args[0], e.args[1], *_shape_dtype(e)))
NORMAL: Final[Op] = Op("normal", _drawn_infer, None, decompose=lambda e: _normal(e.args[0], e.args[1], *_shape_dtype(e)))


def _exponential(e: Expr) -> Expr:
    seed, offset, rate = e.args
    shape, dtype = _shape_dtype(e)
    work = float64 if dtype is float64 else float32
    return cast(div(neg(log(sub(1, uniform(seed, offset, shape, work)))), cast(rate, work)), dtype)


# attr (shape, dtype name); args: seed, offset, rate
EXPONENTIAL: Final[Op] = Op("exponential", _drawn_infer, None, decompose=_exponential)


def _bernoulli(e: Expr) -> Expr:
    seed, offset, chance = e.args
    work = float64 if chance.dtype is float64 else float32
    shape, dtype = _shape_dtype(e)
    return cast(lt(uniform(seed, offset, shape, work), cast(chance, work)), dtype)


# attr (shape, dtype name); args: seed, offset, probability (a number or a tensor of that shape)
BERNOULLI: Final[Op] = Op("bernoulli", _drawn_infer, None, decompose=_bernoulli)


def _randint(e: Expr) -> Expr:
    seed, offset, low, high = e.args
    low, high = cast(low, int64), cast(high, int64)
    first, second = words(seed, offset, e.shape, 0, 1)
    # 63 random bits: the bias of the remainder is below range / 2**63.
    upper = emit2(TABLE["bitwise_and"], second, _int(0x7FFFFFFF))
    bits = add(mul(upper, 1 << 32), first)
    return expand(add(emit2(TABLE["remainder"], bits, sub(high, low)), low), e.shape)


# attr shape; args: seed, offset, low, high; int64 in [low, high)
RANDINT: Final[Op] = Op("randint", lambda attr, *args: (tuple(attr), int64), None, decompose=_randint)


def _randperm_reference(attr: int, seed: Any, offset: Any) -> Array:
    first, second, _, _ = philox(seed, offset, np.arange(attr))
    return np.argsort((first << _HALF) | second, kind="stable").astype(np.int64)


# attr n; args: seed, offset
RANDPERM: Final[Op] = Op("randperm", lambda attr, seed, offset: ((attr,), int64), _randperm_reference, kind=HOST)


def _dropout(e: Expr) -> Expr:
    x, p, seed, offset = e.args
    work = float64 if x.dtype is float64 else float32
    chance = cast(p, work)
    dropped = lt(uniform(seed, offset, x.shape, float32), cast(chance, float32))
    return cast(where(dropped, 0, mul(cast(x, work), div(1, sub(1, chance)))), x.dtype)


def _dropout_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    # Linear in x: the same numbers are drawn again for the same seed and offset.
    return emit(DROPOUT, (g, *e.args[1:])), None, None, None


# args: x, probability of zeroing, seed, offset; what is kept is divided by 1 - p
DROPOUT: Final[Op] = Op("dropout", lambda attr, x, p, seed, offset: (x.shape, x.dtype), None, gradient=_dropout_gradient,
                    decompose=_dropout)


def feature_dropout_expr(x: Expr, p: Expr, seed: Expr, offset: Expr, batched: bool) -> Expr:
    """Dropout of whole channels: the second dimension of a batch, else the first."""
    lead = 2 if batched else 1
    if len(x.shape) < lead:
        raise ShapeMismatchError("Feature dropout requires at least 2 dimensions in the input")
    mask = emit(DROPOUT, (full((*x.shape[:lead], *[1] * (len(x.shape) - lead)), 1, x.dtype), p, seed, offset))
    return mul(x, mask)


_SELU_LOW: Final = -1.7580993408473766          # selu's limit for large negative arguments


def alpha_dropout_expr(x: Expr, p: float, seed: Expr, offset: Expr, shape: Shape) -> Expr:
    """Elements set to selu's lower limit, then all scaled and shifted to keep mean and variance; ``shape``: the mask's."""
    keep = cast(ge(uniform(seed, offset, shape, float32), p), x.dtype)
    scale = ((_SELU_LOW * _SELU_LOW * p + 1) * (1 - p)) ** -0.5 if p < 1 else 0.0
    moved = add(mul(x, keep), mul(sub(1, keep), _SELU_LOW))
    return add(mul(moved, scale), -scale * _SELU_LOW * p)
