"""Normalisations. Statistics of half-precision inputs are computed in float32."""
from __future__ import annotations

import math
from typing import Any

from torsh.core.dtype import float32
from torsh.core.errors import InvalidArgumentError, ShapeMismatchError
from torsh.functional.common import T
from torsh.graph.handle import expr_of
from torsh.ops.expr import recording
from torsh.tensor.tensor import Tensor


def standardised(x: Any, axes: tuple[int, ...], eps: float) -> Any:
    """``x`` with mean 0 and variance 1 over some axes."""
    mean = x.mean(axes, True)
    centred = x - mean
    return centred * ((centred * centred).mean(axes, True) + eps).rsqrt()


def widened(x: Any) -> Any:
    """Half-precision inputs in float32."""
    return x.to(float32) if x.dtype.itemsize == 2 else x


def layer_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None,
               eps: float = 1e-5) -> Tensor:
    """Standardise over the last dimensions, then scale and shift."""
    shape = tuple(normalized_shape)
    axes = last_axes(input, shape, "layer_norm", weight, bias)
    out: Any = standardised(widened(input), axes, eps)
    if weight is not None:
        out = out * weight
    if bias is not None:
        out = out + bias
    return out.to(input.dtype)  # type: ignore[no-any-return]


def last_axes(input: Tensor, shape: tuple[int, ...], name: str, *parameters: Tensor | None) -> tuple[int, ...]:
    """The axes of the last dimensions, which have to be ``shape``."""
    n = len(shape)
    if n == 0:
        raise ShapeMismatchError(f"Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one element, "
                                 f"but got normalized_shape = {list(shape)}")
    if tuple(input.shape[-n:]) != shape or input.ndim < n:
        raise ShapeMismatchError(f"Given normalized_shape={list(shape)}, expected input with shape [*, "
                                 f"{', '.join(map(str, shape))}], but got input of size{list(input.shape)}")
    for p in parameters:
        if p is not None and tuple(p.shape) != shape:
            raise ShapeMismatchError(f"Expected weight to be of same shape as normalized_shape, but got weight of shape "
                                     f"{list(p.shape)} and normalized_shape = {list(shape)}")
    return tuple(range(input.ndim - n, input.ndim))


def rms_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """Divide by the root of the mean square over the last dimensions, then scale."""
    axes = last_axes(input, tuple(normalized_shape), "rms_norm", weight)
    x: Any = widened(input)
    if eps is None:
        from torsh.core.limits import finfo
        eps = finfo(x.dtype).eps
    out = x * ((x * x).mean(axes, True) + eps).rsqrt()
    if weight is not None:
        out = out * weight
    return out.to(input.dtype)  # type: ignore[no-any-return]


def batch_norm(input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
               bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5) -> Tensor:
    """Standardise every channel (dimension 1) over the other dimensions; in training the running statistics are updated."""
    if input.ndim < 2:
        raise ShapeMismatchError(f"Expected 2D or more input to batch_norm, got {input.ndim}D")
    axes = (0, *range(2, input.ndim))
    wide = (1, -1, *([1] * (input.ndim - 2)))
    x: Any = widened(input)
    if training or running_mean is None or running_var is None:
        count = math.prod(input.shape[a] for a in axes)
        if training and count == 1:
            raise InvalidArgumentError(f"Expected more than 1 value per channel when training, got input size {input.shape}")
        mean = x.mean(axes, True)
        centred = x - mean
        var = (centred * centred).mean(axes, True)
        if training:
            update_statistics(running_mean, mean, running_var, var, momentum, count)
        out = centred * (var + eps).rsqrt()
    else:
        out = (x - running_mean.reshape(wide)) * (running_var.reshape(wide) + eps).rsqrt()  # type: ignore[attr-defined]
    if weight is not None:
        out = out * weight.reshape(wide)  # type: ignore[attr-defined]
    if bias is not None:
        out = out + bias.reshape(wide)  # type: ignore[attr-defined]
    return out.to(input.dtype)  # type: ignore[no-any-return]


def update_statistics(running_mean: Any, mean: Any, running_var: Any, var: Any, momentum: float, count: int) -> None:
    """Move the running mean and (unbiased) variance towards the batch's."""
    from torsh.autograd.modes import no_grad
    with no_grad():
        for running, value, factor in ((running_mean, mean, 1.0), (running_var, var, count / max(count - 1, 1))):
            if running is not None:
                fresh = value.detach().reshape(-1) * (momentum * factor)
                running.mul_(1 - momentum).add_(fresh.to(running.dtype))


def instance_norm(input: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None,
                  weight: Tensor | None = None, bias: Tensor | None = None, use_input_stats: bool = True,
                  momentum: float = 0.1, eps: float = 1e-5) -> Tensor:
    """Standardise every channel of every sample."""
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    if input.ndim < 3:
        raise ShapeMismatchError(f"Expected 3D or more input to instance_norm, got {input.ndim}D")
    axes = tuple(range(2, input.ndim))
    count = math.prod(input.shape[2:])
    if count == 1:
        raise InvalidArgumentError(f"Expected more than 1 spatial element when training, got input size {input.shape}")
    x: Any = widened(input)
    if running_mean is not None or running_var is not None:
        mean = x.mean(axes)
        var = x.var(axes, correction=0)
        update_statistics(running_mean, mean.mean(0), running_var, var.mean(0), momentum, count)
    out = standardised(x, axes, eps)
    wide = (1, -1, *([1] * (input.ndim - 2)))
    if weight is not None:
        out = out * weight.reshape(wide)  # type: ignore[attr-defined]
    if bias is not None:
        out = out + bias.reshape(wide)  # type: ignore[attr-defined]
    return out.to(input.dtype)  # type: ignore[no-any-return]


def group_norm(input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
               eps: float = 1e-5) -> Tensor:
    """Standardise groups of channels of every sample."""
    if input.ndim < 2:
        raise ShapeMismatchError(f"Expected at least 2 dimensions for input tensor but received {input.ndim}")
    n, channels = input.shape[:2]
    if num_groups <= 0:
        raise ShapeMismatchError(f"Expected num groups to be greater than 0, got {num_groups}")
    if channels % num_groups:
        raise ShapeMismatchError(f"Expected number of channels in input to be divisible by num_groups, but got input of shape "
                                 f"{list(input.shape)} and num_groups={num_groups}")
    for p, name in ((weight, "weight"), (bias, "bias")):
        if p is not None and tuple(p.shape) != (channels,):
            raise ShapeMismatchError(f"Expected {name} to be a vector of size equal to the number of channels in input, but got "
                                     f"{name} of shape {list(p.shape)} and input of shape {list(input.shape)}")
    x: Any = widened(input)
    flat = x.reshape(n, num_groups, (channels // num_groups) * math.prod(input.shape[2:]))
    out = standardised(flat, (2,), eps).reshape(input.shape)
    wide = (1, -1, *([1] * (input.ndim - 2)))
    if weight is not None:
        out = out * weight.reshape(wide)  # type: ignore[attr-defined]
    if bias is not None:
        out = out + bias.reshape(wide)  # type: ignore[attr-defined]
    return out.to(input.dtype)  # type: ignore[no-any-return]


def normalize(input: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: Tensor | None = None) -> Tensor:
    """Divide by the p-norm along a dimension (at least ``eps``)."""
    x: Any = input
    result = x / x.norm(p, dim, keepdim=True).clamp_min(eps).expand_as(x)
    return result if out is None else out.copy_(result)  # type: ignore[attr-defined, no-any-return]


def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Divide by a power of the mean square over neighbouring channels."""
    if input.ndim < 3:
        raise InvalidArgumentError(f"Expected 3D or higher dimensionality input (got {input.ndim} dimensions)")
    if input.numel() == 0:
        return input
    from torsh.functional.padding import constant_pad
    x: Any = input
    pads = [(0, 0), (size // 2, (size - 1) // 2)] + [(0, 0)] * (input.ndim - 2)
    mean = constant_pad(x * x, pads, 0).unfold(1, size, 1).mean(-1)  # type: ignore[attr-defined]
    return x / (mean * alpha + k) ** beta  # type: ignore[no-any-return]


__all__ = ["T", "expr_of", "recording"]
