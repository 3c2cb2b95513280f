"""Settings of matrix products on CUDA devices."""
from __future__ import annotations

from typing import Final


class MatmulSettings:
    """Lower precisions that matrix products may use (PyTorch's defaults)."""

    allow_tf32: bool = False
    allow_fp16_reduced_precision_reduction: bool = True
    allow_bf16_reduced_precision_reduction: bool = True


matmul: Final = MatmulSettings()


def is_built() -> bool:
    """Is there code for CUDA in this build?"""
    return False
