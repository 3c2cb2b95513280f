"""Linear layers, convolutions, and images as columns of windows."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torsh.core.errors import ShapeMismatchError, UnsupportedDTypeError
from torsh.functional.common import ntuple
from torsh.graph.handle import synchronise_handle
from torsh.graph.window import tensor_of
from torsh.ops.common import reshape
from torsh.ops.contraction import bilinear_expr, linear_expr
from torsh.ops.convolution import convolution_expr
from torsh.ops.expr import TABLE, Expr, make, recording
from torsh.ops.windows import fold_expr, unfold_expr
from torsh.tensor.function import function, recorded, store_out
from torsh.tensor.tensor import Tensor

_LINEAR = TABLE["linear"]


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None, *, out: Tensor | None = None) -> Tensor:
    """``input @ weight.T + bias``: input (..., in), weight (out, in) or (in), bias (out)."""
    if out is not None:
        return store_out(linear, "linear", (input, weight, bias), {}, out)  # type: ignore[no-any-return]
    # Written flat, as the operators are: this is the hot path of most networks.
    token = recording.window.token
    try:
        x = input._expr if input._token is token else synchronise_handle(input)
        w = weight._expr if weight._token is token else synchronise_handle(weight)
        if len(w.shape) != 2:
            return recorded(linear_expr, (input, weight, bias))  # type: ignore[no-any-return]
        args: tuple[Expr, ...] = (x, w)
        if bias is not None:
            args = (x, w, bias._expr if bias._token is token else synchronise_handle(bias))
    except AttributeError:                          # something is no tensor: the error names it
        return recorded(linear_expr, (input, weight, bias))  # type: ignore[no-any-return]
    key = (_LINEAR, args, None)
    e = recording.memo.get(key)
    return tensor_of(e if e is not None else make(_LINEAR, args, None, key))  # type: ignore[no-any-return]


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x1 @ weight[k] @ x2`` for every output k: inputs (..., in1) and (..., in2), weight (out, in1, in2)."""
    return recorded(bilinear_expr, (input1, input2, weight, bias))  # type: ignore[no-any-return]


# ---- convolution -------------------------------------------------------------------------------------------------------

def same_padding(kernel: tuple[int, ...], dilation: tuple[int, ...]) -> list[tuple[int, int]]:
    """Padding before and after that keeps sizes (the extra one behind)."""
    totals = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    return [(t // 2, t - t // 2) for t in totals]


def spatial(value: Any, n: int, name: str) -> tuple[int, ...]:
    """One number per spatial dimension; PyTorch's error for a sequence of another length."""
    items = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if len(items) not in (1, n):
        raise ShapeMismatchError(f"expected {name} to be a single integer value or a list of {n} values to match the convolution "
                                 f"dimensions, but got {name}={list(items)}")
    return items * n if len(items) == 1 else items


def _check_weight(input: Expr, weight: Expr, n: int, name: str) -> None:
    if len(weight.shape) != n + 2:
        raise ShapeMismatchError(f"Expected {n + 2}D weight for {name}, but got weight of size: {list(weight.shape)} and input of "
                                 f"size: {list(input.shape)}")
    if len(input.shape) not in (n + 1, n + 2):
        raise ShapeMismatchError(f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to {name}, but got input of size: "
                                 f"{list(input.shape)}")


def _conv(n: int) -> Callable[..., Tensor]:
    name = f"conv{n}d"

    def build(input: Expr, weight: Expr, bias: Expr | None, stride: Any, padding: Any, dilation: Any, groups: int) -> Expr:
        _check_weight(input, weight, n, name)
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ShapeMismatchError(f"Invalid padding string: '{padding}'")
        else:
            padding = spatial(padding, n, "padding")
        return convolution_expr(input, weight, bias, spatial(stride, n, "stride"), padding, spatial(dilation, n, "dilation"),
                                groups)

    def conv(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
             dilation: Any = 1, groups: int = 1) -> Tensor:
        return recorded(build, (input, weight, bias), (stride, padding, dilation, groups))  # type: ignore[no-any-return]
    conv.__name__ = build.__name__ = name
    conv.__doc__ = (f"{n}-dimensional convolution: input (N, C, ...) or (C, ...), weight (out, C / groups, ...), bias (out). "
                    "padding: numbers, ``\"same\"`` or ``\"valid\"``.")
    return conv


def _conv_transpose(n: int) -> Callable[..., Tensor]:
    name = f"conv_transpose{n}d"

    def build(input: Expr, weight: Expr, bias: Expr | None, stride: Any, padding: Any, output_padding: Any, groups: int,
              dilation: Any) -> Expr:
        _check_weight(input, weight, n, name)
        return convolution_expr(input, weight, bias, spatial(stride, n, "stride"), spatial(padding, n, "padding"),
                                spatial(dilation, n, "dilation"), groups, True, spatial(output_padding, n, "output_padding"))

    def conv(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
             output_padding: Any = 0, groups: int = 1, dilation: Any = 1) -> Tensor:
        return recorded(build, (input, weight, bias),  # type: ignore[no-any-return]
                        (stride, padding, output_padding, groups, dilation))
    conv.__name__ = build.__name__ = name
    conv.__doc__ = f"{n}-dimensional transposed convolution: input (N, C, ...) or (C, ...), weight (C, out / groups, ...)."
    return conv


conv1d, conv2d, conv3d = (_conv(n) for n in (1, 2, 3))
conv_transpose1d, conv_transpose2d, conv_transpose3d = (_conv_transpose(n) for n in (1, 2, 3))


@function("conv_tbc", method=False, out=False)
def conv_tbc(input: Tensor, weight: Tensor, bias: Tensor, pad: int = 0) -> Tensor:
    """One-dimensional convolution over (time, batch, channels): weight (kernel, channels, outputs)."""
    return conv1d(input.permute(1, 2, 0), weight.permute(2, 1, 0), bias, 1, pad).permute(2, 0, 1)  # type: ignore[no-any-return]


# ---- windows as columns ------------------------------------------------------------------------------------------------

def _unfold(input: Expr, kernel: Any, dilation: Any, padding: Any, stride: Any) -> Expr:
    if not input.dtype.is_floating_point and not input.dtype.is_complex and input.dtype.category:
        raise UnsupportedDTypeError(f"\"im2col_out_cpu\" not implemented for '{input.dtype.name}'")
    if len(input.shape) not in (3, 4):
        raise ShapeMismatchError("Expected 3D or 4D (batch mode) tensor with possibly 0 batch size and other non-zero dimensions "
                                 f"for input, but got: {list(input.shape)}")
    return unfold_expr(input, *[_pair(v, name) for v, name in ((kernel, "kernel_size"), (dilation, "dilation"),
                                                               (padding, "padding"), (stride, "stride"))])


def _pair(value: Any, name: str) -> tuple[int, ...]:
    numbers = ntuple(value, 2, name)
    if any(v < (0 if name == "padding" else 1) for v in numbers):
        raise ShapeMismatchError(f"{name} should be {'non-negative' if name == 'padding' else 'greater than zero'}, but got "
                                 f"{name}={list(numbers)}")
    return numbers


def unfold(input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """The windows of a batch of images (N, C, H, W) as columns: (N, C * kernel, positions)."""
    return recorded(_unfold, (input,), (kernel_size, dilation, padding, stride))  # type: ignore[no-any-return]


def _fold(input: Expr, output_size: Any, kernel: Any, dilation: Any, padding: Any, stride: Any) -> Expr:
    if len(input.shape) not in (2, 3):
        raise ShapeMismatchError("Expected 2D or 3D (batch mode) tensor for input with possibly 0 batch size and non-zero "
                                 f"dimensions for input, but got: {list(input.shape)}")
    sizes, *numbers = [_pair(v, name) for v, name in (
        (output_size, "output_size"), (kernel, "kernel_size"), (dilation, "dilation"), (padding, "padding"), (stride, "stride"))]
    if len(input.shape) == 3:
        return fold_expr(input, sizes, *numbers)
    out = fold_expr(reshape(input, (1, *input.shape)), sizes, *numbers)
    return reshape(out, out.shape[1:])


def fold(input: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """The inverse arrangement of :func:`unfold`: columns (N, C * kernel, positions) added up to images of ``output_size``."""
    return recorded(_fold, (input,), (output_size, kernel_size, dilation, padding, stride))  # type: ignore[no-any-return]
