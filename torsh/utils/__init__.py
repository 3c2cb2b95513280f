"""Utilities with PyTorch's names: :mod:`torsh.utils.data`."""
from torsh.utils import data

__all__ = ["data"]
