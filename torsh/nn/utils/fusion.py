"""A batch normalisation folded into the layer before it, for evaluation."""
from __future__ import annotations

import copy
from typing import Any

from torsh.functional.common import T
from torsh.nn.parameter import Parameter


def _scale_and_shift(bias: Any, mean: Any, var: Any, eps: float, weight: Any, shift: Any) -> tuple[Any, Any]:
    """What the normalisation multiplies by, and the bias after it; missing parts are 0 or 1."""
    scale = T["rsqrt"](var + eps)
    scale = scale if weight is None else scale * weight
    moved = (-mean if bias is None else bias - mean) * scale
    return scale, moved if shift is None else moved + shift


def _parameters(weight: Any, bias: Any, old_weight: Any, old_bias: Any) -> tuple[Any, Any]:
    """The new values as parameters in the dtypes of the old ones."""
    kept = old_weight if old_bias is None else old_bias
    return (Parameter(weight.detach().to(old_weight.dtype), old_weight.requires_grad),
            Parameter(bias.detach().to(kept.dtype), old_bias is not None and old_bias.requires_grad))


def fuse_conv_bn_weights(conv_w: Any, conv_b: Any, bn_rm: Any, bn_rv: Any, bn_eps: float, bn_w: Any, bn_b: Any,
                         transpose: bool = False) -> tuple[Any, Any]:
    """Weight and bias of a convolution that does what a convolution and a normalisation do; transpose: of a transposed one."""
    scale, bias = _scale_and_shift(conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b)
    shape = [1] * conv_w.dim()
    shape[1 if transpose else 0] = -1
    return _parameters(conv_w * scale.reshape(shape), bias, conv_w, conv_b)


def fuse_linear_bn_weights(linear_w: Any, linear_b: Any, bn_rm: Any, bn_rv: Any, bn_eps: float, bn_w: Any,
                           bn_b: Any) -> tuple[Any, Any]:
    """Weight and bias of a linear layer that does what a linear layer and a normalisation do."""
    scale, bias = _scale_and_shift(linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b)
    return _parameters(linear_w * scale.unsqueeze(-1), bias, linear_w, linear_b)


def _check(layer: Any, bn: Any) -> None:
    if layer.training or bn.training:
        raise AssertionError("Fusion only for eval!")
    if bn.running_mean is None or bn.running_var is None:
        raise AssertionError("bn.running_mean and bn.running_var must not be None")


def fuse_conv_bn_eval(conv: Any, bn: Any, transpose: bool = False) -> Any:
    """A new convolution that does what ``bn(conv(x))`` does; both must be in evaluation mode.

    Example::

        >>> import torsh
        >>> conv, bn = torsh.nn.Conv2d(3, 4, 3).eval(), torsh.nn.BatchNorm2d(4).eval()
        >>> x = torsh.randn(1, 3, 5, 5)
        >>> torsh.allclose(torsh.nn.utils.fuse_conv_bn_eval(conv, bn)(x), bn(conv(x)), atol=1e-5)
        True
    """
    _check(conv, bn)
    fused = copy.deepcopy(conv)
    fused.weight, fused.bias = fuse_conv_bn_weights(conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight,
                                                    bn.bias, transpose)
    return fused


def fuse_linear_bn_eval(linear: Any, bn: Any) -> Any:
    """A new linear layer that does what ``bn(linear(x))`` does; both must be in evaluation mode."""
    _check(linear, bn)
    if bn.num_features not in (linear.out_features, 1):
        raise AssertionError("To fuse, linear.out_features == bn.num_features or bn.num_features == 1, got linear.out_features="
                             f"{linear.out_features} and bn.num_features={bn.num_features}")
    fused = copy.deepcopy(linear)
    fused.weight, fused.bias = fuse_linear_bn_weights(linear.weight, linear.bias, bn.running_mean, bn.running_var, bn.eps,
                                                      bn.weight, bn.bias)
    return fused


__all__ = ["fuse_conv_bn_eval", "fuse_conv_bn_weights", "fuse_linear_bn_eval", "fuse_linear_bn_weights"]
