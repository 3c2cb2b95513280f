"""Apple's GPU as PyTorch's programs ask for it."""
from __future__ import annotations

from torsh.core.device import device


def is_available() -> bool:
    """Can tensors be put on Apple's GPU?"""
    return device.metal().is_available()


def is_built() -> bool:
    """Is there code for Apple's GPU in this build?"""
    return False
