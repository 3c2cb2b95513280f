"""Embeddings, one-hot codes and dropout."""
from __future__ import annotations

from typing import Any

from torsh.core.dtype import int64
from torsh.core.errors import InvalidArgumentError, ShapeMismatchError
from torsh.functional.common import T
from torsh.graph.handle import expr_of
from torsh.graph.window import scalar_expr
from torsh.ops.expr import TABLE, emit
from torsh.tensor.function import assign, check_writable
from torsh.tensor.randomness import seeds, uniform_expr
from torsh.tensor.tensor import Tensor


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None, max_norm: float | None = None,
              norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False) -> Tensor:
    """Rows ``input`` of ``weight``; the row ``padding_idx`` gets no gradient, rows above ``max_norm`` are scaled down first."""
    rows = weight.shape[0]
    if padding_idx is not None:
        if not -rows <= padding_idx < rows:
            raise AssertionError("Padding_idx must be within num_embeddings")
        padding_idx %= rows
    if max_norm is not None:
        from torsh.autograd.modes import no_grad
        with no_grad():
            weight.copy_(weight.renorm(norm_type, 0, max_norm))  # type: ignore[attr-defined]
    index: Any = input if input.dtype is int64 else input.long()  # type: ignore[attr-defined]
    return Tensor(emit(TABLE["embedding"], (expr_of(weight), expr_of(index)), (padding_idx, bool(scale_grad_by_freq))))


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """A last dimension with 1 at each class number (int64); the number of classes is taken from the data if -1."""
    if tensor.dtype is not int64:
        raise ShapeMismatchError("one_hot is only applicable to index tensor of type LongTensor.")
    if num_classes == -1:
        if not tensor.numel():
            raise ShapeMismatchError("Can not infer total number of classes from empty tensor.")
        num_classes = int(tensor.max()) + 1  # type: ignore[attr-defined]
    if num_classes < 1:
        raise ShapeMismatchError("num_classes should be positive")
    return Tensor(emit(TABLE["one_hot"], (expr_of(tensor),), num_classes))


def check_probability(p: float) -> None:
    """Dropout probabilities lie in [0, 1]."""
    if not 0.0 <= p <= 1.0:
        raise InvalidArgumentError(f"dropout probability has to be between 0 and 1, but got {p}")


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Elements zeroed with probability ``p``, the others scaled by ``1 / (1 - p)``; the input itself outside of training."""
    check_probability(p)
    if not training or p == 0:
        return input
    out = Tensor(emit(TABLE["dropout"], (expr_of(input), scalar_expr(float(p)), *seeds(None))))
    if inplace:
        check_writable(input)
        return assign(input, out, "dropout_")  # type: ignore[no-any-return]
    return out


def _channels(input: Tensor, p: float, training: bool, inplace: bool) -> Tensor:
    """Whole channels zeroed."""
    check_probability(p)
    if not training or p == 0:
        return input
    shape = (*input.shape[:2], *([1] * (input.ndim - 2)))
    keep = (Tensor(uniform_expr(shape, input.dtype)) >= p).to(input.dtype)  # type: ignore[operator]
    out: Any = input * (keep / (1 - p) if p < 1 else keep)
    if inplace:
        check_writable(input)
        return assign(input, out, "feature_dropout_")  # type: ignore[no-any-return]
    return out  # type: ignore[no-any-return]


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout of whole channels of (N, C, L)."""
    return _channels(input, p, training, inplace) if input.ndim == 3 else \
        _channels(input.unsqueeze(0), p, training, inplace).squeeze(0)  # type: ignore[attr-defined, no-any-return]


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout of whole channels of (N, C, H, W)."""
    return _channels(input, p, training, inplace)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout of whole channels of (N, C, D, H, W)."""
    return _channels(input, p, training, inplace)


def _alpha(input: Any, p: float, shape: Any) -> Any:
    """Dropout that keeps mean and variance of selu activations (Klambauer et al., 2017)."""
    alpha = -1.7580993408473766
    keep = (Tensor(uniform_expr(tuple(shape), input.dtype)) >= p).to(input.dtype)  # type: ignore[operator]
    a = ((alpha * alpha * p + 1) * (1 - p)) ** -0.5 if p < 1 else 0.0
    b = -a * alpha * p
    return (input * keep + alpha * (1 - keep)) * a + b


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Dropout for self-normalising networks."""
    check_probability(p)
    return _alpha(input, p, input.shape) if training and p else input  # type: ignore[no-any-return]


def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """alpha_dropout of whole channels."""
    check_probability(p)
    shape = (*input.shape[:2], *([1] * (input.ndim - 2)))
    return _alpha(input, p, shape) if training and p else input  # type: ignore[no-any-return]


__all__ = ["T"]
