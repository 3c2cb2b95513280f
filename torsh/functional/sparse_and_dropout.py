"""Embeddings, one-hot codes and dropout."""
from __future__ import annotations

import warnings
from collections.abc import Callable

from torsh.core.dtype import int32, int64
from torsh.core.errors import DTypeError, InvalidArgumentError, ShapeMismatchError
from torsh.graph.window import scalar_expr
from torsh.ops.bags import embedding_bag_expr
from torsh.ops.common import cast
from torsh.ops.expr import TABLE, Expr, emit
from torsh.ops.indexing import embedding_expr, one_hot_expr
from torsh.ops.random import alpha_dropout_expr, feature_dropout_expr
from torsh.tensor.function import assign, check_writable, function, recorded, tensor_operand
from torsh.tensor.randomness import seeds
from torsh.tensor.tensor import Tensor


def _embedding(weight: Expr, input: Expr, padding_idx: int | None, by_frequency: bool) -> Expr:
    if padding_idx is not None and len(weight.shape) == 2:
        rows = weight.shape[0]
        if not -rows <= padding_idx < rows:
            raise AssertionError("Padding_idx must be within num_embeddings")
        padding_idx %= rows
    return embedding_expr(weight, cast(input, int64) if input.dtype is int32 else input, padding_idx, by_frequency)


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None, max_norm: float | None = None,
              norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False) -> Tensor:
    """Rows ``input`` of ``weight``; the row ``padding_idx`` gets no gradient, rows above ``max_norm`` are scaled down first.

    Gradients are dense, also with ``sparse``.
    """
    if max_norm is not None:
        renormalise(weight, input, max_norm, norm_type)
    return recorded(_embedding, (weight, input), (padding_idx, bool(scale_grad_by_freq)))  # type: ignore[no-any-return]


def renormalise(weight: Tensor, rows: Tensor, max_norm: float, norm_type: float) -> None:
    """Scale down, in place, those of the rows whose norm is above ``max_norm``."""
    from torsh.autograd.modes import no_grad
    with no_grad():
        flat = rows.reshape(-1).long()
        weight.index_copy_(0, flat, weight.index_select(0, flat).renorm(norm_type, 0, max_norm))


def _bag_arguments(input: Tensor, offsets: Tensor | None, include_last_offset: bool) -> Tensor | None:
    """Where bags start, for a vector of positions."""
    if input.ndim not in (1, 2):
        raise InvalidArgumentError(f"input has to be 1D or 2D Tensor, but got Tensor of dimension {input.ndim}")
    if input.ndim == 2:
        if offsets is not None:
            raise InvalidArgumentError("if input is 2D, then offsets has to be None, as input is treated is a mini-batch of fixed "
                                       f"length sequences. However, found offsets of type {type(offsets)}")
        return None
    if offsets is None or offsets.ndim != 1:
        raise InvalidArgumentError(f"offsets has to be a 1D Tensor but got {'None' if offsets is None else f'{offsets.ndim}D'}")
    return offsets[:-1] if include_last_offset else offsets  # type: ignore[no-any-return]


def embedding_bag(input: Tensor, weight: Tensor, offsets: Tensor | None = None, max_norm: float | None = None,
                  norm_type: float = 2, scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False,
                  per_sample_weights: Tensor | None = None, include_last_offset: bool = False,
                  padding_idx: int | None = None) -> Tensor:
    """Rows of ``weight`` reduced in bags: those of each row of input (B, L), or from each of ``offsets`` on of input (n,).

    mode: ``"sum"``, ``"mean"`` or ``"max"``; per_sample_weights: factors of the rows (only with ``"sum"``).
    """
    if per_sample_weights is not None and per_sample_weights.shape != input.shape:
        raise InvalidArgumentError(f"embedding_bag: If per_sample_weights ({list(per_sample_weights.shape)}) is not None, then it must "
                                   f"have the same shape as the input ({list(input.shape)})")
    starts = _bag_arguments(input, offsets, include_last_offset)
    if mode not in ("sum", "mean", "max"):
        raise InvalidArgumentError("mode has to be one of sum, mean or max")
    if mode == "max" and (scale_grad_by_freq or sparse):
        raise InvalidArgumentError("max mode does not support scaling the gradient by the frequency" if scale_grad_by_freq else
                                   "max mode does not support sparse weights")
    if max_norm is not None:
        renormalise(weight, input, max_norm, norm_type)
    if per_sample_weights is not None and mode != "sum":
        raise NotImplementedError("embedding_bag: per_sample_weights is only supported for mode='sum' "
                                  f"(got mode='{mode}').")
    return recorded(_embedding_bag, (weight, input, starts, per_sample_weights),  # type: ignore[no-any-return]
                    (mode, padding_idx, bool(scale_grad_by_freq)))


def _embedding_bag(weight: Expr, input: Expr, starts: Expr | None, each: Expr | None, mode: str, padding_idx: int | None,
                   by_frequency: bool) -> Expr:
    if padding_idx is not None:
        if not -weight.shape[0] <= padding_idx < weight.shape[0]:
            raise ShapeMismatchError("Padding_idx must be within num_embeddings")
        padding_idx %= weight.shape[0]
    places = [None if e is None else cast(e, int64) for e in (input, starts)]
    return embedding_bag_expr(weight, places[0], places[1], each, mode, padding_idx, by_frequency)  # type: ignore[arg-type]


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """A last dimension with 1 at each class number (int64); the number of classes is taken from the data if -1."""
    e = tensor_operand(tensor, "one_hot", 1, "tensor")
    if e.dtype is not int64:
        raise DTypeError("one_hot is only applicable to index tensor of type LongTensor.")
    if not tensor.numel():
        if num_classes <= 0:
            raise ShapeMismatchError("Can not infer total number of classes from empty tensor.")
        return Tensor(one_hot_expr(e, num_classes))
    low, high = int(tensor.min()), int(tensor.max())
    if low < 0:
        raise ShapeMismatchError("Class values must be non-negative.")
    if num_classes == -1:
        num_classes = high + 1
    if num_classes < 1:
        raise ShapeMismatchError("num_classes should be positive")
    if high >= num_classes:
        raise ShapeMismatchError("Class values must be smaller than num_classes.")
    return Tensor(one_hot_expr(tensor_operand(tensor, "one_hot"), num_classes))


def check_probability(p: float) -> None:
    """Dropout probabilities lie in [0, 1]."""
    if not 0.0 <= p <= 1.0:
        raise InvalidArgumentError(f"dropout probability has to be between 0 and 1, but got {p}")


def dropped(input: Tensor, e: Expr, inplace: bool, name: str) -> Tensor:
    """The result, or the input overwritten with it."""
    if inplace:
        check_writable(input)
        return assign(input, Tensor(e), name + "_")  # type: ignore[no-any-return]
    return Tensor(e)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Elements zeroed with probability ``p``, the others scaled by ``1 / (1 - p)``; the input itself outside of training."""
    check_probability(p)
    if not training or p == 0:
        return input
    e = emit(TABLE["dropout"], (tensor_operand(input, "dropout"), scalar_expr(float(p)), *seeds(None)))
    return dropped(input, e, True, "dropout") if inplace else Tensor(e)


def _channels(input: Tensor, p: float, training: bool, inplace: bool, batched: bool = True) -> Tensor:
    """Whole channels zeroed; without a batch dimension, channels are the first dimension."""
    check_probability(p)
    if not training or p == 0:
        return input
    e = tensor_operand(input, "feature_dropout")
    return dropped(input, feature_dropout_expr(e, scalar_expr(float(p)), *seeds(None), batched), inplace, "feature_dropout")


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout of whole channels of (N, C, L) or (C, L)."""
    check_probability(p)
    if input.ndim not in (2, 3):
        raise ShapeMismatchError(f"dropout1d: Expected 2D or 3D input, but received a {input.ndim}D input. Note that dropout1d "
                                 "exists to provide channel-wise dropout on inputs with 1 spatial dimension, a channel dimension, "
                                 "and an optional batch dimension (i.e. 2D or 3D inputs).")
    return _channels(input, p, training, inplace, input.ndim == 3)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout of whole channels of (N, C, H, W); (N, C, L) is taken as such, too."""
    check_probability(p)
    if input.ndim not in (3, 4):
        _warn_rank("dropout2d", input.ndim, 2, "3D or 4D")
    if input.ndim == 3:
        warnings.warn("dropout2d: Received a 3D input and reads it as (N, C, L), dropping whole channels. Use dropout1d for such "
                      "inputs.", UserWarning, stacklevel=2)
    return _channels(input, p, training, inplace)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout of whole channels of (N, C, D, H, W) or (C, D, H, W)."""
    check_probability(p)
    if input.ndim not in (4, 5):
        _warn_rank("dropout3d", input.ndim, 3, "4D or 5D")
    return _channels(input, p, training, inplace, input.ndim == 5)


def _warn_rank(name: str, rank: int, spatial: int, expected: str) -> None:
    warnings.warn(f"{name}: Received a {rank}-D input, which is deprecated and will result in an error in a future release: it "
                  f"drops channels of inputs with {spatial} spatial dimensions ({expected}). Use dropout for others.", UserWarning,
                  stacklevel=3)


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Dropout for self-normalising networks: keeps mean and variance of selu activations (Klambauer et al., 2017)."""
    check_probability(p)
    if not training or p == 0:
        return input
    e = tensor_operand(input, "alpha_dropout")
    return dropped(input, alpha_dropout_expr(e, float(p), *seeds(None), e.shape), inplace, "alpha_dropout")


def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """alpha_dropout of whole channels (dimension 1)."""
    check_probability(p)
    if not training or p == 0:
        return input
    e = tensor_operand(input, "feature_alpha_dropout")
    if len(e.shape) < 2:
        raise ShapeMismatchError("Feature dropout requires at least 2 dimensions in the input")
    shape = (*e.shape[:2], *[1] * (len(e.shape) - 2))
    return dropped(input, alpha_dropout_expr(e, float(p), *seeds(None), shape), inplace, "feature_alpha_dropout")


@function("feature_dropout", method=False, out=False)
def feature_dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """Dropout of whole channels (dimension 1)."""
    return _channels(input, p, train, False)


def _in_place(name: str, fn: Callable[..., Tensor]) -> None:
    def changed(input: Tensor, p: float, train: bool) -> Tensor:
        return fn(input, p, train, True)
    changed.__name__ = name
    changed.__doc__ = f"In-place form of ``{name[:-1]}``."
    function(name, method=False, out=False)(changed)


for _name, _fn in (("dropout_", dropout), ("alpha_dropout_", alpha_dropout), ("feature_alpha_dropout_", feature_alpha_dropout),
                   ("feature_dropout_", _channels)):
    _in_place(_name, _fn)
