"""Linear layers and convolutions.

A convolution is a matrix product over the windows of its padded input: the windows are views, so the gradients follow.
"""
from __future__ import annotations

from typing import Any

from torsh.core.errors import DTypeError, InvalidArgumentError, ShapeMismatchError
from torsh.functional.common import T, ntuple
from torsh.functional.padding import constant_pad
from torsh.ops.expr import TABLE, emit
from torsh.tensor.function import tensor_operand
from torsh.tensor.tensor import Tensor

_LINEAR = TABLE["linear"]


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``input @ weight.T + bias``: input (..., in), weight (out, in) or (in), bias (out)."""
    x, w = tensor_operand(input, "linear"), tensor_operand(weight, "linear", 2, "weight")
    if len(w.shape) == 1:
        out = T["matmul"](input, weight)
        return out if bias is None else out + bias  # type: ignore[no-any-return]
    args = (x, w) if bias is None else (x, w, tensor_operand(bias, "linear", 3, "bias"))
    return Tensor(emit(_LINEAR, args))


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x1 @ weight[k] @ x2`` for every output k."""
    out = T["einsum"]("...i,kij,...j->...k", input1, weight, input2)
    return out if bias is None else out + bias  # type: ignore[no-any-return]


def check(input: Tensor, weight: Tensor, bias: Tensor | None, groups: int, n: int, name: str, transposed: bool) -> None:
    """PyTorch's checks of a convolution's arguments."""
    if input.ndim not in (n + 1, n + 2):
        raise ShapeMismatchError(f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to {name}, but got input of size: "
                                 f"{list(input.shape)}")
    if weight.ndim != n + 2:
        raise ShapeMismatchError(f"weight should have at least three dimensions: expected {n + 2} dimensions for {name}, got "
                                 f"weight of size {list(weight.shape)}")
    if input.dtype is not weight.dtype or (bias is not None and bias.dtype is not input.dtype):
        raise DTypeError(f"Input type ({input.dtype.name}) and weight type ({weight.dtype.name}) and bias type should be the same")
    if groups <= 0:
        raise ShapeMismatchError("non-positive groups is not supported")
    channels = input.shape[-n - 1]
    want = weight.shape[0] if transposed else weight.shape[1] * groups
    if channels != want:
        raise ShapeMismatchError(f"Given groups={groups}, weight of size {list(weight.shape)}, expected input{list(input.shape)} to "
                                 f"have {want} channels, but got {channels} channels instead")
    out_channels = weight.shape[1] * groups if transposed else weight.shape[0]
    if not transposed and out_channels % groups:
        raise ShapeMismatchError(f"Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, but got "
                                 f"weight of size {list(weight.shape)} instead")
    if bias is not None and tuple(bias.shape) != (out_channels,):
        raise ShapeMismatchError(f"Given weight of size {list(weight.shape)}, expected bias to be 1-dimensional with "
                                 f"{out_channels} elements, but got bias of size {list(bias.shape)} instead")


def windows(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> Tensor:
    """Views of all windows: (N, C, *out, *kernel)."""
    n = len(kernel)
    for d, (k, s, spread) in enumerate(zip(kernel, stride, dilation, strict=True)):
        reach = (k - 1) * spread + 1
        x = x.unfold(2 + d, reach, s)  # type: ignore[attr-defined]
        if spread > 1:
            x = x[..., ::spread]  # type: ignore[index]
    assert x.ndim == 2 + 2 * n
    return x


def same_padding(kernel: tuple[int, ...], dilation: tuple[int, ...]) -> list[tuple[int, int]]:
    """Padding before and after that keeps sizes (the extra one behind)."""
    totals = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    return [(t // 2, t - t // 2) for t in totals]


def convolve(x: Tensor, weight: Tensor, stride: tuple[int, ...], pads: list[tuple[int, int]], dilation: tuple[int, ...],
             groups: int) -> Tensor:
    """The batched convolution without bias."""
    n = len(stride)
    kernel = tuple(weight.shape[2:])
    x = constant_pad(x, [(0, 0), (0, 0), *pads], 0.0)
    for have, k, d in zip(x.shape[2:], kernel, dilation, strict=True):
        if have < (k - 1) * d + 1:
            raise ShapeMismatchError(f"Calculated padded input size per channel: {list(x.shape[2:])}. Kernel size: {list(kernel)}. "
                                     "Kernel size can't be greater than actual input size")
    batch, channels = x.shape[:2]
    view = windows(x, kernel, stride, dilation)
    out_sizes = tuple(view.shape[2:2 + n])
    # (N, groups, C / groups * kernel, out) is what the weight matrix of each group is multiplied with.
    order = (0, 1, *range(2 + n, 2 + 2 * n), *range(2, 2 + n))
    depth, span = channels // groups, 1
    for k in kernel:
        span *= k
    count = 1
    for o in out_sizes:
        count *= o
    columns = view.permute(order).reshape(batch, groups, depth * span, count)  # type: ignore[attr-defined]
    matrix = weight.reshape(groups, weight.shape[0] // groups, depth * span)  # type: ignore[attr-defined]
    return T["matmul"](matrix, columns).reshape(batch, weight.shape[0], *out_sizes)  # type: ignore[no-any-return]


def _finish(out: Tensor, bias: Tensor | None, batched: bool, n: int) -> Tensor:
    if bias is not None:
        out = out + bias.reshape(-1, *([1] * n))  # type: ignore[attr-defined, operator]
    return out if batched else out.squeeze(0)  # type: ignore[attr-defined, no-any-return]


def _conv(n: int) -> Any:
    name = f"conv{n}d"

    def conv(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
             dilation: Any = 1, groups: int = 1) -> Tensor:
        check(input, weight, bias, groups, n, name, False)
        strides, dilations = ntuple(stride, n, "stride"), ntuple(dilation, n, "dilation")
        if any(s <= 0 for s in strides):
            raise ShapeMismatchError("non-positive stride is not supported")
        if any(d <= 0 for d in dilations):
            raise ShapeMismatchError("dilation should be greater than zero")
        kernel = tuple(weight.shape[2:])
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ShapeMismatchError(f"Invalid padding string: '{padding}'")
            if padding == "same" and any(s != 1 for s in strides):
                raise ShapeMismatchError("padding='same' is not supported for strided convolutions")
            pads = same_padding(kernel, dilations) if padding == "same" else [(0, 0)] * n
        else:
            amounts = ntuple(padding, n, "padding")
            if any(p < 0 for p in amounts):
                raise ShapeMismatchError("negative padding is not supported")
            pads = [(p, p) for p in amounts]
        batched = input.ndim == n + 2
        x = input if batched else input.unsqueeze(0)  # type: ignore[attr-defined]
        return _finish(convolve(x, weight, strides, pads, dilations, groups), bias, batched, n)
    conv.__name__ = name
    conv.__doc__ = f"{n}-dimensional convolution: input (N, C, ...), weight (out, C / groups, ...)."
    return conv


def _conv_transpose(n: int) -> Any:
    name = f"conv_transpose{n}d"

    def conv(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
             output_padding: Any = 0, groups: int = 1, dilation: Any = 1) -> Tensor:
        check(input, weight, bias, groups, n, name, True)
        strides, dilations = ntuple(stride, n, "stride"), ntuple(dilation, n, "dilation")
        amounts, extra = ntuple(padding, n, "padding"), ntuple(output_padding, n, "output_padding")
        for e, s, d in zip(extra, strides, dilations, strict=True):
            if e >= s and e >= d:
                raise ShapeMismatchError(f"output padding must be smaller than either stride or dilation, but got "
                                         f"output_padding: {e}, stride: {s}, dilation: {d}")
        batched = input.ndim == n + 2
        x = input if batched else input.unsqueeze(0)  # type: ignore[attr-defined]
        x = spread_out(x, strides)
        kernel = tuple(weight.shape[2:])
        pads = [((k - 1) * d - p, (k - 1) * d - p + e) for k, d, p, e in zip(kernel, dilations, amounts, extra, strict=True)]
        # The flipped kernel with its channels exchanged, per group.
        w = weight.flip(tuple(range(2, 2 + n)))  # type: ignore[attr-defined]
        w = w.reshape(groups, weight.shape[0] // groups, *weight.shape[1:]).transpose(1, 2)
        w = w.reshape(groups * weight.shape[1], weight.shape[0] // groups, *kernel)
        return _finish(convolve(x, w, (1,) * n, pads, dilations, groups), bias, batched, n)
    conv.__name__ = name
    conv.__doc__ = f"{n}-dimensional transposed convolution: weight (C, out / groups, ...)."
    return conv


def spread_out(x: Tensor, strides: tuple[int, ...]) -> Tensor:
    """Zeros put between the entries of the spatial dimensions."""
    if all(s == 1 for s in strides):
        return x
    sizes = [(m - 1) * s + 1 for m, s in zip(x.shape[2:], strides, strict=True)]
    zero = T["zeros"](*x.shape[:2], *sizes, dtype=x.dtype)
    spec = tuple((0, m, 1) for m in x.shape[:2]) + tuple((0, m, s) for m, s in zip(x.shape[2:], strides, strict=True))
    from torsh.graph.handle import expr_of
    return Tensor(emit(TABLE["view_write"], (expr_of(zero), expr_of(x)), (("slice", spec),)))


conv1d, conv2d, conv3d = (_conv(n) for n in (1, 2, 3))
conv_transpose1d, conv_transpose2d, conv_transpose3d = (_conv_transpose(n) for n in (1, 2, 3))


def unfold(input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """The windows of a batch of images as columns: (N, C * kernel, positions)."""
    batched = input.ndim == 4
    if input.ndim not in (3, 4):
        raise ShapeMismatchError(f"Expected 3D or 4D (batch mode) tensor for input, but got {input.ndim}D")
    x = input if batched else input.unsqueeze(0)  # type: ignore[attr-defined]
    k, d, p, s = (ntuple(v, 2) for v in (kernel_size, dilation, padding, stride))
    x = constant_pad(x, [(0, 0), (0, 0), *((a, a) for a in p)], 0.0)
    view = windows(x, k, s, d)
    out = view.permute(0, 1, 4, 5, 2, 3).reshape(x.shape[0], x.shape[1] * k[0] * k[1], -1)  # type: ignore[attr-defined]
    return out if batched else out.squeeze(0)  # type: ignore[no-any-return]


__all__ = ["InvalidArgumentError"]
