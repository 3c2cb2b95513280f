"""Comparing arrays with PyTorch's tensors. Import it after ``pytest.importorskip("torch")``."""
from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import torch

ROUGH = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 2e-5, "float64": 1e-10, "complex64": 1e-4, "complex128": 1e-9}


def to_numpy(t: Any) -> Any:
    """A NumPy array of a torch tensor, bfloat16 included."""
    t = torch.zeros_like(t) if torch._is_zerotensor(t) else t.detach().resolve_conj()
    return t.view(torch.uint16).numpy().view(ml_dtypes.bfloat16) if t.dtype is torch.bfloat16 else t.numpy()


def same(mine: Any, theirs: Any, message: str, least: float = 0) -> None:
    """Equal dtype, and values up to rounding."""
    theirs = to_numpy(theirs)
    assert mine.dtype == theirs.dtype, f"{message}: {mine.dtype} is not {theirs.dtype}"
    if mine.dtype.kind in "biu":
        np.testing.assert_array_equal(mine, theirs, message)
        return
    rough = max(ROUGH[str(mine.dtype)], least)
    kind = np.complex128 if mine.dtype.kind == "c" else np.float64
    np.testing.assert_allclose(mine.astype(kind), theirs.astype(kind), rtol=rough, atol=rough * 1e-2, err_msg=message)
