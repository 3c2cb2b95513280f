"""The op table: importing this package registers every operation."""
from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Final

FAMILIES: Final = (
    "elementwise", "elementwise_math", "complex_parts", "activation", "special", "reduction", "shape", "creation", "random",
    "contraction", "softmax", "convolution", "normalization", "pooling", "indexing", "scan_sort", "padding", "loss",
    "loss_elementwise", "connectionist", "attention", "interpolation", "linear_algebra", "lu", "fourier")

for _family in FAMILIES:
    if find_spec(f"torsh.ops.{_family}") is not None:
        import_module(f"torsh.ops.{_family}")
