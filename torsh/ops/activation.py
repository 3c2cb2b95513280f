"""Activation functions and clamps. Their parameters are run-time numbers, so that new values need no new program.

Derivatives at kinks are PyTorch's: relu'(0) = 0, clamp passes the gradient at its limits, hardtanh does not.
"""
from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from torsh.core.errors import DTypeError, ShapeMismatchError
from torsh.core.promotion import floating, not_implemented, promoting
from torsh.core.shape import normalise_dim, numel
from torsh.ops.common import (
    absolute,
    add,
    both,
    cast,
    conj,
    div,
    either,
    eq,
    exp,
    ge,
    gradient_for,
    gt,
    iota,
    le,
    lt,
    maximum,
    minimum,
    mul,
    neg,
    number,
    reduce,
    reshape,
    slice_dim,
    square,
    sub,
    unary,
    where,
)
from torsh.ops.define import Array, elementwise, wide, wide_arguments
from torsh.ops.elementwise_math import NORMAL_CDF, sigmoid
from torsh.ops.expr import TABLE, Expr, Op, emit, emit1, emit2

FLOATING: Final = floating("f")


def _keep(condition: Expr, g: Expr) -> Expr:
    """The gradient where the condition holds, else 0."""
    return where(condition, g, 0)


def _stop(condition: Expr, g: Expr) -> Expr:
    """0 where the condition holds, else the gradient."""
    return where(condition, 0, g)


# ---- piecewise linear --------------------------------------------------------------------------------------------------

RELU: Final[Op] = elementwise("relu", promoting("if"), lambda a: np.maximum(a, a.dtype.type(0)),
                          lambda g, out, a: _stop(le(out, 0), g), decompose=lambda a: maximum(a, 0), widen=False)
LEAKY_RELU: Final[Op] = elementwise(
    "leaky_relu", FLOATING, lambda a, slope: np.where(a > 0, a, a * slope),
    lambda g, out, a, slope: where(gt(a, 0), g, mul(g, slope)),
    lambda g, out, a, slope: mul(g, where(gt(a, 0), 0, a)), decompose=lambda a, slope: where(gt(a, 0), a, mul(a, slope)))
HARDTANH: Final[Op] = elementwise(
    "hardtanh", promoting("if"), lambda a, low, high: np.minimum(np.maximum(a, low), high),
    lambda g, out, a, low, high: _stop(either(le(a, low), ge(a, high)), g), None, None,
    decompose=lambda a, low, high: minimum(maximum(a, low), high))
THRESHOLD: Final[Op] = elementwise(
    "threshold", promoting("if"), lambda a, limit, value: np.where(a <= limit, value, a),
    lambda g, out, a, limit, value: _stop(le(a, limit), g), None, None,
    decompose=lambda a, limit, value: where(le(a, limit), value, a))


def _between(a: Expr, limit: Expr) -> Expr:
    return both(ge(a, neg(limit)), le(a, limit))


HARDSHRINK: Final[Op] = elementwise(
    "hardshrink", FLOATING, lambda a, limit: np.where((a >= -limit) & (a <= limit), 0, a),
    lambda g, out, a, limit: _stop(_between(a, limit), g), None,
    decompose=lambda a, limit: where(_between(a, limit), 0, a))
SOFTSHRINK: Final[Op] = elementwise(
    "softshrink", FLOATING, lambda a, limit: np.where(a > limit, a - limit, np.where(a < -limit, a + limit, a * 0)),
    lambda g, out, a, limit: _stop(_between(a, limit), g), None,
    decompose=lambda a, limit: where(gt(a, limit), sub(a, limit), where(lt(a, neg(limit)), add(a, limit), mul(a, 0))))
HARDSIGMOID: Final[Op] = elementwise(
    "hardsigmoid", FLOATING, lambda a: np.minimum(np.maximum(a + 3, 0), 6) / 6,
    lambda g, out, a: _keep(both(gt(a, -3), lt(a, 3)), mul(g, 1 / 6)),
    decompose=lambda a: mul(minimum(maximum(add(a, 3), 0), 6), 1 / 6))
HARDSWISH: Final[Op] = elementwise(
    "hardswish", FLOATING, lambda a: a * np.minimum(np.maximum(a + 3, 0), 6) / 6,
    lambda g, out, a: where(le(a, -3), 0, where(lt(a, 3), mul(g, add(mul(a, 1 / 3), 0.5)), g)),
    decompose=lambda a: mul(mul(a, minimum(maximum(add(a, 3), 0), 6)), 1 / 6))


# ---- clamp -------------------------------------------------------------------------------------------------------------

def _clamp(a: Any, *limits: Any, attr: str, low: Any = maximum, high: Any = minimum) -> Any:
    if attr == "both":
        return high(low(a, limits[0]), limits[1])
    return (low if attr == "min" else high)(a, limits[0])


def _numpy_clamp(a: Array, *limits: Array, attr: str) -> Any:
    return _clamp(a, *limits, attr=attr, low=np.maximum, high=np.minimum)


def _clamp_pieces(attr: str, g: Expr, a: Expr, limits: tuple[Expr, ...]) -> list[Expr]:
    if attr == "min":
        return [_keep(ge(a, limits[0]), g), _keep(lt(a, limits[0]), g)]
    if attr == "max":
        return [_keep(le(a, limits[0]), g), _keep(gt(a, limits[0]), g)]
    low, high = limits
    return [_keep(both(ge(a, low), le(a, high)), g), _keep(both(lt(a, low), lt(low, high)), g),
            _keep(either(gt(a, high), lt(high, low)), g)]


def _clamp_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    a, *limits = wide_arguments(e)
    pieces = _clamp_pieces(str(e.attr), cast(g, wide(g.dtype)), a, tuple(limits))
    return tuple([gradient_for(x, p) if x.requires_grad else None for x, p in zip(e.args, pieces, strict=True)])


# attr "both" (args: a, min, max), "min" or "max" (args: a, the limit); limits are numbers or tensors
CLAMP: Final[Op] = elementwise("clamp", promoting("if"), _numpy_clamp, decompose=_clamp)
CLAMP.gradient = _clamp_gradient


# ---- smooth ------------------------------------------------------------------------------------------------------------

SILU: Final[Op] = elementwise("silu", floating("fc"), lambda a: a * sigmoid(a),
                          lambda g, out, a: _silu_gradient(g, a), decompose=lambda a: mul(a, unary("sigmoid", a)))


def _silu_gradient(g: Expr, a: Expr) -> Expr:
    s = unary("sigmoid", a)
    return mul(g, conj(mul(s, add(mul(a, sub(1, s)), 1))))


def _numpy_softplus(z: Array) -> Any:
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def softplus_of(z: Expr) -> Expr:
    """log(1 + exp(z)), without overflow."""
    return add(maximum(z, 0), unary("log1p", exp(neg(absolute(z)))))


SOFTPLUS: Final[Op] = elementwise(
    "softplus", FLOATING, lambda a, beta, limit: np.where(a * beta > limit, a, _numpy_softplus(a * beta) / beta),
    lambda g, out, a, beta, limit: mul(g, where(gt(mul(a, beta), limit), 1, unary("sigmoid", mul(a, beta)))), None, None,
    decompose=lambda a, beta, limit: where(gt(mul(a, beta), limit), a, div(softplus_of(mul(a, beta)), beta)))


MISH: Final[Op] = elementwise(
    "mish", FLOATING, lambda a: a * np.tanh(_numpy_softplus(a)),
    lambda g, out, a: _mish_gradient(g, a), decompose=lambda a: mul(a, unary("tanh", softplus_of(a))))


def _mish_gradient(g: Expr, a: Expr) -> Expr:
    t = unary("tanh", softplus_of(a))
    return mul(g, add(t, mul(mul(a, unary("sigmoid", a)), sub(1, square(t)))))


LOGSIGMOID: Final[Op] = elementwise(
    "logsigmoid", FLOATING, lambda a: np.minimum(a, 0) - np.log1p(np.exp(-np.abs(a))),
    lambda g, out, a: mul(g, unary("sigmoid", neg(a))),
    decompose=lambda a: sub(minimum(a, 0), unary("log1p", exp(neg(absolute(a))))))
TANHSHRINK: Final[Op] = elementwise("tanhshrink", floating("bifc"), lambda a: a - np.tanh(a),
                                decompose=lambda a: sub(a, unary("tanh", a)))

SELU_ALPHA: Final = 1.6732632423543772848170429916717
SELU_SCALE: Final = 1.0507009873554804934193349852946

ELU: Final[Op] = elementwise(
    "elu", FLOATING, lambda a, alpha: np.where(a > 0, a, alpha * np.expm1(a)),
    lambda g, out, a, alpha: mul(g, where(le(a, 0), mul(alpha, exp(a)), 1)), None,
    decompose=lambda a, alpha: where(gt(a, 0), a, mul(alpha, unary("expm1", a))))
SELU: Final[Op] = elementwise(
    "selu", FLOATING, lambda a: np.where(a > 0, SELU_SCALE * a, SELU_SCALE * SELU_ALPHA * np.expm1(a)),
    lambda g, out, a: mul(g, where(le(a, 0), mul(exp(a), SELU_SCALE * SELU_ALPHA), SELU_SCALE)),
    decompose=lambda a: where(gt(a, 0), mul(a, SELU_SCALE), mul(unary("expm1", a), SELU_SCALE * SELU_ALPHA)))
CELU: Final[Op] = elementwise(
    "celu", FLOATING, lambda a, alpha: np.where(a > 0, a, alpha * np.expm1(a / alpha)),
    lambda g, out, a, alpha: mul(g, where(le(a, 0), exp(div(a, alpha)), 1)), None,
    decompose=lambda a, alpha: where(gt(a, 0), a, mul(alpha, unary("expm1", div(a, alpha)))))


# ---- gelu --------------------------------------------------------------------------------------------------------------

_TANH_SCALE: Final = math.sqrt(2 / math.pi)
_TANH_CUBIC: Final = 0.044715


def _tanh_share(a: Expr) -> Expr:
    # (1 + tanh(u)) / 2 = sigmoid(2 u)
    return unary("sigmoid", mul(mul(a, add(mul(square(a), _TANH_CUBIC), 1)), 2 * _TANH_SCALE))


def _gelu(a: Expr, attr: str) -> Expr:
    return mul(a, unary("normal_cdf", a) if attr == "none" else _tanh_share(a))


def _numpy_gelu(a: Array, attr: str) -> Any:
    if attr == "tanh":
        return a * sigmoid((2 * _TANH_SCALE * (a + _TANH_CUBIC * a ** 3)).astype(a.dtype))
    return a * NORMAL_CDF.reference(None, a)  # type: ignore[misc]


def _gelu_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    x = e.args[0]
    a, g = cast(x, wide(x.dtype)), cast(g, wide(x.dtype))
    if e.attr == "none":
        density = mul(exp(mul(square(a), -0.5)), 1 / math.sqrt(2 * math.pi))
        slope = add(unary("normal_cdf", a), mul(a, density))
    else:
        share = _tanh_share(a)
        inner = mul(add(mul(square(a), 3 * _TANH_CUBIC), 1), 2 * _TANH_SCALE)
        slope = mul(share, add(mul(mul(a, sub(1, share)), inner), 1))
    return (cast(mul(g, slope), x.dtype),)


# attr "none" (exact) or "tanh"
GELU: Final[Op] = elementwise("gelu", FLOATING, _numpy_gelu, decompose=_gelu)
GELU.gradient = _gelu_gradient


# ---- with more than one piece ------------------------------------------------------------------------------------------

def softsign_expr(input: Expr) -> Expr:
    """x / (1 + |x|)"""
    return div(input, add(absolute(input), 1))


def prelu_expr(input: Expr, weight: Expr) -> Expr:
    """x for positive x, else weight * x; weight: one element, or one per entry of dimension 1."""
    if input.dtype is not weight.dtype:
        raise DTypeError(f"prelu: Type promoting not supported. Got {input.dtype.name} and {weight.dtype.name}")
    if len(weight.shape) > 1:
        raise ShapeMismatchError(f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {len(weight.shape)}")
    n, rank = numel(weight.shape), len(input.shape)
    if n != 1:
        if not rank:
            raise ShapeMismatchError("prelu: Not allow zero-dim input tensor.")
        channels = input.shape[1] if rank > 1 else 1
        if channels != n:
            raise ShapeMismatchError(f"Mismatch of parameter numbers and input channel size. Found parameter numbers = {n} "
                                     f"and channel size = {channels}.")
    shape = tuple([n if axis == 1 else 1 for axis in range(rank)])
    return where(gt(input, 0), input, mul(reshape(weight, shape), input))


def glu_expr(input: Expr, dim: int) -> Expr:
    """The first half of a dimension times the sigmoid of the second half."""
    if not input.shape:
        raise ShapeMismatchError("glu does not support 0-dimensional tensors")
    if not input.dtype.is_floating_point:
        raise not_implemented("glu", input.dtype)
    d = normalise_dim(dim, len(input.shape))
    half, odd = divmod(input.shape[d], 2)
    if odd:
        raise ShapeMismatchError(f"Halving dimension must be even, but dimension {d} is size {input.shape[d]}")
    return mul(slice_dim(input, d, 0, half), unary("sigmoid", slice_dim(input, d, half, half)))


def rrelu_expr(input: Expr, seed: Expr, offset: Expr, lower: Expr, upper: Expr) -> Expr:
    """leaky_relu with slopes drawn from [lower, upper)."""
    draw = emit2(TABLE["uniform"], seed, offset, (input.shape, input.dtype.name))
    low, high = cast(lower, input.dtype), cast(upper, input.dtype)
    return where(gt(input, 0), input, mul(input, add(mul(draw, sub(high, low)), low)))


def gumbel_softmax_expr(logits: Expr, seed: Expr, offset: Expr, tau: Expr, dim: int, hard: bool) -> Expr:
    """softmax of (logits + Gumbel noise) / tau; hard: one-hot, with the gradient of the soft result."""
    dtype, work = logits.dtype, wide(logits.dtype)
    draw = emit(TABLE["exponential"], (seed, offset, number(1.0, work)), (logits.shape, work.name))
    noise = neg(unary("log", maximum(draw, 1e-37)))
    scores = div(add(cast(logits, work), noise), cast(tau, work))
    soft = cast(emit1(TABLE["softmax"], scores, dim), dtype)
    if not hard:
        return soft
    best = reduce("argmax", soft, (dim,) if soft.shape else (), True)
    place = iota(soft.shape, dim) if soft.shape else number(0, best.dtype)
    still = emit1(TABLE["detach"], soft)
    return add(sub(cast(eq(best, place), dtype), still), soft)
