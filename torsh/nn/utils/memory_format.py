"""Memory formats of convolution weights."""
from __future__ import annotations

from typing import Any

from torsh.nn.modules.conv import Conv2d, Conv3d, ConvTranspose2d, ConvTranspose3d
from torsh.nn.modules.module import Module


def _convert(module: Module, kinds: tuple[type, ...], memory_format: Any) -> Module:
    for part in module.modules():
        if isinstance(part, kinds):
            part.weight.data = part.weight.detach().clone(memory_format=memory_format)  # type: ignore[attr-defined]
    return module


def convert_conv2d_weight_memory_format(module: Any, memory_format: Any) -> Any:
    """Store the weights of all 2-D convolutions below ``module`` in a memory format; returns the module."""
    return _convert(module, (Conv2d, ConvTranspose2d), memory_format)


def convert_conv3d_weight_memory_format(module: Any, memory_format: Any) -> Any:
    """Store the weights of all 3-D convolutions below ``module`` in a memory format; returns the module."""
    return _convert(module, (Conv3d, ConvTranspose3d), memory_format)


__all__ = ["convert_conv2d_weight_memory_format", "convert_conv3d_weight_memory_format"]
