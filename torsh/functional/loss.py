"""Loss functions. ``reduction`` is ``"mean"``, ``"sum"`` or ``"none"``; ``size_average`` and ``reduce`` are its old spelling."""
from __future__ import annotations

import warnings
from typing import Any

from torsh.core.dtype import int64, uint8
from torsh.core.errors import InvalidArgumentError
from torsh.functional.common import T, legacy_reduction
from torsh.ops import loss as classes
from torsh.ops import loss_elementwise as losses
from torsh.ops.common import cast
from torsh.ops.connectionist import ctc_loss_expr
from torsh.ops.expr import Expr
from torsh.tensor.function import recorded, tensor_operand
from torsh.tensor.tensor import Tensor


def warn_sizes(input: Tensor, target: Tensor, name: str) -> None:
    """PyTorch's warning for losses whose arguments broadcast."""
    a, b = tensor_operand(input, name), tensor_operand(target, name, 2, "target")
    if a.shape != b.shape:
        warnings.warn(f"Using a target size ({target.shape}) that is different to the input size ({input.shape}). This will likely "
                      "lead to incorrect results due to broadcasting. Please ensure they have the same size.", UserWarning,
                      stacklevel=3)


# ---- differences -------------------------------------------------------------------------------------------------------

def mse_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
             reduction: str = "mean", weight: Tensor | None = None) -> Tensor:
    """Squared differences; weight: of the input's size, the mean divides by its sum."""
    warn_sizes(input, target, "mse_loss")
    reduction = legacy_reduction(size_average, reduce, reduction)
    return recorded(losses.mse_loss_expr, (input, target, weight), (reduction,))  # type: ignore[no-any-return]


def l1_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
            reduction: str = "mean", weight: Tensor | None = None) -> Tensor:
    """Absolute differences; weight: of the input's size, the mean divides by its sum."""
    warn_sizes(input, target, "l1_loss")
    reduction = legacy_reduction(size_average, reduce, reduction)
    return recorded(losses.l1_loss_expr, (input, target, weight), (reduction,))  # type: ignore[no-any-return]


def smooth_l1_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
                   reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """Squared for differences below ``beta``, absolute above."""
    warn_sizes(input, target, "smooth_l1_loss")
    reduction = legacy_reduction(size_average, reduce, reduction)
    return recorded(losses.smooth_l1_loss_expr, (input, target), (reduction, beta))  # type: ignore[no-any-return]


def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0,
               weight: Tensor | None = None) -> Tensor:
    """Half the square for differences below ``delta``, ``delta`` times the absolute difference (shifted) above."""
    warn_sizes(input, target, "huber_loss")
    return recorded(losses.huber_loss_expr, (input, target, weight), (reduction, delta))  # type: ignore[no-any-return]


# ---- classes -----------------------------------------------------------------------------------------------------------

def _positions(target: Expr) -> Expr:
    """Class numbers as int64; PyTorch takes uint8 too."""
    return cast(target, int64) if target.dtype is uint8 else target


def _nll_loss(input: Expr, target: Expr, weight: Expr | None, ignore_index: int, reduction: str) -> Expr:
    return classes.nll_loss_expr(input, _positions(target), weight, ignore_index, reduction)


def nll_loss(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
             ignore_index: int = -100, reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """Minus the log-probability of the target class: input (N, C, ...) or (C,), target (N, ...) or () of int64."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    return recorded(_nll_loss, (input, target, weight), (ignore_index, reduction))  # type: ignore[no-any-return]


def _cross_entropy(input: Expr, target: Expr, weight: Expr | None, ignore_index: int, reduction: str,
                   label_smoothing: float) -> Expr:
    return classes.cross_entropy_expr(input, _positions(target), weight, ignore_index, reduction, label_smoothing)


def cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
                  ignore_index: int = -100, reduce: bool | None = None, reduction: str = "mean",
                  label_smoothing: float = 0.0) -> Tensor:
    """Cross entropy of logits (N, C, ...) with class numbers (N, ...), or with class probabilities of the input's shape.

    Example::

        >>> import torsh
        >>> torsh.nn.functional.cross_entropy(torsh.zeros(2, 4), torsh.tensor([0, 3]))
        tensor(1.3863)
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    return recorded(_cross_entropy, (input, target, weight),  # type: ignore[no-any-return]
                    (ignore_index, reduction, label_smoothing))


def binary_cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
                         reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """Cross entropy of probabilities with targets in [0, 1]; logarithms are limited to -100."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    return recorded(losses.binary_cross_entropy_expr, (input, target, weight), (reduction,))  # type: ignore[no-any-return]


def binary_cross_entropy_with_logits(input: Tensor, target: Tensor, weight: Tensor | None = None,
                                     size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
                                     pos_weight: Tensor | None = None) -> Tensor:
    """binary_cross_entropy of ``sigmoid(input)``, computed without overflow; pos_weight: weight of the positive part."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    return recorded(losses.binary_cross_entropy_with_logits_expr,  # type: ignore[no-any-return]
                    (input, target, weight, pos_weight), (reduction,))


def multi_margin_loss(input: Tensor, target: Tensor, p: int = 1, margin: float = 1.0, weight: Tensor | None = None,
                      size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """Margins of the target class over all others, to the power ``p``, averaged over classes."""
    if p not in (1, 2):
        raise InvalidArgumentError("only p == 1 and p == 2 supported")
    if weight is not None and weight.ndim != 1:
        raise InvalidArgumentError("weight must be one-dimensional")
    reduction = legacy_reduction(size_average, reduce, reduction)
    return recorded(losses.multi_margin_loss_expr, (input, target, weight), (p, margin, reduction))  # type: ignore[no-any-return]


def multilabel_margin_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
                           reduction: str = "mean") -> Tensor:
    """Margins of all target classes of a row over all others; targets (of int64) end at the first -1."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    return recorded(losses.multilabel_margin_loss_expr, (input, target), (reduction,))  # type: ignore[no-any-return]


def multilabel_soft_margin_loss(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
                                reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """Mean over classes of binary cross entropies of logits."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    return recorded(losses.multilabel_soft_margin_loss_expr, (input, target, weight), (reduction,))  # type: ignore[no-any-return]


def soft_margin_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
                     reduction: str = "mean") -> Tensor:
    """``log(1 + exp(-target * x))``."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    return recorded(losses.soft_margin_loss_expr, (input, target), (reduction,))  # type: ignore[no-any-return]


# ---- distributions -----------------------------------------------------------------------------------------------------

def kl_div(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
           reduction: str = "mean", log_target: bool = False) -> Tensor:
    """Kullback-Leibler divergence of log-probabilities ``input`` from ``target``; also reduction ``"batchmean"``."""
    if size_average is None and reduce is None and reduction == "mean":
        warnings.warn("reduction: 'mean' divides the total loss by both the batch size and the support size. 'batchmean' divides "
                      "only by the batch size, which is the divergence's definition.", UserWarning, stacklevel=2)
    reduction = legacy_reduction(size_average, reduce, reduction)
    return recorded(losses.kl_div_expr, (input, target), (reduction, bool(log_target)))  # type: ignore[no-any-return]


def poisson_nll_loss(input: Tensor, target: Tensor, log_input: bool = True, full: bool = False,
                     size_average: bool | None = None, eps: float = 1e-8, reduce: bool | None = None,
                     reduction: str = "mean") -> Tensor:
    """Negative log likelihood of the Poisson distribution."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    return recorded(losses.poisson_nll_loss_expr, (input, target),  # type: ignore[no-any-return]
                    (bool(log_input), bool(full), eps, reduction))


def gaussian_nll_loss(input: Tensor, target: Tensor, var: Any, full: bool = False, eps: float = 1e-6,
                      reduction: str = "mean") -> Tensor:
    """Negative log likelihood of normal distributions with the given variances (at least ``eps``)."""
    if isinstance(var, float):
        if var < 0:
            raise InvalidArgumentError("var has negative entry/entries")
        var = T["full_like"](input, var)
    elif bool((var.detach() < 0).any()):
        raise InvalidArgumentError("var has negative entry/entries")
    wanted, have = input._expr.shape, var._expr.shape
    if have != wanted:
        if wanted[:-1] == have:
            var = var.unsqueeze(-1)
        elif len(wanted) != len(have) or [m for n, m in zip(wanted, have, strict=True) if n != m] != [1]:
            raise InvalidArgumentError("var is of incorrect size")
    return recorded(losses.gaussian_nll_loss_expr, (input, target, var), (bool(full), eps, reduction))  # type: ignore[no-any-return]


def _lengths(lengths: Any) -> Any:
    return lengths if isinstance(lengths, Tensor) else T["tensor"](list(lengths), dtype=int64)


def ctc_loss(log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any, blank: int = 0,
             reduction: str = "mean", zero_infinity: bool = False) -> Tensor:
    """Connectionist temporal classification.

    log_probs (T, N, C) or (T, C); targets (N, S), (S,) or all targets one after the other; lengths: tensors or sequences.
    The mean is over sequences, each divided by its target's length.
    """
    classes.check_reduction(reduction)
    lengths: Any = (_lengths(input_lengths), _lengths(target_lengths))
    single = log_probs.ndim == 2
    if single:
        log_probs, targets = log_probs.unsqueeze(1), targets.unsqueeze(0)
        lengths = tuple([t.reshape(1) for t in lengths])
    elif targets.ndim == 1:                     # one after the other: cut and padded
        parts = targets.split(lengths[1].tolist())
        width = max([p.shape[0] for p in parts], default=0)
        targets = T["stack"]([T["constant_pad_nd"](p, (0, width - p.shape[0]), 0) for p in parts])
    loss = recorded(ctc_loss_expr, (log_probs, targets, *lengths), (blank, bool(zero_infinity)))
    if reduction == "mean":
        return (loss / lengths[1].to(loss.dtype).clamp(min=1)).mean()  # type: ignore[no-any-return]
    if reduction == "sum":
        return loss.sum()  # type: ignore[no-any-return]
    return loss.squeeze(0) if single else loss  # type: ignore[no-any-return]


# ---- margins and distances ---------------------------------------------------------------------------------------------

def hinge_embedding_loss(input: Tensor, target: Tensor, margin: float = 1.0, size_average: bool | None = None,
                         reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """``x`` for targets 1, ``max(0, margin - x)`` for targets -1."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    return recorded(losses.hinge_embedding_loss_expr, (input, target), (margin, reduction))  # type: ignore[no-any-return]


def margin_ranking_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0, size_average: bool | None = None,
                        reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """``max(0, -target * (x1 - x2) + margin)``."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    return recorded(losses.margin_ranking_loss_expr, (input1, input2, target), (margin, reduction))  # type: ignore[no-any-return]


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Cosines of the angles between vectors along a dimension."""
    return recorded(losses.cosine_similarity_expr, (x1, x2), (dim, eps))  # type: ignore[no-any-return]


def cosine_embedding_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0, size_average: bool | None = None,
                          reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """``1 - cos`` for targets 1, ``max(0, cos - margin)`` for targets -1."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    return recorded(losses.cosine_embedding_loss_expr, (input1, input2, target), (margin, reduction))  # type: ignore[no-any-return]


def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """p-norms of the differences of vectors in the last dimension."""
    return recorded(losses.pairwise_distance_expr, (x1, x2), (p, eps, bool(keepdim)))  # type: ignore[no-any-return]


def pdist(input: Tensor, p: float = 2) -> Tensor:
    """p-norm distances between all pairs of rows of a matrix."""
    return T["pdist"](input, p)  # type: ignore[no-any-return]


def triplet_margin_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0, p: float = 2,
                        eps: float = 1e-6, swap: bool = False, size_average: bool | None = None, reduce: bool | None = None,
                        reduction: str = "mean") -> Tensor:
    """``max(0, d(anchor, positive) - d(anchor, negative) + margin)``."""
    if margin <= 0:
        raise InvalidArgumentError(f"margin must be greater than 0, got {margin}")
    reduction = legacy_reduction(size_average, reduce, reduction)
    return recorded(losses.triplet_margin_loss_expr, (anchor, positive, negative),  # type: ignore[no-any-return]
                    (margin, p, eps, bool(swap), reduction))


def triplet_margin_with_distance_loss(anchor: Tensor, positive: Tensor, negative: Tensor, *, distance_function: Any = None,
                                      margin: float = 1.0, swap: bool = False, reduction: str = "mean") -> Tensor:
    """triplet_margin_loss with any distance (a function of two tensors)."""
    if margin <= 0:
        raise InvalidArgumentError(f"margin must be greater than 0, got {margin}")
    losses.check_triplet(anchor._expr, positive._expr, negative._expr)
    distance = pairwise_distance if distance_function is None else distance_function
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = T["minimum"](far, distance(positive, negative))
    return recorded(losses.margin_of_distances, (near, far), (margin, reduction))  # type: ignore[no-any-return]
