"""Losses over class positions: nll_loss and cross_entropy. Elementwise losses are in ``loss_elementwise``."""
from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from torsh.core.dtype import DType, from_numpy_dtype, int64
from torsh.core.errors import DTypeError, IndexOutOfRangeError, InvalidArgumentError, ShapeMismatchError, UnsupportedDTypeError
from torsh.core.promotion import SCALAR_TYPE_NAMES
from torsh.ops.common import (
    add,
    cast,
    div,
    eq,
    exp,
    expand,
    full,
    iota,
    mul,
    ne,
    neg,
    reduce_mean,
    reduce_sum,
    reshape,
    squeeze,
    sub,
    unsqueeze,
    where,
)
from torsh.ops.define import Array, convert, wide
from torsh.ops.expr import Expr, Op, Shape, emit
from torsh.ops.indexing import gather, index
from torsh.ops.softmax import log_softmax

REDUCTIONS: Final = ("none", "mean", "sum")


def check_reduction(reduction: str) -> None:
    """Raise PyTorch's error for an unknown reduction."""
    if reduction not in REDUCTIONS:
        raise InvalidArgumentError(f"{reduction} is not a valid value for reduction")


def reduced(e: Expr, reduction: str) -> Expr:
    """All elements, their mean or their sum."""
    check_reduction(reduction)
    axes = tuple(range(len(e.shape)))
    if reduction == "none" or not axes:
        return e
    return reduce_mean(e, axes) if reduction == "mean" else reduce_sum(e, axes)


class Classes(NamedTuple):
    """Attribute of losses over classes."""

    ignore_index: int = -100
    reduction: str = "mean"
    weight: bool = False
    label_smoothing: float = 0.0


# ---- shapes ------------------------------------------------------------------------------------------------------------

def _check(name: str, attr: Classes, x: Expr, target: Expr, weight: tuple[Expr, ...]) -> None:
    check_reduction(attr.reduction)
    if not x.dtype.is_floating_point:
        raise UnsupportedDTypeError(f"\"{name}\" not implemented for '{SCALAR_TYPE_NAMES[x.dtype.name]}'")
    _check_target(x.shape, target.shape)
    if target.dtype is not int64:
        raise DTypeError(f"{name}: expected scalar type Long but found {SCALAR_TYPE_NAMES[target.dtype.name]}")
    axis = class_axis(x)
    for w in weight:
        if w.dtype is not x.dtype:
            raise DTypeError(f"expected scalar type {SCALAR_TYPE_NAMES[x.dtype.name]} but found "
                             f"{SCALAR_TYPE_NAMES[w.dtype.name]}")
        if w.shape != (x.shape[axis],):
            raise ShapeMismatchError("weight tensor should be defined either for all or no classes, expected shape "
                                     f"[{x.shape[axis]}], got {list(w.shape)}")


def _check_target(x: Shape, target: Shape) -> None:
    """Raise PyTorch's errors for targets that do not have the input's shape without its classes."""
    if not x:
        raise InvalidArgumentError("Expected 1 or more dimensions (got 0)")
    if len(x) > 1 and x[0] != (target[0] if target else None):
        raise InvalidArgumentError(f"Expected input batch_size ({x[0]}) to match target batch_size "
                                   f"({target[0] if target else 'none'}).")
    if len(x) <= 2:
        if len(target) > 1:
            raise ShapeMismatchError("0D or 1D target tensor expected, multi-target not supported")
        if target != x[:-1]:
            raise ShapeMismatchError(f"size mismatch (got input: {list(x)}, target: {list(target)})")
    elif target != (x[0], *x[2:]):
        if len(x) == 4:
            raise ShapeMismatchError(f"only batches of spatial targets supported (3D tensors) but got targets of size: "
                                     f"{list(target)}, expected {[x[0], *x[2:]]}")
        raise ShapeMismatchError(f"Expected target size {[x[0], *x[2:]]}, got {list(target)}")


def class_axis(x: Expr) -> int:
    """The dimension of the classes: the second, or the only one."""
    return min(1, len(x.shape) - 1)


def _infer(name: str) -> Any:
    def infer(attr: Classes, x: Expr, target: Expr, *weight: Expr) -> tuple[Shape, DType]:
        _check(name, attr, x, target, weight)
        return (target.shape if attr.reduction == "none" else ()), x.dtype
    return infer


# ---- NumPy -------------------------------------------------------------------------------------------------------------

def _numpy_loss(attr: Classes, logs: Array, target: Any, weight: Array | None) -> Array:
    """Loss from log-probabilities with the classes in the last dimension; smoothing included."""
    classes = logs.shape[-1]
    kept = np.asarray(target) != attr.ignore_index
    safe = np.where(kept, target, 0)
    bad = (safe < 0) | (safe >= classes)
    if bad.any():
        raise IndexOutOfRangeError(f"Target {int(safe[bad].reshape(-1)[0])} is out of bounds for {classes} classes.")
    weights = np.ones(classes, logs.dtype) if weight is None else weight
    own = weights[safe] * kept
    picked = np.take_along_axis(logs, safe[..., None], -1)[..., 0]
    loss = np.where(kept, -picked * own, 0)
    if attr.label_smoothing:
        smooth = np.where(kept, -(logs * weights).sum(-1), 0)
        loss = loss * (1 - attr.label_smoothing) + smooth * (attr.label_smoothing / classes)
    if attr.reduction == "none":
        return loss
    return loss.sum() / own.sum() if attr.reduction == "mean" else loss.sum()


def _reference(normalised: bool) -> Any:
    def reference(attr: Classes, x: Any, target: Any, *weight: Any) -> Array:
        array = np.asarray(x)
        dtype = from_numpy_dtype(array.dtype)
        logs = np.moveaxis(convert(array, wide(dtype)), min(1, array.ndim - 1), -1)
        with np.errstate(all="ignore"):
            if not normalised:
                logs = logs - logs.max(-1, keepdims=True, initial=-np.inf)
                logs = logs - np.log(np.exp(logs).sum(-1, keepdims=True))
            weights = convert(weight[0], wide(dtype)) if weight else None
            return convert(_numpy_loss(attr, logs, target, weights), dtype)
    return reference


# ---- expressions -------------------------------------------------------------------------------------------------------

class Parts(NamedTuple):
    """What losses over classes are made of, in the dtype that is computed in."""

    axis: int
    kept: Expr             # is the target not ignored?
    safe: Expr             # the target, 0 where it is ignored
    own: Expr              # weight of the target's class, 0 where it is ignored
    weight: Expr | None    # of all classes, shaped to broadcast with the input


def _parts(e: Expr) -> Parts:
    attr: Classes = e.attr  # type: ignore[assignment]
    x, target, *rest = e.args
    axis, work = class_axis(x), wide(x.dtype)
    kept = ne(target, attr.ignore_index)
    safe = where(kept, target, 0)
    if not rest:
        return Parts(axis, kept, safe, cast(kept, work), None)
    weight = cast(rest[0], work)
    own = mul(index(weight, (safe,), (0,)), cast(kept, work))
    return Parts(axis, kept, safe, own, reshape(weight, (x.shape[axis], *(1,) * (len(x.shape) - axis - 1))))


def _loss(e: Expr, logs: Expr) -> Expr:
    """The loss from log-probabilities."""
    attr: Classes = e.attr  # type: ignore[assignment]
    parts = _parts(e)
    logs = cast(logs, wide(e.dtype))
    # gather checks the bounds of the targets.
    picked = squeeze(gather(logs, unsqueeze(parts.safe, parts.axis), parts.axis), parts.axis)
    loss = where(parts.kept, neg(mul(picked, parts.own)), 0)
    if attr.label_smoothing:
        weighted = logs if parts.weight is None else mul(logs, parts.weight)
        smooth = where(parts.kept, neg(reduce_sum(weighted, (parts.axis,))), 0)
        share = attr.label_smoothing / logs.shape[parts.axis]
        loss = add(mul(loss, 1 - attr.label_smoothing), mul(smooth, share))
    if attr.reduction != "none":
        axes = tuple(range(len(loss.shape)))
        total = reduce_sum(loss, axes)
        loss = div(total, reduce_sum(parts.own, axes)) if attr.reduction == "mean" else total
    return cast(loss, e.dtype)


def _scale(e: Expr, g: Expr, parts: Parts) -> Expr:
    """The gradient of the loss per target, before weights."""
    g = cast(g, wide(e.dtype))
    if e.attr.reduction == "mean":  # type: ignore[attr-defined]
        g = div(g, reduce_sum(parts.own, tuple(range(len(parts.own.shape)))))
    return expand(g, e.args[1].shape)


def _hits(x: Expr, parts: Parts) -> Expr:
    """Is this the target's class?"""
    classes = reshape(iota((x.shape[parts.axis],), 0), (x.shape[parts.axis], *(1,) * (len(x.shape) - parts.axis - 1)))
    return eq(unsqueeze(parts.safe, parts.axis), classes)


def _nll_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    parts = _parts(e)
    x = e.args[0]
    amount = unsqueeze(neg(mul(_scale(e, g, parts), parts.own)), parts.axis)
    return (cast(where(_hits(x, parts), amount, 0), x.dtype), *[None] * (len(e.args) - 1))


def _cross_entropy_gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
    # -log softmax of the target: softmax - one-hot. Smoothing: softmax * (sum of weights) - weights, times its share.
    attr: Classes = e.attr  # type: ignore[assignment]
    parts = _parts(e)
    x, axis, work = e.args[0], parts.axis, wide(e.dtype)
    shares = exp(log_softmax(cast(x, work), axis))
    scale = _scale(e, g, parts)
    smoothing, classes = attr.label_smoothing, x.shape[axis]
    amount = unsqueeze(mul(scale, mul(parts.own, 1 - smoothing) if smoothing else parts.own), axis)
    total = mul(amount, sub(shares, cast(_hits(x, parts), work)))
    if smoothing:
        every = unsqueeze(mul(mul(scale, cast(parts.kept, work)), smoothing / classes), axis)
        weight = parts.weight
        if weight is None:
            rest = sub(mul(shares, float(classes)), 1)
        else:
            rest = sub(mul(shares, reduce_sum(weight, tuple(range(len(weight.shape))))), weight)
        total = add(total, mul(every, rest))
    return (cast(total, x.dtype), *[None] * (len(e.args) - 1))


def _cross_entropy(e: Expr) -> Expr:
    x = e.args[0]
    return _loss(e, log_softmax(cast(x, wide(x.dtype)), class_axis(x)))


# attr: Classes; args: log-probabilities (N, C, ...) or (C,), target (N, ...) or () of int64, class weights if given
NLL_LOSS: Final[Op] = Op("nll_loss", _infer("nll_loss"), _reference(True), gradient=_nll_gradient,
                         decompose=lambda e: _loss(e, e.args[0]))
# attr: Classes; args: logits, target, class weights if given
CROSS_ENTROPY: Final[Op] = Op("cross_entropy", _infer("cross_entropy"), _reference(False), gradient=_cross_entropy_gradient,
                              decompose=_cross_entropy)


def nll_loss_expr(x: Expr, target: Expr, weight: Expr | None, ignore_index: int, reduction: str) -> Expr:
    """Minus the log-probability of the target class."""
    attr = Classes(int(ignore_index), reduction, weight is not None)
    return emit(NLL_LOSS, (x, target) if weight is None else (x, target, weight), attr)


def cross_entropy_expr(x: Expr, target: Expr, weight: Expr | None, ignore_index: int, reduction: str,
                       label_smoothing: float = 0.0) -> Expr:
    """Cross entropy of logits with class positions (int64) or with probabilities of all classes (the input's shape)."""
    if not 0.0 <= label_smoothing <= 1.0:
        raise ShapeMismatchError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    if target.shape == x.shape:
        if not target.dtype.is_floating_point:
            raise DTypeError("Expected floating point type for target with class probabilities, got "
                             f"{SCALAR_TYPE_NAMES[target.dtype.name]}")
        if ignore_index >= 0:
            raise ShapeMismatchError("ignore_index is not supported for floating point target")
        return soft_cross_entropy_expr(x, target, weight, reduction, label_smoothing)
    attr = Classes(int(ignore_index), reduction, weight is not None, float(label_smoothing))
    return emit(CROSS_ENTROPY, (x, target) if weight is None else (x, target, weight), attr)


def soft_cross_entropy_expr(x: Expr, target: Expr, weight: Expr | None, reduction: str, label_smoothing: float) -> Expr:
    """Cross entropy with a probability for every class."""
    check_reduction(reduction)
    axis = class_axis(x)
    classes = x.shape[axis]
    if label_smoothing:
        target = add(mul(target, 1 - label_smoothing), label_smoothing / classes)
    product = mul(log_softmax(x, axis), target)
    if weight is not None:
        product = mul(product, reshape(weight, (classes, *(1,) * (len(x.shape) - axis - 1))))
    loss = neg(reduce_sum(product, (axis,)))
    if reduction == "mean":
        return div(reduced(loss, "sum"), full((), max(float(np.prod(loss.shape)), 1.0), loss.dtype))
    return reduced(loss, reduction)
