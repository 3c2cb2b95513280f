"""Random programs of views and writes, against PyTorch."""
from __future__ import annotations

import numpy as np
import pytest
from tensor_programs import TensorProgram

import torsh

torch = pytest.importorskip("torch")


def test_views_and_writes_as_in_pytorch():
    for seed in range(1000, 1150):
        got, expected = (TensorProgram(lib, seed).run(5 + seed % 40) for lib in (torsh, torch))
        assert all(a.shape == b.shape and np.array_equal(a, b) for a, b in zip(got, expected, strict=True)), seed
