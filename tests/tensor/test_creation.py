"""Tensors made from Python data."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import torsh

DATA: list[Any] = [
    [0.1, 0.2], [1, 2.5], [True, False], [[0.1]], [[2**40 + 1]], [1e300], [0.1 + 2j], [np.float64(0.1)], [1.7, -2.9], [3, -1], [[]], [],
    0.1, 2, True, 1j, [1e-50], [70000.0], np.array([0.1]), np.float64(0.1), (0.1, 2), [[1.5, 2], [3, 4]], [300, -5], [-255], [-256],
    [255.5], [float("inf")], [float("nan")]]
DTYPES = [None, "float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8", "int8", "bool", "complex64", "complex128"]


def test_numbers_are_converted_once() -> None:
    """Python floats that become float64 are not rounded to float32 on the way, nor large integers to anything."""
    for dtype in (torsh.float64, torsh.complex128):
        assert torsh.tensor([[0.1, 1e300]], dtype=dtype).tolist() == [[0.1, 1e300]]
    assert torsh.tensor([2**53 + 1, 2], dtype=torsh.int64).tolist() == [2**53 + 1, 2]


def made(library: Any, data: Any, dtype: str | None) -> Any:
    """A description of a tensor, or of the error."""
    try:
        t = library.tensor(data, dtype=None if dtype is None else getattr(library, dtype))
    except (RuntimeError, TypeError, ValueError) as error:
        return [kind for kind in (RuntimeError, TypeError, ValueError) if isinstance(error, kind)], str(error)
    return str(t.dtype).split(".")[1], tuple(t.shape), str(t.tolist())


@pytest.mark.parametrize("dtype", DTYPES)
def test_parity_data(dtype: str | None) -> None:
    """PyTorch's values, dtypes and errors."""
    torch = pytest.importorskip("torch")
    for data in DATA:
        assert made(torsh, data, dtype) == made(torch, data, dtype), data
