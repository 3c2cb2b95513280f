"""Losses that compare elements or rows: compositions of elementwise ops and a reduction."""
from __future__ import annotations

import math
from math import prod
from typing import Any, Final

import numpy as np

from torsh.core.dtype import int64, result_type
from torsh.core.errors import DTypeError, InvalidArgumentError, ShapeMismatchError
from torsh.core.promotion import SCALAR_TYPE_NAMES, floating, not_implemented
from torsh.core.shape import broadcast_shapes, normalise_dim
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
    real_with,
    reduce_mean,
    reduce_sum,
    reshape,
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

def _checked_weight(x: Expr, weight: Expr | None) -> None:
    if weight is not None and weight.shape != x.shape:
        raise InvalidArgumentError("Weights and input must have the same size.")


def _weighted_mean(x: Expr, loss: Expr, weight: Expr | None, reduction: str) -> Expr:
    """A loss with weights of the input's shape; the mean divides by their sum."""
    _checked_weight(x, weight)
    if weight is None or reduction != "mean":
        return reduced(_weighted(loss, weight), reduction)
    return div(reduced(mul(loss, weight), "sum"), reduced(weight, "sum"))


def _difference(name: str, x: Expr, y: Expr, categories: str = "f") -> Expr:
    difference = sub(x, y)
    if "bifc"[difference.dtype.category] not in categories:
        raise not_implemented(name, difference.dtype)
    return difference


def mse_loss_expr(x: Expr, y: Expr, weight: Expr | None, reduction: str) -> Expr:
    """Squared differences."""
    return _weighted_mean(x, square(_difference("mse", x, y)), weight, reduction)


def l1_loss_expr(x: Expr, y: Expr, weight: Expr | None, reduction: str) -> Expr:
    """Absolute differences."""
    return _weighted_mean(x, absolute(_difference("l1_loss", x, y, "ifc")), weight, reduction)


def smooth_l1_loss_expr(x: Expr, y: Expr, reduction: str, beta: float) -> Expr:
    """Squared below ``beta``, absolute above."""
    if beta < 0:
        raise ShapeMismatchError("smooth_l1_loss does not support negative values for beta.")
    if beta == 0:
        return l1_loss_expr(x, y, None, reduction)
    z = absolute(_difference("smooth_l1_loss", x, y))
    return reduced(where(lt(z, beta), mul(square(z), 0.5 / beta), sub(z, 0.5 * beta)), reduction)


def huber_loss_expr(x: Expr, y: Expr, weight: Expr | None, reduction: str, delta: float) -> Expr:
    """Half the square up to ``delta``, then linear."""
    _checked_weight(x, weight)
    if delta <= 0:
        raise ShapeMismatchError("huber_loss does not support non-positive values for delta.")
    z = absolute(_difference("huber_loss", x, y))
    return reduced(_weighted(where(le(z, delta), mul(square(z), 0.5), mul(sub(z, 0.5 * delta), delta)), weight), reduction)


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
    if x.shape != y.shape:
        raise InvalidArgumentError(f"Using a target size (torsh.Size({list(y.shape)})) that is different to the input size "
                                   f"(torsh.Size({list(x.shape)})) is deprecated. Please ensure they have the same size.")
    return reduced(_weighted(emit2(BINARY_CROSS_ENTROPY, x, y), weight), reduction)


def log_sigmoid(x: Expr) -> Expr:
    """log(sigmoid(x)), without overflow."""
    return emit1(TABLE["logsigmoid"], x)


def binary_cross_entropy_with_logits_expr(x: Expr, y: Expr, weight: Expr | None, pos_weight: Expr | None,
                                          reduction: str) -> Expr:
    """Cross entropy of logits of two classes; ``pos_weight`` multiplies the positive part."""
    if x.shape != y.shape:
        raise InvalidArgumentError(f"Target size (torsh.Size({list(y.shape)})) must be the same as input size "
                                   f"(torsh.Size({list(x.shape)}))")
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
    loss = sub(exp(x), mul(y, x)) if log_input else sub(x, mul(y, log(add(real_with(x, eps), eps))))
    if full_loss:
        y = real_with(y, math.pi)
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
    x = real_with(x, margin)
    return reduced(add(where(ne(y, 1), positive_part(sub(margin, x)), 0), where(ne(y, -1), x, 0)), reduction)


def check_triplet(anchor: Expr, positive: Expr, negative: Expr) -> None:
    """The three arguments of a triplet loss have the same number of dimensions."""
    ranks = [len(e.shape) for e in (anchor, positive, negative)]
    if len(set(ranks)) > 1:
        raise ShapeMismatchError("The anchor, positive, and negative tensors are expected to have the same number of dimensions, "
                                 f"but got: anchor {ranks[0]}D, positive {ranks[1]}D, and negative {ranks[2]}D inputs")


def margin_ranking_loss_expr(a: Expr, b: Expr, y: Expr, margin: Number, reduction: str) -> Expr:
    """max(0, -y * (a - b) + margin)"""
    if not len(a.shape) == len(b.shape) == len(y.shape):
        raise ShapeMismatchError("margin_ranking_loss : All input tensors should have same dimension but got sizes: input1: "
                                 f"{list(a.shape)}, input2: {list(b.shape)}, target: {list(y.shape)} ")
    return reduced(positive_part(add(real_with(neg(mul(y, sub(a, b))), margin), margin)), reduction)


def cosine_embedding_loss_expr(a: Expr, b: Expr, y: Expr, margin: Number, reduction: str) -> Expr:
    """1 - cosine where y is 1, max(0, cosine - margin) where it is -1; rows are in the last dimension."""
    if len(y.shape) > 1:
        raise ShapeMismatchError("0D or 1D target tensor expected, multi-target not supported")
    if not len(a.shape) == len(b.shape) == len(y.shape) + 1:
        raise ShapeMismatchError(f"{len(y.shape)}D target tensor expects {len(y.shape) + 1}D input tensors, but found inputs "
                                 f"with sizes {list(a.shape)} and {list(b.shape)}.")
    a, b = real_with(a, 1e-12), real_with(b, 1e-12)
    dot = reduce_sum(mul(a, b), (-1,))
    size = mul(add(reduce_sum(square(a), (-1,)), 1e-12), add(reduce_sum(square(b), (-1,)), 1e-12))
    cosine = div(dot, sqrt(size))
    loss = add(where(eq(y, 1), sub(1, cosine), 0), where(eq(y, -1), positive_part(sub(cosine, margin)), 0))
    return reduced(loss, reduction)


def pairwise_distance_expr(a: Expr, b: Expr, p: float, eps: Number, keepdim: bool = False) -> Expr:
    """The p-norm of a - b + eps over the last dimension."""
    difference = add(real_with(sub(a, b), float(eps)), eps)
    return _row_norm(difference, float(p), keepdim)


def _row_norm(e: Expr, p: float, keepdim: bool = False) -> Expr:
    """The p-norm over the last dimension."""
    size = absolute(e) if e.dtype.is_complex else e
    return emit1(TABLE["norm"], size, ((len(e.shape) - 1,), keepdim, p))


def cdist_expr(a: Expr, b: Expr, p: float) -> Expr:
    """p-norm distances (..., P, R) between the rows of a (..., P, M) and b (..., R, M)."""
    if len(a.shape) < 2 or len(b.shape) < 2:
        raise ShapeMismatchError(f"cdist only supports at least 2D tensors, got: {len(a.shape)}D and {len(b.shape)}D")
    if a.shape[-1] != b.shape[-1]:
        raise ShapeMismatchError(f"X1 and X2 must have the same number of columns. X1: {a.shape[-1]} X2: {b.shape[-1]}")
    if p < 0:
        raise ShapeMismatchError("cdist only supports non-negative p values")
    return _row_norm(sub(unsqueeze(a, -2), unsqueeze(b, -3)), p)


def triplet_margin_loss_expr(anchor: Expr, positive: Expr, negative: Expr, margin: Number, p: float, eps: Number, swap: bool,
                             reduction: str) -> Expr:
    """max(0, distance to the positive - distance to the negative + margin)"""
    check_triplet(anchor, positive, negative)
    near = pairwise_distance_expr(anchor, positive, p, eps)
    far = pairwise_distance_expr(anchor, negative, p, eps)
    if swap:
        far = minimum(far, pairwise_distance_expr(positive, negative, p, eps))
    return margin_of_distances(near, far, margin, reduction)


def margin_of_distances(near: Expr, far: Expr, margin: Number, reduction: str) -> Expr:
    """max(0, near - far + margin)"""
    return reduced(positive_part(add(real_with(sub(near, far), margin), margin)), reduction)


def cosine_similarity_expr(a: Expr, b: Expr, dim: int, eps: Number) -> Expr:
    """Products of vectors along a dimension, each divided by its norm (at least ``eps``)."""
    dtype = result_type(((a.dtype, 2), (b.dtype, 2)))
    if not dtype.is_floating_point:
        raise DTypeError("expected common dtype to be floating point, yet common dtype is "
                         f"{SCALAR_TYPE_NAMES[dtype.name]}")
    shape = broadcast_shapes(a.shape, b.shape)
    axes = (normalise_dim(dim, len(shape)),) if shape else ()
    a, b = expand(cast(a, dtype), shape), expand(cast(b, dtype), shape)
    units = [div(e, maximum(sqrt(reduce_sum(square(e), axes, True)), eps)) for e in (a, b)]
    return reduce_sum(mul(*units), axes)


def multi_margin_loss_expr(x: Expr, target: Expr, weight: Expr | None, p: int, margin: Number, reduction: str) -> Expr:
    """max(0, margin - x[target] + x[i]) ** p of all other classes i, averaged over the classes (the last dimension)."""
    if len(x.shape) > 2 or len(target.shape) > 1 or 0 in x.shape[1:] or (len(x.shape) == 1 and not x.shape[0]):
        raise ShapeMismatchError("Expected non-empty vector or matrix with optional 0-dim batch size, but got: "
                                 f"{list(x.shape)}, target {list(target.shape)}")
    if prod(target.shape) != prod(x.shape[:-1]):
        raise ShapeMismatchError(f"inconsistent target size, expected {prod(x.shape[:-1])} but got {list(target.shape)}")
    if weight is not None and weight.shape != x.shape[-1:]:
        raise ShapeMismatchError(f"inconsistent weight size, expected {x.shape[-1] if x.shape else 1} but got "
                                 f"{list(weight.shape)}")
    x = x if x.shape else reshape(x, (1,))
    target = reshape(target, x.shape[:-1])
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
    if len(x.shape) > 2 or 0 in x.shape[-1:]:
        raise ShapeMismatchError(f"Expected non-empty vector or matrix with optional 0-dim batch size, but got: {list(x.shape)}")
    if prod(target.shape) != prod(x.shape) or (len(x.shape) == 2 and target.shape != x.shape):
        raise ShapeMismatchError(f"inconsistent target size: {list(target.shape)} for input of size: {list(x.shape)}")
    flat = len(x.shape) < 2
    if flat:
        x, target = reshape(x, (1, prod(x.shape))), reshape(target, (1, prod(x.shape)))
    rows, classes = x.shape
    valid = eq(emit1(CUMPROD, cast(ge(target, 0), int64), 1), 1)
    place = where(valid, target, 0)
    marks = scatter(full((rows, classes), 0, int64), place, cast(valid, int64), 1, "amax")
    other = eq(marks, 0)
    gaps = positive_part(sub(add(unsqueeze(x, 1), 1), unsqueeze(gather(x, place, 1), 2)))
    counted = both(unsqueeze(valid, 2), unsqueeze(other, 1))
    loss = div(reduce_sum(where(counted, gaps, 0), (1, 2)), float(classes))
    return reduced(squeeze(loss, 0) if flat else loss, reduction)
