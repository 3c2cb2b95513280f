"""Pooling layers. Inputs are (N, C, *) or (C, *) with as many spatial dimensions as the name says."""
from __future__ import annotations

from typing import Any

from torsh.core.errors import InvalidArgumentError
from torsh.functional.common import ntuple
from torsh.nn import functional as F
from torsh.nn.modules.module import Module


class _MaxPoolNd(Module):
    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, return_indices: bool = False,
                 ceil_mode: bool = False) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation, self.return_indices, self.ceil_mode = padding, dilation, return_indices, ceil_mode

    def _options(self) -> tuple[Any, ...]:
        return self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices

    def extra_repr(self) -> str:
        """Options."""
        return (f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
                f"ceil_mode={self.ceil_mode}")


class MaxPool1d(_MaxPoolNd):
    """Maxima of windows of (N, C, L)."""

    def forward(self, input: Any) -> Any:
        """The maxima, with their positions if ``return_indices``."""
        return F.max_pool1d(input, *self._options())


class MaxPool2d(_MaxPoolNd):
    """Maxima of windows of (N, C, H, W).

    Example::

        >>> import torsh
        >>> torsh.nn.MaxPool2d(2)(torsh.randn(1, 3, 8, 8)).shape
        torsh.Size([1, 3, 4, 4])
    """

    def forward(self, input: Any) -> Any:
        """The maxima, with their positions if ``return_indices``."""
        return F.max_pool2d(input, *self._options())


class MaxPool3d(_MaxPoolNd):
    """Maxima of windows of (N, C, D, H, W)."""

    def forward(self, input: Any) -> Any:
        """The maxima, with their positions if ``return_indices``."""
        return F.max_pool3d(input, *self._options())


class _MaxUnpoolNd(Module):
    rank = 0

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__()
        self.kernel_size = ntuple(kernel_size, self.rank)
        self.stride = ntuple(kernel_size if stride is None else stride, self.rank)
        self.padding = ntuple(padding, self.rank)

    def forward(self, input: Any, indices: Any, output_size: Any = None) -> Any:
        """The values at their positions, zeros elsewhere."""
        return getattr(F, f"max_unpool{self.rank}d")(input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        """Options."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpoolNd):
    """Undoes MaxPool1d, given the positions of the maxima."""

    rank = 1


class MaxUnpool2d(_MaxUnpoolNd):
    """Undoes MaxPool2d, given the positions of the maxima."""

    rank = 2


class MaxUnpool3d(_MaxUnpoolNd):
    """Undoes MaxPool3d, given the positions of the maxima."""

    rank = 3


class _AvgPoolNd(Module):
    def extra_repr(self) -> str:
        """Options."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPoolNd):
    """Means of windows of (N, C, L)."""

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True) -> None:
        super().__init__()
        self.kernel_size = ntuple(kernel_size, 1)
        self.stride = ntuple(kernel_size if stride is None else stride, 1)
        self.padding = ntuple(padding, 1)
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, input: Any) -> Any:
        """The means."""
        return F.avg_pool1d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)


class _AvgPoolWithDivisor(_AvgPoolNd):
    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True, divisor_override: int | None = None) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, kernel_size if stride is None else stride, padding
        self.ceil_mode, self.count_include_pad, self.divisor_override = ceil_mode, count_include_pad, divisor_override

    def _options(self) -> tuple[Any, ...]:
        return self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad, self.divisor_override


class AvgPool2d(_AvgPoolWithDivisor):
    """Means of windows of (N, C, H, W).

    Example::

        >>> import torsh
        >>> torsh.nn.AvgPool2d(3, stride=2)(torsh.randn(1, 3, 9, 7)).shape
        torsh.Size([1, 3, 4, 3])
    """

    def forward(self, input: Any) -> Any:
        """The means."""
        return F.avg_pool2d(input, *self._options())


class AvgPool3d(_AvgPoolWithDivisor):
    """Means of windows of (N, C, D, H, W)."""

    def forward(self, input: Any) -> Any:
        """The means."""
        return F.avg_pool3d(input, *self._options())


class _FractionalMaxPoolNd(Module):
    rank = 0

    def __init__(self, kernel_size: Any, output_size: Any = None, output_ratio: Any = None, return_indices: bool = False,
                 _random_samples: Any = None) -> None:
        super().__init__()
        n = self.rank
        if output_size is None and output_ratio is None:
            raise InvalidArgumentError(f"FractionalMaxPool{n}d requires specifying either an output size, or a pooling ratio")
        if output_size is not None and output_ratio is not None:
            raise InvalidArgumentError("only one of output_size and output_ratio may be specified")
        for value in ntuple(kernel_size, n):
            if value <= 0:
                raise InvalidArgumentError(f"kernel_size must greater than zero, but got {kernel_size}")
        self.kernel_size, self.return_indices = ntuple(kernel_size, n), return_indices
        self.register_buffer("_random_samples", _random_samples)
        self.output_size = None if output_size is None else ntuple(output_size, n)
        self.output_ratio = None if output_ratio is None else ntuple(output_ratio, n)
        if self.output_ratio is not None and not all(0 < ratio < 1 for ratio in self.output_ratio):
            raise InvalidArgumentError(f"output_ratio must be between 0 and 1 (got {output_ratio})")

    def forward(self, input: Any) -> Any:
        """The maxima, with their positions if ``return_indices``."""
        return getattr(F, f"fractional_max_pool{self.rank}d")(input, self.kernel_size, self.output_size, self.output_ratio,
                                                              self.return_indices, _random_samples=self._random_samples)


class FractionalMaxPool2d(_FractionalMaxPoolNd):
    """Maxima of windows at random places (Graham, 2014) of (N, C, H, W)."""

    rank = 2


class FractionalMaxPool3d(_FractionalMaxPoolNd):
    """Maxima of windows at random places (Graham, 2014) of (N, C, D, H, W)."""

    rank = 3


class _LPPoolNd(Module):
    def __init__(self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> None:
        super().__init__()
        self.norm_type, self.kernel_size, self.stride, self.ceil_mode = norm_type, kernel_size, stride, ceil_mode

    def _options(self) -> tuple[Any, ...]:
        return float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode

    def extra_repr(self) -> str:
        """Options."""
        return f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, ceil_mode={self.ceil_mode}"


class LPPool1d(_LPPoolNd):
    """p-norms of windows of (N, C, L)."""

    def forward(self, input: Any) -> Any:
        """The norms."""
        return F.lp_pool1d(input, *self._options())


class LPPool2d(_LPPoolNd):
    """p-norms of windows of (N, C, H, W)."""

    def forward(self, input: Any) -> Any:
        """The norms."""
        return F.lp_pool2d(input, *self._options())


class LPPool3d(_LPPoolNd):
    """p-norms of windows of (N, C, D, H, W)."""

    def forward(self, input: Any) -> Any:
        """The norms."""
        return F.lp_pool3d(input, *self._options())


class _AdaptiveAvgPoolNd(Module):
    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def extra_repr(self) -> str:
        """Size."""
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptiveAvgPoolNd):
    """Means of (N, C, L) in windows that give ``output_size`` values."""

    def forward(self, input: Any) -> Any:
        """The means."""
        return F.adaptive_avg_pool1d(input, self.output_size)


class AdaptiveAvgPool2d(_AdaptiveAvgPoolNd):
    """Means of (N, C, H, W) in windows that give ``output_size`` (a number or a pair; None keeps a size).

    Example::

        >>> import torsh
        >>> torsh.nn.AdaptiveAvgPool2d((1, None))(torsh.randn(1, 3, 8, 8)).shape
        torsh.Size([1, 3, 1, 8])
    """

    def forward(self, input: Any) -> Any:
        """The means."""
        return F.adaptive_avg_pool2d(input, self.output_size)


class AdaptiveAvgPool3d(_AdaptiveAvgPoolNd):
    """Means of (N, C, D, H, W) in windows that give ``output_size``."""

    def forward(self, input: Any) -> Any:
        """The means."""
        return F.adaptive_avg_pool3d(input, self.output_size)


class _AdaptiveMaxPoolNd(Module):
    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__()
        self.output_size, self.return_indices = output_size, return_indices

    def extra_repr(self) -> str:
        """Size."""
        return f"output_size={self.output_size}"


class AdaptiveMaxPool1d(_AdaptiveMaxPoolNd):
    """Maxima of (N, C, L) in windows that give ``output_size`` values."""

    def forward(self, input: Any) -> Any:
        """The maxima, with their positions if ``return_indices``."""
        return F.adaptive_max_pool1d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool2d(_AdaptiveMaxPoolNd):
    """Maxima of (N, C, H, W) in windows that give ``output_size``."""

    def forward(self, input: Any) -> Any:
        """The maxima, with their positions if ``return_indices``."""
        return F.adaptive_max_pool2d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool3d(_AdaptiveMaxPoolNd):
    """Maxima of (N, C, D, H, W) in windows that give ``output_size``."""

    def forward(self, input: Any) -> Any:
        """The maxima, with their positions if ``return_indices``."""
        return F.adaptive_max_pool3d(input, self.output_size, self.return_indices)
