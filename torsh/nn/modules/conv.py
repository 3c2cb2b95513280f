"""Convolution layers."""
from __future__ import annotations

import math
from typing import Any

from torsh.core.errors import InvalidArgumentError
from torsh.functional import convolution as functional
from torsh.functional.common import ntuple
from torsh.functional.padding import pad
from torsh.nn import init
from torsh.nn.modules.module import Module
from torsh.nn.parameter import Parameter
from torsh.tensor.creation import empty


class _ConvNd(Module):
    """What all convolution layers share: parameters, their initialisation and ``repr``."""

    rank = 0
    transposed = False

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
        self.weight = Parameter(empty(*shape, *self.kernel_size, device=device, dtype=dtype))
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

    def _convolve(self, input: Any) -> Any:
        function = getattr(functional, f"conv{self.rank}d")
        if self.padding_mode == "zeros":
            return function(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        if isinstance(self.padding, str):
            pairs = functional.same_padding(self.kernel_size, self.dilation) if self.padding == "same" else [(0, 0)] * self.rank
        else:
            pairs = [(p, p) for p in self.padding]
        padded = pad(input, [v for pair in reversed(pairs) for v in pair], self.padding_mode)
        return function(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def _conv(n: int) -> Any:
    class Conv(_ConvNd):
        rank = n

        def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
                     dilation: Any = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros", device: Any = None,
                     dtype: Any = None) -> None:
            super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, 0, groups, bias, padding_mode,
                             device, dtype)

        def forward(self, input: Any) -> Any:
            """The convolved input."""
            return self._convolve(input)
    Conv.__name__ = Conv.__qualname__ = f"Conv{n}d"
    Conv.__doc__ = f"{n}-dimensional convolution of (N, in_channels, ...) or (in_channels, ...)."
    return Conv


def _conv_transpose(n: int) -> Any:
    class ConvTranspose(_ConvNd):
        rank = n
        transposed = True

        def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
                     output_padding: Any = 0, groups: int = 1, bias: bool = True, dilation: Any = 1, padding_mode: str = "zeros",
                     device: Any = None, dtype: Any = None) -> None:
            if padding_mode != "zeros":
                raise InvalidArgumentError(f'Only "zeros" padding mode is supported for ConvTranspose{n}d')
            super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding, groups, bias,
                             padding_mode, device, dtype)

        def forward(self, input: Any, output_size: Any = None) -> Any:
            """The input convolved with the transposed operator; output_size chooses among the possible sizes."""
            extra = self.output_padding if output_size is None else self._output_padding(input, tuple(output_size))
            return getattr(functional, f"conv_transpose{n}d")(input, self.weight, self.bias, self.stride, self.padding, extra,
                                                              self.groups, self.dilation)

        def _output_padding(self, input: Any, wanted: tuple[int, ...]) -> tuple[int, ...]:
            wanted = wanted[-n:]
            extra = []
            for d in range(n):
                least = (input.shape[input.ndim - n + d] - 1) * self.stride[d] - 2 * self.padding[d] + \
                    self.dilation[d] * (self.kernel_size[d] - 1) + 1
                if not least <= wanted[d] <= least + self.stride[d] - 1:
                    raise InvalidArgumentError(f"requested an output size of {list(wanted)}, but valid sizes start from {least} in "
                                               f"dimension {d}")
                extra.append(wanted[d] - least)
            return tuple(extra)
    ConvTranspose.__name__ = ConvTranspose.__qualname__ = f"ConvTranspose{n}d"
    ConvTranspose.__doc__ = f"{n}-dimensional transposed convolution."
    return ConvTranspose


Conv1d, Conv2d, Conv3d = (_conv(n) for n in (1, 2, 3))
ConvTranspose1d, ConvTranspose2d, ConvTranspose3d = (_conv_transpose(n) for n in (1, 2, 3))
