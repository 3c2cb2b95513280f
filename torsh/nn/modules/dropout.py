"""Dropout layers: they change nothing outside of training. All keep the input's shape."""
from __future__ import annotations

from typing import Any

from torsh.core.errors import InvalidArgumentError
from torsh.nn import functional as F
from torsh.nn.modules.module import Module


class _DropoutNd(Module):
    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if p < 0 or p > 1:
            raise InvalidArgumentError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p, self.inplace = p, inplace

    def extra_repr(self) -> str:
        """Options."""
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_DropoutNd):
    """Elements zeroed with probability ``p``, the others scaled by ``1 / (1 - p)``.

    Example::

        >>> import torsh
        >>> torsh.nn.Dropout(0.2).eval()(torsh.ones(2))
        tensor([1., 1.])
    """

    def forward(self, input: Any) -> Any:
        """The input with elements zeroed."""
        return F.dropout(input, self.p, self.training, self.inplace)


class Dropout1d(_DropoutNd):
    """Whole channels of (N, C, L) or (C, L) zeroed."""

    def forward(self, input: Any) -> Any:
        """The input with channels zeroed."""
        return F.dropout1d(input, self.p, self.training, self.inplace)


class Dropout2d(_DropoutNd):
    """Whole channels of (N, C, H, W) zeroed."""

    def forward(self, input: Any) -> Any:
        """The input with channels zeroed."""
        return F.dropout2d(input, self.p, self.training, self.inplace)


class Dropout3d(_DropoutNd):
    """Whole channels of (N, C, D, H, W) zeroed."""

    def forward(self, input: Any) -> Any:
        """The input with channels zeroed."""
        return F.dropout3d(input, self.p, self.training, self.inplace)


class AlphaDropout(_DropoutNd):
    """Dropout that keeps mean and variance of selu activations (Klambauer et al., 2017)."""

    def forward(self, input: Any) -> Any:
        """The input with elements replaced."""
        return F.alpha_dropout(input, self.p, self.training)


class FeatureAlphaDropout(_DropoutNd):
    """AlphaDropout of whole channels."""

    def forward(self, input: Any) -> Any:
        """The input with channels replaced."""
        return F.feature_alpha_dropout(input, self.p, self.training)
