"""Loss functions. ``reduction`` is ``"mean"``, ``"sum"`` or ``"none"``."""
from __future__ import annotations

import math
from typing import Any

from torsh.core.errors import DTypeError, IndexOutOfRangeError, InvalidArgumentError, ShapeMismatchError
from torsh.functional.activation import log_softmax, logsigmoid
from torsh.functional.common import T, legacy_reduction, reduced
from torsh.tensor.tensor import Tensor


def warn_sizes(input: Tensor, target: Tensor) -> None:
    """PyTorch's warning for losses whose arguments broadcast."""
    if tuple(input.shape) != tuple(target.shape):
        import warnings
        warnings.warn(f"Using a target size ({target.shape}) that is different to the input size ({input.shape}). This will likely "
                      "lead to incorrect results due to broadcasting. Please ensure they have the same size.", UserWarning,
                      stacklevel=3)


def weighted(loss: Any, weight: Tensor | None, reduction: str) -> Tensor:
    """A loss with weights per element; the mean divides by the sum of weights."""
    if weight is None:
        return reduced(loss, reduction)
    loss = loss * weight
    if reduction == "mean":
        return loss.sum() / weight.expand(loss.shape).sum()  # type: ignore[attr-defined, no-any-return]
    return reduced(loss, reduction)


def mse_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
             reduction: str = "mean", weight: Tensor | None = None) -> Tensor:
    """Squared differences."""
    warn_sizes(input, target)
    d: Any = input - target  # type: ignore[operator]
    return weighted(d * d, weight, legacy_reduction(size_average, reduce, reduction))


def l1_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
            reduction: str = "mean", weight: Tensor | None = None) -> Tensor:
    """Absolute differences."""
    warn_sizes(input, target)
    d: Any = input - target  # type: ignore[operator]
    return weighted(d.abs(), weight, legacy_reduction(size_average, reduce, reduction))


def smooth_l1_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
                   reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """Squared for differences below ``beta``, absolute above."""
    warn_sizes(input, target)
    if beta < 0:
        raise ShapeMismatchError("smooth_l1_loss does not support negative values for beta.")
    reduction = legacy_reduction(size_average, reduce, reduction)
    if beta == 0:
        return l1_loss(input, target, reduction=reduction)
    d: Any = (input - target).abs()  # type: ignore[operator]
    return reduced(T["where"](d < beta, d * d * (0.5 / beta), d - 0.5 * beta), reduction)


def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0,
               weight: Tensor | None = None) -> Tensor:
    """Half the square for differences below ``delta``, linear above."""
    warn_sizes(input, target)
    if delta <= 0:
        raise ShapeMismatchError("huber_loss does not support non-positive values for delta.")
    d: Any = (input - target).abs()  # type: ignore[operator]
    return weighted(T["where"](d <= delta, d * d * 0.5, (d - 0.5 * delta) * delta), weight, reduction)


def nll_loss(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
             ignore_index: int = -100, reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """Negative log likelihoods of the target classes: input (N, C, ...) or (C), target (N, ...) of class numbers."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    x, t, w = checked_classes(input, target, weight)
    n_classes = x.shape[1]
    keep = t != ignore_index
    safe = T["where"](keep, t, 0)
    picked = -x.gather(1, safe.unsqueeze(1)).squeeze(1)
    scale = w.index_select(0, safe.reshape(-1)).reshape(safe.shape) if w is not None else None
    factor = keep.to(x.dtype) if scale is None else scale * keep.to(x.dtype)
    loss = T["where"](keep, picked, 0.0) if scale is None else T["where"](keep, picked * scale, 0.0)
    if reduction == "mean":
        out = loss.sum() / factor.sum()
    else:
        out = reduced(loss, reduction)
    assert n_classes >= 0
    return out.squeeze(0) if reduction == "none" and input.ndim == 1 else out  # type: ignore[no-any-return]


def checked_classes(input: Any, target: Any, weight: Tensor | None) -> tuple[Any, Any, Any]:
    """Shapes and dtypes of a classification loss; unbatched arguments get a batch dimension."""
    if not input.ndim:
        raise ShapeMismatchError(f"Expected 1 or more dimensions (got {input.ndim})")
    if input.ndim == 1:
        if target.ndim > 1 or (target.ndim == 1 and target.shape[0] != 1):
            raise ShapeMismatchError(f"size mismatch (got input: {list(input.shape)}, target: {list(target.shape)})")
        input, target = input.unsqueeze(0), target.reshape(1)
    if input.shape[0] != target.shape[0]:
        raise InvalidArgumentError(f"Expected input batch_size ({input.shape[0]}) to match target batch_size ({target.shape[0]}).")
    if tuple(target.shape[1:]) != tuple(input.shape[2:]):
        raise ShapeMismatchError(f"Expected target size {[input.shape[0], *input.shape[2:]]}, got {list(target.shape)}")
    if target.dtype.category != 1:
        raise DTypeError(f"expected scalar type Long but found {target.dtype.name}")
    if weight is not None and tuple(weight.shape) != (input.shape[1],):
        raise ShapeMismatchError(f"weight tensor should be defined either for all {input.shape[1]} classes or no classes but got "
                                 f"weight tensor of shape: {list(weight.shape)}")
    return input, target if target.dtype.name == "int64" else target.long(), weight


def cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
                  ignore_index: int = -100, reduce: bool | None = None, reduction: str = "mean",
                  label_smoothing: float = 0.0) -> Tensor:
    """Cross entropy of logits with class numbers (or with class probabilities of the input's shape)."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ShapeMismatchError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    axis = 1 if input.ndim > 1 else 0
    log_p: Any = log_softmax(input, axis)
    n_classes = input.shape[axis]
    if tuple(target.shape) == tuple(input.shape) and target.dtype.category == 2:
        return soft_cross_entropy(log_p, target, weight, axis, reduction, label_smoothing, n_classes)
    if label_smoothing == 0:
        return nll_loss(log_p, target, weight, None, ignore_index, None, reduction)
    return smoothed_cross_entropy(log_p, target, weight, ignore_index, reduction, label_smoothing)


def soft_cross_entropy(log_p: Any, target: Any, weight: Any, axis: int, reduction: str, smoothing: float,
                       n_classes: int) -> Tensor:
    """Cross entropy with class probabilities."""
    if smoothing:
        target = target * (1 - smoothing) + smoothing / n_classes
    if weight is not None:
        log_p = log_p * weight.reshape([-1 if i == axis else 1 for i in range(log_p.ndim)])
    loss = -(log_p * target).sum(axis)
    if reduction == "mean":
        return loss.sum() / max(1, math.prod(log_p.shape) // n_classes)  # type: ignore[no-any-return]
    return reduced(loss, reduction)


def smoothed_cross_entropy(log_p: Any, target: Any, weight: Any, ignore_index: int, reduction: str,
                           smoothing: float) -> Tensor:
    """Cross entropy with class numbers and label smoothing."""
    unbatched = log_p.ndim == 1
    x, t, w = checked_classes(log_p, target, weight)
    hard = nll_loss(x, t, w, None, ignore_index, None, reduction)
    keep = t != ignore_index
    even = -(x if w is None else x * w.reshape(1, -1, *([1] * (x.ndim - 2)))).sum(1)
    even = T["where"](keep, even, 0.0)
    if reduction == "mean":
        safe = T["where"](keep, t, 0)
        count = keep.to(x.dtype).sum() if w is None else \
            (w.index_select(0, safe.reshape(-1)).reshape(safe.shape) * keep.to(x.dtype)).sum()
        soft = even.sum() / count
    else:
        soft = reduced(even, reduction)
    out = (1 - smoothing) * hard + soft * (smoothing / x.shape[1])
    return out.squeeze(0) if unbatched and reduction == "none" else out  # type: ignore[no-any-return, attr-defined]


def binary_cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
                         reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """Cross entropy of probabilities with targets in [0, 1]; logarithms are limited to -100."""
    if tuple(input.shape) != tuple(target.shape):
        raise InvalidArgumentError(f"Using a target size ({target.shape}) that is different to the input size ({input.shape}) is "
                                   "deprecated. Please ensure they have the same size.")
    p, t = input, target
    loss: Any = -(t * p.log().clamp(min=-100) + (1 - t) * (1 - p).log().clamp(min=-100))  # type: ignore[attr-defined, operator]
    if weight is not None:
        loss = loss * weight
    return reduced(loss, legacy_reduction(size_average, reduce, reduction))


def binary_cross_entropy_with_logits(input: Tensor, target: Tensor, weight: Tensor | None = None,
                                     size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
                                     pos_weight: Tensor | None = None) -> Tensor:
    """binary_cross_entropy of ``sigmoid(input)``, computed without overflow."""
    if tuple(input.shape) != tuple(target.shape):
        raise InvalidArgumentError(f"Target size ({target.shape}) must be the same as input size ({input.shape})")
    x, t = input, target
    log_p: Any = logsigmoid(x)
    if pos_weight is None:
        loss: Any = (1 - t) * x - log_p  # type: ignore[operator]
    else:
        loss = (1 - t) * x - (1 + (pos_weight - 1) * t) * log_p  # type: ignore[operator]
    if weight is not None:
        loss = loss * weight
    return reduced(loss, legacy_reduction(size_average, reduce, reduction))


def kl_div(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
           reduction: str = "mean", log_target: bool = False) -> Tensor:
    """Kullback-Leibler divergence of log-probabilities ``input`` from ``target``; also reduction ``"batchmean"``."""
    x: Any = input
    t: Any = target
    loss = t.exp() * (t - x) if log_target else T["xlogy"](t, t) - t * x
    if reduction == "batchmean":
        return loss.sum() / input.shape[0] if input.ndim else loss.sum()  # type: ignore[no-any-return]
    return reduced(loss, legacy_reduction(size_average, reduce, reduction))


def poisson_nll_loss(input: Tensor, target: Tensor, log_input: bool = True, full: bool = False,
                     size_average: bool | None = None, eps: float = 1e-8, reduce: bool | None = None,
                     reduction: str = "mean") -> Tensor:
    """Negative log likelihood of the Poisson distribution."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    x: Any = input
    t: Any = target
    loss = x.exp() - t * x if log_input else x - t * (x + eps).log()
    if full:
        stirling = t * t.log() - t + 0.5 * (2 * math.pi * t).log()
        loss = loss + T["where"](t > 1, stirling, 0.0)
    return reduced(loss, reduction)


def gaussian_nll_loss(input: Tensor, target: Tensor, var: Any, full: bool = False, eps: float = 1e-6,
                      reduction: str = "mean") -> Tensor:
    """Negative log likelihood of normal distributions with the given variances (at least ``eps``)."""
    from torsh.autograd.modes import no_grad
    if isinstance(var, (int, float)):
        if var < 0:
            raise InvalidArgumentError("var has negative entry/entries")
        var = T["full_like"](input, float(var))
    elif bool((var.detach() < 0).any()):
        raise InvalidArgumentError("var has negative entry/entries")
    if tuple(var.shape) != tuple(input.shape):
        if tuple(input.shape[:-1]) == tuple(var.shape):
            var = var.unsqueeze(-1)
        elif tuple(input.shape[:-1]) != tuple(var.shape[:-1]) or var.shape[-1] != 1:
            raise InvalidArgumentError("var is of incorrect size")
    with no_grad():
        low = var.detach().clamp(min=eps) - var.detach()
    v = var + low
    d: Any = input - target  # type: ignore[operator]
    loss = 0.5 * (v.log() + d * d / v)
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return reduced(loss, reduction)


def hinge_embedding_loss(input: Tensor, target: Tensor, margin: float = 1.0, size_average: bool | None = None,
                         reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """``x`` for targets 1, ``max(0, margin - x)`` for targets -1."""
    x: Any = input
    t: Any = target
    zero = x.new_zeros(())
    loss = T["where"](t != 1, (margin - x).clamp_min(0), zero) + T["where"](t != -1, x, zero)
    return reduced(loss, legacy_reduction(size_average, reduce, reduction))


def margin_ranking_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0, size_average: bool | None = None,
                        reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """``max(0, -target * (x1 - x2) + margin)``."""
    if not input1.ndim == input2.ndim == target.ndim:
        raise ShapeMismatchError(f"margin_ranking_loss : All input tensors should have same dimension but got sizes: input1: "
                                 f"{list(input1.shape)}, input2: {list(input2.shape)}, target: {list(target.shape)} ")
    loss: Any = (-target * (input1 - input2) + margin).clamp_min(0)  # type: ignore[operator]
    return reduced(loss, legacy_reduction(size_average, reduce, reduction))


def soft_margin_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
                     reduction: str = "mean") -> Tensor:
    """``log(1 + exp(-target * x))``."""
    loss: Any = (-target * input).exp().log1p()  # type: ignore[operator]
    return reduced(loss, legacy_reduction(size_average, reduce, reduction))


def multilabel_soft_margin_loss(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
                                reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """Mean over classes of binary cross entropies of logits."""
    x: Any = input
    t: Any = target
    loss = -(t * logsigmoid(x) + (1 - t) * logsigmoid(-x))
    if weight is not None:
        loss = loss * weight
    return reduced(loss.mean(-1), legacy_reduction(size_average, reduce, reduction))


def multi_margin_loss(input: Tensor, target: Tensor, p: int = 1, margin: float = 1.0, weight: Tensor | None = None,
                      size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """Margins of the target class over all others, to the power ``p``, averaged over classes."""
    if p not in (1, 2):
        raise InvalidArgumentError("only p == 1 and p == 2 supported")
    x: Any = input if input.ndim > 1 else input.reshape(1, -1)  # type: ignore[attr-defined]
    t: Any = target.reshape(-1)  # type: ignore[attr-defined]
    own = x.gather(1, t.unsqueeze(1))
    z = (margin - own + x).clamp_min(0)
    z = z * z if p == 2 else z
    if weight is not None:
        z = z * weight[t].unsqueeze(1)  # type: ignore[index]
    others = (T["arange"](x.shape[1]) != t.unsqueeze(1)).to(x.dtype)
    loss = (z * others).sum(1) / x.shape[1]
    out = reduced(loss, legacy_reduction(size_average, reduce, reduction))
    return out.squeeze(0) if reduction == "none" and input.ndim < 2 else out  # type: ignore[attr-defined, no-any-return]


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Cosines of the angles between vectors along a dimension."""
    a, b = T["broadcast_tensors"](x1, x2)
    norm_a, norm_b = (v.pow(2).sum(dim, True).sqrt().clamp_min(eps) for v in (a, b))
    return ((a / norm_a) * (b / norm_b)).sum(dim)  # type: ignore[no-any-return]


def cosine_embedding_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0, size_average: bool | None = None,
                          reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """``1 - cos`` for targets 1, ``max(0, cos - margin)`` for targets -1."""
    if target.ndim > 1:
        raise ShapeMismatchError("0D or 1D target tensor expected, multi-target not supported")
    if input1.ndim != target.ndim + 1:
        raise ShapeMismatchError(f"{target.ndim}D target tensor expects {target.ndim + 1}D input tensors, but found inputs with "
                                 f"sizes {list(input1.shape)} and {list(input2.shape)}.")
    axis = target.ndim
    a, b = input1, input2
    product = (a * b).sum(axis)  # type: ignore[operator]
    cosine = product / ((a * a).sum(axis) + 1e-12).sqrt() / ((b * b).sum(axis) + 1e-12).sqrt()  # type: ignore[operator]
    zero = cosine.new_zeros(())
    t: Any = target
    loss = T["where"](t == 1, 1 - cosine, zero) + T["where"](t == -1, (cosine - margin).clamp_min(0), zero)
    return reduced(loss, legacy_reduction(size_average, reduce, reduction))


def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """p-norms of the differences of vectors in the last dimension."""
    return (x1 - x2 + eps).norm(p, -1, keepdim)  # type: ignore[operator, attr-defined, no-any-return]


def triplet_margin_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0, p: float = 2,
                        eps: float = 1e-6, swap: bool = False, size_average: bool | None = None, reduce: bool | None = None,
                        reduction: str = "mean") -> Tensor:
    """``max(0, d(anchor, positive) - d(anchor, negative) + margin)``."""
    if margin <= 0:
        raise InvalidArgumentError(f"margin must be greater than 0, got {margin}")
    near, far = pairwise_distance(anchor, positive, p, eps), pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = T["minimum"](far, pairwise_distance(positive, negative, p, eps))
    loss: Any = (near - far + margin).clamp_min(0)  # type: ignore[operator]
    return reduced(loss, legacy_reduction(size_average, reduce, reduction))


def triplet_margin_with_distance_loss(anchor: Tensor, positive: Tensor, negative: Tensor, *, distance_function: Any = None,
                                      margin: float = 1.0, swap: bool = False, reduction: str = "mean") -> Tensor:
    """triplet_margin_loss with any distance."""
    distance = pairwise_distance if distance_function is None else distance_function
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = T["minimum"](far, distance(positive, negative))
    return reduced((near - far + margin).clamp_min(0), reduction)


__all__ = ["IndexOutOfRangeError"]
