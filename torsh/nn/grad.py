"""Gradients of convolutions with respect to their input and their weight, as functions of their own."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torsh.autograd.functions import grad
from torsh.autograd.modes import enable_grad
from torsh.functional.convolution import conv1d, conv2d, conv3d


def _gradient(convolution: Any, of_weight: bool, size: Sequence[int], other: Any, grad_output: Any, stride: Any, padding: Any,
              dilation: Any, groups: int) -> Any:
    """The gradient for an input or weight of the given size; its values do not matter, as the convolution is linear."""
    with enable_grad():
        wanted = other.detach().new_zeros(*size).requires_grad_(True)
        x, weight = (other, wanted) if of_weight else (wanted, other)
        out = convolution(x, weight, None, stride, padding, dilation, groups)
    return grad(out, [wanted], grad_output)[0]


def conv1d_input(input_size: Sequence[int], weight: Any, grad_output: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
                 groups: int = 1) -> Any:
    """The gradient of conv1d for its input (N, C, L).

    Example::

        >>> import torsh
        >>> torsh.nn.grad.conv1d_input((1, 1, 4), torsh.ones(1, 1, 2), torsh.ones(1, 1, 3)).tolist()
        [[[1.0, 2.0, 2.0, 1.0]]]
    """
    return _gradient(conv1d, False, input_size, weight, grad_output, stride, padding, dilation, groups)


def conv1d_weight(input: Any, weight_size: Sequence[int], grad_output: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
                  groups: int = 1) -> Any:
    """The gradient of conv1d for its weight."""
    return _gradient(conv1d, True, weight_size, input, grad_output, stride, padding, dilation, groups)


def conv2d_input(input_size: Sequence[int], weight: Any, grad_output: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
                 groups: int = 1) -> Any:
    """The gradient of conv2d for its input (N, C, H, W)."""
    return _gradient(conv2d, False, input_size, weight, grad_output, stride, padding, dilation, groups)


def conv2d_weight(input: Any, weight_size: Sequence[int], grad_output: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
                  groups: int = 1) -> Any:
    """The gradient of conv2d for its weight."""
    return _gradient(conv2d, True, weight_size, input, grad_output, stride, padding, dilation, groups)


def conv3d_input(input_size: Sequence[int], weight: Any, grad_output: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
                 groups: int = 1) -> Any:
    """The gradient of conv3d for its input (N, C, D, H, W)."""
    return _gradient(conv3d, False, input_size, weight, grad_output, stride, padding, dilation, groups)


def conv3d_weight(input: Any, weight_size: Sequence[int], grad_output: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
                  groups: int = 1) -> Any:
    """The gradient of conv3d for its weight."""
    return _gradient(conv3d, True, weight_size, input, grad_output, stride, padding, dilation, groups)


__all__ = ["conv1d_input", "conv1d_weight", "conv2d_input", "conv2d_weight", "conv3d_input", "conv3d_weight"]
