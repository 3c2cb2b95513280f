"""Convolution layers."""
from __future__ import annotations

import math
from typing import Any

from torsh.core.errors import AutogradError, InvalidArgumentError
from torsh.functional import convolution as functional
from torsh.functional.common import ntuple
from torsh.functional.padding import pad
from torsh.nn import init
from torsh.nn.modules.lazy import LazyModuleMixin
from torsh.nn.modules.module import Module
from torsh.nn.parameter import Parameter, UninitializedParameter
from torsh.tensor.creation import empty


class _ConvNd(Module):
    """What all convolution layers share: parameters, their initialisation and ``repr``."""

    rank = 0                # number of spatial dimensions
    transposed = False
    in_channels: int
    out_channels: int
    weight: Any
    bias: Any

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
                 output_padding: Any, groups: int, bias: bool, padding_mode: str, device: Any, dtype: Any) -> None:
        super().__init__()
        n = self.rank
        if groups <= 0:
            raise InvalidArgumentError("groups must be a positive integer")
        if in_channels % groups:
            raise InvalidArgumentError("in_channels must be divisible by groups")
        if out_channels % groups:
            raise InvalidArgumentError("out_channels must be divisible by groups")
        if padding_mode not in ("zeros", "reflect", "replicate", "circular"):
            raise InvalidArgumentError("padding_mode must be one of {'zeros', 'reflect', 'replicate', 'circular'}, but got "
                                       f"padding_mode='{padding_mode}'")
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise InvalidArgumentError(f"Invalid padding string '{padding}', should be one of {{'same', 'valid'}}")
            if padding == "same" and any(s != 1 for s in ntuple(stride, n)):
                raise InvalidArgumentError("padding='same' is not supported for strided convolutions")
        self.in_channels, self.out_channels, self.groups, self.padding_mode = in_channels, out_channels, groups, padding_mode
        self.kernel_size, self.stride, self.dilation = ntuple(kernel_size, n), ntuple(stride, n), ntuple(dilation, n)
        self.padding = padding if isinstance(padding, str) else ntuple(padding, n)
        self.output_padding = ntuple(output_padding, n)
        shape = (in_channels, out_channels // groups) if self.transposed else (out_channels, in_channels // groups)
        self.weight = Parameter(empty((*shape, *self.kernel_size), device=device, dtype=dtype))
        if bias:
            self.bias = Parameter(empty(out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init._calculate_fan_in_and_fan_out(self.weight)
            if fan_in:
                bound = 1 / math.sqrt(fan_in)
                init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        """Channels, kernel and what differs from the defaults."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0,) * self.rank:
            text += f", padding={self.padding!r}" if isinstance(self.padding, tuple) else f", padding={self.padding}"
        if self.dilation != (1,) * self.rank:
            text += f", dilation={self.dilation}"
        if self.output_padding != (0,) * self.rank:
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text

    def _conv_forward(self, input: Any, weight: Any, bias: Any) -> Any:
        function = getattr(functional, f"conv{self.rank}d")
        if self.padding_mode == "zeros":
            return function(input, weight, bias, self.stride, self.padding, self.dilation, self.groups)
        if isinstance(self.padding, str):
            pairs = functional.same_padding(self.kernel_size, self.dilation) if self.padding == "same" else [(0, 0)] * self.rank
        else:
            pairs = [(p, p) for p in self.padding]
        padded = pad(input, [v for pair in reversed(pairs) for v in pair], self.padding_mode)
        return function(padded, weight, bias, self.stride, 0, self.dilation, self.groups)


class _Conv(_ConvNd):
    """Convolutions that are not transposed."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
                 dilation: Any = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros", device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, 0, groups, bias, padding_mode,
                         device, dtype)

    def forward(self, input: Any) -> Any:
        """The convolved input."""
        return self._conv_forward(input, self.weight, self.bias)


class Conv1d(_Conv):
    """Convolution of (N, in_channels, L) or (in_channels, L).

    Example::

        >>> import torsh
        >>> torsh.nn.Conv1d(16, 33, 3, stride=2)(torsh.randn(20, 16, 50)).shape
        torsh.Size([20, 33, 24])
    """

    rank = 1


class Conv2d(_Conv):
    """Convolution of (N, in_channels, H, W) or (in_channels, H, W).

    padding: a number per dimension, "same" or "valid". padding_mode: "zeros", "reflect", "replicate" or "circular".

    Example::

        >>> import torsh
        >>> torsh.nn.Conv2d(3, 8, 3, padding=1)(torsh.randn(2, 3, 10, 12)).shape
        torsh.Size([2, 8, 10, 12])
    """

    rank = 2


class Conv3d(_Conv):
    """Convolution of (N, in_channels, D, H, W) or (in_channels, D, H, W)."""

    rank = 3


class _ConvTransposeNd(_ConvNd):
    """Transposed convolutions: the gradients of convolutions."""

    transposed = True

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
                 output_padding: Any = 0, groups: int = 1, bias: bool = True, dilation: Any = 1, padding_mode: str = "zeros",
                 device: Any = None, dtype: Any = None) -> None:
        if padding_mode != "zeros":
            raise InvalidArgumentError(f'Only "zeros" padding mode is supported for {type(self).__name__}')
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding, groups, bias,
                         padding_mode, device, dtype)

    def forward(self, input: Any, output_size: Any = None) -> Any:
        """The input convolved with the transposed operator; output_size chooses among the possible sizes."""
        extra = self._output_padding(input, output_size)
        function = getattr(functional, f"conv_transpose{self.rank}d")
        return function(input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation)

    def _output_padding(self, input: Any, output_size: Any) -> tuple[int, ...]:
        """What has to be added at the end to reach ``output_size``."""
        if output_size is None:
            return self.output_padding
        n, lead = self.rank, input.ndim - self.rank
        wanted = tuple(output_size)
        if len(wanted) == lead + n:
            wanted = wanted[lead:]
        if len(wanted) != n:
            raise InvalidArgumentError(f"ConvTranspose{n}D: for {input.ndim}D input, output_size must have {n} or {lead + n} elements "
                                       f"(got {len(wanted)})")
        least = [(input.shape[lead + d] - 1) * self.stride[d] - 2 * self.padding[d]
                 + self.dilation[d] * (self.kernel_size[d] - 1) + 1 for d in range(n)]
        most = [m + s - 1 for m, s in zip(least, self.stride, strict=True)]
        if any(not low <= w <= high for low, w, high in zip(least, wanted, most, strict=True)):
            raise InvalidArgumentError(f"requested an output size of {output_size}, but valid sizes range from {least} to {most} "
                                       f"(for an input of {input.size()[2:]})")
        return tuple(w - m for w, m in zip(wanted, least, strict=True))


class ConvTranspose1d(_ConvTransposeNd):
    """Transposed convolution of (N, in_channels, L) or (in_channels, L)."""

    rank = 1


class ConvTranspose2d(_ConvTransposeNd):
    """Transposed convolution of (N, in_channels, H, W) or (in_channels, H, W).

    Example::

        >>> import torsh
        >>> torsh.nn.ConvTranspose2d(4, 2, 3, stride=2)(torsh.randn(1, 4, 5, 5)).shape
        torsh.Size([1, 2, 11, 11])
    """

    rank = 2


class ConvTranspose3d(_ConvTransposeNd):
    """Transposed convolution of (N, in_channels, D, H, W) or (in_channels, D, H, W)."""

    rank = 3


class _LazyConv(LazyModuleMixin):
    """A convolution whose in_channels come from the first input."""

    weight: Any
    bias: Any

    def _make_lazy(self: Any, out_channels: int, bias: bool, device: Any, dtype: Any) -> None:
        self.weight = UninitializedParameter(device=device, dtype=dtype)
        self.out_channels = out_channels
        if bias:
            self.bias = UninitializedParameter(device=device, dtype=dtype)

    def reset_parameters(self: Any) -> None:
        """Draw new parameters, once there are any."""
        if not self.has_uninitialized_params() and self.in_channels != 0:
            super().reset_parameters()  # type: ignore[misc]

    def initialize_parameters(self: Any, input: Any, *args: Any, **kwargs: Any) -> None:
        """Take the number of channels of the first input."""
        if self.in_channels == 0:               # also after a state_dict was loaded before the first call
            self.in_channels = self._channels(input)
        if not self.has_uninitialized_params():
            return
        if self.in_channels % self.groups:
            raise InvalidArgumentError("in_channels must be divisible by groups")
        pair = (self.in_channels, self.out_channels // self.groups) if self.transposed else \
            (self.out_channels, self.in_channels // self.groups)
        self.weight.materialize((*pair, *self.kernel_size))
        if self.bias is not None:
            self.bias.materialize((self.out_channels,))
        self.reset_parameters()

    def _channels(self: Any, input: Any) -> int:
        n = self.rank
        if input.dim() not in (n + 1, n + 2):
            raise AutogradError(f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to {type(self).__name__}, but got input of "
                                f"size: {input.shape}")
        return input.shape[-n - 1]  # type: ignore[no-any-return]


class _LazyPlain(_LazyConv):
    def __init__(self, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
                 bias: bool = True, padding_mode: str = "zeros", device: Any = None, dtype: Any = None) -> None:
        super().__init__(0, 0, kernel_size, stride, padding, dilation, groups, False, padding_mode, device, dtype)
        self._make_lazy(out_channels, bias, device, dtype)


class _LazyTransposed(_LazyConv):
    def __init__(self, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
                 groups: int = 1, bias: bool = True, dilation: Any = 1, padding_mode: str = "zeros", device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__(0, 0, kernel_size, stride, padding, output_padding, groups, False, dilation, padding_mode, device, dtype)
        self._make_lazy(out_channels, bias, device, dtype)


class LazyConv1d(_LazyPlain, Conv1d):
    """A Conv1d whose in_channels come from the first input."""

    cls_to_become = Conv1d


class LazyConv2d(_LazyPlain, Conv2d):
    """A Conv2d whose in_channels come from the first input."""

    cls_to_become = Conv2d


class LazyConv3d(_LazyPlain, Conv3d):
    """A Conv3d whose in_channels come from the first input."""

    cls_to_become = Conv3d


class LazyConvTranspose1d(_LazyTransposed, ConvTranspose1d):
    """A ConvTranspose1d whose in_channels come from the first input."""

    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(_LazyTransposed, ConvTranspose2d):
    """A ConvTranspose2d whose in_channels come from the first input."""

    cls_to_become = ConvTranspose2d


class LazyConvTranspose3d(_LazyTransposed, ConvTranspose3d):
    """A ConvTranspose3d whose in_channels come from the first input."""

    cls_to_become = ConvTranspose3d
