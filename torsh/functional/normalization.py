"""Normalisations. Statistics of half-precision inputs are computed in float32."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from torsh.core.errors import InvalidArgumentError, ShapeMismatchError
from torsh.graph.handle import expr_of, write
from torsh.graph.window import scalar_expr
from torsh.ops import normalization as rows
from torsh.ops.expr import Expr, no_grad_recording
from torsh.tensor.function import check_writable, recorded, recorded_expr, tensor_operand
from torsh.tensor.reduction import axes_of
from torsh.tensor.tensor import Tensor


def _layer_norm(input: Expr, weight: Expr | None, bias: Expr | None, sizes: tuple[int, ...], eps: float) -> Expr:
    _check_sizes(sizes)
    return rows.layer_norm_expr(input, sizes, weight, bias, eps)


def _check_sizes(sizes: tuple[int, ...]) -> None:
    if not sizes:
        raise ShapeMismatchError("Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one element, "
                                 "but got normalized_shape = []")


def layer_norm(input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
               eps: float = 1e-5) -> Tensor:
    """Standardise over the last dimensions (of sizes ``normalized_shape``), then scale and shift."""
    return recorded(_layer_norm, (input, weight, bias), (tuple(normalized_shape), eps))  # type: ignore[no-any-return]


def _rms_norm(input: Expr, weight: Expr | None, sizes: tuple[int, ...], eps: float | None) -> Expr:
    _check_sizes(sizes)
    return rows.rms_norm_expr(input, sizes, weight, eps)


def rms_norm(input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """Divide by the root of the mean square over the last dimensions, then scale; eps: the dtype's by default."""
    return recorded(_rms_norm, (input, weight), (tuple(normalized_shape), eps))  # type: ignore[no-any-return]


def _check_batch(shape: Sequence[int]) -> None:
    if shape[0] * prod(shape[2:]) == 1:
        raise InvalidArgumentError(f"Expected more than 1 value per channel when training, got input size torsh.Size({list(shape)})")


def _batch_norm(input: Expr, weight: Expr | None, bias: Expr | None, eps: float) -> Expr:
    return rows.batch_norm_expr(input, weight, bias, eps)


def _batch_norm_inference(input: Expr, running_mean: Expr | None, running_var: Expr | None, weight: Expr | None,
                          bias: Expr | None, eps: float) -> Expr:
    for name, given in (("running_mean", running_mean), ("running_var", running_var)):
        if given is None:
            raise ShapeMismatchError(f"{name} must be defined in evaluation mode")
    return rows.batch_norm_inference_expr(input, running_mean, running_var, weight, bias, eps)  # type: ignore[arg-type]


def batch_norm(input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
               bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5) -> Tensor:
    """Standardise every channel (dimension 1) over the other dimensions.

    In training by the batch's statistics, towards which the running statistics are moved; else by the running statistics.
    """
    if not training:
        return recorded(_batch_norm_inference, (input, running_mean, running_var, weight, bias), (eps,))  # type: ignore[no-any-return]
    shape = tensor_operand(input, "batch_norm").shape
    if len(shape) < 2:
        raise ShapeMismatchError(f"Expected 2D or more input to batch_norm, got {len(shape)}D")
    _check_batch(shape)
    if eps <= 0:
        raise InvalidArgumentError(f"batch_norm eps must be positive during training, but got {eps}")
    out = recorded(_batch_norm, (input, weight, bias), (eps,))
    _move(input, running_mean, rows.moved_mean, running_var, rows.moved_variance, momentum)
    return out  # type: ignore[no-any-return]


def _move(input: Tensor, running_mean: Tensor | None, mean: Callable[..., Expr], running_var: Tensor | None,
          variance: Callable[..., Expr], momentum: float) -> None:
    """Assign the moved running statistics."""
    if running_mean is None and running_var is None or not input.numel():
        return
    share = scalar_expr(float(momentum))
    with no_grad_recording():
        x = expr_of(input)
        for running, build in ((running_mean, mean), (running_var, variance)):
            if running is not None:
                check_writable(running)
                write(running, recorded_expr(build, (x, expr_of(running), share)))


def _instance_norm(input: Expr, weight: Expr | None, bias: Expr | None, eps: float) -> Expr:
    if prod(input.shape[2:]) == 1:
        raise InvalidArgumentError("Expected more than 1 spatial element when training, got input size "
                                   f"torsh.Size({list(input.shape)})")
    return rows.instance_norm_expr(input, weight, bias, eps)


def instance_norm(input: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None,
                  weight: Tensor | None = None, bias: Tensor | None = None, use_input_stats: bool = True,
                  momentum: float = 0.1, eps: float = 1e-5) -> Tensor:
    """Standardise every channel of every sample, by its own statistics or (not use_input_stats) by the running ones."""
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise ShapeMismatchError("Expected running_mean and running_var to be defined when use_input_stats is false")
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    out = recorded(_instance_norm, (input, weight, bias), (eps,))
    _move(input, running_mean, rows.moved_mean, running_var, rows.moved_instance_variance, momentum)
    return out  # type: ignore[no-any-return]


def _group_norm(input: Expr, weight: Expr | None, bias: Expr | None, groups: int, eps: float) -> Expr:
    shape = input.shape
    if len(shape) < 2:
        raise ShapeMismatchError(f"Expected at least 2 dimensions for input tensor but received {len(shape)}")
    if groups <= 0:
        raise ShapeMismatchError(f"Expected num groups to be greater than 0, got {groups}")
    _check_batch((shape[0] * shape[1] // groups, groups, *shape[2:]))
    return rows.group_norm_expr(input, groups, weight, bias, eps)


def group_norm(input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
               eps: float = 1e-5) -> Tensor:
    """Standardise groups of channels of every sample."""
    return recorded(_group_norm, (input, weight, bias), (num_groups, eps))  # type: ignore[no-any-return]


def normalize(input: Tensor, p: float = 2.0, dim: int | tuple[int, ...] = 1, eps: float = 1e-12,
              out: Tensor | None = None) -> Tensor:
    """Divide by the p-norm along a dimension (at least ``eps``)."""
    axes = axes_of(dim, len(tensor_operand(input, "normalize").shape))
    result = recorded(rows.normalize_expr, (input,), (float(p), axes, eps))
    return result if out is None else out.copy_(result)  # type: ignore[no-any-return]


def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Divide by a power of the mean square over neighbouring channels."""
    return recorded(rows.local_response_norm_expr, (input,), (size, alpha, beta, k))  # type: ignore[no-any-return]
