"""Normalisations: subtract the mean and divide by the standard deviation of a group of elements, then scale and shift.

They differ in which axes form a group. Statistics of 16-bit floats are computed in float32. All have closed gradients over
sums along the same axes, themselves differentiable.
"""
from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, Final, NamedTuple

import numpy as np

from torsh.core.dtype import DType, dtype_by_name, from_numpy_dtype
from torsh.core.errors import InvalidArgumentError, ShapeMismatchError, UnsupportedDTypeError
from torsh.core.promotion import SCALAR_TYPE_NAMES
from torsh.ops.common import absolute, add, apply, cast, div, mul, number, pow, real_with, reduce_sum, reshape, square, sub, sum_to, unary
from torsh.ops.define import Array, convert, wide
from torsh.ops.expr import TABLE, Expr, Op, Shape, emit
from torsh.ops.windows import window_sum

Axes = tuple[int, ...]


class Layout(NamedTuple):
    """How a normalisation sees its argument: in ``shape``, groups over ``axes``, parameters in ``parameters``' shape."""

    shape: Shape
    axes: Axes
    parameters: Shape


class Normalization(NamedTuple):
    """Attribute of the ops: eps, which of weight and bias are given, and what the op itself needs (sizes or groups)."""

    eps: float
    weight: bool
    bias: bool
    detail: Any = None


def mean_of(x: Expr, axes: Axes) -> Expr:
    """Mean over axes, which are kept."""
    return div(reduce_sum(x, axes, True), prod([x.shape[a] for a in axes]))


def centred(x: Expr, axes: Axes) -> Expr:
    """The argument minus its mean over axes."""
    return sub(x, mean_of(x, axes))


def biased_variance(x: Expr, axes: Axes) -> Expr:
    """Mean of squared deviations over axes, which are kept."""
    return mean_of(square(centred(x, axes)), axes)


def inverse_deviation(x: Expr, axes: Axes, eps: float) -> Expr:
    """1 / sqrt(variance + eps) over axes, which are kept."""
    return unary("rsqrt", add(biased_variance(x, axes), eps))


def inverse_root(x: Expr, axes: Axes, eps: float) -> Expr:
    """1 / sqrt(mean of squares + eps) over axes, which are kept."""
    return unary("rsqrt", add(mean_of(square(x), axes), eps))


def _parameters(e: Expr) -> tuple[Expr | None, Expr | None]:
    attr: Normalization = e.attr  # type: ignore[assignment]
    rest = iter(e.args[1:])
    return next(rest) if attr.weight else None, next(rest) if attr.bias else None


def _numbers(e: Expr, layout: Layout) -> tuple[Expr, Expr | None, Expr | None]:
    """Argument, weight and bias in the layout and in the dtype that is computed in."""
    work = wide(e.dtype)
    weight, bias = _parameters(e)
    return (reshape(cast(e.args[0], work), layout.shape),
            None if weight is None else cast(reshape(weight, layout.parameters), work),
            None if bias is None else cast(reshape(bias, layout.parameters), work))


def _is_centred(e: Expr) -> bool:
    return e.op.name != "rms_norm"


def _standardised(e: Expr, x: Expr, axes: Axes) -> tuple[Expr, Expr]:
    """(normalised elements, the factor that they were scaled by)."""
    eps: float = e.attr.eps  # type: ignore[attr-defined]
    if not _is_centred(e):
        scale = inverse_root(x, axes, eps)
        return mul(x, scale), scale
    scale = inverse_deviation(x, axes, eps)
    return mul(centred(x, axes), scale), scale


def _decompose(layout_of: Callable[[Expr], Layout]) -> Callable[[Expr], Expr]:
    def decompose(e: Expr) -> Expr:
        layout = layout_of(e)
        x, weight, bias = _numbers(e, layout)
        out = _standardised(e, x, layout.axes)[0]
        out = out if weight is None else mul(out, weight)
        out = out if bias is None else add(out, bias)
        return reshape(cast(out, e.dtype), e.shape)
    return decompose


def _gradient(layout_of: Callable[[Expr], Layout]) -> Callable[[Expr, Expr], tuple[Expr | None, ...]]:
    def gradient(e: Expr, g: Expr) -> tuple[Expr | None, ...]:
        layout = layout_of(e)
        x, weight, _ = _numbers(e, layout)
        g = reshape(cast(g, wide(e.dtype)), layout.shape)
        normal, scale = _standardised(e, x, layout.axes)
        given_weight, given_bias = _parameters(e)
        grads: list[Expr | None] = [None]
        if e.args[0].requires_grad:
            inner = g if weight is None else mul(g, weight)
            pull = sub(inner, mul(normal, mean_of(mul(inner, normal), layout.axes)))
            pull = sub(pull, mean_of(inner, layout.axes)) if _is_centred(e) else pull
            grads[0] = reshape(cast(mul(pull, scale), e.dtype), e.shape)
        for parameter, value in ((given_weight, mul(g, normal)), (given_bias, g)):
            if parameter is not None:
                total = sum_to(value, layout.parameters)
                grads.append(reshape(cast(total, parameter.dtype), parameter.shape) if parameter.requires_grad else None)
        return tuple(grads)
    return gradient


def _layout_of_shape(name: str, attr: Normalization, shape: Shape) -> Layout:
    """The layout of each normalisation for an argument of this shape."""
    rank = len(shape)
    if name in ("layer_norm", "rms_norm"):
        axes = tuple(range(rank - len(attr.detail), rank))
        return Layout(shape, axes, tuple(attr.detail))
    ones = (1,) * (rank - 2)
    if name == "batch_norm":
        return Layout(shape, (0, *range(2, rank)), (1, shape[1], *ones))
    if name == "instance_norm":
        return Layout(shape, tuple(range(2, rank)), (1, shape[1], *ones))
    groups = attr.detail
    inner = (shape[0], groups, shape[1] // groups, prod(shape[2:]))
    return Layout(inner, (2, 3), (1, groups, shape[1] // groups, 1))


def _reference(name: str) -> Callable[..., Array]:
    def reference(attr: Normalization, x: Any, *parameters: Any) -> Array:
        dtype = from_numpy_dtype(np.asarray(x).dtype)
        layout = _layout_of_shape(name, attr, np.shape(x))
        a = convert(x, wide(dtype)).reshape(layout.shape)
        with np.errstate(all="ignore"):
            if name != "rms_norm":
                a = a - a.mean(layout.axes, keepdims=True)
            a = a / np.sqrt((a * a).mean(layout.axes, keepdims=True) + a.dtype.type(attr.eps))
            rest = [convert(p, wide(dtype)).reshape(layout.parameters) for p in parameters]
            if attr.weight:
                a = a * rest[0]
            if attr.bias:
                a = a + rest[-1]
        return convert(a, dtype).reshape(np.shape(x))
    return reference


def _check_floating(name: str, x: Expr) -> None:
    if not x.dtype.is_floating_point:
        raise UnsupportedDTypeError(f"\"{name}\" not implemented for '{SCALAR_TYPE_NAMES[x.dtype.name]}'")


def _check_channels(name: str, x: Expr, parameters: tuple[Expr, ...]) -> None:
    for p in parameters:
        if p.shape != (x.shape[1],):
            raise ShapeMismatchError(f"{name}: weight and bias should contain {x.shape[1]} elements, one per channel of the "
                                     f"input of shape {list(x.shape)}, got shape {list(p.shape)}")


def _infer(name: str) -> Callable[..., tuple[Shape, DType]]:
    def infer(attr: Normalization, x: Expr, *parameters: Expr) -> tuple[Shape, DType]:
        _check_floating(name, x)
        if name in ("layer_norm", "rms_norm"):
            sizes = tuple(attr.detail)
            if not sizes or x.shape[len(x.shape) - len(sizes):] != sizes or len(x.shape) < len(sizes):
                text = ", ".join(str(n) for n in sizes)
                raise ShapeMismatchError(f"Given normalized_shape=[{text}], expected input with shape [*, {text}], but got "
                                         f"input of size{list(x.shape)}")
            for p in parameters:
                if p.shape != sizes:
                    raise ShapeMismatchError(f"Expected weight to be of same shape as normalized_shape, but got weight of "
                                             f"shape {list(p.shape)} and normalized_shape = {list(sizes)}")
            return x.shape, x.dtype
        if len(x.shape) < 2:
            raise ShapeMismatchError(f"{name}: expected an input with at least 2 dimensions (batch, channels, ...), got "
                                     f"shape {list(x.shape)}")
        if name == "group_norm" and x.shape[1] % attr.detail:
            raise ShapeMismatchError("Expected number of channels in input to be divisible by num_groups, but got input of "
                                     f"shape {list(x.shape)} and num_groups={attr.detail}")
        _check_channels(name, x, parameters)
        return x.shape, x.dtype
    return infer


def _row(name: str) -> Op:
    def layout_of(e: Expr) -> Layout:
        return _layout_of_shape(name, e.attr, e.args[0].shape)  # type: ignore[arg-type]
    return Op(name, _infer(name), _reference(name), gradient=_gradient(layout_of), decompose=_decompose(layout_of))


# attr: Normalization; args: x, then weight and bias as far as given.
LAYER_NORM: Final[Op] = _row("layer_norm")           # detail: sizes of the normalised dimensions (the last ones)
RMS_NORM: Final[Op] = _row("rms_norm")               # detail: as for layer_norm; no mean is subtracted, no bias
GROUP_NORM: Final[Op] = _row("group_norm")           # detail: number of groups of channels
BATCH_NORM: Final[Op] = _row("batch_norm")           # by the statistics of the batch (training)
INSTANCE_NORM: Final[Op] = _row("instance_norm")     # per sample and channel


def _normalised(op: Op, x: Expr, weight: Expr | None, bias: Expr | None, eps: float, detail: Any = None) -> Expr:
    parameters = [p for p in (weight, bias) if p is not None]
    return emit(op, (x, *parameters), Normalization(float(eps), weight is not None, bias is not None, detail))


def layer_norm_expr(x: Expr, sizes: Shape, weight: Expr | None, bias: Expr | None, eps: float) -> Expr:
    """Normalised over the last ``len(sizes)`` dimensions."""
    return _normalised(LAYER_NORM, x, weight, bias, eps, tuple(sizes))


def rms_norm_expr(x: Expr, sizes: Shape, weight: Expr | None, eps: float | None) -> Expr:
    """Divided by the root of the mean square of the last dimensions; eps None: the machine epsilon of the dtype."""
    if eps is None:
        _check_floating("rms_norm", x)
        eps = machine_epsilon(wide(x.dtype))
    return _normalised(RMS_NORM, x, weight, None, eps, tuple(sizes))


def machine_epsilon(dtype: DType) -> float:
    """The distance from 1 to the next number."""
    return float(np.finfo(dtype_by_name(dtype.name).numpy).eps)


def group_norm_expr(x: Expr, groups: int, weight: Expr | None, bias: Expr | None, eps: float) -> Expr:
    """Normalised over groups of neighbouring channels (dimension 1) and all further dimensions."""
    return _normalised(GROUP_NORM, x, weight, bias, eps, int(groups))


def batch_norm_expr(x: Expr, weight: Expr | None, bias: Expr | None, eps: float) -> Expr:
    """Normalised per channel (dimension 1) by the statistics of ``x`` itself."""
    return _normalised(BATCH_NORM, x, weight, bias, eps)


def instance_norm_expr(x: Expr, weight: Expr | None, bias: Expr | None, eps: float) -> Expr:
    """Normalised per sample and channel."""
    return _normalised(INSTANCE_NORM, x, weight, bias, eps)


def batch_norm_statistics(x: Expr) -> tuple[Expr, Expr]:
    """(mean, biased variance) per channel, as ``batch_norm`` uses them; 16-bit floats give float32."""
    a = cast(x, wide(x.dtype))
    axes = (0, *range(2, len(x.shape)))
    return reshape(mean_of(a, axes), (x.shape[1],)), reshape(biased_variance(a, axes), (x.shape[1],))


def moved_mean(x: Expr, running: Expr, momentum: Expr) -> Expr:
    """The running mean of batch_norm, moved towards the batch's."""
    return _moved(running, batch_norm_statistics(x)[0], momentum)


def unbiased_variance(x: Expr, axes: Axes) -> Expr:
    """Sum of squared deviations over their number less one; axes are kept. 16-bit floats give float32."""
    a = cast(x, wide(x.dtype))
    count = prod([x.shape[i] for i in axes])
    return div(reduce_sum(square(centred(a, axes)), axes, True), float(max(count - 1, 1)))


def moved_variance(x: Expr, running: Expr, momentum: Expr) -> Expr:
    """The running (unbiased) variance of batch_norm, moved towards the batch's."""
    variance = unbiased_variance(x, (0, *range(2, len(x.shape))))
    return _moved(running, reshape(variance, (x.shape[1],)), momentum)


def moved_instance_variance(x: Expr, running: Expr, momentum: Expr) -> Expr:
    """The running variance of instance_norm, moved towards the mean of the samples' (unbiased) variances."""
    variance = mean_of(unbiased_variance(x, tuple(range(2, len(x.shape)))), (0,))
    return _moved(running, reshape(variance, (x.shape[1],)), momentum)


def _moved(running: Expr, fresh: Expr, momentum: Expr) -> Expr:
    if running.shape != fresh.shape:
        raise ShapeMismatchError(f"running_mean and running_var should contain {fresh.shape[0]} elements not "
                                 f"{prod(running.shape)}")
    share = cast(momentum, running.dtype)
    return add(mul(running, sub(1, share)), mul(cast(fresh, running.dtype), share))


def normalize_expr(x: Expr, p: float, axes: Axes, eps: float) -> Expr:
    """Divided by the p-norm over axes (at least ``eps``)."""
    size = emit(TABLE["norm"], (absolute(x) if x.dtype.is_complex else x,), (axes, True, p))
    return div(x, emit(TABLE["clamp"], (size, number(eps, size.dtype)), "min"))


# ---- with given statistics ---------------------------------------------------------------------------------------------

def _inference_infer(attr: Normalization, x: Expr, mean: Expr, variance: Expr, *parameters: Expr) -> tuple[Shape, DType]:
    _check_floating("batch_norm", x)
    if len(x.shape) < 2:
        raise ShapeMismatchError(f"batch_norm: expected an input with at least 2 dimensions, got shape {list(x.shape)}")
    for label, p in (("running_mean", mean), ("running_var", variance)):
        if p.shape != (x.shape[1],):
            raise ShapeMismatchError(f"{label} should contain {x.shape[1]} elements not {prod(p.shape)}")
    _check_channels("batch_norm", x, parameters)
    return x.shape, x.dtype


def _inference(e: Expr) -> Expr:
    attr: Normalization = e.attr  # type: ignore[assignment]
    work = wide(e.dtype)
    shape = (1, e.shape[1], *(1,) * (len(e.shape) - 2))
    x, mean, variance, *parameters = [cast(a, work) for a in e.args]
    mean, variance, *parameters = [reshape(p, shape) for p in (mean, variance, *parameters)]
    out = mul(sub(x, mean), unary("rsqrt", add(variance, attr.eps)))
    out = mul(out, parameters[0]) if attr.weight else out
    return cast(add(out, parameters[-1]) if attr.bias else out, e.dtype)


def _inference_reference(attr: Normalization, x: Any, *others: Any) -> Array:
    dtype = from_numpy_dtype(np.asarray(x).dtype)
    work = wide(dtype)
    shape = (1, -1, *(1,) * (np.ndim(x) - 2))
    mean, variance, *parameters = [convert(v, work).reshape(shape) for v in others]
    with np.errstate(all="ignore"):
        out = (convert(x, work) - mean) / np.sqrt(variance + variance.dtype.type(attr.eps))
        out = out * parameters[0] if attr.weight else out
        return convert(out + parameters[-1] if attr.bias else out, dtype)


# attr: Normalization; args: x, mean, variance, then weight and bias as far as given
BATCH_NORM_INFERENCE: Final[Op] = Op("batch_norm_inference", _inference_infer, _inference_reference, decompose=_inference)


def batch_norm_inference_expr(x: Expr, mean: Expr, variance: Expr, weight: Expr | None, bias: Expr | None,
                              eps: float) -> Expr:
    """Normalised per channel by given statistics (running averages)."""
    parameters = [p for p in (weight, bias) if p is not None]
    attr = Normalization(float(eps), weight is not None, bias is not None)
    return emit(BATCH_NORM_INFERENCE, (x, mean, variance, *parameters), attr)


def local_response_norm_expr(x: Expr, size: int, alpha: float, beta: float, k: float) -> Expr:
    """Divided by ``(k + alpha * mean of the squares of neighbouring channels) ** beta``."""
    if len(x.shape) < 3:
        raise InvalidArgumentError(f"Expected 3D or higher dimensionality input (got {len(x.shape)} dimensions)")
    if 0 in x.shape:
        return x
    squares = square(x)
    rest = prod(x.shape[2:])
    lines = reshape(squares, (x.shape[0], x.shape[1], rest))
    lines = apply("permute", lines, attr=(0, 2, 1))
    total = window_sum(lines, (size,), (1,), ((size // 2, (size - 1) // 2),))
    # PyTorch's mean of integers is cut to an integer.
    mean = div(total, float(size)) if total.dtype.category == 2 else apply("trunc_divide", total, number(size, total.dtype))
    mean = real_with(reshape(apply("permute", mean, attr=(0, 2, 1)), x.shape), float(alpha))
    return div(x, pow(add(mul(mean, alpha), k), beta))
