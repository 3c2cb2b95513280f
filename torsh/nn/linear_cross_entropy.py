"""Cross entropy of linearly transformed inputs."""
from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torsh.core.errors import ShapeMismatchError
from torsh.functional.convolution import linear
from torsh.functional.loss import cross_entropy

if TYPE_CHECKING:
    from torsh.nn.modules.linear_cross_entropy_options import LinearCrossEntropyOptions


def _check(input: Any, weight: Any, bias: Any) -> None:
    if input.dim() not in (1, 2):
        raise ShapeMismatchError(f"expected input with dimensionality 1 or 2, got {input.dim()}")
    if weight.dim() < 2:
        raise ShapeMismatchError(f"expected linear_weight with dimensionality at least 2, got {weight.dim()}")
    if input.shape[-1] != weight.shape[-1]:
        raise ShapeMismatchError("expected equal input and linear_weight last dimensions (in_features), got "
                                 f"{input.shape[-1]} and {weight.shape[-1]}, respectively")
    if bias is not None and tuple(bias.shape) != tuple(weight.shape[:-1]):
        raise ShapeMismatchError(f"expected linear_bias shape {tuple(weight.shape[:-1])}, got {tuple(bias.shape)}")
    if weight.dim() > 2 and input.dim() == 1:
        raise ShapeMismatchError(f"K-dimensional loss defined by linear_weight shape {tuple(weight.shape)} requires batched input, "
                                 f"(N, {input.shape[-1]}), got unbatched input with shape {tuple(input.shape)}")


def linear_cross_entropy(input: Any, linear_weight: Any, target: Any, *, linear_bias: Any = None, weight: Any = None,
                         reduction: str = "mean", ignore_index: int | None = None, label_smoothing: float = 0.0,
                         options: LinearCrossEntropyOptions | None = None) -> Any:
    """``cross_entropy(linear(input, linear_weight, linear_bias), target, …)``.

    input (N, F) or (F); linear_weight (C, F), or (C, d1, …, F) for a loss with further dimensions; linear_bias
    (C, d1, …); target: class numbers (N, d1, …) or probabilities (N, C, d1, …); weight (C).
    """
    _check(input, linear_weight, linear_bias)
    shape = (*input.shape[:-1], *linear_weight.shape[:-1])
    if tuple(target.shape) == shape and ignore_index is not None:
        raise ShapeMismatchError("ignore_index cannot be specified when target contains probabilities")
    rows = math.prod(linear_weight.shape[:-1])
    logits: Any = linear(input, linear_weight.reshape(rows, linear_weight.shape[-1]),
                         None if linear_bias is None else linear_bias.reshape(rows))
    dtype = logits.dtype
    if options is not None:
        logits = logits.to(options.accumulated_in(dtype))
        weight = None if weight is None else weight.to(logits.dtype)
    loss: Any = cross_entropy(logits.reshape(shape), target, weight=weight, reduction=reduction,
                              ignore_index=-100 if ignore_index is None else ignore_index, label_smoothing=label_smoothing)
    return loss if options is None else loss.to(dtype)
