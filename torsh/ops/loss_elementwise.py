"""Losses that compare elements or rows: compositions of elementwise ops and a reduction."""
from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from torsh.core.dtype import int64
from torsh.core.errors import InvalidArgumentError
from torsh.core.promotion import floating
from torsh.ops.common import (
    absolute,
    add,
    both,
    cast,
    div,
    eq,
    exp,
    expand,
    full,
    ge,
    gt,
    iota,
    le,
    log,
    lt,
    maximum,
    minimum,
    mul,
    ne,
    neg,
    pow,
    reduce_mean,
    reduce_sum,
    sqrt,
    square,
    squeeze,
    sub,
    unary,
    unsqueeze,
    where,
)
from torsh.ops.define import elementwise
from torsh.ops.expr import TABLE, Expr, Op, emit1, emit2
from torsh.ops.indexing import gather, index, scatter
from torsh.ops.loss import reduced
from torsh.ops.scan_sort import CUMPROD

Number = Any   # an expression or a Python number


def _weighted(loss: Expr, weight: Expr | None) -> Expr:
    return loss if weight is None else mul(loss, weight)


# ---- differences -------------------------------------------------------------------------------------------------------

def mse_loss_expr(x: Expr, y: Expr, reduction: str, weight: Expr | None = None) -> Expr:
    """Squared differences."""
    loss = _weighted(square(sub(x, y)), weight)
    if weight is not None and reduction == "mean":
        return div(reduced(loss, "sum"), reduced(expand(weight, loss.shape), "sum"))
    return reduced(loss, reduction)


def l1_loss_expr(x: Expr, y: Expr, reduction: str) -> Expr:
    """Absolute differences."""
    return reduced(absolute(sub(x, y)), reduction)


def smooth_l1_loss_expr(x: Expr, y: Expr, reduction: str, beta: float) -> Expr:
    """Squared below ``beta``, absolute above."""
    if beta < 0:
        raise InvalidArgumentError("smooth_l1_loss does not support negative values for beta.")
    if beta == 0:
        return l1_loss_expr(x, y, reduction)
    z = absolute(sub(x, y))
    return reduced(where(lt(z, beta), mul(square(z), 0.5 / beta), sub(z, 0.5 * beta)), reduction)


def huber_loss_expr(x: Expr, y: Expr, reduction: str, delta: float) -> Expr:
    """Half the square up to ``delta``, then linear."""
    if delta <= 0:
        raise InvalidArgumentError("huber_loss does not support non-positive values for delta.")
    z = absolute(sub(x, y))
    return reduced(where(le(z, delta), mul(square(z), 0.5), mul(sub(z, 0.5 * delta), delta)), reduction)


# ---- probabilities -----------------------------------------------------------------------------------------------------

def _numpy_bce(x: Any, y: Any) -> Any:
    return -(y * np.maximum(np.log(x), -100) + (1 - y) * np.maximum(np.log1p(-x), -100))


def _bce(x: Expr, y: Expr) -> Expr:
    return sub(mul(sub(y, 1), maximum(unary("log1p", neg(x)), -100)), mul(y, maximum(log(x), -100)))


def _bce_target_gradient(g: Expr, out: Expr, x: Expr, y: Expr) -> Expr:
    return mul(g, sub(unary("log1p", neg(x)), log(x)))


# args: probability, target. Logarithms are bounded by -100, the gradient's divisor by 1e-12.
BINARY_CROSS_ENTROPY: Final[Op] = elementwise(
    "binary_cross_entropy", floating("f"), _numpy_bce,
    lambda g, out, x, y: mul(g, div(sub(x, y), maximum(mul(x, sub(1, x)), 1e-12))), _bce_target_gradient, decompose=_bce)


def binary_cross_entropy_expr(x: Expr, y: Expr, weight: Expr | None, reduction: str) -> Expr:
    """Cross entropy of probabilities of two classes. Probabilities outside of [0, 1] give NaN."""
    return reduced(_weighted(emit2(BINARY_CROSS_ENTROPY, x, y), weight), reduction)


def log_sigmoid(x: Expr) -> Expr:
    """log(sigmoid(x)), without overflow."""
    return emit1(TABLE["logsigmoid"], x)


def binary_cross_entropy_with_logits_expr(x: Expr, y: Expr, weight: Expr | None, reduction: str,
                                          pos_weight: Expr | None) -> Expr:
    """Cross entropy of logits of two classes; ``pos_weight`` multiplies the positive part."""
    part = log_sigmoid(x)
    if pos_weight is not None:
        part = mul(part, add(mul(sub(pos_weight, 1), y), 1))
    return reduced(_weighted(sub(mul(sub(1, y), x), part), weight), reduction)


def kl_div_expr(x: Expr, y: Expr, reduction: str, log_target: bool) -> Expr:
    """Kullback-Leibler divergence of log-probabilities ``x`` from probabilities (or their logarithms) ``y``."""
    loss = mul(exp(y), sub(y, x)) if log_target else sub(emit2(TABLE["xlogy"], y, y), mul(y, x))
    if reduction == "batchmean":
        return div(reduced(loss, "sum"), float(loss.shape[0] if loss.shape else 1))
    return reduced(loss, reduction)


def poisson_nll_loss_expr(x: Expr, y: Expr, log_input: bool, full_loss: bool, eps: float, reduction: str) -> Expr:
    """Negative log likelihood of a Poisson distribution."""
    loss = sub(exp(x), mul(y, x)) if log_input else sub(x, mul(y, log(add(x, eps))))
    if full_loss:
        stirling = add(sub(mul(y, log(y)), y), mul(log(mul(y, 2 * math.pi)), 0.5))
        loss = add(loss, where(gt(y, 1), stirling, 0))
    return reduced(loss, reduction)


def gaussian_nll_loss_expr(x: Expr, y: Expr, variance: Expr, full_loss: bool, eps: float, reduction: str) -> Expr:
    """Negative log likelihood of a normal distribution; variances below ``eps`` are raised, with unchanged gradients."""
    missing = emit1(TABLE["detach"], sub(maximum(variance, eps), variance))
    variance = add(variance, missing)
    loss = mul(add(log(variance), div(square(sub(x, y)), variance)), 0.5)
    return reduced(add(loss, 0.5 * math.log(2 * math.pi)) if full_loss else loss, reduction)


def soft_margin_loss_expr(x: Expr, y: Expr, reduction: str) -> Expr:
    """log(1 + exp(-y * x))"""
    return reduced(neg(log_sigmoid(mul(y, x))), reduction)


def multilabel_soft_margin_loss_expr(x: Expr, y: Expr, weight: Expr | None, reduction: str) -> Expr:
    """Cross entropy of logits with several classes per row, averaged over the last dimension."""
    loss = neg(add(mul(y, log_sigmoid(x)), mul(sub(1, y), log_sigmoid(neg(x)))))
    return reduced(reduce_mean(_weighted(loss, weight), (-1,)), reduction)


# ---- margins -----------------------------------------------------------------------------------------------------------

def positive_part(e: Expr) -> Expr:
    """max(e, 0) with PyTorch's gradient of clamp_min: 1 at 0."""
    return where(ge(e, 0), e, 0)


def hinge_embedding_loss_expr(x: Expr, y: Expr, margin: Number, reduction: str) -> Expr:
    """x where y is 1, max(0, margin - x) where it is -1."""
    return reduced(add(where(ne(y, 1), positive_part(sub(margin, x)), 0), where(ne(y, -1), x, 0)), reduction)


def margin_ranking_loss_expr(a: Expr, b: Expr, y: Expr, margin: Number, reduction: str) -> Expr:
    """max(0, -y * (a - b) + margin)"""
    return reduced(positive_part(add(neg(mul(y, sub(a, b))), margin)), reduction)


def cosine_embedding_loss_expr(a: Expr, b: Expr, y: Expr, margin: Number, reduction: str) -> Expr:
    """1 - cosine where y is 1, max(0, cosine - margin) where it is -1; rows are in the last dimension."""
    dot = reduce_sum(mul(a, b), (-1,))
    size = mul(add(reduce_sum(square(a), (-1,)), 1e-12), add(reduce_sum(square(b), (-1,)), 1e-12))
    cosine = div(dot, sqrt(size))
    loss = add(where(eq(y, 1), sub(1, cosine), 0), where(eq(y, -1), positive_part(sub(cosine, margin)), 0))
    return reduced(loss, reduction)


def pairwise_distance_expr(a: Expr, b: Expr, p: float, eps: Number, keepdim: bool = False) -> Expr:
    """The p-norm of a - b + eps over the last dimension."""
    difference = add(sub(a, b), eps)
    return emit1(TABLE["norm"], difference, ((len(difference.shape) - 1,), keepdim, float(p)))


def triplet_margin_loss_expr(anchor: Expr, positive: Expr, negative: Expr, margin: Number, p: float, eps: Number, swap: bool,
                             reduction: str) -> Expr:
    """max(0, distance to the positive - distance to the negative + margin)"""
    near = pairwise_distance_expr(anchor, positive, p, eps)
    far = pairwise_distance_expr(anchor, negative, p, eps)
    if swap:
        far = minimum(far, pairwise_distance_expr(positive, negative, p, eps))
    return reduced(positive_part(sub(add(near, margin), far)), reduction)


def multi_margin_loss_expr(x: Expr, target: Expr, p: int, margin: Number, weight: Expr | None, reduction: str) -> Expr:
    """max(0, margin - x[target] + x[i]) ** p of all other classes i, averaged over the classes (the last dimension)."""
    axis = len(x.shape) - 1
    place = unsqueeze(target, axis)
    gap = positive_part(sub(add(x, margin), gather(x, place, axis)))
    gap = gap if p == 1 else square(gap) if p == 2 else pow(gap, float(p))
    if weight is not None:
        gap = mul(gap, unsqueeze(index(weight, (target,), (0,)), axis))
    others = where(ne(iota((x.shape[axis],), 0), place), gap, 0)
    return reduced(reduce_mean(others, (axis,)), reduction)


def multilabel_margin_loss_expr(x: Expr, target: Expr, reduction: str) -> Expr:
    """max(0, 1 - x[j] + x[i]) over all targets j of a row and all classes i that are no targets; targets end at -1."""
    flat = len(x.shape) == 1
    if flat:
        x, target = unsqueeze(x, 0), unsqueeze(target, 0)
    rows, classes = x.shape
    valid = eq(emit1(CUMPROD, cast(ge(target, 0), int64), 1), 1)
    place = where(valid, target, 0)
    marks = scatter(full((rows, classes), 0, int64), place, cast(valid, int64), 1, "amax")
    other = eq(marks, 0)
    gaps = positive_part(sub(add(unsqueeze(x, 1), 1), unsqueeze(gather(x, place, 1), 2)))
    counted = both(unsqueeze(valid, 2), unsqueeze(other, 1))
    loss = div(reduce_sum(where(counted, gaps, 0), (1, 2)), float(classes))
    return reduced(squeeze(loss, 0) if flat else loss, reduction)
