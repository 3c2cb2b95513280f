"""Channels of different groups interleaved."""
from __future__ import annotations

from typing import Any

from torsh.nn import functional as F
from torsh.nn.modules.module import Module


class ChannelShuffle(Module):
    """The channels of (N, C, *) in groups, interleaved.

    Example::

        >>> import torsh
        >>> torsh.nn.ChannelShuffle(2)(torsh.arange(4.0).view(1, 4, 1, 1)).flatten().tolist()
        [0.0, 2.0, 1.0, 3.0]
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, input: Any) -> Any:
        """The rearranged input."""
        return F.channel_shuffle(input, self.groups)

    def extra_repr(self) -> str:
        """Groups."""
        return f"groups={self.groups}"
